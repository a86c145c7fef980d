//! Summing up a span of time: roll-ups for its whole hours, rows where it cuts an hour.
//!
//! A day in a time zone half an hour off begins in the middle of a roll-up; so does "the last seven
//! days". Only those hours are read row by row.

use std::collections::BTreeSet;

use rusqlite::{Connection, params};

use crate::record::EventId;
use crate::usage::Usage;

use super::{Addend, HOUR_MS, Range, Sqlite, StoreError, Sums, from_sql, hour_of};

/// What the sum of a span consists of: whole hours, and rows of the hours that it cuts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    /// At the begin and at the end: from and until before, in milliseconds since the epoch.
    pub(super) rows: [(i64, i64); 2],
    /// From and until before, in hours since the epoch.
    pub(super) hours: (i64, i64),
}

/// The hours from `?2` to before `?3` that have roll-ups, the newest first, one seek each:
/// `SELECT DISTINCT` would read all roll-ups. Within an hour, roll-ups are in the order of keys, so
/// those of one key are another seek; for all keys the bounds are the least and the greatest text
/// (any blob comes after all texts).
macro_rules! with_hours {
    ($select:literal $(, $end:literal)?) => {
        concat!(
            "WITH RECURSIVE hours(h) AS (
                SELECT max(hour) FROM rollups WHERE hour >= ?2 AND hour < ?3
                UNION ALL
                SELECT (SELECT max(hour) FROM rollups WHERE hour >= ?2 AND hour < h)
                FROM hours WHERE h IS NOT NULL) ",
            $select,
            " hour = h AND key_id >= coalesce(?1, '') AND key_id <= coalesce(?1, x'')
                AND (?4 IS NULL OR tenant = ?4) AND (?5 IS NULL OR model = ?5)"
            $(, $end)?
        )
    };
}

/// `CROSS JOIN` keeps SQLite from turning the loops around (<https://sqlite.org/optoverview.html>,
/// "manual control of query plans").
pub(super) const ROLLUPS: &str = with_hours!(
    "SELECT tenant, key_id, model, hour, requests, estimated_requests, unpriced_requests,
        input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, audio_input_tokens,
        audio_output_tokens, image_input_tokens, image_output_tokens, accepted_prediction_tokens,
        rejected_prediction_tokens, total_tokens, cost_nano_usd
    FROM hours CROSS JOIN rollups WHERE"
);

/// The hours in which anything passes the filter.
const HOURS: &str =
    with_hours!("SELECT h FROM hours WHERE EXISTS (SELECT 1 FROM rollups WHERE", ")");

/// Rows as [`Addend`]s.
macro_rules! of_rows {
    ($rest:literal) => {
        concat!(
            "SELECT r.tenant, r.key_id, r.model, r.started_at_ms, 1,
        r.usage_source IN ('running', 'estimated'), r.cost_nano_usd IS NULL, r.input_tokens,
        r.cached_tokens, r.cache_write_tokens, r.output_tokens, r.reasoning_tokens, r.audio_input_tokens,
        r.audio_output_tokens, r.image_input_tokens, r.image_output_tokens,
        r.accepted_prediction_tokens, r.rejected_prediction_tokens, r.total_tokens,
        r.cost_nano_usd",
            $rest
        )
    };
}

/// The index alone says whose a row is: only the rows of the key are read.
pub(super) const ROWS: &str = of_rows!(
    "
    FROM requests AS one CROSS JOIN requests AS r ON r.rowid = one.rowid
    WHERE one.started_at_ms >= ?2 AND one.started_at_ms < ?3 AND (?1 IS NULL OR one.key_id = ?1)
        AND (?4 IS NULL OR r.tenant = ?4) AND (?5 IS NULL OR r.model = ?5)"
);

/// One row, if its request began after some moment, with its event id.
pub(super) const ROW: &str =
    of_rows!(", r.event_id FROM requests AS r WHERE r.rowid = ?1 AND r.started_at_ms > ?2");

