//! The upstream answers, but not with what was asked for: what is the client's business passes as it
//! is, what would mislead it does not.

use weir::clock::Clock;
use weir::server::Environment;

use super::{ANSWER, Booked, CHAT, DELTA, DONE, FINISH, JSON, STATED, STREAM, Tokens, USAGE};
use super::{assert_passed, assert_refused};
use crate::harness::{Answer, Upstream, World, request};

/// One request, answered by the upstream with `status`, `headers` and `body`.
async fn answered(
    world: &World,
    upstream: &Upstream,
    status: &str,
    headers: &str,
    body: &str,
) -> Answer {
    let mut client = world.post(CHAT).await;
    let (mut call, _) = upstream.call().await;
    call.answer(status, headers, body).await;
    client.answer().await
}

const fn booked(end: &'static str, status: u16, upstream_status: u16) -> Booked {
    let upstream_status = Some(upstream_status);
    Booked { status, upstream_status, ..Booked::ok(end, Tokens::Nothing) }
}

#[tokio::test]
async fn row_29_too_many_requests() {
    const BODY: &str =
        r#"{"error":{"message":"Slow down","type":"requests","code":"rate_limit_exceeded"}}"#;
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).set("limits.rpm", 100).start().await;
    let headers = format!(
        "{JSON}retry-after: 17\r\nx-ratelimit-limit-requests: 5\r\n\
         x-ratelimit-remaining-requests: 0\r\nx-ratelimit-limit-tokens: 6\r\nx-request-id: req_7\r\n"
    );
    let answer = answered(&world, &upstream, "429 Too Many Requests", &headers, BODY).await;
    assert_passed(&answer, 429, BODY);
    assert_eq!(answer.header("retry-after"), Some("17"));
    assert_eq!(answer.header("x-ratelimit-limit-requests"), Some("100"));
    assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some("99"));
    assert_eq!(answer.header("x-ratelimit-limit-tokens"), None);
    let row = world.row(answer.event_id()).await;
    booked("upstream_rejected", 429, 429).check(&row);
    assert_eq!(row.upstream_request_id.as_deref(), Some("req_7"));
    world.finish().await;
}

#[tokio::test]
async fn row_30_refused_by_the_upstream() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    for (line, status) in [
        ("400 Bad Request", 400),
        ("403 Forbidden", 403),
        ("404 Not Found", 404),
        ("413 Content Too Large", 413),
        ("422 Unprocessable Content", 422),
    ] {
        for (headers, body) in [
            (JSON, r#"{"error":{"message":"No.","type":"invalid_request_error","code":null}}"#),
            ("content-type: text/html\r\n", "<h1>No</h1>"),
            ("", ""),
        ] {
            let answer = answered(&world, &upstream, line, headers, body).await;
            assert_passed(&answer, status, body);
            let row = world.row(answer.event_id()).await;
            booked("upstream_rejected", status, status).check(&row);
        }
    }
    world.finish().await;
}

#[tokio::test]
async fn row_31_upstream_key_refused() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let body =
        r#"{"error":{"message":"Incorrect API key provided: sk-upstream-0123456789abcdef"}}"#;
    let answer = answered(&world, &upstream, "401 Unauthorized", JSON, body).await;
    assert_refused(&world, &answer, 502, "upstream_auth", Some("false"));
    booked("upstream_rejected", 502, 401).check_only(&world, answer.event_id()).await;
    world.finish().await;
}

#[tokio::test]
async fn row_32_failed_with_json() {
    const BODY: &str = r#"{"error":{"message":"Oops","type":"server_error","code":null}}"#;
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    for (line, status, retry) in [
        ("500 Internal Server Error", 500, None),
        ("502 Bad Gateway", 502, Some("false")),
        ("503 Service Unavailable", 503, Some("true")),
    ] {
        let header = retry.map(|retry| format!("x-should-retry: {retry}\r\n")).unwrap_or_default();
        let headers = format!("{JSON}{header}");
        let answer = answered(&world, &upstream, line, &headers, BODY).await;
        assert_passed(&answer, status, BODY);
        assert_eq!(answer.header("x-should-retry"), retry);
        let row = world.row(answer.event_id()).await;
        booked("upstream_error", status, status).check(&row);
    }
    world.finish().await;
}

