//! How long a model's answers usually are, learned from those that ran to their end without a limit of
//! their own. It is what such requests reserve where the configuration says so.
//!
//! Each tenant's are its own: what one of them asks for lowers no other's reservations.
//!
//! A histogram of fixed size, whose counts are halved now and then, so that what is usual now outweighs
//! what was usual once. All workers count in it without a lock. Two of them can pass each other in the
//! middle of a halving; then a few answers count once more or once less, which moves no quantile that
//! matters.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

#[cfg(feature = "shuttle")]
use shuttle::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
#[cfg(not(feature = "shuttle"))]
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Answers before anything is said.
const ENOUGH: u32 = 100;
/// All counts are halved when there are so many.
const MANY: u32 = 4_096;
/// Between two looks for the quantile.
const LOOK_EVERY: u32 = 32;
/// Of so many answers one may be longer than what is said.
const ONE_IN: u32 = 20;
/// Steps between a power of two and the next: what is said is too much by a quarter at most.
const STEPS: u32 = 4;
/// Up to 2^28 tokens; what is longer counts as that.
const OCTAVES: u32 = 28;
const BUCKETS: usize = (OCTAVES * STEPS) as usize;

/// Tenants of which is learned; for any others nothing is known. Each takes half a kilobyte.
const TENANTS_MAX: usize = 4_096;

/// The lengths of one model's answers, by tenant. It is locked for a look only.
#[derive(Debug, Default)]
pub(crate) struct LearnedByTenant(RwLock<HashMap<Arc<str>, Arc<Learned>>>);

impl LearnedByTenant {
    /// As [`Learned::usual`].
    pub(crate) fn usual(&self, tenant: &str) -> Option<u64> {
        let tenants = self.0.read().unwrap_or_else(PoisonError::into_inner);
        tenants.get(tenant).and_then(|learned| learned.usual())
    }

    /// Where the lengths of this tenant's answers are counted, unless there are too many tenants.
    pub(crate) fn of(&self, tenant: &Arc<str>) -> Option<Arc<Learned>> {
        let tenants = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(learned) = tenants.get(tenant) {
            return Some(learned.clone());
        }
        drop(tenants);
        let mut tenants = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if tenants.len() >= TENANTS_MAX && !tenants.contains_key(tenant) {
            return None;
        }
        Some(tenants.entry(tenant.clone()).or_default().clone())
    }
}

/// The lengths of one tenant's answers, in tokens.
#[derive(Debug)]
pub(crate) struct Learned {
    counts: [AtomicU32; BUCKETS],
    total: AtomicU32,
    /// 0: not known yet.
    usual: AtomicU64,
}

impl Default for Learned {
    fn default() -> Self {
        Self {
            counts: std::array::from_fn(|_| AtomicU32::new(0)),
            total: AtomicU32::new(0),
            usual: AtomicU64::new(0),
        }
    }
}

impl Learned {
    /// What 19 of 20 answers have stayed below, once enough are known.
    pub(crate) fn usual(&self) -> Option<u64> {
        Some(self.usual.load(Relaxed)).filter(|usual| *usual > 0)
    }

    /// An answer had so many tokens.
    pub(crate) fn count(&self, tokens: u64) {
        self.counts[bucket(tokens)].fetch_add(1, Relaxed);
        let total = self.total.fetch_add(1, Relaxed) + 1;
        if total >= ENOUGH && total.is_multiple_of(LOOK_EVERY) {
            self.look();
            // Others may have counted on meanwhile: once more next time, then.
            if total >= MANY {
                self.halve();
            }
        }
    }

    fn look(&self) {
        let counts = self.counts.each_ref().map(|count| count.load(Relaxed));
        let total: u32 = counts.iter().sum();
        let mut longer = total;
        for (bucket, count) in counts.iter().enumerate() {
            longer = longer.saturating_sub(*count);
            if longer <= total / ONE_IN {
                self.usual.store(most_of(bucket), Relaxed);
                return;
            }
        }
    }

    fn halve(&self) {
        let mut total = 0;
        for count in &self.counts {
            let half = count.load(Relaxed) / 2;
            count.store(half, Relaxed);
            total += half;
        }
        self.total.store(total, Relaxed);
    }
}

/// The bucket of a length: four to each power of two.
fn bucket(tokens: u64) -> usize {
    let tokens = tokens.clamp(STEPS.into(), (1 << OCTAVES) - 1);
    let octave = tokens.ilog2();
    let step = (tokens >> (octave - STEPS.ilog2())) as usize % STEPS as usize;
    (octave - STEPS.ilog2()) as usize * STEPS as usize + step
}

