//! The stages of a request's life as `benches/micro.rs` reaches them, for the modules are private to the
//! library. Every type here stands for one stage, made ready, and its method does what that stage does
//! for one request and nothing else. For the benches, and for tests that have to know all routes;
//! nothing here is an interface.

mod history;

use std::path::Path;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use crate::admit::{Demand, Settings, SlotGuard, TenantLimiter};
use crate::clock::{Clock, TrustedClock};
use crate::config::{Config, Durability, HeaderList, Secrets};
use crate::forward::headers;
use crate::identify::key_text::{KeyText, generate_id};
use crate::identify::{Bearing, Entry, Keys};
use crate::inspect::{self, Api, RefusableFields, RequestFacts, Scan};
use crate::journal::{Directory, Journal};
use crate::ledger::drain::Drain;
use crate::ledger::pacing::Pacing;
use crate::meter::{Hide, Kind, Meter, Setup};
use crate::price::PriceVersion;
use crate::record::{Closed, EventId, Opened, Row};
use crate::store::{NewKey, Store};
use crate::tenancy::{Limits, Secret};
use crate::usage::{End, Flags, Usage, UsageSource};

pub use self::history::History;

const MODEL: &str = "gpt-5.4";
/// When the keys of [`make_keys`] were made: the first of January 2026.
const MADE_AT_MS: i64 = 1_767_225_600_000;

/// The paths that are forwarded, as the one table of routes has them.
pub fn forwarded_paths() -> Vec<&'static str> {
    crate::gateway::forwarded_paths().collect()
}

/// Scans a request body that comes in `frames`; returns the estimate of its tokens.
pub fn inspect<'a>(frames: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut scan = Scan::json(Api::Chat, &REFUSABLE);
    for frame in frames {
        scan.push(frame).expect("the bench's body is valid");
    }
    scan.finish().expect("the bench's body is whole").estimated_input_tokens()
}

/// What the default upstream refuses.
static REFUSABLE: LazyLock<RefusableFields> = LazyLock::new(|| {
    let config = Config::from_toml("", Secrets::Optional).expect("the defaults are valid");
    RefusableFields::new(config.upstreams.iter().map(|upstream| &*upstream.refuse_fields))
});

/// A request body that was scanned.
pub struct Inspected {
    frames: [Bytes; 1],
    facts: RequestFacts,
}

impl Inspected {
    pub fn new(body: Bytes) -> Self {
        let mut scan = Scan::json(Api::Chat, &REFUSABLE);
        scan.push(&body).expect("the bench's body is valid");
        Self { facts: scan.finish().expect("the bench's body is whole"), frames: [body] }
    }

    /// The body with the model under another name and the usage asked for; how many pieces it is in.
    pub fn spliced(&self) -> usize {
        let splices =
            self.facts.splices(Some("gpt-5.4-2026-03-05"), inspect::UsageAsk::Usage, None);
        inspect::apply(&self.frames, &splices).len()
    }
}

/// A table of keys, and a request with one of them.
pub struct Identify {
    keys: Keys<usize>,
    headers: HeaderMap,
}

impl Identify {
    pub fn new(keys: usize) -> Self {
        let texts: Vec<_> =
            (0..keys).map(|_| KeyText::generate().expect("there is randomness")).collect();
        let value = format!("Bearer {}", texts[keys / 2].reveal());
        let value = HeaderValue::from_str(&value).expect("a key is ASCII");
        let entry = |identity| Entry { identity, is_revoked: false, expires_at_ms: None };
        let entries = texts.iter().enumerate().map(|(at, text)| (text.digest(), entry(at)));
        Self { keys: Keys::new(entries), headers: HeaderMap::from_iter([(AUTHORIZATION, value)]) }
    }

    /// Parse, digest, look-up; returns whose key it is.
    pub fn once(&self) -> usize {
        self.keys
            .entry(&self.headers, Bearing::Bearer, || 0)
            .expect("the key is in the table")
            .identity
    }
}

