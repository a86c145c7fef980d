//! From [`Raw`] to [`Config`]: the only validation. It goes on after a problem, so that all of
//! them are reported; the stand-in value of a problem never leaves, because then no Config does.

mod prices;
mod upstreams;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::Problems;
use super::log_filter::log_filter;
use super::raw::{Raw, RawAdmin, RawLimits, RawServer};
use super::secret::{Reference, SecretError};
use super::variables::Variables;
use super::{
    Admin, Admission, Config, Data, Deadlines, Durability, Log, Retry, Secrets, Server, Unpriced,
};
use crate::price;
use crate::tenancy::Limits;

/// What validation needs to know besides the values.
pub(super) struct Context<'a> {
    /// The directory that relative paths of the file start at.
    pub(super) base: &'a Path,
    pub(super) variables: &'a Variables,
    pub(super) secrets: Secrets,
}

/// Turns `raw` into a Config, and reports what keeps it from being one.
pub(super) fn config(raw: Raw, context: &Context<'_>, problems: &mut Problems) -> Config {
    let upstreams = upstreams::upstreams(raw.upstream, context, problems);
    let models = upstreams::models(raw.model, &upstreams, problems);
    let prices = prices::prices(raw.price, &upstreams, problems);
    let config = Config {
        server: server(raw.server, problems),
        admin: admin(raw.admin, context, problems),
        data: Data {
            dir: PathBuf::from(&raw.data.dir),
            durability: durability(&raw.data.durability, problems),
            segment_bytes: raw.data.segment_bytes,
            keep_rows: keep_rows(&raw.data.keep_rows, problems),
            response_owners: raw.data.response_owners,
        },
        limits: limits(&raw.limits, problems),
        deadlines: Deadlines {
            request_head_ms: raw.deadlines.request_head_ms,
            request_body_idle_ms: raw.deadlines.request_body_idle_ms,
            request_body_ms: raw.deadlines.request_body_ms,
            request_body_bytes_per_second: raw.deadlines.request_body_bytes_per_second,
            write_progress_ms: raw.deadlines.write_progress_ms,
            shutdown_ms: raw.deadlines.shutdown_ms,
        },
        upstreams,
        models,
        prices,
        retry: Retry {
            attempts: raw.retry.attempts,
            within_ms: raw.retry.within_ms,
            budget_percent: raw.retry.budget_percent,
            on_status: raw.retry.on_status,
            on_reset: raw.retry.on_reset,
        },
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

/// What decompressing one body needs at most, which counts as held: a window of brotli's, and its state.
const DECODER_BYTES: u64 = 17 << 20;

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
    let per_address = match raw.max_connections_per_address {
        0 => raw.max_connections.div_ceil(2),
        most => most,
    };
    // Both factors are bounded far below what would overflow.
    let tenant_share = raw.max_inflight_body_bytes * raw.max_tenant_body_percent / 100;
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    Server {
        listen: address("server.listen", &raw.listen, problems),
        workers: if raw.workers == 0 { cores() } else { raw.workers },
        max_connections: raw.max_connections,
        max_connections_per_address: per_address,
        max_headers: raw.max_headers,
        max_head_bytes: raw.max_head_bytes,
        max_body_bytes: raw.max_body_bytes,
        max_inflight_body_bytes: raw.max_inflight_body_bytes,
        max_tenant_body_bytes: tenant_share.max(raw.max_body_bytes + DECODER_BYTES),
        failed_keys_per_minute: raw.failed_keys_per_minute,
        cors_origins: raw.cors_origins,
        half_close: raw.half_close,
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
    let hosts = hosts(raw.hosts, problems);
    if raw.token.is_empty() {
        return Admin { listen, token: None, hosts };
    }
    let token = match Reference::parse(&raw.token, context.base) {
        // A command that asks the running server has it, and any other works without.
        Ok(reference) if context.secrets == Secrets::Optional => {
            reference.resolve(context.variables).ok()
        }
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
    Admin { listen, token, hosts }
}

/// Names without a port, as they are compared.
fn hosts(names: Vec<String>, problems: &mut Problems) -> Vec<String> {
    for (index, name) in names.iter().enumerate() {
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        if name.is_empty() || !name.bytes().all(is_name) {
            problems.wrong(
                &format!("admin.hosts[{index}]"),
                name,
                "must be a host name without a port, such as \"weir.example.com\"",
            );
        }
    }
    names.into_iter().map(|name| name.to_ascii_lowercase()).collect()
}

fn durability(text: &str, problems: &mut Problems) -> Durability {
    match text {
        "crash" => Durability::Crash,
        "power" => Durability::Power,
        _ => {
            problems.wrong("data.durability", text, "must be \"crash\" or \"power\"");
            Durability::Crash
        }
    }
}

/// A month's balance is made anew at each start, from rows where the month begins within an hour.
const KEEP_DAYS_MIN: u64 = 35;
const KEEP_DAYS_MAX: u64 = 100_000;

fn keep_rows(text: &str, problems: &mut Problems) -> Option<Duration> {
    if text.is_empty() {
        return None;
    }
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok());
    let days = days.filter(|days| (KEEP_DAYS_MIN..=KEEP_DAYS_MAX).contains(days));
    if days.is_none() {
        let wanted = "must be days from \"35d\" on, such as \"400d\", or \"\" for ever";
        problems.wrong("data.keep_rows", text, wanted);
    }
    days.map(|days| Duration::from_secs(days * 86_400))
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
    let mut dollars = |key: &str, text: &str| {
        some(price::nano_usd(text).unwrap_or_else(|error| {
            problems.wrong(key, text, error.to_string());
            0
        }))
    };
    let daily_nano_usd = dollars("limits.daily_usd", &raw.daily_usd);
    let monthly_nano_usd = dollars("limits.monthly_usd", &raw.monthly_usd);
    let mut alert_percent = raw.alert_percent.clone();
    alert_percent.sort_unstable();
    alert_percent.dedup();
    Admission {
        new_key: Limits {
            rpm: some(raw.rpm),
            tpm: some(raw.tpm),
            concurrency: some(raw.concurrency),
            daily_tokens: some(raw.daily_tokens),
            monthly_tokens: some(raw.monthly_tokens),
            daily_requests: some(raw.daily_requests),
            monthly_requests: some(raw.monthly_requests),
            daily_nano_usd,
            monthly_nano_usd,
        },
        rpm_burst: some(raw.rpm_burst),
        time_zone,
        unpriced: unpriced(&raw.unpriced, problems),
        alert_percent,
    }
}

fn unpriced(text: &str, problems: &mut Problems) -> Unpriced {
    match text {
        "flag" => return Unpriced::Flag,
        "refuse" => {}
        _ => problems.wrong("limits.unpriced", text, "must be \"refuse\" or \"flag\""),
    }
    Unpriced::Refuse
}

fn log(filter: String, format: &str, problems: &mut Problems) -> Log {
    if let Err(error) = log_filter(&filter) {
        let wanted = format!("must be a filter, such as \"info\" or \"weir=debug\" ({error})");
        problems.wrong("log.filter", &filter, wanted);
    }
    if !matches!(format, "text" | "json") {
        problems.wrong("log.format", format, "must be \"text\" or \"json\"");
    }
    Log { filter, json: format == "json" }
}
