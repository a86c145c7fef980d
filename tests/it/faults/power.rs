//! `durability = "power"`: what has to survive a power cut waits for the disk, and where the disk cannot sync,
//! no answer ends as if it were whole.

use super::{ANSWER, Booked, CHAT, DELTA, DONE, FINISH, JSON, STATED, STREAM, USAGE};
use super::{assert_cut, assert_passed, assert_refused, begun};
use crate::harness::{Call, Client, Upstream, World, eventually, patiently};
use crate::process::get;
use weir::clock::{Clock, ManualClock};
use weir::server::Environment;

async fn world(upstream: &Upstream) -> World {
    World::before(upstream).set("data.durability", "\"power\"").start().await
}

/// Plays a stream up to where its end mark is missing.
async fn stream_to_its_end(world: &World, upstream: &Upstream) -> (Client, Call, String) {
    let mut client = world.post(STREAM).await;
    let (mut call, _) = upstream.call().await;
    call.stream().await;
    let id = begun(&mut client).await;
    call.chunk([DELTA, FINISH, USAGE].concat()).await;
    let seen = [DELTA, FINISH].concat();
    assert_eq!(client.body_until(FINISH).await, seen.as_bytes());
    (client, call, id)
}

/// The disk works again: once that is proven, requests are served.
async fn check_repaired(world: &World, upstream: &Upstream) {
    world.server().pretend_disk_broken(false);
    loop {
        let mut client = world.post(CHAT).await;
        tokio::select! {
            answer = client.answer() => {
                assert_refused(world, &answer, 503, "ledger_unavailable", None);
                continue;
            }
            (mut call, _) = upstream.call() => {
                call.answer("200 OK", JSON, ANSWER).await;
            }
        }
        let answer = client.answer().await;
        assert_passed(&answer, 200, ANSWER);
        Booked::ok("complete", STATED).check(&world.row(answer.event_id()).await);
        return;
    }
}

#[tokio::test]
async fn answers_of_every_kind_end_and_are_rows() {
    let upstream = Upstream::start().await;
    let world = world(&upstream).await;
    let (mut client, mut call, id) = stream_to_its_end(&world, &upstream).await;
    call.chunk(DONE).await;
    call.chunk("").await;
    assert_eq!(client.rest().await, (DONE.as_bytes().to_vec(), true));
    Booked::ok("complete", STATED).check(&world.row(&id).await);
    drop(call);
    // In one piece.
    let mut client = world.post(CHAT).await;
    let (mut call, _) = upstream.call().await;
    call.answer("200 OK", JSON, ANSWER).await;
    let answer = client.answer().await;
    assert_passed(&answer, 200, ANSWER);
    Booked::ok("complete", STATED).check(&world.row(answer.event_id()).await);
    drop(call);
    // In two.
    let mut client = world.post(CHAT).await;
    let (mut call, _) = upstream.call().await;
    let (first, last) = ANSWER.split_at(20);
    call.ok(&format!("{JSON}content-length: {}\r\n", ANSWER.len())).await;
    call.write(first).await;
    let id = begun(&mut client).await;
    assert_eq!(client.body_until(first).await, first.as_bytes());
    call.write(last).await;
    assert_eq!(client.rest().await, (last.as_bytes().to_vec(), true));
    Booked::ok("complete", STATED).check(&world.row(&id).await);
    drop(call);
    // Weir's own.
    let mut client = world.post(CHAT).await;
    let (mut call, _) = upstream.call().await;
    call.answer("401 Unauthorized", JSON, "{}").await;
    let answer = client.answer().await;
    assert_eq!(world.row(answer.event_id()).await.end, "upstream_rejected");
    world.rows_eventually(4).await;
    world.finish().await;
}

