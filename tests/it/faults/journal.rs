//! The journal can't be written. What can't be recorded is not sent, and an answer whose record can't
//! be written does not end as if it were whole.

use serde_json::json;

use super::{ANSWER, Booked, CHAT, DELTA, DONE, FINISH, JSON, STATED, STREAM, USAGE};
use super::{assert_cut, assert_passed, assert_refused, begun};
use crate::harness::{Upstream, World};
use crate::process::get;

/// While the disk is full: nothing is forwarded, and nothing is reserved for it.
async fn check_full(world: &World) {
    let before = world.server().outstanding();
    let answer = world.post(CHAT).await.answer().await;
    assert_refused(world, &answer, 503, "ledger_unavailable", None);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(world.server().outstanding(), before);
}

/// There is room again: the next request is served.
async fn check_repaired(world: &World, upstream: &Upstream) {
    world.server().pretend_disk_full(false);
    let mut client = world.post(CHAT).await;
    let (mut call, received) = upstream.call().await;
    assert_eq!(received.body, CHAT.as_bytes());
    call.answer("200 OK", JSON, ANSWER).await;
    let answer = client.answer().await;
    assert_passed(&answer, 200, ANSWER);
    Booked::ok("complete", STATED).check(&world.row(answer.event_id()).await);
}

#[tokio::test]
async fn row_40_full_at_the_end_of_a_stream() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let mut client = world.post(STREAM).await;
    let (mut call, _) = upstream.call().await;
    call.stream().await;
    let id = begun(&mut client).await;
    call.chunk(DELTA).await;
    assert_eq!(client.body_until(DELTA).await, DELTA.as_bytes());
    world.server().pretend_disk_full(true);
    call.chunk([FINISH, USAGE].concat()).await;
    assert_eq!(client.body_until(FINISH).await, FINISH.as_bytes());
    call.chunk(DONE).await;
    assert_cut(&world, &mut client, "ledger_unavailable").await;
    world.settled().await;
    check_full(&world).await;
    check_repaired(&world, &upstream).await;
    // The record is written late: the usage is known, the end was not released.
    Booked::ok("crashed", STATED).check(&world.row(&id).await);
    world.rows_eventually(2).await;
    world.finish().await;
}

#[tokio::test]
async fn row_40_full_at_the_end_of_a_body() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let mut client = world.post(CHAT).await;
    let (mut call, _) = upstream.call().await;
    let (first, last) = ANSWER.split_at(ANSWER.len() - 1);
    call.ok(&format!("{JSON}content-length: {}\r\n", ANSWER.len())).await;
    call.write(first).await;
    let id = begun(&mut client).await;
    assert_eq!(client.body_until(first).await, first.as_bytes());
    world.server().pretend_disk_full(true);
    call.write(last).await;
    assert_eq!(client.rest().await, (Vec::new(), false));
    world.settled().await;
    drop(call);
    check_repaired(&world, &upstream).await;
    Booked::ok("crashed", STATED).check(&world.row(&id).await);
    world.rows_eventually(2).await;
    world.finish().await;
}

/// The error takes the place of an answer of which nothing has left.
#[tokio::test]
async fn row_40_full_before_the_first_byte_of_a_refusal() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let mut client = world.post(CHAT).await;
    let (mut call, _) = upstream.call().await;
    world.server().pretend_disk_full(true);
    call.answer("401 Unauthorized", JSON, "{}").await;
    let answer = client.answer().await;
    assert_refused(&world, &answer, 503, "ledger_unavailable", Some("false"));
    check_repaired(&world, &upstream).await;
    assert_eq!(world.row(answer.event_id()).await.end, "upstream_rejected");
    world.finish().await;
}

/// What could not be written before the server stopped is recovered from `Open`, once.
#[tokio::test]
async fn row_40_recovered_from_open_at_the_next_start() {
    let upstream = Upstream::start().await;
    let mut world = World::before(&upstream).start().await;
    let mut client = world.post(CHAT).await;
    let (mut call, _) = upstream.call().await;
    world.server().pretend_disk_full(true);
    call.answer("200 OK", JSON, ANSWER).await;
    let answer = client.answer().await;
    assert_refused(&world, &answer, 503, "ledger_unavailable", Some("false"));
    world.settled().await;
    world.stop().await;
    world.start_again();
    let rows = world.rows_eventually(1).await;
    let row = &rows[0];
    let found = json!([row.end, row.usage_source, row.total_tokens, row.status]);
    assert_eq!(found, json!(["crashed", "estimated", row.reserved_tokens, 0]));
    world.stop().await;
    world.start_again();
    world.rows_eventually(1).await;
    world.finish().await;
}

/// A whole stream in one piece, of which nothing has left, is refused like any other answer.
#[tokio::test]
async fn row_40_full_before_the_first_byte_of_a_stream() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let mut client = world.post(STREAM).await;
    let (mut call, _) = upstream.call().await;
    world.server().pretend_disk_full(true);
    let body = [DELTA, FINISH, USAGE, DONE].concat();
    call.answer("200 OK", "content-type: text/event-stream\r\n", &body).await;
    let answer = client.answer().await;
    assert_refused(&world, &answer, 503, "ledger_unavailable", Some("false"));
    drop(call);
    check_repaired(&world, &upstream).await;
    Booked::ok("crashed", STATED).check(&world.row(answer.event_id()).await);
    // The metrics count what the rows say.
    let metrics = get(world.server().admin_address(), "/metrics").await.1;
    for (end, count) in [("crashed", 1), ("complete", 1)] {
        let line = format!("weir_request_ends_total{{end=\"{end}\"}} {count}\n");
        assert!(metrics.contains(&line), "{metrics}");
    }
    world.finish().await;
}

/// Records of requests that are there at once are written at once, and so they are refused: each by itself,
/// at no cost.
#[tokio::test]
async fn row_40_full_when_many_are_there_at_once() {
    const MANY: usize = 24;
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let mut clients = Vec::new();
    for _ in 0..MANY {
        clients.push(world.post(CHAT).await);
    }
    let mut calls = Vec::new();
    for _ in 0..MANY {
        calls.push(upstream.call().await.0);
    }
    world.server().pretend_disk_full(true);
    let mut refused = Vec::new();
    for _ in 0..MANY {
        refused.push(world.post(CHAT).await);
    }
    for mut client in refused {
        assert_refused(&world, &client.answer().await, 503, "ledger_unavailable", None);
    }
    for mut call in calls {
        call.answer("200 OK", JSON, ANSWER).await;
    }
    let mut ids = Vec::new();
    for mut client in clients {
        let answer = client.answer().await;
        assert_refused(&world, &answer, 503, "ledger_unavailable", Some("false"));
        ids.push(answer.event_id().to_owned());
    }
    assert_eq!(world.server().outstanding(), (0, 0));
    check_repaired(&world, &upstream).await;
    let rows = world.rows_eventually(MANY + 1).await;
    for id in &ids {
        let found: Vec<_> = rows.iter().filter(|row| row.event_id == *id).collect();
        assert_eq!(found.len(), 1, "{id}");
        Booked::ok("crashed", STATED).check(found[0]);
    }
    let tokens: u64 = rows.iter().map(|row| row.total_tokens).sum();
    assert_eq!(world.server().used_today(), (rows.len() as u64, tokens));
    world.finish().await;
}
