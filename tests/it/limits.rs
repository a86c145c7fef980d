//! Limits and quotas as clients meet them: how many of those that come at once are let through, what
//! the others are told, and that a wait as long as told is enough.

mod clock;
mod cost;
mod keys;
mod overrun;
mod pictures;
pub mod thousand;
mod windows;

use std::sync::Arc;

use weir::clock::{Clock, ManualClock};
use weir::server::Environment;

use crate::harness::{
    Answer, Call, Client, IMAGE_MODEL, MODEL, Piece, Received, Upstream, World, eventually,
    misspelt, patiently, request,
};
use crate::traffic::simulated;

/// 2026-06-03T07:14:21Z.
const MORNING_MS: i64 = 1_780_470_861_000;
/// As the API document prints it.
const RATE_LIMITED: &str = r#"{"error":{"message":"Rate limit exceeded.","type":"rate_limit_error","code":"rate_limit_exceeded"}}"#;

/// Each call has a connection of its own, so that the next one is always to be accepted.
const STREAM_HEAD: &str =
    "content-type: text/event-stream\r\ntransfer-encoding: chunked\r\nconnection: close\r\n";

fn at(unix_ms: i64) -> (Environment, Arc<ManualClock>) {
    let (clock, hand) = Clock::manual(unix_ms);
    (Environment { clock, ..Environment::default() }, hand)
}

fn confirmed_ms(world: &World) -> Option<i64> {
    let store = rusqlite::Connection::open(world.place.data_dir().join("weir.sqlite"));
    let sql = "SELECT confirmed_ms FROM meta";
    store.expect("the store").query_row(sql, [], |row| row.get(0)).expect("a row")
}

/// Lets ten minutes pass, after which a time is confirmed.
async fn confirmed(world: &World, hand: &ManualClock) {
    hand.advance_ms(10 * 60_000);
    eventually("a time is confirmed", || confirmed_ms(world)).await;
}

/// The words are most of it, so that the estimate of the prompt is theirs, whatever stands around them.
fn chat(max_tokens: u64) -> String {
    let words = "How much? ".repeat(16);
    format!(
        r#"{{"model":"{MODEL}","stream":false,"max_completion_tokens":{max_tokens},"messages":[{{"role":"user","content":"{words}"}}]}}"#
    )
}

fn stream(max_tokens: u64) -> String {
    chat(max_tokens).replace("\"stream\":false", "\"stream\":true ")
}

async fn open(world: &World, key: &str, body: &str) -> Client {
    let mut client = world.connect().await;
    client.send(request("POST", "/v1/chat/completions", key, "", body).as_bytes()).await;
    client
}

async fn ask(world: &World, key: &str, body: &str) -> Answer {
    open(world, key, body).await.answer().await
}

async fn show(world: &World, key: &str, path: &str) -> Answer {
    let mut client = world.connect().await;
    client.send(request("GET", path, key, "", "").as_bytes()).await;
    client.answer().await
}

/// Answers a call whole, in the form that it asked for; it used `tokens` in all.
async fn whole(call: &mut Call, received: &Received, tokens: u64) {
    let usage = format!(
        r#""usage":{{"prompt_tokens":1,"completion_tokens":{},"total_tokens":{tokens}}}"#,
        tokens - 1
    );
    if String::from_utf8_lossy(&received.body).contains("\"stream\":true") {
        call.ok(STREAM_HEAD).await;
        let text = r#"{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}"#;
        call.chunk(format!("data: {text}\n\n")).await;
        call.chunk(format!("data: {{\"choices\":[],{usage}}}\n\ndata: [DONE]\n\n")).await;
        call.chunk("").await;
    } else {
        let kind = "content-type: application/json\r\nconnection: close\r\n";
        call.answer("200 OK", kind, &format!("{{\"choices\":[],{usage}}}")).await;
    }
}

