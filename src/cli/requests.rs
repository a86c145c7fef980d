//! `weir requests`: the ledger's rows, newest first.

use anyhow::bail;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::clock::Clock;
use crate::config::Config;
use crate::ledger::report::usage;
use crate::record::EventId;
use crate::store::Store;
use crate::store::{Filter, Request};
use crate::usage::End;

use super::filter::{FilterArgs, check_names};
use super::open::open_ledger;
use super::output::{
    Column, Format, Output, counted, grouped, note, to_stdout, write_lines, write_one,
};

/// Rows are collected before they are written; a longer list is fetched in parts, by `--until`.
const LIMIT_MAX: u32 = 100_000;

/// List single requests, newest first
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// Only requests that ended like this
    #[arg(long, value_name = "E", value_parser = end_parser())]
    end: Option<End>,
    /// Only the request of this id, which its answer had as x-request-id: with all that is known of it
    #[arg(long, value_name = "ID", value_parser = request_id,
        conflicts_with_all = ["tenant", "key", "model", "since", "until", "end", "limit"])]
    id: Option<EventId>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = limit, allow_negative_numbers = true)]
    limit: u32,
    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) const COLUMNS: [Column; 39] = [
    Column::shown("event_id", "request"),
    Column::shown("started_at", "started"),
    Column::ranked("tenant", "tenant", 1),
    Column::ranked("key_id", "key", 9),
    Column::ranked("model", "model", 4),
    Column::hidden("model_served"),
    Column::hidden("upstream"),
    Column::hidden("upstream_key"),
    Column::ranked("endpoint", "path", 10),
    Column::shown("status", "status"),
    Column::hidden("upstream_status"),
    Column::shown("end", "end"),
    Column::ranked("usage_source", "usage", 7),
    Column::ranked("input_tokens", "input", 6),
    Column::ranked("cached_tokens", "cached", 12),
    Column::hidden("cache_write_tokens"),
    Column::ranked("output_tokens", "output", 6),
    Column::hidden("reasoning_tokens"),
    Column::hidden("audio_input_tokens"),
    Column::hidden("audio_output_tokens"),
    Column::hidden("image_input_tokens"),
    Column::hidden("image_output_tokens"),
    Column::hidden("accepted_prediction_tokens"),
    Column::hidden("rejected_prediction_tokens"),
    Column::ranked("total_tokens", "total", 2),
    Column::hidden("output_images"),
    Column::hidden("audio_ms"),
    Column::hidden("raw_usage"),
    Column::hidden("reserved_tokens"),
    Column::ranked("cost_usd", "cost USD", 3).amount(),
    Column::hidden("price_version"),
    Column::hidden("reported_cost_usd"),
    Column::ranked("ttfb_ms", "first byte ms", 11),
    Column::ranked("duration_ms", "duration ms", 8),
    Column::hidden("attempts"),
    Column::hidden("failed_attempts"),
    Column::hidden("streamed"),
    Column::ranked("flags", "flags", 5),
    Column::hidden("upstream_request_id"),
];

/// Writes the list.
pub(crate) fn run(args: Args, config: &Config) -> anyhow::Result<()> {
    let now_ms = Clock::system().now().unix_ms;
    to_stdout(|out| execute(args, config, now_ms, out))
}

fn execute(args: Args, config: &Config, now_ms: i64, out: &mut dyn Output) -> anyhow::Result<()> {
    if let Some(id) = args.id {
        return one(id, args.format, config, now_ms, out);
    }
    let filter = args.filter.resolve(config, now_ms)?;
    let opened = open_ledger(config, "requests", now_ms)?;
    let store = &opened.store;
    let (rows, cut) = newest(store, &filter, args.end, args.limit, config)?;
    if let Some(cut) = cut {
        note(&cut);
    }
    if rows.is_empty() {
        check_names(store, &filter, config)?;
        opened.tell_nothing();
    }
    match args.format {
        Format::Table => write_table(out, store, &rows),
        format => write_lines(out, format, &COLUMNS, &rows, None),
    }
}

/// A row with what its key is called, which only people have to be told.
#[derive(Debug, serde::Serialize)]
struct Named<'a> {
    #[serde(flatten)]
    row: &'a Request,
    key_name: Option<String>,
}

