//! What the store knows of the time beside the dates of its rows: the time that was confirmed last, and
//! the rows that lie too far ahead of the clock to be right.

use rusqlite::OptionalExtension;

use crate::ledger::record::EventId;

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
    pub(crate) fn confirm(&self, before: Option<i64>, time_ms: i64) -> Result<bool, StoreError> {
        let sql = "UPDATE meta SET confirmed_ms = ?2 WHERE confirmed_ms IS ?1";
        Ok(self.conn.prepare_cached(sql)?.execute((before, time_ms))? == 1)
    }

    /// When the request began whose row was stored last, in milliseconds since the epoch: by its row, or
    /// by the clock that made its id where that was earlier.
    pub(crate) fn last_stored_ms(&self) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT event_id, started_at_ms FROM requests ORDER BY rowid DESC LIMIT 1";
        let last = self.conn.prepare_cached(sql)?.query_row([], |row| {
            let started_at_ms: i64 = row.get(1)?;
            let by_id = EventId(row.get(0)?).made_at_ms();
            Ok(by_id.map_or(started_at_ms, |made_at_ms| made_at_ms.min(started_at_ms)))
        });
        Ok(last.optional()?)
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
        let (_dir, store) = store_with(&[]);
        assert_eq!(store.confirmed_ms().unwrap(), None);
        assert!(store.confirm(None, 5).unwrap());
        assert!(!store.confirm(None, 6).unwrap());
        assert!(store.confirm(Some(5), 4).unwrap());
        assert_eq!(store.confirmed_ms().unwrap(), Some(4));
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
    fn the_last_row_has_two_dates_of_which_the_earlier_counts() {
        let (_dir, mut store) = store_with(&[]);
        assert_eq!(store.last_stored_ms().unwrap(), None);
        store.append(&[Sample { at_ms: 900, ..Sample::default() }.row()], &[]).unwrap();
        assert_eq!(store.last_stored_ms().unwrap(), Some(900), "its id tells no time");
        store
            .append(&[Sample { id: 2, at_ms: 900, ..Sample::default() }.row_made_at(700)], &[])
            .unwrap();
        assert_eq!(store.last_stored_ms().unwrap(), Some(700));
    }
}
