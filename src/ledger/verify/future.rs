//! Rows of the future, and a confirmed time that is one: what a clock has left that was ahead.

use super::{Difference, MAX_LISTED, Mend, Report};
use crate::clock::AHEAD_MAX_MS;
use crate::clock::{moment, timestamp};
use crate::ledger::LedgerError;

use crate::store::{Store, StoreError};

/// What is known of the time.
#[derive(Debug)]
pub(super) struct Time {
    /// By the clock, in milliseconds since the epoch.
    now_ms: i64,
    confirmed_ms: Option<i64>,
    is_clock_trusted: bool,
}

impl Time {
    pub(super) fn of(store: &Store, now_ms: i64, mend: Mend) -> Result<Self, StoreError> {
        let confirmed_ms = store.confirmed_ms()?;
        Ok(Self { now_ms, confirmed_ms, is_clock_trusted: mend.trust_clock })
    }

    /// The confirmed time, if the clock is so far behind it that one of the two is wrong.
    fn contradicted(&self) -> Option<i64> {
        self.confirmed_ms.filter(|ms| *ms > self.now_ms.saturating_add(AHEAD_MAX_MS))
    }

    /// No row that is right began later.
    fn until_ms(&self) -> i64 {
        let confirmed_ms = self.confirmed_ms.filter(|_| !self.is_clock_trusted);
        confirmed_ms.map_or(self.now_ms, |ms| ms.max(self.now_ms)).saturating_add(AHEAD_MAX_MS)
    }

    /// Gives the rows of the future other dates, and returns how many these are. If the clock is trusted, its
    /// time is the confirmed one from here on, unless an earlier one is. If it is not, and is behind what
    /// was confirmed, or nothing was, nothing is done: by a clock that is behind, all rows would be of the
    /// future.
    pub(super) fn redate(&self, store: &mut Store) -> Result<u64, LedgerError> {
        let clock = timestamp(self.now_ms);
        if self.is_clock_trusted {
            self.confirm(store)?;
        } else if let Some(confirmed_ms) = self.contradicted() {
            return Err(LedgerError::ClockBehind { clock, confirmed: timestamp(confirmed_ms) });
        } else if self.confirmed_ms.is_none() && store.future(self.until_ms())?.is_some() {
            return Err(LedgerError::NothingConfirmed { clock });
        }
        Ok(store.redate(self.until_ms(), self.now_ms)?)
    }

    /// A server may confirm something at the same moment, or has since this began.
    fn confirm(&self, store: &mut Store) -> Result<(), StoreError> {
        loop {
            let confirmed_ms = store.confirmed_ms()?;
            let is_earlier = confirmed_ms.is_some_and(|ms| ms <= self.now_ms);
            if is_earlier || store.confirm(confirmed_ms, self.now_ms)? {
                return Ok(());
            }
        }
    }
}

impl Report {
    /// Whether a row, or what was confirmed, is of the future.
    pub(super) fn future(&mut self, store: &Store, time: &Time) -> Result<(), StoreError> {
        if let Some(confirmed_ms) = time.contradicted() {
            self.add(|| {
                let [stored, now] = [confirmed_ms, time.now_ms].map(moment);
                Difference::plain("clock", "store", "confirmed_time", stored, now)
            });
        }
        let until_ms = time.until_ms();
        // One state of the store: what is listed is among what is counted.
        let _snapshot = store.snapshot()?;
        let Some(future) = store.future(until_ms)? else { return Ok(()) };
        let mut left = future.rows;
        store.misdated(until_ms, time.now_ms, MAX_LISTED, &mut |row| {
            left -= 1;
            self.add(|| Difference {
                tenant: row.tenant,
                key_id: row.key_id,
                model: row.model,
                ..Difference::plain(
                    "future",
                    &row.event_id.to_text(),
                    "started_at",
                    moment(row.started_at_ms),
                    moment(row.redated_ms),
                )
            });
        })?;
        self.count("future", left);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::samples::{HOUR_MS, store_with};

    const NOW_MS: i64 = 500_000 * HOUR_MS;
    const YEAR_MS: i64 = 365 * 24 * HOUR_MS;

    #[test]
    fn a_time_that_a_server_confirms_meanwhile_is_set_back_as_well() {
        let (_dir, mut store) = store_with(&[]);
        let mend = Mend { sums: false, dates: true, trust_clock: true };
        let time = Time::of(&store, NOW_MS, mend).unwrap();
        store.confirm(None, NOW_MS + YEAR_MS).unwrap();
        time.redate(&mut store).unwrap();
        assert_eq!(store.confirmed_ms().unwrap(), Some(NOW_MS));
    }
}