/// As LiteLLM does it: an error status, told as a stream.
#[tokio::test]
async fn row_32_failed_with_a_stream() {
    const BODY: &str = "data: {\"error\":{\"message\":\"Oops\"}}\n\ndata: [DONE]\n\n";
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let headers = "content-type: text/event-stream\r\n";
    let line = "500 Internal Server Error";
    let answer = answered(&world, &upstream, line, headers, BODY).await;
    assert_passed(&answer, 500, BODY);
    booked("upstream_error", 500, 500).check_only(&world, answer.event_id()).await;
    world.finish().await;
}

#[tokio::test]
async fn row_33_failed_without_json() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    for (line, status, headers, body) in [
        (
            "500 Internal Server Error",
            500,
            "content-type: text/html\r\n",
            "<h1>127.0.0.1 failed</h1>",
        ),
        ("503 Service Unavailable", 503, JSON, ""),
        ("504 Gateway Timeout", 504, "", "timeout"),
    ] {
        let answer = answered(&world, &upstream, line, headers, body).await;
        assert_refused(&world, &answer, 502, "upstream_error", Some("false"));
        assert_eq!(answer.header("x-weir-upstream-status"), Some(&*status.to_string()));
        let row = world.row(answer.event_id()).await;
        // Somebody on the way did not wait for the end of the work.
        let tokens = if status == 504 { Tokens::Reserved } else { Tokens::Nothing };
        Booked { tokens, ..booked("upstream_error", 502, status) }.check(&row);
    }
    world.finish().await;
}

/// The same where the client gets the answer as it is.
#[tokio::test]
async fn row_32_given_up_on_the_way() {
    const BODY: &str = r#"{"error":{"message":"Request timed out","type":"timeout","code":"408"}}"#;
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    for (line, status, end) in [
        ("408 Request Timeout", 408, "upstream_rejected"),
        ("499 Client Closed Request", 499, "upstream_rejected"),
        ("504 Gateway Timeout", 504, "upstream_error"),
    ] {
        let answer = answered(&world, &upstream, line, JSON, BODY).await;
        assert_passed(&answer, status, BODY);
        let row = world.row(answer.event_id()).await;
        Booked { tokens: Tokens::Reserved, ..booked(end, status, status) }.check(&row);
    }
    world.finish().await;
}

/// Nothing in its head says that it is empty.
#[tokio::test]
async fn row_33_failed_with_nothing_in_chunks() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let mut client = world.post(CHAT).await;
    let (mut call, _) = upstream.call().await;
    call.write(format!(
        "HTTP/1.1 503 Service Unavailable\r\n{JSON}transfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    ))
    .await;
    let answer = client.answer().await;
    assert_refused(&world, &answer, 502, "upstream_error", Some("false"));
    booked("upstream_error", 502, 503).check_only(&world, answer.event_id()).await;
    world.finish().await;
}

/// A coding of the transfer that was not asked for (RFC 9112 §7) would reach the client as the answer.
#[tokio::test]
async fn an_answer_that_is_coded_in_transfer_is_refused() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let mut client = world.post(CHAT).await;
    let (mut call, _) = upstream.call().await;
    call.ok(&format!("{JSON}transfer-encoding: gzip, chunked\r\n")).await;
    call.chunk("x").await;
    let answer = client.answer().await;
    assert_refused(&world, &answer, 502, "upstream_protocol", Some("false"));
    let booked = Booked { status: 502, ..Booked::ok("upstream_error", Tokens::Reserved) };
    booked.check_only(&world, answer.event_id()).await;
    world.finish().await;
}