fn write_table(out: &mut dyn Output, store: &Store, rows: &[Request]) -> anyhow::Result<()> {
    let names = store.key_names(&rows.iter().map(|row| &*row.key_id).collect::<Vec<_>>())?;
    let lines: Vec<_> =
        rows.iter().map(|row| Named { row, key_name: names.get(&*row.key_id).cloned() }).collect();
    let mut columns = COLUMNS.to_vec();
    let at = columns.iter().position(|column| column.name == "key_id").map_or(0, |at| at + 1);
    columns.insert(at, Column::ranked("key_name", "key name", 5));
    write_lines(out, Format::Table, &columns, &lines, None)
}

/// The newest rows, and what to say where there are more: whoever adds them up must not take them for all.
fn newest(
    store: &Store,
    filter: &Filter,
    end: Option<End>,
    limit: u32,
    config: &Config,
) -> anyhow::Result<(Vec<Request>, Option<String>)> {
    let mut rows = store.requests(filter, end, limit.saturating_add(1))?;
    if rows.len() <= limit as usize {
        return Ok((rows, None));
    }
    rows.truncate(limit as usize);
    let shown = grouped(&limit.to_string());
    // The sums do not know how requests ended.
    let all = match end {
        Some(_) => "more requests".to_owned(),
        None => {
            let sums = usage(store, filter, &[], &config.limits.time_zone)?;
            counted(sums.iter().map(|line| line.sums.requests).sum(), "request")
        }
    };
    let cut = format!(
        "the newest {shown} of {all}: `--limit N` shows more, up to {LIMIT_MAX}, and `weir export` writes all"
    );
    Ok((rows, Some(cut)))
}

fn one(
    id: EventId,
    format: Format,
    config: &Config,
    now_ms: i64,
    out: &mut dyn Output,
) -> anyhow::Result<()> {
    let opened = open_ledger(config, "requests", now_ms)?;
    let Some(row) = opened.store.request(id)? else {
        let or_just = if opened.is_served { ", or have ended within the last second" } else { "" };
        bail!(
            "no request `{id}` in the ledger: it may still run{or_just}; rows older than data.keep_rows are gone; what \
             Weir refuses itself has no row, but a line in the server's log that says why, with \
             WEIR__LOG__FILTER=info,weir=debug"
        )
    };
    match format {
        Format::Table => {
            let all = COLUMNS.map(|column| Column::shown(column.name, column.name));
            write_one(out, format, &all, &row)
        }
        _ => write_lines(out, format, &COLUMNS, &[row], None),
    }
}

fn request_id(text: &str) -> Result<EventId, String> {
    let id: Result<uuid::Uuid, _> = text.parse();
    id.map(|id| EventId(id.into_bytes())).map_err(|_| {
        "a request's id is a UUID, as in the header x-request-id of its answer".to_owned()
    })
}

pub(super) fn end_parser() -> impl TypedValueParser<Value = End> {
    PossibleValuesParser::new(End::ALL.map(End::name))
        .map(|name| End::from_name(&name).expect("clap lets only those names pass"))
}

