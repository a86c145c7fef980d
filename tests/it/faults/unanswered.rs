//! The request was sent and no response came, or none that is HTTP: the client must not send it again,
//! and its prompt was probably paid for.

use super::{ANSWER, Booked, CHAT, JSON, LATE_MS, SOON_MS, STATED, Tokens};
use super::{assert_passed, assert_refused};
use crate::harness::{Call, Upstream, World};

/// The upstream gets the whole request, then does `fault`; the client is refused.
async fn check(fault: impl AsyncFnOnce(Call), status: u16, code: &str, end: &'static str) {
    let upstream = Upstream::start().await;
    let head_ms = if code == "upstream_timeout" { SOON_MS } else { LATE_MS };
    let world = World::before(&upstream).set("upstream.head_ms", head_ms).start().await;
    let mut client = world.post(CHAT).await;
    let (call, received) = upstream.call().await;
    assert_eq!(received.body, CHAT.as_bytes());
    fault(call).await;
    let answer = client.answer().await;
    assert_refused(&world, &answer, status, code, Some("false"));
    let booked = Booked::unanswered(end, Tokens::Reserved, status);
    booked.check_only(&world, answer.event_id()).await;
    // It was not sent a second time: the next connection has the next request.
    let mut client = world.post(ANSWERED).await;
    let (mut call, received) = upstream.call().await;
    assert_eq!(received.body, ANSWERED.as_bytes());
    if head_ms == LATE_MS {
        call.answer("200 OK", JSON, ANSWER).await;
        assert_passed(&client.answer().await, 200, ANSWER);
    }
    drop((client, call));
    world.finish().await;
}

const ANSWERED: &str = r#"{"model":"gpt-5.4","max_tokens":7}"#;

#[tokio::test]
async fn row_07_idle_connection_closed() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let mut client = world.connect().await;
    for _ in 0..3 {
        client.send(world.chat(CHAT).as_bytes()).await;
        let (mut call, _) = upstream.call().await;
        call.answer("200 OK", JSON, ANSWER).await;
        assert_passed(&client.answer().await, 200, ANSWER);
        // The connection goes back to the pool, and is closed there.
        drop(call);
    }
    for row in world.rows_eventually(3).await {
        Booked::ok("complete", STATED).check(&row);
    }
    world.finish().await;
}

#[tokio::test]
async fn an_idle_connection_is_used_again() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let mut client = world.post(CHAT).await;
    let (mut call, _) = upstream.call().await;
    for _ in 0..3 {
        call.answer("200 OK", JSON, ANSWER).await;
        assert_passed(&client.answer().await, 200, ANSWER);
        client.send(world.chat(CHAT).as_bytes()).await;
        call.receive().await;
    }
    call.answer("200 OK", JSON, ANSWER).await;
    assert_passed(&client.answer().await, 200, ANSWER);
    world.finish().await;
}

#[tokio::test]
async fn row_08_end_before_the_status_line() {
    check(async |call| drop(call), 502, "upstream_reset", "upstream_error").await;
}

/// The upstream will send nothing more; that it still listens does not matter.
#[tokio::test]
async fn row_08_half_closed_before_the_status_line() {
    let fault = async |mut call: Call| {
        call.half_close().await;
        call.closed().await;
    };
    check(fault, 502, "upstream_reset", "upstream_error").await;
}

#[tokio::test]
async fn row_08_reset_before_the_status_line() {
    check(async |call| call.reset(), 502, "upstream_reset", "upstream_error").await;
}

#[tokio::test]
async fn row_08_reset_of_a_connection_used_again() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let mut client = world.post(CHAT).await;
    let (mut call, _) = upstream.call().await;
    call.answer("200 OK", JSON, ANSWER).await;
    assert_passed(&client.answer().await, 200, ANSWER);
    client.send(world.chat(CHAT).as_bytes()).await;
    call.receive().await;
    call.reset();
    let answer = client.answer().await;
    assert_refused(&world, &answer, 502, "upstream_reset", Some("false"));
    let row = world.row(answer.event_id()).await;
    Booked::unanswered("upstream_error", Tokens::Reserved, 502).check(&row);
    world.rows_eventually(2).await;
    world.finish().await;
}

#[tokio::test]
async fn row_09_end_inside_the_head() {
    let fault = async |mut call: Call| call.write("HTTP/1.1 200 OK\r\ncontent-ty").await;
    check(fault, 502, "upstream_reset", "upstream_error").await;
}

#[tokio::test]
async fn row_09_reset_inside_the_head() {
    let fault = async |mut call: Call| {
        call.write("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n").await;
        call.reset();
    };
    check(fault, 502, "upstream_reset", "upstream_error").await;
}

#[tokio::test]
async fn row_10_no_head() {
    let fault = async |mut call: Call| call.closed().await;
    check(fault, 504, "upstream_timeout", "timeout").await;
}

#[tokio::test]
async fn row_10_half_a_head() {
    let fault = async |mut call: Call| {
        call.write("HTTP/1.1 200 OK\r\n").await;
        call.closed().await;
    };
    check(fault, 504, "upstream_timeout", "timeout").await;
}

#[tokio::test]
async fn row_11_no_http() {
    for garbage in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "<html>hello</html>\r\n\r\n",
        "\0\0\x12\x04\0\0\0\0\0\0\x03\0\0",
    ] {
        let fault = async |mut call: Call| call.write(garbage).await;
        check(fault, 502, "upstream_protocol", "upstream_error").await;
    }
}

#[tokio::test]
async fn row_12_head_too_large() {
    let many: String = (0..101).map(|number| format!("x-{number}: 1\r\n")).collect();
    let long = format!("x-long: {}\r\n", "a".repeat(200_000));
    for headers in [many, long, "bad name: 1\r\n".to_owned()] {
        let fault = async |mut call: Call| {
            // The gateway may have closed before it is all written.
            call.try_write(format!("HTTP/1.1 200 OK\r\n{headers}content-length: 0\r\n\r\n")).await;
            call.closed().await;
        };
        check(fault, 502, "upstream_protocol", "upstream_error").await;
    }
}

#[tokio::test]
async fn row_14_switching_protocols_unasked() {
    let fault = async |mut call: Call| {
        call.write("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n")
            .await;
        call.closed().await;
    };
    check(fault, 502, "upstream_protocol", "upstream_error").await;
}

#[tokio::test]
async fn row_13_a_few_interim_answers_are_left_out() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let mut client = world.post(CHAT).await;
    let (mut call, _) = upstream.call().await;
    for _ in 0..10 {
        call.write("HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n").await;
    }
    call.answer("200 OK", JSON, ANSWER).await;
    let answer = client.answer().await;
    assert_passed(&answer, 200, ANSWER);
    assert_eq!(answer.header("link"), None);
    world.finish().await;
}

/// One more than are left out, whether or not an answer follows.
#[tokio::test]
async fn row_13_too_many_interim_answers() {
    for follows in [false, true] {
        let upstream = Upstream::start().await;
        let world = World::before(&upstream).start().await;
        let mut client = world.post(CHAT).await;
        let (mut call, _) = upstream.call().await;
        let interims = "HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n".repeat(11);
        let last = if follows { "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}" } else { "" };
        call.write(interims + last).await;
        let answer = client.answer().await;
        assert_refused(&world, &answer, 502, "upstream_protocol", Some("false"));
        let booked = Booked::unanswered("upstream_error", Tokens::Reserved, 502);
        booked.check_only(&world, answer.event_id()).await;
        call.closed().await;
        world.finish().await;
    }
}
