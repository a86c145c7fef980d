//! What each key has used in a span of time: what quotas count from when a server starts, and when a
//! tenant's time zone changes.
//!
//! A month of a hundred thousand keys is read, so it is read from the shortest there is: the sums of
//! whole days of UTC, roll-ups where the span cuts a day and where hours are not folded yet, and rows where it
//! cuts an hour.

use std::collections::HashMap;

use rusqlite::{Connection, Row, ToSql, params};

use super::day_sums::{DAY_HOURS, Folded};
use super::expire::rows_from_ms;
use super::sums::{Parts, rows_between};
use super::{Balance, Counts, EVERYTHING, Range, Sqlite, StoreError, from_sql};

/// Sums by tenant and key. A text is made once for a key, and not for each of its thirty days.
#[derive(Debug, Default)]
pub(super) struct Accounts(HashMap<String, HashMap<String, Counts>>);

/// The days from `?1` to before `?2`, each by a seek, and in each the tenants, or one of them; see
/// the roll-ups' `with_hours`.
const DAYS: &str = "
WITH RECURSIVE days(d) AS (
    SELECT min(day) FROM day_sums WHERE day >= ?1 AND day < ?2
    UNION ALL
    SELECT (SELECT min(day) FROM day_sums WHERE day > d AND day < ?2) FROM days WHERE d IS NOT NULL)
SELECT tenant, key_id, requests, total_tokens, nano_usd FROM days CROSS JOIN day_sums
WHERE day = d AND tenant >= coalesce(?3, '') AND tenant <= coalesce(?3, x'')";

const HOURS: &str = "
SELECT tenant, key_id, requests, total_tokens, cost_nano_usd FROM rollups
WHERE hour >= ?1 AND hour < ?2 AND (?3 IS NULL OR tenant = ?3)";

/// The roll-ups behind a position.
const UNFOLDED: &str = "
SELECT tenant, key_id, requests, total_tokens, cost_nano_usd FROM rollups
WHERE (hour, key_id, model, tenant) > (?1, ?4, ?5, ?6) AND hour < ?2 AND (?3 IS NULL OR tenant = ?3)";

impl Sqlite {
    /// Hours that a span cuts are summed from rows.
    pub(super) fn balances_in(
        &self,
        tenant: Option<&str>,
        spans: &[(i64, i64)],
    ) -> Result<Vec<Vec<Balance>>, StoreError> {
        // One transaction: a batch that lands between two of these statements is in both or none.
        let _snapshot = self.read()?;
        let of = |span: &(i64, i64)| {
            let conn = &self.conn;
            let mut reading = Reading { conn, tenant, accounts: Accounts::default() };
            reading.span(*span)?;
            Ok(reading.accounts.balances())
        };
        spans.iter().map(of).collect()
    }
}

/// The sum of a span as it is being made.
struct Reading<'a> {
    conn: &'a Connection,
    /// Of whom; `None`: of all.
    tenant: Option<&'a str>,
    accounts: Accounts,
}

