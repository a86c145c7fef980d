//! What is different for Anthropic's clients: where their key stands, and what an error looks like.

use super::ask;
use super::samples::{FREE, post, sample};
use crate::harness::{Answer, MODEL, UPSTREAM_KEY, Upstream, World};
use crate::traffic::simulated;

const PATH: &str = "/v1/messages";
const JSON: &str = "application/json";

/// An error of Weir's own as Anthropic's SDK reads it; the code stands beside its type.
fn assert_error(answer: &Answer, status: u16, kind: &str, code: &str) {
    let body = answer.json();
    assert_eq!((answer.status, &body["type"]), (status, &"error".into()), "{body}");
    assert_eq!((&body["error"]["type"], &body["error"]["code"]), (&kind.into(), &code.into()));
    assert!(body["error"]["message"].is_string());
    assert_eq!(answer.header("x-weir-origin"), Some("gateway"));
}

#[tokio::test]
async fn the_key_may_stand_in_a_header_of_its_own() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let body = sample(PATH).body;
    let (key, own) = (&world.key, format!("x-api-key: {}\r\n", world.key));
    let wrong = "x-api-key: sk-weir-none\r\n";
    for (bearer, headers) in [("", &*own), (key, ""), (key, &own), (key, wrong)] {
        let mut client = world.connect().await;
        client.send(&post(PATH, bearer, JSON, headers, &body)).await;
        let (mut call, received) = upstream.call().await;
        let head = &received.head;
        assert!(!head.raw.contains("sk-weir-"), "{}", head.raw);
        assert_eq!(head.header("x-api-key"), Some(UPSTREAM_KEY));
        assert_eq!(head.header("authorization"), Some(&*format!("Bearer {UPSTREAM_KEY}")));
        call.answer("200 OK", "content-type: application/json\r\n", "{}").await;
        assert_eq!(client.answer().await.status, 200);
    }
    for (bearer, headers) in [("", ""), ("", wrong), ("none", &own), ("", &own.repeat(2))] {
        let answer = ask(&world, &post(PATH, bearer, JSON, headers, &body)).await;
        assert_error(&answer, 401, "authentication_error", "invalid_api_key");
    }
    let elsewhere = sample("/v1/responses").body;
    let answer = ask(&world, &post("/v1/responses", "", JSON, &own, &elsewhere)).await;
    assert_eq!(answer.status, 401, "only Anthropic's clients have it there");
    assert!(!upstream.was_called());
    world.finish().await;
}

