//! Giving a believable date to rows that a clock dated to the future which was wrong. Everything else of
//! a row stays: what was used, what it cost, and the price that it names.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension};

use crate::ledger::record::EventId;
use crate::usage::Flags;

use super::recompute::rebuild;
use super::sums::hour_of;
use super::{Store, StoreError};

/// Rows in one transaction: the drain waits for it, and so do the roll-ups that are rebuilt at its end.
const BATCH: usize = 10_000;

const FUTURE: &str = "
SELECT rowid, event_id, tenant, key_id, model, started_at_ms FROM requests
WHERE rowid IN (SELECT rowid FROM requests WHERE started_at_ms > ?1) ORDER BY rowid LIMIT ?2";

/// A row of the future, and the date that it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Misdated {
    rowid: i64,
    pub event_id: EventId,
    pub tenant: String,
    pub key_id: String,
    pub model: String,
    /// Both in milliseconds since the epoch.
    pub started_at_ms: i64,
    pub redated_ms: i64,
}

impl Store {
    /// Hands `each` the rows of requests that began after `until_ms`, in the order in which they were
    /// stored, at most `limit`, with the dates that [`Store::redate`] would give them.
    pub(crate) fn misdated(
        &self,
        until_ms: i64,
        now_ms: i64,
        limit: usize,
        each: impl FnMut(Misdated),
    ) -> Result<(), StoreError> {
        let tx = self.snapshot()?;
        misdated(&self.conn, (until_ms, now_ms), limit, each)?;
        drop(tx);
        Ok(())
    }

    /// Gives the rows of requests that began after `until_ms` a date that can be: that of the clock which
    /// made their id, if it is not too late, too; else that of the row stored before them, or without
    /// one `now_ms`. A row keeps a flag that says so. Returns how many rows these were.
    pub(crate) fn redate(&mut self, until_ms: i64, now_ms: i64) -> Result<u64, StoreError> {
        let mut redated = 0;
        loop {
            let rows = self.redate_batch((until_ms, now_ms), BATCH)?;
            redated += rows as u64;
            if rows < BATCH {
                return Ok(redated);
            }
        }
    }

    fn redate_batch(&mut self, times: (i64, i64), limit: usize) -> Result<usize, StoreError> {
        let tx = self.write()?;
        let mut rows = Vec::new();
        misdated(&tx, times, limit, |row| rows.push(row))?;
        let mut hours = BTreeSet::new();
        let set = "UPDATE requests SET started_at_ms = ?2, flags = flags | ?3 WHERE rowid = ?1";
        let mut set = tx.prepare_cached(set)?;
        for row in &rows {
            set.execute((row.rowid, row.redated_ms, Flags::REDATED.0))?;
            hours.extend([hour_of(row.started_at_ms), hour_of(row.redated_ms)]);
        }
        drop(set);
        hours.into_iter().try_for_each(|hour| rebuild(&tx, hour))?;
        tx.commit()?;
        Ok(rows.len())
    }
}

/// See [`Store::misdated`].
fn misdated(
    conn: &Connection,
    (until_ms, now_ms): (i64, i64),
    limit: usize,
    mut each: impl FnMut(Misdated),
) -> Result<(), StoreError> {
    let rows_from_ms: i64 =
        conn.query_row("SELECT rows_from_ms FROM meta", [], |row| row.get(0))?;
    let mut select = conn.prepare_cached(FUTURE)?;
    let mut rows = select.query((until_ms, limit as i64))?;
    let mut before: Option<(i64, i64)> = None;
    while let Some(row) = rows.next()? {
        let (rowid, event_id) = (row.get(0)?, EventId(row.get(1)?));
        let made_at_ms = event_id.made_at_ms().filter(|made_at_ms| *made_at_ms <= until_ms);
        let redated_ms = match made_at_ms {
            Some(made_at_ms) => made_at_ms,
            None => stored_before(conn, rowid, before)?.unwrap_or(now_ms),
        };
        // Before this, hours have no rows any more, and their sums stand alone.
        let redated_ms = redated_ms.max(rows_from_ms);
        before = Some((rowid, redated_ms));
        each(Misdated {
            rowid,
            event_id,
            tenant: row.get(2)?,
            key_id: row.get(3)?,
            model: row.get(4)?,
            started_at_ms: row.get(5)?,
            redated_ms,
        });
    }
    Ok(())
}

