//! What requests cost: the price that held when each began, exact to the last digit, through the gateway
//! and into the reports.

use serde_json::{Value, json};
use weir::clock::Clock;
use weir::server::Environment;

use crate::harness::{Answer, IMAGE_MODEL, MODEL, Place, Upstream, World};

/// 2026-06-03T23:59:59.500Z.
const BEFORE_MIDNIGHT_MS: i64 = 1_780_531_199_500;
/// The same price for ever but for its date, and another one from midnight on.
const PRICES: &str = r#"
[[price]]
model = "gpt-5.4"
from = "2020-01-01"
input = "2.50"
cached_input = "0.25"
output = 15
per_request = "0.000000007"

[[price]]
model = "gpt-5.4"
from = 2026-06-04
input = "1.000001"
output = 2
"#;
const USAGE: &str = r#""usage":{"prompt_tokens":1000,"completion_tokens":101,"total_tokens":1101,"prompt_tokens_details":{"cached_tokens":400},"completion_tokens_details":{"reasoning_tokens":30}}"#;

fn body(model: &str, is_stream: bool) -> String {
    format!(
        r#"{{"model":"{model}","stream":{is_stream},"messages":[{{"role":"user","content":"How much?"}}]}}"#
    )
}

/// A chat that used [`USAGE`], streamed or not; returns its id.
async fn chat(world: &World, upstream: &Upstream, model: &str, is_stream: bool) -> String {
    let mut client = world.post(&body(model, is_stream)).await;
    let (mut call, _) = upstream.call().await;
    if is_stream {
        call.ok("content-type: text/event-stream\r\nconnection: close\r\n").await;
        let delta = r#"{"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}"#;
        let last = format!("{{\"choices\":[],{USAGE}}}");
        call.write(format!("data: {delta}\n\ndata: {last}\n\ndata: [DONE]\n\n")).await;
        drop(call);
    } else {
        let kind = "content-type: application/json\r\nconnection: close\r\n";
        let answer = format!(r#"{{"choices":[{{"message":{{"content":"x"}}}}],{USAGE}}}"#);
        call.answer("200 OK", kind, &answer).await;
    }
    let answer: Answer = client.answer().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.event_id().to_owned()
}

/// A row as `weir requests` prints it, with all its fields.
async fn row(world: &World, id: &str) -> Value {
    world.row(id).await;
    rows(&world.place).into_iter().find(|row| row["event_id"] == id).expect("it was just there")
}

fn rows(place: &Place) -> Vec<Value> {
    serde_json::from_str(&place.weir(&["requests", "--format", "json"])).expect("JSON")
}

fn usage(place: &Place) -> Vec<Value> {
    let text = place.weir(&["usage", "--since", "2000-01-01", "--by", "model", "--format", "json"]);
    serde_json::from_str(&text).expect("JSON")
}

#[tokio::test]
async fn each_request_costs_what_held_when_it_began() {
    let (clock, hand) = Clock::manual(BEFORE_MIDNIGHT_MS);
    let environment = Environment { clock, ..Environment::default() };
    let upstream = Upstream::start().await;
    let builder = World::before(&upstream).environment(environment).more(PRICES);
    let mut world = builder.start().await;
    // 600 · 2.5 + 400 · 0.25 + 101 · 15 = 3,115 µUSD, and 7 nUSD for the request.
    let old = ["0.003115007"; 2];
    let mut versions = Vec::new();
    for (is_stream, cost) in [false, true].into_iter().zip(old) {
        let id = chat(&world, &upstream, MODEL, is_stream).await;
        let row = row(&world, &id).await;
        assert_eq!(row["cost_usd"], cost, "{row}");
        assert_eq!(row["reported_cost_usd"], Value::Null);
        versions.push(row["price_version"].clone());
    }
    hand.advance_ms(500);
    // 1,000 · 1.000001 + 101 · 2 = 1,202.001 µUSD: what has no price of its own costs as its total.
    let id = chat(&world, &upstream, MODEL, true).await;
    let new = row(&world, &id).await;
    assert_eq!(new["cost_usd"], "0.001202001", "{new}");
    assert_eq!(versions[0], versions[1]);
    assert_ne!(versions[0], new["price_version"]);

    let unpriced = chat(&world, &upstream, IMAGE_MODEL, false).await;
    let unpriced = row(&world, &unpriced).await;
    assert_eq!((&unpriced["cost_usd"], &unpriced["price_version"]), (&Value::Null, &Value::Null));

    // What the upstream refused costs nothing, not even the request.
    let mut client = world.post(&body(MODEL, false)).await;
    let (mut call, _) = upstream.call().await;
    call.answer("400 Bad Request", "content-type: application/json\r\n", "{}").await;
    let refused = client.answer().await.event_id().to_owned();
    assert_eq!(row(&world, &refused).await["cost_usd"], "0.00");

    let sums = |model: &str| {
        let lines = usage(&world.place);
        let line = lines.into_iter().find(|line| line["model"] == model).expect("a line");
        json!([line["requests"], line["cost_usd"], line["unpriced_requests"]])
    };
    // 2 · 3,115.007 + 1,202.001.
    assert_eq!(sums(MODEL), json!([4, "0.007432015", 0]));
    assert_eq!(sums(IMAGE_MODEL), json!([1, null, 1]));
    let before = rows(&world.place);
    world.settled().await;
    world.stop().await;
    // With other prices in the file, what is in the books stays there.
    let config = std::fs::read_to_string(world.place.config_file()).expect("it is there");
    let dearer = config.replace("output = 15", "output = 99");
    std::fs::write(world.place.config_file(), dearer).expect("the directory is writable");
    assert_eq!(rows(&world.place), before);
}

const TWO_PRICES: &str = r#"
[[price]]
model = "gpt-5.4"
input = 1
output = 1
[[price]]
model = "gpt-5.4-image-2"
input = 10
output = 10
"#;

/// What was served decides the price, whatever was asked for, and `verify` computes the same from the row.
#[tokio::test]
async fn an_answer_from_another_model_costs_what_that_one_does() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).more(TWO_PRICES).start().await;
    let mut versions = Vec::new();
    for (served, cost, flags) in [
        ("gpt-5.4", "0.000009", json!([])),
        ("gpt-5.4-2026-03-05", "0.000009", json!([])),
        ("gpt-5.4-image-2", "0.00009", json!([])),
        ("openai/gpt-5.4-image-2-20260305", "0.00009", json!([])),
        ("somebody-elses", "0.000009", json!(["model_differs"])),
    ] {
        let mut client = world.post(&body(MODEL, false)).await;
        let (mut call, _) = upstream.call().await;
        let kind = "content-type: application/json\r\nconnection: close\r\n";
        let answer = format!(
            r#"{{"model":"{served}","choices":[{{"message":{{"content":"x"}}}}],"usage":{{"prompt_tokens":4,"completion_tokens":5,"total_tokens":9}}}}"#
        );
        call.answer("200 OK", kind, &answer).await;
        let id = client.answer().await.event_id().to_owned();
        let row = row(&world, &id).await;
        assert_eq!((&row["model"], &row["model_served"]), (&json!(MODEL), &json!(served)));
        assert_eq!((&row["cost_usd"], &row["flags"]), (&json!(cost), &flags), "{row}");
        versions.push(row["price_version"].clone());
    }
    assert_eq!(versions[0], versions[1]);
    assert_eq!(versions[2], versions[3]);
    assert_eq!(versions[0], versions[4]);
    assert_ne!(versions[0], versions[2]);
    assert!(world.place.command(&["verify"]).status().expect("it runs").success());
    world.finish().await;
}