#[tokio::test]
async fn errors_have_anthropics_form() {
    let (simulator, builder) = simulated().await;
    let world = builder.set("server.max_body_bytes", 10_000).start().await;
    let unknown = br#"{"model":"none","max_tokens":1,"messages":[]}"#;
    for (body, headers, status, code) in [
        (&b"{"[..], "", 400, "invalid_request"),
        (unknown, "", 404, "model_not_found"),
        (&[b' '; 10_001], "", 413, "request_too_large"),
        (b"{}", "content-encoding: x\r\n", 415, "unsupported_media_type"),
    ] {
        let answer = ask(&world, &post(PATH, &world.key, JSON, headers, body)).await;
        assert_error(&answer, status, "invalid_request_error", code);
    }
    let body = sample(PATH).body;
    let fault = "x-sim-fault: close\r\n";
    let answer = ask(&world, &post(PATH, &world.key, JSON, fault, &body)).await;
    assert_error(&answer, 502, "upstream_error", "upstream_reset");
    let mut client = world.connect().await;
    client.send(format!("GET {PATH} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await;
    assert_error(&client.answer().await, 405, "invalid_request_error", "method_not_allowed");
    // The upstream's own errors pass as they are.
    let error = "x-sim-error: 503\r\n";
    let answer = ask(&world, &post(PATH, &world.key, JSON, error, &body)).await;
    assert_eq!((answer.status, answer.header("x-weir-origin")), (503, Some("upstream")));
    assert_eq!(answer.json()["type"], "error");
    world.finish().await;
    simulator.shutdown().await;
}

#[tokio::test]
async fn a_stream_that_fails_says_so_by_name() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let body = format!(r#"{{"model":"{MODEL}","max_tokens":9,"stream":true,"messages":[]}}"#);
    for (path, begins) in [
        (PATH, "event: error\ndata: {\"type\":\"error\",\"error\":{"),
        ("/v1/responses", "data: {\"error\":{"),
    ] {
        let mut client = world.connect().await;
        client.send(&post(path, &world.key, JSON, "", body.as_bytes())).await;
        let (mut call, _) = upstream.call().await;
        call.stream().await;
        let begun = "event: ping\ndata: {\"type\":\"ping\"}\n\n";
        call.chunk(begun).await;
        assert_eq!(client.head().await.status(), 200);
        assert_eq!(client.body_until("\n\n").await, begun.as_bytes());
        drop(call);
        let (rest, is_whole) = client.rest().await;
        let rest = String::from_utf8(rest).expect("text");
        assert!(rest.starts_with(begins) && rest.ends_with("}\n\n") && !is_whole, "{rest}");
    }
    let rows = world.rows_eventually(2).await;
    assert!(rows.iter().all(|row| row.end == "upstream_truncated"));
    world.finish().await;
}

/// Claude Code asks for `?limit=1000`, with its key in either header.
#[tokio::test]
async fn the_models_are_listed_in_the_form_of_who_asks() {
    let models = r#"["a", "b/1", "c"]"#;
    let world = World::builder().set("upstream.models", models).start().await;
    let own = format!("x-api-key: {}\r\n", world.key);
    let version = "anthropic-version: 2023-06-01\r\n";
    let get = |path: &str, key: &str, headers: &str| {
        let bearer = match key {
            "" => String::new(),
            key => format!("authorization: Bearer {key}\r\n"),
        };
        format!("GET {path} HTTP/1.1\r\nhost: x\r\n{bearer}{headers}\r\n").into_bytes()
    };
    let listed = r#"{"data":[{"type":"model","id":"a","display_name":"a","created_at":"2026-05-28T20:26:40Z"},{"type":"model","id":"b/1","display_name":"b/1","created_at":"2026-05-28T20:26:40Z"}],"has_more":true,"first_id":"a","last_id":"b/1"}"#;
    for (key, headers) in [("", &*own), (&*world.key, ""), (&world.key, &own)] {
        let headers = format!("{headers}{version}");
        let answer = ask(&world, &get("/v1/models?limit=2", key, &headers)).await;
        assert_eq!((answer.status, answer.text()), (200, listed));
        let one = ask(&world, &get("/v1/models/b%2F1", key, &headers)).await;
        assert_eq!((&one.json()["id"], &one.json()["type"]), (&"b/1".into(), &"model".into()));
        let wrong = ask(&world, &get("/v1/models?limit=0", key, &headers)).await;
        assert_error(&wrong, 400, "invalid_request_error", "invalid_request");
        let none = ask(&world, &get("/v1/models/d", key, &headers)).await;
        assert_error(&none, 404, "invalid_request_error", "model_not_found");
    }
    let answer = ask(&world, &get("/v1/models?limit=2", "", &own)).await;
    assert_eq!((&answer.json()["object"], answer.status), (&"list".into(), 200));
    assert_eq!(answer.json()["data"].as_array().map(Vec::len), Some(3), "OpenAI's has no pages");
    let nobody = ask(&world, &get("/v1/models", "", version)).await;
    assert_error(&nobody, 401, "authentication_error", "invalid_api_key");
    world.finish().await;
}

/// It runs no request, so it is none for the books but by its number, whatever becomes of it.
#[tokio::test]
async fn counting_tokens_costs_a_request_and_nothing_else() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream)
        .more("[[price]]\nmodel = \"gpt-5.4\"\nfrom = \"2020-01-01\"\nper_request = 1\ninput = 1\noutput = 1\n")
        .start()
        .await;
    let key = world.new_key(&["--rpm", "2", "--daily-tokens", "1", "--daily-usd", "0.01"]).await;
    let body = sample(FREE).body;
    for is_answered in [true, false] {
        let mut client = world.connect().await;
        client.send(&post(FREE, &key, JSON, "", &body)).await;
        let (mut call, received) = upstream.call().await;
        assert_eq!(received.body, body, "no bound is put in");
        if is_answered {
            let counted = r#"{"input_tokens":7,"usage":{"input_tokens":7,"output_tokens":3}}"#;
            call.answer("200 OK", "content-type: application/json\r\n", counted).await;
        }
        drop(call);
        let answer = client.answer().await;
        assert_eq!(answer.status, if is_answered { 200 } else { 502 });
        let row = world.row(answer.event_id()).await;
        let used = (row.total_tokens, row.reserved_tokens);
        assert_eq!((&*row.usage_source, used), ("none", (0, 0)), "{row:#?}");
    }
    let answer = ask(&world, &post(FREE, &key, JSON, "", &body)).await;
    assert_eq!((answer.status, answer.header("x-weir-limit")), (429, Some("key-requests")));
    let usage = world.place.weir(&["usage", "--format", "json"]);
    let usage: serde_json::Value = serde_json::from_str(&usage).expect("it prints JSON");
    assert_eq!((&usage[0]["cost_usd"], &usage[0]["requests"]), (&"0.00".into(), &2.into()));
    world.finish().await;
}
