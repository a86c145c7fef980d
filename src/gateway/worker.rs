//! What one worker thread owns: its journal, its upstream connections, its metrics, its ids. Nothing of
//! it is shared with another worker but what [`Shared`] names.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::admin::Readiness;
use crate::clock::Clock;
use crate::config::Retry;
use crate::forward::{LogThrottles, Resolve, UnusableUpstream, Upstream, UsageOptions};
use crate::gateway::cors::Cors;
use crate::gateway::endpoints::ENDPOINTS;
use crate::gateway::event_ids::EventIds;
use crate::gateway::request_body::Bounds;
use crate::gateway::response_owners::Owners;
use crate::identify::FailedKeys;
use crate::journal::{AppendError, Committed, Journal, Receipt};
use crate::record::{Closed, Opened};
use crate::registry::Registry;
use crate::route::{Lots, RetryBudget, Routes};
use crate::telemetry::log_throttle::LogThrottle;
use crate::telemetry::metrics::{Level, LevelGuard, Refused, Shard};

/// So much is written to the journal at once, and does not wait for more.
const MAX_STAGED_BYTES: usize = 64 * 1024;
/// Records that are written at once after one that had waited for company in vain: waiting costs two more
/// turns of its connection's task.
const ALONE: u32 = 16;

/// Far apart, so that no two workers draw alike (the golden ratio's bits).
const LOTS_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// What all workers share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) registry: Arc<Registry>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) failed_keys: Arc<FailedKeys>,
    pub(crate) refused: Arc<Refused>,
    pub(crate) owners: Arc<Owners>,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) clock: Clock,
    pub(crate) bounds: Bounds,
    pub(crate) cors: Arc<Cors>,
    pub(crate) upstreams: Vec<(Arc<crate::config::Upstream>, Arc<UsageOptions>)>,
    /// What the log says of each of them.
    pub(crate) log_throttles: Vec<Arc<LogThrottles>>,
    pub(crate) resolve: Resolve,
    pub(crate) retry: Arc<Retry>,
    pub(crate) retry_budget: Arc<RetryBudget>,
    /// What the next worker's lots begin with.
    pub(crate) lots: Arc<AtomicU64>,
}

pub(crate) struct Worker {
    pub(crate) clock: Clock,
    pub(crate) shard: Arc<Shard>,
    pub(crate) event_ids: EventIds,
    pub(crate) cors: Arc<Cors>,
    pub(crate) bounds: Bounds,
    pub(crate) failed_keys: Arc<FailedKeys>,
    pub(crate) refused: Arc<Refused>,
    pub(crate) owners: Arc<Owners>,
    /// In the configuration's order.
    pub(crate) upstreams: Vec<Upstream>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) retry: Arc<Retry>,
    pub(crate) retry_budget: Arc<RetryBudget>,
    /// By which candidates are drawn.
    pub(crate) lots: Lots,
    registry: Arc<Registry>,
    readiness: Arc<Readiness>,
    journal: RefCell<Journal>,
    /// Something waits to be written to the journal.
    staged: Notify,
    /// So many records more are written at once.
    alone: Cell<u32>,
    is_ledger_failed: Cell<bool>,
    /// A disk that is nearly full can refuse every other record: the log is not to fill what is left of it.
    journal_fails: LogThrottle,
    /// The log has it, and not its end.
    is_failure_told: Cell<bool>,
    /// While a sync of the journal does not return.
    stalled: RefCell<Option<LevelGuard>>,
    /// The shutdown deadline has come: what still runs ends now.
    cut: Cell<bool>,
    drain_ended: Notify,
    endpoint_names: [Arc<str>; ENDPOINTS.len()],
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

impl Worker {
    pub(crate) fn new(
        shared: &Shared,
        journal: Journal,
        shard: Arc<Shard>,
    ) -> Result<Self, UnusableUpstream> {
        let upstreams = shared.upstreams.iter().zip(&shared.log_throttles);
        let upstreams = upstreams.map(|((config, usage_options), log_throttles)| {
            let (resolve, log_throttles) = (shared.resolve.clone(), log_throttles.clone());
            Upstream::new(
                config.clone(),
                usage_options.clone(),
                log_throttles,
                resolve,
                shard.clone(),
            )
        });
        Ok(Self {
            clock: shared.clock.clone(),
            upstreams: upstreams.collect::<Result<_, _>>()?,
            shard,
            event_ids: EventIds::new(),
            cors: shared.cors.clone(),
            bounds: shared.bounds.clone(),
            failed_keys: shared.failed_keys.clone(),
            refused: shared.refused.clone(),
            owners: shared.owners.clone(),
            routes: shared.routes.clone(),
            retry: shared.retry.clone(),
            retry_budget: shared.retry_budget.clone(),
            lots: Lots::new(shared.lots.fetch_add(LOTS_STEP, Ordering::Relaxed)),
            registry: shared.registry.clone(),
            readiness: shared.readiness.clone(),
            journal: RefCell::new(journal),
            staged: Notify::new(),
            alone: Cell::new(0),
            is_ledger_failed: Cell::new(false),
            journal_fails: LogThrottle::new(shared.clock.clone()),
            is_failure_told: Cell::new(false),
            stalled: RefCell::new(None),
            cut: Cell::new(false),
            drain_ended: Notify::new(),
            endpoint_names: ENDPOINTS.each_ref().map(|endpoint| endpoint.path.into()),
        })
    }

