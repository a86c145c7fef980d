//! The table of all configuration keys, with the type and the range of each. The merged tree of
//! file and environment is walked against it before serde sees it, because serde stops at the
//! first thing it does not like, and a person wants to hear everything at once.

use config::{Value, ValueKind};

use super::error::{Problems, shown};
use super::source::ENVIRONMENT;
use super::suggest::nearest;

/// One key of a table.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

/// What a key's value has to be.
#[derive(Debug)]
pub(super) enum Kind {
    Bool,
    /// A whole number from … to …, both included.
    Int(i64, i64),
    /// Text; the words say which.
    Text(&'static str),
    /// A secret reference: text that is never shown.
    Secret,
    /// An amount in dollars: decimal text, or a whole number, which becomes text.
    Usd,
    /// A list of so many whole numbers from … to …; from the environment, divided by commas.
    Ints(usize, i64, i64),
    /// A list of text; from the environment, divided by commas.
    Texts(&'static str),
    /// A list of model names or mappings.
    Models,
    Table(&'static [Key]),
    Tables(&'static [Key]),
}

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind }
}

const ADDRESS: &str = "an IP address with a port, such as \"127.0.0.1:8080\"";
/// Text, because a TOML number with a point is not exact.
const DAY_MS: i64 = 86_400_000;
/// Token counts and the like: anything that can be counted in this life.
const MANY: i64 = 1 << 60;
const FIELDS: &str = "header fields, such as [\"http-referer\", \"x-acme-*\"]";
const U32: i64 = u32::MAX as i64;

/// The whole file.
pub(super) const ROOT: &[Key] = &[
    key("server", Kind::Table(SERVER)),
    key("admin", Kind::Table(ADMIN)),
    key("data", Kind::Table(DATA)),
    key("limits", Kind::Table(LIMITS)),
    key("deadlines", Kind::Table(DEADLINES)),
    key("upstream", Kind::Tables(UPSTREAM)),
    key("model", Kind::Tables(MODEL)),
    key("price", Kind::Tables(PRICE)),
    key("retry", Kind::Table(RETRY)),
    key("log", Kind::Table(LOG)),
];

const SERVER: &[Key] = &[
    key("listen", Kind::Text(ADDRESS)),
    key("workers", Kind::Int(0, 1024)),
    key("max_connections", Kind::Int(1, 1_000_000)),
    key("max_connections_per_address", Kind::Int(0, 1_000_000)),
    key("max_headers", Kind::Int(16, 1024)),
    // hyper's parser refuses buffers below 8 KiB.
    key("max_head_bytes", Kind::Int(8192, 1 << 20)),
    key("max_body_bytes", Kind::Int(1024, 1 << 30)),
    key("max_inflight_body_bytes", Kind::Int(1024, 1 << 40)),
    key("max_tenant_body_percent", Kind::Int(1, 100)),
    key("failed_keys_per_minute", Kind::Int(0, 1_000_000)),
    key("cors_origins", Kind::Texts("origins, such as [\"https://app.example.com\"]")),
    key("half_close", Kind::Bool),
];

const ADMIN: &[Key] = &[
    key("listen", Kind::Text(ADDRESS)),
    key("token", Kind::Secret),
    key("hosts", Kind::Texts("host names, such as [\"weir.example.com\"]")),
];

const DATA: &[Key] = &[
    key("dir", Kind::Text("a directory, such as \"weir-data\"")),
    key("durability", Kind::Text("\"crash\" or \"power\"")),
    key("segment_bytes", Kind::Int(64 << 10, 1 << 30)),
    key("keep_rows", Kind::Text("days, such as \"400d\", or \"\" for ever")),
    key("response_owners", Kind::Int(1_000, 100_000_000)),
];

const LIMITS: &[Key] = &[
    key("rpm", Kind::Int(0, U32)),
    key("tpm", Kind::Int(0, MANY)),
    key("concurrency", Kind::Int(0, U32)),
    key("daily_tokens", Kind::Int(0, MANY)),
    key("monthly_tokens", Kind::Int(0, MANY)),
    key("daily_requests", Kind::Int(0, MANY)),
    key("monthly_requests", Kind::Int(0, MANY)),
    key("daily_usd", Kind::Usd),
    key("monthly_usd", Kind::Usd),
    key("rpm_burst", Kind::Int(0, U32)),
    key("time_zone", Kind::Text("a time zone, such as \"UTC\" or \"Europe/Berlin\"")),
    key("unpriced", Kind::Text("\"refuse\" or \"flag\"")),
    key("alert_percent", Kind::Ints(8, 1, 100)),
];

const DEADLINES: &[Key] = &[
    key("request_head_ms", Kind::Int(1, DAY_MS)),
    key("request_body_idle_ms", Kind::Int(1, DAY_MS)),
    key("request_body_ms", Kind::Int(1, DAY_MS)),
    key("request_body_bytes_per_second", Kind::Int(0, 1 << 30)),
    key("write_progress_ms", Kind::Int(1, DAY_MS)),
    key("shutdown_ms", Kind::Int(0, DAY_MS)),
];

const UPSTREAM: &[Key] = &[
    key("name", Kind::Text("a name, such as \"yisu\"")),
    key("base_url", Kind::Text("a URL, such as \"https://api.example.com/v1\"")),
    key("api_key", Kind::Secret),
    key("api_keys", Kind::Tables(API_KEY)),
    key("models", Kind::Models),
    key("priority", Kind::Int(0, 1_000)),
    key("weight", Kind::Int(1, 1_000)),
    key("breaker_failures", Kind::Int(0, 1_000)),
    key("inject_usage", Kind::Bool),
    key("running_usage", Kind::Bool),
    key("allow_query", Kind::Texts("names of parameters, such as [\"api-version\"]")),
    key("refuse_fields", Kind::Texts("names of fields, such as [\"fallbacks\", \"mock_*\"]")),
    key("allow_background", Kind::Bool),
    key("on_disconnect", Kind::Text("\"cancel\" or \"drain\"")),
    key("unstated", Kind::Text("\"reserved\" or \"seen\"")),
    key("drain_ms", Kind::Int(1, DAY_MS)),
    key("drain_max", Kind::Int(0, 100_000)),
    key("ca_file", Kind::Text("the path of a PEM file")),
    key("connect_ms", Kind::Int(1, DAY_MS)),
    key("head_ms", Kind::Int(1, DAY_MS)),
    key("idle_ms", Kind::Int(1, DAY_MS)),
    key("total_ms", Kind::Int(0, DAY_MS)),
    key("pool_idle_ms", Kind::Int(0, DAY_MS)),
    key("pool_max_idle", Kind::Int(0, 100_000)),
    key("request_headers", Kind::Texts(FIELDS)),
    key("response_headers", Kind::Texts(FIELDS)),
    key("separate_tenants", Kind::Bool),
    key("allow_ids", Kind::Texts("kinds of ids, such as [\"file_id\"]")),
];

/// One of several keys of an upstream.
const API_KEY: &[Key] = &[
    key("name", Kind::Text("a name, such as \"team-a\"")),
    key("key", Kind::Secret),
    key("weight", Kind::Int(1, 1_000)),
];

const RETRY: &[Key] = &[
    key("attempts", Kind::Int(1, 10)),
    key("within_ms", Kind::Int(1, DAY_MS)),
    key("budget_percent", Kind::Int(0, 100)),
    key("on_status", Kind::Ints(16, 400, 599)),
    key("on_reset", Kind::Bool),
];

/// A model under another name, or with a place of its own among those who serve it.
const MAPPING: &[Key] = &[
    key("name", Kind::Text("the public name")),
    key("upstream_name", Kind::Text("the upstream's name")),
    key("priority", Kind::Int(0, 1_000)),
    key("weight", Kind::Int(1, 1_000)),
];

const MODEL: &[Key] = &[
    key("name", Kind::Text("a model's public name")),
    key("default_output_tokens", Kind::Int(1, 100_000_000)),
    key("makes_images", Kind::Bool),
    key("learn_reservation", Kind::Bool),
    key("aliases", Kind::Texts("other public names, such as [\"gpt-latest\"]")),
    // Up to the end of the year 9999.
    key("created", Kind::Int(0, 253_402_300_799)),
    key("owned_by", Kind::Text("a name, such as \"system\"")),
];

const PRICE: &[Key] = &[
    key("model", Kind::Text("a model's public name")),
    key("from", Kind::Text("a date or RFC 3339, such as \"2026-01-01\"")),
    key("input", Kind::Usd),
    key("cached_input", Kind::Usd),
    key("cache_write", Kind::Usd),
    key("output", Kind::Usd),
    key("reasoning", Kind::Usd),
    key("image_input", Kind::Usd),
    key("image_output", Kind::Usd),
    key("audio_input", Kind::Usd),
    key("audio_output", Kind::Usd),
    key("per_request", Kind::Usd),
    key("per_image", Kind::Usd),
    key("per_second", Kind::Usd),
];

const LOG: &[Key] = &[
    key("filter", Kind::Text("a filter, such as \"info\" or \"weir=debug\"")),
    key("format", Kind::Text("\"text\" or \"json\"")),
];

/// Reports every unknown key, wrong type and number out of range in `root`, and takes them out, so
/// that what is left deserializes into `Raw`.
pub(super) fn check(root: &mut Value, problems: &mut Problems) {
    check_value("", root, &Kind::Table(ROOT), problems);
}

fn check_table(
    path: &str,
    table: &mut config::Map<String, Value>,
    keys: &[Key],
    problems: &mut Problems,
) {
    table.retain(|name, value| {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match keys.iter().find(|key| key.name == name) {
            Some(key) => check_value(&path, value, &key.kind, problems),
            None => {
                // An unknown key may be a misspelt secret, so its value is not shown.
                problems.at(&path, unknown(name, keys));
                false
            }
        }
    });
}

/// Checks one value, and says whether it may stay.
fn check_value(path: &str, value: &mut Value, kind: &Kind, problems: &mut Problems) -> bool {
    if value.origin() == Some(ENVIRONMENT) {
        parse_variable(value, kind);
    }
    let fits = match (kind, &mut value.kind) {
        (Kind::Table(keys), ValueKind::Table(table)) => {
            check_table(path, table, keys, problems);
            true
        }
        (Kind::Tables(keys), ValueKind::Array(tables)) => {
            check_tables(path, tables, keys, problems);
            true
        }
        (Kind::Models, ValueKind::Array(models)) => {
            check_models(path, models, problems);
            true
        }
        (Kind::Texts(_), ValueKind::Array(texts)) => {
            texts.iter().all(|text| matches!(text.kind, ValueKind::String(_)))
        }
        (Kind::Ints(most, from, to), ValueKind::Array(numbers)) => {
            let fits = |number: &Value| match number.kind {
                ValueKind::I64(number) => (*from..=*to).contains(&number),
                _ => false,
            };
            numbers.len() <= *most && numbers.iter().all(fits)
        }
        (Kind::Bool, ValueKind::Boolean(_)) => true,
        (Kind::Int(from, to), ValueKind::I64(number)) => (*from..=*to).contains(number),
        (Kind::Text(_) | Kind::Secret | Kind::Usd, ValueKind::String(_)) => true,
        (Kind::Usd, whole @ ValueKind::I64(0..)) => {
            *whole = ValueKind::String(whole.to_string());
            true
        }
        _ => false,
    };
    if !fits {
        let value = (!matches!(kind, Kind::Secret)).then(|| show(value));
        problems.push(path, value, kind.wanted());
    }
    fits
}

/// Checks a list of tables; what is no table is reported and stands as an empty one.
fn check_tables(path: &str, tables: &mut [Value], keys: &'static [Key], problems: &mut Problems) {
    for (index, table) in tables.iter_mut().enumerate() {
        if !check_value(&format!("{path}[{index}]"), table, &Kind::Table(keys), problems) {
            table.kind = ValueKind::Table(config::Map::new());
        }
    }
}

fn check_models(path: &str, models: &mut [Value], problems: &mut Problems) {
    for (index, model) in models.iter_mut().enumerate() {
        let path = format!("{path}[{index}]");
        match &mut model.kind {
            ValueKind::String(_) => {}
            ValueKind::Table(table) => check_table(&path, table, MAPPING, problems),
            _ => {
                problems.push(&path, Some(show(model)), Kind::Models.wanted());
                model.kind = ValueKind::Table(config::Map::new());
            }
        }
    }
}

/// The environment holds only text: reads it as what its key wants. What can't be read stays text,
/// and is then reported like any other wrong type.
fn parse_variable(value: &mut Value, kind: &Kind) {
    let ValueKind::String(text) = &value.kind else { return };
    let text = text.trim();
    let parsed = match kind {
        Kind::Bool => text.parse().ok().map(ValueKind::Boolean),
        Kind::Int(..) => text.parse().ok().map(ValueKind::I64),
        Kind::Ints(..) => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            let numbers = parts.map(|part| Some(Value::new(None, part.parse::<i64>().ok()?)));
            numbers.collect::<Option<_>>().map(ValueKind::Array)
        }
        Kind::Texts(_) => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            Some(ValueKind::Array(parts.map(|part| Value::new(None, part)).collect()))
        }
        _ => None,
    };
    if let Some(parsed) = parsed {
        value.kind = parsed;
    }
}

