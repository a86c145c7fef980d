//! `weir usage`: what was used, summed up.

use std::cmp::Reverse;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::clock::Clock;
use crate::config::Config;
use crate::ledger::report::{Group, Line, usage};

use crate::price::usd;
use crate::store::{Store, StoreError, Sums};

use super::filter::{FilterArgs, check_names};
use super::open::open_ledger;
use super::output::{Column, Format, Output, grouped, note, to_stdout, write_lines};

/// Show what was used, summed up
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// What each line stands for; several are separated by commas [default: tenant,key,model]
    #[arg(long, value_delimiter = ',', value_parser = group_parser())]
    by: Vec<Group>,
    /// The lines with the most first, by this field or column [default: as they are grouped]
    #[arg(long, value_name = "FIELD", value_parser = sum_parser())]
    sort: Option<String>,
    /// Only so many lines, those with the most [default field: cost_usd where there is a cost, else total_tokens]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    top: Option<u32>,
    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// A line with the names of its groups.
#[derive(Debug)]
struct UsageLine<'a> {
    by: &'a [Group],
    line: Line,
    /// What the key is called, if lines stand for keys.
    key_name: Option<String>,
}

const KEY_NAME: Column = Column::ranked("key_name", "key name", 2);

const DEFAULT_GROUPS: [Group; 3] = [Group::Tenant, Group::Key, Group::Model];

const SUMS: [Column; 9] = [
    Column::shown("requests", "requests"),
    Column::ranked("input_tokens", "input", 4),
    Column::ranked("cached_tokens", "cached", 6),
    Column::ranked("output_tokens", "output", 4),
    Column::ranked("reasoning_tokens", "reasoning", 6),
    Column::shown("total_tokens", "total"),
    Column::ranked("cost_usd", "cost USD", 1).amount(),
    Column::ranked("estimated_requests", "estimated", 5),
    Column::ranked("unpriced_requests", "unpriced", 3),
];

/// What a table calls the sums, for `--sort`, and what people do.
const WORDS: [(&str, &str); 9] = [
    ("input", "input_tokens"),
    ("cached", "cached_tokens"),
    ("output", "output_tokens"),
    ("reasoning", "reasoning_tokens"),
    ("total", "total_tokens"),
    ("tokens", "total_tokens"),
    ("cost", "cost_usd"),
    ("estimated", "estimated_requests"),
    ("unpriced", "unpriced_requests"),
];

/// Writes the report.
pub(crate) fn run(args: Args, config: &Config) -> anyhow::Result<()> {
    let now_ms = Clock::system().now().unix_ms;
    to_stdout(|out| execute(args, config, now_ms, out))
}

fn execute(args: Args, config: &Config, now_ms: i64, out: &mut dyn Output) -> anyhow::Result<()> {
    let filter = args.filter.resolve(config, now_ms)?;
    let by = groups(&args.by);
    let opened = open_ledger(config, "usage", now_ms)?;
    let store = &opened.store;
    let lines = usage(store, &filter, &by, &config.limits.time_zone)?;
    if lines.is_empty() {
        check_names(store, &filter, config)?;
        opened.tell_nothing();
    }
    let mut lines: Vec<_> =
        lines.into_iter().map(|line| UsageLine { by: &by, line, key_name: None }).collect();
    let totals = totals(&by, &lines);
    keep_most(&mut lines, args.sort.as_deref(), args.top);
    name_keys(&mut lines, &by, store)?;
    let mut columns: Vec<_> =
        by.iter().map(|group| Column::shown(group.name(), group.name())).chain(SUMS).collect();
    if let Some(at) = by.iter().position(|group| *group == Group::Key) {
        columns.insert(at + 1, KEY_NAME);
    }
    write_lines(out, args.format, &columns, &lines, Some(&totals))
}

/// Sorts the lines by a field, those with the most first, and keeps as many as are wanted.
fn keep_most(lines: &mut Vec<UsageLine<'_>>, sort: Option<&str>, top: Option<u32>) {
    let has_cost =
        lines.iter().any(|line| line.line.sums.cost_nano_usd.is_some_and(|cost| cost > 0));
    let field = match (sort, top) {
        (None, None) => return,
        (Some(field), _) => field,
        (None, Some(_)) if has_cost => "cost_usd",
        (None, Some(_)) => "total_tokens",
    };
    lines.sort_by_key(|line| Reverse(line.line.amount(field)));
    let top = top.map_or(usize::MAX, |top| top as usize);
    if lines.len() > top {
        let all = grouped(&lines.len().to_string());
        note(&format!(
            "{} of {all} lines, those with the most {field}; the totals are of all",
            grouped(&top.to_string())
        ));
        lines.truncate(top);
    }
}

