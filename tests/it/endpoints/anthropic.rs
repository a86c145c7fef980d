//! What is different for Anthropic's clients: where their key stands, and what an error looks like.

use super::ask;
use super::samples::{post, sample};
use crate::traffic::simulated;
use crate::world::{Answer, MODEL, UPSTREAM_KEY, Upstream, World};

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
