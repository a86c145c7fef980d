//! Single rows as users see them, and which of them they ask for.

use serde::Serialize;
use serde_json::value::RawValue;

use super::Range;

/// Which requests a report is about; what is not given does not narrow it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub tenant: Option<String>,
    /// A key's id.
    pub key: Option<String>,
    /// The model that was asked for.
    pub model: Option<String>,
    /// Requests that began then or later, in milliseconds since the epoch.
    pub since_ms: Option<i64>,
    /// Requests that began before then.
    pub until_ms: Option<i64>,
}

/// One request with all that the ledger knows of it; serialised, it has the ledger's field names.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Request {
    /// A UUID, also the answer's `x-request-id`.
    pub event_id: String,
    pub tenant: String,
    pub key_id: String,
    /// The model that was asked for.
    pub model: String,
    pub model_served: Option<String>,
    /// Where it was sent last.
    pub upstream: String,
    /// With which of that one's keys; none where it has but one.
    pub upstream_key: Option<String>,
    pub endpoint: String,
    /// RFC 3339 with milliseconds, in UTC.
    pub started_at: String,
    pub ttfb_ms: Option<i64>,
    pub duration_ms: i64,
    /// The status that the client saw; 0 when it saw none.
    pub status: u16,
    pub upstream_status: Option<u16>,
    pub end: String,
    pub usage_source: String,
    pub input_tokens: u64,
    pub cached_tokens: u64,
    pub cache_write_tokens: u64,
    pub output_tokens: u64,
    pub reasoning_tokens: u64,
    pub audio_input_tokens: u64,
    pub audio_output_tokens: u64,
    pub image_input_tokens: u64,
    pub image_output_tokens: u64,
    pub accepted_prediction_tokens: u64,
    pub rejected_prediction_tokens: u64,
    pub total_tokens: u64,
    /// Images in the answer.
    pub output_images: u64,
    /// Audio that was stated by its length.
    pub audio_ms: u64,
    /// The upstream's usage object as it was sent; a text where that is no JSON.
    pub raw_usage: Option<Box<RawValue>>,
    pub reserved_tokens: i64,
    /// A decimal number of dollars; `None` without a price.
    pub cost_usd: Option<String>,
    /// Which price that is.
    pub price_version: Option<String>,
    /// What the upstream says that it cost.
    pub reported_cost_usd: Option<String>,
    pub attempts: u32,
    /// Where it had been before, in order, and how that went.
    pub failed_attempts: Option<Box<RawValue>>,
    pub streamed: bool,
    pub flags: Vec<&'static str>,
    pub upstream_request_id: Option<String>,
}

impl Filter {
    /// The filter as a half-open range of time, open ends closed.
    pub(crate) fn range(&self) -> Range<'_> {
        Range {
            from_ms: self.since_ms.unwrap_or(i64::MIN),
            until_ms: self.until_ms.unwrap_or(i64::MAX),
            key: self.key.as_deref(),
            tenant: self.tenant.as_deref(),
            model: self.model.as_deref(),
        }
    }
}
