//! Rows, keys and stores for tests, of whichever engine.

use crate::price::PriceVersion;
use crate::record::{Closed, EventId, Opened, Row};
use crate::tenancy::{Limits, Secret};
use crate::usage::{End, Flags, Usage, UsageSource};

use super::{NewKey, Store};

pub(crate) use super::sqlite::samples::{damage, move_away, while_it_waits};

pub(crate) const HOUR_MS: i64 = 3_600_000;
pub(crate) const MINUTE_MS: i64 = 60_000;

/// The few things of a row that matter to a test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample<'a> {
    pub id: u64,
    pub at_ms: i64,
    pub tenant: &'a str,
    pub key: &'a str,
    pub model: &'a str,
    pub end: End,
    pub source: UsageSource,
    pub usage: Usage,
    pub price: Option<PriceVersion>,
    pub cost: Option<u64>,
}

impl Default for Sample<'_> {
    fn default() -> Self {
        Self {
            id: 1,
            at_ms: 100 * HOUR_MS,
            tenant: "acme",
            key: "key_a",
            model: "gpt-5.4",
            end: End::Complete,
            source: UsageSource::Reported,
            usage: Usage { input: 7, output: 3, total: 10, ..Usage::default() },
            price: None,
            cost: None,
        }
    }
}

impl Sample<'_> {
    pub(crate) fn row(self) -> Row {
        let mut event_id = EventId([0; 16]);
        event_id.0[8..].copy_from_slice(&self.id.to_be_bytes());
        let opened = Opened {
            event_id,
            started_at_ms: self.at_ms,
            tenant: self.tenant.into(),
            key_id: self.key.into(),
            model: self.model.into(),
            upstream: "yisu".into(),
            endpoint: "/v1/chat/completions".into(),
            estimated_input_tokens: 5,
            reserved_tokens: 1029,
            streamed: true,
            price_version: self.price,
        };
        let closed = Closed {
            event_id,
            end: self.end,
            usage_source: self.source,
            usage: self.usage,
            price_version: None,
            cost_nano_usd: self.cost,
            output_images: 0,
            raw_usage: Some(r#"{"prompt_tokens":7, "x":1.50}"#.into()),
            model_served: Some("gpt-5.4-2026".into()),
            status: 200,
            upstream_status: Some(200),
            ttfb_ms: Some(12),
            duration_ms: 345,
            attempts: 1,
            flags: Flags::default(),
            upstream_request_id: Some("req_1".into()),
            upstream: None,
            upstream_key: "".into(),
            failed_attempts: None,
            owners: Box::default(),
        };
        Row { opened, closed }
    }

    /// The same, with an id that a clock made which said `unix_ms`.
    pub(crate) fn row_made_at(self, unix_ms: u64) -> Row {
        let mut row = self.row();
        let random = row.opened.event_id.0[6..].try_into().expect("ten of sixteen bytes");
        let id = uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid();
        row.opened.event_id = EventId(id.into_bytes());
        row.closed.event_id = row.opened.event_id;
        row
    }
}

/// A key with a secret that is told by its number.
pub(crate) fn new_key(number: u64, tenant: &str) -> NewKey {
    let mut digest = [0; 32];
    // Spread as digests are: the first bytes, and the last ones.
    digest[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    digest[24..].copy_from_slice(&number.to_le_bytes());
    NewKey {
        id: format!("key_{number}").into(),
        tenant: tenant.into(),
        name: String::new(),
        limits: Limits::default(),
        clamp: false,
        cut: false,
        models: None,
        expires_at_ms: None,
        secret: Secret { digest, last4: "abcd".into(), expires_at_ms: None },
    }
}

/// A store of its own; the directory goes when it is dropped.
pub(crate) fn store_with(samples: &[Sample<'_>]) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut store = Store::open(dir.path()).expect("a new store opens");
    let rows: Vec<_> = samples.iter().map(|sample| sample.row()).collect();
    assert_eq!(store.append(&rows, &[]).expect("rows append"), rows.len());
    (dir, store)
}

/// A request a minute over ten hours, by two keys of two tenants in turn.
pub(crate) fn minutes() -> Vec<Sample<'static>> {
    let sample = |minute: u64| Sample {
        id: minute,
        at_ms: minute as i64 * MINUTE_MS,
        tenant: ["acme", "beta"][minute as usize % 2],
        key: ["key_a", "key_b"][minute as usize % 2],
        model: ["m", "n", "o"][minute as usize % 3],
        cost: (!minute.is_multiple_of(4)).then_some(minute * 1_000),
        ..Sample::default()
    };
    (0..600).map(sample).collect()
}
