//! Validation of upstreams and models: names, addresses, keys, and that they fit together.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use secrecy::SecretString;

use super::super::error::Problems;
use super::super::raw::{IMAGE_MODEL, RawApiKey, RawMapping, RawModel, RawModelName, RawUpstream};
use super::super::secret::Reference;
use super::super::suggest::nearest;
use super::super::{
    ApiKey, BaseUrl, CANDIDATES_MAX, HeaderList, IdKind, IdKinds, Model, ModelName, OnDisconnect,
    Secrets, Unstated, Upstream,
};
use super::Context;
use crate::printable::is_hidden;

/// Bytes of the name of a field that is refused or a parameter that is let pass.
const MAX_FIELD_BYTES: usize = 40;
/// Different fields that all upstreams together refuse.
const MAX_FIELDS: usize = 512;
/// Keys of one upstream.
const API_KEYS_MAX: usize = 16;
/// Bytes of a model's name.
const MAX_NAME_BYTES: usize = 256;

pub(super) fn upstreams(
    raw: Option<Vec<RawUpstream>>,
    context: &Context<'_>,
    problems: &mut Problems,
) -> Vec<Arc<Upstream>> {
    let raw = raw.unwrap_or_else(|| vec![RawUpstream::built_in()]);
    if raw.is_empty() {
        problems.at("upstream", "must hold at least one upstream; leave it out for the default");
    }
    let mut names = HashSet::new();
    let mut upstreams = Vec::with_capacity(raw.len());
    for (index, raw) in raw.into_iter().enumerate() {
        let at = format!("upstream[{index}]");
        let upstream = upstream(&at, raw, context, problems);
        if !names.insert(upstream.name.clone()) {
            problems.wrong(&format!("{at}.name"), &upstream.name, "must differ from all others");
        }
        upstreams.push(Arc::new(upstream));
    }
    let mut candidates = HashMap::<&str, usize>::new();
    for upstream in &upstreams {
        for model in &upstream.models {
            *candidates.entry(&model.name).or_default() += upstream.api_keys.len();
        }
    }
    for (model, count) in candidates.iter().filter(|(_, count)| **count > CANDIDATES_MAX) {
        let what = format!("keys of upstreams that serve {model:?} are {count}");
        problems.at("upstream", format!("{what}; at most {CANDIDATES_MAX} fit"));
    }
    let fields: HashSet<&str> = upstreams
        .iter()
        .flat_map(|upstream: &Arc<Upstream>| upstream.refuse_fields.iter().map(String::as_str))
        .collect();
    if fields.len() > MAX_FIELDS {
        let count = fields.len();
        problems.at(
            "upstream",
            format!("refuse_fields of all upstreams name {count} fields, at most {MAX_FIELDS} fit"),
        );
    }
    upstreams
}

fn upstream(
    at: &str,
    raw: RawUpstream,
    context: &Context<'_>,
    problems: &mut Problems,
) -> Upstream {
    Upstream {
        name: upstream_name(at, raw.name, problems).into(),
        base_url: base_url(at, raw.base_url.as_deref(), problems),
        api_keys: api_keys(at, &raw.api_key, raw.api_keys, context, problems),
        models: model_names(at, raw.models, (raw.priority, raw.weight), problems),
        breaker_failures: raw.breaker_failures,
        inject_usage: raw.inject_usage,
        running_usage: running_usage(at, raw.running_usage, raw.inject_usage, problems),
        allow_query: plain_names(at, "allow_query", raw.allow_query, problems),
        refuse_fields: plain_names(at, "refuse_fields", raw.refuse_fields, problems),
        allow_background: raw.allow_background,
        on_disconnect: match raw.on_disconnect.as_str() {
            "cancel" => OnDisconnect::Cancel,
            "drain" => OnDisconnect::Drain,
            other => {
                let key = format!("{at}.on_disconnect");
                problems.wrong(&key, other, "must be \"cancel\" or \"drain\"");
                OnDisconnect::Cancel
            }
        },
        unstated: unstated(at, &raw.unstated, problems),
        drain_ms: raw.drain_ms,
        drain_max: raw.drain_max,
        ca_file: ca_file(at, &raw.ca_file, context, problems),
        connect_ms: raw.connect_ms,
        head_ms: raw.head_ms,
        idle_ms: raw.idle_ms,
        total_ms: raw.total_ms,
        pool_idle_ms: raw.pool_idle_ms,
        pool_max_idle: raw.pool_max_idle,
        request_headers: headers(&format!("{at}.request_headers"), &raw.request_headers, problems),
        response_headers: headers(
            &format!("{at}.response_headers"),
            &raw.response_headers,
            problems,
        ),
        separate_tenants: raw.separate_tenants,
        allow_ids: allow_ids(&format!("{at}.allow_ids"), &raw.allow_ids, problems),
    }
}

