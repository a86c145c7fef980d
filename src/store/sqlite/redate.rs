//! Giving a believable date to rows that a clock dated to the future which was wrong. Everything else of
//! a row stays: what was used, what it cost, and the price that it names.
//!
//! What a row adds to sums moves with it, in the same transaction: nothing is added up again, so that many
//! rows of one hour cost no more than as many of different ones.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::usage::Flags;

use super::append::add_to_rollup;
use super::day_sums::{Folded, add_late, refold};
use super::expire::rows_from_ms;
use super::recompute::{DELETE_ROLLUP, rebuild};
use super::sums::{rollups_of, row_after};
use super::{EVERYTHING, Misdated, Owner, Range, Sqlite, StoreError, Sums, hour_of};

/// Rows in one transaction: the drain waits for it.
const BATCH: usize = 10_000;
/// Rows that are looked for at once: a look takes as long as there are rows of the future.
const LOOK: usize = 1_000_000;

/// The first rows of the future behind one that is known. The `+` keep SQLite from looking for them in the
/// order of the table, which would be to read all of it.
const FUTURE: &str = "
SELECT rowid FROM requests WHERE started_at_ms > ?1 AND +rowid > ?2 ORDER BY +rowid LIMIT ?3";

/// A row of the future with what it adds to sums.
struct Found {
    rowid: i64,
    row: Misdated,
    sums: Sums,
}

/// What rows add up to, by the roll-up that they belong to.
type Moved = BTreeMap<(i64, Owner), Sums>;

impl Sqlite {
    pub(super) fn misdated(
        &self,
        until_ms: i64,
        now_ms: i64,
        limit: usize,
        each: &mut dyn FnMut(Misdated),
    ) -> Result<(), StoreError> {
        let _snapshot = self.read()?;
        let rowids = future(&self.conn, until_ms, i64::MIN, limit)?;
        misdated(&self.conn, (until_ms, now_ms), &rowids, |found| each(found.row))
    }

    pub(super) fn redate(&mut self, until_ms: i64, now_ms: i64) -> Result<u64, StoreError> {
        self.redate_in((until_ms, now_ms), LOOK, BATCH)
    }

    fn redate_in(
        &mut self,
        times: (i64, i64),
        look: usize,
        batch: usize,
    ) -> Result<u64, StoreError> {
        let (mut redated, mut behind) = (0, i64::MIN);
        loop {
            let rowids = future(&self.conn, times.0, behind, look)?;
            let Some(last) = rowids.last() else { return Ok(redated) };
            behind = *last;
            for rowids in rowids.chunks(batch) {
                redated += self.redate_batch(times, rowids)?;
            }
        }
    }

    fn redate_batch(&mut self, times: (i64, i64), rowids: &[i64]) -> Result<u64, StoreError> {
        let tx = self.write()?;
        let mut rows = Vec::new();
        misdated(&tx, times, rowids, |row| rows.push(row))?;
        let set = "UPDATE requests SET started_at_ms = ?2, flags = flags | ?3 WHERE rowid = ?1";
        let mut set = tx.prepare_cached(set)?;
        let (redated, mut from, mut to) = (rows.len() as u64, Moved::new(), Moved::new());
        for Found { rowid, row, sums } in rows {
            set.execute((rowid, row.redated_ms, Flags::REDATED.0))?;
            let Misdated { key_id, model, tenant, started_at_ms, redated_ms, .. } = row;
            let owner = Owner { key_id, model, tenant };
            to.entry((hour_of(redated_ms), owner.clone())).or_default().add(&sums);
            from.entry((hour_of(started_at_ms), owner)).or_default().add(&sums);
        }
        drop(set);
        add(&tx, &to)?;
        take(&tx, &from)?;
        tx.commit()?;
        Ok(redated)
    }
}

/// Adds to roll-ups, and to the days that these are folded into.
fn add(tx: &Transaction<'_>, moved: &Moved) -> Result<(), StoreError> {
    let folded = Folded::of(tx)?;
    for ((hour, owner), sums) in moved {
        let rollup = (*hour, &*owner.key_id, &*owner.model, &*owner.tenant);
        add_to_rollup(tx, rollup, sums)?;
        if folded.has(rollup) {
            add_late(tx, rollup, sums)?;
        }
    }
    Ok(())
}

/// Takes from roll-ups, and from their days. Where they do not say what is left, rows do.
fn take(tx: &Transaction<'_>, moved: &Moved) -> Result<(), StoreError> {
    let mut unclear = BTreeSet::new();
    for ((hour, Owner { key_id, model, tenant }), sums) in moved {
        let (key, model, tenant) = (&**key_id, &**model, &**tenant);
        let of = Range { key: Some(key), tenant: Some(tenant), model: Some(model), ..EVERYTHING };
        let mut stored = None;
        rollups_of(tx, &of, *hour, &mut |addend| stored = Some(addend.sums))?;
        let Some(left) = stored.and_then(|stored| stored.without(sums)) else {
            unclear.insert(*hour);
            continue;
        };
        tx.prepare_cached(DELETE_ROLLUP)?.execute(params![hour, key, model, tenant])?;
        if left.requests > 0 {
            add_to_rollup(tx, (*hour, key, model, tenant), &left)?;
        }
        refold(tx, *hour, tenant, key)?;
    }
    unclear.into_iter().try_for_each(|hour| rebuild(tx, hour))
}

