//! Of how many keys and tenants a threshold is crossed in the windows that hold now, for a gauge. Counted
//! where a threshold is crossed, and not by a walk over all accounts: each count belongs to the end of its
//! window, and goes when time has reached that.

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

/// The counts of all tenants.
#[derive(Debug, Default)]
pub(crate) struct Over(Mutex<Crossings>);

#[derive(Debug, Default)]
struct Crossings {
    /// By the end of the window, in Unix milliseconds.
    by_end: BTreeMap<i64, Counts>,
    /// The latest time that was asked for.
    latest_ms: i64,
}

/// What one tenant and its keys add to the counts of all. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Crossed {
    over: Arc<Over>,
    windows: Windows,
    counts: Counts,
}

impl Over {
    /// How many keys and tenants are above a threshold of each quota at `unix_ms`. Windows that have ended
    /// do not come back with a clock that is set back.
    pub(super) fn at(&self, unix_ms: i64) -> impl Iterator<Item = (Limit, u64)> {
        let mut crossings = self.crossings();
        let latest_ms = crossings.latest_ms.max(unix_ms);
        crossings.latest_ms = latest_ms;
        // The last window never ends.
        crossings.by_end.retain(|end_ms, _| *end_ms > latest_ms || *end_ms == i64::MAX);
        let mut sums = Counts::default();
        for counts in crossings.by_end.values() {
            let pairs = sums.as_flattened_mut().iter_mut().zip(counts.as_flattened());
            pairs.for_each(|(sum, count)| *sum += count);
        }
        let limits = SCOPES.into_iter().flat_map(|scope| QUOTAS.map(|kind| Limit { scope, kind }));
        limits.zip(sums.into_iter().flatten())
    }

    fn crossings(&self) -> MutexGuard<'_, Crossings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Crossed {
    pub(super) fn new(over: Arc<Over>, windows: Windows) -> Self {
        Self { over, windows, counts: Counts::default() }
    }

    /// An account's quotas above a threshold have changed from one set to another.
    #[inline]
    pub(super) fn change(&mut self, scope: Scope, before: u8, after: u8) {
        if before != after {
            self.count(scope, before, after);
        }
    }

    #[cold]
    fn count(&mut self, scope: Scope, before: u8, after: u8) {
        let mut crossings = self.over.crossings();
        for quota in 0..QUOTAS.len() {
            let is_in = |set: u8| u64::from(set >> quota & 1);
            let (before, after) = (is_in(before), is_in(after));
            let window = if DAILY.contains(&quota) { self.windows.day } else { self.windows.month };
            let all = &mut crossings.by_end.entry(window.end_ms).or_default();
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

    /// Nothing is counted any more, and these are the windows.
    pub(super) fn start_over(&mut self, windows: &Windows) {
        self.give_back(self.windows.day.end_ms, DAILY);
        self.give_back(self.windows.month.end_ms, MONTHLY);
        self.windows = *windows;
    }

    fn give_back(&mut self, end_ms: i64, quotas: std::ops::Range<usize>) {
        let mut crossings = self.over.crossings();
        // It is not there if time has reached that end.
        let mut all = crossings.by_end.get_mut(&end_ms);
        for (scope, counts) in self.counts.iter_mut().enumerate() {
            for quota in quotas.clone() {
                let count = std::mem::take(&mut counts[quota]);
                if let Some(all) = &mut all {
                    all[scope][quota] = all[scope][quota].saturating_sub(count);
                }
            }
        }
    }
}

impl Drop for Crossed {
    fn drop(&mut self) {
        let windows = self.windows;
        self.start_over(&windows);
    }
}