/// Asks and lets the upstream answer.
async fn served(world: &World, upstream: &Upstream, key: &str, body: &str, tokens: u64) -> Answer {
    let mut client = open(world, key, body).await;
    let (mut call, received) = upstream.call().await;
    whole(&mut call, &received, tokens).await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

fn assert_rate_limited(answer: &Answer, limit: &str, retry_after: u64) {
    assert_eq!((answer.status, answer.text()), (429, RATE_LIMITED));
    assert_eq!(answer.header("x-weir-limit"), Some(limit));
    assert_eq!(answer.header("retry-after"), Some(&*retry_after.to_string()));
    let should_retry = if retry_after > 60 { Some("false") } else { None };
    assert_eq!(answer.header("x-should-retry"), should_retry);
    assert_eq!(answer.header("x-weir-origin"), Some("gateway"));
}

/// The key's id, which lists show; its text they never show.
fn id_of(world: &World, key: &str) -> String {
    let list = world.place.weir(&["key", "list", "--format", "json"]);
    assert!(!list.contains(key), "a key is shown again: {list}");
    let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    let is_it = |one: &&serde_json::Value| one["last4"] == key[key.len() - 4..];
    let found = list.as_array().expect("a list").iter().find(is_it).expect("it is listed");
    found["id"].as_str().expect("a text").to_owned()
}

/// Asks for the models until the answer is as it should be.
async fn until(world: &World, key: &str, what: &str, is_it: impl Fn(&Answer) -> bool) {
    let asking = async { while !is_it(&show(world, key, "/v1/models").await) {} };
    patiently(what, asking).await;
}

#[tokio::test]
async fn a_place_is_taken_until_the_body_has_ended() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let key = world.new_key(&["--concurrency", "2"]).await;
    let mut streaming = open(&world, &key, &stream(9)).await;
    let (mut call, _) = upstream.call().await;
    call.ok(STREAM_HEAD).await;
    call.chunk("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n").await;
    assert_eq!(streaming.head().await.status(), 200);
    assert!(matches!(streaming.piece().await, Piece::Data(_)));
    let waiting = open(&world, &key, &chat(9)).await;
    let (waiting_call, _) = upstream.call().await;
    for _ in 0..2 {
        assert_rate_limited(&ask(&world, &key, &chat(9)).await, "key-concurrency", 1);
    }
    call.chunk("data: [DONE]\n\n").await;
    call.chunk("").await;
    assert!(streaming.rest().await.1);
    served(&world, &upstream, &key, &chat(9), 2).await;
    // A client that goes away gives its place back too.
    drop(waiting);
    drop(waiting_call);
    world.settled().await;
    served(&world, &upstream, &key, &chat(9), 2).await;
    world.finish().await;
}

#[tokio::test]
async fn after_retry_after_a_request_succeeds() {
    let (simulator, builder) = simulated().await;
    let (environment, hand) = at(MORNING_MS);
    let world = builder.environment(environment).start().await;
    let key = world.new_key(&["--rpm", "2"]).await;
    for left in ["1", "0"] {
        let answer = ask(&world, &key, &chat(9)).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("x-ratelimit-limit-requests"), Some("2"));
        assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some(left));
    }
    let refused = ask(&world, &key, &stream(9)).await;
    assert_rate_limited(&refused, "key-requests", 30);
    assert_eq!(refused.header("x-ratelimit-remaining-requests"), Some("0"));
    assert_eq!(refused.header("x-ratelimit-reset-requests"), Some("1m0s"));
    hand.advance_ms(29_999);
    assert_rate_limited(&ask(&world, &key, &chat(9)).await, "key-requests", 1);
    hand.advance_ms(1);
    assert_eq!(ask(&world, &key, &chat(9)).await.status, 200);
    assert_rate_limited(&ask(&world, &key, &chat(9)).await, "key-requests", 30);
    world.finish().await;
    simulator.shutdown().await;
}

