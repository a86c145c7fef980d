//! Writing rows: the drain's one transaction.

use std::collections::BTreeMap;

use rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, OptionalExtension, Transaction, params};

use crate::record::{EventId, Row};
use crate::usage::UsageSource;

use super::day_sums::{Folded, add_late};
use super::hour_of;
use super::{Position, Sqlite, StoreError, Sums, owners, to_sql};

/// What the rows of one batch add to one roll-up.
type Additions<'a> = BTreeMap<(i64, &'a str, &'a str, &'a str), Sums>;

/// What a row is made of, in the order of [`columns`].
macro_rules! columns {
    () => {
        r#"event_id, tenant, key_id, model, model_served, upstream, endpoint,
    started_at_ms, ttfb_ms, duration_ms, status, upstream_status, "end", usage_source,
    input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens,
    audio_input_tokens, audio_output_tokens, image_input_tokens, image_output_tokens,
    accepted_prediction_tokens, rejected_prediction_tokens, total_tokens, output_images, audio_ms,
    raw_usage, reserved_tokens, price_version, cost_nano_usd, reported_cost_nano_usd, attempts,
    streamed, flags, upstream_request_id, upstream_key, failed_attempts"#
    };
}

/// The places of a row's values.
macro_rules! values {
    () => {
        "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,
        ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    };
}

macro_rules! four {
    ($($one:tt)*) => { concat!($($one)*, ", ", $($one)*, ", ", $($one)*, ", ", $($one)*) };
}

const INSERT_ROW: &str =
    concat!("INSERT OR FAIL INTO requests (", columns!(), ") VALUES ", values!());

/// The same for [`MANY`] rows. What a statement costs however few it writes is a fifth of what
/// a row costs by itself.
const INSERT_MANY: &str =
    concat!("INSERT OR FAIL INTO requests (", columns!(), ") VALUES ", four!(four!(values!())));
const MANY: usize = 16;

/// A row as [`INSERT_ROW`] was given it.
pub(super) const SELECT_ROW: &str =
    concat!("SELECT ", columns!(), " FROM requests WHERE event_id = ?1");

/// The parameters of [`INSERT_ROW`].
const COLUMNS: usize = 39;

/// A sum stops at the largest integer: SQLite turns an addition that overflows into a float, which
/// is larger, so that `min` answers the integer.
const ADD_TO_ROLLUP: &str = "
INSERT INTO rollups (hour, key_id, model, tenant, requests, estimated_requests, unpriced_requests,
    input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens,
    audio_input_tokens, audio_output_tokens, image_input_tokens, image_output_tokens,
    accepted_prediction_tokens, rejected_prediction_tokens, total_tokens, cost_nano_usd)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)
ON CONFLICT (hour, key_id, model, tenant) DO UPDATE SET
    requests = requests + excluded.requests,
    estimated_requests = estimated_requests + excluded.estimated_requests,
    unpriced_requests = unpriced_requests + excluded.unpriced_requests,
    input_tokens = min(input_tokens + excluded.input_tokens, 9223372036854775807),
    cached_tokens = min(cached_tokens + excluded.cached_tokens, 9223372036854775807),
    cache_write_tokens = min(cache_write_tokens + excluded.cache_write_tokens, 9223372036854775807),
    output_tokens = min(output_tokens + excluded.output_tokens, 9223372036854775807),
    reasoning_tokens = min(reasoning_tokens + excluded.reasoning_tokens, 9223372036854775807),
    audio_input_tokens = min(audio_input_tokens + excluded.audio_input_tokens, 9223372036854775807),
    audio_output_tokens =
        min(audio_output_tokens + excluded.audio_output_tokens, 9223372036854775807),
    image_input_tokens = min(image_input_tokens + excluded.image_input_tokens, 9223372036854775807),
    image_output_tokens =
        min(image_output_tokens + excluded.image_output_tokens, 9223372036854775807),
    accepted_prediction_tokens =
        min(accepted_prediction_tokens + excluded.accepted_prediction_tokens, 9223372036854775807),
    rejected_prediction_tokens =
        min(rejected_prediction_tokens + excluded.rejected_prediction_tokens, 9223372036854775807),
    total_tokens = min(total_tokens + excluded.total_tokens, 9223372036854775807),
    cost_nano_usd = CASE WHEN excluded.cost_nano_usd IS NULL THEN cost_nano_usd
        ELSE min(coalesce(cost_nano_usd, 0) + excluded.cost_nano_usd, 9223372036854775807) END";

