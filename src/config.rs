//! The configuration, valid by construction: what the file and the environment say
//! (`config/raw.rs`) has been checked, defaulted and turned into what the parts need.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use secrecy::SecretString;

use crate::tenancy::Limits;

/// Everything that `weir serve` needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    pub server: Server,
    pub admin: Admin,
    pub data: Data,
    pub limits: Admission,
    pub deadlines: Deadlines,
    pub upstreams: Vec<Arc<Upstream>>,
    /// Only what the file says; a model that an upstream lists needs no entry.
    pub models: Vec<Model>,
    pub log: Log,
}

/// The data listener and its bounds.
#[derive(Clone, Debug)]
pub struct Server {
    pub listen: SocketAddr,
    /// Worker threads; at least 1, already resolved from 0 = one per core.
    pub workers: usize,
    /// Open client connections; further ones get 503 `overloaded`.
    pub max_connections: usize,
    /// Header fields of one request.
    pub max_headers: usize,
    /// Bytes of one request head (and the size of the connection's read buffer), at least 8,192.
    pub max_head_bytes: usize,
    /// Bytes of one request body.
    pub max_body_bytes: u64,
    /// Bytes of all request bodies held at once, over all workers.
    pub max_inflight_body_bytes: u64,
    /// Failed keys per minute from one address before 429; 0 switches the limit off.
    pub failed_keys_per_minute: u32,
    /// Origins that browsers may call from; empty: any (`*`).
    pub cors_origins: Vec<String>,
}

/// Health, metrics and the administration API.
#[derive(Clone, Debug)]
pub struct Admin {
    pub listen: SocketAddr,
    pub token: Option<SecretString>,
}

/// Where the journal and the store live.
#[derive(Clone, Debug)]
pub struct Data {
    pub dir: PathBuf,
    pub durability: Durability,
    /// A journal segment is closed and the next one begun at this size.
    pub segment_bytes: u64,
}

/// What a ledger record has to survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// `kill -9` at any instant.
    Crash,
}

/// Defaults for new keys, and what holds for all limits.
#[derive(Clone, Debug)]
pub struct Admission {
    /// What a key gets that is created without limits of its own.
    pub new_key: Limits,
    /// Requests that may come at once before the rate counts; `None`: as many as the rate.
    pub rpm_burst: Option<u32>,
    /// In which days and months begin.
    pub time_zone: jiff::tz::TimeZone,
}

/// Deadlines towards the client, in milliseconds.
#[derive(Clone, Debug)]
pub struct Deadlines {
    pub request_head_ms: u64,
    pub request_body_idle_ms: u64,
    /// Without any progress in writing the response.
    pub write_progress_ms: u64,
    /// For running requests after the first signal.
    pub shutdown_ms: u64,
}

/// One OpenAI-compatible service.
#[derive(Clone, Debug)]
pub struct Upstream {
    pub name: Arc<str>,
    pub base_url: BaseUrl,
    pub api_key: Option<SecretString>,
    pub models: Vec<ModelName>,
    /// Ask streams for usage that the client did not ask for, and hide it again.
    pub inject_usage: bool,
    pub on_disconnect: OnDisconnect,
    /// How long and how many at once (per worker) a drain after a disconnect may be.
    pub drain_ms: u64,
    pub drain_max: usize,
    /// A private certificate authority, PEM.
    pub ca_file: Option<PathBuf>,
    /// DNS and TLS included.
    pub connect_ms: u64,
    pub head_ms: u64,
    pub idle_ms: u64,
    /// 0: off.
    pub total_ms: u64,
    /// An idle connection is kept this long; below the upstream's own limit.
    pub pool_idle_ms: u64,
    /// Idle connections kept per worker.
    pub pool_max_idle: usize,
}

/// A Base URL, taken apart: `https://host:port/prefix`, without a trailing `/v1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    /// What goes into `host:`, without the scheme's default port.
    pub authority: String,
    /// What stands between the authority and the endpoint's `/v1/…`; empty or `/prefix`.
    pub path_prefix: String,
}

/// A model's public name and what this upstream calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelName {
    pub name: String,
    pub upstream_name: String,
}

/// What happens to the upstream request when the client goes away mid-stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDisconnect {
    Cancel,
    Drain,
}

/// What differs from the defaults for one model.
#[derive(Clone, Debug)]
pub struct Model {
    pub name: String,
    pub default_output_tokens: u64,
    /// Seconds since the Unix epoch, as the model list shows it.
    pub created: i64,
    pub owned_by: String,
}

/// How much to log and in which form.
#[derive(Clone, Debug)]
pub struct Log {
    /// A `tracing` filter, such as `info` or `weir=debug`.
    pub filter: String,
    pub json: bool,
}
