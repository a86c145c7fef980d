//! How many attempts beyond the first there may be: a share of all requests, so that upstreams which all fail are not
//! asked twice as often for it. A token bucket that requests fill and further attempts empty, shared by all workers.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// What one attempt takes out.
const ATTEMPT: u64 = 100;
/// So many attempts are there at once.
const BURST: u64 = 10 * ATTEMPT;

/// Full when it is new.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    percent: u64,
    left: AtomicU64,
}

impl RetryBudget {
    pub(crate) fn new(percent: u64) -> Self {
        Self { percent, left: AtomicU64::new(BURST) }
    }

    /// A request has come.
    pub(crate) fn earn(&self) {
        // Nearly always it is full, and nothing is written that all workers share.
        let left = self.left.load(Relaxed);
        if left < BURST {
            let more = |left: u64| Some((left + self.percent).min(BURST));
            let _ = self.left.fetch_update(Relaxed, Relaxed, more);
        }
    }

    /// Takes a further attempt out; false if there is none.
    pub(crate) fn spend(&self) -> bool {
        self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(ATTEMPT)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_a_burst_there_are_as_many_as_the_share_says() {
        let budget = RetryBudget::new(20);
        let spent = |budget: &RetryBudget| (0..100).filter(|_| budget.spend()).count();
        assert_eq!(spent(&budget), 10);
        for _ in 0..100 {
            budget.earn();
        }
        assert_eq!(spent(&budget), 10, "twenty were earned, and ten are kept");
        let attempts: usize = (0..100)
            .map(|_| {
                budget.earn();
                usize::from(budget.spend())
            })
            .sum();
        assert_eq!(attempts, 20);
        assert_eq!(spent(&RetryBudget::new(0)), 10);
    }
}