#[tokio::test]
async fn row_34_redirect() {
    for (line, status) in [("302 Found", 302), ("307 Temporary Redirect", 307)] {
        let (upstream, other) = (Upstream::start().await, Upstream::start().await);
        let world = World::before(&upstream).start().await;
        let headers = format!("{JSON}location: {}/v1/chat/completions\r\n", other.base_url());
        let answer = answered(&world, &upstream, line, &headers, "{}").await;
        assert_refused(&world, &answer, 502, "upstream_protocol", Some("false"));
        assert_eq!(answer.header("location"), None);
        booked("upstream_error", 502, status).check_only(&world, answer.event_id()).await;
        world.finish().await;
        assert!(!other.was_called(), "the redirect was followed");
    }
}

/// Asked for one thing and given another, the client gets it as it is, and it is read as what it is.
#[tokio::test]
async fn row_36_json_to_a_stream() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let mut client = world.post(STREAM).await;
    let (mut call, _) = upstream.call().await;
    call.answer("200 OK", JSON, ANSWER).await;
    let answer = client.answer().await;
    assert_passed(&answer, 200, ANSWER);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    Booked::ok("complete", STATED).check_only(&world, answer.event_id()).await;
    world.finish().await;
}

#[tokio::test]
async fn row_36_a_stream_to_json() {
    let body = [DELTA, FINISH, USAGE, DONE].concat();
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let mut client = world.post(CHAT).await;
    let (mut call, _) = upstream.call().await;
    call.answer("200 OK", "content-type: text/event-stream\r\n", &body).await;
    let answer = client.answer().await;
    assert_passed(&answer, 200, &body);
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    Booked::ok("complete", STATED).check_only(&world, answer.event_id()).await;
    world.finish().await;
}

/// Compressed although identity was asked for: it passes as it is, also where it can't be read.
#[tokio::test]
async fn row_35_compressed() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let mut client = world.post(CHAT).await;
    let (mut call, received) = upstream.call().await;
    assert_eq!(received.head.header("accept-encoding"), Some("identity"));
    call.answer("200 OK", &format!("{JSON}content-encoding: gzip\r\n"), "\x1f\x0b packed").await;
    let answer = client.answer().await;
    assert_passed(&answer, 200, "\x1f\x0b packed");
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    let booked = Booked { flags: &["encoded"], ..Booked::ok("complete", Tokens::Reserved) };
    booked.check_only(&world, answer.event_id()).await;
    world.finish().await;
}

/// What was reserved and not used can be used by the next request; what was used cannot.
#[tokio::test]
async fn a_void_reservation_is_given_back_whole() {
    const TPM: u64 = 1_000;
    // Time stands still, so that nothing is refilled.
    let (clock, _hand) = Clock::manual(1_800_000_000_000);
    let environment = Environment { clock, ..Environment::default() };
    let upstream = Upstream::start().await;
    let builder = World::before(&upstream).environment(environment).set("limits.tpm", TPM);
    let world = builder.start().await;
    let left = async || {
        let mut client = world.connect().await;
        client.send(request("GET", "/v1/models", &world.key, "", "").as_bytes()).await;
        let answer = client.answer().await;
        answer.header("x-ratelimit-remaining-tokens").map(str::to_owned)
    };
    answered(&world, &upstream, "429 Too Many Requests", JSON, "{}").await;
    world.settled().await;
    assert_eq!(left().await, Some(TPM.to_string()));
    answered(&world, &upstream, "200 OK", JSON, ANSWER).await;
    world.settled().await;
    assert_eq!(left().await, Some((TPM - 24).to_string()));
    let mut client = world.post(CHAT).await;
    drop(upstream.call().await);
    let row = world.row(client.answer().await.event_id()).await;
    assert_eq!(left().await, Some((TPM - 24 - row.reserved_tokens).to_string()));
    world.finish().await;
}
