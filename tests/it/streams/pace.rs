//! Nothing is dammed, and nothing is taken in faster than it is taken out.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};

use super::{ANSWER, ASK, ASK_USAGE, HIDDEN, before};
use crate::harness::{Client, Piece, Upstream, World, eventually, patiently};

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
            let head = client.head().await;
            assert_eq!(head.status(), 200);
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
            // Who has the end mark is in the ledger, whatever the upstream does after it.
            let id = head.header("x-request-id").expect("every answer has an id");
            assert_eq!(world.row(id).await.end, "complete");
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
