//! A bug ends one of the server's own threads: the server says so, to whoever runs it, and until it is
//! ended no connection goes to where nobody takes it. What was recorded is not lost.

use super::{ANSWER, Booked, CHAT, JSON, STATED, assert_passed};
use crate::harness::{Upstream, World, patiently};

async fn served(world: &World, upstream: &Upstream) -> String {
    let mut client = world.post(CHAT).await;
    let (mut call, _) = upstream.call().await;
    call.answer("200 OK", JSON, ANSWER).await;
    let answer = client.answer().await;
    assert_passed(&answer, 200, ANSWER);
    answer.event_id().to_owned()
}

#[tokio::test]
async fn whichever_thread_fails_the_server_tells_it_by_name_and_loses_nothing() {
    let crash = [
        "weir-worker-0",
        "weir-drain",
        "weir-sync",
        "weir-control",
        "weir-registry",
        "weir-accept",
    ];
    let cases = crash.map(|thread| (thread, "\"crash\"")).into_iter();
    for (thread, durability) in cases.chain([("weir-sync", "\"power\"")]) {
        let upstream = Upstream::start().await;
        let builder = World::before(&upstream).set("data.durability", durability);
        let mut world = builder.start().await;
        let id = served(&world, &upstream).await;
        world.server().pretend_bug_in(thread);
        // The acceptor's next step is its next connection.
        let _arrival = world.connect().await;
        let failed = patiently("a thread fails", world.server().failed()).await;
        assert_eq!(failed, thread);
        assert_eq!(world.server().failed().await, thread, "whoever asks later is told as well");
        world.stop().await;
        world.start_again();
        Booked::ok("complete", STATED).check(&world.row(&id).await);
        world.rows_eventually(1).await;
        world.finish().await;
    }
}

/// It has the fewest connections, and would be given every new one.
#[tokio::test]
async fn a_worker_that_has_failed_is_given_no_connection() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).set("server.workers", 2).start().await;
    world.server().pretend_bug_in("weir-worker-0");
    patiently("a worker fails", world.server().failed()).await;
    for _ in 0..6 {
        served(&world, &upstream).await;
    }
    world.rows_eventually(6).await;
    world.finish().await;
}
