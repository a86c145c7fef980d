//! Streams through the gateway: what the upstream writes is what the client reads, however it is cut
//! and however fast either of them is, apart from the edits that are documented: usage that Weir asked
//! for and the client did not, and the model's name.

mod cuts;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use weir::simulator::{self, Options};

use crate::world::{
    Builder, Call, Client, Piece, Received, Upstream, World, eventually, patiently,
};

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

/// Reads until this has come, and nothing else.
async fn expect(client: &mut Client, bytes: &[u8]) {
    let mut got = Vec::new();
    while got.len() < bytes.len() {
        match client.piece().await {
            Piece::Data(piece) => got.extend(piece),
            end => panic!("{end:?} after {:?}", String::from_utf8_lossy(&got)),
        }
    }
    assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(bytes));
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

/// The upstream writes an event only when the client has the one before: were anything held until
/// more comes, this would never end.
#[tokio::test]
async fn each_event_is_with_the_client_before_the_next_is_written() {
    const EVENTS: usize = 300;
    let upstream = Upstream::start().await;
    let world = before(&upstream).start().await;
    for (ask, hides) in [(ASK, true), (ASK_USAGE, false)] {
        for end in ["\n\n", "\r\n\r\n", "\r\r"] {
            let mut client = world.post(ask).await;
            let (mut call, _) = upstream.call().await;
            call.stream().await;
            assert_eq!(client.head().await.status(), 200);
            for event in 0..EVENTS {
                let (before, after) = (format!("data: {{\"n\":{event}"), format!("}}{end}"));
                call.chunk(format!("{before},\"usage\":null{after}")).await;
                let usage = if hides { "" } else { ",\"usage\":null" };
                let seen = format!("{before}{usage}{after}");
                expect(&mut client, seen.as_bytes()).await;
            }
            call.chunk(": a comment\n\n").await;
            expect(&mut client, b": a comment\n\n").await;
            call.chunk("data: [DONE]\n\n").await;
            expect(&mut client, b"data: [DONE]\n\n").await;
            call.chunk("").await;
            assert_eq!(client.piece().await, Piece::End);
        }
    }
    world.finish().await;
}

/// A piece that can't be hidden any more does not wait for the end of its event either.
#[tokio::test]
async fn long_events_pass_as_they_come() {
    let upstream = Upstream::start().await;
    let world = before(&upstream).start().await;
    let mut client = world.post(ASK).await;
    let (mut call, _) = upstream.call().await;
    call.stream().await;
    assert_eq!(client.head().await.status(), 200);
    let begin = format!("data: {{\"image\":\"{}", "A".repeat(16 * 1024));
    call.chunk(&begin).await;
    expect(&mut client, begin.as_bytes()).await;
    for piece in ["BBBB", "C", "\"}", "\n"] {
        call.chunk(piece).await;
        expect(&mut client, piece.as_bytes()).await;
    }
    call.chunk("\ndata: [DONE]\n\n").await;
    call.chunk("").await;
    assert_eq!(client.rest().await, (b"\ndata: [DONE]\n\n".to_vec(), true));
    world.finish().await;
}

#[tokio::test]
async fn a_line_of_8_mib_passes_byte_for_byte() {
    const MIB: usize = 1024 * 1024;
    let upstream = Upstream::start().await;
    let world = before(&upstream).start().await;
    let picture: String = (0..8 * MIB).map(|at| char::from(b'A' + (at % 23) as u8)).collect();
    let begin = "data: {\"choices\":[{\"delta\":{\"image_base64\":\"";
    // Also where usage is hidden this event keeps its `usage`: it is too long to be held.
    let line = format!("{begin}{picture}\"}}}}],\"usage\":null}}\n\n");
    let (_, hidden) = HIDDEN.split_once("\n\n").expect("it has several events");
    for (ask, end) in [(ASK_USAGE, &*ANSWER[1..].concat()), (ASK, hidden)] {
        let mut client = world.post(ask).await;
        let (mut call, _) = upstream.call().await;
        let serving = async {
            call.stream().await;
            call.chunk(&line).await;
            for event in &ANSWER[1..] {
                call.chunk(event).await;
            }
            call.chunk("").await;
        };
        let ((), answer) = tokio::join!(serving, client.answer());
        assert!(answer.is_whole);
        let (head, rest) = answer.body.split_at(line.len());
        assert!(head == line.as_bytes(), "the line is another one");
        assert_eq!(String::from_utf8_lossy(rest), end);
        let row = world.row(answer.event_id()).await;
        assert_eq!((row.total_tokens, &*row.end), (7, "complete"));
    }
    world.finish().await;
}