/// Looks up what the keys are called, where lines stand for keys.
fn name_keys(lines: &mut [UsageLine<'_>], by: &[Group], store: &Store) -> Result<(), StoreError> {
    let Some(at) = by.iter().position(|group| *group == Group::Key) else { return Ok(()) };
    let ids: Vec<_> = lines.iter().map(|line| line.line.groups[at].clone()).collect();
    let names = store.key_names(&ids.iter().map(String::as_str).collect::<Vec<_>>())?;
    for (line, id) in lines.iter_mut().zip(&ids) {
        line.key_name = names.get(&**id).cloned();
    }
    Ok(())
}

impl Line {
    /// A sum, by the name of its column.
    fn amount(&self, field: &str) -> u64 {
        let Sums { usage, .. } = &self.sums;
        match field {
            "requests" => self.sums.requests,
            "input_tokens" => usage.input,
            "cached_tokens" => usage.cached,
            "output_tokens" => usage.output,
            "reasoning_tokens" => usage.reasoning,
            "cost_usd" => self.sums.cost_nano_usd.map_or(0, |cost| cost.cast_unsigned()),
            "estimated_requests" => self.sums.estimated_requests,
            "unpriced_requests" => self.sums.unpriced_requests,
            _ => usage.total,
        }
    }
}

/// Takes a sum by its field's name or by its word in a table, and gives the field's name.
fn sum_parser() -> impl TypedValueParser<Value = String> {
    let names = SUMS.iter().map(|column| column.name);
    PossibleValuesParser::new(names.chain(WORDS.map(|(word, _)| word))).map(|typed| {
        let named = WORDS.iter().find(|(word, _)| *word == typed);
        named.map_or(typed, |(_, name)| (*name).to_owned())
    })
}

fn group_parser() -> impl TypedValueParser<Value = Group> {
    PossibleValuesParser::new(Group::ALL.map(Group::name)).map(|name| {
        let group = Group::ALL.into_iter().find(|group| group.name() == name);
        group.expect("clap lets only those names pass")
    })
}

/// The groups asked for, each once, or the default ones. A key has its tenant before it, by whom people know it.
fn groups(asked: &[Group]) -> Vec<Group> {
    let mut groups = Vec::new();
    let has_tenant = asked.contains(&Group::Tenant);
    for group in if asked.is_empty() { &DEFAULT_GROUPS } else { asked } {
        if *group == Group::Key && !has_tenant && !groups.contains(&Group::Tenant) {
            groups.push(Group::Tenant);
        }
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
    UsageLine { by, line: Line { groups, sums }, key_name: Some(String::new()) }
}

impl Serialize for UsageLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Line { groups, sums } = &self.line;
        let mut map = serializer.serialize_map(None)?;
        for (group, value) in self.by.iter().zip(groups) {
            map.serialize_entry(group.name(), value)?;
            if *group == Group::Key {
                map.serialize_entry(KEY_NAME.name, &self.key_name)?;
            }
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
    use crate::store::NewKey;
    use crate::store::samples::{HOUR_MS, Sample, new_key, store_with};
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
            let groups =
                json!({"tenant": tenant, "key": key, "key_name": null, "model": "gpt-5.4"});
            line(groups, requests)
        };
        assert_eq!(json(""), json!([of("acme", "key_a", 3), of("beta", "key_b", 1)]));
        assert_eq!(json("--since 1h --key key_a"), json!([of("acme", "key_a", 1)]));
        assert_eq!(json("--until 1970-01-06 --tenant acme"), json!([of("acme", "key_a", 2)]));
        let tenants = [line(json!({"tenant": "acme"}), 3), line(json!({"tenant": "beta"}), 1)];
        assert_eq!(json("--by tenant"), json!(tenants));
        // 196 hours are 8 days and 4 hours; with 5 hours and a half more it is still the ninth.
        let day = |day: &str, tenant: &str, key: &str| json!({"day": day, "tenant": tenant, "key": key, "key_name": null});
        let days = [
            line(day("1970-01-05", "acme", "key_a"), 2),
            line(day("1970-01-05", "beta", "key_b"), 1),
            line(day("1970-01-09", "acme", "key_a"), 1),
        ];
        assert_eq!(json("--by day,key,day"), json!(days));
    }

    #[test]
    fn a_table_ends_with_the_totals_and_csv_does_not() {
        let (dir, _store) = store_with(&samples());
        let table = weir(&dir, "").unwrap();
        let totals: Vec<_> = table.lines().next_back().unwrap().split_whitespace().collect();
        assert_eq!(totals, ["total", "4", "28", "12", "40", "4"]);
        let csv = weir(&dir, "--by key --format csv").unwrap();
        let expected = "tenant,key,key_name,requests,input_tokens,cached_tokens,output_tokens,reasoning_tokens,\
            total_tokens,cost_usd,estimated_requests,unpriced_requests\n\
            acme,key_a,,3,21,0,9,0,30,,0,3\nbeta,key_b,,1,7,0,3,0,10,,0,1\n";
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
            [fields[1], fields[9], fields[11]].map(str::to_owned)
        };
        let costs: Vec<_> = csv.lines().skip(1).map(cost).collect();
        let expected = [["key_a", "2.000000001", "1"], ["key_b", "0.00", "0"], ["key_c", "", "1"]];
        assert_eq!(costs, expected);
        let table = weir(&dir, "--by key").unwrap();
        let totals: Vec<_> = table.lines().next_back().unwrap().split_whitespace().collect();
        assert_eq!(totals[totals.len() - 2..], ["2.000000001", "2"]);
        let json: Value =
            serde_json::from_str(&weir(&dir, "--by model --format json").unwrap()).unwrap();
        assert_eq!(json[0]["cost_usd"], json!("2.000000001"));
    }

    #[test]
    fn those_with_the_most_come_first_and_the_totals_are_of_all() {
        let sample = Sample::default();
        let (dir, mut store) = store_with(&[
            Sample { cost: Some(5), ..sample },
            Sample { id: 2, cost: Some(5), ..sample },
            Sample { id: 3, key: "key_1", tenant: "beta", cost: Some(1_000), ..sample },
            Sample { id: 4, key: "key_c", tenant: "gamma", ..sample },
        ]);
        let named = NewKey { name: "ci".to_owned(), ..new_key(1, "beta") };
        store.create_key(&named, 0).unwrap();
        let first = |line: &str| {
            let csv = weir(&dir, &format!("{line} --format csv")).unwrap();
            csv.lines()
                .skip(1)
                .map(|line| line.split(',').next().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(first("--by tenant"), ["acme", "beta", "gamma"]);
        assert_eq!(first("--by tenant --sort cost_usd"), ["beta", "acme", "gamma"]);
        assert_eq!(first("--by tenant --sort requests"), ["acme", "beta", "gamma"]);
        assert_eq!(first("--by tenant --top 1"), ["beta"]);
        assert_eq!(first("--by tenant --top 9 --sort total_tokens"), ["acme", "beta", "gamma"]);
        let table = weir(&dir, "--by key --top 1").unwrap();
        assert!(
            table.contains("beta") && table.contains("key_1") && table.contains("ci"),
            "{table}"
        );
        let totals = table.lines().next_back().unwrap();
        assert!(totals.starts_with("total") && totals.contains("40"), "{table}");
        for column in SUMS {
            let word = column.heading.and_then(|heading| heading.split(' ').next()).unwrap();
            let [by_word, by_name] = [word, column.name]
                .map(|by| weir(&dir, &format!("--by tenant --sort {by} --format csv")).unwrap());
            assert_eq!(by_word, by_name, "{word}");
        }
        assert_eq!(first("--by tenant --sort cost"), ["beta", "acme", "gamma"]);
        assert_eq!(first("--by tenant --sort tokens"), ["acme", "beta", "gamma"]);
        assert!(weir(&dir, "--top 0").is_err());
        let told = weir(&dir, "--sort money").unwrap_err().to_string();
        for (word, name) in WORDS {
            assert!(
                told.contains(&format!("{word},")) || told.contains(&format!("{word}]")),
                "{told}"
            );
            assert!(told.contains(name), "{told}");
        }
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
