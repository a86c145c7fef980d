//! `weir verify`: whether the ledger's books are what its rows make them.

use anyhow::bail;

use crate::admit::Windows;
use crate::clock::Clock;
use crate::config::Config;
use crate::ledger::verify::{Difference, Kinds, Mend, Report, Window, verify};
use crate::price::usd;
use crate::store::Recost;

use super::open::{note_wait, warn_backlog};
use super::output::{Column, Format, Output, counted, note, to_stdout, write_lines};

/// Compute every sum of the ledger again and show what differs
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Rebuild sums that differ from their rows; rows themselves are not changed
    #[arg(long)]
    repair: bool,
    /// Give rows of the future, which a clock has made that was ahead, a date that can be
    #[arg(long)]
    redate: bool,
    /// The clock is right now, even if it is behind the time that the ledger has confirmed, or none is
    #[arg(long, requires = "redate")]
    trust_clock: bool,
    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

const COLUMNS: [Column; 8] = [
    Column::shown("what", "what"),
    Column::shown("place", "where"),
    Column::shown("tenant", "tenant"),
    Column::shown("key_id", "key"),
    Column::shown("model", "model"),
    Column::shown("field", "field"),
    Column::shown("stored", "stored"),
    Column::shown("recomputed", "recomputed"),
];

/// Writes what differs; an error if anything does.
pub(crate) fn run(args: &Args, config: &Config) -> anyhow::Result<()> {
    let now_ms = Clock::system().now().unix_ms;
    to_stdout(|out| execute(args, config, now_ms, out))
}

fn execute(args: &Args, config: &Config, now_ms: i64, out: &mut dyn Output) -> anyhow::Result<()> {
    let windows = Windows::at(&config.limits.time_zone, now_ms);
    let Windows { day, month } = windows;
    let windows = [("this day", day), ("this month", month)].map(|(name, window)| Window {
        name,
        from_ms: window.start_ms,
        until_ms: window.end_ms,
    });
    let Args { repair: sums, redate: dates, trust_clock, .. } = *args;
    let mend = Mend { sums, dates, trust_clock };
    let report = verify(&config.data, &windows, now_ms, mend, &mut note_wait)?;
    write_lines::<Difference>(out, args.format, &COLUMNS, &report.listed, None)?;
    out.flush()?;
    let mut advice = advice(&report.left, mend);
    match &report.broken_off {
        None => tell(&report),
        Some(error) => advice.push(format!("the rest could not be looked at: {error}")),
    }
    match advice.is_empty() {
        true => Ok(()),
        false => bail!("the books differ\n  {}", advice.join("\n  ")),
    }
}

/// Says what was looked at, and what was mended.
fn tell(report: &Report) {
    warn_backlog(report.behind);
    if report.damaged_bytes > 0 {
        let bytes = counted(report.damaged_bytes, "byte");
        note(&format!("{bytes} in the journal passed over as damaged"));
    }
    let differences = sum(&report.differences);
    let found = match differences {
        0 => "all is right".to_owned(),
        1 => "1 number differs".to_owned(),
        n => format!("{} differ", counted(n, "number")),
    };
    note(&format!(
        "verified {} of {}, and {} of the journal: {found}",
        counted(report.rows, "row"),
        counted(report.hours, "hour"),
        counted(report.journal_rows, "request"),
    ));
    note(&costs(&report.cost));
    let unlisted = differences - report.listed.len() as u64;
    if unlisted > 0 {
        note(&format!("{unlisted} of them not listed"));
    }
    let mended = differences.saturating_sub(sum(&report.left)).saturating_sub(report.redated);
    if mended > 0 {
        note(&format!(
            "{} put right; a running server goes on with its own balances until it is restarted",
            counted(mended, "number")
        ));
    }
    if report.redated > 0 {
        note(&format!(
            "{} given another date, and flagged `redated`",
            counted(report.redated, "row")
        ));
    }
}

/// What the rows cost, which is told apart from rows that have no price.
fn costs(cost: &Recost) -> String {
    let priced = counted(cost.rows - cost.unpriced, "row");
    let [stored, computed] = [cost.stored_nano_usd, cost.nano_usd].map(usd);
    let unpriced = match cost.unpriced {
        0 => String::new(),
        n => format!("; {} without a price", counted(n, "row")),
    };
    match stored == computed {
        _ if cost.rows == cost.unpriced => "no row has a price".to_owned(),
        true => format!("{priced} with a price: {stored} USD, as the prices say{unpriced}"),
        false => {
            format!("{priced} with a price: {stored} USD, but {computed} by the prices{unpriced}")
        }
    }
}

