//! Single rows, newest first.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::value::RawValue;

use super::sums::{hours_of, usage_at};
use super::{Sqlite, StoreError, from_sql};
use crate::clock::moment;
use crate::price::{PriceVersion, usd};
use crate::record::EventId;
use crate::store::{Filter, Range, Request};
use crate::usage::{End, Flags};

/// Rows as [`request_of`] takes them. The index has the order and the key, so that only rows of the key
/// are read.
macro_rules! select {
    ($from:literal, $end:literal) => {
        concat!(
            r#"
SELECT r.event_id, r.tenant, r.key_id, r.model, r.model_served, r.upstream, r.endpoint,
    r.started_at_ms, r.ttfb_ms, r.duration_ms, r.status, r.upstream_status, r."end",
    r.usage_source, r.input_tokens, r.cached_tokens, r.cache_write_tokens, r.output_tokens,
    r.reasoning_tokens, r.audio_input_tokens, r.audio_output_tokens, r.image_input_tokens,
    r.image_output_tokens, r.accepted_prediction_tokens, r.rejected_prediction_tokens,
    r.total_tokens, r.raw_usage, r.reserved_tokens, r.cost_nano_usd, r.attempts, r.streamed,
    r.flags, r.upstream_request_id, r.output_images, r.audio_ms, r.price_version,
    r.reported_cost_nano_usd, r.upstream_key, r.failed_attempts
FROM requests AS one CROSS JOIN requests AS r ON r.rowid = one.rowid
WHERE "#,
            $from,
            r#" AND one.started_at_ms < ?3 AND (?1 IS NULL OR one.key_id = ?1)
    AND (?4 IS NULL OR r.tenant = ?4) AND (?5 IS NULL OR r.model = ?5)
    AND (?6 IS NULL OR r."end" = ?6)
ORDER BY "#,
            $end,
            " LIMIT ?7"
        )
    };
}

const NEWEST: &str =
    select!("one.started_at_ms >= ?2", "one.started_at_ms DESC, one.event_id DESC");
pub(super) const OLDEST: &str = select!(
    "(one.started_at_ms, one.event_id) > (?2, ?8) AND one.rowid <= ?9",
    "one.started_at_ms, one.event_id"
);

const ONE: &str = select!("one.event_id = ?2", "one.event_id");

impl Sqlite {
    pub(super) fn request(&self, id: EventId) -> Result<Option<Request>, StoreError> {
        let tx = self.read()?;
        let mut statement = tx.prepare_cached(ONE)?;
        let none: Option<&str> = None;
        let bound = params![none, id.0, i64::MAX, none, none, none, 1];
        Ok(statement.query_row(bound, request_of).optional()?)
    }

    /// A rare key, tenant or model is not looked for in all rows: the roll-ups know its hours.
    pub(super) fn requests(
        &self,
        filter: &Filter,
        end: Option<End>,
        limit: u32,
    ) -> Result<Vec<Request>, StoreError> {
        let tx = self.read()?;
        let mut found = Vec::new();
        let range = filter.range();
        if range.key.is_none() && range.tenant.is_none() && range.model.is_none() {
            newest(&tx, &range, end, limit as usize, &mut found)?;
            return Ok(found);
        }
        hours_of(&tx, &range, |hour| {
            newest(&tx, hour, end, limit as usize - found.len(), &mut found)?;
            Ok(found.len() < limit as usize)
        })?;
        Ok(found)
    }
}

fn newest(
    conn: &Connection,
    range: &Range<'_>,
    end: Option<End>,
    limit: usize,
    found: &mut Vec<Request>,
) -> Result<(), StoreError> {
    let Range { key, from_ms, until_ms, tenant, model } = *range;
    let end = end.map(End::name);
    let mut statement = conn.prepare_cached(NEWEST)?;
    let bound = params![key, from_ms, until_ms, tenant, model, end, limit as i64];
    for request in statement.query_map(bound, request_of)? {
        found.push(request?);
    }
    Ok(())
}

pub(super) fn request_of(row: &rusqlite::Row<'_>) -> Result<Request, rusqlite::Error> {
    let usage = usage_at(row, 14)?;
    let version = row.get::<_, Option<i64>>(35)?.map(from_sql).and_then(PriceVersion::from_number);
    Ok(Request {
        event_id: EventId(row.get(0)?).to_text(),
        tenant: row.get(1)?,
        key_id: row.get(2)?,
        model: row.get(3)?,
        model_served: row.get(4)?,
        upstream: row.get(5)?,
        endpoint: row.get(6)?,
        started_at: moment(row.get(7)?),
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
        output_images: from_sql(row.get(33)?),
        audio_ms: from_sql(row.get(34)?),
        price_version: version.map(|version| version.to_string()),
        reported_cost_usd: row.get::<_, Option<i64>>(36)?.map(usd),
        upstream_key: row.get(37)?,
        failed_attempts: row.get::<_, Option<String>>(38)?.map(raw_json),
    })
}

/// What was kept may have been cut at its limit, and then it is no JSON: it is shown as a text.
fn raw_json(text: String) -> Box<RawValue> {
    RawValue::from_string(text.clone()).unwrap_or_else(|_| {
        serde_json::value::to_raw_value(&text).expect("a string always becomes JSON")
    })
}

#[cfg(test)]
mod tests {

    use super::*;

    use crate::store::samples::{Sample, store_with};

    #[test]
    fn rows_are_found_by_the_index_in_their_order() {
        let (_dir, store) = store_with(&[Sample::default()]);
        let tx = store.sqlite().read().unwrap();
        for (sql, from) in [(NEWEST, "started_at_ms>?"), (OLDEST, "(started_at_ms,event_id)>(?,?)")]
        {
            let steps = { tx.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap() }
                .raw_query()
                .mapped(|row| row.get::<_, String>(3))
                .collect::<Result<Vec<_>, _>>()
                .unwrap();
            let index = format!("requests_by_time ({from} AND started_at_ms<?)");
            let expected = [
                format!("SEARCH one USING COVERING INDEX {index}"),
                "SEARCH r USING INTEGER PRIMARY KEY (rowid=?)".to_owned(),
            ];
            // Nothing else: in particular nothing is sorted.
            assert_eq!(steps, expected);
        }
    }
}
