//! Streams through the gateway: what the upstream writes is what the client reads, however it is cut
//! and however fast either of them is, apart from the edits that are documented: usage that Weir asked
//! for and the client did not, and the model's name.

mod cuts;
mod edits;
mod encoded;
mod pace;
mod running;
mod types;

use crate::harness::{Builder, Call, Received, Upstream, World};

/// A stream request, with the usage option left to Weir.
const ASK: &str = r#"{"model":"gpt-5.4","stream":true,"messages":[]}"#;
/// One that wants to see the usage.
const ASK_USAGE: &str =
    r#"{"model":"gpt-5.4","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;
const ANSWER: [&str; 4] = [
    "data: {\"model\":\"gpt-5.4\",\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":null}\n\n",
    "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7}}\n\n",
    "data: [DONE]\n\n",
];
/// [`ANSWER`] as a client sees it that has not asked for usage.
const HIDDEN: &str = concat!(
    "data: {\"model\":\"gpt-5.4\",\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n",
    "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    "data: [DONE]\n\n",
);

/// A gateway that makes a connection for each request: none of a test's calls is used again.
fn before(upstream: &Upstream) -> Builder {
    World::before(upstream).set("upstream.pool_max_idle", 0)
}

/// Answers a call with these events, one chunk each, and the terminator.
async fn tell(call: &mut Call, events: &[&str]) {
    call.stream().await;
    for event in events {
        call.chunk(event).await;
    }
    call.chunk("").await;
}

/// Sends `body`, answers [`ANSWER`], and returns what the upstream and the client received.
async fn exchange(world: &World, upstream: &Upstream, body: &str) -> (Received, String) {
    let mut client = world.post(body).await;
    let (mut call, received) = upstream.call().await;
    tell(&mut call, &ANSWER).await;
    let answer = client.answer().await;
    assert!(answer.is_whole);
    let row = world.row(answer.event_id()).await;
    assert_eq!((row.total_tokens, &*row.usage_source), (7, "reported"));
    (received, answer.text().to_owned())
}