/// Makes a store in `dir` with so many keys of so many tenants, in one transaction. Returns id and text of
/// three of them.
pub fn make_keys(dir: &Path, keys: u64, tenants: u64) -> Vec<(String, String)> {
    let mut store = Store::open(dir).expect("the bench's directory is writable");
    let mut shown = Vec::new();
    let limits = Limits { rpm: Some(60), monthly_tokens: Some(1 << 40), ..Limits::default() };
    let new: Vec<_> = (0..keys)
        .map(|number| {
            let text = KeyText::generate().expect("there is randomness");
            let id = generate_id().expect("there is randomness");
            if shown.len() < 3 {
                shown.push((id.clone(), text.reveal().to_owned()));
            }
            let last4 = text.last4().to_owned();
            NewKey {
                id: id.into(),
                tenant: format!("tenant-{}", number % tenants).into(),
                name: "bench".to_owned(),
                limits: limits.clone(),
                clamp: false,
                cut: false,
                models: None,
                expires_at_ms: None,
                secret: Secret { digest: text.digest(), last4, expires_at_ms: None },
            }
        })
        .collect();
    store.create_keys(&new, MADE_AT_MS).expect("the disk has room");
    shown
}

/// One tenant with one key.
pub struct Admission {
    slot: SlotGuard,
    clock: Clock,
}

impl Admission {
    /// `is_limited`: key and tenant have every limit, each too high to refuse; else they have none.
    pub fn new(is_limited: bool) -> Self {
        let clock = Clock::system();
        let settings = Settings {
            rpm_burst: None,
            time_zone: jiff::tz::TimeZone::UTC,
            alert_percent: [80, 100].into(),
            alerting: Arc::default(),
            trusted_clock: Arc::new(TrustedClock::unconfirmed()),
        };
        let live = TenantLimiter::new("acme".into(), settings, clock.now());
        let limits = match is_limited {
            false => Limits::default(),
            true => Limits {
                rpm: Some(u32::MAX),
                tpm: Some(1 << 50),
                concurrency: Some(1_000),
                daily_tokens: Some(1 << 50),
                monthly_tokens: Some(1 << 50),
                daily_requests: Some(1 << 50),
                monthly_requests: Some(1 << 50),
                daily_nano_usd: Some(1 << 50),
                monthly_nano_usd: Some(1 << 50),
            },
        };
        live.set_tenant_limits(&limits, clock.now());
        let slot = SlotGuard::new(&live, &"key".into(), &Arc::new(limits));
        Self { slot, clock }
    }

    /// Admits a request and settles it, reading the clock for both.
    pub fn once(&self) {
        let ask = Demand {
            prompt_tokens: 70,
            reserve_tokens: 1_094,
            reserve_nano_usd: 3_000,
            clamp: None,
        };
        let permit = self.slot.admit(ask, self.clock.now());
        permit.expect("the limits are out of reach").settle(90, 300, self.clock.now());
    }
}

/// A response on its way.
pub struct Metering {
    meter: Meter,
    out: Vec<Bytes>,
}

impl Metering {
    /// A stream; `hide_usage`: usage is looked for and taken out.
    pub fn stream(hide_usage: bool) -> Self {
        let hide = if hide_usage { Hide::Last } else { Hide::Nothing };
        Self::new(Setup {
            kind: Kind::Sse,
            coding: None,
            hide,
            answers: 1,
            prompts: 1,
            has_output: true,
            hears: false,
            model: None,
            wants_ids: false,
        })
    }

    /// A JSON body.
    pub fn json() -> Self {
        Self::new(Setup {
            kind: Kind::Json,
            coding: None,
            hide: Hide::Nothing,
            answers: 1,
            prompts: 1,
            has_output: true,
            hears: false,
            model: None,
            wants_ids: false,
        })
    }

    fn new(setup: Setup<'_>) -> Self {
        Self { meter: Meter::new(setup), out: Vec::new() }
    }

    /// Passes a frame; returns how many pieces leave.
    pub fn push(&mut self, frame: &Bytes) -> usize {
        self.out.clear();
        self.meter.push(frame.clone(), &mut self.out);
        self.out.len()
    }

    /// Tokens that the response has stated.
    pub fn total(&mut self) -> u64 {
        self.meter.take_reading().usage.map_or(0, |usage| usage.total)
    }
}

