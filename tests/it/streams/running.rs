//! Running usage (`running_usage`): asked for beside the last usage, hidden from clients that did not
//! ask, and what counts where a stream is broken off.

use super::{ANSWER, ASK, ASK_USAGE, HIDDEN, before, tell};
use crate::harness::{Builder, Client, Received, Upstream, World, request};

/// What an upstream with the option says to one answer: usage with every chunk, and once more at the end.
const RUNNING: [&str; 4] = [
    "data: {\"model\":\"gpt-5.4\",\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1,\"total_tokens\":4}}\n\n",
    "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7}}\n\n",
    ANSWER[2],
    ANSWER[3],
];
const BOTH: &str = r#""include_usage":true,"continuous_usage_stats":true"#;

fn asking(upstream: &Upstream) -> Builder {
    before(upstream).set("upstream.running_usage", true)
}

/// Sends `body`, answers [`RUNNING`], and returns what the upstream and the client received.
async fn exchange(world: &World, upstream: &Upstream, body: &str) -> (Received, String) {
    let mut client = world.post(body).await;
    let (mut call, received) = upstream.call().await;
    tell(&mut call, &RUNNING).await;
    let answer = client.answer().await;
    assert!(answer.is_whole);
    let row = world.row(answer.event_id()).await;
    assert_eq!((row.total_tokens, &*row.usage_source, &*row.end), (7, "reported", "complete"));
    (received, answer.text().to_owned())
}

#[tokio::test]
async fn a_client_sees_of_it_what_it_asked_for() {
    let upstream = Upstream::start().await;
    let world = asking(&upstream).start().await;
    // One that asked for nothing.
    let (received, seen) = exchange(&world, &upstream, ASK).await;
    let expected = ASK.replacen('{', &format!("{{\"stream_options\":{{{BOTH}}},"), 1);
    assert_eq!(String::from_utf8_lossy(&received.body), expected);
    assert_eq!(seen, HIDDEN);
    // One that asked for the last usage.
    let (received, seen) = exchange(&world, &upstream, ASK_USAGE).await;
    let expected = ASK_USAGE
        .replace("{\"include_usage\"", "{\"continuous_usage_stats\":true,\"include_usage\"");
    assert_eq!(String::from_utf8_lossy(&received.body), expected);
    assert_eq!(seen, HIDDEN.replace("data: [DONE]", &format!("{}data: [DONE]", ANSWER[2])));
    // One that asked for running usage itself.
    let own = ASK_USAGE.replace("\"include_usage\":true", BOTH);
    let (received, seen) = exchange(&world, &upstream, &own).await;
    assert_eq!(String::from_utf8_lossy(&received.body), own);
    assert_eq!(seen, RUNNING.concat());
    world.finish().await;
}

#[tokio::test]
async fn an_upstream_that_refuses_it_is_asked_for_the_last_usage_only() {
    let upstream = Upstream::start().await;
    let world = asking(&upstream).start().await;
    let mut client = world.post(ASK).await;
    let (mut call, received) = upstream.call().await;
    assert!(String::from_utf8_lossy(&received.body).contains(BOTH));
    let json = "content-type: application/json\r\n";
    let refusal = r#"{"error":{"message":"Unknown.","param":"stream_options"}}"#;
    call.answer("400 Bad Request", json, refusal).await;
    let (mut call, received) = upstream.call().await;
    assert_eq!(String::from_utf8_lossy(&received.body), ASK, "the client's own bytes");
    tell(&mut call, &ANSWER).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (200, &*ANSWER.concat()));
    let row = world.row(answer.event_id()).await;
    assert_eq!((row.attempts, row.flags), (2, vec!["usage_option_refused".to_owned()]));
    let mut client = world.post(ASK).await;
    let (mut call, received) = upstream.call().await;
    let expected = ASK.replacen('{', "{\"stream_options\":{\"include_usage\":true},", 1);
    assert_eq!(String::from_utf8_lossy(&received.body), expected);
    tell(&mut call, &ANSWER).await;
    assert_eq!(client.answer().await.text(), HIDDEN);
    world.finish().await;
}

/// Two answers in one stream, each with its own running usage, and a client that leaves.
#[tokio::test]
async fn usage_is_exact_where_a_stream_is_broken_off() {
    let upstream = Upstream::start().await;
    let world = asking(&upstream).start().await;
    let body = r#"{"model":"gpt-5.4","n":2,"stream":true,"messages":[]}"#;
    let chunk = |index: u32, text: &str, output: u32| {
        format!(
            "data: {{\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":\"{text}\"}}}}],\
             \"usage\":{{\"prompt_tokens\":30,\"total_tokens\":{},\"completion_tokens\":{output}}}}}\n\n",
            30 + output
        )
    };
    let mut client = Client::connect(world.address()).await;
    client.send(request("POST", "/v1/chat/completions", &world.key, "", body).as_bytes()).await;
    let (mut call, _) = upstream.call().await;
    call.stream().await;
    let steps = [(0, "one ", 1), (1, "uno ", 2), (0, "two ", 2), (1, "due ", 4), (0, "three", 3)];
    for (index, text, output) in steps {
        call.chunk(chunk(index, text, output)).await;
    }
    let head = client.head().await;
    let seen = client.body_until("three").await;
    assert!(!String::from_utf8_lossy(&seen).contains("usage"), "{}", seen.escape_ascii());
    let id = head.header("x-request-id").expect("every answer has one").to_owned();
    client.reset();
    call.closed().await;
    let row = world.row(&id).await;
    assert_eq!((&*row.end, &*row.usage_source), ("client_closed", "running"));
    assert_eq!((row.input_tokens, row.output_tokens, row.total_tokens), (30, 7, 37));
    world.finish().await;
}

/// Of a list of prompts each states its own tokens: the sum of them counts, once all have stated theirs.
#[tokio::test]
async fn of_several_prompts_all_count_where_a_stream_is_broken_off() {
    let upstream = Upstream::start().await;
    let world = asking(&upstream).start().await;
    let body = r#"{"model":"gpt-5.4","prompt":["12345678","1234"],"max_tokens":50,"stream":true}"#;
    let chunk = |index: u32, input: u32, text: &str| {
        let usage = format!(r#"{{"prompt_tokens":{input},"completion_tokens":1}}"#);
        let choice = format!(r#"{{"index":{index},"text":"{text}","finish_reason":null}}"#);
        format!("data: {{\"choices\":[{choice}],\"usage\":{usage}}}\n\n")
    };
    let both = [chunk(1, 6_000, "uno"), chunk(0, 7_000, "one")];
    for (chunks, source, total) in
        [(&both[..], "running", 13_002), (&both[..1], "estimated", 6_100)]
    {
        let mut client = Client::connect(world.address()).await;
        client.send(request("POST", "/v1/completions", &world.key, "", body).as_bytes()).await;
        let (mut call, _) = upstream.call().await;
        call.stream().await;
        for chunk in chunks {
            call.chunk(chunk).await;
        }
        let head = client.head().await;
        client.body_until(if chunks.len() > 1 { "one" } else { "uno" }).await;
        let id = head.header("x-request-id").expect("every answer has one").to_owned();
        client.reset();
        call.closed().await;
        let row = world.row(&id).await;
        let found = (&*row.end, &*row.usage_source, row.total_tokens);
        assert_eq!(found, ("client_closed", source, total), "{row:?}");
    }
    world.finish().await;
}