impl Reading<'_> {
    fn span(&mut self, span: (i64, i64)) -> Result<(), StoreError> {
        let Parts { rows: [begin, end], hours } = Parts::of(span, rows_from_ms(self.conn)?);
        self.rows(begin)?;
        self.whole_hours(hours)?;
        self.rows(end)
    }

    /// Days of UTC where there are whole ones, and the hours before and behind them.
    fn whole_hours(&mut self, (from, until): (i64, i64)) -> Result<(), StoreError> {
        let first = from.div_euclid(DAY_HOURS) + i64::from(from.rem_euclid(DAY_HOURS) != 0);
        let end = until.div_euclid(DAY_HOURS);
        if first >= end {
            return self.hours((from, until));
        }
        let (first_hour, end_hour) = (first * DAY_HOURS, end * DAY_HOURS);
        self.hours((from, first_hour))?;
        let tenant = self.tenant;
        self.query(DAYS, params![first, end, tenant])?;
        self.unfolded((first_hour, end_hour))?;
        self.hours((end_hour, until))
    }

    fn rows(&mut self, between: (i64, i64)) -> Result<(), StoreError> {
        let range = Range { tenant: self.tenant, ..EVERYTHING };
        rows_between(self.conn, &range, between, &mut |addend| {
            self.accounts.add(addend.tenant, addend.key_id, Counts::of(&addend.sums));
        })
    }

    fn hours(&mut self, (from, until): (i64, i64)) -> Result<(), StoreError> {
        let tenant = self.tenant;
        self.query(HOURS, params![from, until, tenant])
    }

    /// The roll-ups of some hours that are in no day's sum yet.
    fn unfolded(&mut self, (from, until): (i64, i64)) -> Result<(), StoreError> {
        let folded = Folded::of(self.conn)?;
        if folded.hour < from {
            return self.hours((from, until));
        }
        let (tenant, Folded { hour, key_id, model, tenant: owner }) = (self.tenant, folded);
        self.query(UNFOLDED, params![hour, until, tenant, key_id, model, owner])
    }

    fn query(&mut self, sql: &str, params: &[&dyn ToSql]) -> Result<(), StoreError> {
        let mut statement = self.conn.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        while let Some(row) = rows.next()? {
            let text = |column| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
            self.accounts.add(text(0)?, text(1)?, counts_at(row, 2)?);
        }
        Ok(())
    }
}

impl Accounts {
    pub(super) fn add(&mut self, tenant: &str, key_id: &str, counts: Counts) {
        let known = self.0.get_mut(tenant).and_then(|keys| keys.get_mut(key_id));
        if let Some(known) = known {
            return known.add(counts);
        }
        self.0.entry(tenant.to_owned()).or_default().insert(key_id.to_owned(), counts);
    }

    /// By tenant and key id, in order.
    pub(super) fn balances(self) -> Vec<Balance> {
        let of = |(tenant, keys): (String, HashMap<String, Counts>)| {
            keys.into_iter()
                .map(move |(key_id, counts)| Balance::of(tenant.clone(), key_id, counts))
        };
        let mut balances: Vec<_> = self.0.into_iter().flat_map(of).collect();
        balances.sort_unstable_by(|a, b| (&a.tenant, &a.key_id).cmp(&(&b.tenant, &b.key_id)));
        balances
    }
}

/// From three columns, of which the cost may be null.
pub(super) fn counts_at(row: &Row<'_>, first: usize) -> Result<Counts, rusqlite::Error> {
    Ok(Counts {
        requests: from_sql(row.get(first)?),
        total_tokens: from_sql(row.get(first + 1)?),
        nano_usd: from_sql(row.get::<_, Option<i64>>(first + 2)?.unwrap_or(0)),
    })
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::store::samples::{minutes, store_with};

    #[test]
    fn no_balance_reads_all_rollups_or_all_days() {
        let (_dir, store) = store_with(&minutes());
        let hours = "rollups USING PRIMARY KEY (hour>? AND hour<?)";
        let unfolded =
            "rollups USING PRIMARY KEY ((hour,key_id,model,tenant)>(?,?,?,?) AND hour<?)";
        let days = "day_sums USING PRIMARY KEY (day=? AND tenant>? AND tenant<?)";
        for (sql, wanted) in [(HOURS, hours), (UNFOLDED, unfolded), (DAYS, days)] {
            let mut plan =
                store.connection().prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let nulls = vec![rusqlite::types::Null; plan.parameter_count()];
            let steps =
                plan.query_map(rusqlite::params_from_iter(nulls), |row| row.get::<_, String>(3));
            let steps: Vec<_> = steps.unwrap().collect::<Result<_, _>>().unwrap();
            assert!(steps.contains(&format!("SEARCH {wanted}")), "{wanted}: {steps:#?}");
            let is_scan = |step: &String| step.starts_with("SCAN") && !step.contains("days");
            assert!(!steps.iter().any(is_scan), "{steps:#?}");
        }
    }
}
