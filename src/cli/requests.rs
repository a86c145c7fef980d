//! `weir requests`: the ledger's rows, newest first.

use std::io::Write;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::clock::Clock;
use crate::config::Config;
use crate::ledger::report::requests;
use crate::usage::End;

use super::filter::{FilterArgs, check_names};
use super::open::open_ledger;
use super::output::{Column, Format, note, to_stdout, write_lines};

/// Rows are collected before they are written; a longer list is fetched in parts, by `--until`.
const LIMIT_MAX: i64 = 100_000;

/// List single requests, newest first
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// Only requests that ended like this
    #[arg(long, value_name = "E", value_parser = end_parser())]
    end: Option<End>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = limit_parser())]
    limit: u32,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

const COLUMNS: [Column; 33] = [
    Column::hidden("event_id"),
    Column::shown("started_at", "started"),
    Column::shown("tenant", "tenant"),
    Column::shown("key_id", "key"),
    Column::shown("model", "model"),
    Column::hidden("model_served"),
    Column::hidden("upstream"),
    Column::hidden("endpoint"),
    Column::shown("status", "status"),
    Column::hidden("upstream_status"),
    Column::shown("end", "end"),
    Column::shown("usage_source", "usage"),
    Column::shown("input_tokens", "input"),
    Column::shown("cached_tokens", "cached"),
    Column::hidden("cache_write_tokens"),
    Column::shown("output_tokens", "output"),
    Column::hidden("reasoning_tokens"),
    Column::hidden("audio_input_tokens"),
    Column::hidden("audio_output_tokens"),
    Column::hidden("image_input_tokens"),
    Column::hidden("image_output_tokens"),
    Column::hidden("accepted_prediction_tokens"),
    Column::hidden("rejected_prediction_tokens"),
    Column::shown("total_tokens", "total"),
    Column::hidden("raw_usage"),
    Column::hidden("reserved_tokens"),
    Column::shown("cost_usd", "cost USD"),
    Column::shown("ttfb_ms", "first byte ms"),
    Column::shown("duration_ms", "duration ms"),
    Column::hidden("attempts"),
    Column::hidden("streamed"),
    Column::hidden("flags"),
    Column::hidden("upstream_request_id"),
];

/// Writes the list.
pub(crate) fn run(args: Args, config: &Config) -> anyhow::Result<()> {
    let now_ms = Clock::system().now().unix_ms;
    to_stdout(|out| execute(args, config, now_ms, out))
}

fn execute(args: Args, config: &Config, now_ms: i64, out: &mut dyn Write) -> anyhow::Result<()> {
    let filter = args.filter.resolve(config, now_ms)?;
    let store = open_ledger(config)?;
    let rows = requests(&store, &filter, args.end, args.limit)?;
    if rows.is_empty() {
        check_names(&store, &filter)?;
        note("no such requests in the ledger");
    }
    write_lines(out, args.format, &COLUMNS, &rows, None)
}

fn end_parser() -> impl TypedValueParser<Value = End> {
    PossibleValuesParser::new(End::ALL.map(End::name))
        .map(|name| End::from_name(&name).expect("clap lets only those names pass"))
}

fn limit_parser() -> impl TypedValueParser<Value = u32> {
    clap::value_parser!(u32).range(1..=LIMIT_MAX)
}