fn sum(kinds: &Kinds) -> u64 {
    kinds.values().sum()
}

/// What to do about each kind of difference that is left; nothing where none is.
fn advice(left: &Kinds, mend: Mend) -> Vec<String> {
    let of = |kinds: &[&str]| kinds.iter().filter_map(|kind| left.get(kind)).sum::<u64>();
    let mut advice = Vec::new();
    let mut add = |kinds: &[&str], name: &str, what: &str| match of(kinds) {
        0 => {}
        n => advice.push(format!("{}: {what}", counted(n, name))),
    };
    add(
        &["rollup", "day", "balance"],
        "sum",
        match mend.sums {
            false => "`weir verify --repair` rebuilds them from the rows",
            true => "they differ again or still; repeat it while no server runs",
        },
    );
    add(
        &["clock"],
        "time",
        "the clock is behind what the ledger has confirmed: set the clock; if it is right \
        now, `weir verify --redate --trust-clock` makes its time the confirmed one",
    );
    add(
        &["future"],
        "row",
        "dated to the future by a clock that was ahead: `weir verify --redate` gives each a \
        date that can be, if the clock is right now",
    );
    add(
        &["cost"],
        "cost",
        "not what its counts and its price make; not to be repaired, as a row keeps what was \
        charged: the row or its price was changed in the store, and a backup may have the right one",
    );
    add(
        &["row"],
        "column",
        "not what the journal says; rows are not changed, and a backup may have the right ones",
    );
    add(
        &["file"],
        "problem",
        "the file of the store is damaged: restore a backup, or save what can be read by `.recover` of \
        SQLite's shell (docs/damage.md)",
    );
    advice
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::super::samples::{config_in, typed};
    use super::*;
    use crate::journal::{Directory, Journal};
    use crate::ledger::drain::Drain;
    use crate::price::{Prices, Rates};
    use crate::record::Row;
    use crate::store::Store;
    use crate::store::samples::{HOUR_MS, Sample, damage, store_with};
    use crate::usage::Usage;

    const NOW_MS: i64 = 200 * HOUR_MS;

    fn weir(dir: &tempfile::TempDir, line: &str) -> (anyhow::Result<()>, Vec<Value>) {
        let mut out = Vec::new();
        let args: Args = typed(&format!("{line} --format json")).unwrap();
        let result = execute(&args, &config_in(dir.path()), NOW_MS, &mut out);
        (result, serde_json::from_slice(&out).unwrap_or_default())
    }

    fn tamper(dir: &tempfile::TempDir, sql: &str) {
        let file = dir.path().join("weir.sqlite");
        rusqlite::Connection::open(file).unwrap().execute_batch(sql).unwrap();
    }

    fn samples() -> Vec<Sample<'static>> {
        let sample = Sample::default();
        let at = |id: u64| NOW_MS - (id as i64 % 30) * HOUR_MS;
        let key = |id: u64| ["key_a", "key_b"][id as usize % 2];
        (0..100).map(|id| Sample { id, at_ms: at(id), key: key(id), ..sample }).collect()
    }

    #[test]
    fn every_kind_of_difference_has_advice_and_sums_are_told_apart_from_what_cannot_be_repaired() {
        let mend = Mend::default();
        for (left, expected) in [
            (&[][..], &[][..]),
            (&[("rollup", 2), ("day", 1), ("balance", 1)], &["4 sums: `weir verify --repair`"]),
            (&[("clock", 1)], &["1 time: the clock is behind"]),
            (&[("future", 1_500)], &["1,500 rows: dated to the future"]),
            (&[("cost", 1)], &["1 cost: not what its counts"]),
            (&[("row", 3)], &["3 columns: not what the journal says"]),
            (&[("file", 1), ("rollup", 1)], &["1 sum: `weir", "1 problem: the file"]),
        ] {
            let found = advice(&left.iter().copied().collect(), mend);
            assert_eq!(found.len(), expected.len(), "{found:?}");
            assert!(
                found.iter().zip(expected).all(|(one, text)| one.starts_with(text)),
                "{found:?}"
            );
        }
        let again = advice(&[("day", 1)].into(), Mend { sums: true, ..mend });
        assert!(!again[0].contains("--repair"), "{again:?}");
    }

    #[test]
    fn what_rows_cost_is_one_sum_where_it_is_as_the_prices_say() {
        let cost = |rows, unpriced, stored_nano_usd, nano_usd| {
            costs(&Recost { rows, unpriced, stored_nano_usd, nano_usd })
        };
        assert_eq!(cost(17, 17, 0, 0), "no row has a price");
        let one_usd = 1_000_000_000;
        assert_eq!(cost(1, 0, one_usd, one_usd), "1 row with a price: 1.00 USD, as the prices say");
        assert_eq!(
            cost(5, 1, one_usd, 0),
            "4 rows with a price: 1.00 USD, but 0.00 by the prices; 1 row without a price"
        );
    }

    #[test]
    fn what_is_right_is_said_to_be_right() {
        let (dir, _store) = store_with(&samples());
        let (result, listed) = weir(&dir, "");
        result.unwrap();
        assert!(listed.is_empty(), "{listed:?}");
    }

    #[test]
    fn every_tampered_number_is_listed_and_repaired() {
        let (dir, mut store) = store_with(&samples());
        assert!(store.fold(195, 1_000, &mut || ()).unwrap() > 20);
        for (tampering, what) in [
            ("UPDATE rollups SET total_tokens = total_tokens + 1 WHERE hour = 199", "rollup"),
            ("UPDATE rollups SET cost_nano_usd = 5 WHERE hour = 198", "rollup"),
            ("DELETE FROM rollups WHERE hour = 200 AND key_id = 'key_a'", "rollup"),
            ("UPDATE rollups SET hour = 5000 WHERE hour = 190", "rollup"),
            ("UPDATE day_sums SET nano_usd = 7 WHERE day = 7", "day"),
            ("UPDATE day_sums SET key_id = 'key_c' WHERE day = 8 AND key_id = 'key_b'", "day"),
            ("DELETE FROM day_sums", "day"),
            // Of hours that are folded, and of which the day follows.
            ("UPDATE rollups SET total_tokens = total_tokens + 1 WHERE hour < 190", "rollup"),
            ("DELETE FROM requests WHERE started_at_ms = 684000000", "rollup"),
            ("UPDATE rollups SET model = 'n' WHERE hour = 192 AND key_id = 'key_a'", "rollup"),
            (
                "DELETE FROM requests WHERE started_at_ms = 720000000 AND key_id = 'key_a'",
                "balance",
            ),
        ] {
            tamper(&dir, tampering);
            let (result, listed) = weir(&dir, "");
            let error = result.expect_err(tampering).to_string();
            assert!(error.contains("--repair"), "{error}");
            assert!(listed.iter().any(|line| line["what"] == what), "{tampering}: {listed:?}");
            assert!(weir(&dir, "").0.is_err(), "looking repairs nothing");
            weir(&dir, "--repair").0.expect(tampering);
            weir(&dir, "").0.expect(tampering);
        }
    }

    #[test]
    fn a_row_that_does_not_cost_what_its_price_says_is_listed_and_stays() {
        let (dir, mut store) = store_with(&samples());
        let mut prices = Prices::default();
        prices.add("gpt-5.4", i64::MIN, Rates { input: 1_000, ..Rates::default() });
        store.record_prices(&prices).unwrap();
        let (_, price) = prices.iter().next().unwrap();
        let sample = Sample { id: 500, at_ms: NOW_MS, cost: Some(7), ..Sample::default() };
        let priced = Sample { price: Some(price.version), ..sample };
        store.append(&[priced.row()], &[]).unwrap();
        weir(&dir, "").0.unwrap();
        let id = "00000000-0000-0000-0000-0000000001f4";
        for (tampering, others, stored, recomputed) in [
            // The sums are told, too, and become what the rows say.
            ("UPDATE requests SET cost_nano_usd = 9 WHERE cost_nano_usd IS NOT NULL", 2, "9", "7"),
            ("UPDATE price_versions SET input_pico_usd = input_pico_usd + 1", 0, "9", "none"),
        ] {
            tamper(&dir, tampering);
            let (result, listed) = weir(&dir, "");
            result.unwrap_err();
            let is_cost = |line: &&Value| line["what"] == "cost";
            let costs: Vec<_> = listed.iter().filter(is_cost).collect();
            let expected = serde_json::json!({
                "what": "cost", "place": id, "tenant": "acme", "key_id": "key_a",
                "model": "gpt-5.4", "field": "cost_nano_usd", "stored": stored,
                "recomputed": recomputed,
            });
            assert_eq!(costs, [&expected], "{tampering}");
            assert_eq!(listed.len(), others + 1, "{listed:?}");
            assert!(weir(&dir, "--repair").0.is_err(), "there is nothing to repair rows from");
            assert_eq!(weir(&dir, "").1, [expected], "the sums are right");
        }
    }

    /// A directory as a server leaves it that was killed with all of its rows stored: the journal still
    /// has their records.
    fn with_journal(rows: &[Row]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let data = config_in(dir.path()).data;
        let directory = Directory::open(&data.dir, data.segment_bytes, data.durability).unwrap();
        let directory = Arc::new(directory);
        let mut drain = Drain::new(directory.clone(), Store::open(&data.dir).unwrap()).unwrap();
        let mut journal = Journal::new(directory);
        for row in rows {
            let _ = (journal.open(&row.opened), journal.close(&row.closed));
        }
        journal.commit().unwrap();
        assert_eq!(drain.pass().unwrap().rows, rows.len() as u64);
        // It would end its segment, and the drain remove that.
        std::mem::forget(journal);
        dir
    }

    #[test]
    fn a_row_that_is_not_what_the_journal_says_is_listed_by_its_fields() {
        let usage = Usage { input: 7, output: 3, total: u64::MAX, ..Usage::default() };
        let sample = Sample { at_ms: NOW_MS, usage, ..Sample::default() };
        let rows = [sample.row(), Sample { id: 2, usage: Usage::default(), ..sample }.row()];
        weir(&with_journal(&rows), "").0.expect("all is right");
        const FIRST: &str = "WHERE rowid = (SELECT min(rowid) FROM requests)";
        // Every column but the id, which finds the row; so that a new one is not forgotten.
        let dir = with_journal(&rows);
        let conn = rusqlite::Connection::open(dir.path().join("weir.sqlite")).unwrap();
        let columns = conn.prepare("SELECT * FROM requests").unwrap();
        let columns: Vec<String> = columns.column_names().map(str::to_owned).collect();
        assert!(columns.len() > 36, "{columns:?}");
        for column in columns.iter().filter(|column| *column != "event_id") {
            let dir = with_journal(&rows);
            let (set, stored) = match column.as_str() {
                "end" | "usage_source" => ("'x'", "x"),
                "tenant" | "key_id" | "model" | "upstream" | "endpoint" => ("'x'", "x"),
                "model_served" | "raw_usage" | "upstream_request_id" => ("NULL", "none"),
                "price_version" => ("10", "00000000000a"),
                "streamed" => ("0", "0"),
                _ => ("4", "4"),
            };
            tamper(&dir, &format!("UPDATE requests SET \"{column}\" = {set} {FIRST}"));
            let (result, listed) = weir(&dir, "");
            result.expect_err(column);
            let told: Vec<_> = listed.iter().filter(|line| line["what"] == "row").collect();
            assert_eq!(told.len(), 1, "{column}: {listed:?}");
            assert_eq!((&told[0]["field"], &told[0]["stored"]), (&json!(column), &json!(stored)));
            assert_eq!(told[0]["place"], "00000000-0000-0000-0000-000000000001");
        }
    }

    #[test]
    fn a_row_that_the_journal_has_and_the_store_lacks_is_listed() {
        let dir = with_journal(&[Sample { at_ms: NOW_MS, ..Sample::default() }.row()]);
        tamper(&dir, "DELETE FROM requests; DELETE FROM rollups");
        let (result, listed) = weir(&dir, "");
        result.unwrap_err();
        let expected = json!([{
            "what": "row", "place": "00000000-0000-0000-0000-000000000001", "tenant": "acme",
            "key_id": "key_a", "model": "gpt-5.4", "field": "total_tokens", "stored": "no row",
            "recomputed": "10",
        }]);
        assert_eq!(Value::Array(listed), expected);
    }

    #[test]
    fn a_difference_names_its_place_and_both_numbers() {
        let (dir, _store) = store_with(&samples());
        tamper(&dir, "UPDATE rollups SET input_tokens = 3 WHERE hour = 175 AND key_id = 'key_b'");
        let (_, listed) = weir(&dir, "");
        let expected = serde_json::json!([{
            "what": "rollup", "place": "1970-01-08T07:00:00Z", "tenant": "acme", "key_id": "key_b",
            "model": "gpt-5.4", "field": "input_tokens", "stored": "3", "recomputed": "21",
        }]);
        assert_eq!(Value::Array(listed), expected);
    }

    #[test]
    fn the_sum_of_a_day_that_differs_names_its_begin() {
        let (dir, mut store) = store_with(&samples());
        store.fold(195, 1_000, &mut || ()).unwrap();
        tamper(&dir, "UPDATE day_sums SET requests = 3 WHERE day = 7 AND key_id = 'key_b'");
        let (_, listed) = weir(&dir, "");
        let expected = serde_json::json!({
            "what": "day", "place": "1970-01-08T00:00:00Z", "tenant": "acme", "key_id": "key_b",
            "model": "", "field": "requests", "stored": "3", "recomputed": "34",
        });
        assert_eq!(listed[0], expected);
    }

    #[test]
    fn rows_that_were_deleted_for_their_age_are_not_missed() {
        let (dir, mut store) = store_with(&samples());
        assert!(store.expire(190 * HOUR_MS, 1_000, &mut || ()).unwrap() > 10);
        weir(&dir, "").0.unwrap();
        tamper(&dir, "UPDATE rollups SET requests = 9 WHERE hour = 195");
        assert!(weir(&dir, "").1.iter().any(|line| line["what"] == "rollup"));
    }

    #[test]
    fn a_directory_without_a_ledger_is_told_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert!(weir(&dir, "").0.unwrap_err().to_string().contains("there is no ledger in"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    const YEAR_MS: i64 = 365 * 24 * HOUR_MS;

    #[test]
    fn rows_of_the_future_are_listed_and_redated_once() {
        let year_ahead = Sample { id: 500, at_ms: NOW_MS + YEAR_MS, ..Sample::default() };
        let (dir, mut store) = store_with(&samples());
        // The clock that made this one's id was ahead as well, that of the next was right again.
        store.append(&[year_ahead.row_made_at((NOW_MS + YEAR_MS) as u64)], &[]).unwrap();
        let next = Sample { id: 501, ..year_ahead };
        store.append(&[next.row_made_at(NOW_MS as u64 - 5)], &[]).unwrap();
        store.confirm(None, NOW_MS).unwrap();
        let (result, listed) = weir(&dir, "");
        let error = result.unwrap_err().to_string();
        assert!(error.contains("--redate"), "{error}");
        // The row stored before the first is number 99.
        let (before, ahead) = (timestamp(NOW_MS - 9 * HOUR_MS), timestamp(NOW_MS + YEAR_MS));
        let dates = |line: &Value| [line["stored"].clone(), line["recomputed"].clone()];
        assert!(listed.iter().all(|line| line["what"] == "future"), "{listed:?}");
        let found: Vec<_> = listed.iter().map(dates).collect();
        let right = timestamp(NOW_MS - 5);
        assert_eq!(found, [[ahead.clone(), before], [ahead, right]]);
        assert!(weir(&dir, "--repair").0.unwrap_err().to_string().contains("--redate"));
        weir(&dir, "--redate").0.unwrap();
        assert_eq!(weir(&dir, "").1, [] as [Value; 0]);
        weir(&dir, "--redate").0.expect("there is nothing to do");
        let flagged = "SELECT count(*) FROM requests WHERE flags = 16777216";
        let flagged: i64 = store.connection().query_row(flagged, [], |row| row.get(0)).unwrap();
        assert_eq!(flagged, 2);
        assert_eq!(store.balances(0, NOW_MS + 1).unwrap()[0].requests, 52);
    }

    fn timestamp(unix_ms: i64) -> Value {
        crate::clock::moment(unix_ms).into()
    }

    #[test]
    fn a_redated_row_is_what_its_record_says_but_for_the_date() {
        let at_ms = NOW_MS + YEAR_MS;
        let made = |id: u64| Sample { id, at_ms, ..Sample::default() }.row_made_at(NOW_MS as u64);
        let dir = with_journal(&[made(1), made(2)]);
        weir(&dir, "--redate --trust-clock").0.unwrap();
        let dir = with_journal(&[made(1), made(2)]);
        let mut store = Store::open_existing(dir.path()).unwrap();
        store.redate(NOW_MS, NOW_MS).unwrap();
        // Read again, the records bring nothing back.
        store.append(&[made(1), made(2)], &[]).unwrap();
        weir(&dir, "").0.unwrap();
        let dir = with_journal(&[made(1)]);
        Store::open_existing(dir.path()).unwrap().redate(NOW_MS, NOW_MS).unwrap();
        tamper(&dir, "UPDATE requests SET flags = flags | 1, status = 1");
        let fields: Vec<_> = weir(&dir, "").1.iter().map(|line| line["field"].clone()).collect();
        assert_eq!(fields, ["status", "flags"]);
    }

    #[test]
    fn a_clock_that_is_behind_redates_nothing_unless_it_is_trusted() {
        let (dir, mut store) = store_with(&samples());
        store.confirm(None, NOW_MS + YEAR_MS).unwrap();
        let (result, listed) = weir(&dir, "");
        assert!(result.unwrap_err().to_string().contains("--redate"));
        assert_eq!(listed.len(), 1);
        assert_eq!(
            (&listed[0]["what"], &listed[0]["field"]),
            (&"clock".into(), &"confirmed_time".into())
        );
        let error = weir(&dir, "--redate").0.unwrap_err().to_string();
        assert!(error.contains("--trust-clock"), "{error}");
        assert_eq!(store.confirmed_ms().unwrap(), Some(NOW_MS + YEAR_MS));
        weir(&dir, "--redate --trust-clock").0.unwrap();
        assert_eq!(store.confirmed_ms().unwrap(), Some(NOW_MS));
        weir(&dir, "").0.unwrap();
    }

    #[test]
    fn a_clock_beside_which_nothing_was_confirmed_has_to_be_trusted() {
        let (dir, mut store) =
            store_with(&[Sample { at_ms: NOW_MS + YEAR_MS, ..Sample::default() }]);
        let error = weir(&dir, "--redate").0.unwrap_err().to_string();
        assert!(error.contains("no time was ever confirmed"), "{error}");
        assert_eq!(weir(&dir, "").1.len(), 1, "the row is as it was");
        weir(&dir, "--redate --trust-clock").0.unwrap();
        assert_eq!(store.confirmed_ms().unwrap(), Some(NOW_MS));
        weir(&dir, "").0.unwrap();
        // Nor does it set an earlier one forward.
        store.confirm(Some(NOW_MS), NOW_MS - HOUR_MS).unwrap();
        weir(&dir, "--redate --trust-clock").0.unwrap();
        assert_eq!(store.confirmed_ms().unwrap(), Some(NOW_MS - HOUR_MS));
    }

    #[test]
    fn of_a_damaged_store_it_lists_what_is_damaged_even_where_it_can_read_nothing_else() {
        let (dir, mut store) = store_with(&[]);
        let rows: Vec<_> = (0..2_000).map(|id| Sample { id, ..Sample::default() }.row()).collect();
        store.append(&rows, &[]).unwrap();
        store.connection().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        drop(store);
        damage(&dir.path().join("weir.sqlite"));
        let (result, lines) = weir(&dir, "");
        let said = result.unwrap_err().to_string();
        assert!(lines.iter().any(|line| line["what"] == "file"), "{lines:?}");
        for part in ["the file of the store is damaged", "`.recover`", "the rest could not be"] {
            assert!(said.contains(part), "{said}");
        }
        assert!(!said.contains("`weir verify`"), "{said}");
        // Nor can it be opened any more.
        std::fs::write(dir.path().join("weir.sqlite"), [0xa5; 20_000]).unwrap();
        let (result, lines) = weir(&dir, "");
        assert!(result.is_err());
        assert_eq!((lines.len(), &lines[0]["what"]), (1, &json!("file")), "{lines:?}");
    }
}
