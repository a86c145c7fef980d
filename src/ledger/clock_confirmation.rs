//! Which time is confirmed: what the wall clock said after it had kept step with the monotonic clock for
//! ten minutes. The store keeps it for the next start, where a wall clock behind it is the one that is
//! wrong. It never goes back by itself; `weir verify --redate` sets it back where a clock that was ahead
//! has been confirmed, and a running server follows.

use std::sync::Arc;

use crate::clock::{Clock, Now, TrustedClock};
use crate::ledger::clock_agreement::ClockAgreement;
use crate::store::{Future, Store, StoreError};

/// How long the wall clock has to keep step, and so the least between two writes.
const STEADY_MS: i64 = 10 * 60_000;
/// A clock that is no further behind what was confirmed is not told of.
const BEHIND_MS: i64 = 60_000;

/// Watches the clock for the ledger, between two passes of the drain.
#[derive(Debug)]
pub(super) struct ClockConfirmation {
    clock: Clock,
    trusted_clock: Arc<TrustedClock>,
    /// What the store has, as far as is known.
    stored_ms: Option<i64>,
    steady: ClockAgreement,
    /// It is behind what was confirmed.
    is_behind: bool,
}

impl ClockConfirmation {
    /// Begins with what the store confirms. In one that confirms nothing, as an older program leaves it, its
    /// rows do where they say as much as a clock does that keeps step: one of them alone may be what a
    /// clock left that was ahead for a moment. Else nothing is confirmed, and the clock is followed.
    pub(super) fn new(clock: Clock, store: &mut Store) -> Result<Self, StoreError> {
        let now = clock.now();
        let mut stored_ms = store.confirmed_ms()?;
        if stored_ms.is_none()
            && let Some(time_ms) = store.witnessed_ms(STEADY_MS)?
            && store.confirm(None, time_ms)?
        {
            stored_ms = Some(time_ms);
        }
        let trusted_clock = stored_ms.map(|time_ms| TrustedClock::new(time_ms, now));
        let trusted_clock = Arc::new(trusted_clock.unwrap_or_else(TrustedClock::unconfirmed));
        Ok(Self {
            clock,
            trusted_clock,
            stored_ms,
            steady: ClockAgreement::new(now),
            is_behind: false,
        })
    }

    pub(super) fn trusted_clock(&self) -> &Arc<TrustedClock> {
        &self.trusted_clock
    }

    /// Says at the start what cannot be right, for a person has to decide it.
    pub(super) fn log_doubts(&mut self, store: &Store) -> Result<(), StoreError> {
        let now = self.clock.now();
        self.warn_backlog(now);
        if let Some(Future { rows, first_ms, last_ms }) =
            store.future(self.trusted_clock.until(now))?
        {
            tracing::error!(
                rows,
                first = %time(first_ms),
                last = %time(last_ms),
                "the ledger has rows of the future, which count in no quota of today; \
                 `weir verify` lists them, `weir verify --redate` gives them a date that can be"
            );
        }
        Ok(())
    }

    /// Tells when the clock falls behind what was confirmed, and when it has caught up.
    fn warn_backlog(&mut self, now: Now) {
        let confirmed_ms = self.trusted_clock.confirmed_at(now);
        let is_behind = now.unix_ms < confirmed_ms.saturating_sub(BEHIND_MS);
        match (std::mem::replace(&mut self.is_behind, is_behind), is_behind) {
            (false, true) => tracing::error!(
                clock = %time(now.unix_ms),
                confirmed = %time(confirmed_ms),
                "the clock is behind the time that was confirmed before, which is trusted_clock instead; \
                 set the clock, or if it is right now, run `weir verify --redate --trust-clock`"
            ),
            (true, false) => tracing::info!("the clock is not behind any more"),
            _ => {}
        }
    }