#[tokio::test]
async fn a_stream_whose_end_cannot_be_synced_is_cut() {
    let upstream = Upstream::start().await;
    let world = world(&upstream).await;
    let (mut client, mut call, id) = stream_to_its_end(&world, &upstream).await;
    world.server().pretend_disk_broken(true);
    call.chunk(DONE).await;
    assert_cut(&world, &mut client, "ledger_unavailable").await;
    world.settled().await;
    let refused = world.post(CHAT).await.answer().await;
    assert_refused(&world, &refused, 503, "ledger_unavailable", None);
    check_repaired(&world, &upstream).await;
    // It was written once more, to a disk that took it.
    Booked::ok("crashed", STATED).check(&world.row(&id).await);
    world.rows_eventually(2).await;
    world.finish().await;
}

#[tokio::test]
async fn an_answer_of_which_nothing_has_left_is_refused() {
    let upstream = Upstream::start().await;
    let world = world(&upstream).await;
    let mut client = world.post(CHAT).await;
    let (mut call, _) = upstream.call().await;
    world.server().pretend_disk_broken(true);
    call.answer("200 OK", JSON, ANSWER).await;
    let answer = client.answer().await;
    assert_refused(&world, &answer, 503, "ledger_unavailable", Some("false"));
    drop(call);
    check_repaired(&world, &upstream).await;
    Booked::ok("crashed", STATED).check(&world.row(answer.event_id()).await);
    world.finish().await;
}

/// Nobody waits for the sync of what was opened. It is found broken all the same, and told; and found to
/// work again.
#[tokio::test]
async fn a_broken_disk_is_told_while_nobody_waits_for_it() {
    let upstream = Upstream::start().await;
    let world = world(&upstream).await;
    let admin = world.server().admin_address();
    world.server().pretend_disk_broken(true);
    let mut client = world.post(STREAM).await;
    let (mut call, _) = upstream.call().await;
    call.stream().await;
    begun(&mut client).await;
    let becomes = async |status| while get(admin, "/readyz").await.0 != status {};
    patiently("it is not ready", becomes(503)).await;
    let refused = world.post(CHAT).await.answer().await;
    assert_refused(&world, &refused, 503, "ledger_unavailable", None);
    drop((client, call));
    world.settled().await;
    assert_eq!(get(admin, "/readyz").await.0, 503, "also without a request");
    world.server().pretend_disk_broken(false);
    patiently("it is ready again", becomes(200)).await;
    check_repaired(&world, &upstream).await;
    world.finish().await;
}

/// What was written again and could not be synced either is read at the next start, from wherever it is.
#[tokio::test]
async fn a_server_that_stops_with_a_broken_disk_loses_no_request() {
    let upstream = Upstream::start().await;
    let mut world = world(&upstream).await;
    let (mut client, mut call, id) = stream_to_its_end(&world, &upstream).await;
    world.server().pretend_disk_broken(true);
    call.chunk(DONE).await;
    assert_cut(&world, &mut client, "ledger_unavailable").await;
    world.stop().await;
    world.start_again();
    let end = eventually("a row", || world.place.rows().pop()).await;
    assert_eq!((&*end.event_id, end.total_tokens), (&*id, 24));
    world.rows_eventually(1).await;
    world.finish().await;
}

async fn metric(world: &World, name: &str) -> String {
    let metrics = get(world.server().admin_address(), "/metrics").await.1;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}")).to_owned()
}

/// `/readyz` comes to this, while the clock is held but for the steps that are taken here: some seconds of
/// it in each of the workers' looks, which are a second apart.
async fn becomes(world: &World, hand: &ManualClock, step_ms: u64, status: u16) {
    let admin = world.server().admin_address();
    let asking = async {
        let mut step = tokio::time::interval(std::time::Duration::from_millis(10));
        while get(admin, "/readyz").await.0 != status {
            hand.advance_ms(step_ms);
            step.tick().await;
        }
    };
    patiently(&format!("/readyz answers {status}"), asking).await;
}