const SET_POSITION: &str = r#"
INSERT INTO positions (segment, "offset") VALUES (?1, ?2)
ON CONFLICT (segment) DO UPDATE SET "offset" = excluded."offset""#;

impl Sqlite {
    pub(super) fn append_stepwise(
        &mut self,
        rows: &[Row],
        positions: &[Position],
        step: &mut dyn FnMut(),
    ) -> Result<usize, StoreError> {
        let most_owners = self.most_owners;
        let tx = self.write()?;
        let mut additions = Additions::new();
        let mut new_owners = Vec::new();
        let mut new = 0;
        // In the order of their ids they go to the end of the table: workers' segments are read one
        // after the other, which would fill the table's pages from two sides. Of one event's rows,
        // the first stays the first.
        let mut sorted: Vec<&Row> = rows.iter().collect();
        sorted.sort_by_key(|row| row.opened.event_id);
        let mut many = Insert::prepare(&tx, INSERT_MANY)?;
        let mut one = Insert::prepare(&tx, INSERT_ROW)?;
        for rows in sorted.chunks(MANY) {
            let written = if rows.len() == MANY { many.write(rows)? } else { 0 };
            for (at, row) in rows.iter().enumerate() {
                if at < written || one.write(std::slice::from_ref(row))? == 1 {
                    new += 1;
                    let opened = &row.opened;
                    new_owners
                        .extend(row.closed.owners.iter().map(|owner| (&*opened.tenant, *owner)));
                    let hour = hour_of(opened.started_at_ms);
                    let rollup = (hour, &*opened.key_id, &*opened.model, &*opened.tenant);
                    additions.entry(rollup).or_default().add(&sums_of(row));
                }
                step();
            }
        }
        drop((many, one));
        let folded = Folded::of(&tx)?;
        for (rollup, sums) in &additions {
            add_to_rollup(&tx, *rollup, sums)?;
            if folded.has(*rollup) {
                add_late(&tx, *rollup, sums)?;
            }
        }
        owners::add(&tx, &new_owners, most_owners)?;
        for position in positions {
            tx.prepare_cached(SET_POSITION)?
                .execute(params![position.segment, to_sql(position.offset)])?;
        }
        let committed = tx.commit();
        self.is_doubtful |= committed.is_err();
        committed?;
        self.content.stored(rows.last().map(|row| row.opened.event_id));
        Ok(new)
    }