    /// Looks at the clock, and confirms what it says when it has kept step for long enough.
    pub(super) fn look(&mut self, store: &mut Store) -> Result<(), StoreError> {
        let now = self.clock.now();
        let is_due = self.steady.kept_ms(now) >= STEADY_MS;
        self.warn_backlog(now);
        if is_due || self.is_behind || self.stored_ms.is_none() {
            self.follow(store, now)?;
        }
        if is_due {
            self.confirm(store, now)?;
            self.steady.restart(now);
        }
        Ok(())
    }

    /// Believes what another process has set, who was told to.
    fn follow(&mut self, store: &Store, now: Now) -> Result<(), StoreError> {
        let stored_ms = store.confirmed_ms()?;
        if stored_ms != self.stored_ms
            && let Some(time_ms) = stored_ms
        {
            tracing::warn!(confirmed = %time(time_ms), "the confirmed time was set by another process");
            self.trusted_clock.set(time_ms, now);
        }
        self.stored_ms = stored_ms;
        Ok(())
    }

    fn confirm(&mut self, store: &mut Store, now: Now) -> Result<(), StoreError> {
        let time_ms = self.trusted_clock.at(now);
        if store.confirm(self.stored_ms, time_ms)? {
            self.stored_ms = Some(time_ms);
            self.trusted_clock.set(time_ms, now);
        }
        Ok(())
    }
}

