//! How a request ends that was not sent: whose client leaves, or whose record can't be written; and below, how
//! one is booked that was.

mod booked;

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::admin::Readiness;
use crate::admit::{Demand, Settings, TenantLimiter};
use crate::clock::{Clock, ManualClock, TrustedClock};
use crate::config::{Config, Durability, Secrets};
use crate::forward::system_resolver;
use crate::gateway::cors::Cors;
use crate::gateway::request_body::{Bounds, Deadlines, InFlightLimits};
use crate::gateway::response_owners::Owners;
use crate::gateway::worker::Shared;
use crate::identify::FailedKeys;
use crate::inspect::NOTHING;
use crate::journal::{Directory, Journal};
use crate::ledger::drain::Drain;
use crate::registry::Registry;
use crate::route::{Lots, RetryBudget, Routes, Tried};
use crate::store::Store;
use crate::store::{Filter, Request};
use crate::telemetry::log::tests::logged;
use crate::telemetry::metrics::Metrics;

const AT_MS: i64 = 1_780_470_861_000;

/// A worker whose records nobody writes unless the test does, and a tenant.
struct World {
    worker: Rc<Worker>,
    client: Rc<Client>,
    routes: Arc<Routes>,
    directory: Arc<Directory>,
    live: Arc<TenantLimiter>,
    hand: Arc<ManualClock>,
}

impl World {
    fn new(dir: &Path) -> Self {
        // However often a request ends badly here, it is a test of what is booked.
        let text = "[[upstream]]\nname = \"up\"\nbase_url = \"http://127.0.0.1:9\"\n\
                    models = [\"gpt-5.4\", \"gpt-5.4-image-2\"]\nbreaker_failures = 0";
        let config = Config::from_toml(text, Secrets::Optional).expect("it is valid");
        let routes = Arc::new(Routes::new(&config));
        let (clock, hand) = Clock::manual(AT_MS);
        let store = Store::open(dir).expect("a new store");
        let trusted_clock = Arc::new(TrustedClock::new(AT_MS, clock.now()));
        let time = (clock.clone(), trusted_clock.clone());
        let registry = Registry::load(&config, &store, time, Arc::default());
        let room = InFlightLimits { max_bytes: 1, max_tenant_bytes: 1, inflight: Arc::default() };
        let deadlines =
            Deadlines { idle: Duration::ZERO, whole: Duration::ZERO, bytes_per_second: 0 };
        let shared = Shared {
            registry: Arc::new(registry.expect("a whole store")),
            routes: routes.clone(),
            failed_keys: Arc::new(FailedKeys::new(1)),
            refused: Metrics::new(1, Vec::new(), clock.clone()).refused,
            owners: Arc::new(Owners::new(1_000)),
            readiness: Arc::<Readiness>::default(),
            clock: clock.clone(),
            bounds: Bounds {
                max_body_bytes: 1,
                deadlines,
                room,
                refusable: Arc::new(NOTHING.clone()),
            },
            cors: Arc::new(Cors::new(&[])),
            upstreams: Vec::new(),
            log_throttles: Vec::new(),
            resolve: system_resolver(),
            retry: Arc::new(config.retry.clone()),
            retry_budget: Arc::new(RetryBudget::new(0)),
            lots: Arc::default(),
        };
        let directory = Directory::open(dir, 1 << 20, Durability::Crash).expect("a directory");
        let directory = Arc::new(directory);
        let shard = Metrics::new(1, Vec::new(), clock.clone()).shards[0].clone();
        let worker = Worker::new(&shared, Journal::new(directory.clone()), shard);
        let time_zone = jiff::tz::TimeZone::UTC;
        let settings = Settings {
            rpm_burst: None,
            time_zone,
            alert_percent: Arc::from([]),
            alerting: Arc::default(),
            trusted_clock,
        };
        Self {
            worker: Rc::new(worker.expect("it has no upstreams")),
            client: Rc::new(Client::new(Ipv4Addr::LOCALHOST.into(), None)),
            routes,
            directory,
            live: TenantLimiter::new("acme".into(), settings, clock.now()),
            hand,
        }
    }

