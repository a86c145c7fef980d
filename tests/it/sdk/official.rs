//! Chat, as the official SDKs hand it out: `scenarios.py` and `scenarios.mjs` print the same.

use serde_json::{Value, json};

use super::{Check, assert_event_id, assert_names};

/// Every scenario, and what an SDK must hand out in it.
const CHECKS: [(&str, Check); 13] = [
    ("chat", chat),
    ("stream", stream),
    ("stream_with_usage", stream_with_usage),
    ("stream_refusing_usage", stream),
    ("tools", tools),
    ("vision", vision),
    ("json_mode", |got| assert_eq!(*got, json!({"is_object": true}))),
    ("images", images),
    ("errors", errors),
    ("retries", retries),
    ("models", models),
    ("concurrent", concurrent),
    ("abort", |got| assert_eq!(*got, json!({"chunks": 4}))),
];

pub fn check(got: &Value) {
    assert_names(got, CHECKS.map(|(name, _)| name));
    for (name, check) in CHECKS {
        check(&got[name]);
    }
    // What streams said is what was said without a stream.
    for streamed in ["stream", "stream_with_usage", "stream_refusing_usage"] {
        assert_eq!(got[streamed]["content"], got["chat"]["content"], "{streamed}");
    }
    assert_eq!(got["stream_with_usage"]["usages"], json!([got["chat"]["usage"]]));
}

fn chat(got: &Value) {
    let content = got["content"].as_str().expect("text");
    assert!(content.starts_with("About \"Why is the sky blue?\""), "{content}");
    assert_eq!((&got["finish_reason"], &got["model"]), (&json!("stop"), &json!("gpt-5.4")));
    let usage: Vec<u64> = serde_json::from_value(got["usage"].clone()).expect("three counts");
    assert!(usage[0] > 0 && usage[1] > 0 && usage[2] == usage[0] + usage[1], "{usage:?}");
    assert_event_id(&got["request_id"]);
}

/// A stream that did not ask for usage shows no trace of Weir having asked.
fn stream(got: &Value) {
    assert!(got["chunks"].as_u64() > Some(5), "{got}");
    assert_eq!(got["without_choices"], 0);
    assert_eq!((&got["naming_usage"], &got["usages"]), (&json!(0), &json!([])));
    assert_eq!(got["finish_reason"], "stop");
}

/// One that did gets all of it: a usage event without choices, and `usage` in all others.
fn stream_with_usage(got: &Value) {
    assert_eq!((&got["without_choices"], &got["finish_reason"]), (&json!(1), &json!("stop")));
    assert_eq!(got["naming_usage"], got["chunks"]);
    assert_eq!(got["usages"].as_array().map(Vec::len), Some(1));
}

fn tools(got: &Value) {
    let city = json!(["city"]);
    let call = |name: &str| json!({"name": name, "arguments": city, "finish_reason": "tool_calls"});
    assert_eq!(got["auto"], call("get_weather"));
    assert_eq!(got["required"], call("get_weather"));
    assert_eq!(got["named"], call("get_time"));
    assert_eq!(got["streamed"], json!({"name": "get_weather", "arguments": city}));
    let second = got["second_round"].as_str().expect("text");
    assert!(second.starts_with("According to the tool: 22 degrees."), "{second}");
}

/// OpenAI's image part and the API documents' mean the same.
fn vision(got: &Value) {
    let content = got["document"].as_str().expect("text");
    assert!(content.contains("a PNG of 1x1 pixels"), "{content}");
    assert_eq!(got["document"], got["image_url"]);
}

fn images(got: &Value) {
    assert_eq!(got["types"], json!([["image_base64"], ["image_base64"]]));
    assert_eq!(got["png"], json!([true, true]));
    assert_eq!(got["streamed_png"], json!([true]));
    assert!(got["completion_tokens"].as_u64() > Some(1000), "{got}");
}

/// One failure: whose class, which words, from whom, and how often it was asked.
fn assert_failure(got: &Value, class: &[&str], code: &str, kind: &str, by: &str, answers: &[u16]) {
    assert!(class.contains(&got["class"].as_str().expect("a class")), "{got}");
    assert_eq!((&got["code"], &got["type"]), (&json!(code), &json!(kind)), "{got}");
    assert_eq!((&got["origin"], &got["statuses"]), (&json!(by), &json!(answers)), "{got}");
    assert_eq!(got["status"], *answers.last().expect("an answer"), "{got}");
    assert_event_id(&got["request_id"]);
}

fn errors(got: &Value) {
    const INVALID: &str = "invalid_request_error";
    let bad = ["BadRequestError"];
    let key = ["AuthenticationError"];
    assert_failure(&got["key"], &key, "invalid_api_key", "authentication_error", "gateway", &[401]);
    assert_failure(&got["parameter"], &bad, "invalid_request", INVALID, "upstream", &[400]);
    assert_failure(&got["our_parameter"], &bad, "invalid_request", INVALID, "gateway", &[400]);
    assert_failure(&got["image"], &bad, "invalid_image", INVALID, "upstream", &[400]);
    let unknown = ["NotFoundError"];
    assert_failure(&got["model"], &unknown, "model_not_found", INVALID, "gateway", &[404]);
    // Python and Node have no class of their own for 413.
    let large = ["APIStatusError", "APIError"];
    assert_failure(&got["large"], &large, "request_too_large", INVALID, "gateway", &[413]);
}

fn retries(got: &Value) {
    assert_eq!(got["upstream"]["statuses"], json!([429, 429, 200]), "the upstream's own");
    assert_eq!(got["ours"]["statuses"], json!([429, 200]), "Retry-After is long enough");
    assert_eq!(got["upstream"]["content"], got["ours"]["content"]);
    let (class, quota) = (["RateLimitError"], "insufficient_quota");
    assert_failure(&got["quota"], &class, quota, quota, "gateway", &[429]);
}

fn models(got: &Value) {
    assert_eq!(got["list"], json!(["gpt-5.4", "gpt-5.4-image-2"]));
    assert_eq!(got["one"], "gpt-5.4-image-2");
    let unknown = ["NotFoundError"];
    let kind = "invalid_request_error";
    assert_failure(&got["unknown"], &unknown, "model_not_found", kind, "gateway", &[404]);
}

fn concurrent(got: &Value) {
    let answers = got.as_array().expect("an array");
    assert_eq!(answers.len(), 8);
    for (n, answer) in answers.iter().enumerate() {
        let own = format!("About \"Say {n}\"");
        assert!(answer.as_str().is_some_and(|text| text.starts_with(&own)), "{n}: {answer}");
    }
}