    pub(super) fn positions(&self) -> Result<Vec<Position>, StoreError> {
        let mut statement =
            self.conn.prepare_cached(r#"SELECT segment, "offset" FROM positions"#)?;
        let positions = statement.query_map([], |row| {
            Ok(Position { segment: row.get(0)?, offset: super::from_sql(row.get(1)?) })
        })?;
        Ok(positions.collect::<Result<_, _>>()?)
    }

    pub(super) fn position(&self, segment: &str) -> Result<u64, StoreError> {
        let mut statement =
            self.conn.prepare_cached(r#"SELECT "offset" FROM positions WHERE segment = ?1"#)?;
        let offset = statement.query_row([segment], |row| row.get(0)).optional()?;
        Ok(offset.map_or(0, super::from_sql))
    }

    pub(super) fn has_row(&self, event_id: EventId) -> Result<bool, StoreError> {
        let mut statement =
            self.conn.prepare_cached("SELECT 1 FROM requests WHERE event_id = ?1")?;
        Ok(statement.exists([event_id.0])?)
    }
}

/// A statement that writes rows. SQLite keeps what is bound to it, and most of a row is as in the one
/// that stood in its place before: only what differs is bound again.
struct Insert<'a> {
    tx: &'a Transaction<'a>,
    statement: CachedStatement<'a>,
    bound: Vec<[ValueRef<'a>; COLUMNS]>,
}

impl<'a> Insert<'a> {
    fn prepare(tx: &'a Transaction<'a>, sql: &str) -> Result<Self, StoreError> {
        Ok(Self { tx, statement: tx.prepare_cached(sql)?, bound: Vec::new() })
    }

    /// Writes as many rows as the statement has places for, up to the first that is there already;
    /// returns how many.
    fn write(&mut self, rows: &[&'a Row]) -> Result<usize, StoreError> {
        for (place, row) in rows.iter().enumerate() {
            let columns = columns(row);
            // A failure in between ends the batch, and with it what this knows of the statement.
            let bound = self.bound.get(place);
            for (at, value) in columns.iter().enumerate() {
                if bound.is_none_or(|bound| bound[at] != *value) {
                    let index = place * COLUMNS + at + 1;
                    self.statement.raw_bind_parameter(index, ToSqlOutput::Borrowed(*value))?;
                }
            }
            match self.bound.get_mut(place) {
                Some(bound) => *bound = columns,
                None => self.bound.push(columns),
            }
        }
        match self.statement.raw_execute() {
            Ok(written) => Ok(written),
            Err(rusqlite::Error::SqliteFailure(failure, _))
                if failure.extended_code == SQLITE_CONSTRAINT_UNIQUE =>
            {
                Ok(self.tx.changes() as usize)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// What [`INSERT_ROW`] is given, in its order.
pub(super) fn columns(row: &Row) -> [ValueRef<'_>; COLUMNS] {
    let (opened, closed, usage) = (&row.opened, &row.closed, &row.closed.usage);
    let count = |count| ValueRef::Integer(to_sql(count));
    [
        ValueRef::Blob(&opened.event_id.0),
        ValueRef::from(&*opened.tenant),
        ValueRef::from(&*opened.key_id),
        ValueRef::from(&*opened.model),
        closed.model_served.as_deref().into(),
        ValueRef::from(&**row.upstream()),
        ValueRef::from(&*opened.endpoint),
        ValueRef::Integer(opened.started_at_ms),
        closed.ttfb_ms.map_or(ValueRef::Null, count),
        count(closed.duration_ms),
        count(closed.status.into()),
        closed.upstream_status.map_or(ValueRef::Null, |status| count(status.into())),
        ValueRef::from(closed.end.name()),
        ValueRef::from(closed.usage_source.name()),
        count(usage.input),
        count(usage.cached),
        count(usage.cache_write),
        count(usage.output),
        count(usage.reasoning),
        count(usage.audio_input),
        count(usage.audio_output),
        count(usage.image_input),
        count(usage.image_output),
        count(usage.accepted_prediction),
        count(usage.rejected_prediction),
        count(usage.total),
        count(closed.output_images),
        count(usage.audio_ms),
        closed.raw_usage.as_deref().into(),
        count(opened.reserved_tokens),
        row.price_version().map_or(ValueRef::Null, |version| count(version.number())),
        closed.cost_nano_usd.map_or(ValueRef::Null, count),
        usage.reported_cost_nano_usd.map_or(ValueRef::Null, count),
        count(closed.attempts.into()),
        count(opened.streamed.into()),
        count(closed.flags.0.into()),
        closed.upstream_request_id.as_deref().into(),
        Some(&*closed.upstream_key).filter(|name| !name.is_empty()).into(),
        closed.failed_attempts.as_deref().into(),
    ]
}

/// A row as an addend of its roll-up.
fn sums_of(row: &Row) -> Sums {
    let estimated =
        matches!(row.closed.usage_source, UsageSource::Estimated | UsageSource::Running);
    Sums {
        requests: 1,
        estimated_requests: u64::from(estimated),
        unpriced_requests: u64::from(row.closed.cost_nano_usd.is_none()),
        usage: row.closed.usage,
        cost_nano_usd: row.closed.cost_nano_usd.map(to_sql),
    }
}

/// Its day's sum is the caller's: [`add_late`], or [`refold`](super::day_sums::refold).
pub(super) fn add_to_rollup(
    tx: &Transaction<'_>,
    (hour, key_id, model, tenant): (i64, &str, &str, &str),
    sums: &Sums,
) -> Result<(), StoreError> {
    let usage = &sums.usage;
    tx.prepare_cached(ADD_TO_ROLLUP)?.execute(params![
        hour,
        key_id,
        model,
        tenant,
        to_sql(sums.requests),
        to_sql(sums.estimated_requests),
        to_sql(sums.unpriced_requests),
        to_sql(usage.input),
        to_sql(usage.cached),
        to_sql(usage.cache_write),
        to_sql(usage.output),
        to_sql(usage.reasoning),
        to_sql(usage.audio_input),
        to_sql(usage.audio_output),
        to_sql(usage.image_input),
        to_sql(usage.image_output),
        to_sql(usage.accepted_prediction),
        to_sql(usage.rejected_prediction),
        to_sql(usage.total),
        sums.cost_nano_usd,
    ])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::synced_commits;
    use super::*;
    use crate::price::PriceVersion;
    use crate::record::{Closed, Opened};
    use crate::store::Store;
    use crate::store::samples::{HOUR_MS, Sample, store_with};
    use crate::usage::{End, Flags, Usage};
    use rusqlite::types::Value;

    /// The number of rows, and the roll-ups with their requests, estimates and totals.
    type Books = (i64, Vec<(String, i64, String, i64, i64, i64)>);

    fn books(store: &Store) -> Books {
        let count = "SELECT count(*) FROM requests";
        let count = store.connection().query_row(count, [], |row| row.get(0)).unwrap();
        let rollups = "SELECT key_id, hour, model, requests, estimated_requests, total_tokens
            FROM rollups ORDER BY key_id, hour, model";
        let mut rollups = store.connection().prepare(rollups).unwrap();
        let rollups = rollups
            .query_map([], |row| {
                let (key, hour, model) = (row.get(0)?, row.get(1)?, row.get(2)?);
                Ok((key, hour, model, row.get(3)?, row.get(4)?, row.get(5)?))
            })
            .unwrap();
        (count, rollups.collect::<Result<_, _>>().unwrap())
    }

    #[test]
    fn a_batch_counts_each_row_once_and_replays_change_nothing() {
        let sample = Sample::default();
        let samples = [
            sample,
            Sample {
                id: 2,
                at_ms: sample.at_ms + HOUR_MS - 1,
                source: UsageSource::Running,
                ..sample
            },
            Sample { id: 3, at_ms: sample.at_ms + HOUR_MS, source: UsageSource::None, ..sample },
            Sample { id: 4, key: "key_b", source: UsageSource::Estimated, ..sample },
            Sample { id: 5, at_ms: -1, model: "m", ..sample },
        ];
        let (_dir, mut store) = store_with(&samples);
        let rollup = |key: &str, hour, model: &str, requests, estimated, total| {
            (key.to_owned(), hour, model.to_owned(), requests, estimated, total)
        };
        let expected = vec![
            rollup("key_a", -1, "m", 1, 0, 10),
            rollup("key_a", 100, "gpt-5.4", 2, 1, 20),
            rollup("key_a", 101, "gpt-5.4", 1, 0, 10),
            rollup("key_b", 100, "gpt-5.4", 1, 1, 10),
        ];
        assert_eq!(books(&store), (5, expected.clone()));

        let mut rows: Vec<_> = samples.iter().map(|sample| sample.row()).collect();
        assert_eq!(store.append(&rows, &[]).unwrap(), 0);
        // The same event, told differently, is still the same event.
        rows[0] = Sample { end: End::Crashed, at_ms: 0, key: "key_c", ..sample }.row();
        assert_eq!(store.append(&rows[..1], &[]).unwrap(), 0);
        assert_eq!(books(&store), (5, expected));

        // Twice in one batch counts once, beside a new one.
        let twice = Sample { id: 6, key: "key_b", ..sample }.row();
        assert_eq!(store.append(&[twice.clone(), rows[1].clone(), twice], &[]).unwrap(), 1);
        let (count, rollups) = books(&store);
        assert_eq!((count, &rollups[3]), (6, &rollup("key_b", 100, "gpt-5.4", 2, 1, 20)));
    }

    #[test]
    fn many_rows_are_written_as_each_by_itself() {
        let sample = |id: u64| Sample {
            id,
            key: ["key_a", "key_b", "key_c"][id as usize % 3],
            cost: (!id.is_multiple_of(4)).then_some(id),
            ..Sample::default()
        };
        let rows: Vec<_> = (0..100).map(|id| sample(id).row()).collect();
        let (_dir, mut singly) = store_with(&[]);
        for row in &rows {
            assert_eq!(singly.append(std::slice::from_ref(row), &[]).unwrap(), 1);
        }
        // Not in the order of their ids: each once, and each twice.
        let once: Vec<_> = rows.iter().rev().cloned().collect();
        let twice = [once.as_slice(), &rows].concat();
        // Some of them are there before: none, one at a chunk's edge, one inside, and most.
        let before = [vec![], vec![15], vec![16, 40], (0..90).collect::<Vec<usize>>()];
        for (before, batch) in before.iter().flat_map(|before| [(before, &once), (before, &twice)])
        {
            let (_dir, mut store) = store_with(&[]);
            for at in before {
                store.append(&rows[*at..=*at], &[]).unwrap();
            }
            assert_eq!(store.append(batch, &[]).unwrap(), rows.len() - before.len());
            assert_eq!((stored(&store), books(&store)), (stored(&singly), books(&singly)));
        }
    }

    /// What the table holds, by event id.
    fn stored(store: &Store) -> Vec<Vec<Value>> {
        let mut all =
            store.connection().prepare("SELECT * FROM requests ORDER BY event_id").unwrap();
        let rows = all.query_map([], |row| (0..COLUMNS).map(|at| row.get(at)).collect());
        rows.unwrap().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn every_column_is_the_rows_own_and_not_the_row_befores() {
        let sample =
            Sample { price: PriceVersion::from_number(7), cost: Some(8), ..Sample::default() };
        let mut full = sample.row();
        full.closed.output_images = 2;
        full.closed.usage.audio_ms = 1_500;
        full.closed.usage.reported_cost_nano_usd = Some(9);
        let mut bare = Row {
            opened: Opened { event_id: EventId([2; 16]), ..full.opened.clone() },
            closed: Closed { event_id: EventId([2; 16]), ..Closed::crashed(&full.opened) },
        };
        bare.opened.streamed = false;
        bare.opened.price_version = None;
        bare.opened.reserved_tokens = 1;
        for text in [
            &mut bare.opened.tenant,
            &mut bare.opened.key_id,
            &mut bare.opened.model,
            &mut bare.opened.upstream,
            &mut bare.opened.endpoint,
        ] {
            *text = "other".into();
        }
        let mut again = full.clone();
        again.opened.event_id = EventId([3; 16]);
        again.closed.flags = Flags::STALLED;
        let rows = [full, bare, again];
        let expected: Vec<Vec<Value>> = rows
            .iter()
            .map(|row| columns(row).map(|value| value.try_into().unwrap()).to_vec())
            .collect();
        // In whichever order they come.
        for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
            let (_dir, mut store) = store_with(&[]);
            let batch = order.map(|at| rows[at].clone());
            assert_eq!(store.append(&batch, &[]).unwrap(), 3);
            assert_eq!(stored(&store), expected);
        }
        // Of one event's rows the first stays, in one batch too.
        let (_dir, mut store) = store_with(&[]);
        let mut second = rows[1].clone();
        second.opened.event_id = rows[0].opened.event_id;
        let batch = [rows[2].clone(), rows[0].clone(), second];
        assert_eq!(store.append(&batch, &[]).unwrap(), 2);
        assert_eq!(stored(&store), [expected[0].clone(), expected[2].clone()]);
    }

    #[test]
    fn sums_stop_at_the_largest_integer() {
        let huge = Usage { input: u64::MAX, output: 5, total: u64::MAX, ..Usage::default() };
        let sample = Sample { usage: huge, ..Sample::default() };
        // In one batch, and by the next one on top.
        let (_dir, mut store) = store_with(&[sample, Sample { id: 2, ..sample }]);
        store.append(&[Sample { id: 3, ..sample }.row()], &[]).unwrap();
        assert_eq!(books(&store).1[0].5, i64::MAX);
        let (input, output): (i64, i64) = store
            .connection()
            .query_row("SELECT input_tokens, output_tokens FROM rollups", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .unwrap();
        assert_eq!((input, output), (i64::MAX, 15));
        assert_eq!(store.balances(0, i64::MAX).unwrap()[0].total_tokens, i64::MAX as u64);
    }

    /// What it writes is in the WAL and may be lost with the power, until a commit in SQLite's mode FULL.
    #[test]
    fn what_forgets_a_segment_is_synced_and_changes_something_in_any_case() {
        let (dir, mut store) = store_with(&[Sample::default()]);
        // Before there is a trigger, with which SQLite does not compare. What another connection sees changed was written to the WAL, and only that is synced.
        let other = Store::open(dir.path()).unwrap();
        let version = || -> i64 {
            other.connection().pragma_query_value(None, "data_version", |row| row.get(0)).unwrap()
        };
        // The first one writes the row with all columns that were added to its table.
        store.forget_segments(&[1]).unwrap();
        let (seen, wal_bytes, synced) = (version(), store.log_bytes(), synced_commits());
        store.forget_segments(&[1]).unwrap();
        assert_ne!(version(), seen);
        assert!(store.log_bytes() > wal_bytes);
        assert_eq!(synced_commits(), synced + 1);
        let setting = |store: &Store| -> i64 {
            store.connection().pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap()
        };
        let note = "CREATE TEMP TABLE noted (mode INTEGER);
            CREATE TEMP TRIGGER note AFTER UPDATE ON meta BEGIN
                INSERT INTO noted SELECT synchronous FROM pragma_synchronous;
            END";
        store.connection().execute_batch(note).unwrap();
        store.forget_segments(&[1]).unwrap();
        let noted: Vec<i64> = {
            let mut statement = store.connection().prepare("SELECT mode FROM noted").unwrap();
            let modes = statement.query_map([], |row| row.get(0)).unwrap();
            modes.map(Result::unwrap).collect()
        };
        assert_eq!((noted, setting(&store)), (vec![2], 1));
        store.sync_commits().unwrap();
        store.forget_segments(&[]).unwrap();
        assert_eq!(setting(&store), 2, "as it was before");
    }

    #[test]
    fn a_batch_that_fails_leaves_nothing_behind() {
        let (_dir, mut store) = store_with(&[Sample::default()]);
        let before = books(&store);
        let refuse = "CREATE TEMP TRIGGER refuse BEFORE INSERT ON positions
            BEGIN SELECT RAISE(ABORT, 'no room'); END";
        store.connection().execute_batch(refuse).unwrap();
        let position = Position { segment: "0-1".to_owned(), offset: 10 };
        let rows = [Sample { id: 2, ..Sample::default() }.row()];
        assert!(store.append(&rows, &[position]).is_err());
        assert_eq!(books(&store), before);
    }

    #[test]
    fn a_commit_that_fails_is_doubted() {
        let (_dir, mut store) = store_with(&[]);
        let refuse = "CREATE TEMP TABLE parents (id INTEGER PRIMARY KEY);
            CREATE TEMP TABLE children (id INTEGER REFERENCES parents DEFERRABLE INITIALLY DEFERRED);
            CREATE TEMP TRIGGER refuse AFTER INSERT ON main.requests
                BEGIN INSERT INTO children VALUES (1); END";
        store.connection().execute_batch(refuse).unwrap();
        let error = store.append(&[Sample::default().row()], &[]).unwrap_err().to_string();
        assert!(error.contains("FOREIGN KEY"), "{error}");
        assert!(store.sqlite().is_doubtful);
    }
}
