//! Roll-ups folded by the day: what each key used in each day of UTC, of which a month's balances are
//! read at a start. Hourly roll-ups, a day and a key have up to 24 times as many as there are models.
//!
//! Roll-ups are folded in the order of their primary key once their hour is over, each once; the position
//! of the last one moves in the same transaction. So whoever adds to a roll-up need only look whether it
//! stands before the position: if it does, its day gets the same. An ordinary row is of the hour that runs,
//! and its day costs nothing.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, Row, params};

use super::balances::counts_at;
use super::sums::rollups_of;
use super::{Counts, DifferingDay, EVERYTHING, Range, Sqlite, StoreError, Sums, to_sql};

/// Hours in a day of UTC.
pub(super) const DAY_HOURS: i64 = 24;

/// Whose sum it is: tenant and key id.
type Owner = (String, String);

/// Up to where roll-ups are in their day's sums: the primary key of the last that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Folded {
    pub(super) hour: i64,
    pub(super) key_id: String,
    pub(super) model: String,
    pub(super) tenant: String,
}

const UNFOLDED: &str = "
SELECT hour, key_id, model, tenant, requests, total_tokens, cost_nano_usd FROM rollups
WHERE (hour, key_id, model, tenant) > (?1, ?2, ?3, ?4) AND hour < ?5
ORDER BY hour, key_id, model, tenant LIMIT ?6";

const OF_DAY: &str = "
SELECT hour, key_id, model, tenant, requests, total_tokens, cost_nano_usd FROM rollups
WHERE hour >= ?1 AND hour < ?2";

/// Sums stop at the largest integer; see the roll-ups'.
const ADD: &str = "
INSERT INTO day_sums (day, tenant, key_id, requests, total_tokens, nano_usd)
VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (day, tenant, key_id) DO UPDATE SET
    requests = min(requests + excluded.requests, 9223372036854775807),
    total_tokens = min(total_tokens + excluded.total_tokens, 9223372036854775807),
    nano_usd = min(nano_usd + excluded.nano_usd, 9223372036854775807)";

const DELETE: &str = "DELETE FROM day_sums WHERE day = ?1 AND tenant = ?2 AND key_id = ?3";

impl Sqlite {
    pub(super) fn fold(
        &mut self,
        before: i64,
        limit: usize,
        step: &mut dyn FnMut(),
    ) -> Result<usize, StoreError> {
        if unfolded(&self.conn, &Folded::of(&self.conn)?, before, 1, |_| ())? == 0 {
            return Ok(0);
        }
        let tx = self.write()?;
        let mut folded = Folded::of(&tx)?;
        let mut days: BTreeMap<(i64, Owner), Counts> = BTreeMap::new();
        let mut last = None;
        let count = unfolded(&tx, &folded, before, limit, |(rollup, counts)| {
            let owner = (rollup.tenant.clone(), rollup.key_id.clone());
            days.entry((day_of(rollup.hour), owner)).or_default().add(counts);
            last = Some(rollup);
            step();
        })?;
        for ((day, (tenant, key_id)), counts) in &days {
            add(&tx, *day, tenant, key_id, *counts)?;
            step();
        }
        if let Some(last) = last {
            folded = last;
        }
        folded.keep(&tx)?;
        tx.commit()?;
        Ok(count)
    }

    pub(super) fn next_day(&self, day: i64) -> Result<Option<i64>, StoreError> {
        let first = |sql: &str, from: i64| -> Result<Option<i64>, StoreError> {
            Ok(self.conn.prepare_cached(sql)?.query_row([from], |row| row.get(0))?)
        };
        let folded = Folded::of(&self.conn)?.hour;
        let sums = first("SELECT min(day) FROM day_sums WHERE day >= ?1", day)?;
        let from = day.saturating_mul(DAY_HOURS);
        let rollups = first("SELECT min(hour) FROM rollups WHERE hour >= ?1", from)?;
        let rollups = rollups.filter(|hour| *hour <= folded).map(day_of);
        Ok(sums.into_iter().chain(rollups).min())
    }

    pub(super) fn differing_day(&self, day: i64) -> Result<Vec<DifferingDay>, StoreError> {
        differing(&self.conn, day)
    }

    pub(super) fn rebuild_day(&mut self, day: i64) -> Result<(), StoreError> {
        let tx = self.write()?;
        for one in differing(&tx, day)? {
            set(&tx, day, &one.tenant, &one.key_id, one.recomputed)?;
        }
        Ok(tx.commit()?)
    }
}

impl Folded {
    /// The position as the store has it, which another process may move meanwhile.
    pub(super) fn of(conn: &Connection) -> Result<Self, StoreError> {
        let mut select = conn.prepare_cached("SELECT hour, key_id, model, tenant FROM folded")?;
        Ok(select.query_row([], Self::at)?)
    }

    /// From a row that begins with a roll-up's primary key.
    fn at(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        Ok(Self { hour: row.get(0)?, key_id: row.get(1)?, model: row.get(2)?, tenant: row.get(3)? })
    }

    fn keep(&self, conn: &Connection) -> Result<(), StoreError> {
        let update = "UPDATE folded SET hour = ?1, key_id = ?2, model = ?3, tenant = ?4";
        let position = params![self.hour, self.key_id, self.model, self.tenant];
        conn.prepare_cached(update)?.execute(position)?;
        Ok(())
    }

