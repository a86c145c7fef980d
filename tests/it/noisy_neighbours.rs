//! Nobody takes the gateway from others: who sends slowly, without end, compressed, or over more connections than
//! are his, is bounded by himself, and everybody else is served meanwhile.

mod bodies;
mod connections;
mod ends;
mod nginx;

use crate::harness::{Answer, World, eventually, request};
use crate::http::{chat, send};

use crate::traffic::CHAT;

/// A deadline that is to be missed, and one that is not.
const SOON_MS: u64 = 300;
const LATE_MS: u64 = 600_000;

/// The head of a chat request that announces `length` bytes.
fn head(key: &str, headers: &str, length: usize) -> String {
    let whole = request("POST", CHAT, key, headers, "");
    whole.replace("content-length: 0", &format!("content-length: {length}"))
}

/// A request that Weir reads to its end before it answers says so by this.
const EXPECT: &str = "expect: 100-continue\r\n";

/// Requests of this key are all served.
async fn assert_served(world: &World, key: &str, count: usize) {
    for _ in 0..count {
        let answer = send(world, request("POST", CHAT, key, "", &chat("a"))).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

/// Refused by this limit.
fn assert_limited(answer: &Answer, code: &str, limit: &str) {
    assert_eq!((answer.status, &*answer.code()), (429, code), "{}", answer.text());
    assert_eq!(answer.header("x-weir-limit"), Some(limit));
}

/// So many connections are left, whatever their clients do.
async fn connections_left(world: &World, count: usize) {
    let left = || (world.server().connections().iter().sum::<usize>() == count).then_some(());
    eventually("the connections have ended", left).await;
}
