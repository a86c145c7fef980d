//! When rows are too old. What is deleted never comes back, so the wall clock alone does not decide it:
//! it can be set years ahead for a moment.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{AHEAD_MAX_MS, Clock, TrustedClock};
use crate::ledger::drain::Drain;
use crate::store::StoreError;

/// So much faster than time passes a wall clock that is ahead is followed. More than 1, because the
/// time in which no server ran has to be caught up with.
const CATCH_UP: i64 = 2;

/// How long rows are kept.
#[derive(Debug)]
pub(super) struct Retention {
    keep: Option<Duration>,
    clock: Clock,
    confirmed: Arc<TrustedClock>,
    /// The time that is believed in, in milliseconds since the epoch, and when it was, by the
    /// monotonic clock in nanoseconds. None until there is a row.
    trusted_clock: Option<(i64, u64)>,
}

impl Retention {
    pub(super) fn new(keep: Option<Duration>, clock: Clock, confirmed: Arc<TrustedClock>) -> Self {
        Self { keep, clock, confirmed, trusted_clock: None }
    }

    /// Deletes a batch of rows that are too old; returns how many those were.
    pub(super) fn expire(&mut self, drain: &mut Drain) -> Result<usize, StoreError> {
        let Some(keep) = self.keep else { return Ok(0) };
        let keep_ms = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        match self.time_ms(drain)? {
            Some(time_ms) => drain.expire(time_ms.saturating_sub(keep_ms), self.reached_ms()),
            None => Ok(0),
        }
    }

    /// No row that is right began later than this.
    fn reached_ms(&self) -> i64 {
        self.confirmed.confirmed_at(self.clock.now()).saturating_add(AHEAD_MAX_MS)
    }

    /// How late it is, at most: no later than the newest row that was there at first, and what has
    /// passed since then by the monotonic clock, times [`CATCH_UP`]. None while there is no row.
    fn time_ms(&mut self, drain: &Drain) -> Result<Option<i64>, StoreError> {
        let now = self.clock.now();
        let (before_ms, before_ns) =
            match (self.trusted_clock, drain.store.newest_ms(self.reached_ms())?) {
                (Some(trusted_clock), _) => trusted_clock,
                (None, Some(newest_ms)) => (newest_ms, now.mono_ns),
                (None, None) => return Ok(None),
            };
        let passed_ms = now.mono_ns.saturating_sub(before_ns) / 1_000_000;
        let passed_ms = i64::try_from(passed_ms).unwrap_or(i64::MAX);
        let reached_ms = before_ms.saturating_add(passed_ms.saturating_mul(CATCH_UP));
        // A clock that was set back is obeyed, and not taken for a reason to begin there.
        let believed_ms = before_ms.max(now.unix_ms.min(reached_ms));
        self.trusted_clock = Some((believed_ms, now.mono_ns));
        Ok(Some(believed_ms.min(now.unix_ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Durability;
    use crate::journal::Directory;
    use crate::store::Store;
    use crate::store::samples::{HOUR_MS, Sample, store_with};

    const DAY_MS: i64 = 24 * HOUR_MS;
    const KEEP: Duration = Duration::from_secs(35 * 86_400);

    #[test]
    fn a_clock_that_jumps_deletes_no_row_that_is_not_old() {
        // A request every twelve hours of a hundred days.
        let sample = |id: u64| Sample { id, at_ms: id as i64 * DAY_MS / 2, ..Sample::default() };
        let samples: Vec<_> = (0..=200).map(sample).collect();
        let (dir, mut store) = store_with(&samples);
        let directory = Directory::open(dir.path(), 1 << 20, Durability::Crash).unwrap();
        let open = || Drain::new(Arc::new(directory), Store::open(dir.path()).unwrap());
        let mut drain = open().unwrap();
        let (clock, hand) = Clock::manual(100 * DAY_MS);
        let new = |days: i64| {
            let confirmed = TrustedClock::new(days * DAY_MS, clock.now());
            Retention::new(Some(KEEP), clock.clone(), confirmed.into())
        };
        let mut retention = new(100);
        let mut look = || retention.expire(&mut drain).unwrap();
        assert_eq!(look(), 65 * 2);
        hand.jump_to(9_000 * DAY_MS);
        assert_eq!(look(), 0);
        // Nor does a request that is served meanwhile prove that it is so late.
        let late = Sample { id: 999, at_ms: 9_000 * DAY_MS, ..Sample::default() };
        store.append(&[late.row()], &[]).unwrap();
        hand.advance_ms(600_000);
        assert_eq!(look(), 0);
        assert_eq!(store.rows_from_ms().unwrap(), 65 * DAY_MS);
        hand.jump_to(0);
        hand.advance_ms(600_000);
        assert_eq!(look(), 0);
        hand.jump_to(100 * DAY_MS);
        hand.advance_ms(DAY_MS as u64);
        assert_eq!((look(), look()), (2, 0), "time goes on, with requests or without");

        // At a start nothing is known but the newest row that is right.
        store
            .connection()
            .execute("DELETE FROM requests WHERE started_at_ms > ?1", [101 * DAY_MS])
            .unwrap();
        hand.jump_to(9_000 * DAY_MS);
        let mut retention = new(101);
        let mut look = || retention.expire(&mut drain).unwrap();
        assert_eq!(look(), 0);
        hand.advance_ms(DAY_MS as u64);
        assert_eq!(look(), 2, "no further than twice the day that has passed");
        // And a row of the future is none that is right.
        let mut store = Store::open(dir.path()).unwrap();
        store.append(&[late.row()], &[]).unwrap();
        hand.jump_to(9_000 * DAY_MS);
        assert_eq!(new(102).expire(&mut drain).unwrap(), 0);
    }

    #[test]
    fn without_a_row_or_a_limit_nothing_is_deleted() {
        let (dir, mut store) = store_with(&[]);
        let directory = Directory::open(dir.path(), 1 << 20, Durability::Crash).unwrap();
        let mut drain = Drain::new(Arc::new(directory), Store::open(dir.path()).unwrap()).unwrap();
        let (clock, hand) = Clock::manual(9_000 * DAY_MS);
        let confirmed: Arc<_> = TrustedClock::new(9_000 * DAY_MS, clock.now()).into();
        let mut retention = Retention::new(Some(KEEP), clock.clone(), confirmed.clone());
        assert_eq!(retention.expire(&mut drain).unwrap(), 0);
        store.append(&[Sample::default().row()], &[]).unwrap();
        hand.advance_ms(100 * DAY_MS as u64);
        assert_eq!(Retention::new(None, clock, confirmed).expire(&mut drain).unwrap(), 0);
        assert_eq!(retention.expire(&mut drain).unwrap(), 0);
    }
}
