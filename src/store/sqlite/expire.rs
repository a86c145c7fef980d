//! Deleting old rows. Their roll-ups stay, so sums over whole hours stay what they were.

use rusqlite::{Connection, params};

use super::{HOUR_MS, Sqlite, StoreError, hour_of};

const DELETE: &str = "
DELETE FROM requests WHERE rowid IN (
    SELECT rowid FROM requests WHERE started_at_ms < ?1 ORDER BY started_at_ms LIMIT ?2)";

/// Rows that one statement deletes: a millisecond's work.
const AT_ONCE: usize = 100;

impl Sqlite {
    pub(super) fn expire(
        &mut self,
        before_ms: i64,
        limit: usize,
        step: &mut dyn FnMut(),
    ) -> Result<usize, StoreError> {
        let before_ms = hour_of(before_ms).saturating_mul(HOUR_MS);
        let oldest = "SELECT 1 FROM requests WHERE started_at_ms < ?1 LIMIT 1";
        if !self.conn.prepare_cached(oldest)?.exists([before_ms])? {
            return Ok(0);
        }
        let tx = self.write()?;
        tx.prepare_cached("UPDATE meta SET rows_from_ms = max(rows_from_ms, ?1)")?
            .execute([before_ms])?;
        let mut deleted = 0;
        while deleted < limit {
            let at_once = AT_ONCE.min(limit - deleted);
            let found = tx.prepare_cached(DELETE)?.execute(params![before_ms, at_once as i64])?;
            deleted += found;
            step();
            if found < at_once {
                break;
            }
        }
        tx.commit()?;
        self.content.expired(&self.conn)?;
        Ok(deleted)
    }

    pub(super) fn rows_from_ms(&self) -> Result<i64, StoreError> {
        rows_from_ms(&self.conn)
    }
}

/// The same, within a transaction.
pub(super) fn rows_from_ms(conn: &Connection) -> Result<i64, StoreError> {
    let mut statement = conn.prepare_cached("SELECT rows_from_ms FROM meta")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::super::Range;
    use super::super::Sums;
    use super::*;
    use crate::store::Store;
    use crate::store::samples::{Sample, store_with};

    const ALL: Range<'_> =
        Range { from_ms: i64::MIN, until_ms: i64::MAX, key: None, tenant: None, model: None };

    fn requests(store: &Store, range: &Range<'_>, is_cut: bool) -> u64 {
        let mut sums = Sums::default();
        store.addends(range, &|_| is_cut, &mut |addend| sums.add(&addend.sums)).unwrap();
        sums.requests
    }

    fn rows(store: &Store) -> i64 {
        store.connection().query_row("SELECT count(*) FROM requests", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn old_rows_go_in_batches_by_whole_hours_and_the_sums_stay() {
        // Ten requests an hour for ten hours.
        let sample = |id: u64| Sample { id, at_ms: id as i64 * HOUR_MS / 10, ..Sample::default() };
        let samples: Vec<_> = (0..100).map(sample).collect();
        let (_dir, mut store) = store_with(&samples);
        assert_eq!(store.rows_from_ms().unwrap(), 0);
        let half_past_four = 4 * HOUR_MS + HOUR_MS / 2;
        let batches: Vec<_> =
            (0..5).map(|_| store.expire(half_past_four, 15, &mut || ()).unwrap()).collect();
        assert_eq!(batches, [15, 15, 10, 0, 0]);
        assert_eq!((rows(&store), store.rows_from_ms().unwrap()), (60, 4 * HOUR_MS));
        assert_eq!(requests(&store, &ALL, false), 100);
        // An hour without rows cannot be cut: it is counted whole, where it begins.
        assert_eq!(requests(&store, &ALL, true), 100);
        let from = |minutes: i64| Range { from_ms: minutes * 60_000, ..ALL };
        let until = |minutes: i64| Range { until_ms: minutes * 60_000, ..ALL };
        assert_eq!(requests(&store, &from(30), false), 90);
        assert_eq!(requests(&store, &until(30), false), 10);
        assert_eq!(requests(&store, &until(4 * 60 + 30), false), 45);
        let within = Range { from_ms: 600_000, until_ms: 1_200_000, ..ALL };
        assert_eq!(requests(&store, &within, false), 0);
        // A clock that was wrong does not move the horizon back.
        assert_eq!(store.expire(HOUR_MS, 15, &mut || ()).unwrap(), 0);
        assert_eq!(store.rows_from_ms().unwrap(), 4 * HOUR_MS);
    }
}
