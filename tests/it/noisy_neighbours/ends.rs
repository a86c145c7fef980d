//! How connections end: a cut answer is never taken for a whole one, and who has said all may still listen.

use super::CHAT;
use crate::harness::{Client, Upstream, World, chunk, request};
use crate::http::chat;
use crate::process::Gateway;
use crate::traffic::simulated;

const DELTA: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// As a proxy in front sends it that speaks HTTP/1.0 to its upstreams, which is nginx's default.
fn old(world: &World, body: &str) -> String {
    request("POST", CHAT, &world.key, "connection: close\r\n", body).replace("HTTP/1.1", "HTTP/1.0")
}

/// Where the end of the connection is the end of the answer, a cut is an error and not an end.
#[tokio::test]
async fn a_cut_answer_over_http_1_0_ends_with_a_reset() {
    let half = &DELTA[..DELTA.len() / 2];
    let json = r#"{"choices":[{"index":0,"message":{"content":"Hello"},"finish_reason":"stop"}]}"#;
    let half_json = &json[..json.len() / 2];
    let whole = [DELTA, DONE].concat();
    for (content_type, body, is_whole) in [
        ("text/event-stream", &*whole, true),
        ("text/event-stream", half, false),
        ("text/event-stream", DELTA, false),
        ("application/json", json, true),
        ("application/json", half_json, false),
    ] {
        let upstream = Upstream::start().await;
        let world = World::before(&upstream).start().await;
        // A client that asks for usage itself gets every piece at once.
        let stream = r#"{"stream":true,"stream_options":{"include_usage":true},"#;
        let begin = if content_type.starts_with("text") { stream } else { "{" };
        let asked = chat("a").replacen('{', begin, 1);
        let mut client = world.connect().await;
        client.send(old(&world, &asked).as_bytes()).await;
        let (mut call, _) = upstream.call().await;
        let headers = format!("content-type: {content_type}\r\ntransfer-encoding: chunked\r\n");
        call.ok(&headers).await;
        call.chunk(body).await;
        // Cut before anything is released, a JSON answer would be a 502.
        let head = client.head().await;
        assert_eq!((head.status(), head.header("transfer-encoding")), (200, None));
        if is_whole {
            call.write(chunk("")).await;
        }
        drop(call);
        let (rest, in_order) = client.until_end().await;
        let text = String::from_utf8_lossy(&rest);
        assert!(text.starts_with(body), "{text}");
        assert_eq!(in_order, is_whole, "{content_type} {body}");
        world.rows_eventually(1).await;
        world.finish().await;
    }
}

/// An answer with a length needs no reset: its client counts.
#[tokio::test]
async fn a_shutdown_cuts_http_1_0_with_a_reset_too() {
    let upstream = Upstream::start().await;
    let mut world = World::before(&upstream).start().await;
    let mut client = world.connect().await;
    let asked = chat("a").replacen('{', "{\"stream\":true,", 1);
    client.send(old(&world, &asked).as_bytes()).await;
    let (mut call, _) = upstream.call().await;
    call.stream_of(DELTA).await;
    assert_eq!(client.head().await.status(), 200);
    world.stop().await;
    let (rest, in_order) = client.until_end().await;
    assert!(String::from_utf8_lossy(&rest).contains("server_shutdown"));
    assert!(!in_order, "a client would take it for whole");
}

/// RFC 9112 §9.6 leaves it open whether they are served.
#[tokio::test]
async fn who_has_said_all_and_waits_is_served_where_that_is_wanted() {
    for half_close in [true, false] {
        let upstream = Upstream::start().await;
        let world = World::before(&upstream).set("server.half_close", half_close).start().await;
        let mut client = world.post(&chat("a")).await;
        let (mut call, _) = upstream.call().await;
        client.half_close().await;
        if half_close {
            // The first byte is here before the upstream says anything, and belongs to the answer.
            assert_eq!(client.peek().await, b'H');
            call.answer("200 OK", "content-type: application/json\r\n", "{}").await;
            let answer = client.answer().await;
            assert_eq!((answer.status, answer.text()), (200, "{}"));
        } else {
            call.closed().await;
        }
        client.closed().await;
        let rows = world.rows_eventually(1).await;
        assert_eq!(rows[0].end, if half_close { "complete" } else { "client_closed" });
        world.finish().await;
    }
}

