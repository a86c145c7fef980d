//! What the store knows of the time beside the dates of its rows: the time that was confirmed last, and
//! the rows that lie too far ahead of the clock to be right.

use crate::clock::AHEAD_MAX_MS;
use crate::record::EventId;

use super::{Store, StoreError, from_sql};

/// Rows that began after some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Future {
    pub rows: u64,
    /// When the first and the last of them began, in milliseconds since the epoch.
    pub first_ms: i64,
    pub last_ms: i64,
}

impl Store {
    /// The time that was confirmed last, in milliseconds since the epoch; `None` until there is one.
    pub(crate) fn confirmed_ms(&self) -> Result<Option<i64>, StoreError> {
        let mut statement = self.conn.prepare_cached("SELECT confirmed_ms FROM meta")?;
        Ok(statement.query_row([], |row| row.get(0))?)
    }

    /// Replaces the confirmed time if it still is `before`: false if another process has set it.
    pub(crate) fn confirm(
        &mut self,
        before: Option<i64>,
        time_ms: i64,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE meta SET confirmed_ms = ?2 WHERE confirmed_ms IS ?1";
        let tx = self.write()?;
        let is_replaced = tx.prepare_cached(sql)?.execute((before, time_ms))? == 1;
        tx.commit()?;
        self.require_in_place()?;
        Ok(is_replaced)
    }

    /// A time to which rows bear witness as a clock does that keeps step for `steady_ms`: when the request
    /// began of the row stored last before which another one lies by as much, and by no more than what is
    /// believed of a clock; in milliseconds since the epoch. A row has two dates, of which the earlier
    /// counts: its own, and that of the clock which made its id.
    pub(crate) fn witnessed_ms(&self, steady_ms: i64) -> Result<Option<i64>, StoreError> {
        let _snapshot = self.snapshot()?;
        let last = "SELECT event_id, started_at_ms FROM requests ORDER BY rowid DESC";
        let mut last = self.conn.prepare_cached(last)?;
        let mut last = last.query([])?;
        let mut refused_ms: Option<i64> = None;
        while let Some(row) = last.next()? {
            let started_at_ms: i64 = row.get(1)?;
            let by_id = EventId(row.get(0)?).made_at_ms();
            let time_ms = by_id.map_or(started_at_ms, |made_at_ms| made_at_ms.min(started_at_ms));
            if refused_ms.is_some_and(|ms| ms.abs_diff(time_ms) < steady_ms.unsigned_abs()) {
                // One of the same moment: it has no other witness.
                continue;
            }
            let span = (time_ms.saturating_sub(AHEAD_MAX_MS), time_ms.saturating_sub(steady_ms));
            let before = "SELECT 1 FROM requests WHERE started_at_ms BETWEEN ?1 AND ?2";
            if self.conn.prepare_cached(before)?.exists(span)? {
                return Ok(Some(time_ms));
            }
            refused_ms = Some(time_ms);
        }
        Ok(None)
    }

    /// When the newest request began of which there is a row, in milliseconds since the epoch; those that
    /// began after `until_ms` are passed over.
    pub(crate) fn newest_ms(&self, until_ms: i64) -> Result<Option<i64>, StoreError> {
        let newest = "SELECT max(started_at_ms) FROM requests WHERE started_at_ms <= ?1";
        Ok(self.conn.prepare_cached(newest)?.query_row([until_ms], |row| row.get(0))?)
    }