/// When the row began that was stored before this one. If that is `before`, which is to be redated itself,
/// what it will have.
fn stored_before(
    conn: &Connection,
    rowid: i64,
    before: Option<(i64, i64)>,
) -> Result<Option<i64>, StoreError> {
    let sql =
        "SELECT rowid, started_at_ms FROM requests WHERE rowid < ?1 ORDER BY rowid DESC LIMIT 1";
    let found = conn.prepare_cached(sql)?.query_row([rowid], |row| Ok((row.get(0)?, row.get(1)?)));
    let found: Option<(i64, i64)> = found.optional()?;
    let redated = |(rowid, _): &(i64, i64)| before.filter(|(other, _)| other == rowid);
    Ok(found.map(|found| redated(&found).unwrap_or(found).1))
}

#[cfg(test)]
mod tests {
    use super::super::samples::{HOUR_MS, Sample, store_with};
    use super::*;

    const NOW_MS: i64 = 1_000 * HOUR_MS;
    const FUTURE_MS: i64 = 90_000 * HOUR_MS;

    fn starts(store: &Store) -> Vec<i64> {
        let mut starts =
            store.conn.prepare("SELECT started_at_ms FROM requests ORDER BY rowid").unwrap();
        let starts = starts.query_map([], |row| row.get(0)).unwrap();
        starts.collect::<Result<_, _>>().unwrap()
    }

    fn rollups(store: &Store) -> Vec<(i64, i64, i64)> {
        let sql = "SELECT hour, requests, total_tokens FROM rollups ORDER BY hour";
        let mut rollups = store.conn.prepare(sql).unwrap();
        let rollups = rollups.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        rollups.unwrap().collect::<Result<_, _>>().unwrap()
    }

    /// Rows by the clock that made their ids, where that can be told, and their dates.
    fn stored(rows: &[(Option<i64>, i64)]) -> (tempfile::TempDir, Store) {
        let (dir, mut store) = store_with(&[]);
        for (id, (made_at_ms, at_ms)) in (1..).zip(rows) {
            let sample = Sample { id, at_ms: *at_ms, ..Sample::default() };
            let row = match made_at_ms {
                Some(ms) => sample.row_made_at(*ms as u64),
                None => sample.row(),
            };
            store.append(&[row], &[]).unwrap();
        }
        (dir, store)
    }

    #[test]
    fn a_row_gets_the_date_of_its_id_or_of_the_row_before_it_in_batches_of_any_size() {
        let rows = [
            (None, FUTURE_MS),
            (Some(NOW_MS), NOW_MS - 7),
            (Some(FUTURE_MS), FUTURE_MS),
            (None, FUTURE_MS + 1),
            (Some(NOW_MS - HOUR_MS), FUTURE_MS),
            (None, FUTURE_MS),
            (None, NOW_MS - 3),
            (None, FUTURE_MS),
        ];
        let expected = [NOW_MS, -7, -7, -7, -HOUR_MS, -HOUR_MS, -3, -3]
            .map(|ms| if ms > 0 { ms } else { NOW_MS + ms });
        for batch in 1..=rows.len() {
            let (_dir, mut store) = stored(&rows);
            while store.redate_batch((NOW_MS, NOW_MS), batch).unwrap() == batch {}
            assert_eq!(starts(&store), expected);
            assert_eq!(rollups(&store), [(999, 7, 70), (1_000, 1, 10)]);
            assert_eq!(store.redate(NOW_MS, NOW_MS).unwrap(), 0);
        }
    }

    #[test]
    fn no_row_goes_back_to_where_rows_were_deleted() {
        let (_dir, mut store) = stored(&[(None, 5 * HOUR_MS), (Some(6 * HOUR_MS), FUTURE_MS)]);
        assert_eq!(store.expire(10 * HOUR_MS, 9, || {}).unwrap(), 1);
        assert_eq!(store.redate(NOW_MS, NOW_MS).unwrap(), 1);
        assert_eq!(starts(&store), [10 * HOUR_MS]);
        assert_eq!(rollups(&store), [(5, 1, 10), (10, 1, 10)]);
    }

    #[test]
    fn rows_of_the_future_are_found_by_the_index() {
        let (_dir, store) = store_with(&[]);
        let mut plan = store.conn.prepare(&format!("EXPLAIN QUERY PLAN {FUTURE}")).unwrap();
        let plan = plan.query_map((5, 6), |row| row.get("detail")).unwrap();
        let plan: Vec<String> = plan.collect::<Result<_, _>>().unwrap();
        assert!(
            plan.iter().any(|step| step.contains("INDEX requests_by_time (started_at_ms>?)")),
            "{plan:?}"
        );
        assert!(plan.iter().all(|step| !step.starts_with("SCAN requests")), "{plan:?}");
    }
}
