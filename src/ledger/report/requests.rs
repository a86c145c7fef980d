//! Single ledger rows, as users see them.

use rusqlite::params;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::ledger::record::EventId;
use crate::ledger::store::{Store, StoreError, usage_at, with_ids};
use crate::usage::{End, Flags};

use super::{Filter, timestamp, usd};

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
    pub upstream: String,
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
    /// The upstream's usage object as it was sent; a text where that is no JSON.
    pub raw_usage: Option<Box<RawValue>>,
    pub reserved_tokens: i64,
    /// A decimal number of dollars; `None` without a price.
    pub cost_usd: Option<String>,
    pub attempts: u32,
    pub streamed: bool,
    pub flags: Vec<&'static str>,
    pub upstream_request_id: Option<String>,
}

/// Per key the newest by the index alone, as long as nothing but time narrows it; then the newest of
/// all those.
const NEWEST: &str = with_ids!(
    r#"SELECT event_id, tenant, key_id, model, model_served, upstream, endpoint, started_at_ms,
        ttfb_ms, duration_ms, status, upstream_status, "end", usage_source, input_tokens,
        cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, audio_input_tokens,
        audio_output_tokens, image_input_tokens, image_output_tokens, accepted_prediction_tokens,
        rejected_prediction_tokens, total_tokens, raw_usage, reserved_tokens, cost_nano_usd,
        attempts, streamed, flags, upstream_request_id
    FROM ids CROSS JOIN requests
    WHERE event_id IN (
        SELECT event_id FROM requests AS one
        WHERE one.key_id = ids.id AND one.started_at_ms >= ?2 AND one.started_at_ms < ?3
            AND (?4 IS NULL OR one.tenant = ?4) AND (?5 IS NULL OR one.model = ?5)
            AND (?6 IS NULL OR one."end" = ?6)
        ORDER BY one.started_at_ms DESC, one.event_id DESC LIMIT ?7)
    ORDER BY started_at_ms DESC, event_id DESC LIMIT ?7"#
);

/// The requests that pass the filter (and ended like `end`, where given), newest first, at most
/// `limit` of them.
pub(crate) fn requests(
    store: &Store,
    filter: &Filter,
    end: Option<End>,
    limit: u32,
) -> Result<Vec<Request>, StoreError> {
    let range = filter.range();
    let mut statement = store.connection().prepare_cached(NEWEST)?;
    let rows = statement.query_map(
        params![
            range.key,
            range.from_ms,
            range.until_ms,
            range.tenant,
            range.model,
            end.map(End::name),
            limit
        ],
        request_of,
    )?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn request_of(row: &rusqlite::Row<'_>) -> Result<Request, rusqlite::Error> {
    let usage = usage_at(row, 14)?;
    Ok(Request {
        event_id: EventId(row.get(0)?).to_text(),
        tenant: row.get(1)?,
        key_id: row.get(2)?,
        model: row.get(3)?,
        model_served: row.get(4)?,
        upstream: row.get(5)?,
        endpoint: row.get(6)?,
        started_at: format!("{:.3}", timestamp(row.get(7)?)),
        ttfb_ms: row.get(8)?,
        duration_ms: row.get(9)?,
        status: row.get(10)?,
        upstream_status: row.get(11)?,
        end: row.get(12)?,
        usage_source: row.get(13)?,
        input_tokens: usage.input,
        cached_tokens: usage.cached,
        cache_write_tokens: usage.cache_write,
        output_tokens: usage.output,
        reasoning_tokens: usage.reasoning,
        audio_input_tokens: usage.audio_input,
        audio_output_tokens: usage.audio_output,
        image_input_tokens: usage.image_input,
        image_output_tokens: usage.image_output,
        accepted_prediction_tokens: usage.accepted_prediction,
        rejected_prediction_tokens: usage.rejected_prediction,
        total_tokens: usage.total,
        raw_usage: row.get::<_, Option<String>>(26)?.map(raw_json),
        reserved_tokens: row.get(27)?,
        cost_usd: row.get::<_, Option<i64>>(28)?.map(usd),
        attempts: row.get(29)?,
        streamed: row.get(30)?,
        flags: Flags(row.get(31)?).names().collect(),
        upstream_request_id: row.get(32)?,
    })
}

/// What was kept may have been cut at its limit, and then it is no JSON: it is shown as a text.
fn raw_json(text: String) -> Box<RawValue> {
    RawValue::from_string(text.clone()).unwrap_or_else(|_| {
        serde_json::value::to_raw_value(&text).expect("a string always becomes JSON")
    })
}