/// A value as an error shows it.
fn show(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) => shown(text),
        ValueKind::Table(_) => "{ … }".to_owned(),
        ValueKind::Array(_) => "[ … ]".to_owned(),
        plain => plain.to_string(),
    }
}

/// What to say about a key that no table has under this name.
fn unknown(name: &str, siblings: &[Key]) -> String {
    if let Some(near) = nearest(name, siblings.iter().map(|key| key.name)) {
        return format!("is not a known key; did you mean {near:?}?");
    }
    let elsewhere = ROOT.iter().find_map(|table| match table.kind {
        Kind::Table(keys) => keys.iter().any(|key| key.name == name).then_some(table.name),
        _ => None,
    });
    if let Some(table) = elsewhere {
        return format!("is not a known key here; it belongs into [{table}]");
    }
    let names: Vec<_> = siblings.iter().map(|key| key.name).collect();
    format!("is not a known key; known are {}", names.join(", "))
}

/// The paths of all keys that a variable can override, but for secrets: what looks like one of those may be what
/// a reference names.
pub(super) fn paths() -> Vec<String> {
    let of_table = |table: &'static Key| -> Vec<String> {
        let Kind::Table(keys) = table.kind else { return Vec::new() };
        let plain = keys.iter().filter(|key| !matches!(key.kind, Kind::Secret));
        plain.map(|key| format!("{}.{}", table.name, key.name)).collect()
    };
    ROOT.iter().flat_map(of_table).collect()
}