    /// The rows of requests that began after `until_ms`; `None` if there are none.
    pub(crate) fn future(&self, until_ms: i64) -> Result<Option<Future>, StoreError> {
        let sql = "SELECT count(*), min(started_at_ms), max(started_at_ms)
            FROM requests WHERE started_at_ms > ?1";
        Ok(self.conn.prepare_cached(sql)?.query_row([until_ms], |row| {
            let bounds: (Option<i64>, Option<i64>) = (row.get(1)?, row.get(2)?);
            let rows = from_sql(row.get(0)?);
            let (Some(first_ms), Some(last_ms)) = bounds else { return Ok(None) };
            Ok(Some(Future { rows, first_ms, last_ms }))
        })?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{HOUR_MS, Sample, store_with};
    use super::*;

    #[test]
    fn a_confirmed_time_is_replaced_by_who_knows_the_one_before() {
        let (dir, mut store) = store_with(&[]);
        assert_eq!(store.confirmed_ms().unwrap(), None);
        assert!(store.confirm(None, 5).unwrap());
        assert!(!store.confirm(None, 6).unwrap());
        assert!(store.confirm(Some(5), 4).unwrap());
        assert_eq!(store.confirmed_ms().unwrap(), Some(4));
        // Who holds the lock is told of as by every other writer, and files that are gone are not written to.
        store.conn.busy_timeout(std::time::Duration::ZERO).unwrap();
        let other = Store::open(dir.path()).unwrap();
        other.conn.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert!(matches!(store.confirm(Some(4), 7), Err(StoreError::WriteLocked { .. })));
        other.conn.execute_batch("ROLLBACK").unwrap();
        let moved = dir.path().join("moved");
        std::fs::rename(dir.path().join(super::super::FILE_NAME), moved).unwrap();
        assert!(matches!(store.confirm(Some(4), 7), Err(StoreError::Gone { .. })));
        assert_eq!(other.confirmed_ms().unwrap(), Some(4));
    }

    #[test]
    fn rows_beyond_a_moment_are_counted_and_passed_over() {
        let at = |id: u64, hour: i64| Sample { id, at_ms: hour * HOUR_MS, ..Sample::default() };
        let (_dir, store) = store_with(&[at(1, 10), at(2, 900), at(3, 800), at(4, 20)]);
        assert_eq!(store.newest_ms(800 * HOUR_MS - 1).unwrap(), Some(20 * HOUR_MS));
        assert_eq!(store.newest_ms(9).unwrap(), None);
        let found = Future { rows: 2, first_ms: 800 * HOUR_MS, last_ms: 900 * HOUR_MS };
        assert_eq!(store.future(20 * HOUR_MS).unwrap(), Some(found));
        assert_eq!(store.future(900 * HOUR_MS).unwrap(), None);
        let plan = "EXPLAIN QUERY PLAN SELECT count(*), min(started_at_ms), max(started_at_ms)
            FROM requests WHERE started_at_ms > 5";
        let plan: String = store.conn.query_row(plan, [], |row| row.get("detail")).unwrap();
        assert!(plan.contains("COVERING INDEX requests_by_time"), "{plan}");
    }

    #[test]
    fn rows_bear_witness_that_lie_apart_but_not_too_far() {
        const STEADY_MS: i64 = 600_000;
        const AT_MS: i64 = 10_000 * HOUR_MS;
        let witnessed_ms = |rows: &[(i64, Option<i64>)]| {
            let (_dir, mut store) = store_with(&[]);
            for (id, (at_ms, made_at_ms)) in (1..).zip(rows) {
                let sample = Sample { id, at_ms: *at_ms, ..Sample::default() };
                let row = match made_at_ms {
                    Some(ms) => sample.row_made_at(*ms as u64),
                    None => sample.row(),
                };
                store.append(&[row], &[]).unwrap();
            }
            store.witnessed_ms(STEADY_MS).unwrap()
        };
        let by = |before_ms: i64| witnessed_ms(&[(AT_MS - before_ms, None), (AT_MS, None)]);
        assert_eq!(witnessed_ms(&[]), None);
        assert_eq!(witnessed_ms(&[(AT_MS, None)]), None);
        assert_eq!((by(STEADY_MS - 1), by(AHEAD_MAX_MS + 1)), (None, None));
        assert_eq!((by(STEADY_MS), by(AHEAD_MAX_MS)), (Some(AT_MS), Some(AT_MS)));
        // The date of the id counts where it is earlier.
        let first = (AT_MS - HOUR_MS, None);
        assert_eq!(witnessed_ms(&[first, (9 * AT_MS, Some(AT_MS))]), Some(AT_MS));
        assert_eq!(witnessed_ms(&[first, (AT_MS, Some(9 * AT_MS))]), Some(AT_MS));
        // Those that were stored later, but have no witness, are passed over.
        let alone = [(9 * AT_MS, None), (9 * AT_MS + 1, None), (AT_MS - 900 * HOUR_MS, None)];
        let rows = [&[first, (AT_MS, None)], &alone[..]].concat();
        assert_eq!(witnessed_ms(&rows), Some(AT_MS));
    }
}
