//! `weir usage`: what was used, summed up.

use std::io::Write;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::clock::Clock;
use crate::config::Config;
use crate::ledger::report::{Group, Line, usage};
use crate::ledger::store::Sums;
use crate::price::usd;

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
    /// How the result is written
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

const SUMS: [Column; 9] = [
    Column::shown("requests", "requests"),
    Column::shown("input_tokens", "input"),
    Column::shown("cached_tokens", "cached"),
    Column::shown("output_tokens", "output"),
    Column::shown("reasoning_tokens", "reasoning"),
    Column::shown("total_tokens", "total"),
    Column::shown("cost_usd", "cost USD"),
    Column::shown("estimated_requests", "estimated requests"),
    Column::shown("unpriced_requests", "unpriced requests"),
];

/// Writes the report.
pub(crate) fn run(args: Args, config: &Config) -> anyhow::Result<()> {
    let now_ms = Clock::system().now().unix_ms;
    to_stdout(|out| execute(args, config, now_ms, out))
}

fn execute(args: Args, config: &Config, now_ms: i64, out: &mut dyn Write) -> anyhow::Result<()> {
    let filter = args.filter.resolve(config, now_ms)?;
    let by = groups(&args.by);
    let store = open_ledger(config, "usage", now_ms)?;
    let lines = usage(&store, &filter, &by, &config.limits.time_zone)?;
    if lines.is_empty() {
        check_names(&store, &filter, config)?;
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
        map.serialize_entry("unpriced_requests", &sums.unpriced_requests)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::samples::{config_in, typed};
    use super::*;
    use crate::ledger::store::samples::{HOUR_MS, Sample, store_with};
    use crate::tenancy::Limits;

    const NOW_MS: i64 = 200 * HOUR_MS;

    fn weir(dir: &tempfile::TempDir, line: &str) -> anyhow::Result<String> {
        let mut out = Vec::new();
        execute(typed(line)?, &config_in(dir.path()), NOW_MS, &mut out)?;
        Ok(String::from_utf8(out)?)
    }

    fn samples() -> [Sample<'static>; 4] {
        let sample = Sample::default();
        [
            sample,
            Sample { id: 2, ..sample },
            Sample { id: 3, key: "key_b", tenant: "beta", ..sample },
            Sample { id: 4, at_ms: NOW_MS - 1, ..sample },
        ]
    }

    #[test]
    fn json_has_the_groups_and_the_sums() {
        let (dir, _store) = store_with(&samples());
        let json = |line: &str| {
            let text = weir(&dir, &format!("{line} --format json")).unwrap();
            serde_json::from_str::<Value>(&text).unwrap()
        };
        let line = |groups: Value, requests: u64| {
            let mut line = json!({
                "requests": requests, "input_tokens": 7 * requests, "cached_tokens": 0,
                "output_tokens": 3 * requests, "reasoning_tokens": 0,
                "total_tokens": 10 * requests, "cost_usd": null, "estimated_requests": 0,
                "unpriced_requests": requests,
            });
            line.as_object_mut().unwrap().extend(groups.as_object().unwrap().clone());
            line
        };
        let of = |tenant: &str, key: &str, requests| {
            line(json!({"tenant": tenant, "key": key, "model": "gpt-5.4"}), requests)
        };
        assert_eq!(json(""), json!([of("acme", "key_a", 3), of("beta", "key_b", 1)]));
        assert_eq!(json("--since 1h --key key_a"), json!([of("acme", "key_a", 1)]));
        assert_eq!(json("--until 1970-01-06 --tenant acme"), json!([of("acme", "key_a", 2)]));
        let tenants = [line(json!({"tenant": "acme"}), 3), line(json!({"tenant": "beta"}), 1)];
        assert_eq!(json("--by tenant"), json!(tenants));
        // 196 hours are 8 days and 4 hours; with 5 hours and a half more it is still the ninth.
        let days = [
            line(json!({"day": "1970-01-05", "key": "key_a"}), 2),
            line(json!({"day": "1970-01-05", "key": "key_b"}), 1),
            line(json!({"day": "1970-01-09", "key": "key_a"}), 1),
        ];
        assert_eq!(json("--by day,key,day"), json!(days));
    }

    #[test]
    fn a_table_ends_with_the_totals_and_csv_does_not() {
        let (dir, _store) = store_with(&samples());
        let table = weir(&dir, "").unwrap();
        let totals: Vec<_> = table.lines().rev().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(totals, ["│", "total", "4", "28", "0", "12", "0", "40", "-", "0", "4", "│"]);
        let csv = weir(&dir, "--by key --format csv").unwrap();
        let expected = "key,requests,input_tokens,cached_tokens,output_tokens,reasoning_tokens,\
            total_tokens,cost_usd,estimated_requests,unpriced_requests\n\
            key_a,3,21,0,9,0,30,,0,3\nkey_b,1,7,0,3,0,10,,0,1\n";
        assert_eq!(csv, expected);
    }

    #[test]
    fn costs_are_exact_and_say_what_is_not_in_them() {
        let sample = Sample::default();
        let (dir, _store) = store_with(&[
            Sample { cost: Some(1_500_000_001), ..sample },
            Sample { id: 2, cost: Some(500_000_000), ..sample },
            Sample { id: 3, ..sample },
            Sample { id: 4, key: "key_b", cost: Some(0), ..sample },
            Sample { id: 5, key: "key_c", ..sample },
        ]);
        let csv = weir(&dir, "--by key --format csv").unwrap();
        let cost = |line: &str| {
            let fields: Vec<_> = line.split(',').collect();
            [fields[0], fields[7], fields[9]].map(str::to_owned)
        };
        let costs: Vec<_> = csv.lines().skip(1).map(cost).collect();
        let expected = [["key_a", "2.000000001", "1"], ["key_b", "0.00", "0"], ["key_c", "", "1"]];
        assert_eq!(costs, expected);
        let table = weir(&dir, "--by key").unwrap();
        let totals: Vec<_> = table.lines().rev().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(totals[totals.len() - 4..], ["2.000000001", "0", "2", "│"]);
        let json: Value =
            serde_json::from_str(&weir(&dir, "--by model --format json").unwrap()).unwrap();
        assert_eq!(json[0]["cost_usd"], json!("2.000000001"));
    }

    #[test]
    fn nothing_is_told_from_a_name_that_does_not_exist() {
        let (dir, mut store) = store_with(&samples());
        store.create_tenant("idle", &Limits::default(), None, 0).unwrap();
        assert_eq!(weir(&dir, "--tenant idle").unwrap(), "");
        assert_eq!(weir(&dir, "--tenant idle --format json").unwrap(), "[]\n");
        assert_eq!(weir(&dir, "--model never --format json").unwrap(), "[]\n");
        for (line, error) in [
            ("--tenant nobody", "no tenant `nobody`; `weir tenant list` shows them"),
            ("--key key_x", "no key `key_x`; `weir key list` shows them"),
            ("--since 1h --until 2h", "--since must be before --until"),
            ("--since whenever", "give RFC 3339"),
            ("--by week", "possible values"),
        ] {
            let found = weir(&dir, line).unwrap_err().to_string();
            assert!(found.contains(error), "{line}: {found}");
        }
    }
}