    /// Whether a roll-up is in its day's sum: its hour, key id, model and tenant, compared as SQLite
    /// compares them, byte by byte.
    pub(super) fn has(&self, rollup: (i64, &str, &str, &str)) -> bool {
        rollup <= (self.hour, &*self.key_id, &*self.model, &*self.tenant)
    }
}

/// Adds what was added to a roll-up of that day which is folded already.
pub(super) fn add_late(
    conn: &Connection,
    (hour, key_id, _, tenant): (i64, &str, &str, &str),
    sums: &Sums,
) -> Result<(), StoreError> {
    add(conn, day_of(hour), tenant, key_id, Counts::of(sums))
}

/// Makes one key's sum of the day in which `hour` lies what its folded roll-ups add up to.
pub(super) fn refold(
    conn: &Connection,
    hour: i64,
    tenant: &str,
    key_id: &str,
) -> Result<(), StoreError> {
    let folded = Folded::of(conn)?;
    let range = Range { key: Some(key_id), tenant: Some(tenant), ..EVERYTHING };
    let day = day_of(hour);
    let begin = day.saturating_mul(DAY_HOURS);
    let mut recomputed: Option<Counts> = None;
    for hour in begin..begin.saturating_add(DAY_HOURS) {
        rollups_of(conn, &range, hour, &mut |addend| {
            if folded.has((hour, addend.key_id, addend.model, addend.tenant)) {
                recomputed.get_or_insert_default().add(Counts::of(&addend.sums));
            }
        })?;
    }
    set(conn, day, tenant, key_id, recomputed)
}

fn day_of(hour: i64) -> i64 {
    hour.div_euclid(DAY_HOURS)
}

/// Hands `each` the roll-ups behind the position, in their order; returns how many.
fn unfolded(
    conn: &Connection,
    folded: &Folded,
    before: i64,
    limit: usize,
    mut each: impl FnMut((Folded, Counts)),
) -> Result<usize, StoreError> {
    let mut select = conn.prepare_cached(UNFOLDED)?;
    let Folded { hour, key_id, model, tenant } = folded;
    let mut rows = select.query(params![hour, key_id, model, tenant, before, limit as i64])?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        each((Folded::at(row)?, counts_at(row, 4)?));
        count += 1;
    }
    Ok(count)
}

fn differing(conn: &Connection, day: i64) -> Result<Vec<DifferingDay>, StoreError> {
    let (stored, recomputed) = (stored(conn, day)?, recomputed(conn, day)?);
    let owners: BTreeSet<_> = stored.keys().chain(recomputed.keys()).collect();
    let differing = owners.into_iter().filter_map(|owner| {
        let (stored, recomputed) = (stored.get(owner), recomputed.get(owner));
        let (tenant, key_id) = owner.clone();
        (stored != recomputed).then(|| DifferingDay {
            tenant,
            key_id,
            stored: stored.copied(),
            recomputed: recomputed.copied(),
        })
    });
    Ok(differing.collect())
}

fn stored(conn: &Connection, day: i64) -> Result<BTreeMap<Owner, Counts>, StoreError> {
    let mut select = conn.prepare_cached(
        "SELECT tenant, key_id, requests, total_tokens, nano_usd FROM day_sums WHERE day = ?1",
    )?;
    let sums = select
        .query_map([day], |row| Ok(((row.get(0)?, row.get(1)?), counts_at(row, 2)?)))?
        .collect::<Result<_, _>>()?;
    Ok(sums)
}

fn recomputed(conn: &Connection, day: i64) -> Result<BTreeMap<Owner, Counts>, StoreError> {
    let folded = Folded::of(conn)?;
    let begin = day.saturating_mul(DAY_HOURS);
    let mut sums: BTreeMap<Owner, Counts> = BTreeMap::new();
    let mut select = conn.prepare_cached(OF_DAY)?;
    let mut rows = select.query([begin, begin.saturating_add(DAY_HOURS)])?;
    while let Some(row) = rows.next()? {
        let text = |column| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
        let (key_id, model, tenant) = (text(1)?, text(2)?, text(3)?);
        if folded.has((row.get(0)?, key_id, model, tenant)) {
            let owner = (tenant.to_owned(), key_id.to_owned());
            sums.entry(owner).or_default().add(counts_at(row, 4)?);
        }
    }
    Ok(sums)
}

fn add(
    conn: &Connection,
    day: i64,
    tenant: &str,
    key_id: &str,
    counts: Counts,
) -> Result<(), StoreError> {
    let Counts { requests, total_tokens, nano_usd } = counts;
    let values = [requests, total_tokens, nano_usd].map(to_sql);
    let [requests, total_tokens, nano_usd] = values;
    conn.prepare_cached(ADD)?.execute(params![
        day,
        tenant,
        key_id,
        requests,
        total_tokens,
        nano_usd
    ])?;
    Ok(())
}

fn set(
    conn: &Connection,
    day: i64,
    tenant: &str,
    key_id: &str,
    counts: Option<Counts>,
) -> Result<(), StoreError> {
    conn.prepare_cached(DELETE)?.execute(params![day, tenant, key_id])?;
    counts.map_or(Ok(()), |counts| add(conn, day, tenant, key_id, counts))
}