/// The end of its side comes with the request here, in one piece, and the answer is a stream; in HTTP/1.0
/// too, where the status line is another from its eighth byte on.
#[tokio::test]
async fn who_waits_gets_every_byte_of_a_stream() {
    let asked = chat("a").replacen('{', "{\"stream\":true,", 1);
    for is_old in [false, true] {
        let upstream = Upstream::start().await;
        let world = World::before(&upstream).start().await;
        let request = if is_old { old(&world, &asked) } else { world.chat(&asked) };
        let mut client = world.connect().await;
        client.send(request.as_bytes()).await;
        client.half_close().await;
        let (mut call, _) = upstream.call().await;
        assert_eq!(client.peek().await, b'H');
        call.stream_of(DELTA).await;
        assert_eq!(client.head().await.status(), 200);
        call.chunk(DONE).await;
        call.write(chunk("")).await;
        let (rest, in_order) = client.until_end().await;
        let rest = String::from_utf8_lossy(&rest);
        assert!(in_order && rest.contains(DELTA) && rest.contains(DONE), "{rest}");
        assert_eq!(world.rows_eventually(1).await[0].end, "complete");
        world.finish().await;
    }
}

/// A body that breaks off is no request to wait for.
#[tokio::test]
async fn who_closes_amid_the_body_is_not_waited_for() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let mut client = world.connect().await;
    let request = world.chat(&chat("a"));
    client.send(&request.as_bytes()[..request.len() - 1]).await;
    client.half_close().await;
    client.until_end().await;
    assert_eq!(world.rows_eventually(0).await.len(), 0);
    world.finish().await;
}

#[tokio::test]
async fn what_any_request_can_cause_is_logged_once_a_minute() {
    let (simulator, _) = simulated().await;
    let base_url = simulator.base_url();
    simulator.shutdown().await;
    let (place, _) = World::builder()
        .set("upstream.base_url", format!("{base_url:?}"))
        .set("log.filter", "\"info\"")
        .set("log.format", "\"json\"")
        .place();
    let key = place.create_key(&[]);
    let gateway = Gateway::start(&place);
    for _ in 0..5 {
        let mut client = Client::connect(gateway.address).await;
        client.send(request("POST", CHAT, &key, "", &chat("a")).as_bytes()).await;
        assert_eq!(client.answer().await.status, 502);
    }
    gateway.signal("TERM");
    let (_, log) = gateway.ended().await;
    let lines: Vec<_> = log.lines().filter(|line| line.contains("does not answer")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    let line: serde_json::Value = serde_json::from_str(lines[0]).expect("JSON");
    assert_eq!((&line["level"], &line["upstream"]), (&"WARN".into(), &"up".into()));
    assert_eq!(line["cause"], "the upstream refuses connections");
}

/// The world goes on for everybody else.
#[tokio::test]
async fn an_endless_flood_of_interim_answers_ends() {
    let upstream = Upstream::start().await;
    let more = "[[upstream]]\nname = \"other\"\nmodels = [\"other\"]\n";
    let (simulator, _) = simulated().await;
    let more = format!("{more}base_url = {:?}\n", simulator.base_url());
    let world = World::before(&upstream).more(&more).start().await;
    let mut client = world.post(&chat("a")).await;
    let (mut call, _) = upstream.call().await;
    let flood = "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
    while call.is_open().await {
        call.try_write(&flood).await;
    }
    let answer = client.answer().await;
    assert_eq!((answer.status, &*answer.code()), (502, "upstream_protocol"));
    world.rows_eventually(1).await;
    world.finish().await;
    simulator.shutdown().await;
}