/// What both halves of a row look like for an ordinary request.
fn row(event_id: EventId) -> Row {
    let opened = Opened {
        event_id,
        started_at_ms: 1_780_470_861_000,
        tenant: "acme".into(),
        key_id: "key_7Hq2mZkP0aXcVb3N".into(),
        model: MODEL.into(),
        upstream: "yisu".into(),
        endpoint: "/v1/chat/completions".into(),
        estimated_input_tokens: 70,
        reserved_tokens: 1_094,
        streamed: false,
        price_version: PriceVersion::from_number(0x0123_4567_89ab),
    };
    let raw = r#"{"prompt_tokens":57,"completion_tokens":20,"total_tokens":77}"#;
    let closed = Closed {
        event_id,
        end: End::Complete,
        usage_source: UsageSource::Reported,
        usage: Usage { input: 57, output: 20, total: 77, ..Usage::default() },
        price_version: None,
        cost_nano_usd: Some(442_500),
        output_images: 0,
        raw_usage: Some(raw.into()),
        model_served: Some(MODEL.into()),
        status: 200,
        upstream_status: Some(200),
        ttfb_ms: Some(12),
        duration_ms: 340,
        attempts: 1,
        flags: Flags::default(),
        upstream_request_id: Some("req_0123456789abcdef".into()),
        upstream: None,
        upstream_key: "".into(),
        failed_attempts: None,
        owners: Box::default(),
    };
    Row { opened, closed }
}

/// A journal in a directory of its own.
pub struct Journaling {
    journal: Journal,
    row: Row,
}

impl Journaling {
    pub fn new(dir: &Path) -> Self {
        let directory = Directory::open(dir, 64 << 20, Durability::Crash)
            .expect("the bench's directory is writable");
        Self { journal: Journal::new(Arc::new(directory)), row: row(EventId([7; 16])) }
    }

    /// Appends both records of a request; returns their bytes.
    pub fn once(&mut self) -> u64 {
        drop(self.journal.open(&self.row.opened));
        let opened = self.journal.commit().expect("the disk has room");
        drop(self.journal.close(&self.row.closed));
        let closed = self.journal.commit().expect("the disk has room");
        opened.bytes + closed.bytes
    }
}

/// A store in a directory of its own.
pub struct Storing {
    store: Store,
    next: u128,
}

impl Storing {
    pub fn new(dir: &Path) -> Self {
        Self { store: Store::open(dir).expect("the bench's directory is writable"), next: 0 }
    }

    /// Rows that are not in the store, with ids in ascending order as UUIDv7 are.
    pub fn rows(&mut self, count: usize) -> Rows {
        let ids = self.next..self.next + count as u128;
        self.next = ids.end;
        Rows(ids.map(|id| row(EventId(id.to_be_bytes()))).collect())
    }

    /// Appends one batch, as the drain does; returns how many rows were new.
    pub fn append(&mut self, rows: &Rows) -> usize {
        self.store.append(&rows.0, &[]).expect("the disk has room")
    }
}

/// A batch for [`Storing::append`].
pub struct Rows(Vec<Row>);

/// A journal that waits for its drain.
pub struct Draining {
    directory: Arc<Directory>,
    drain: Drain,
}

impl Draining {
    /// Writes `requests` whole requests as two workers would. `rests`: the drain works as beside workers.
    pub fn new(dir: &Path, requests: u64, rests: bool) -> Self {
        let directory = Directory::open(dir, 64 << 20, Durability::Crash)
            .expect("the bench's directory is writable");
        let directory = Arc::new(directory);
        let mut journals = [Journal::new(directory.clone()), Journal::new(directory.clone())];
        for number in 0..requests {
            let Row { opened, closed } = row(EventId(u128::from(number).to_be_bytes()));
            let journal = &mut journals[usize::from(!number.is_multiple_of(2))];
            let _ = (journal.open(&opened), journal.close(&closed));
            journal.commit().expect("the disk has room");
        }
        let store = Store::open(dir).expect("the bench's directory is writable");
        let mut drain = Drain::new(directory.clone(), store).expect("a new store");
        drain.pacing = if rests { Pacing::on() } else { Pacing::off() };
        Self { directory, drain }
    }

    /// Carries all of them into the store; returns how many those were.
    pub fn once(&mut self) -> u64 {
        let rows = self.drain.pass().expect("the disk has room").rows;
        assert!(self.directory.segments().is_empty(), "every segment was drained and removed");
        rows
    }
}

/// Rewrites the head of a request for the upstream, and that of its response for the client.
pub fn rewrite(request: &mut HeaderMap, response: &mut HeaderMap) {
    let host = HeaderValue::from_static("api.example.com");
    let authorization = HeaderValue::from_static("Bearer sk-upstream");
    let also = HeaderList::default();
    headers::toward_upstream(request, &host, Some(&authorization), None, &also);
    headers::toward_client(response, false, false, &also);
}
