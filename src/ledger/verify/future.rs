//! Rows of the future, and a confirmed time that is one: what a clock has left that was ahead.

use super::{Difference, MAX_LISTED, Mend, Report};
use crate::clock::AHEAD_MAX_MS;
use crate::ledger::LedgerError;
use crate::ledger::report::timestamp;
use crate::ledger::store::{Store, StoreError};

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

    /// Gives the rows of the future other dates, and returns how many these are. A confirmed time that is
    /// ahead of the clock is set back if the clock is trusted. If it is not, nothing is done: by a clock
    /// that is behind, all rows would be of the future.
    pub(super) fn redate(&self, store: &mut Store) -> Result<u64, LedgerError> {
        if let (Some(confirmed_ms), false) = (self.contradicted(), self.is_clock_trusted) {
            let [clock, confirmed] = [self.now_ms, confirmed_ms].map(timestamp);
            return Err(LedgerError::ClockBehind { clock, confirmed });
        }
        if let Some(confirmed_ms) = self.confirmed_ms
            && self.is_clock_trusted
            && confirmed_ms > self.now_ms
        {
            store.confirm(Some(confirmed_ms), self.now_ms)?;
        }
        Ok(store.redate(self.until_ms(), self.now_ms)?)
    }
}

impl Report {
    /// Whether a row, or what was confirmed, is of the future.
    pub(super) fn future(&mut self, store: &Store, time: &Time) -> Result<(), StoreError> {
        if let Some(confirmed_ms) = time.contradicted() {
            self.add(|| {
                let [stored, now] = [confirmed_ms, time.now_ms].map(|ms| timestamp(ms).to_string());
                Difference::plain("clock", "store", "confirmed_time", stored, now)
            });
        }
        let until_ms = time.until_ms();
        // One state of the store: what is listed is among what is counted.
        let _snapshot = store.read()?;
        let Some(future) = store.future(until_ms)? else { return Ok(()) };
        let mut left = future.rows;
        store.misdated(until_ms, time.now_ms, MAX_LISTED, |row| {
            left -= 1;
            self.add(|| Difference {
                tenant: row.tenant,
                key_id: row.key_id,
                model: row.model,
                ..Difference::plain(
                    "future",
                    &row.event_id.to_text(),
                    "started_at",
                    timestamp(row.started_at_ms).to_string(),
                    timestamp(row.redated_ms).to_string(),
                )
            });
        })?;
        self.differences += left;
        Ok(())
    }
}