impl Sqlite {
    pub(super) fn addends(
        &self,
        range: &Range<'_>,
        cut: &dyn Fn(i64) -> bool,
        each: &mut dyn FnMut(Addend<'_>),
    ) -> Result<(), StoreError> {
        // One transaction: a batch that lands between two of these statements is in both or none.
        let _snapshot = self.read()?;
        let tx = &self.conn;
        let rows_from_ms = self.rows_from_ms()?;
        let Parts { rows: [begin, end], hours } =
            Parts::of((range.from_ms, range.until_ms), rows_from_ms);
        query(tx, ROWS, range, begin, each)?;
        let mut cut_hours = BTreeSet::new();
        query(tx, ROLLUPS, range, hours, &mut |mut addend| {
            addend.at_ms = addend.at_ms.saturating_mul(HOUR_MS);
            if addend.at_ms >= rows_from_ms && cut(addend.at_ms) {
                cut_hours.insert(addend.at_ms);
            } else {
                each(addend);
            }
        })?;
        for begin in cut_hours {
            query(tx, ROWS, range, (begin, begin.saturating_add(HOUR_MS)), each)?;
        }
        query(tx, ROWS, range, end, each)
    }
}

impl Parts {
    /// Of a span in milliseconds since the epoch. Before `rows_from_ms` there are no rows.
    pub(super) fn of((from_ms, until_ms): (i64, i64), rows_from_ms: i64) -> Self {
        let first = hour_of(from_ms) + i64::from(from_ms.rem_euclid(HOUR_MS) != 0);
        let mut end = hour_of(until_ms);
        if end.saturating_mul(HOUR_MS) < rows_from_ms && until_ms.rem_euclid(HOUR_MS) != 0 {
            // Its rows are gone: the hour belongs to the range that it begins in.
            end += 1;
        }
        if end < first {
            return Self { rows: [(from_ms, until_ms), (0, 0)], hours: (0, 0) };
        }
        let rows = [(from_ms, first * HOUR_MS), (end * HOUR_MS, until_ms)];
        Self { rows, hours: (first, end) }
    }
}

/// Hands `each` the hours of the range in which requests pass its filter, the newest first, as
/// ranges that lie within it, until `each` has enough and says false.
pub(crate) fn hours_of<'a>(
    conn: &Connection,
    range: &Range<'a>,
    mut each: impl FnMut(&Range<'a>) -> Result<bool, StoreError>,
) -> Result<(), StoreError> {
    let mut statement = conn.prepare_cached(HOURS)?;
    let (from, until) = (hour_of(range.from_ms), hour_of(range.until_ms) + 1);
    let mut hours = statement.query(params![range.key, from, until, range.tenant, range.model])?;
    while let Some(row) = hours.next()? {
        let begin_ms = row.get::<_, i64>(0)?.saturating_mul(HOUR_MS);
        let hour = Range {
            from_ms: range.from_ms.max(begin_ms),
            until_ms: range.until_ms.min(begin_ms.saturating_add(HOUR_MS)),
            ..*range
        };
        if !each(&hour)? {
            break;
        }
    }
    Ok(())
}

/// Hands `each` the rows between two moments (milliseconds since the epoch) that pass the filter.
pub(super) fn rows_between(
    conn: &Connection,
    range: &Range<'_>,
    between: (i64, i64),
    each: &mut dyn FnMut(Addend<'_>),
) -> Result<(), StoreError> {
    query(conn, ROWS, range, between, each)
}

/// Hands `each` the row of a request that began after `after_ms`, with its event id.
pub(super) fn row_after(
    conn: &Connection,
    (rowid, after_ms): (i64, i64),
    each: &mut impl FnMut(Addend<'_>, EventId) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut statement = conn.prepare_cached(ROW)?;
    let mut found = statement.query((rowid, after_ms))?;
    match found.next()? {
        Some(row) => each(addend(row)?, EventId(row.get(20)?)),
        None => Ok(()),
    }
}

/// Hands `each` the roll-ups of one hour (since the epoch) that pass the filter.
pub(super) fn rollups_of(
    conn: &Connection,
    range: &Range<'_>,
    hour: i64,
    each: &mut dyn FnMut(Addend<'_>),
) -> Result<(), StoreError> {
    query(conn, ROLLUPS, range, (hour, hour.saturating_add(1)), each)
}

/// Runs [`ROLLUPS`] or [`ROWS`] over `from..until`, in hours or milliseconds.
fn query(
    conn: &Connection,
    sql: &str,
    range: &Range<'_>,
    (from, until): (i64, i64),
    each: &mut dyn FnMut(Addend<'_>),
) -> Result<(), StoreError> {
    if from >= until {
        return Ok(());
    }
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params![range.key, from, until, range.tenant, range.model])?;
    while let Some(row) = rows.next()? {
        each(addend(row)?);
    }
    Ok(())
}

/// From the columns of [`ROLLUPS`] and [`ROWS`].
fn addend<'a>(row: &'a rusqlite::Row<'_>) -> Result<Addend<'a>, StoreError> {
    let text = |column| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
    Ok(Addend {
        tenant: text(0)?,
        key_id: text(1)?,
        model: text(2)?,
        at_ms: row.get(3)?,
        sums: Sums {
            requests: from_sql(row.get(4)?),
            estimated_requests: from_sql(row.get(5)?),
            unpriced_requests: from_sql(row.get(6)?),
            usage: usage_at(row, 7)?,
            cost_nano_usd: row.get(19)?,
        },
    })
}

/// The twelve token columns, which stand in the same order everywhere, from `first` on; the rest is
/// not set.
pub(crate) fn usage_at(row: &rusqlite::Row<'_>, first: usize) -> Result<Usage, rusqlite::Error> {
    let tokens = |column: usize| Ok::<_, rusqlite::Error>(from_sql(row.get(first + column)?));
    Ok(Usage {
        input: tokens(0)?,
        cached: tokens(1)?,
        cache_write: tokens(2)?,
        output: tokens(3)?,
        reasoning: tokens(4)?,
        audio_input: tokens(5)?,
        audio_output: tokens(6)?,
        image_input: tokens(7)?,
        image_output: tokens(8)?,
        accepted_prediction: tokens(9)?,
        rejected_prediction: tokens(10)?,
        total: tokens(11)?,
        ..Usage::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::samples::{minutes, store_with};

    #[test]
    fn no_sum_reads_all_rows_or_all_rollups() {
        let (_dir, store) = store_with(&minutes());
        for sql in [ROLLUPS, HOURS, ROWS] {
            let mut plan =
                store.connection().prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let steps = plan
                .query_map(params![None::<&str>, 0, 1, None::<&str>, None::<&str>], |row| {
                    row.get::<_, String>(3)
                })
                .unwrap();
            let plain = |step: String| step.replace(" EXISTS", "");
            let steps: Vec<_> =
                steps.map(|step| step.map(plain)).collect::<Result<_, _>>().unwrap();
            let (all, wanted) = if sql == ROWS {
                let range = "COVERING INDEX requests_by_time (started_at_ms>? AND started_at_ms<?)";
                (
                    "SCAN r",
                    [format!("one USING {range}"), "r USING INTEGER PRIMARY KEY (rowid=?)".into()],
                )
            } else {
                let hour = "rollups USING PRIMARY KEY (hour=? AND key_id>? AND key_id<?)";
                let hours = "rollups USING PRIMARY KEY (hour>? AND hour<?)";
                ("SCAN rollups", [hour.to_owned(), hours.to_owned()])
            };
            assert!(!steps.iter().any(|step| step.starts_with(all)), "{steps:#?}");
            for step in wanted {
                assert!(steps.contains(&format!("SEARCH {step}")), "{step}: {steps:#?}");
            }
        }
    }
}