/// Names of fields or parameters: those of all lists together are looked for in each request.
fn plain_names(at: &str, key: &str, names: Vec<String>, problems: &mut Problems) -> Vec<String> {
    let is_field = key == "refuse_fields";
    for (index, name) in names.iter().enumerate() {
        let key = format!("{at}.{key}[{index}]");
        let fits = (1..=MAX_FIELD_BYTES).contains(&name.len());
        let (start, wanted) = match is_field {
            true => (
                name.strip_suffix('*').unwrap_or(name),
                "must be 1 to 40 of a-z 0-9 _ - and ., with a `*` at most at its end; capitals are \
                 found without being named",
            ),
            false => (name.as_str(), "must be 1 to 40 of A-Z a-z 0-9 _ - and ."),
        };
        let plain = |byte: u8| {
            byte.is_ascii_lowercase()
                || byte.is_ascii_digit()
                || b"_-.".contains(&byte)
                || (!is_field && byte.is_ascii_uppercase())
        };
        if !fits || start.is_empty() || !start.bytes().all(plain) {
            problems.wrong(&key, name, wanted);
        } else if is_field && name == "model" {
            problems.wrong(&key, name, "is in every request: all would be refused");
        }
    }
    names
}

fn unstated(at: &str, text: &str, problems: &mut Problems) -> Unstated {
    match text {
        "seen" => return Unstated::Seen,
        "reserved" => {}
        other => {
            let wanted = "must be \"reserved\" or \"seen\"";
            problems.wrong(&format!("{at}.unstated"), other, wanted);
        }
    }
    Unstated::Reserved
}

/// It is usage that Weir asks for.
fn running_usage(at: &str, asks: bool, is_injected: bool, problems: &mut Problems) -> bool {
    if asks && !is_injected {
        let key = format!("{at}.running_usage");
        problems.wrong(&key, "true", "needs inject_usage = true");
    }
    asks
}

fn headers(key: &str, raw: &[String], problems: &mut Problems) -> HeaderList {
    let mut list = HeaderList::default();
    for (index, text) in raw.iter().enumerate() {
        if let Err(wanted) = list.add(text) {
            problems.wrong(&format!("{key}[{index}]"), text, wanted);
        }
    }
    list
}

fn allow_ids(key: &str, raw: &[String], problems: &mut Problems) -> IdKinds {
    let mut kinds = IdKinds::default();
    for (index, text) in raw.iter().enumerate() {
        match IdKind::ALL.into_iter().find(|kind| kind.name() == text) {
            Some(kind) => kinds.add(kind),
            None => {
                let names = IdKind::ALL.map(IdKind::name).join(", ");
                problems.wrong(&format!("{key}[{index}]"), text, format!("must be one of {names}"));
            }
        }
    }
    kinds
}

/// The name stands in the ledger and in messages, so it is kept plain.
fn upstream_name(at: &str, name: Option<String>, problems: &mut Problems) -> String {
    let key = format!("{at}.name");
    let Some(name) = name else {
        problems.at(&key, "is missing; give the upstream a name, such as \"yisu\"");
        // Distinct, so that two nameless ones are not also called equal.
        return at.to_owned();
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
        problems.wrong(&key, &name, "must be 1 to 64 letters, digits, '.', '_' or '-'");
    }
    name
}

fn base_url(at: &str, text: Option<&str>, problems: &mut Problems) -> BaseUrl {
    let key = format!("{at}.base_url");
    let parsed = match text {
        Some(text) => BaseUrl::parse(text).map_err(|error| error.to_string()),
        None => Err("is missing, such as \"https://api.example.com/v1\"".to_owned()),
    };
    parsed.unwrap_or_else(|wanted| {
        // What stands before an @ may be a password.
        match text.filter(|text| !text.contains('@')) {
            Some(text) => problems.wrong(&key, text, wanted),
            None => problems.at(&key, wanted),
        }
        BaseUrl {
            tls: false,
            host: String::new(),
            port: 0,
            authority: String::new(),
            root: String::new(),
        }
    })
}

/// One without a name, or several with one each, which stands in the ledger.
fn api_keys(
    at: &str,
    only: &str,
    several: Vec<RawApiKey>,
    context: &Context<'_>,
    problems: &mut Problems,
) -> Vec<ApiKey> {
    if several.is_empty() {
        let secret = upstream_key(&format!("{at}.api_key"), only, context, problems);
        return vec![ApiKey { name: "".into(), secret, weight: 1 }];
    }
    if !only.is_empty() {
        problems.at(&format!("{at}.api_key"), "is set beside api_keys; put it into that list");
    }
    if several.len() > API_KEYS_MAX {
        let count = several.len();
        let wanted = format!("has {count} keys; at most {API_KEYS_MAX} fit");
        problems.at(&format!("{at}.api_keys"), wanted);
    }
    let mut names = HashSet::new();
    let mut key = |(index, raw): (usize, RawApiKey)| {
        let at = format!("{at}.api_keys[{index}]");
        let name = upstream_name(&at, raw.name, problems);
        if !names.insert(name.clone()) {
            problems.wrong(&format!("{at}.name"), &name, "must differ from all others");
        }
        if raw.key.is_empty() {
            problems.at(&format!("{at}.key"), "is missing, such as \"env:WEIR_UPSTREAM_API_KEY\"");
        }
        let secret = upstream_key(&format!("{at}.key"), &raw.key, context, problems);
        ApiKey { name: name.into(), secret, weight: raw.weight }
    };
    several.into_iter().enumerate().map(&mut key).collect()
}

