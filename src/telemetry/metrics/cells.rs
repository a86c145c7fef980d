//! The numbers that a shard is made of. One thread writes them, any thread reads them; no number
//! has to agree with another, so everything is relaxed.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// A count with a single writer: a load and a store, where an atomic addition would lock the bus.
/// Two writers would lose counts, which is why it is not `pub`.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    pub(super) fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A level that goes up and down. Unlike a count it never recovers from a lost write, and its
/// guards may be dropped on any thread, so this one adds atomically.
#[derive(Debug, Default)]
pub(super) struct Gauge(AtomicI64);

impl Gauge {
    pub(super) fn add(&self, by: i64) {
        self.0.fetch_add(by, Relaxed);
    }

    /// The level; never below zero, even when read between the halves of a move.
    pub(super) fn value(&self) -> u64 {
        u64::try_from(self.0.load(Relaxed)).unwrap_or(0)
    }
}

/// A distribution of durations over fixed buckets, with a single writer.
#[derive(Debug)]
pub(super) struct Histogram {
    /// Upper bounds of all buckets but the last, in nanoseconds, ascending.
    pub(super) bounds_ns: &'static [u64],
    /// One more than there are bounds: the last bucket has none.
    buckets: Box<[Counter]>,
    sum_ns: Counter,
}

impl Histogram {
    pub(super) fn new(bounds_ns: &'static [u64]) -> Self {
        let buckets = (0..=bounds_ns.len()).map(|_| Counter::default()).collect();
        Self { bounds_ns, buckets, sum_ns: Counter::default() }
    }

    pub(super) fn observe(&self, ns: u64) {
        self.buckets[self.bounds_ns.partition_point(|bound| *bound < ns)].add(1);
        self.sum_ns.add(ns);
    }

    /// How many fell into each bucket, the unbounded one last.
    pub(super) fn counts(&self) -> impl Iterator<Item = u64> {
        self.buckets.iter().map(Counter::value)
    }

    pub(super) fn sum_ns(&self) -> u64 {
        self.sum_ns.value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::new(&[10, 20]);
        for ns in [0, 10, 11, 20, 21, 1000] {
            histogram.observe(ns);
        }
        assert_eq!(histogram.counts().collect::<Vec<_>>(), [2, 2, 2]);
        assert_eq!(histogram.sum_ns(), 1062);
    }

    #[test]
    fn a_level_is_never_negative() {
        let gauge = Gauge::default();
        gauge.add(-1);
        assert_eq!(gauge.value(), 0);
        gauge.add(3);
        assert_eq!(gauge.value(), 2);
    }
}