#[tokio::test]
async fn tokens_are_reserved_and_what_was_not_used_comes_back() {
    let upstream = Upstream::start().await;
    let (environment, hand) = at(MORNING_MS);
    let world = World::before(&upstream).environment(environment).start().await;
    let key = world.new_key(&["--tpm", "1000"]).await;
    let mut first = open(&world, &key, &chat(890)).await;
    let (mut call, received) = upstream.call().await;
    let reserved = world.server().outstanding().1;
    assert!(reserved > 890, "the prompt is reserved too");
    let refused = ask(&world, &key, &chat(500)).await;
    let missing = reserved + (reserved - 390) - 1000;
    assert_rate_limited(&refused, "key-tokens", (missing * 60).div_ceil(1000));
    let left = (1000 - reserved).to_string();
    assert_eq!(refused.header("x-ratelimit-remaining-tokens"), Some(&*left));
    whole(&mut call, &received, 10).await;
    let answer = first.answer().await;
    assert_eq!(answer.header("x-ratelimit-remaining-tokens"), Some(&*left), "at its head");
    assert_eq!(answer.header("x-ratelimit-limit-tokens"), Some("1000"));
    let listed = show(&world, &key, "/v1/models").await;
    assert_eq!(listed.header("x-ratelimit-remaining-tokens"), Some("990"));
    // 2,500 more than reserved are debt, and booked in full.
    let asked = served(&world, &upstream, &key, &chat(500), 3000).await;
    assert_eq!(world.row(asked.event_id()).await.total_tokens, 3000);
    let refused = ask(&world, &key, &chat(1)).await;
    let wait: u64 = refused.header("retry-after").expect("a wait").parse().expect("seconds");
    assert!(wait > 120, "2,010 tokens of debt at 1,000 a minute: {wait}");
    assert_rate_limited(&refused, "key-tokens", wait);
    assert_eq!(refused.header("x-ratelimit-remaining-tokens"), Some("0"));
    hand.advance_ms(wait * 1000);
    served(&world, &upstream, &key, &chat(1), 2).await;
    world.finish().await;
}