/// What the upstream could write until it had to wait, and then what the client read in the end.
async fn pause(address: SocketAddr, raw: &str, listener: &TcpListener) -> (usize, Vec<u8>) {
    // Small sockets of our own, so that what is on the way is the gateway's doing.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(SOCKET_BYTES).expect("a size");
    let mut client = socket.connect(address).await.expect("it listens");
    client.write_all(raw.as_bytes()).await.expect("a small request");
    let (mut call, _) = patiently("a call", listener.accept()).await.expect("it listens");
    SockRef::from(&call).set_send_buffer_size(SOCKET_BYTES as usize).expect("a size");
    let written = Arc::new(AtomicUsize::new(0));
    let count = written.clone();
    let writing = tokio::spawn(async move {
        // Who speaks before being asked is taken for broken.
        let mut request = Vec::new();
        while !String::from_utf8_lossy(&request).ends_with("\"messages\":[]}") {
            assert!(call.read_buf(&mut request).await.expect("the gateway asks") > 0);
        }
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        call.write_all(head.as_bytes()).await.expect("the gateway reads");
        let event = format!("data: {{\"x\":\"{}\"}}\n\n", "~".repeat(EVENT_BYTES - 16));
        for _ in 0..EVENTS {
            call.write_all(event.as_bytes()).await.expect("the gateway reads");
            count.fetch_add(event.len(), Ordering::Relaxed);
        }
        call.write_all(b"data: [DONE]\n\n").await.expect("the gateway reads");
    });
    // It is paused when it has not moved for many turns; one that never is reaches its end instead.
    let (mut last, mut still) = (0, 0);
    eventually("the upstream is paused", || {
        let now = written.load(Ordering::Relaxed);
        still = if now == last { still + 1 } else { 0 };
        last = now;
        (now > 0 && still == 50).then_some(())
    })
    .await;
    // The client has its answer all the same, once it reads.
    let mut got = Vec::new();
    let reading = async {
        while !got.ends_with(b"\r\n0\r\n\r\n") {
            assert!(client.read_buf(&mut got).await.expect("it is open") > 0);
        }
    };
    patiently("the rest of the answer", reading).await;
    drop(client);
    patiently("the upstream ends", writing).await.expect("all was written");
    (last, got)
}

const EVENT_BYTES: usize = 64 * 1024;
const EVENTS: usize = 512;
const SOCKET_BYTES: u32 = 64 * 1024;

/// A client that does not read pauses the upstream: what is on the way is bounded by the sockets.
#[tokio::test]
async fn a_slow_reader_pauses_the_upstream() {
    const BOUND: usize = 8 * 1024 * 1024;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
    let base_url = format!("\"http://{}\"", listener.local_addr().expect("it listens"));
    let world = World::builder().set("upstream.base_url", base_url).start().await;
    for ask in [ASK, ASK_USAGE] {
        let (paused_at, got) = pause(world.address(), &world.chat(ask), &listener).await;
        assert!(paused_at < BOUND, "{paused_at} bytes went to a client that does not read");
        let contents = got.iter().filter(|byte| **byte == b'~').count();
        assert_eq!(contents, EVENTS * (EVENT_BYTES - 16));
        let tail = String::from_utf8_lossy(&got[got.len() - 100..]);
        assert!(tail.contains("data: [DONE]\n\n"), "{tail}");
    }
    let rows = world.rows_eventually(2).await;
    assert!(rows.iter().all(|row| row.end == "complete"), "{rows:?}");
    world.finish().await;
}

