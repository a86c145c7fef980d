//! Single rows, newest first.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::value::RawValue;

use super::sums::{hours_of, usage_at};
use super::{Store, StoreError, from_sql};
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
    r.reported_cost_nano_usd
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

impl Store {
    /// The request of this id.
    pub(crate) fn request(&self, id: EventId) -> Result<Option<Request>, StoreError> {
        let tx = self.read()?;
        let mut statement = tx.prepare_cached(ONE)?;
        let none: Option<&str> = None;
        let bound = params![none, id.0, i64::MAX, none, none, none, 1];
        Ok(statement.query_row(bound, request_of).optional()?)
    }

    /// The requests that pass the filter (and ended like `end`, where given), newest first, at most
    /// `limit` of them.
    ///
    /// A rare key, tenant or model is not looked for in all rows: the roll-ups know its hours.
    pub(crate) fn requests(
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
    use serde_json::{Value, json};

    use super::*;
    use crate::store::samples::{Sample, store_with};
    use crate::usage::Usage;

    fn ids(store: &Store, filter: &Filter, end: Option<End>, limit: u32) -> Vec<u64> {
        let requests = store.requests(filter, end, limit).unwrap();
        let id = |request: &Request| {
            let id: uuid::Uuid = request.event_id.parse().unwrap();
            u64::from_be_bytes(id.as_bytes()[8..].try_into().unwrap())
        };
        requests.iter().map(id).collect()
    }

    #[test]
    fn a_row_comes_back_with_every_field_under_its_name() {
        let usage = Usage {
            input: 1,
            cached: 2,
            cache_write: 3,
            output: 4,
            reasoning: 5,
            audio_input: 6,
            audio_output: 7,
            image_input: 8,
            image_output: 9,
            accepted_prediction: 10,
            rejected_prediction: 11,
            total: 12,
            audio_ms: 1_500,
            reported_cost_nano_usd: Some(0),
        };
        let price = PriceVersion::from_number(0xc0ffee);
        let cost = Some(1_234_500_000);
        let sample = Sample { at_ms: 1_795_000_000_123, usage, price, cost, ..Sample::default() };
        let mut row = sample.row();
        row.closed.output_images = 3;
        row.closed.flags.set(Flags::NO_DONE);
        row.closed.flags.set(Flags::DRAINED);
        let (_dir, mut store) = store_with(&[]);
        store.append(&[row.clone()], &[]).unwrap();
        let request = store.requests(&Filter::default(), None, 1).unwrap().remove(0);
        let expected = json!({
            "event_id": "00000000-0000-0000-0000-000000000001", "tenant": "acme",
            "key_id": "key_a", "model": "gpt-5.4", "model_served": "gpt-5.4-2026",
            "upstream": "yisu", "endpoint": "/v1/chat/completions",
            "started_at": "2026-11-18T11:06:40.123Z", "ttfb_ms": 12, "duration_ms": 345,
            "status": 200, "upstream_status": 200, "end": "complete", "usage_source": "reported",
            "input_tokens": 1, "cached_tokens": 2, "cache_write_tokens": 3, "output_tokens": 4,
            "reasoning_tokens": 5, "audio_input_tokens": 6, "audio_output_tokens": 7,
            "image_input_tokens": 8, "image_output_tokens": 9, "accepted_prediction_tokens": 10,
            "rejected_prediction_tokens": 11, "total_tokens": 12,
            "raw_usage": {"prompt_tokens": 7, "x": 1.5}, "reserved_tokens": 1029,
            "output_images": 3, "audio_ms": 1500, "cost_usd": "1.2345",
            "price_version": "000000c0ffee", "reported_cost_usd": "0.00", "attempts": 1, "streamed": true, "flags": ["no_done", "drained"],
            "upstream_request_id": "req_1",
        });
        assert_eq!(serde_json::to_value(&request).unwrap(), expected);
        // What the upstream said is not even formatted anew.
        assert!(
            serde_json::to_string(&request).unwrap().contains(r#"{"prompt_tokens":7, "x":1.50}"#)
        );
    }

    #[test]
    fn what_is_not_known_is_null_and_a_cut_usage_is_text() {
        let mut row = Sample::default().row();
        row.closed = crate::record::Closed::crashed(&row.opened);
        let mut cut = Sample { id: 2, at_ms: 1, ..Sample::default() }.row();
        cut.closed.raw_usage = Some(r#"{"prompt_tok"#.into());
        let (_dir, mut store) = store_with(&[]);
        store.append(&[row, cut], &[]).unwrap();
        let requests = store.requests(&Filter::default(), None, 9).unwrap();
        let crashed = serde_json::to_value(&requests[0]).unwrap();
        for name in [
            "model_served",
            "ttfb_ms",
            "upstream_status",
            "raw_usage",
            "cost_usd",
            "price_version",
            "reported_cost_usd",
            "upstream_request_id",
        ] {
            assert_eq!(crashed[name], Value::Null, "{name}");
        }
        assert_eq!((&crashed["end"], &crashed["status"]), (&json!("crashed"), &json!(0)));
        assert_eq!(crashed["total_tokens"], json!(1029));
        let cut = serde_json::to_value(&requests[1]).unwrap();
        assert_eq!(cut["raw_usage"], json!(r#"{"prompt_tok"#));
    }

    #[test]
    fn the_newest_come_first_whatever_the_filter() {
        // All within one hour, and some in each of many.
        check_filters(1);
        check_filters(1_000_000);
    }

    fn check_filters(unit_ms: i64) {
        let sample = |id: u64| Sample {
            id,
            // Not in the order of the ids, and two at a time.
            at_ms: (id as i64 * 7 % 50) / 2 * unit_ms,
            tenant: ["acme", "beta"][id as usize % 2],
            key: ["key_a", "key_b", "key_c", "key_d"][id as usize % 4],
            model: ["m", "n", "o"][id as usize % 3],
            end: [End::Complete, End::Timeout][usize::from(id.is_multiple_of(5))],
            ..Sample::default()
        };
        let samples: Vec<_> = (0..50).map(sample).collect();
        let (_dir, store) = store_with(&samples);
        let text = |text: Option<&str>| text.map(str::to_owned);
        for tenant in [None, Some("beta"), Some("x")] {
            for key in [None, Some("key_b"), Some("key_x")] {
                for model in [None, Some("n")] {
                    for (since_ms, until_ms) in
                        [(None, None), (Some(3 * unit_ms), Some(20 * unit_ms))]
                    {
                        for (end, limit) in [(None, 7), (None, 1_000), (Some(End::Timeout), 3)] {
                            let filter = Filter {
                                tenant: text(tenant),
                                key: text(key),
                                model: text(model),
                                since_ms,
                                until_ms,
                            };
                            let wanted = |sample: &&Sample<'_>| {
                                tenant.is_none_or(|tenant| tenant == sample.tenant)
                                    && key.is_none_or(|key| key == sample.key)
                                    && model.is_none_or(|model| model == sample.model)
                                    && since_ms.is_none_or(|since| sample.at_ms >= since)
                                    && until_ms.is_none_or(|until| sample.at_ms < until)
                                    && end.is_none_or(|end| end == sample.end)
                            };
                            let mut expected: Vec<_> = samples.iter().filter(wanted).collect();
                            expected
                                .sort_by_key(|sample| std::cmp::Reverse((sample.at_ms, sample.id)));
                            let expected: Vec<_> =
                                expected.iter().take(limit).map(|sample| sample.id).collect();
                            let found = ids(&store, &filter, end, limit as u32);
                            assert_eq!(found, expected, "{filter:?} {end:?} {limit}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn rows_are_found_by_the_index_in_their_order() {
        let (_dir, store) = store_with(&[Sample::default()]);
        let tx = store.read().unwrap();
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
