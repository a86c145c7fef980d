//! The body of an answer that is no stream ends too early, too late or not at all.

use super::{
    ANSWER, Booked, CHAT, DELTA, DONE, FINISH, JSON, SOON_MS, STATED, STREAM_WITH_USAGE, Tokens,
};
use super::{assert_passed, assert_refused, begun};
use crate::harness::{Piece, Upstream, World};

/// The half of an answer that has its text, 5 bytes, and no usage yet.
const HALF: &str = r#"{"id":"c","choices":[{"index":0,"message":{"content":"Hello"#;
const CHUNKED: &str = "content-type: application/json\r\ntransfer-encoding: chunked\r\n";
const LONGER: &str = "content-type: application/json\r\ncontent-length: 1000\r\n";

/// The head of an answer, then nothing: it can still be told as an error.
async fn check_without_body(headers: &str) {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let mut client = world.post(CHAT).await;
    let (mut call, _) = upstream.call().await;
    call.ok(headers).await;
    drop(call);
    let answer = client.answer().await;
    assert_refused(&world, &answer, 502, "upstream_truncated", Some("false"));
    let booked = Booked::ok("upstream_truncated", Tokens::Reserved);
    Booked { status: 502, ..booked }.check_only(&world, answer.event_id()).await;
    world.finish().await;
}

/// `first` is released, then the upstream ends: the client is left without the end.
async fn check_half(headers: &str, piece: &str, released: &str, tokens: Tokens) {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let mut client = world.post(CHAT).await;
    let (mut call, _) = upstream.call().await;
    call.ok(headers).await;
    call.write(piece).await;
    let id = begun(&mut client).await;
    assert_eq!(client.body_until(released).await, released.as_bytes());
    drop(call);
    assert_eq!(client.rest().await, (Vec::new(), false));
    Booked::ok("upstream_truncated", tokens).check_only(&world, &id).await;
    world.finish().await;
}

#[tokio::test]
async fn row_16_no_byte_of_the_announced_body() {
    check_without_body(LONGER).await;
}

#[tokio::test]
async fn row_16_json_shorter_than_announced() {
    check_half(LONGER, HALF, HALF, Tokens::Reserved).await;
}

#[tokio::test]
async fn row_16_json_shorter_than_announced_after_its_usage() {
    check_half(LONGER, ANSWER, ANSWER, STATED).await;
}

#[tokio::test]
async fn row_17_more_than_announced() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let mut client = world.post(CHAT).await;
    let (mut call, _) = upstream.call().await;
    let length = ANSWER.len();
    call.ok(&format!("{JSON}content-length: {length}\r\n\r\n{ANSWER}HTTP/1.1 200 OK\r\n")).await;
    let answer = client.answer().await;
    assert_passed(&answer, 200, ANSWER);
    Booked::ok("complete", STATED).check_only(&world, answer.event_id()).await;
    call.closed().await;
    // What came too much is nobody's answer.
    client.send(world.chat(CHAT).as_bytes()).await;
    let (mut call, _) = upstream.call().await;
    call.answer("200 OK", JSON, "{}").await;
    assert_passed(&client.answer().await, 200, "{}");
    world.finish().await;
}

#[tokio::test]
async fn row_18_chunked_json_without_a_chunk() {
    check_without_body(CHUNKED).await;
}

#[tokio::test]
async fn row_18_chunked_json_without_its_last_chunk() {
    let chunk = format!("{:x}\r\n{HALF}\r\n", HALF.len());
    check_half(CHUNKED, &chunk, HALF, Tokens::Reserved).await;
}

#[tokio::test]
async fn row_21_json_stalls() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).set("upstream.idle_ms", SOON_MS).start().await;
    let mut client = world.post(CHAT).await;
    let (mut call, _) = upstream.call().await;
    call.ok(LONGER).await;
    call.closed().await;
    let answer = client.answer().await;
    assert_refused(&world, &answer, 504, "upstream_idle_timeout", Some("false"));
    let booked = Booked::ok("timeout", Tokens::Reserved);
    Booked { status: 504, ..booked }.check_only(&world, answer.event_id()).await;
    world.finish().await;
}

/// Each byte has reached the client before the upstream writes the next one.
#[tokio::test]
async fn row_22_byte_by_byte() {
    for (request, headers, body) in [
        (CHAT, JSON, ANSWER.to_owned()),
        (STREAM_WITH_USAGE, "content-type: text/event-stream\r\n", [DELTA, FINISH, DONE].concat()),
    ] {
        let upstream = Upstream::start().await;
        let world = World::before(&upstream).start().await;
        let mut client = world.post(request).await;
        let (mut call, _) = upstream.call().await;
        call.ok(&format!("{headers}content-length: {}\r\n", body.len())).await;
        let mut id = None;
        for byte in body.as_bytes() {
            call.write([*byte]).await;
            if id.is_none() {
                id = Some(begun(&mut client).await);
            }
            assert_eq!(client.piece().await, Piece::Data(vec![*byte]));
        }
        assert_eq!(client.piece().await, Piece::End);
        let tokens = if request == CHAT { STATED } else { Tokens::Estimated(2) };
        Booked::ok("complete", tokens).check_only(&world, &id.expect("it has begun")).await;
        world.finish().await;
    }
}

/// Two framings that contradict each other are told apart by the standard (RFC 9112 §6.3), not guessed.
#[tokio::test]
async fn row_15_length_and_chunks() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let mut client = world.post(CHAT).await;
    let (mut call, _) = upstream.call().await;
    call.ok(&format!("{JSON}content-length: 3\r\ntransfer-encoding: chunked\r\n")).await;
    call.chunk(ANSWER).await;
    call.chunk("").await;
    let answer = client.answer().await;
    assert_passed(&answer, 200, ANSWER);
    assert_eq!(answer.header("content-length"), None);
    Booked::ok("complete", STATED).check_only(&world, answer.event_id()).await;
    world.finish().await;
}

/// The same length twice is one length (RFC 9110 §8.6).
#[tokio::test]
async fn row_15_the_length_twice() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let mut client = world.post(CHAT).await;
    let (mut call, _) = upstream.call().await;
    let length = format!("content-length: {}\r\n", ANSWER.len());
    call.ok(&format!("{JSON}{length}{length}\r\n{ANSWER}")).await;
    let answer = client.answer().await;
    assert_passed(&answer, 200, ANSWER);
    Booked::ok("complete", STATED).check_only(&world, answer.event_id()).await;
    world.finish().await;
}

#[tokio::test]
async fn row_15_differing_lengths() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let mut client = world.post(CHAT).await;
    let (mut call, _) = upstream.call().await;
    call.ok(&format!("{JSON}content-length: 3\r\ncontent-length: {}\r\n", ANSWER.len())).await;
    let answer = client.answer().await;
    assert_refused(&world, &answer, 502, "upstream_protocol", Some("false"));
    let booked = Booked::unanswered("upstream_error", Tokens::Reserved, 502);
    booked.check_only(&world, answer.event_id()).await;
    world.finish().await;
}
