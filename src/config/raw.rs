//! The mirror of the configuration file: the same tables and keys, with every default in place.
//! Nothing is checked here beyond shape; `validate.rs` turns it into a [`super::Config`].

use serde::Deserialize;

use super::refused;

/// Where requests go when the file names no upstream.
pub(super) const DEFAULT_UPSTREAM: &str = "yisu";
/// The Base URL of the default upstream.
pub(super) const DEFAULT_BASE_URL: &str = "https://api.yisu.com";
/// The models that the default upstream serves.
pub(super) const DEFAULT_MODELS: [&str; 2] = ["gpt-5.4", IMAGE_MODEL];
/// Of these, the one that makes pictures.
pub(super) const IMAGE_MODEL: &str = "gpt-5.4-image-2";
/// What SDKs put into a query: Azure's the version of its API, Anthropic's that it is a beta's.
pub(super) const DEFAULT_QUERY: [&str; 2] = ["api-version", "beta"];
/// Where the default upstream's key is found.
pub(super) const DEFAULT_KEY: &str = "env:WEIR_UPSTREAM_API_KEY";
/// Reserved for an answer whose length the request does not limit, in tokens.
pub(super) const DEFAULT_OUTPUT_TOKENS: u64 = 1024;
/// `created` in the model list, in seconds since the Unix epoch.
pub(super) const DEFAULT_CREATED: i64 = 1_780_000_000;
/// `owned_by` in the model list.
pub(super) const DEFAULT_OWNER: &str = "system";

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) server: RawServer,
    pub(super) admin: RawAdmin,
    pub(super) data: RawData,
    pub(super) limits: RawLimits,
    pub(super) deadlines: RawDeadlines,
    /// `None`: the default upstream.
    pub(super) upstream: Option<Vec<RawUpstream>>,
    pub(super) model: Vec<RawModel>,
    pub(super) price: Vec<RawPrice>,
    pub(super) retry: RawRetry,
    pub(super) log: RawLog,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawServer {
    pub(super) listen: String,
    /// 0: one per core.
    pub(super) workers: usize,
    pub(super) max_connections: usize,
    /// 0: half of all.
    pub(super) max_connections_per_address: usize,
    pub(super) max_headers: usize,
    pub(super) max_head_bytes: usize,
    pub(super) max_body_bytes: u64,
    pub(super) max_inflight_body_bytes: u64,
    pub(super) max_tenant_body_percent: u64,
    pub(super) failed_keys_per_minute: u32,
    pub(super) cors_origins: Vec<String>,
    pub(super) half_close: bool,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawAdmin {
    pub(super) listen: String,
    /// A secret reference.
    pub(super) token: String,
    pub(super) hosts: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawData {
    pub(super) dir: String,
    pub(super) durability: String,
    pub(super) segment_bytes: u64,
    /// Days, such as "400d"; empty: for ever.
    pub(super) keep_rows: String,
    pub(super) response_owners: usize,
}

/// In all of these 0 stands for "not limited".
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLimits {
    pub(super) rpm: u32,
    pub(super) tpm: u64,
    pub(super) concurrency: u32,
    pub(super) daily_tokens: u64,
    pub(super) monthly_tokens: u64,
    pub(super) daily_requests: u64,
    pub(super) monthly_requests: u64,
    /// Decimal numbers of dollars.
    pub(super) daily_usd: String,
    pub(super) monthly_usd: String,
    pub(super) rpm_burst: u32,
    pub(super) time_zone: String,
    pub(super) unpriced: String,
    pub(super) alert_percent: Vec<u8>,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawDeadlines {
    pub(super) request_head_ms: u64,
    pub(super) request_body_idle_ms: u64,
    pub(super) request_body_ms: u64,
    pub(super) request_body_bytes_per_second: u64,
    pub(super) write_progress_ms: u64,
    pub(super) shutdown_ms: u64,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawUpstream {
    pub(super) name: Option<String>,
    pub(super) base_url: Option<String>,
    /// A secret reference; empty: requests are sent without a key.
    pub(super) api_key: String,
    /// Several, in the place of `api_key`.
    pub(super) api_keys: Vec<RawApiKey>,
    pub(super) models: Option<Vec<RawModelName>>,
    pub(super) priority: u32,
    pub(super) weight: u64,
    pub(super) breaker_failures: u32,
    pub(super) inject_usage: bool,
    pub(super) running_usage: bool,
    pub(super) allow_query: Vec<String>,
    pub(super) refuse_fields: Vec<String>,
    pub(super) allow_background: bool,
    pub(super) on_disconnect: String,
    pub(super) unstated: String,
    pub(super) drain_ms: u64,
    pub(super) drain_max: usize,
    /// Empty: the public authorities.
    pub(super) ca_file: String,
    pub(super) connect_ms: u64,
    pub(super) head_ms: u64,
    pub(super) idle_ms: u64,
    pub(super) total_ms: u64,
    pub(super) pool_idle_ms: u64,
    pub(super) pool_max_idle: usize,
    pub(super) request_headers: Vec<String>,
    pub(super) response_headers: Vec<String>,
    pub(super) separate_tenants: bool,
    pub(super) allow_ids: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawApiKey {
    pub(super) name: Option<String>,
    /// A secret reference.
    pub(super) key: String,
    pub(super) weight: u64,
}

/// When a request is sent to another candidate.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawRetry {
    pub(super) attempts: u32,
    pub(super) within_ms: u64,
    pub(super) budget_percent: u64,
    pub(super) on_status: Vec<u16>,
    pub(super) on_reset: bool,
}

/// `"gpt-5.4"`, or `{ name = "gpt-5.4", upstream_name = "gpt-5.4-2026" }`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum RawModelName {
    Same(String),
    Mapped(RawMapping),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawMapping {
    pub(super) name: Option<String>,
    pub(super) upstream_name: Option<String>,
    /// `None`: the upstream's.
    pub(super) priority: Option<u32>,
    pub(super) weight: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawModel {
    pub(super) name: Option<String>,
    pub(super) default_output_tokens: u64,
    /// `None`: by its name.
    pub(super) makes_images: Option<bool>,
    pub(super) learn_reservation: bool,
    pub(super) aliases: Vec<String>,
    pub(super) created: i64,
    pub(super) owned_by: String,
}

/// Amounts are decimal text, as it was written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawPrice {
    pub(super) model: Option<String>,
    /// `None`: from the beginning of time.
    pub(super) from: Option<String>,
    pub(super) input: Option<String>,
    pub(super) cached_input: Option<String>,
    pub(super) cache_write: Option<String>,
    pub(super) output: Option<String>,
    pub(super) reasoning: Option<String>,
    pub(super) image_input: Option<String>,
    pub(super) image_output: Option<String>,
    pub(super) audio_input: Option<String>,
    pub(super) audio_output: Option<String>,
    pub(super) per_request: Option<String>,
    pub(super) per_image: Option<String>,
    pub(super) per_second: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLog {
    pub(super) filter: String,
    pub(super) format: String,
}

impl Default for RawServer {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            workers: 0,
            max_connections: 10_000,
            max_connections_per_address: 0,
            max_headers: 100,
            max_head_bytes: 64 << 10,
            max_body_bytes: 32 << 20,
            max_inflight_body_bytes: 1 << 30,
            max_tenant_body_percent: 25,
            failed_keys_per_minute: 60,
            cors_origins: Vec::new(),
            half_close: true,
        }
    }
}

impl Default for RawAdmin {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8081".to_owned(),
            token: "env:WEIR_ADMIN_TOKEN".to_owned(),
            hosts: Vec::new(),
        }
    }
}

impl Default for RawData {
    fn default() -> Self {
        Self {
            dir: "weir-data".to_owned(),
            durability: "crash".to_owned(),
            keep_rows: String::new(),
            response_owners: 1_000_000,
            segment_bytes: 64 << 20,
        }
    }
}

impl Default for RawLimits {
    fn default() -> Self {
        Self {
            rpm: 0,
            tpm: 0,
            concurrency: 0,
            daily_tokens: 0,
            monthly_tokens: 0,
            daily_requests: 0,
            monthly_requests: 0,
            daily_usd: "0".to_owned(),
            monthly_usd: "0".to_owned(),
            rpm_burst: 0,
            time_zone: "UTC".to_owned(),
            unpriced: "refuse".to_owned(),
            alert_percent: vec![80, 100],
        }
    }
}

impl Default for RawDeadlines {
    fn default() -> Self {
        Self {
            request_head_ms: 10_000,
            request_body_idle_ms: 30_000,
            request_body_ms: 300_000,
            request_body_bytes_per_second: 4096,
            write_progress_ms: 60_000,
            shutdown_ms: 30_000,
        }
    }
}

impl Default for RawUpstream {
    fn default() -> Self {
        Self {
            name: None,
            base_url: None,
            api_key: String::new(),
            api_keys: Vec::new(),
            models: None,
            priority: 0,
            weight: 1,
            breaker_failures: 0,
            inject_usage: true,
            running_usage: false,
            allow_query: DEFAULT_QUERY.map(str::to_owned).into(),
            refuse_fields: refused::DEFAULT.map(str::to_owned).into(),
            allow_background: false,
            on_disconnect: "cancel".to_owned(),
            unstated: "reserved".to_owned(),
            drain_ms: 30_000,
            drain_max: 64,
            ca_file: String::new(),
            connect_ms: 5_000,
            head_ms: 600_000,
            idle_ms: 120_000,
            total_ms: 0,
            pool_idle_ms: 15_000,
            pool_max_idle: 64,
            request_headers: Vec::new(),
            response_headers: Vec::new(),
            separate_tenants: true,
            allow_ids: Vec::new(),
        }
    }
}

impl RawUpstream {
    /// The upstream of an empty file.
    pub(super) fn built_in() -> Self {
        Self {
            name: Some(DEFAULT_UPSTREAM.to_owned()),
            base_url: Some(DEFAULT_BASE_URL.to_owned()),
            api_key: DEFAULT_KEY.to_owned(),
            models: Some(DEFAULT_MODELS.map(|name| RawModelName::Same(name.to_owned())).into()),
            ..Self::default()
        }
    }
}

impl Default for RawModel {
    fn default() -> Self {
        Self {
            name: None,
            default_output_tokens: DEFAULT_OUTPUT_TOKENS,
            makes_images: None,
            learn_reservation: false,
            aliases: Vec::new(),
            created: DEFAULT_CREATED,
            owned_by: DEFAULT_OWNER.to_owned(),
        }
    }
}

impl Default for RawApiKey {
    fn default() -> Self {
        Self { name: None, key: String::new(), weight: 1 }
    }
}

impl Default for RawRetry {
    fn default() -> Self {
        Self {
            attempts: 3,
            within_ms: 30_000,
            budget_percent: 20,
            on_status: vec![429, 503],
            on_reset: false,
        }
    }
}

impl Default for RawLog {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: "text".to_owned() }
    }
}
