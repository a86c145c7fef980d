//! What the store knows of the time beside the dates of its rows: the time that was confirmed last, and
//! the rows that lie too far ahead of the clock to be right.

use crate::clock::AHEAD_MAX_MS;
use crate::record::EventId;

use super::{Future, Sqlite, StoreError, from_sql};

impl Sqlite {
    pub(super) fn confirmed_ms(&self) -> Result<Option<i64>, StoreError> {
        let mut statement = self.conn.prepare_cached("SELECT confirmed_ms FROM meta")?;
        Ok(statement.query_row([], |row| row.get(0))?)
    }

    pub(super) fn confirm(
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

    pub(super) fn witnessed_ms(&self, steady_ms: i64) -> Result<Option<i64>, StoreError> {
        let _snapshot = self.read()?;
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

    pub(super) fn newest_ms(&self, until_ms: i64) -> Result<Option<i64>, StoreError> {
        let newest = "SELECT max(started_at_ms) FROM requests WHERE started_at_ms <= ?1";
        Ok(self.conn.prepare_cached(newest)?.query_row([until_ms], |row| row.get(0))?)
    }

    pub(super) fn future(&self, until_ms: i64) -> Result<Option<Future>, StoreError> {
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
    use super::*;
    use crate::store::Store;
    use crate::store::samples::{HOUR_MS, Sample, store_with};

    #[test]
    fn a_confirmed_time_is_replaced_by_who_knows_the_one_before() {
        let (dir, mut store) = store_with(&[]);
        assert_eq!(store.confirmed_ms().unwrap(), None);
        assert!(store.confirm(None, 5).unwrap());
        assert!(!store.confirm(None, 6).unwrap());
        assert!(store.confirm(Some(5), 4).unwrap());
        assert_eq!(store.confirmed_ms().unwrap(), Some(4));
        // Who holds the lock is told of as by every other writer, and files that are gone are not written to.
        store.connection().busy_timeout(std::time::Duration::ZERO).unwrap();
        let other = Store::open(dir.path()).unwrap();
        other.connection().execute_batch("BEGIN IMMEDIATE").unwrap();
        assert!(matches!(store.confirm(Some(4), 7), Err(StoreError::WriteLocked { .. })));
        other.connection().execute_batch("ROLLBACK").unwrap();
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
        let plan: String = store.connection().query_row(plan, [], |row| row.get("detail")).unwrap();
        assert!(plan.contains("COVERING INDEX requests_by_time"), "{plan}");
    }
}
