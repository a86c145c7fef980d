//! Bodies that come slowly or not at all.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{
    CHAT, EXPECT, LATE_MS, SOON_MS, assert_limited, assert_served, connections_left, head,
};
use crate::harness::{Upstream, World, eventually, patiently, request};
use crate::http::{assert_own_error, chat};
use crate::process::get;
use crate::traffic::simulated;

#[tokio::test]
async fn what_the_head_decides_is_answered_before_the_body_is_there() {
    let (simulator, builder) = simulated().await;
    let world = builder.set("server.max_body_bytes", 2_000_000).start().await;
    let used_up = world.new_key(&["--daily-requests", "1"]).await;
    let too_fast = world.new_key(&["--rpm", "1"]).await;
    for key in [&used_up, &too_fast] {
        assert_served(&world, key, 1).await;
    }
    let key = &*world.key;
    let length = "content-length: 1000000\r\n";
    let head_of = |method: &str, path: &str, key: &str, headers: &str| {
        let whole = request(method, path, key, headers, "");
        whole.replace("content-length: 0\r\n", length)
    };
    let options = format!("OPTIONS {CHAT} HTTP/1.1\r\nhost: x\r\n{length}\r\n");
    let no_host = format!("POST {CHAT} HTTP/1.1\r\n{length}\r\n");
    for (head, status) in [
        (head_of("POST", CHAT, "nobody", ""), 401),
        (head_of("POST", "/v1/unknown", key, ""), 404),
        (head_of("DELETE", CHAT, key, ""), 405),
        (head_of("POST", CHAT, key, "content-encoding: compress\r\n"), 415),
        (head(key, "", 2_000_001), 413),
        (head_of("POST", CHAT, &used_up, ""), 429),
        (head_of("POST", CHAT, &too_fast, ""), 429),
        (head_of("GET", "/v1/models", key, ""), 200),
        (options, 204),
        (no_host, 400),
    ] {
        // A byte of the body is there, and the rest never comes.
        let mut client = world.connect().await;
        client.send(format!("{head}x").as_bytes()).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status, "{head}");
        assert_eq!(answer.header("connection"), Some("close"), "{head}");
        client.closed().await;
        // Who was not asked for a body sends none, and hears the same.
        let expecting = head.replace("host: ", "expect: 100-continue\r\nhost: ");
        let mut client = world.connect().await;
        client.send(expecting.as_bytes()).await;
        assert_eq!(client.head().await.status(), status, "{expecting}");
    }
    // A body that is here is out of the way, and the connection goes on.
    let mut client = world.connect().await;
    for (key, status) in [("nobody", 401), (&*used_up, 429), (key, 200)] {
        client.send(request("POST", CHAT, key, "", &chat("a")).as_bytes()).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (status, None));
    }
    world.rows_eventually(3).await;
    world.finish().await;
    simulator.shutdown().await;
}

#[tokio::test]
async fn who_drips_a_body_that_nobody_reads_is_not_listened_to_for_long() {
    let (simulator, builder) = simulated().await;
    let world = builder.start().await;
    let mut client = world.connect().await;
    client.send(head("nobody", "", 30_000_000).as_bytes()).await;
    assert_eq!(client.answer().await.status, 401);
    // It never closes, and sends as long as anybody takes it.
    let drip = async {
        while client.try_send(b"x").await {
            tokio::task::yield_now().await;
        }
    };
    patiently("the connection ends", drip).await;
    connections_left(&world, 0).await;
    world.finish().await;
    simulator.shutdown().await;
}

#[tokio::test]
async fn a_body_has_to_be_whole_in_time_however_it_comes() {
    let (simulator, builder) = simulated().await;
    let world = builder
        .set("deadlines.request_body_idle_ms", LATE_MS)
        .set("deadlines.request_body_ms", SOON_MS)
        .start()
        .await;
    let mut client = world.connect().await;
    client.send(head(&world.key, "", 1000).as_bytes()).await;
    client.send(br#"{"model":"#).await;
    let answer = client.answer().await;
    assert_own_error(&answer, 400, "invalid_request_error", "invalid_request");
    assert_eq!(answer.header("connection"), Some("close"));
    client.closed().await;
    world.finish().await;
    simulator.shutdown().await;
}

#[tokio::test]
async fn a_request_counts_from_its_head_on_and_once() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let key = world.new_key(&["--concurrency", "1"]).await;
    let body = chat("a");
    let whole = request("POST", CHAT, &key, "", &body);
    let limited = async || {
        let mut client = world.connect().await;
        client.send(whole.as_bytes()).await;
        assert_limited(&client.answer().await, "rate_limit_exceeded", "key-concurrency");
    };
    // Asked for its body, it is known.
    let mut first = world.connect().await;
    first.send(head(&key, EXPECT, body.len()).as_bytes()).await;
    assert_eq!(first.interim().await, 100);
    limited().await;
    // The place becomes its own, and ends with it.
    first.send(body.as_bytes()).await;
    let (mut call, _) = upstream.call().await;
    limited().await;
    call.answer("200 OK", "content-type: application/json\r\n", "{}").await;
    assert_eq!(first.answer().await.status, 200);
    // Who leaves before the body is there leaves nothing behind.
    let mut second = world.connect().await;
    second.send(head(&key, EXPECT, body.len()).as_bytes()).await;
    assert_eq!(second.interim().await, 100);
    assert_eq!(world.server().outstanding(), (1, 0));
    drop(second);
    eventually("it has left", || (world.server().outstanding() == (0, 0)).then_some(())).await;
    let mut third = world.connect().await;
    third.send(whole.as_bytes()).await;
    call.receive().await;
    call.answer("200 OK", "content-type: application/json\r\n", "{}").await;
    assert_eq!(third.answer().await.status, 200);
    world.finish().await;
}

