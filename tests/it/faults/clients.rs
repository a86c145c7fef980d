//! The client goes away. The upstream is not left running for nobody, or it is read on for its usage,
//! as the operator wants it; what was used is booked either way.

use super::{Booked, CHAT, DELTA, DONE, FINISH, RUNNING, SOON_MS, STATED, STREAM, Tokens, USAGE};
use super::{begun, clients_gone};
use crate::harness::{Builder, Call, Client, Upstream, World, chunk};

const CLOSED: Booked = Booked::ok("client_closed", Tokens::Reserved);

/// The stream has begun with `events`, and the client has them.
async fn flowing(builder: Builder, upstream: &Upstream, events: &str) -> (World, Client, Call) {
    let world = builder.start().await;
    let mut client = world.post(STREAM).await;
    let (mut call, _) = upstream.call().await;
    call.stream().await;
    begun(&mut client).await;
    call.chunk(events).await;
    client.body_until("Hello").await;
    (world, client, call)
}

fn draining(upstream: &Upstream) -> Builder {
    World::before(upstream).set("upstream.on_disconnect", "\"drain\"")
}

async fn check_only(world: World, booked: Booked) {
    let rows = world.rows_eventually(1).await;
    booked.check(&rows[0]);
    world.finish().await;
}

#[tokio::test]
async fn row_37_gone_before_the_head() {
    for is_reset in [true, false] {
        let upstream = Upstream::start().await;
        // Else it would be read on: see `leaving`.
        let world = World::before(&upstream).set("upstream.drain_max", 0).start().await;
        let client = world.post(CHAT).await;
        let (mut call, _) = upstream.call().await;
        if is_reset {
            client.reset()
        } else {
            drop(client)
        }
        call.closed().await;
        let booked = Booked::unanswered("client_closed", Tokens::Reserved, 0);
        check_only(world, booked).await;
    }
}

#[tokio::test]
async fn row_37_gone_in_the_stream() {
    for (events, tokens) in [(DELTA, Tokens::Reserved), (RUNNING, Tokens::Running(11, 1))] {
        let upstream = Upstream::start().await;
        let (world, client, mut call) = flowing(World::before(&upstream), &upstream, events).await;
        drop(client);
        call.closed().await;
        check_only(world, Booked { tokens, ..CLOSED }).await;
    }
}

#[tokio::test]
async fn row_37_gone_after_the_end() {
    let upstream = Upstream::start().await;
    let (world, mut client, mut call) = flowing(World::before(&upstream), &upstream, DELTA).await;
    call.chunk([FINISH, USAGE, DONE].concat()).await;
    client.body_until(DONE).await;
    // As the synchronous SDK does it: gone at `[DONE]`, before the last chunk.
    drop(client);
    clients_gone(&world).await;
    // By then the gateway may have stopped waiting for it.
    call.try_write(chunk("")).await;
    check_only(world, Booked::ok("complete", STATED)).await;
}

#[tokio::test]
async fn row_37_read_on_for_the_usage() {
    let upstream = Upstream::start().await;
    let (world, client, mut call) = flowing(draining(&upstream), &upstream, DELTA).await;
    drop(client);
    clients_gone(&world).await;
    assert_ne!(world.server().outstanding(), (0, 0), "it still uses what was reserved");
    call.chunk([FINISH, USAGE, DONE].concat()).await;
    call.chunk("").await;
    check_only(world, Booked { tokens: STATED, flags: &["drained"], ..CLOSED }).await;
}

#[tokio::test]
async fn row_37_read_on_for_no_longer_than_configured() {
    let upstream = Upstream::start().await;
    let builder = draining(&upstream).set("upstream.drain_ms", SOON_MS);
    let (world, client, mut call) = flowing(builder, &upstream, DELTA).await;
    drop(client);
    call.closed().await;
    check_only(world, Booked { flags: &["drained"], ..CLOSED }).await;
}

#[tokio::test]
async fn row_37_no_more_are_read_on_than_configured() {
    let upstream = Upstream::start().await;
    let builder = draining(&upstream).set("upstream.drain_max", 0);
    let (world, client, mut call) = flowing(builder, &upstream, DELTA).await;
    drop(client);
    call.closed().await;
    check_only(world, CLOSED).await;
}

#[tokio::test]
async fn row_37_what_was_read_on_counts_when_the_server_is_cut() {
    let upstream = Upstream::start().await;
    let (mut world, client, mut call) = flowing(draining(&upstream), &upstream, RUNNING).await;
    drop(client);
    clients_gone(&world).await;
    world.stop().await;
    call.closed().await;
    let booked = Booked { tokens: Tokens::Running(11, 1), flags: &["drained"], ..CLOSED };
    booked.check(&world.place.rows()[0]);
}

#[tokio::test]
async fn row_37_a_server_that_stops_reads_on_until_the_usage() {
    let upstream = Upstream::start().await;
    let (mut world, client, mut call) = flowing(draining(&upstream), &upstream, DELTA).await;
    drop(client);
    clients_gone(&world).await;
    let rest = async {
        call.chunk([FINISH, USAGE, DONE].concat()).await;
        call.chunk("").await;
    };
    tokio::join!(world.stop_gently(), rest);
    Booked { tokens: STATED, flags: &["drained"], ..CLOSED }.check(&world.place.rows()[0]);
}
