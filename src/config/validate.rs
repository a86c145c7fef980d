//! From [`Raw`] to [`Config`]: the only validation. It goes on after a problem, so that all of
//! them are reported; the stand-in value of a problem never leaves, because then no Config does.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::SecretString;
use tracing_subscriber::EnvFilter;

use super::error::Problems;
use super::raw::{Raw, RawAdmin, RawLimits, RawModel, RawModelName, RawServer, RawUpstream};
use super::secret::{Reference, SecretError};
use super::source::Variables;
use super::suggest::nearest;
use super::{
    Admin, Admission, BaseUrl, Config, Data, Deadlines, Durability, Log, Model, ModelName,
    OnDisconnect, Secrets, Server, Upstream,
};
use crate::tenancy::Limits;

/// Bytes of a model's or an upstream's name.
const MAX_NAME_BYTES: usize = 256;

/// What validation needs to know besides the values.
pub(super) struct Context<'a> {
    /// The directory that relative paths of the file start at.
    pub(super) base: &'a Path,
    pub(super) variables: &'a Variables,
    pub(super) secrets: Secrets,
}

/// Turns `raw` into a Config, and reports what keeps it from being one.
pub(super) fn config(raw: Raw, context: &Context<'_>, problems: &mut Problems) -> Config {
    let upstreams = upstreams(raw.upstream, context, problems);
    let models = models(raw.model, &upstreams, problems);
    let config = Config {
        server: server(raw.server, problems),
        admin: admin(raw.admin, context, problems),
        data: Data {
            dir: PathBuf::from(&raw.data.dir),
            durability: durability(&raw.data.durability, problems),
            segment_bytes: raw.data.segment_bytes,
        },
        limits: limits(&raw.limits, problems),
        deadlines: Deadlines {
            request_head_ms: raw.deadlines.request_head_ms,
            request_body_idle_ms: raw.deadlines.request_body_idle_ms,
            write_progress_ms: raw.deadlines.write_progress_ms,
            shutdown_ms: raw.deadlines.shutdown_ms,
        },
        upstreams,
        models,
        log: log(raw.log.filter, &raw.log.format, problems),
    };
    if raw.data.dir.is_empty() {
        problems.wrong("data.dir", "", "must be a directory, such as \"weir-data\"");
    }
    if config.admin.listen == config.server.listen && config.server.listen.port() != 0 {
        let listen = config.admin.listen.to_string();
        problems.wrong("admin.listen", &listen, "must differ from server.listen");
    }
    config
}

fn server(raw: RawServer, problems: &mut Problems) -> Server {
    if raw.max_inflight_body_bytes < raw.max_body_bytes {
        problems.at(
            "server.max_inflight_body_bytes",
            format!(
                "{} is less than server.max_body_bytes, {}: the largest body would never pass",
                raw.max_inflight_body_bytes, raw.max_body_bytes
            ),
        );
    }
    for (index, origin) in raw.cors_origins.iter().enumerate() {
        if !is_origin(origin) {
            problems.wrong(
                &format!("server.cors_origins[{index}]"),
                origin,
                "must be an origin, such as \"https://app.example.com\", without a path; an \
                 empty list allows any",
            );
        }
    }
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    Server {
        listen: address("server.listen", &raw.listen, problems),
        workers: if raw.workers == 0 { cores() } else { raw.workers },
        max_connections: raw.max_connections,
        max_headers: raw.max_headers,
        max_head_bytes: raw.max_head_bytes,
        max_body_bytes: raw.max_body_bytes,
        max_inflight_body_bytes: raw.max_inflight_body_bytes,
        failed_keys_per_minute: raw.failed_keys_per_minute,
        cors_origins: raw.cors_origins,
    }
}

fn address(key: &str, text: &str, problems: &mut Problems) -> SocketAddr {
    text.parse().unwrap_or_else(|_| {
        let wanted = "must be an IP address with a port, such as \"127.0.0.1:8080\" or \"[::]:80\"";
        problems.wrong(key, text, wanted);
        SocketAddr::from(([127, 0, 0, 1], 0))
    })
}

/// Scheme, host and port, as browsers send them in `origin` (RFC 6454 §6.2).
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| {
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && !b"/?#@*".contains(&b))
    })
}

fn admin(raw: RawAdmin, context: &Context<'_>, problems: &mut Problems) -> Admin {
    let listen = address("admin.listen", &raw.listen, problems);
    if raw.token.is_empty() {
        return Admin { listen, token: None };
    }
    let token = match Reference::parse(&raw.token, context.base) {
        Ok(_) if context.secrets == Secrets::Optional => None,
        Ok(reference) => match reference.resolve(context.variables) {
            Ok(token) => Some(token),
            // No token: what needs one refuses everybody, and the rest works.
            Err(SecretError::Unset(_)) => None,
            Err(error) => {
                problems.at("admin.token", error.to_string());
                None
            }
        },
        Err(error) => {
            problems.at("admin.token", error.to_string());
            None
        }
    };
    Admin { listen, token }
}

