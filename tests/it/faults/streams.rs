//! A stream that does not end as streams do. After its first byte nothing can be taken back: the client
//! is told by an event, and never sees an end that looks whole.

use std::time::{Duration, Instant};

use super::{
    Booked, DELTA, DONE, FINISH, LATE_MS, RUNNING, SOON_MS, STATED, STREAM, STREAM_WITH_USAGE,
    Tokens, USAGE,
};
use super::{assert_cut, assert_passed, begun};
use crate::harness::{Call, Client, PATIENCE, Piece, Upstream, World, chunk};

/// The answer to `request` has begun with `events`, and the client has them.
async fn flowing(
    upstream: &Upstream,
    world: &World,
    request: &str,
    events: &str,
) -> (Client, Call, String) {
    let mut client = world.post(request).await;
    let (mut call, _) = upstream.call().await;
    call.stream_of(events).await;
    let id = begun(&mut client).await;
    assert_eq!(client.body_until(events).await, events.as_bytes());
    (client, call, id)
}

/// After `events`, the upstream does `fault`; the client gets an error event and no end.
async fn check(
    request: &str,
    events: &str,
    fault: impl AsyncFnOnce(Call),
    code: &str,
    booked: Booked,
) {
    let upstream = Upstream::start().await;
    let idle_ms = if code == "upstream_idle_timeout" { SOON_MS } else { LATE_MS };
    let world = World::before(&upstream).set("upstream.idle_ms", idle_ms).start().await;
    let (mut client, call, id) = flowing(&upstream, &world, request, events).await;
    fault(call).await;
    assert_cut(&world, &mut client, code).await;
    booked.check_only(&world, &id).await;
    world.finish().await;
}

const TRUNCATED: Booked = Booked::ok("upstream_truncated", Tokens::Reserved);

/// As [`check`], with usage asked for by the client, and by Weir; and with usage that came before.
async fn check_all(fault: impl AsyncFn(Call), code: &str, booked: Booked) {
    check(STREAM, DELTA, &fault, code, booked).await;
    check(STREAM_WITH_USAGE, DELTA, &fault, code, booked).await;
    let running = Booked { tokens: Tokens::Running(11, 1), ..booked };
    check(STREAM, RUNNING, &fault, code, running).await;
    let stated = Booked { tokens: STATED, ..booked };
    let events = [DELTA, FINISH, USAGE].concat();
    check(STREAM_WITH_USAGE, &events, &fault, code, stated).await;
}

#[tokio::test]
async fn row_18_without_the_last_chunk() {
    check_all(async |call| drop(call), "upstream_truncated", TRUNCATED).await;
}

/// An error event in the middle of another event would be read as a part of it.
#[tokio::test]
async fn row_18_inside_an_event_there_is_only_the_abort() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let half = &DELTA[..DELTA.len() - 1];
    let (mut client, call, id) = flowing(&upstream, &world, STREAM_WITH_USAGE, half).await;
    drop(call);
    assert_eq!(client.rest().await, (Vec::new(), false));
    let rows = world.rows_eventually(1).await;
    assert_eq!((&rows[0].event_id, &*rows[0].end), (&id, "upstream_truncated"));
    world.finish().await;
}

/// What is held to decide about it has not left, so the error event stands between events.
#[tokio::test]
async fn row_18_a_held_half_of_an_event_is_discarded() {
    let fault = async |mut call: Call| call.chunk(&USAGE[..USAGE.len() - 9]).await;
    check(STREAM, DELTA, fault, "upstream_truncated", TRUNCATED).await;
}

#[tokio::test]
async fn row_18_before_the_first_event() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let mut client = world.post(STREAM).await;
    let (mut call, _) = upstream.call().await;
    call.stream().await;
    let id = begun(&mut client).await;
    drop(call);
    assert_cut(&world, &mut client, "upstream_truncated").await;
    Booked { tokens: Tokens::Reserved, ..TRUNCATED }.check_only(&world, &id).await;
    world.finish().await;
}

#[tokio::test]
async fn row_19_bad_chunk_size() {
    let fault = async |mut call: Call| {
        call.write("xyz\r\n").await;
        call.closed().await;
    };
    check_all(fault, "upstream_protocol", TRUNCATED).await;
}

#[tokio::test]
async fn row_20_reset() {
    check_all(async |call| call.reset(), "upstream_reset", TRUNCATED).await;
}

#[tokio::test]
async fn row_21_stall() {
    let fault = async |mut call: Call| call.closed().await;
    let booked = Booked::ok("timeout", Tokens::Reserved);
    check_all(fault, "upstream_idle_timeout", booked).await;
}

/// An upstream that says every now and then that it lives is not idle. On a machine so busy that the test
/// itself is silent for longer than the deadline, it is told nothing, and begins again with a later one.
#[tokio::test]
async fn row_21_comments_reset_the_deadline() {
    let mut idle = Duration::from_millis(1_000);
    while !comments_keep_it_alive(idle).await {
        idle *= 3;
        assert!(idle < PATIENCE, "this machine is too slow for any deadline");
    }
}