/// Rows of requests that began after `until_ms`, in the order in which they were stored.
fn future(
    conn: &Connection,
    until_ms: i64,
    behind: i64,
    limit: usize,
) -> Result<Vec<i64>, StoreError> {
    let mut select = conn.prepare_cached(FUTURE)?;
    let rowids = select.query_map((until_ms, behind, limit as i64), |row| row.get(0))?;
    Ok(rowids.collect::<Result<_, _>>()?)
}

/// See [`Sqlite::misdated`]. Those of the rows that are still there, and of the future.
fn misdated(
    conn: &Connection,
    (until_ms, now_ms): (i64, i64),
    rowids: &[i64],
    mut each: impl FnMut(Found),
) -> Result<(), StoreError> {
    let rows_from_ms = rows_from_ms(conn)?;
    let mut before: Option<(i64, i64)> = None;
    for rowid in rowids.iter().copied() {
        row_after(conn, (rowid, until_ms), &mut |addend, event_id| {
            let made_at_ms = event_id.made_at_ms().filter(|made_at_ms| *made_at_ms <= until_ms);
            let redated_ms = match made_at_ms {
                Some(made_at_ms) => made_at_ms,
                None => stored_before(conn, rowid, before)?.unwrap_or(now_ms),
            };
            // Before this, hours have no rows any more, and their sums stand alone.
            let redated_ms = redated_ms.max(rows_from_ms);
            before = Some((rowid, redated_ms));
            let row = Misdated {
                event_id,
                tenant: addend.tenant.to_owned(),
                key_id: addend.key_id.to_owned(),
                model: addend.model.to_owned(),
                started_at_ms: addend.at_ms,
                redated_ms,
            };
            each(Found { rowid, row, sums: addend.sums });
            Ok(())
        })?;
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
    use rusqlite::StatementStatus;

    use super::super::sums::{ROLLUPS, ROW, ROWS};
    use super::*;
    use crate::store::Store;
    use crate::store::samples::{HOUR_MS, Sample, store_with};
    use crate::usage::{Usage, UsageSource};

    const NOW_MS: i64 = 1_000 * HOUR_MS;
    const FUTURE_MS: i64 = 90_000 * HOUR_MS;

    fn starts(store: &Store) -> Vec<i64> {
        let mut starts = store
            .connection()
            .prepare("SELECT started_at_ms FROM requests ORDER BY rowid")
            .unwrap();
        let starts = starts.query_map([], |row| row.get(0)).unwrap();
        starts.collect::<Result<_, _>>().unwrap()
    }

    fn rollups(store: &Store) -> Vec<(i64, i64, i64)> {
        let sql = "SELECT hour, requests, total_tokens FROM rollups ORDER BY hour";
        let mut rollups = store.connection().prepare(sql).unwrap();
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
        for (batch, look) in (1..=rows.len()).flat_map(|batch| [1, 3, 8].map(|look| (batch, look)))
        {
            let (_dir, mut store) = stored(&rows);
            assert_eq!(store.sqlite_mut().redate_in((NOW_MS, NOW_MS), look, batch).unwrap(), 6);
            assert_eq!(starts(&store), expected);
            assert_eq!(rollups(&store), [(999, 7, 70), (1_000, 1, 10)]);
            assert_eq!(store.redate(NOW_MS, NOW_MS).unwrap(), 0);
        }
    }

    #[test]
    fn no_row_goes_back_to_where_rows_were_deleted() {
        let (_dir, mut store) = stored(&[(None, 5 * HOUR_MS), (Some(6 * HOUR_MS), FUTURE_MS)]);
        assert_eq!(store.expire(10 * HOUR_MS, 9, &mut || {}).unwrap(), 1);
        assert_eq!(store.redate(NOW_MS, NOW_MS).unwrap(), 1);
        assert_eq!(starts(&store), [10 * HOUR_MS]);
        assert_eq!(rollups(&store), [(5, 1, 10), (10, 1, 10)]);
    }

    /// Sums that differ from what rows make of them, and days from roll-ups.
    fn differing(store: &Store) -> usize {
        let hours: Vec<_> = rollups(store).into_iter().map(|(hour, ..)| hour).collect();
        let mut days: Vec<_> = hours.iter().map(|hour| hour.div_euclid(24)).collect();
        days.dedup();
        let hours = hours.into_iter().map(|hour| store.differing(hour).unwrap().0.len());
        let days = days.into_iter().map(|day| store.differing_day(day).unwrap().len());
        hours.chain(days).sum()
    }

    #[test]
    fn what_rows_add_to_sums_moves_with_them() {
        const FUTURE_HOUR: i64 = FUTURE_MS / HOUR_MS;
        let sample = |id: u64| Sample {
            id,
            at_ms: FUTURE_MS + id as i64,
            key: ["key_a", "key_b"][id as usize % 2],
            model: ["m", "n", "o"][id as usize % 3],
            // One model has no price, one sometimes.
            cost: (id % 3 > 1 || id % 3 == 1 && !id.is_multiple_of(4)).then_some(id),
            source: UsageSource::ALL[id as usize % 4],
            usage: Usage {
                input: id,
                cached: id / 2,
                output: 3,
                total: id + 3,
                ..Usage::default()
            },
            ..Sample::default()
        };
        // Nothing is folded, the hour that rows go to is, both are, and one of the roll-ups is.
        for (before, limit) in [(0, 0), (2_000, 99), (FUTURE_HOUR + 1, 99), (FUTURE_HOUR + 1, 3)] {
            let (_dir, mut store) = store_with(&[Sample { id: 900, ..sample(0) }]);
            let made = |id: u64| match id % 7 {
                // Some are of the same hour, and are right.
                0 => sample(id).row_made_at(FUTURE_MS as u64 + id),
                _ => sample(id).row_made_at((NOW_MS as u64) + id),
            };
            store.append(&(1..60).map(made).collect::<Vec<_>>(), &[]).unwrap();
            store.fold(before, limit, &mut || ()).unwrap();
            let until_ms = FUTURE_MS + 20;
            assert_eq!(store.sqlite_mut().redate_in((until_ms, NOW_MS), 13, 5).unwrap(), 39);
            assert_eq!(differing(&store), 0, "{before} {limit}");
            assert_eq!(
                store.sqlite_mut().redate_in((NOW_MS + HOUR_MS, NOW_MS), 13, 5).unwrap(),
                27
            );
            assert_eq!(differing(&store), 0, "{before} {limit}");
            assert!(rollups(&store).iter().all(|(hour, ..)| *hour < FUTURE_HOUR));
        }
    }

    #[test]
    fn sums_that_do_not_say_what_is_left_are_made_of_the_rows_that_are() {
        let small = Sample::default().usage;
        let large = Usage { input: u64::MAX, total: 9, ..Usage::default() };
        for (usage, spoil) in [
            (small, "UPDATE rollups SET output_tokens = 2"),
            (small, "UPDATE rollups SET requests = 1"),
            (small, "UPDATE rollups SET cost_nano_usd = 4"),
            (small, "DELETE FROM rollups"),
            (large, "SELECT 1"),
        ] {
            let sample = Sample { cost: Some(3), at_ms: FUTURE_MS, ..Sample::default() };
            let (_dir, mut store) = store_with(&[]);
            let rows = [1, 2].map(|id| Sample { id, ..sample }.row_made_at(NOW_MS as u64));
            let stays = Sample { id: 3, usage, ..sample }.row_made_at(FUTURE_MS as u64);
            store.append(&rows, &[]).unwrap();
            store.append(&[stays], &[]).unwrap();
            store.connection().execute_batch(spoil).unwrap();
            store.sqlite_mut().redate_batch((NOW_MS, NOW_MS), &[1, 2]).unwrap();
            assert_eq!(differing(&store), 0, "{spoil}");
            assert_eq!(rollups(&store).len(), 2);
        }
    }

    #[test]
    fn a_row_of_an_hour_costs_no_more_where_there_are_more_of_them() {
        let steps = |rows: u64| {
            let sample = |id: u64| Sample { id, at_ms: FUTURE_MS, ..Sample::default() };
            let (_dir, mut store) = store_with(&(1..=rows).map(sample).collect::<Vec<_>>());
            assert_eq!(store.sqlite_mut().redate_in((NOW_MS, NOW_MS), LOOK, 10).unwrap(), rows);
            let steps = |sql: &str| {
                let statement = store.connection().prepare_cached(sql).unwrap();
                statement.get_status(StatementStatus::VmStep) as u64
            };
            [FUTURE, ROW, ROWS, ROLLUPS].map(steps).iter().sum::<u64>() / rows
        };
        let (few, many) = (steps(100), steps(3_000));
        assert!(few > 50, "the statements are kept: {few}");
        assert!(many <= few + 10, "{few} steps for each of few, {many} for each of many");
    }

    #[test]
    fn rows_of_the_future_are_found_by_the_index() {
        let (_dir, store) = store_with(&[]);
        let mut plan = store.connection().prepare(&format!("EXPLAIN QUERY PLAN {FUTURE}")).unwrap();
        let plan = plan.query_map((5, 6, 7), |row| row.get("detail")).unwrap();
        let plan: Vec<String> = plan.collect::<Result<_, _>>().unwrap();
        assert!(
            plan.iter()
                .any(|step| step.contains("COVERING INDEX requests_by_time (started_at_ms>?)")),
            "{plan:?}"
        );
        assert!(plan.iter().all(|step| !step.starts_with("SCAN requests")), "{plan:?}");
    }
}