    /// A request that is admitted and taken down.
    fn settlement(&self, n: u8) -> Box<Settlement> {
        let now = self.worker.clock.now();
        let ask = Demand { prompt_tokens: 5, reserve_tokens: 9, reserve_nano_usd: 0, clamp: None };
        let permit = self.live.admit(self.live.key_slot("key_a"), ask, now).expect("no limits");
        let opened = Opened {
            event_id: EventId([n; 16]),
            started_at_ms: AT_MS,
            tenant: "acme".into(),
            key_id: "key_a".into(),
            model: "gpt-5.4".into(),
            upstream: "up".into(),
            endpoint: "/v1/chat/completions".into(),
            estimated_input_tokens: 5,
            reserved_tokens: 9,
            streamed: false,
            price_version: None,
        };
        let route = self.routes.find("gpt-5.4", None).expect("a default model");
        let held = InFlightBytes::nothing();
        let attempt = route.choose(&mut Tried::default(), 9, &Lots::new(1), now.mono_ns);
        let attempt = attempt.expect("it has been told nothing");
        Settlement::new(&self.worker, &self.client, permit, attempt, &opened, now, route, held)
    }

    /// Requests in flight and what is reserved for them, and the requests of today.
    fn counted(&self) -> (u64, u64, u64) {
        let today = self.live.tenant_balances(self.worker.clock.now()).daily;
        let totals = self.live.totals();
        (totals.in_flight, totals.reserved_tokens(), today.requests)
    }

    /// The ends in the ledger once the worker has ended.
    fn ends(self, dir: &Path) -> Vec<(String, u32)> {
        self.rows(dir).into_iter().map(|row| (row.end, row.attempts)).collect()
    }

    /// The rows in the ledger once the worker has ended, newest first.
    fn rows(self, dir: &Path) -> Vec<Request> {
        let Self { worker, directory, .. } = self;
        drop(worker);
        let mut drain = Drain::new(directory, Store::open(dir).expect("a store")).expect("opens");
        drain.replay().expect("the store takes rows");
        let store = Store::open(dir).expect("a store");
        store.requests(&Filter::default(), None, 100).expect("rows")
    }
}

#[test]
fn a_client_that_leaves_before_its_request_is_written_down_never_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let settlement = world.settlement(1);
    assert_eq!(world.counted(), (1, 9, 1));
    drop(settlement);
    assert_eq!(world.counted(), (0, 0, 0));
    assert_eq!(world.ends(dir.path()), []);
}

#[tokio::test]
async fn a_client_that_leaves_after_that_and_before_it_is_sent_is_a_row() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let told = world.settlement(1);
    let mut not_told = world.settlement(2);
    world.worker.commit();
    not_told.opened().await.expect("it is written");
    drop((told, not_told));
    assert_eq!(world.counted(), (0, 0, 2));
    assert_eq!(world.ends(dir.path()), [("not_sent".to_owned(), 0), ("not_sent".to_owned(), 0)]);
}

#[tokio::test]
async fn what_can_not_be_written_down_costs_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    world.directory.pretend_full(true);
    let left = world.settlement(1);
    let mut stayed = world.settlement(2);
    world.worker.commit();
    assert!(stayed.opened().await.is_err());
    drop((left, stayed));
    world.directory.pretend_full(false);
    assert_eq!(world.counted(), (0, 0, 0));
    assert_eq!(world.ends(dir.path()), []);
}

/// A disk that is nearly full takes some records and not others: the log would fill what is left of it.
#[test]
fn a_journal_that_fails_now_and_then_is_told_once_a_minute_and_so_is_its_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let source = Arc::new(std::io::ErrorKind::StorageFull.into());
    let full = AppendError::NotWritten { path: "journal".into(), source };
    for (after_ms, fails, told) in [
        (0, true, Some("left_out=0")),
        (1_000, true, None),
        (1_000, false, Some("can be written again")),
        (1_000, true, None),
        (1_000, false, None),
        (55_999, true, None),
        (1, true, Some("left_out=3")),
        (1_000, false, Some("can be written again")),
    ] {
        world.hand.advance_ms(after_ms);
        let said = logged(|| match fails {
            true => world.worker.journal_failed(&full),
            false => world.worker.sweep(),
        });
        assert_eq!(said.lines().count(), usize::from(told.is_some()), "{said}");
        assert!(told.is_none_or(|told| said.contains(told)), "{told:?}: {said}");
    }
}
