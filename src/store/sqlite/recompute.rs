//! Roll-ups as the rows say they should be, hour by hour, and putting them right. Nothing larger than one
//! hour's roll-ups is held at once.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Transaction, params};

use crate::record::Row;
use crate::usage::Flags;

use super::append::{SELECT_ROW, add_to_rollup, columns};
use super::balances::Accounts;
use super::day_sums::refold;
use super::expire::rows_from_ms;
use super::sums::{rollups_of, rows_between};
use super::{
    Addend, Balance, Changed, Counts, Differing, EVERYTHING, HOUR_MS, Owner, Sqlite, StoreError,
    Sums, counts, hour_of, to_sql,
};

/// The roll-ups of an hour.
type Rollups = BTreeMap<Owner, Sums>;

pub(super) const DELETE_ROLLUP: &str =
    "DELETE FROM rollups WHERE hour = ?1 AND key_id = ?2 AND model = ?3 AND tenant = ?4";

impl Sqlite {
    pub(super) fn next_hour(&self, hour: i64) -> Result<Option<i64>, StoreError> {
        let first = |sql: &str, from: i64| -> Result<Option<i64>, StoreError> {
            Ok(self.conn.prepare_cached(sql)?.query_row([from], |row| row.get(0))?)
        };
        let from_ms = hour.saturating_mul(HOUR_MS);
        let rows = "SELECT min(started_at_ms) FROM requests WHERE started_at_ms >= ?1";
        let rows = first(rows, from_ms)?.map(hour_of);
        let rollups = first("SELECT min(hour) FROM rollups WHERE hour >= ?1", hour)?;
        Ok(rows.into_iter().chain(rollups).min())
    }

    pub(super) fn differing(&self, hour: i64) -> Result<(Vec<Differing>, u64), StoreError> {
        differing(&self.conn, hour)
    }

    pub(super) fn rebuild_hour(&mut self, hour: i64) -> Result<(), StoreError> {
        let tx = self.write()?;
        rebuild(&tx, hour)?;
        Ok(tx.commit()?)
    }

    pub(super) fn balances_of_rows(
        &self,
        from_ms: i64,
        until_ms: i64,
    ) -> Result<Vec<Balance>, StoreError> {
        let mut accounts = Accounts::default();
        rows_between(&self.conn, &EVERYTHING, (from_ms, until_ms), &mut |addend| {
            accounts.add(addend.tenant, addend.key_id, Counts::of(&addend.sums));
        })?;
        Ok(accounts.balances())
    }

    pub(super) fn changed(&self, row: &Row) -> Result<Option<Vec<Changed>>, StoreError> {
        let mut select = self.conn.prepare_cached(SELECT_ROW)?;
        let mut found = select.query([row.opened.event_id.0])?;
        let Some(found) = found.next()? else { return Ok(None) };
        let is_redated = Flags(found.get("flags")?).contains(Flags::REDATED);
        let mut row = Cow::Borrowed(row);
        if is_redated {
            let row = row.to_mut();
            row.opened.started_at_ms = found.get("started_at_ms")?;
            row.closed.flags.set(Flags::REDATED);
        }
        let mut changed = Vec::new();
        for (at, recorded) in columns(&row).into_iter().enumerate() {
            let stored = found.get_ref(at)?;
            if stored != recorded {
                let field = found.as_ref().column_name(at)?.to_owned();
                let (stored, recorded) = (shown(&field, stored), shown(&field, recorded));
                changed.push(Changed { field, stored, recorded });
            }
        }
        Ok(Some(changed))
    }
}

/// See [`Sqlite::rebuild_hour`], within a transaction that writes.
pub(super) fn rebuild(tx: &Transaction<'_>, hour: i64) -> Result<(), StoreError> {
    if hour.saturating_mul(HOUR_MS) < rows_from_ms(tx)? {
        return Ok(());
    }
    for Differing { owner, recomputed, .. } in differing(tx, hour)?.0 {
        let Owner { key_id, model, tenant } = &owner;
        tx.prepare_cached(DELETE_ROLLUP)?.execute(params![hour, key_id, model, tenant])?;
        if let Some(sums) = recomputed {
            add_to_rollup(tx, (hour, key_id, model, tenant), &sums)?;
        }
        refold(tx, hour, tenant, key_id)?;
    }
    Ok(())
}

