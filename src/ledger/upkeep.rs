//! What the drain's thread does for the store when it has carried rows to it: it folds the roll-ups of
//! hours that are over into the sums of their days, and deletes rows that are too old. Both go in batches,
//! for a moment of each pass, so that they catch up with whatever is served and no new row waits for
//! them for long.

use std::time::Duration;

use crate::clock::{Clock, Now};
use crate::ledger::clock_agreement::ClockAgreement;
use crate::ledger::drain::Drain;
use crate::ledger::retention::Retention;
use crate::store::StoreError;

/// Between two looks for what there is to do, once nothing is left; before, some is done in each pass.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How long one of the two goes on within a pass.
const AT_MOST: Duration = Duration::from_millis(150);

/// Most requests that began in an hour have ended so long after it. Those that have not are added to
/// their day one by one.
const STRAGGLERS_MS: i64 = 600_000;
const HOUR_MS: i64 = 3_600_000;

/// So long the wall clock has to have kept step, or no hour is over by it: were hours folded by one that is years
/// ahead for a moment, each row would come late from then on.
const STEADY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Upkeep {
    clock: Clock,
    steady: ClockAgreement,
    retention: Retention,
    /// When to look again, by the monotonic clock in nanoseconds.
    next_ns: u64,
}

impl Upkeep {
    pub(super) fn new(retention: Retention, clock: Clock) -> Self {
        let now = clock.now();
        Self { clock, steady: ClockAgreement::new(now), retention, next_ns: now.mono_ns }
    }

    /// Does what is due, for as long as a pass may take; the rest is due with the next one.
    pub(super) fn pass(&mut self, drain: &mut Drain) {
        self.pass_for(drain, AT_MOST);
    }

    fn pass_for(&mut self, drain: &mut Drain, at_most: Duration) {
        let now = self.clock.now();
        let over = hours_over(&mut self.steady, now);
        if now.mono_ns < self.next_ns {
            return;
        }
        let clock = self.clock.clone();
        let fold = || over.map_or(Ok(0), |before| drain.fold(before));
        let is_folded = repeat(&clock, at_most, "roll-ups could not be folded by the day", fold);
        let expire = || self.retention.expire(drain);
        let is_young = repeat(&clock, at_most, "old rows could not be deleted", expire);
        if is_folded && is_young {
            self.next_ns = now.mono_ns.saturating_add(nanos(LOOK_EVERY));
        }
    }
}

/// The hour (since the epoch, UTC) before which all are over, if the clock can be believed.
fn hours_over(steady: &mut ClockAgreement, now: Now) -> Option<i64> {
    let is_steady = u128::try_from(steady.kept_ms(now)).is_ok_and(|ms| ms >= STEADY.as_millis());
    is_steady.then(|| now.unix_ms.saturating_sub(STRAGGLERS_MS).div_euclid(HOUR_MS))
}

/// Does batch after batch, until one finds nothing (then it is true), or the time is up.
fn repeat(
    clock: &Clock,
    at_most: Duration,
    failure: &'static str,
    mut batch: impl FnMut() -> Result<usize, StoreError>,
) -> bool {
    let begun_ns = clock.mono_ns();
    loop {
        match batch() {
            Ok(0) => return true,
            Ok(_) if clock.mono_ns().saturating_sub(begun_ns) >= nanos(at_most) => return false,
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, "{failure}");
                return true;
            }
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::TrustedClock;
    use crate::config::Durability;
    use crate::journal::Directory;
    use crate::store::Store;
    use crate::store::samples::{Sample, store_with};

    const DAY_MS: i64 = 24 * HOUR_MS;
    /// More than one batch of either kind takes.
    const MANY: u64 = 17_000;
    /// Ten days before the newest.
    const KEPT: i64 = 10 * 24 + 1;

    /// A drain and the upkeep of a store with a row for each of so many hours.
    fn world(now_ms: i64) -> (tempfile::TempDir, Drain, Upkeep, Arc<crate::clock::ManualClock>) {
        let sample = |id| Sample { id, at_ms: id as i64 * HOUR_MS, ..Sample::default() };
        let samples: Vec<_> = (0..MANY).map(sample).collect();
        let (dir, store) = store_with(&samples);
        drop(store);
        let directory = Directory::open(dir.path(), 1 << 20, Durability::Crash).unwrap();
        let drain = Drain::new(Arc::new(directory), Store::open(dir.path()).unwrap()).unwrap();
        let (clock, hand) = Clock::manual(now_ms);
        let confirmed = TrustedClock::new(now_ms, clock.now()).into();
        let keep = Some(Duration::from_secs(10 * 86_400));
        let retention = Retention::new(keep, clock.clone(), confirmed);
        (dir, drain, Upkeep::new(retention, clock), hand)
    }

    fn left(drain: &Drain) -> (i64, i64) {
        let count = |sql: &str| {
            let conn = drain.store.connection();
            conn.query_row(sql, [], |row| row.get(0)).unwrap()
        };
        let unfolded = "SELECT count(*) FROM rollups WHERE hour > (SELECT hour FROM folded)";
        (count(unfolded), count("SELECT count(*) FROM requests"))
    }

    #[test]
    fn what_is_due_is_done_in_one_pass_and_no_more_than_a_batch_of_each_without_time() {
        const NOW_MS: i64 = MANY as i64 * HOUR_MS;
        let (_dir, mut drain, mut upkeep, hand) = world(NOW_MS);
        hand.advance_ms(STEADY.as_millis() as u64);
        upkeep.pass_for(&mut drain, Duration::ZERO);
        let (unfolded, rows) = left(&drain);
        assert!((1..MANY as i64).contains(&unfolded), "{unfolded}");
        assert!((KEPT + 1..MANY as i64).contains(&rows), "{rows}");
        // The clock stands still: there is time for all that is left.
        upkeep.pass(&mut drain);
        assert_eq!(left(&drain), (1, KEPT), "the last hour has its stragglers");
        // Then nobody looks until a minute has passed.
        hand.advance_ms(LOOK_EVERY.as_millis() as u64 - 1);
        let late = Sample { id: MANY, at_ms: 0, ..Sample::default() };
        drain.store.append(&[late.row()], &[]).unwrap();
        upkeep.pass(&mut drain);
        assert_eq!(left(&drain).1, KEPT + 1);
        hand.advance_ms(1);
        upkeep.pass(&mut drain);
        assert_eq!(left(&drain).1, KEPT);
    }

    #[test]
    fn an_hour_is_over_by_a_clock_that_was_not_set_just_now() {
        let at = |unix_ms, minutes: u64| Now { unix_ms, mono_ns: minutes * 60_000_000_000 };
        let minute = |minutes: i64| 100 * HOUR_MS + minutes * 60_000;
        let mut steady = ClockAgreement::new(at(minute(0), 0));
        let mut over = |now| hours_over(&mut steady, now);
        assert_eq!(over(at(minute(0) + 500, 0)), None, "nothing is known yet");
        assert_eq!(over(at(minute(1), 1)), Some(99));
        assert_eq!(over(at(minute(69), 69)), Some(100), "but for stragglers");
        assert_eq!(over(at(minute(70), 70)), Some(101));
        let ahead_ms = minute(70) + 2_000 * DAY_MS;
        assert_eq!(over(at(ahead_ms, 70)), None);
        assert_eq!(over(at(minute(71), 71)), None, "back again");
        assert_eq!(over(at(minute(72), 72)), Some(101));
        assert_eq!(over(at(ahead_ms, 72)), None);
        assert_eq!(over(at(ahead_ms + 60_000, 73)), Some(48_101), "it stays");
    }
}