#[tokio::test]
async fn usage_is_asked_for_and_hidden_where_the_client_did_not_ask() {
    let upstream = Upstream::start().await;
    let world = before(&upstream).start().await;
    // As it was asked, and what the upstream gets to see of it.
    let cases = [
        (r#""stream":true"#, r#""stream":true"#, true),
        (
            r#""stream_options":null,"stream":true"#,
            r#""stream_options":{"include_usage":true},"stream":true"#,
            false,
        ),
        (
            r#""stream":true,"stream_options": { }"#,
            r#""stream":true,"stream_options": {"include_usage":true }"#,
            false,
        ),
        (
            r#""stream":true,"stream_options":{"include_usage":false}"#,
            r#""stream":true,"stream_options":{"include_usage":true}"#,
            false,
        ),
        (
            r#""stream_options":{"include_usage" : null,"x":1},"stream":true"#,
            r#""stream_options":{"include_usage" : true,"x":1},"stream":true"#,
            false,
        ),
        (
            r#""stream_options":{"include_obfuscation":false},"stream":true"#,
            r#""stream_options":{"include_usage":true,"include_obfuscation":false},"stream":true"#,
            false,
        ),
    ];
    for (asked, expected, is_inserted) in cases {
        let body = |options: &str| format!("{{\"model\":\"gpt-5.4\",{options}, \"messages\":[]}}");
        let (received, seen) = exchange(&world, &upstream, &body(asked)).await;
        let expected = if is_inserted {
            body(expected).replacen('{', "{\"stream_options\":{\"include_usage\":true},", 1)
        } else {
            body(expected)
        };
        assert_eq!(String::from_utf8_lossy(&received.body), expected);
        let length = expected.len().to_string();
        assert_eq!(received.head.header("content-length"), Some(&*length));
        assert_eq!(seen, HIDDEN, "{asked}");
    }
    world.finish().await;
}

#[tokio::test]
async fn who_asks_for_usage_gets_it_untouched() {
    let upstream = Upstream::start().await;
    let world = before(&upstream).start().await;
    let (received, seen) = exchange(&world, &upstream, ASK_USAGE).await;
    assert_eq!(String::from_utf8_lossy(&received.body), ASK_USAGE);
    assert_eq!(seen, ANSWER.concat());
    world.finish().await;
}

#[tokio::test]
async fn an_upstream_can_be_exempt_from_being_asked() {
    let upstream = Upstream::start().await;
    let world = before(&upstream).set("upstream.inject_usage", false).start().await;
    for ask in [ASK, ASK_USAGE] {
        let (received, seen) = exchange(&world, &upstream, ask).await;
        assert_eq!(String::from_utf8_lossy(&received.body), ask);
        assert_eq!(seen, ANSWER.concat(), "what it says of itself is not hidden");
    }
    world.finish().await;
}

#[tokio::test]
async fn what_is_no_stream_is_not_asked_for_usage() {
    let upstream = Upstream::start().await;
    let world = before(&upstream).start().await;
    let json = r#"{"usage":null,"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
    for options in [
        "",
        r#""stream":false,"#,
        r#""stream":null,"#,
        r#""stream":false,"stream_options":{"include_usage":false},"#,
    ] {
        let body = format!("{{{options}\"model\":\"gpt-5.4\",\"messages\":[]}}");
        let mut client = world.post(&body).await;
        let (mut call, received) = upstream.call().await;
        assert_eq!(String::from_utf8_lossy(&received.body), body);
        call.answer("200 OK", "content-type: application/json\r\n", json).await;
        let answer = client.answer().await;
        assert_eq!(answer.text(), json);
        assert_eq!(world.row(answer.event_id()).await.total_tokens, 7);
    }
    world.finish().await;
}

/// An upstream that does not know the option is asked again without it, and is not asked any more.
#[tokio::test]
async fn an_upstream_that_refuses_the_option_is_remembered() {
    let upstream = Upstream::start().await;
    let world = before(&upstream).start().await;
    let mut client = world.post(ASK).await;
    let (mut call, received) = upstream.call().await;
    assert!(String::from_utf8_lossy(&received.body).contains("include_usage"));
    let json = "content-type: application/json\r\n";
    call.answer("400 Bad Request", json, r#"{"error":{"message":"stream_options?"}}"#).await;
    let (mut call, received) = upstream.call().await;
    assert_eq!(String::from_utf8_lossy(&received.body), ASK, "the client's own bytes");
    tell(&mut call, &ANSWER).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (200, &*ANSWER.concat()));
    let row = world.row(answer.event_id()).await;
    assert_eq!((row.attempts, row.flags), (2, vec!["usage_option_refused".to_owned()]));
    let (received, _) = exchange(&world, &upstream, ASK).await;
    assert_eq!(String::from_utf8_lossy(&received.body), ASK);
    world.finish().await;
}

/// One that has ever accepted it means something else with a 400.
#[tokio::test]
async fn an_upstream_that_knows_the_option_is_asked_once() {
    let upstream = Upstream::start().await;
    let world = before(&upstream).start().await;
    exchange(&world, &upstream, ASK).await;
    let mut client = world.post(ASK).await;
    let (mut call, _) = upstream.call().await;
    let error = r#"{"error":{"message":"no"}}"#;
    call.answer("400 Bad Request", "content-type: application/json\r\n", error).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (400, error));
    assert_eq!(world.row(answer.event_id()).await.attempts, 1);
    world.finish().await;
}