    /// The keys, as they are now.
    pub(crate) fn keys(&self) -> &Registry {
        &self.registry
    }

    /// Takes down that a request is about to go upstream, which it may once the receipt is ready.
    pub(crate) fn open(&self, opened: &Opened) -> Receipt {
        self.take_down(|journal| journal.open(opened))
    }

    /// Takes down how a request ended; its client may see the end once the receipt is ready.
    pub(crate) fn close(&self, closed: &Closed) -> Receipt {
        self.take_down(|journal| journal.close(closed))
    }

    /// Takes back [`Worker::open`]; false if that has been written, or could not be.
    pub(crate) fn withdraw(&self, opening: Receipt) -> bool {
        self.journal.borrow_mut().withdraw(opening)
    }

    fn take_down(&self, record: impl FnOnce(&mut Journal) -> Receipt) -> Receipt {
        let mut journal = self.journal.borrow_mut();
        let before = journal.staged_bytes();
        let mut receipt = record(&mut journal);
        let after = journal.staged_bytes();
        drop(journal);
        if let Some(Err(error)) = receipt.result() {
            self.journal_failed(&error);
        }
        let alone = self.alone.get();
        self.alone.set(alone.saturating_sub(1));
        if alone > 0 || after >= MAX_STAGED_BYTES {
            self.commit();
        } else if before == 0 {
            self.staged.notify_one();
        }
        receipt
    }

    /// Writes what has been taken down, for as long as it is polled. A task that was woken runs after
    /// those that were woken before it, so each write is for all that they took down.
    pub(crate) async fn commits(&self) {
        loop {
            self.staged.notified().await;
            // A bug of ours must not end the task for which all others wait.
            match catch_unwind(AssertUnwindSafe(|| self.commit())) {
                Ok(1) => self.alone.set(ALONE),
                Ok(_) => {}
                Err(_) => tracing::error!("a write to the journal failed in a way that is a bug"),
            }
        }
    }

    /// Returns how many records were written.
    pub(crate) fn commit(&self) -> u64 {
        let begun_ns = self.clock.mono_ns();
        let committed = self.journal.borrow_mut().commit();
        match committed {
            Ok(Committed { records: 0, .. }) => 0,
            Ok(Committed { records, bytes }) => {
                let ns = self.clock.mono_ns().saturating_sub(begun_ns);
                self.shard.journal_appended(records, bytes, ns);
                if self.journal.borrow().is_synced() {
                    self.journal_works();
                }
                records
            }
            Err(error) => {
                self.journal_failed(&error);
                0
            }
        }
    }

    /// Told of every write that failed, of every record that was not taken, and of every end that was
    /// written and not synced.
    pub(crate) fn journal_failed(&self, error: &AppendError) {
        self.shard.journal_failed();
        self.journal_stops(error);
    }

    fn journal_stops(&self, error: &AppendError) {
        if !self.is_ledger_failed.replace(true) {
            self.readiness.ledger(false);
        }
        if let Some(left_out) = self.journal_fails.allow() {
            self.is_failure_told.set(true);
            tracing::error!(%error, left_out, "the journal fails; new requests are refused");
        }
    }

    fn journal_works(&self) {
        if self.is_ledger_failed.take() {
            self.readiness.ledger(true);
            if self.is_failure_told.take() {
                tracing::info!("the journal can be written again");
            }
        }
    }

    /// What has to happen now and then: old connections are closed, late records written, and whether the
    /// journal works, or works again, is found out, also where no request comes to try it.
    pub(crate) fn sweep(&self) {
        self.upstreams.iter().for_each(Upstream::sweep);
        // Mostly nothing is left to write.
        self.commit();
        let mut journal = self.journal.borrow_mut();
        let mono_ns = self.clock.mono_ns();
        journal.rotate(mono_ns);
        journal.look_for_stall(mono_ns);
        let mut stalled = self.stalled.borrow_mut();
        match journal.is_stalled() {
            true if stalled.is_none() => *stalled = Some(self.shard.hold(Level::JournalStalled)),
            true => {}
            false => *stalled = None,
        }
        match journal.flush_late().and_then(|_| journal.check_syncs()) {
            Err(error) => self.journal_stops(&error),
            Ok(()) if self.is_ledger_failed.get() && journal.has_room() => self.journal_works(),
            Ok(()) => {}
        }
    }

    /// Ready when no stream is read on any more whose client has left.
    pub(crate) async fn drained(&self) {
        while self.upstreams.iter().any(|upstream| !upstream.drains.are_over()) {
            self.drain_ended.notified().await;
        }
    }

    pub(crate) fn drain_ended(&self) {
        self.drain_ended.notify_one();
    }

    /// Ends what still runs: streams with an error event, waiting requests with a 503.
    pub(crate) fn cut(&self) {
        self.cut.set(true);
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut.get()
    }

    /// An endpoint's name as records share it.
    pub(crate) fn endpoint_name(&self, path: &str) -> Arc<str> {
        let known = self.endpoint_names.iter().find(|name| ***name == *path);
        known.cloned().unwrap_or_else(|| path.into())
    }
}
