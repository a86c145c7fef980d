//! Metrics. Each worker counts in a [`Shard`] of its own, so that counting costs a few plain
//! instructions and no worker waits for another; the shards are summed when somebody asks. What
//! there is to be asked for stands in one table, `table.rs`.

mod cells;
mod refused;
mod shard;
mod table;
mod render;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::clock::Clock;

pub(crate) use self::refused::Refused;
pub(crate) use self::render::CONTENT_TYPE;
#[cfg(test)]
pub(crate) use self::shard::LIMITS;
pub(crate) use self::shard::QUOTAS;
pub(crate) use self::shard::{Endpoint, Level, LevelGuard, Shard};

/// All metrics of a process.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// One per worker, in the workers' order.
    pub(crate) shards: Vec<Arc<Shard>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) refused: Arc<Refused>,
    /// The public model names that have a label of their own; all others count as `other`.
    models: Vec<String>,
    clock: Clock,
    started_ns: u64,
}

/// What is counted outside the workers, or by all of them together.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Bytes of request bodies held now; also what their cap is checked against.
    pub(crate) body_bytes: Arc<AtomicU64>,
    drained_rows: AtomicU64,
    drain_errors: AtomicU64,
    unremoved_segments: AtomicU64,
    damaged_bytes: AtomicU64,
    store_wal_bytes: AtomicU64,
    /// Asks the ledger how far the drain is: a drain that hangs could not tell.
    drain_lag: OnceLock<Lag>,
    /// When the drain last ended a pass, and when the last background sync that succeeded began, on the
    /// monotonic clock in nanoseconds. None before the first.
    drain_passed_ns: OnceNs,
    journal_synced_ns: OnceNs,
    /// When what the store has of tenants and keys was followed last.
    keys_followed_ns: OnceNs,
    keys_unreadable: AtomicU64,
    /// By [`QUOTAS`].
    quota_alerts: [AtomicU64; QUOTAS.len()],
    quotas_over: [AtomicU64; QUOTAS.len()],
}

/// What the drain has not got to yet, in bytes.
struct Lag(Box<dyn Fn() -> u64 + Send + Sync>);

impl std::fmt::Debug for Lag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lag").finish_non_exhaustive()
    }
}

/// A moment on the monotonic clock, none at first. One more is kept than it is.
#[derive(Debug, Default)]
struct OnceNs(AtomicU64);

impl OnceNs {
    fn set(&self, ns: u64) {
        self.0.store(ns.saturating_add(1), Ordering::Relaxed);
    }

    fn value(&self) -> Option<u64> {
        self.0.load(Ordering::Relaxed).checked_sub(1)
    }
}

impl Metrics {
    /// Metrics for `workers` workers that serve `models` (public names, in the order of their
    /// indices at [`Shard::tokens`]).
    pub(crate) fn new(workers: usize, models: Vec<String>, clock: Clock) -> Self {
        let shards = (0..workers).map(|_| Arc::new(Shard::new(models.len()))).collect();
        let started_ns = clock.now().mono_ns;
        let refused = Arc::new(Refused::new(clock.clone()));
        Self { shards, shared: Arc::default(), refused, models, clock, started_ns }
    }

    /// All metrics in the OpenMetrics text format, which [`CONTENT_TYPE`] names.
    pub(crate) fn render(&self) -> String {
        render::render(self)
    }

    /// A number of all shards together.
    fn sum(&self, of: impl Fn(&Shard) -> u64) -> u64 {
        self.shards.iter().map(|shard| of(shard)).fold(0, u64::wrapping_add)
    }

    /// How long ago something was; 0 if it never was.
    fn age_ns(&self, since: &OnceNs) -> u64 {
        since.value().map_or(0, |since_ns| self.clock.mono_ns().saturating_sub(since_ns))
    }

    fn uptime_ns(&self) -> u64 {
        self.clock.now().mono_ns.saturating_sub(self.started_ns)
    }
}

impl Shared {
    /// Counts rows that the drain has moved from the journal to the store.
    pub(crate) fn drained(&self, rows: u64) {
        self.drained_rows.fetch_add(rows, Ordering::Relaxed);
    }

    /// Counts a batch that the store did not take, or a pass that could not read a segment; both will be
    /// tried again.
    pub(crate) fn drain_failed(&self) {
        self.drain_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// So many segments of the journal are done with and can't be removed.
    pub(crate) fn segments_remain(&self, segments: u64) {
        self.unremoved_segments.store(segments, Ordering::Relaxed);
    }

    /// Counts bytes of the journal that were no records.
    pub(crate) fn damaged(&self, bytes: u64) {
        self.damaged_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts a threshold of a quota that was crossed; `limit` is the quota's name.
    pub(crate) fn quota_alert(&self, limit: &str) {
        if let Some(at) = QUOTAS.iter().position(|quota| *quota == limit) {
            self.quota_alerts[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says of how many keys and tenants a threshold is crossed now, by the names of their quotas.
    pub(crate) fn quotas_over<'a>(&self, counts: impl Iterator<Item = (&'a str, u64)>) {
        for (limit, count) in counts {
            if let Some(at) = QUOTAS.iter().position(|quota| *quota == limit) {
                self.quotas_over[at].store(count, Ordering::Relaxed);
            }
        }
    }

    /// Says how large the store's WAL is now.
    pub(crate) fn store_wal(&self, bytes: u64) {
        self.store_wal_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Says how to find out how many bytes of the journal wait for the drain.
    pub(crate) fn drain_lag(&self, bytes: impl Fn() -> u64 + Send + Sync + 'static) {
        let _ = self.drain_lag.set(Lag(Box::new(bytes)));
    }

    fn drain_lag_bytes(&self) -> u64 {
        self.drain_lag.get().map_or(0, |lag| (lag.0)())
    }

    /// The drain has ended a pass, whatever came of it.
    pub(crate) fn drain_passed(&self, mono_ns: u64) {
        self.drain_passed_ns.set(mono_ns);
    }

    /// Whatever was written to the journal by then survives a power cut.
    pub(crate) fn journal_synced(&self, mono_ns: u64) {
        self.journal_synced_ns.set(mono_ns);
    }

    /// Tenants and keys are as the store has them, but for so many that can't be read.
    pub(crate) fn keys_followed(&self, mono_ns: u64, unreadable: u64) {
        self.keys_followed_ns.set(mono_ns);
        self.keys_unreadable.store(unreadable, Ordering::Relaxed);
    }
}