/// The largest length in a bucket.
fn most_of(bucket: usize) -> u64 {
    let (octave, step) = (bucket / STEPS as usize, bucket % STEPS as usize);
    ((u64::from(STEPS) + step as u64 + 1) << octave) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_lies_in_its_bucket_and_near_its_top() {
        let mut last = 0;
        for tokens in (0..5_000).chain((5_000..(1 << 28)).step_by(99_991)) {
            let (at, most) = (bucket(tokens), most_of(bucket(tokens)));
            assert!(most >= tokens && at >= last && at < BUCKETS, "{tokens}: {at} {most}");
            assert!(tokens < 4 || most <= tokens + tokens / 4, "{tokens}: {most}");
            last = at;
        }
        assert!(bucket(u64::MAX) < BUCKETS);
    }

    #[test]
    fn nineteen_of_twenty_stay_below() {
        let learned = Learned::default();
        for tokens in 0..96 {
            assert_eq!(learned.usual(), None, "{tokens} are not enough");
            learned.count(tokens);
        }
        // 1 to 1,000, a multiple of what is looked at.
        let learned = Learned::default();
        for number in 0..3_200_u64 {
            learned.count(number * 7 % 1_000 + 1);
        }
        let usual = learned.usual().expect("enough are known");
        assert!((950..=1_023).contains(&usual), "{usual}");
    }

    #[test]
    fn what_one_tenant_asks_for_says_nothing_of_another() {
        let learned = LearnedByTenant::default();
        let count = |tenant: &str, tokens| {
            let of_tenant = learned.of(&tenant.into()).expect("there is room");
            (0..3_200).for_each(|_| of_tenant.count(tokens));
        };
        count("short", 5);
        assert_eq!((learned.usual("short"), learned.usual("long")), (Some(5), None));
        count("long", 5_000);
        assert!(learned.usual("long") >= Some(5_000) && learned.usual("short") == Some(5));
        for number in 2..TENANTS_MAX {
            assert!(learned.of(&format!("{number}").into()).is_some());
        }
        assert!(
            learned.of(&"one too many".into()).is_none() && learned.of(&"long".into()).is_some()
        );
    }

    #[test]
    fn what_was_usual_once_is_forgotten() {
        let learned = Learned::default();
        (0..8_000).for_each(|_| learned.count(100_000));
        assert!(learned.usual().is_some_and(|usual| usual >= 100_000));
        (0..40_000).for_each(|_| learned.count(10));
        assert_eq!(learned.usual(), Some(most_of(bucket(10))));
    }

    #[test]
    fn many_threads_count_without_getting_lost() {
        let learned = Learned::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..20_000).for_each(|_| learned.count(500)));
            }
        });
        assert_eq!(learned.usual(), Some(most_of(bucket(500))));
        // However far the threads got while one of them halved, it comes down again.
        (0..64 * LOOK_EVERY).for_each(|_| learned.count(500));
        assert!(learned.total.load(Relaxed) <= MANY);
    }
}

#[cfg(all(test, feature = "shuttle"))]
mod interleaved {
    use std::sync::Arc;

    use super::*;

    /// Three threads count across the halving; wherever they pass each other, no count is made up, the
    /// halving happens, and what is said is one of the lengths.
    #[test]
    fn counting_and_halving_pass_each_other() {
        let check = || {
            let learned = Arc::new(Learned::default());
            learned.counts[bucket(500)].store(MANY - 3, Relaxed);
            learned.total.store(MANY - 3, Relaxed);
            let threads = (0..3).map(|_| {
                let learned = learned.clone();
                shuttle::thread::spawn(move || (0..2).for_each(|_| learned.count(500)))
            });
            threads.collect::<Vec<_>>().into_iter().for_each(|one| one.join().expect("no panic"));
            let (count, total) =
                (learned.counts[bucket(500)].load(Relaxed), learned.total.load(Relaxed));
            assert!((MANY / 2 - 6..=MANY / 2 + 6).contains(&count), "{count}");
            assert!((MANY / 2 - 6..=MANY / 2 + 6).contains(&total), "{total}");
            assert_eq!(learned.usual(), Some(most_of(bucket(500))));
        };
        shuttle::check_random(check, 2_000);
        shuttle::check_pct(check, 2_000, 3);
    }
}