fn upstream_key(
    key: &str,
    text: &str,
    context: &Context<'_>,
    problems: &mut Problems,
) -> Option<SecretString> {
    if text.is_empty() {
        return None;
    }
    let resolved = match Reference::parse(text, context.base) {
        Ok(_) if context.secrets == Secrets::Optional => return None,
        Ok(reference) => reference.resolve(context.variables),
        Err(error) => Err(error),
    };
    resolved.map_err(|error| problems.at(key, error.to_string())).ok()
}

fn ca_file(
    at: &str,
    text: &str,
    context: &Context<'_>,
    problems: &mut Problems,
) -> Option<PathBuf> {
    let path = Some(text).filter(|text| !text.is_empty()).map(|text| context.base.join(text))?;
    if context.secrets == Secrets::Required && !path.is_file() {
        let wanted = format!("must be a PEM file; there is none at {}", path.display());
        problems.wrong(&format!("{at}.ca_file"), text, wanted);
    }
    Some(path)
}

fn model_names(
    at: &str,
    raw: Option<Vec<RawModelName>>,
    (priority, weight): (u32, u64),
    problems: &mut Problems,
) -> Vec<ModelName> {
    let key = format!("{at}.models");
    let raw = raw.unwrap_or_default();
    if raw.is_empty() {
        problems.at(&key, "must list the models that this upstream serves, at least one");
    }
    let mut seen = HashSet::new();
    let mut names = Vec::with_capacity(raw.len());
    for (index, raw) in raw.into_iter().enumerate() {
        let at = format!("{key}[{index}]");
        let raw = match raw {
            RawModelName::Same(name) => RawMapping { name: Some(name), ..RawMapping::default() },
            RawModelName::Mapped(mapping) => mapping,
        };
        let RawMapping { name, upstream_name, .. } = raw;
        let name = model_name(&at, name, problems);
        let upstream_name = match upstream_name {
            Some(other) => model_name(&format!("{at}.upstream_name"), Some(other), problems),
            None => name.clone(),
        };
        if !name.is_empty() && !seen.insert(name.clone()) {
            problems.wrong(&at, &name, "is listed twice by this upstream");
        }
        let priority = raw.priority.unwrap_or(priority);
        let weight = raw.weight.unwrap_or(weight);
        names.push(ModelName { name, upstream_name, priority, weight });
    }
    names
}

fn model_name(key: &str, name: Option<String>, problems: &mut Problems) -> String {
    let Some(name) = name else {
        problems.at(key, "is missing its name");
        return String::new();
    };
    let sound = !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.trim() == name;
    if !sound || name.chars().any(is_hidden) {
        problems.wrong(key, &name, "must be a model's name of 1 to 256 bytes");
    }
    name
}

pub(super) fn models(
    raw: Vec<RawModel>,
    upstreams: &[Arc<Upstream>],
    problems: &mut Problems,
) -> Vec<Model> {
    let listed: Vec<&str> = upstreams
        .iter()
        .flat_map(|upstream| upstream.models.iter().map(|model| model.name.as_str()))
        .collect();
    let mut seen = HashSet::new();
    let mut aliases_seen = HashSet::new();
    let mut models = Vec::with_capacity(raw.len());
    for (index, raw) in raw.into_iter().enumerate() {
        let key = format!("model[{index}].name");
        let name = match raw.name {
            Some(name) => name,
            None => {
                problems.at(&key, "is missing; name a model that an upstream lists");
                continue;
            }
        };
        if !listed.contains(&name.as_str()) {
            let near = nearest(&name, listed.iter().copied());
            let hint = near.map_or(String::new(), |near| format!("; did you mean {near:?}?"));
            problems.wrong(&key, &name, format!("is a model that no upstream lists{hint}"));
        } else if !seen.insert(name.clone()) {
            problems.wrong(&key, &name, "has a [[model]] already");
        }
        for (at, alias) in raw.aliases.iter().enumerate() {
            let key = format!("model[{index}].aliases[{at}]");
            let alias = model_name(&key, Some(alias.clone()), problems);
            if listed.contains(&alias.as_str()) || !aliases_seen.insert(alias.clone()) {
                problems.wrong(&key, &alias, "is another model's name already");
            }
        }
        models.push(Model {
            aliases: raw.aliases,
            makes_images: raw.makes_images.unwrap_or(name == IMAGE_MODEL),
            name,
            default_output_tokens: raw.default_output_tokens,
            learn_reservation: raw.learn_reservation,
            created: raw.created,
            owned_by: raw.owned_by,
        });
    }
    models
}