/// A value as reports show it.
fn shown(field: &str, value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "none".to_owned(),
        ValueRef::Integer(version) if field == "price_version" => format!("{version:012x}"),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into(),
    }
}

fn differing(conn: &Connection, hour: i64) -> Result<(Vec<Differing>, u64), StoreError> {
    let (stored, recomputed) = (stored(conn, hour)?, recomputed(conn, hour)?);
    let rows = recomputed.values().map(|sums| sums.requests).sum();
    let owners: BTreeSet<_> = stored.keys().chain(recomputed.keys()).collect();
    let differing = owners.into_iter().filter_map(|owner| {
        let (stored, recomputed) = (stored.get(owner), recomputed.get(owner));
        (stored != recomputed).then(|| Differing {
            owner: owner.clone(),
            stored: stored.copied(),
            recomputed: recomputed.copied(),
        })
    });
    Ok((differing.collect(), rows))
}

fn stored(conn: &Connection, hour: i64) -> Result<Rollups, StoreError> {
    let mut rollups = Rollups::new();
    rollups_of(conn, &EVERYTHING, hour, &mut |addend| {
        rollups.entry(Owner::of(&addend)).or_default().add(&addend.sums);
    })?;
    Ok(rollups)
}

fn recomputed(conn: &Connection, hour: i64) -> Result<Rollups, StoreError> {
    let begin = hour.saturating_mul(HOUR_MS);
    let mut rollups = Rollups::new();
    rows_between(conn, &EVERYTHING, (begin, begin.saturating_add(HOUR_MS)), &mut |addend| {
        rollups.entry(Owner::of(&addend)).or_default().add(&addend.sums);
    })?;
    rollups.values_mut().for_each(as_stored);
    Ok(rollups)
}

/// Sums stop at the largest number that SQLite can hold.
fn as_stored(sums: &mut Sums) {
    for count in counts(&mut sums.usage) {
        *count = to_sql(*count).unsigned_abs();
    }
}

impl Owner {
    fn of(addend: &Addend<'_>) -> Self {
        Self {
            key_id: addend.key_id.to_owned(),
            model: addend.model.to_owned(),
            tenant: addend.tenant.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::store::samples::{Sample, store_with};

    #[test]
    fn an_hour_whose_rows_went_meanwhile_keeps_its_rollups() {
        let sample = |id: u64| Sample { id, at_ms: id as i64 * HOUR_MS, ..Sample::default() };
        let samples: Vec<_> = (0..48).map(sample).collect();
        let (_dir, mut store) = store_with(&samples);
        store.fold(48, 100, &mut || ()).unwrap();
        let spoil = "UPDATE rollups SET total_tokens = 99 WHERE hour IN (3, 30)";
        store.connection().execute(spoil, []).unwrap();
        assert_eq!(store.differing(3).unwrap().0.len(), 1);
        // Between looking and mending, retention has a look of its own.
        store.expire(24 * HOUR_MS, 7, &mut || ()).unwrap();
        store.rebuild_hour(3).unwrap();
        store.rebuild_hour(23).unwrap();
        store.rebuild_hour(30).unwrap();
        let requests = |store: &Store| store.balances(0, 48 * HOUR_MS).unwrap()[0].requests;
        assert_eq!(requests(&store), 48, "sums whose rows are gone, or going, are all there is");
        let total = "SELECT sum(total_tokens) FROM rollups";
        let total = store.connection().query_row(total, [], |row| row.get(0));
        assert_eq!(total, Ok(48 * 10 + 89), "and what still has rows is mended");
    }
}
