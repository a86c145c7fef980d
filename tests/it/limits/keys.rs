//! Keys that change and go under a running server: what requests in flight hold of them, who waits for
//! whom, and what is left of a key that was deleted.

use std::time::{Duration, Instant};

use super::{ask, chat, id_of, open, served, show, until, whole};
use crate::harness::{Client, Upstream, World, eventually, patiently, request};

async fn admin(world: &World, path: &str) -> (u16, String) {
    let mut client = Client::connect(world.server().admin_address()).await;
    client.send(request("GET", path, "none", "", "").as_bytes()).await;
    let answer = client.answer().await;
    (answer.status, answer.text().to_owned())
}

#[tokio::test]
async fn a_request_that_lasts_holds_no_old_keys() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let mut waiting = world.post(&chat(9)).await;
    let (mut call, received) = upstream.call().await;
    for _ in 0..2 {
        world.new_key(&[]).await;
        let freed = || (world.server().held_snapshots() == 0).then_some(());
        eventually("nobody holds the keys of before", freed).await;
    }
    whole(&mut call, &received, 5).await;
    assert_eq!(waiting.answer().await.status, 200);
    world.finish().await;
}

/// Three rounds of looking for changes, and the administration answers in each of them.
#[tokio::test]
async fn health_and_metrics_do_not_wait_for_keys() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let held = world.server().hold_keys();
    world.place.create_key(&[]);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(750) {
        for path in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(patiently(path, admin(&world, path)).await.0, 200, "{path}");
        }
    }
    // Requests don't, either.
    served(&world, &upstream, &world.key, &chat(9), 5).await;
    drop(held);
    world.finish().await;
}

/// The head names a key that is good; when the body has come it is revoked.
#[tokio::test]
async fn a_body_that_is_held_open_outlives_no_key() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let key = world.new_key(&[]).await;
    let body = chat(9);
    let whole = request("POST", "/v1/chat/completions", &key, "expect: 100-continue\r\n", &body);
    let mut client = world.connect().await;
    client.send(&whole.as_bytes()[..whole.len() - body.len()]).await;
    assert_eq!(client.interim().await, 100, "it has been identified, and is asked for its body");
    world.place.weir(&["key", "revoke", &id_of(&world, &key)]);
    until(&world, &key, "the key is revoked", |answer| answer.status == 401).await;
    client.send(body.as_bytes()).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.code()), (401, "invalid_api_key".to_owned()));
    assert_eq!(answer.head.header("x-ratelimit-limit-requests"), None);
    // The body has been read, and so the connection can be used again, by whom nothing has changed for.
    let whole = request("POST", "/v1/chat/completions", &world.key, "", &body);
    client.send(whole.as_bytes()).await;
    let (mut call, received) = upstream.call().await;
    self::whole(&mut call, &received, 5).await;
    assert_eq!(client.answer().await.status, 200);
    world.rows_eventually(1).await;
    world.finish().await;
}

#[tokio::test]
async fn a_deleted_key_is_nobody_and_what_it_used_stays() {
    let upstream = Upstream::start().await;
    let mut world = World::before(&upstream).start().await;
    let key = world.new_key(&["--tenant", "beta", "--concurrency", "1"]).await;
    let id = id_of(&world, &key);
    let mut waiting = open(&world, &key, &chat(9)).await;
    let (mut call, received) = upstream.call().await;
    let refused = world.place.command(&["key", "delete", &id]).output().expect("it runs");
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && error.contains("weir key revoke"), "{error}");
    world.place.weir(&["key", "delete", &id, "--force"]);
    until(&world, &key, "the key is gone", |answer| answer.status == 401).await;
    // Its slot is still that of the request: another key has its own.
    let other = world.new_key(&["--tenant", "beta", "--concurrency", "1"]).await;
    served(&world, &upstream, &other, &chat(9), 5).await;
    whole(&mut call, &received, 7).await;
    assert_eq!(waiting.answer().await.status, 200);
    world.rows_eventually(2).await;
    let used = |world: &World| world.place.weir(&["usage", "--key", &id, "--format", "json"]);
    assert!(used(&world).contains("\"total_tokens\":7"), "{}", used(&world));
    world.place.weir(&["tenant", "delete", "beta", "--force"]);
    until(&world, &other, "the tenant is gone", |answer| answer.status == 401).await;
    assert!(!world.place.weir(&["tenant", "list"]).contains("beta"));
    // The name comes back, and with it what it has used.
    world.place.weir(&["tenant", "create", "beta", "--monthly-requests", "3"]);
    let again = world.new_key(&["--tenant", "beta"]).await;
    served(&world, &upstream, &again, &chat(9), 5).await;
    assert_eq!(ask(&world, &again, &chat(9)).await.code(), "insufficient_quota");
    world.settled().await;
    world.stop().await;
    world.start_again();
    assert_eq!(ask(&world, &again, &chat(9)).await.code(), "insufficient_quota");
    assert_eq!(show(&world, &key, "/v1/models").await.status, 401);
    assert!(used(&world).contains("\"total_tokens\":7"), "{}", used(&world));
    world.place.weir(&["verify"]);
    world.finish().await;
}
