//! Of how many keys and tenants a threshold is crossed in the windows that hold now, for a gauge. Counted
//! where a threshold is crossed, and not by a walk over all accounts: each count belongs to the end of its
//! window. When time has reached that it is not told any more; it goes when the tenant's next window opens,
//! so that a clock that is ahead for a moment loses none.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::denied::{Kind, Limit, Scope};
use super::window::Windows;

/// The quotas of an account: first those of the day. A set of them is a byte, with a bit for each in this
/// order.
pub(super) const QUOTAS: [Kind; 6] = [
    Kind::DailyRequests,
    Kind::DailyTokens,
    Kind::DailyUsd,
    Kind::MonthlyRequests,
    Kind::MonthlyTokens,
    Kind::MonthlyUsd,
];
const DAILY: std::ops::Range<usize> = 0..3;
const MONTHLY: std::ops::Range<usize> = 3..6;
const SCOPES: [Scope; 2] = [Scope::Key, Scope::Tenant];

/// By scope, and by [`QUOTAS`].
type Counts = [[u64; QUOTAS.len()]; SCOPES.len()];

/// The counts of all tenants, by the end of the window in Unix milliseconds: two ends for a tenant at most.
#[derive(Debug, Default)]
pub(crate) struct ThresholdGauge(Mutex<BTreeMap<i64, Counts>>);

/// What one tenant and its keys add to the counts of all. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Crossed {
    over: Arc<ThresholdGauge>,
    windows: Windows,
    counts: Counts,
    /// Nobody is to hear of the tenant: it was deleted.
    is_muted: bool,
}

impl ThresholdGauge {
    /// How many keys and tenants are above a threshold of each quota at `unix_ms`.
    pub(super) fn at(&self, unix_ms: i64) -> impl Iterator<Item = (Limit, u64)> + use<> {
        let mut sums = Counts::default();
        // The last window never ends.
        for counts in self.by_end().range(unix_ms.saturating_add(1)..).map(|(_, counts)| counts) {
            let pairs = sums.as_flattened_mut().iter_mut().zip(counts.as_flattened());
            pairs.for_each(|(sum, count)| *sum += count);
        }
        let limits = SCOPES.into_iter().flat_map(|scope| QUOTAS.map(|kind| Limit { scope, kind }));
        limits.zip(sums.into_iter().flatten())
    }

    /// How many windows have a count.
    #[cfg(test)]
    pub(super) fn windows(&self) -> usize {
        self.by_end().len()
    }

    fn by_end(&self) -> MutexGuard<'_, BTreeMap<i64, Counts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Crossed {
    pub(super) fn new(over: Arc<ThresholdGauge>, windows: Windows) -> Self {
        Self { over, windows, counts: Counts::default(), is_muted: false }
    }

    /// An account's quotas above a threshold have changed from one set to another.
    #[inline]
    pub(super) fn change(&mut self, scope: Scope, before: u8, after: u8) {
        if before != after && !self.is_muted {
            self.count(scope, before, after);
        }
    }

    #[cold]
    fn count(&mut self, scope: Scope, before: u8, after: u8) {
        let mut by_end = self.over.by_end();
        for quota in (0..QUOTAS.len()).filter(|quota| (before ^ after) >> quota & 1 == 1) {
            let is_in = |set: u8| u64::from(set >> quota & 1);
            let (before, after) = (is_in(before), is_in(after));
            let window = if DAILY.contains(&quota) { self.windows.day } else { self.windows.month };
            let all = by_end.entry(window.end_ms).or_default();
            for count in [&mut all[scope as usize][quota], &mut self.counts[scope as usize][quota]]
            {
                *count = (*count + after).saturating_sub(before);
            }
        }
    }

    /// The tenant's windows are others now: what was counted in those that have ended is over.
    pub(super) fn enter(&mut self, windows: &Windows) {
        let old = std::mem::replace(&mut self.windows, *windows);
        if old.day != windows.day {
            self.give_back(old.day.end_ms, DAILY);
        }
        if old.month != windows.month {
            self.give_back(old.month.end_ms, MONTHLY);
        }
    }

    /// Gives back what is counted, and counts nothing until [`Self::unmute_alerts`].
    pub(super) fn mute_alerts(&mut self) {
        let windows = self.windows;
        self.start_over(&windows);
        self.is_muted = true;
    }

    /// Counts again; what there is has to be told. False if it did already.
    pub(super) fn unmute_alerts(&mut self) -> bool {
        std::mem::take(&mut self.is_muted)
    }

    pub(super) fn is_muted(&self) -> bool {
        self.is_muted
    }

    /// Nothing is counted any more, and these are the windows.
    pub(super) fn start_over(&mut self, windows: &Windows) {
        self.give_back(self.windows.day.end_ms, DAILY);
        self.give_back(self.windows.month.end_ms, MONTHLY);
        self.windows = *windows;
    }

    fn give_back(&mut self, end_ms: i64, quotas: std::ops::Range<usize>) {
        let mut by_end = self.over.by_end();
        // Without it nothing of this tenant was counted.
        let Some(all) = by_end.get_mut(&end_ms) else { return };
        for (all, counts) in all.iter_mut().zip(&mut self.counts) {
            for quota in quotas.clone() {
                all[quota] = all[quota].saturating_sub(std::mem::take(&mut counts[quota]));
            }
        }
        if *all == Counts::default() {
            by_end.remove(&end_ms);
        }
    }
}

impl Drop for Crossed {
    fn drop(&mut self) {
        let windows = self.windows;
        self.start_over(&windows);
    }
}
