//! Single requests, newest first.

use serde_json::{Value, json};

use super::super::samples::{Sample, store_with};
use super::super::{Filter, Request, Store};
use crate::price::PriceVersion;
use crate::usage::{End, Flags, Usage};

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
    row.closed.attempts = 2;
    (row.closed.upstream, row.closed.upstream_key) = (Some("other".into()), "b".into());
    let failed = r#"[{"upstream":"yisu","status":429,"duration_ms":5}]"#;
    row.closed.failed_attempts = Some(failed.into());
    let (_dir, mut store) = store_with(&[]);
    store.append(&[row.clone()], &[]).unwrap();
    let request = store.requests(&Filter::default(), None, 1).unwrap().remove(0);
    let mut expected = json!({
        "event_id": "00000000-0000-0000-0000-000000000001", "tenant": "acme",
        "key_id": "key_a", "model": "gpt-5.4", "model_served": "gpt-5.4-2026",
        "upstream": "other", "endpoint": "/v1/chat/completions",
        "started_at": "2026-11-18T11:06:40.123Z", "ttfb_ms": 12, "duration_ms": 345,
        "status": 200, "upstream_status": 200, "end": "complete", "usage_source": "reported",
        "input_tokens": 1, "cached_tokens": 2, "cache_write_tokens": 3, "output_tokens": 4,
        "reasoning_tokens": 5, "audio_input_tokens": 6, "audio_output_tokens": 7,
        "image_input_tokens": 8, "image_output_tokens": 9, "accepted_prediction_tokens": 10,
        "rejected_prediction_tokens": 11, "total_tokens": 12,
        "raw_usage": {"prompt_tokens": 7, "x": 1.5}, "reserved_tokens": 1029,
        "output_images": 3, "audio_ms": 1500, "cost_usd": "1.2345",
        "price_version": "000000c0ffee", "reported_cost_usd": "0.00", "attempts": 2, "streamed": true, "flags": ["no_done", "drained"],
        "upstream_request_id": "req_1",
    });
    expected["upstream_key"] = "b".into();
    expected["failed_attempts"] = json!([{"upstream": "yisu", "status": 429, "duration_ms": 5}]);
    assert_eq!(serde_json::to_value(&request).unwrap(), expected);
    // What the upstream said is not even formatted anew.
    assert!(serde_json::to_string(&request).unwrap().contains(r#"{"prompt_tokens":7, "x":1.50}"#));
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
                for (since_ms, until_ms) in [(None, None), (Some(3 * unit_ms), Some(20 * unit_ms))]
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
                        expected.sort_by_key(|sample| std::cmp::Reverse((sample.at_ms, sample.id)));
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
