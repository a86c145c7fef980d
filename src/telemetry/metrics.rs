//! Metrics. Each worker counts in a [`Shard`] of its own, so that counting costs a few plain
//! instructions and no worker waits for another; the shards are summed when somebody asks. What
//! there is to be asked for stands in one table, `table.rs`.

mod cells;
mod shard;
mod table;
mod render;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Clock;

pub(crate) use self::render::CONTENT_TYPE;
use self::shard::QUOTAS;
pub(crate) use self::shard::{Endpoint, Held, Level, Shard};

/// All metrics of a process.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// One per worker, in the workers' order.
    pub(crate) shards: Vec<Arc<Shard>>,
    pub(crate) shared: Arc<Shared>,
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
    damaged_bytes: AtomicU64,
    drain_lag_bytes: AtomicU64,
    store_wal_bytes: AtomicU64,
    /// By [`QUOTAS`].
    quota_alerts: [AtomicU64; QUOTAS.len()],
    quotas_over: [AtomicU64; QUOTAS.len()],
}

impl Metrics {
    /// Metrics for `workers` workers that serve `models` (public names, in the order of their
    /// indices at [`Shard::tokens`]).
    pub(crate) fn new(workers: usize, models: Vec<String>, clock: Clock) -> Self {
        let shards = (0..workers).map(|_| Arc::new(Shard::new(models.len()))).collect();
        let started_ns = clock.now().mono_ns;
        Self { shards, shared: Arc::default(), models, clock, started_ns }
    }

    /// All metrics in the OpenMetrics text format, which [`CONTENT_TYPE`] names.
    pub(crate) fn render(&self) -> String {
        render::render(self)
    }

    /// A number of all shards together.
    fn sum(&self, of: impl Fn(&Shard) -> u64) -> u64 {
        self.shards.iter().map(|shard| of(shard)).fold(0, u64::wrapping_add)
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

    /// Counts a batch that the store did not take; it will be tried again.
    pub(crate) fn drain_failed(&self) {
        self.drain_errors.fetch_add(1, Ordering::Relaxed);
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

    /// Says how many bytes of the journal wait for the drain now.
    pub(crate) fn drain_lag(&self, bytes: u64) {
        self.drain_lag_bytes.store(bytes, Ordering::Relaxed);
    }
}