fn time(unix_ms: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(unix_ms).unwrap_or(jiff::Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::samples::{HOUR_MS, Sample, store_with};

    const NOW_MS: i64 = 500_000 * HOUR_MS;
    const YEAR_MS: i64 = 365 * 24 * HOUR_MS;
    const TEN_MINUTES: u64 = STEADY_MS as u64;

    #[test]
    fn a_time_is_confirmed_once_the_clock_has_kept_step_and_never_goes_back() {
        let (_dir, mut store) = store_with(&[]);
        let (clock, hand) = Clock::manual(NOW_MS);
        let mut clock_confirmation = ClockConfirmation::new(clock.clone(), &mut store).unwrap();
        let trusted_clock = clock_confirmation.trusted_clock().clone();
        let mut look = || {
            clock_confirmation.look(&mut store).unwrap();
            (store.confirmed_ms().unwrap(), trusted_clock.at(clock.now()))
        };
        hand.advance_ms(TEN_MINUTES - 1);
        assert_eq!(look().0, None);
        hand.advance_ms(1);
        let first_ms = NOW_MS + STEADY_MS;
        assert_eq!(look(), (Some(first_ms), first_ms));
        // Ahead for nearly as long, and right again.
        hand.advance_ms(TEN_MINUTES / 2);
        hand.jump_to(NOW_MS + 5 * YEAR_MS);
        look();
        hand.advance_ms(TEN_MINUTES - 1);
        assert_eq!(look().0, Some(first_ms));
        let now_ms = first_ms + STEADY_MS / 2 + STEADY_MS - 1;
        hand.jump_to(now_ms);
        assert_eq!(look(), (Some(first_ms), now_ms));
        // Behind for as long as one likes: the time that was confirmed goes on.
        hand.jump_to(NOW_MS - YEAR_MS);
        look();
        for times in [1, 2] {
            hand.advance_ms(TEN_MINUTES);
            let now_ms = now_ms + times * STEADY_MS;
            assert_eq!(look(), (Some(now_ms), now_ms));
        }
        // A machine that slept: the clock is right at once, and confirmed when it has kept step.
        hand.jump_to(NOW_MS + YEAR_MS);
        assert_eq!(look().1, NOW_MS + YEAR_MS);
        hand.advance_ms(TEN_MINUTES);
        assert_eq!(look().0, Some(NOW_MS + YEAR_MS + STEADY_MS));
    }

    #[test]
    fn what_another_process_sets_is_followed_back() {
        let (_dir, mut store) = store_with(&[]);
        let (clock, hand) = Clock::manual(NOW_MS + YEAR_MS);
        store.confirm(None, NOW_MS + YEAR_MS).unwrap();
        let mut clock_confirmation = ClockConfirmation::new(clock.clone(), &mut store).unwrap();
        hand.jump_to(NOW_MS);
        clock_confirmation.look(&mut store).unwrap();
        assert_eq!(clock_confirmation.trusted_clock().at(clock.now()), NOW_MS + YEAR_MS);
        store.confirm(Some(NOW_MS + YEAR_MS), NOW_MS).unwrap();
        clock_confirmation.look(&mut store).unwrap();
        assert_eq!(clock_confirmation.trusted_clock().at(clock.now()), NOW_MS);
        hand.advance_ms(TEN_MINUTES);
        clock_confirmation.look(&mut store).unwrap();
        assert_eq!(store.confirmed_ms().unwrap(), Some(NOW_MS + STEADY_MS));
    }

    #[test]
    fn an_older_store_is_believed_by_rows_that_span_as_long_as_a_clock_has_to_keep_step() {
        let year = |years: i64| NOW_MS + years * YEAR_MS;
        let before_ms = NOW_MS - STEADY_MS;
        // Rows in the order in which they were stored, and what the clock says now.
        for (rows, clock_ms, believed_ms) in [
            (&[before_ms, NOW_MS][..], year(-3), NOW_MS),
            (&[before_ms, NOW_MS], year(1), year(1)),
            // One row alone, or some of a moment, are believed as little as a clock that just began.
            (&[NOW_MS], year(-3), year(-3)),
            (&[year(5), year(5) + STEADY_MS - 1], NOW_MS, NOW_MS),
            // And are passed over for those that were stored before.
            (&[before_ms, NOW_MS, year(5)], year(-3), NOW_MS),
            (&[before_ms, NOW_MS, year(5)], NOW_MS + 5, NOW_MS + 5),
        ] {
            let (_dir, mut store) = store_with(&[]);
            for (id, at_ms) in (1..).zip(rows) {
                let sample = Sample { id, at_ms: *at_ms, ..Sample::default() };
                store.append(&[sample.row_made_at(*at_ms as u64)], &[]).unwrap();
            }
            let (clock, hand) = Clock::manual(clock_ms);
            let mut clock_confirmation = ClockConfirmation::new(clock.clone(), &mut store).unwrap();
            assert_eq!(
                clock_confirmation.trusted_clock().at(clock.now()),
                believed_ms,
                "{rows:?} {clock_ms}"
            );
            hand.advance_ms(TEN_MINUTES);
            clock_confirmation.look(&mut store).unwrap();
            assert_eq!(store.confirmed_ms().unwrap(), Some(believed_ms + STEADY_MS));
        }
    }

    #[test]
    fn a_clock_that_was_ahead_at_a_new_stores_start_is_believed_no_longer_than_it_is() {
        let (_dir, mut store) = store_with(&[]);
        let (clock, hand) = Clock::manual(NOW_MS + YEAR_MS);
        let mut clock_confirmation = ClockConfirmation::new(clock.clone(), &mut store).unwrap();
        hand.jump_to(NOW_MS);
        clock_confirmation.look(&mut store).unwrap();
        assert_eq!(clock_confirmation.trusted_clock().at(clock.now()), NOW_MS);
        assert_eq!(store.confirmed_ms().unwrap(), None);
        hand.advance_ms(TEN_MINUTES);
        clock_confirmation.look(&mut store).unwrap();
        assert_eq!(store.confirmed_ms().unwrap(), Some(NOW_MS + STEADY_MS));
        hand.jump_to(NOW_MS - YEAR_MS);
        assert_eq!(clock_confirmation.trusted_clock().at(clock.now()), NOW_MS + STEADY_MS);
    }

    #[test]
    fn what_another_process_sets_before_anything_is_confirmed_is_followed_at_once() {
        let (_dir, mut store) = store_with(&[]);
        let (clock, hand) = Clock::manual(NOW_MS);
        let mut clock_confirmation = ClockConfirmation::new(clock.clone(), &mut store).unwrap();
        store.confirm(None, NOW_MS).unwrap();
        hand.advance_ms(1);
        clock_confirmation.look(&mut store).unwrap();
        hand.jump_to(NOW_MS - YEAR_MS);
        assert_eq!(clock_confirmation.trusted_clock().at(clock.now()), NOW_MS);
    }
}