/// A sync that does not return: what is whole waits for it, and new requests are not paid for in vain. When it
/// returns, all is as before.
#[tokio::test]
async fn a_sync_that_hangs_is_told_and_refuses_new_requests_until_it_returns() {
    let upstream = Upstream::start().await;
    let (clock, hand) = Clock::manual(1_780_470_861_000);
    let environment = Environment { clock, ..Environment::default() };
    let builder = World::before(&upstream).set("data.durability", "\"power\"");
    let world = builder.environment(environment).start().await;
    let (mut client, mut call, id) = stream_to_its_end(&world, &upstream).await;
    world.server().pretend_disk_stuck(true);
    call.chunk(DONE).await;
    world.settled().await;
    assert_eq!(metric(&world, "weir_requests_in_flight").await, "1.0", "its client waits for it");
    assert_eq!(metric(&world, "weir_journal_syncs_stalled").await, "0.0");
    becomes(&world, &hand, 40, 503).await;
    assert_eq!(metric(&world, "weir_journal_syncs_stalled").await, "1.0");
    let told = get(world.server().admin_address(), "/readyz").await.1;
    assert!(told.contains("ledger_unavailable"), "{told}");
    let refused = world.post(CHAT).await.answer().await;
    assert_refused(&world, &refused, 503, "ledger_unavailable", None);
    assert_eq!(metric(&world, "weir_requests_in_flight").await, "1.0", "it goes on waiting");
    world.server().pretend_disk_stuck(false);
    call.chunk("").await;
    assert_eq!(client.rest().await, (DONE.as_bytes().to_vec(), true));
    becomes(&world, &hand, 0, 200).await;
    assert_eq!(metric(&world, "weir_journal_syncs_stalled").await, "0.0");
    Booked::ok("complete", STATED).check(&world.row(&id).await);
    drop(call);
    check_repaired(&world, &upstream).await;
    world.rows_eventually(2).await;
    world.finish().await;
}

/// Nobody waits for ever. What was recorded stands: the row says more than the client saw, never less.
#[tokio::test]
async fn answers_that_wait_for_a_sync_that_hangs_are_cut_in_the_end() {
    let upstream = Upstream::start().await;
    let (clock, hand) = Clock::manual(1_780_470_861_000);
    let environment = Environment { clock, ..Environment::default() };
    let builder = World::before(&upstream).set("data.durability", "\"power\"");
    let world = builder.environment(environment).start().await;
    let (mut client, mut call, id) = stream_to_its_end(&world, &upstream).await;
    world.server().pretend_disk_stuck(true);
    call.chunk(DONE).await;
    world.settled().await;
    becomes(&world, &hand, 40, 503).await;
    hand.advance_ms(25_000);
    assert_cut(&world, &mut client, "ledger_unavailable").await;
    assert_eq!(metric(&world, "weir_requests_in_flight").await, "0.0");
    world.server().pretend_disk_stuck(false);
    becomes(&world, &hand, 0, 200).await;
    Booked::ok("complete", STATED).check(&world.row(&id).await);
    world.rows_eventually(1).await;
    world.finish().await;
}

/// A commit writes pages, however few rows are in it.
#[tokio::test]
async fn few_rows_wait_for_others_and_a_hundred_do_not() {
    let upstream = Upstream::start().await;
    let long = std::time::Duration::from_secs(3_600);
    let mut world = World::before(&upstream).row_wait(long).start().await;
    let served = async || {
        let mut client = world.post(CHAT).await;
        let (mut call, _) = upstream.call().await;
        call.answer("200 OK", JSON, ANSWER).await;
        assert_passed(&client.answer().await, 200, ANSWER);
    };
    for _ in 0..60 {
        served().await;
    }
    assert_eq!(metric(&world, "weir_drain_rows_total").await, "0");
    for _ in 60..110 {
        served().await;
    }
    eventually("a hundred rows are stored", || (world.place.rows().len() >= 100).then_some(()))
        .await;
    world.stop().await;
    world.start_again();
    world.rows_eventually(110).await;
    world.finish().await;
}