/// Takes how many rows there may be.
fn limit(text: &str) -> Result<u32, String> {
    let number = text.replace('_', "").parse().ok();
    number.filter(|number| (1..=LIMIT_MAX).contains(number)).ok_or_else(|| {
        format!("a whole number from 1 to {LIMIT_MAX}; `weir export` writes all there are")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::samples::{config_in, typed};
    use super::*;
    use crate::store::samples::{HOUR_MS, Sample, store_with};

    const NOW_MS: i64 = 200 * HOUR_MS;

    fn weir(dir: &tempfile::TempDir, line: &str) -> anyhow::Result<String> {
        let mut out = Vec::new();
        execute(typed(line)?, &config_in(dir.path()), NOW_MS, &mut out)?;
        Ok(String::from_utf8(out)?)
    }

    fn samples() -> Vec<Sample<'static>> {
        let sample = Sample::default();
        let other = Sample { id: 100, at_ms: NOW_MS, end: End::Timeout, model: "m", ..sample };
        (0..60).map(|id| Sample { id, at_ms: id as i64, ..sample }).chain([other]).collect()
    }

    #[test]
    fn rows_are_limited_filtered_and_newest_first() {
        let (dir, _store) = store_with(&samples());
        let started = |line: &str| {
            let text = weir(&dir, &format!("{line} --format json")).unwrap();
            let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
            let started = |row: &Value| row["started_at"].as_str().unwrap().to_owned();
            (rows.len(), rows.first().map(started), rows.last().map(started))
        };
        let at = |time: &str| Some(time.to_owned());
        let newest = at("1970-01-09T08:00:00.000Z");
        assert_eq!(started(""), (50, newest.clone(), at("1970-01-01T00:00:00.011Z")));
        assert_eq!(started("--limit 1"), (1, newest.clone(), newest.clone()));
        assert_eq!(started("--end timeout"), (1, newest.clone(), newest.clone()));
        assert_eq!(started("--since 1d"), (1, newest.clone(), newest.clone()));
        assert_eq!(started("--model m"), (1, newest.clone(), newest));
        assert_eq!(started("--end crashed"), (0, None, None));
        assert_eq!(started("--until 1970-01-01T00:00:00.001Z").0, 1);
    }

    #[test]
    fn a_list_that_was_cut_says_so_in_every_format() {
        let (dir, store) = store_with(&samples());
        let config = config_in(dir.path());
        for (limit, model, end, expected) in [
            (50, None, None, Some("the newest 50 of 61 requests")),
            (60, None, None, Some("the newest 60 of 61 requests")),
            (61, None, None, None),
            (1, Some("m"), None, None),
            (3, None, Some(End::Complete), Some("the newest 3 of more requests")),
            (60, None, Some(End::Complete), None),
        ] {
            let filter = Filter { model: model.map(str::to_owned), ..Filter::default() };
            let (rows, cut) = newest(&store, &filter, end, limit, &config).unwrap();
            assert!(rows.len() <= limit as usize);
            let begins = cut.as_deref().map(|said| said.split(':').next().unwrap());
            assert_eq!(begins, expected, "{limit}");
        }
    }

    #[test]
    fn every_field_is_a_column() {
        let (dir, _store) = store_with(&samples());
        let json = weir(&dir, "--limit 1 --format json").unwrap();
        let row = serde_json::from_str::<Vec<Value>>(&json).unwrap().remove(0);
        let mut columns: Vec<_> = COLUMNS.iter().map(|column| column.name).collect();
        let csv = weir(&dir, "--limit 1 --format csv").unwrap();
        assert_eq!(csv.lines().next(), Some(&*columns.join(",")));
        assert!(csv.contains(r#","{""prompt_tokens"":7,""x"":1.5}","#), "{csv}");
        columns.sort_unstable();
        let fields: Vec<_> = row.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(columns, fields);
    }

    #[test]
    fn a_table_shows_what_matters_to_people() {
        let (dir, _store) = store_with(&samples());
        let table = weir(&dir, "--limit 2").unwrap();
        assert_eq!(table.lines().count(), 3, "{table}");
        assert!(table.contains("1970-01-09T08:00:00.000Z") && table.contains("timeout"), "{table}");
    }

    #[test]
    fn one_request_is_found_by_the_id_of_its_answer_with_all_its_fields() {
        let (dir, _store) = store_with(&samples());
        let id = "00000000-0000-0000-0000-00000000000c";
        let shown = weir(&dir, &format!("--id {id}")).unwrap();
        assert_eq!(shown.lines().count(), COLUMNS.len(), "{shown}");
        for field in [
            format!("event_id                    {id}"),
            "upstream_request_id         req_1".to_owned(),
        ] {
            assert!(shown.lines().any(|line| line == field), "{shown}");
        }
        let json = weir(&dir, &format!("--id {} --format json", id.to_uppercase())).unwrap();
        let rows: Vec<Value> = serde_json::from_str(&json).unwrap();
        assert_eq!((rows.len(), &rows[0]["event_id"]), (1, &id.into()));
        for (line, error) in [
            ("--id 00000000-0000-0000-0000-00000000ffff", "no request `"),
            ("--id req_1", "x-request-id"),
            (&*format!("--id {id} --tenant acme"), "cannot be used with"),
        ] {
            let found = weir(&dir, line).unwrap_err().to_string();
            assert!(found.contains(error), "{line}: {found}");
        }
        assert!(weir(&dir, "--limit 60").unwrap().contains(id), "the table has what --id takes");
    }

    #[test]
    fn mistakes_are_told() {
        let (dir, _store) = store_with(&samples());
        for (line, error) in [
            ("--key key_x", "no key `key_x`"),
            ("--end never", "upstream_truncated"),
            ("--limit 0", "from 1 to 100000"),
            ("--limit 100001", "from 1 to 100000"),
            ("--limit abc", "from 1 to 100000"),
            ("--limit -1", "from 1 to 100000"),
            ("--id 00000000-0000-0000-0000-00000000ffff", "WEIR__LOG__FILTER"),
        ] {
            let found = weir(&dir, line).unwrap_err().to_string();
            assert!(found.contains(error), "{line}: {found}");
        }
    }
}
