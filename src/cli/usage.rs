//! `weir usage`: what was used, summed up.

use std::io::Write;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::clock::Clock;
use crate::config::Config;
use crate::ledger::report::{Group, Line, usage, usd};
use crate::ledger::store::Sums;

use super::filter::{FilterArgs, check_names};
use super::open::open_ledger;
use super::output::{Column, Format, note, to_stdout, write_lines};

/// Show what was used, summed up
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// What each line stands for; several are separated by commas [default: tenant,key,model]
    #[arg(long, value_delimiter = ',', value_parser = group_parser())]
    by: Vec<Group>,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// A line with the names of its groups.
#[derive(Debug)]
struct UsageLine<'a> {
    by: &'a [Group],
    line: Line,
}

const DEFAULT_GROUPS: [Group; 3] = [Group::Tenant, Group::Key, Group::Model];

const SUMS: [Column; 8] = [
    Column::shown("requests", "requests"),
    Column::shown("input_tokens", "input"),
    Column::shown("cached_tokens", "cached"),
    Column::shown("output_tokens", "output"),
    Column::shown("reasoning_tokens", "reasoning"),
    Column::shown("total_tokens", "total"),
    Column::shown("cost_usd", "cost USD"),
    Column::shown("estimated_requests", "estimated requests"),
];

/// Writes the report.
pub(crate) fn run(args: Args, config: &Config) -> anyhow::Result<()> {
    let now_ms = Clock::system().now().unix_ms;
    to_stdout(|out| execute(args, config, now_ms, out))
}

fn execute(args: Args, config: &Config, now_ms: i64, out: &mut dyn Write) -> anyhow::Result<()> {
    let filter = args.filter.resolve(config, now_ms)?;
    let by = groups(&args.by);
    let store = open_ledger(config)?;
    let lines = usage(&store, &filter, &by, &config.limits.time_zone)?;
    if lines.is_empty() {
        check_names(&store, &filter)?;
        note("no such requests in the ledger");
    }
    let lines: Vec<_> = lines.into_iter().map(|line| UsageLine { by: &by, line }).collect();
    let columns: Vec<_> =
        by.iter().map(|group| Column::shown(group.name(), group.name())).chain(SUMS).collect();
    write_lines(out, args.format, &columns, &lines, Some(&totals(&by, &lines)))
}

fn group_parser() -> impl TypedValueParser<Value = Group> {
    PossibleValuesParser::new(Group::ALL.map(Group::name)).map(|name| {
        let group = Group::ALL.into_iter().find(|group| group.name() == name);
        group.expect("clap lets only those names pass")
    })
}

/// The groups asked for, each once, or the default ones.
fn groups(asked: &[Group]) -> Vec<Group> {
    let mut groups = Vec::new();
    for group in if asked.is_empty() { &DEFAULT_GROUPS } else { asked } {
        if !groups.contains(group) {
            groups.push(*group);
        }
    }
    groups
}

fn totals<'a>(by: &'a [Group], lines: &[UsageLine<'_>]) -> UsageLine<'a> {
    let mut sums = Sums::default();
    for line in lines {
        sums.add(&line.line.sums);
    }
    let mut groups = vec![String::new(); by.len()];
    if let Some(first) = groups.first_mut() {
        *first = "total".to_owned();
    }
    UsageLine { by, line: Line { groups, sums } }
}

impl Serialize for UsageLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Line { groups, sums } = &self.line;
        let mut map = serializer.serialize_map(Some(groups.len() + SUMS.len()))?;
        for (group, value) in self.by.iter().zip(groups) {
            map.serialize_entry(group.name(), value)?;
        }
        map.serialize_entry("requests", &sums.requests)?;
        map.serialize_entry("input_tokens", &sums.usage.input)?;
        map.serialize_entry("cached_tokens", &sums.usage.cached)?;
        map.serialize_entry("output_tokens", &sums.usage.output)?;
        map.serialize_entry("reasoning_tokens", &sums.usage.reasoning)?;
        map.serialize_entry("total_tokens", &sums.usage.total)?;
        map.serialize_entry("cost_usd", &sums.cost_nano_usd.map(usd))?;
        map.serialize_entry("estimated_requests", &sums.estimated_requests)?;
        map.end()
    }
}
