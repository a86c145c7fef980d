//! A thousand requests at once, where there is room for a few: exactly those get in whose reservations
//! fit, however streams and others are mixed. Each round is a day of its own, on a clock that the test
//! moves. `WEIR_TORTURE_ROUNDS` says how many rounds; without it there is one.

use std::process::Command;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

use super::{MORNING_MS, at, chat, served, stream, whole};
use crate::harness::{Call, Client, Received, Upstream, World, patiently, request};

const REQUESTS: usize = 1000;
/// So many get in.
const ROOMS: [usize; 3] = [1, 10, 500];
const DAY_MS: u64 = 24 * 3_600_000;
/// Connections that ask at once, beside those that were admitted and stay.
const AT_ONCE: usize = 100;

fn rounds() -> usize {
    let rounds = std::env::var("WEIR_TORTURE_ROUNDS").ok();
    rounds.map_or(1, |text| text.parse().expect("WEIR_TORTURE_ROUNDS is a number"))
}

/// Lets this process have enough files open, where a shell's usual 1,024 would not do: an admitted request
/// is open four times in it, at the client, on both sides of the gateway, at the upstream.
pub fn allow_open(requests: usize) {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3)?.parse::<usize>().ok());
    // The other tests of this process have some as well.
    let needed = 4 * requests + 1_000;
    if soft.is_some_and(|soft| soft < needed) {
        let mut command = Command::new("prlimit");
        command.arg(format!("--pid={}", std::process::id())).arg(format!("--nofile={needed}:"));
        let is_allowed = command.status().is_ok_and(|status| status.success());
        assert!(is_allowed, "this test needs util-linux and {needed} open files (ulimit -Hn)");
    }
}

#[tokio::test]
async fn exactly_those_get_in_whose_reservations_fit() {
    allow_open(ROOMS[2] + AT_ONCE);
    let upstream = Upstream::start().await;
    let (environment, hand) = at(MORNING_MS);
    let world = World::before(&upstream).set("server.workers", 2).environment(environment);
    let world = world.start().await;
    for body in [chat(100), stream(100)] {
        served(&world, &upstream, &world.key, &body, 2).await;
    }
    let rows = world.rows_eventually(2).await;
    let reserved = rows[0].reserved_tokens;
    assert_eq!(rows[1].reserved_tokens, reserved, "streams and others reserve the same");
    let mut booked = 2;
    for room in ROOMS {
        let quota = reserved * room as u64 + reserved - 1;
        let key = world.new_key(&["--daily-tokens", &quota.to_string()]).await;
        for _ in 0..rounds() {
            round(&world, &upstream, &key, room, reserved).await;
            booked += room;
            hand.advance_ms(DAY_MS);
        }
        // What was not used is there again on the same day: those admitted used two each.
        round(&world, &upstream, &key, room, reserved).await;
        let left = quota - 2 * room as u64;
        served(&world, &upstream, &key, &chat(left - (reserved - 100)), 2).await;
        booked += room + 1;
        hand.advance_ms(DAY_MS);
    }
    if booked < 50_000 {
        world.rows_eventually(booked).await;
    }
    world.finish().await;
}

/// A thousand ask, `room` get in; the others are told why not.
async fn round(world: &World, upstream: &Upstream, key: &str, room: usize, reserved: u64) {
    let places = Arc::new(Semaphore::new(AT_ONCE + room));
    let (tell, mut told) = mpsc::channel(REQUESTS);
    for number in 0..REQUESTS {
        let (address, key) = (world.address(), key.to_owned());
        let (places, tell) = (places.clone(), tell.clone());
        tokio::spawn(async move {
            let place = places.acquire().await.expect("never closed");
            let body = if number % 2 == 0 { chat(100) } else { stream(100) };
            let mut client = Client::connect(address).await;
            let bytes = request("POST", "/v1/chat/completions", &key, "", &body);
            client.send(bytes.as_bytes()).await;
            let answer = client.answer().await;
            drop(place);
            let _ = tell.send(answer).await;
        });
    }
    drop(tell);
    let mut calls: Vec<(Call, Received)> = Vec::new();
    while calls.len() < room {
        calls.push(upstream.call().await);
    }
    for _ in room..REQUESTS {
        let answer = patiently("an answer", told.recv()).await.expect("a thousand");
        assert_eq!(answer.status, 429, "{}", answer.text());
        let error = &answer.json()["error"];
        assert_eq!(error["type"], "insufficient_quota");
        assert_eq!(error["code"], "insufficient_quota");
        let message = error["message"].as_str().expect("a text");
        assert!(message.contains("T00:00:00Z"), "{message}");
        assert_eq!(answer.header("x-should-retry"), Some("false"));
        assert_eq!(answer.header("retry-after"), None);
        assert_eq!(answer.header("x-weir-limit"), Some("key-daily-tokens"));
    }
    assert!(!upstream.was_called(), "more than {room} were admitted");
    assert_eq!(world.server().outstanding(), (room as u64, room as u64 * reserved));
    for (call, received) in &mut calls {
        whole(call, received, 2).await;
    }
    for _ in 0..room {
        let answer = patiently("an answer", told.recv()).await.expect("a thousand");
        assert_eq!((answer.status, answer.is_whole), (200, true), "{}", answer.text());
    }
    assert!(told.recv().await.is_none(), "a thousand answers");
    world.settled().await;
}