/// The same for every dialect that the simulator speaks, both ways of asking.
#[tokio::test]
async fn no_dialect_shows_usage_that_nobody_asked_for() {
    let options = Options { answer_tokens: Some(12), ..Options::default() };
    let simulator = simulator::start(options).await.expect("a free port");
    let base_url = format!("\"{}\"", simulator.base_url());
    let world = World::builder().set("upstream.base_url", base_url).start().await;
    let body = |ask: &str| ask.replace("[]", r#"[{"role":"user","content":"Hi"}]"#);
    for dialect in ["openai", "azure", "litellm", "ollama", "llamacpp", "openrouter"] {
        let mut contents = Vec::new();
        for ask in [ASK, ASK_USAGE] {
            let headers = format!("x-sim-dialect: {dialect}\r\n");
            let path = "/v1/chat/completions";
            let raw = crate::world::request("POST", path, &world.key, &headers, &body(ask));
            let mut client = world.connect().await;
            client.send(raw.as_bytes()).await;
            let answer = client.answer().await;
            let chunks = chunks(answer.text());
            let stated = chunks.iter().filter(|chunk| chunk["usage"].is_object()).count();
            let expected = usize::from(ask == ASK_USAGE);
            assert_eq!(stated, expected, "{dialect} {ask}: {}", answer.text());
            let row = world.row(answer.event_id()).await;
            assert_eq!((row.output_tokens, &*row.usage_source), (12, "reported"), "{dialect}");
            contents.push(chunks.iter().map(content).collect::<String>());
        }
        assert!(!contents[0].is_empty() && contents[0] == contents[1], "{dialect}: {contents:?}");
    }
    world.finish().await;
    simulator.shutdown().await;
}

fn chunks(stream: &str) -> Vec<Value> {
    let events = stream.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
    let documents = events.filter(|data| *data != "[DONE]");
    documents.map(|data| serde_json::from_str(data).expect(data)).collect()
}

fn content(chunk: &Value) -> String {
    chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_model_goes_by_its_public_name() {
    let upstream = Upstream::start().await;
    let models = r#"[{ name = "public", upstream_name = "up\"stream-2026" }, "gpt-5.4"]"#;
    let world = before(&upstream).set("upstream.models", models).start().await;
    let there = r#""up\"stream-2026""#;
    for asked in [r#""public""#, r#""p\u0075blic""#] {
        // A document: only the top-level name is Weir's business.
        let body =
            format!(r#"{{ "messages":["public",{{"model":"public"}}], "model" : {asked} }}"#);
        let mut client = world.post(&body).await;
        let (mut call, received) = upstream.call().await;
        let expected = body.replacen(&format!(": {asked}"), &format!(": {there}"), 1);
        assert_eq!(String::from_utf8_lossy(&received.body), expected);
        let usage = r#""usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}"#;
        let told = |name: &str| format!(r#"{{"x":{{"model":{there}}}, "model": {name},{usage}}}"#);
        call.answer("200 OK", "content-type: application/json\r\n", &told(there)).await;
        let answer = client.answer().await;
        assert_eq!(answer.text(), told(r#""public""#));
        let row = world.row(answer.event_id()).await;
        assert_eq!(
            (&*row.model, row.model_served.as_deref()),
            ("public", Some(r#"up"stream-2026"#))
        );
        assert_eq!(row.total_tokens, 3);
    }
    for options in ["", r#""stream_options":{"include_usage":true},"#] {
        // A stream: in every event, usage hidden or not.
        let body = format!(r#"{{"model":"public",{options}"stream":true}}"#);
        let mut client = world.post(&body).await;
        let (mut call, received) = upstream.call().await;
        let expected = body.replace(r#""public""#, there);
        assert!(String::from_utf8_lossy(&received.body).ends_with(&expected[1..]));
        let events: Vec<_> = ANSWER
            .iter()
            .map(|event| event.replace(r#"{"choices"#, r#"{"model":"gpt-5.4","choices"#))
            .collect();
        let theirs: Vec<_> = events.iter().map(|it| it.replace(r#""gpt-5.4""#, there)).collect();
        tell(&mut call, &theirs.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let answer = client.answer().await;
        let mut ours = events.concat().replace("gpt-5.4", "public");
        if options.is_empty() {
            ours = ours.replace(",\"usage\":null", "");
            let usage =
                ours.find("data: {\"model\":\"public\",\"choices\":[],").expect("it is there");
            let done = ours.find("data: [DONE]").expect("it is there");
            ours.replace_range(usage..done, "");
        }
        assert_eq!(answer.text(), ours);
    }
    // A model that has one name is not touched.
    exchange(&world, &upstream, ASK).await;
    world.finish().await;
}
