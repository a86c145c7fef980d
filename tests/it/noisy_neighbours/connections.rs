//! Connections: how many one address may have, and what becomes of those that are too many, or that say nothing.

use std::net::Ipv4Addr;

use super::{CHAT, assert_served, connections_left, head};
use crate::harness::{Client, World, eventually, request};
use crate::http::assert_own_error;
use crate::limits::thousand::allow_open;
use crate::traffic::simulated;

const KEYLESS: usize = 1_000;

/// As many requests as connections, each answered.
async fn open(world: &World, from: Ipv4Addr, count: usize) -> Vec<Client> {
    let models = request("GET", "/v1/models", &world.key, "", "");
    let mut open = Vec::new();
    for _ in 0..count {
        let mut client = Client::connect_from(from, world.address()).await;
        client.send(models.as_bytes()).await;
        assert_eq!(client.answer().await.status, 200);
        open.push(client);
    }
    open
}

#[tokio::test]
async fn an_address_has_half_of_the_connections_and_who_is_too_many_is_told_once() {
    let (simulator, builder) = simulated().await;
    let world = builder.set("server.max_connections", 6).start().await;
    let [one, other] = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)];
    let mut first = open(&world, one, 3).await;
    // Not asked for its body, and not waited for.
    let mut surplus = Client::connect_from(one, world.address()).await;
    surplus.send(format!("{}x", head(&world.key, "", 1000)).as_bytes()).await;
    let refused = surplus.answer().await;
    assert_own_error(&refused, 503, "server_error", "overloaded");
    assert_eq!(refused.header("connection"), Some("close"));
    assert!(refused.text().contains("from this address"), "{}", refused.text());
    surplus.closed().await;
    drop(surplus);
    // Half of all is left to the others; then there are too many for everybody.
    let second = open(&world, other, 3).await;
    let third = Ipv4Addr::new(127, 0, 0, 3);
    let mut surplus = Client::connect_from(third, world.address()).await;
    surplus.send(request("GET", "/v1/models", &world.key, "", "").as_bytes()).await;
    let refused = surplus.answer().await;
    assert_own_error(&refused, 503, "server_error", "overloaded");
    assert_eq!(refused.header("connection"), Some("close"));
    surplus.closed().await;
    drop((first.pop(), surplus));
    connections_left(&world, 5).await;
    open(&world, third, 1).await;
    drop((first, second));
    world.finish().await;
    simulator.shutdown().await;
}

#[tokio::test]
async fn surplus_connections_of_one_address_that_say_nothing_are_few() {
    let (simulator, builder) = simulated().await;
    let world = builder
        .set("server.max_connections", 100)
        .set("server.max_connections_per_address", 2)
        .set("deadlines.request_head_ms", super::LATE_MS)
        .start()
        .await;
    let mut silent = Vec::new();
    for _ in 0..2 + 16 {
        silent.push(world.connect().await);
    }
    connections_left(&world, 18).await;
    // One more is closed at once.
    world.connect().await.closed().await;
    open(&world, Ipv4Addr::new(127, 0, 0, 2), 2).await;
    drop(silent);
    world.finish().await;
    simulator.shutdown().await;
}

#[tokio::test]
async fn a_thousand_without_a_key_that_drip_take_nothing_from_others() {
    allow_open(KEYLESS);
    let (simulator, builder) = simulated().await;
    let world = builder.set("server.failed_keys_per_minute", 60).start().await;
    let announced = format!("{}x", head("nobody", "", 1_000_000));
    let mut dripping = Vec::new();
    for number in 0..KEYLESS {
        let mut client = world.connect().await;
        client.send(announced.as_bytes()).await;
        let head = client.head().await;
        assert!(matches!(head.status(), 401 | 429), "{}", head.raw);
        assert_eq!(head.header("connection"), Some("close"));
        client.try_send(b"x").await;
        dripping.push(client);
        if number % 100 == 0 {
            assert_served(&world, &world.key, 1).await;
        }
    }
    for client in &mut dripping {
        client.try_send(b"x").await;
    }
    assert_served(&world, &world.key, 1).await;
    connections_left(&world, 0).await;
    world.rows_eventually(11).await;
    drop(dripping);
    world.finish().await;
    simulator.shutdown().await;
}

/// RFC 9112 §6.1 and §3.2: what follows such a request on its connection is not heard.
#[tokio::test]
async fn requests_whose_end_is_in_doubt_end_their_connection() {
    let (simulator, builder) = simulated().await;
    let world = builder.start().await;
    let key = &*world.key;
    let chunks = "2\r\n{}\r\n0\r\n\r\n";
    for (lines, status) in [
        ("host: x\r\ntransfer-encoding: chunked, chunked\r\n", 400),
        ("host: x\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", 400),
        ("host: x\r\ntransfer-encoding: gzip, chunked\r\n", 501),
        ("host: x\r\ntransfer-encoding: identity, chunked\r\n", 501),
        ("transfer-encoding: chunked\r\n", 400),
        ("host: x\r\nhost: y\r\ntransfer-encoding: chunked\r\n", 400),
    ] {
        let bytes = format!(
            "POST {CHAT} HTTP/1.1\r\n{lines}authorization: Bearer {key}\r\n\r\n{chunks}{}",
            request("GET", "/v1/models", key, "", "")
        );
        let mut client = world.connect().await;
        client.send(bytes.as_bytes()).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status, "{lines}");
        assert_eq!(answer.header("connection"), Some("close"), "{lines}");
        client.closed().await;
    }
    assert_eq!(simulator.counts().requests, 0);
    let good = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\
         transfer-encoding: Chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"
    );
    let mut client = world.connect().await;
    client.send(good.as_bytes()).await;
    assert_own_error(&client.answer().await, 400, "invalid_request_error", "invalid_request");
    eventually("nothing is left", || (world.server().outstanding() == (0, 0)).then_some(())).await;
    world.finish().await;
    simulator.shutdown().await;
}