#[tokio::test]
async fn what_no_waiting_helps_is_a_400() {
    let (simulator, builder) = simulated().await;
    let world = builder.start().await;
    let long = format!(r#"{{"model":"{MODEL}","messages":"{}"}}"#, "long ".repeat(100));
    for (limit, body, name, unit) in [
        ("--tpm", long, "key-tokens", "per minute"),
        ("--daily-tokens", chat(200), "key-daily-tokens", "per day"),
        ("--monthly-tokens", chat(200), "key-monthly-tokens", "per calendar month"),
    ] {
        let key = world.new_key(&[limit, "100"]).await;
        let answer = ask(&world, &key, &body).await;
        assert_eq!((answer.status, &*answer.code()), (400, "request_exceeds_limit"), "{limit}");
        let said = format!(" tokens, more than the whole limit {name} of 100 tokens {unit}; ");
        assert!(answer.text().contains(&said), "{}", answer.text());
        assert_eq!(answer.header("x-weir-limit"), Some(name));
        assert_eq!(answer.header("retry-after"), None);
    }
    assert_eq!(simulator.counts().requests, 0, "none of them left");
    world.finish().await;
    simulator.shutdown().await;
}

#[tokio::test]
async fn every_answer_to_a_known_key_says_what_is_left() {
    let (simulator, builder) = simulated().await;
    let world = builder.start().await;
    let key = world.new_key(&["--rpm", "1000", "--tpm", "100000"]).await;
    let good = chat(9);
    let cases = [
        ("", &*good, 200),
        ("", &*stream(9), 200),
        ("x-sim-error: 429\r\n", &*good, 429),
        ("x-sim-error: 400\r\n", &*stream(9), 400),
        ("x-sim-error: 500\r\n", &*good, 500),
        ("x-sim-error: 401\r\n", &*good, 502),
        ("x-sim-fault: close\r\n", &*good, 502),
        ("", "{", 400),
        ("", r#"{"model":"nobody's","messages":[]}"#, 404),
        ("content-encoding: compress\r\n", &*good, 415),
    ];
    for (headers, body, status) in cases {
        let mut client = world.connect().await;
        let bytes = request("POST", "/v1/chat/completions", &key, headers, body);
        client.send(bytes.as_bytes()).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status, "{headers}{body}: {}", answer.text());
        for (kind, limit) in [("requests", "1000"), ("tokens", "100000")] {
            let values = |name: &str| {
                let name = format!("x-ratelimit-{name}-{kind}");
                let all = answer.head.headers.iter().filter(|(one, _)| *one == name);
                all.map(|(_, value)| value.clone()).collect::<Vec<_>>()
            };
            assert_eq!(values("limit"), [limit], "{headers}{body}");
            assert_eq!(values("remaining").len(), 1, "{headers}{body}");
            assert!(values("reset")[0].ends_with('s'), "{:?}", values("reset"));
        }
        if headers.contains("429") {
            assert_eq!(answer.header("retry-after"), Some("1"), "the upstream's own is kept");
            assert_eq!(answer.header("x-weir-origin"), Some("upstream"));
        }
    }
    let listed = show(&world, &key, "/v1/models").await;
    assert_eq!(listed.header("x-ratelimit-limit-tokens"), Some("100000"));
    for (key, path) in [(&*key, "/v1/unknown"), ("sk-weir-none", "/v1/models")] {
        let answer = show(&world, key, path).await;
        assert_eq!(answer.header("x-ratelimit-limit-tokens"), None, "{path}: nobody is known");
    }
    world.finish().await;
    simulator.shutdown().await;
}

#[tokio::test]
async fn key_and_tenant_limits_both_hold() {
    let (simulator, builder) = simulated().await;
    let world = builder.start().await;
    world.place.weir(&["tenant", "create", "beta", "--rpm", "3"]);
    let first = world.new_key(&["--tenant", "beta", "--rpm", "2"]).await;
    let second = world.new_key(&["--tenant", "beta", "--rpm", "100"]).await;
    for left in ["1", "0"] {
        let answer = ask(&world, &first, &chat(9)).await;
        assert_eq!(answer.header("x-ratelimit-limit-requests"), Some("2"), "the key has less left");
        assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some(left));
    }
    let refused = ask(&world, &first, &chat(9)).await;
    assert_eq!(refused.header("x-weir-limit"), Some("key-requests"));
    let answer = ask(&world, &second, &chat(9)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-ratelimit-limit-requests"), Some("3"), "the tenant has less left");
    let refused = ask(&world, &second, &chat(9)).await;
    assert_eq!((refused.status, refused.header("x-weir-limit")), (429, Some("tenant-requests")));
    assert_eq!(ask(&world, &world.key, &chat(9)).await.status, 200, "another tenant's");
    world.finish().await;
    simulator.shutdown().await;
}

#[tokio::test]
async fn a_quota_outlives_the_server_and_ends_with_its_day() {
    let upstream = Upstream::start().await;
    let (environment, hand) = at(MORNING_MS);
    let mut world = World::before(&upstream).environment(environment).start().await;
    let requests = world.new_key(&["--daily-requests", "2"]).await;
    let tokens = world.new_key(&["--daily-tokens", "1000", "--monthly-tokens", "1200"]).await;
    for _ in 0..2 {
        served(&world, &upstream, &requests, &chat(9), 2).await;
    }
    served(&world, &upstream, &tokens, &chat(900), 900).await;
    world.settled().await;
    world.stop().await;
    world.start_again();
    for (key, limit, unit) in [
        (&requests, "key-daily-requests", "requests per day"),
        (&tokens, "key-daily-tokens", "tokens per day"),
    ] {
        let answer = ask(&world, key, &chat(200)).await;
        assert_eq!((answer.status, &*answer.code()), (429, "insufficient_quota"));
        let said =
            format!("The quota {limit} ({unit}) has no room for this request; it resets at ");
        assert!(answer.text().contains(&said), "{}", answer.text());
        assert_eq!(answer.header("x-weir-limit"), Some(limit));
    }
    served(&world, &upstream, &tokens, &chat(20), 2).await;
    hand.advance_ms(24 * 3_600_000);
    served(&world, &upstream, &requests, &chat(9), 2).await;
    let answer = ask(&world, &tokens, &chat(500)).await;
    assert_eq!(answer.header("x-weir-limit"), Some("key-monthly-tokens"));
    let message = answer.json()["error"]["message"].to_string();
    assert!(message.contains("2026-07-01T00:00:00Z"), "{message}");
    served(&world, &upstream, &tokens, &chat(200), 2).await;
    world.finish().await;
}

#[tokio::test]
async fn bad_keys_are_limited_by_address_and_good_ones_are_not() {
    let (simulator, builder) = simulated().await;
    let world = builder.set("server.failed_keys_per_minute", 3).start().await;
    let typo = misspelt(&world.key);
    for key in [&*typo, "sk-no-key", ""] {
        let answer = show(&world, key, "/v1/models").await;
        assert_eq!((answer.status, &*answer.code()), (401, "invalid_api_key"));
    }
    let answer = ask(&world, &typo, &chat(9)).await;
    let wait: u64 = answer.header("retry-after").expect("a wait").parse().expect("seconds");
    assert!((1..=20).contains(&wait), "{wait}");
    assert_rate_limited(&answer, "failed-keys", wait);
    assert_eq!(ask(&world, &world.key, &chat(9)).await.status, 200);
    assert_eq!(simulator.counts().requests, 1);
    world.finish().await;
    simulator.shutdown().await;
}

#[tokio::test]
async fn what_the_command_line_changes_holds_on_the_running_server() {
    let (simulator, builder) = simulated().await;
    let world = builder.start().await;
    let key = world.new_key(&[]).await;
    let id = id_of(&world, &key);
    let set = |arguments: &[&str]| world.place.weir(&[&["key", "set", &id], arguments].concat());
    let limit = |name: &'static str, value: Option<&'static str>| {
        move |answer: &Answer| answer.header(&format!("x-ratelimit-limit-{name}")) == value
    };
    until(&world, &key, "not limited", limit("requests", None)).await;
    set(&["--rpm", "7", "--tpm", "5000"]);
    until(&world, &key, "7 requests", limit("requests", Some("7"))).await;
    until(&world, &key, "5,000 tokens", limit("tokens", Some("5000"))).await;
    set(&["--rpm", "none"]);
    until(&world, &key, "not limited again", limit("requests", None)).await;
    world.place.weir(&["tenant", "set", "acme", "--rpm", "9"]);
    until(&world, &key, "9 requests together", limit("requests", Some("9"))).await;
    set(&["--models", MODEL]);
    until(&world, &key, "one model", |answer| !answer.text().contains(IMAGE_MODEL)).await;
    set(&["--models", "all"]);
    until(&world, &key, "both models", |answer| answer.text().contains(IMAGE_MODEL)).await;
    let rotated = world.place.weir(&["key", "rotate", &id, "--overlap", "0s", "--format", "json"]);
    let rotated: serde_json::Value = serde_json::from_str(&rotated).expect("JSON");
    let new = rotated["key"].as_str().expect("a text");
    until(&world, &key, "the old text has ended", |answer| answer.status == 401).await;
    assert_eq!(show(&world, new, "/v1/models").await.status, 200);
    assert_eq!(id_of(&world, new), id, "the books stay");
    world.place.weir(&["key", "revoke", &id]);
    until(&world, new, "the key is revoked", |answer| answer.status == 401).await;
    world.finish().await;
    simulator.shutdown().await;
}

#[tokio::test]
async fn a_key_ends_at_its_time() {
    let (simulator, builder) = simulated().await;
    // 2098-12-31T23:59:59Z; the command line, which has another clock, wants it to lie ahead.
    let (environment, hand) = at(4_070_908_799_000);
    let world = builder.environment(environment).start().await;
    let key = world.new_key(&["--expires", "2099-01-01"]).await;
    hand.advance_ms(999);
    assert_eq!(show(&world, &key, "/v1/models").await.status, 200);
    hand.advance_ms(1);
    let answer = ask(&world, &key, &chat(9)).await;
    assert_eq!((answer.status, &*answer.code()), (401, "invalid_api_key"));
    world.finish().await;
    simulator.shutdown().await;
}

#[tokio::test]
async fn a_key_sees_the_models_that_it_may_use() {
    let (simulator, builder) = simulated().await;
    let world = builder.start().await;
    let key = world.new_key(&["--models", MODEL]).await;
    let listed = show(&world, &key, "/v1/models").await.json();
    let ids: Vec<_> = listed["data"].as_array().expect("a list").iter().map(|m| &m["id"]).collect();
    assert_eq!(ids, [MODEL]);
    assert_eq!(show(&world, &key, &format!("/v1/models/{MODEL}")).await.status, 200);
    let other = show(&world, &key, &format!("/v1/models/{IMAGE_MODEL}")).await;
    assert_eq!((other.status, &*other.code()), (404, "model_not_found"));
    let chatted = ask(&world, &key, &chat(9).replace(MODEL, IMAGE_MODEL)).await;
    assert_eq!((chatted.status, &*chatted.code()), (404, "model_not_found"));
    let unknown = ask(&world, &key, &chat(9).replace(MODEL, "gpt-0")).await;
    assert_eq!(unknown.text(), chatted.text().replace(IMAGE_MODEL, "gpt-0"), "told the same way");
    assert_eq!(simulator.counts().requests, 0);
    eventually("nothing is counted", || (world.place.rows().is_empty()).then_some(())).await;
    world.finish().await;
    simulator.shutdown().await;
}