/// Whether the upstream was never silent for as long as it may be, in a stream that takes longer than that.
async fn comments_keep_it_alive(idle: Duration) -> bool {
    const ALIVE: &str = ": keep-alive\n\n";
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).set("upstream.idle_ms", idle.as_millis()).start().await;
    let asked = Instant::now();
    let (mut client, mut call, id) = flowing(&upstream, &world, STREAM, DELTA).await;
    let (begun, mut last, mut longest) = (Instant::now(), asked, asked.elapsed());
    let mut pace = tokio::time::interval(idle / 6);
    while begun.elapsed() < idle + idle / 3 && longest < idle {
        pace.tick().await;
        call.try_write(chunk(ALIVE)).await;
        let came = client.piece().await;
        longest = longest.max(last.elapsed());
        last = Instant::now();
        assert!(came == Piece::Data(ALIVE.into()) || longest >= idle, "{came:?} too early");
    }
    call.try_write([chunk([FINISH, DONE].concat()), chunk("")].concat()).await;
    let (rest, is_whole) = client.rest().await;
    let was_alive = longest.max(last.elapsed()) < idle;
    if was_alive {
        assert_eq!((rest, is_whole), ([FINISH, DONE].concat().into_bytes(), true));
        Booked::ok("complete", Tokens::Estimated(2)).check_only(&world, &id).await;
    }
    world.finish().await;
    was_alive
}

#[tokio::test]
async fn row_22_total_deadline_where_there_is_one() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).set("upstream.total_ms", SOON_MS).start().await;
    let (mut client, mut call, id) = flowing(&upstream, &world, STREAM, DELTA).await;
    call.closed().await;
    assert_cut(&world, &mut client, "upstream_idle_timeout").await;
    Booked::ok("timeout", Tokens::Reserved).check_only(&world, &id).await;
    world.finish().await;
}

/// The upstream's whole answer passes as it is, ends as it should, and is booked.
async fn check_passes(request: &str, is_chunked: bool, body: &str, booked: Booked) {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let mut client = world.post(request).await;
    let (mut call, _) = upstream.call().await;
    if is_chunked {
        call.stream().await;
        call.chunk(body).await;
        call.chunk("").await;
    } else {
        call.ok("content-type: text/event-stream\r\nconnection: close\r\n").await;
        call.write(body).await;
        drop(call);
    }
    let answer = client.answer().await;
    assert_passed(&answer, 200, body);
    booked.check_only(&world, answer.event_id()).await;
    world.finish().await;
}

#[tokio::test]
async fn row_23_close_delimited() {
    let body = [DELTA, FINISH, USAGE, DONE].concat();
    check_passes(STREAM_WITH_USAGE, false, &body, Booked::ok("complete", STATED)).await;
}

#[tokio::test]
async fn row_24_finished_without_done() {
    for is_chunked in [true, false] {
        let body = [DELTA, FINISH, USAGE].concat();
        let booked = Booked { flags: &["no_done"], ..Booked::ok("complete", STATED) };
        check_passes(STREAM_WITH_USAGE, is_chunked, &body, booked).await;
    }
}

#[tokio::test]
async fn row_25_clean_end_without_any_sign_of_one() {
    let fault = async |mut call: Call| call.chunk("").await;
    check(STREAM, DELTA, fault, "upstream_truncated", TRUNCATED).await;
}

#[tokio::test]
async fn row_26_no_usage_although_asked_for() {
    for request in [STREAM, STREAM_WITH_USAGE] {
        let body = [DELTA, FINISH, DONE].concat();
        let booked = Booked::ok("complete", Tokens::Estimated(2));
        check_passes(request, true, &body, booked).await;
    }
}

#[tokio::test]
async fn row_27_usage_that_cannot_be() {
    for (statement, tokens) in [
        (r#""prompt_tokens":-1,"completion_tokens":13"#, None),
        (r#""prompt_tokens":"11","completion_tokens":"13""#, None),
        (r#""prompt_tokens":9223372036854775808,"completion_tokens":13"#, None),
    ] {
        let suspect = format!("data: {{\"choices\":[],\"usage\":{{{statement}}}}}\n\n");
        let body = [DELTA, USAGE, &suspect, FINISH, DONE].concat();
        let ok = Booked::ok("complete", tokens.unwrap_or(STATED));
        let booked = Booked { flags: &["usage_suspect"], ..ok };
        check_passes(STREAM_WITH_USAGE, true, &body, booked).await;
    }
}

#[tokio::test]
async fn row_28_error_event() {
    const ERROR: &str = "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n\n";
    for (events, tokens) in [
        (&[DELTA, ERROR, DONE][..], Tokens::Estimated(2)),
        (&[DELTA, ERROR], Tokens::Estimated(2)),
        (&[RUNNING, ERROR, DONE], Tokens::Running(11, 1)),
        (&[DELTA, USAGE, ERROR, DONE], STATED),
    ] {
        let booked = Booked::ok("upstream_error", tokens);
        check_passes(STREAM_WITH_USAGE, true, &events.concat(), booked).await;
    }
}

/// An announced length would cut the error event off, so streams have none.
#[tokio::test]
async fn row_18_a_stream_with_a_length() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let mut client = world.post(STREAM_WITH_USAGE).await;
    let (mut call, _) = upstream.call().await;
    let length = DELTA.len() + 5;
    call.ok(&format!("content-type: text/event-stream\r\ncontent-length: {length}\r\n")).await;
    call.write(DELTA).await;
    let id = begun(&mut client).await;
    assert_eq!(client.body_until(DELTA).await, DELTA.as_bytes());
    drop(call);
    assert_cut(&world, &mut client, "upstream_truncated").await;
    TRUNCATED.check_only(&world, &id).await;
    world.finish().await;
}