/// The beginning of a body that is `decoded` bytes long and a few thousand as it is sent.
fn gzip_begun(decoded: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let text = [br#"{"model":"gpt-5.4","user":""#, &*vec![b' '; decoded]].concat();
    encoder.write_all(&text).and_then(|()| encoder.flush()).expect("a Vec takes it");
    encoder.get_ref().clone()
}

#[tokio::test]
async fn slow_bodies_of_a_limited_key_take_nothing_from_others() {
    let (simulator, builder) = simulated().await;
    let world = builder
        .set("server.max_body_bytes", 1 << 20)
        .set("server.max_inflight_body_bytes", 8 << 20)
        .set("deadlines.request_body_idle_ms", LATE_MS)
        .start()
        .await;
    let limits = ["--rpm", "1", "--concurrency", "1", "--daily-requests", "1"];
    let slow = world.new_key(&[&["--tenant", "slow"], &limits[..]].concat()).await;
    let begun = gzip_begun(1_000_000);
    let coded = format!("content-encoding: gzip\r\n{EXPECT}");
    let mut first = world.connect().await;
    first.send(head(&slow, &coded, 900_000).as_bytes()).await;
    assert_eq!(first.interim().await, 100);
    first.send(&begun).await;
    for _ in 0..9 {
        // All the others are refused by their heads.
        let mut client = world.connect().await;
        client.send(head(&slow, &coded, 900_000).as_bytes()).await;
        let answer = client.answer().await;
        assert_limited(&answer, "rate_limit_exceeded", "key-concurrency");
        // Five bytes that decode to nothing.
        first.send(&[0, 0, 0, 0xff, 0xff]).await;
        assert_served(&world, &world.key, 1).await;
    }
    drop(first);
    world.rows_eventually(9).await;
    world.finish().await;
    simulator.shutdown().await;
}

/// So many bytes of bodies, and more, are held.
async fn bytes_held(world: &World, least: usize) {
    let held = async {
        loop {
            let (_, metrics) = get(world.server().admin_address(), "/metrics").await;
            let line = metrics.lines().find_map(|line| {
                line.strip_prefix("weir_request_body_bytes_in_flight ")?.parse::<f64>().ok()
            });
            if line.expect("it is a metric") >= least as f64 {
                return;
            }
        }
    };
    patiently("the bodies are held", held).await;
}

#[tokio::test]
async fn a_tenant_s_bodies_leave_room_for_those_of_others() {
    let (simulator, builder) = simulated().await;
    // Its share is one body and what decompresses one, 23 MiB.
    let world = builder
        .set("server.max_body_bytes", 6 << 20)
        .set("server.max_inflight_body_bytes", 24 << 20)
        .set("deadlines.request_body_idle_ms", LATE_MS)
        .start()
        .await;
    let greedy = world.new_key(&["--tenant", "greedy"]).await;
    let begun = gzip_begun(6_000_000);
    let mut open = Vec::new();
    for number in 0..4 {
        let mut client = world.connect().await;
        client.send(head(&greedy, "content-encoding: gzip\r\n", 900_000).as_bytes()).await;
        client.send(&begun).await;
        if number < 3 {
            bytes_held(&world, (number + 1) * 6_000_000).await;
        } else {
            let answer = client.answer().await;
            assert_limited(&answer, "rate_limit_exceeded", "tenant-body-bytes");
            assert_eq!(answer.header("retry-after"), Some("1"));
        }
        open.push(client);
    }
    assert_served(&world, &world.key, 3).await;
    drop(open);
    eventually("they have left", || (world.server().outstanding() == (0, 0)).then_some(())).await;
    assert_served(&world, &greedy, 1).await;
    world.rows_eventually(4).await;
    world.finish().await;
    simulator.shutdown().await;
}