impl Kind {
    fn wanted(&self) -> String {
        match self {
            Self::Bool => "must be true or false".to_owned(),
            Self::Int(from, to) => format!("must be a whole number from {from} to {to}"),
            Self::Ints(most, from, to) => {
                format!("must be a list of up to {most} whole numbers from {from} to {to}")
            }
            Self::Text(which) => format!("must be {which}"),
            Self::Secret => "must be a reference, \"env:NAME\" or \"file:PATH\"".to_owned(),
            // A float has lost the digits that were written.
            Self::Usd => {
                "must be an amount in dollars, in quotes if it has decimals: \"2.50\"".to_owned()
            }
            Self::Texts(which) => format!("must be a list of {which}"),
            Self::Models => "must be a list of model names, each \"NAME\" or { name = \"NAME\", \
                             upstream_name = \"OTHER\" }"
                .to_owned(),
            Self::Table(_) => "must be a table".to_owned(),
            Self::Tables(_) => {
                "must be a list of tables, each [[…]] in a file; no variable can set it".to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde::de::DeserializeOwned;

    use super::super::raw::{
        Raw, RawAdmin, RawApiKey, RawData, RawDeadlines, RawLimits, RawLog, RawMapping, RawModel,
        RawPrice, RawRetry, RawServer, RawUpstream,
    };
    use super::*;

    /// The fields of `T`, from serde's own mouth: it lists them when it meets an unknown one.
    fn fields<T: DeserializeOwned>() -> BTreeSet<String> {
        let table = config::Map::from([("?".to_owned(), Value::new(None, 1))]);
        let error = Value::new(None, table).try_deserialize::<T>().err();
        let error = error.expect("no struct has a field called ?").to_string();
        let (_, expected) = error.split_once("expected").expect("serde lists what it expects");
        expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn the_table_and_the_mirror_of_the_file_have_the_same_keys() {
        let pairs = [
            (ROOT, fields::<Raw>()),
            (SERVER, fields::<RawServer>()),
            (ADMIN, fields::<RawAdmin>()),
            (DATA, fields::<RawData>()),
            (LIMITS, fields::<RawLimits>()),
            (DEADLINES, fields::<RawDeadlines>()),
            (UPSTREAM, fields::<RawUpstream>()),
            (API_KEY, fields::<RawApiKey>()),
            (RETRY, fields::<RawRetry>()),
            (MAPPING, fields::<RawMapping>()),
            (MODEL, fields::<RawModel>()),
            (PRICE, fields::<RawPrice>()),
            (LOG, fields::<RawLog>()),
        ];
        for (keys, fields) in pairs {
            let keys: BTreeSet<String> = keys.iter().map(|key| key.name.to_owned()).collect();
            assert_eq!(keys, fields);
        }
    }
}
