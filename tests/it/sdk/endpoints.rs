//! Everything but chat, as the official SDKs hand it out: `endpoints.py` and `endpoints.mjs` print the
//! same.

use serde_json::{Value, json};

use super::assert_names;
use super::ecosystem::assert_about;

const NAMES: [&str; 14] = [
    "completions",
    "completions_stream",
    "responses",
    "responses_stream",
    "responses_parse",
    "responses_vision",
    "embeddings",
    "moderations",
    "images",
    "images_stream",
    "transcriptions",
    "transcriptions_stream",
    "translations",
    "speech",
];

pub fn check(got: &Value) {
    assert_names(got, NAMES);
    texts(got);
    numbers(got);
    pictures(&got["images"], &got["images_stream"]);
    sounds(got);
}

fn texts(got: &Value) {
    let whole = &got["completions"];
    assert_about(&whole["content"]);
    for name in ["completions_stream", "responses", "responses_stream"] {
        assert_eq!(got[name]["content"], whole["content"], "{name}");
    }
    assert_eq!(got["responses_stream"]["whole"], whole["content"]);
    assert_eq!(
        (&whole["finish"], &got["completions_stream"]["finish"]),
        (&json!("stop"), &json!("stop"))
    );
    assert_eq!(got["completions_stream"]["usages"], 0, "nobody asked for it");
    assert_eq!(got["responses_stream"]["first"], "response.created");
    for name in ["responses", "responses_stream"] {
        assert_eq!(
            (&got[name]["finish"], &got[name]["usage"]),
            (&json!("completed"), &whole["usage"])
        );
    }
    assert_counts(&whole["usage"], 2);
    assert_eq!(got["responses_parse"], json!({"city": "Paris", "days": 7}));
    let seen = got["responses_vision"].as_str().expect("text");
    assert!(seen.starts_with("The image is a PNG of 1x1 pixels."), "{seen}");
}

fn numbers(got: &Value) {
    let embeddings = &got["embeddings"];
    assert_eq!((&embeddings["dimensions"], &embeddings["is_same"]), (&json!([8, 8]), &json!(true)));
    assert_counts(&embeddings["usage"], 1);
    assert_eq!(got["moderations"], json!([false, false]));
}

fn pictures(whole: &Value, streamed: &Value) {
    assert_eq!(whole["png"], json!([true, true, true, true]), "two made, one edited, one varied");
    assert_eq!(whole["usage"].as_array().map(Vec::len), Some(3));
    whole["usage"].as_array().expect("a list").iter().for_each(|usage| assert_counts(usage, 2));
    let types =
        ["image_generation.partial_image", "image_generation.completed", "image_edit.completed"];
    assert_eq!((&streamed["types"], &streamed["png"]), (&json!(types), &json!([true, true, true])));
    assert_eq!(streamed["usage"][0][1], whole["usage"][1][1], "a picture costs what it costs");
}

fn sounds(got: &Value) {
    let (whole, streamed) = (&got["transcriptions"], &got["transcriptions_stream"]);
    assert!(whole["content"].as_str().is_some_and(|text| text.starts_with("Thank you.")));
    let texts = [&streamed["content"], &streamed["whole"], &got["translations"]];
    assert_eq!(texts, [&whole["content"]; 3]);
    assert_eq!(streamed["usage"], whole["usage"]);
    assert_counts(&whole["usage"], 2);
    assert_eq!(got["speech"]["begins"], "ID3");
    assert!(got["speech"]["bytes"].as_u64() > Some(100));
}

/// So many counts, none of them 0.
fn assert_counts(got: &Value, length: usize) {
    let counts: Vec<u64> = serde_json::from_value(got.clone()).expect("a list of counts");
    assert!(counts.len() == length && !counts.contains(&0), "{counts:?}");
}