fn durability(text: &str, problems: &mut Problems) -> Durability {
    match text {
        "crash" => {}
        "power" => problems.wrong(
            "data.durability",
            text,
            "is not offered by this version; \"crash\" is: records survive kill -9, not a power cut",
        ),
        _ => problems.wrong("data.durability", text, "must be \"crash\""),
    }
    Durability::Crash
}

fn limits(raw: &RawLimits, problems: &mut Problems) -> Admission {
    fn some<T: Copy + Default + PartialEq>(value: T) -> Option<T> {
        (value != T::default()).then_some(value)
    }
    let time_zone = jiff::tz::TimeZone::get(&raw.time_zone).unwrap_or_else(|_| {
        problems.wrong(
            "limits.time_zone",
            &raw.time_zone,
            "must be a time zone of the IANA database on this machine, such as \"UTC\" or \
             \"Europe/Berlin\"",
        );
        jiff::tz::TimeZone::UTC
    });
    Admission {
        new_key: Limits {
            rpm: some(raw.rpm),
            tpm: some(raw.tpm),
            concurrency: some(raw.concurrency),
            daily_tokens: some(raw.daily_tokens),
            monthly_tokens: some(raw.monthly_tokens),
            daily_requests: some(raw.daily_requests),
            monthly_requests: some(raw.monthly_requests),
        },
        rpm_burst: some(raw.rpm_burst),
        time_zone,
    }
}

fn log(filter: String, format: &str, problems: &mut Problems) -> Log {
    if let Err(error) = EnvFilter::builder().parse(&filter) {
        let wanted = format!("must be a filter, such as \"info\" or \"weir=debug\" ({error})");
        problems.wrong("log.filter", &filter, wanted);
    }
    if !matches!(format, "text" | "json") {
        problems.wrong("log.format", format, "must be \"text\" or \"json\"");
    }
    Log { filter, json: format == "json" }
}

fn upstreams(
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
        api_key: upstream_key(at, &raw.api_key, context, problems),
        models: model_names(at, raw.models, problems),
        inject_usage: raw.inject_usage,
        on_disconnect: match raw.on_disconnect.as_str() {
            "cancel" => OnDisconnect::Cancel,
            "drain" => OnDisconnect::Drain,
            other => {
                let key = format!("{at}.on_disconnect");
                problems.wrong(&key, other, "must be \"cancel\" or \"drain\"");
                OnDisconnect::Cancel
            }
        },
        drain_ms: raw.drain_ms,
        drain_max: raw.drain_max,
        ca_file: ca_file(at, &raw.ca_file, context, problems),
        connect_ms: raw.connect_ms,
        head_ms: raw.head_ms,
        idle_ms: raw.idle_ms,
        total_ms: raw.total_ms,
        pool_idle_ms: raw.pool_idle_ms,
        pool_max_idle: raw.pool_max_idle,
    }
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
        Some(text) => BaseUrl::parse(text).map_err(|error| match text.contains('@') {
            // What stands before the @ may be a password.
            true => problems.at(&key, error.to_string()),
            false => problems.wrong(&key, text, error.to_string()),
        }),
        None => Err(problems.at(&key, "is missing, such as \"https://api.example.com/v1\"")),
    };
    parsed.unwrap_or_else(|()| BaseUrl {
        tls: false,
        host: String::new(),
        port: 0,
        authority: String::new(),
        path_prefix: String::new(),
    })
}

fn upstream_key(
    at: &str,
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
    resolved.map_err(|error| problems.at(&format!("{at}.api_key"), error.to_string())).ok()
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
        let (name, upstream_name) = match raw {
            RawModelName::Same(name) => (Some(name), None),
            RawModelName::Mapped(mapping) => (mapping.name, mapping.upstream_name),
        };
        let name = model_name(&at, name, problems);
        let upstream_name = match upstream_name {
            Some(other) => model_name(&format!("{at}.upstream_name"), Some(other), problems),
            None => name.clone(),
        };
        if !name.is_empty() && !seen.insert(name.clone()) {
            problems.wrong(&at, &name, "is listed twice by this upstream");
        }
        names.push(ModelName { name, upstream_name });
    }
    names
}

fn model_name(key: &str, name: Option<String>, problems: &mut Problems) -> String {
    let Some(name) = name else {
        problems.at(key, "is missing its name");
        return String::new();
    };
    let sound = !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.trim() == name;
    if !sound || name.chars().any(char::is_control) {
        problems.wrong(key, &name, "must be a model's name of 1 to 256 bytes");
    }
    name
}

fn models(raw: Vec<RawModel>, upstreams: &[Arc<Upstream>], problems: &mut Problems) -> Vec<Model> {
    let listed: Vec<&str> = upstreams
        .iter()
        .flat_map(|upstream| upstream.models.iter().map(|model| model.name.as_str()))
        .collect();
    let mut seen = HashSet::new();
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
        models.push(Model {
            name,
            default_output_tokens: raw.default_output_tokens,
            created: raw.created,
            owned_by: raw.owned_by,
        });
    }
    models
}
