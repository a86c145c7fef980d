//! Other SDKs, which read answers more strictly, ask for usage on their own terms, run tools by
//! themselves, or speak another API.

use serde_json::{Value, json};

use super::{assert_event_id, assert_names};

/// The answer is the simulator's to the scripts' question.
pub fn assert_about(content: &Value) {
    let content = content.as_str().expect("text");
    assert!(content.starts_with("About \"Why is the sky blue?\""), "{content}");
}

/// Each of these scenarios was told the same. `metered`: and what it cost; `silent`: and nothing of
/// cost, as the SDK did not ask. Streams came in pieces.
fn assert_told(got: &Value, metered: &[&str], silent: &[&str]) {
    let (content, usage) = (&got["chat"]["content"], &got["chat"]["usage"]);
    assert_about(content);
    let counts: [u64; 2] = serde_json::from_value(usage.clone()).expect("two counts");
    assert!(!counts.contains(&0), "{usage}");
    for name in [metered, silent].concat() {
        let own = &got[name];
        assert_eq!(own["content"], *content, "{name}");
        if name.contains("stream") {
            assert!(own["pieces"].as_u64() > Some(5), "{name}: {own}");
        }
        if metered.contains(&name) {
            assert_eq!(own["usage"], *usage, "{name}");
        } else {
            assert!(own["usage"].is_null() || own["usage"] == json!([0, 0]), "{name}: {own}");
        }
    }
}

/// A tool was called, and what it said was taken up.
fn assert_tools(got: &Value) {
    assert_eq!((&got["name"], &got["arguments"]), (&json!("get_weather"), &json!(["city"])));
    for answer in [Some(&got["answer"]), got.get("streamed")].into_iter().flatten() {
        let answer = answer.as_str().expect("text");
        assert!(answer.starts_with("According to the tool: 22 degrees."), "{answer}");
    }
}

/// The SDK's own class of error, which says what the gateway did.
fn assert_error(got: &Value, class: &str, status: u16, says: &str) {
    let classes = got["classes"].as_array().expect("an error");
    assert!(classes.iter().any(|one| one == class), "{got}");
    assert_eq!(got["status"], status, "{got}");
    assert!(got["says"].as_str().is_some_and(|text| text.contains(says)), "{got}");
}

fn assert_errors(got: &Value, key: &str, quota: &str) {
    assert_error(&got["key"], key, 401, "Invalid API key.");
    assert_error(
        &got["quota"],
        quota,
        429,
        "The quota key-monthly-requests (requests per calendar month) has no room",
    );
}

pub fn anthropic(got: &Value) {
    assert_names(got, ["chat", "stream", "tools", "parse", "models", "count", "errors", "abort"]);
    assert_told(got, &["chat", "stream"], &[]);
    assert_eq!(
        (&got["chat"]["finish"], &got["stream"]["finish"]),
        (&json!("end_turn"), &json!("end_turn"))
    );
    assert_event_id(&got["chat"]["request_id"]);
    assert_tools(&got["tools"]);
    let finish = (&got["tools"]["finish"], &got["tools"]["is_same_streamed"]);
    assert_eq!(finish, (&json!("tool_use"), &json!(true)));
    assert_errors(&got["errors"], "AuthenticationError", "RateLimitError");
    assert_error(&got["errors"]["model"], "NotFoundError", 404, "model_not_found");
    assert_eq!(got["abort"], json!({"pieces": 4}));
    assert_eq!(got["parse"], json!({"city": "Paris", "days": 7}));
    assert_eq!(got["models"], json!([["model", "gpt-5.4"], ["model", "gpt-5.4-image-2"]]));
    assert_eq!(got["count"], got["chat"]["usage"][0], "it is what the same message then costs");
}

pub fn langchain(got: &Value) {
    let metered = ["chat", "stream_with_usage", "responses", "responses_stream"];
    assert_names(got, [&metered[..], &["stream", "tools", "embeddings", "errors"]].concat());
    assert_told(got, &metered, &["stream"]);
    assert_tools(&got["tools"]);
    assert_eq!(got["embeddings"], json!([8, 8]));
    assert_errors(&got["errors"], "AuthenticationError", "RateLimitError");
}

pub fn agents(got: &Value) {
    let metered = ["chat", "responses", "responses_stream"];
    assert_names(
        got,
        [&metered[..], &["stream", "tools", "responses_tools", "output", "errors"]].concat(),
    );
    assert_told(got, &metered, &["stream"]);
    assert_tools(&got["tools"]);
    assert_tools(&got["responses_tools"]);
    assert_eq!(got["output"], json!([{"city": "Paris", "days": 7}, {"city": "Paris", "days": 7}]));
    assert_errors(&got["errors"], "AuthenticationError", "RateLimitError");
}

pub fn pydantic_ai(got: &Value) {
    let metered = ["chat", "stream", "responses", "responses_stream"];
    let others = ["tools", "responses_tools", "output", "errors"];
    assert_names(got, [&metered[..], &others].concat());
    assert_told(got, &metered, &[]);
    assert_tools(&got["tools"]);
    assert_tools(&got["responses_tools"]);
    assert_eq!(got["output"], json!([{"city": "Paris", "days": 7}, {"city": "Paris", "days": 7}]));
    assert_errors(&got["errors"], "ModelHTTPError", "ModelHTTPError");
}

pub fn llm(got: &Value) {
    let metered = ["chat", "stream", "responses"];
    assert_names(got, [&metered[..], &["responses_stream", "tools", "errors"]].concat());
    assert_told(got, &metered, &[]);
    assert_told(got, &["responses_stream"], &[]);
    assert_tools(&got["tools"]);
    assert_errors(&got["errors"], "AuthenticationError", "RateLimitError");
}

pub fn ai_sdk(got: &Value) {
    let metered = ["chat", "stream", "responses", "responses_stream", "compatible"];
    let tools = ["tools", "responses_tools", "compatible_tools"];
    let completion = ["completion", "completion_stream"];
    let others = ["compatible_stream", "embeddings", "images", "sound", "errors"];
    assert_names(got, [&metered[..], &tools, &completion, &others].concat());
    assert_told(got, &metered, &["compatible_stream"]);
    for name in metered.iter().chain(&["compatible_stream"]).chain(&completion) {
        assert_eq!(got[name]["finish"], "stop", "{name}");
        let errors = &got[name]["errors"];
        assert!(errors.is_null() || *errors == json!([]), "{name}: {errors}");
    }
    for name in tools {
        assert_tools(&got[name]);
        assert_eq!(got[name]["calls"], 2, "once streamed, once not");
    }
    // The SDK writes a prompt of its own out of the question.
    assert_eq!(got["completion"]["content"], got["completion_stream"]["content"]);
    assert_eq!(got["completion"]["usage"], got["completion_stream"]["usage"]);
    assert_eq!((&got["embeddings"], &got["images"]), (&json!([8, 8, 8, 8]), &json!([true, true])));
    assert_eq!(got["sound"]["begins"], "ID3");
    assert!(got["sound"]["heard"].as_str().is_some_and(|text| text.starts_with("Thank you.")));
    assert_errors(&got["errors"], "APICallError", "APICallError");
}
