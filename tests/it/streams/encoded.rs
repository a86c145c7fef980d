//! Answers that come compressed although Weir asks for them as they are: bytes and `content-encoding` pass,
//! and the usage is read beside them.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{ANSWER, ASK, before};
use crate::harness::{Call, Piece, Upstream, World, request};

const HEAD: &str = "transfer-encoding: chunked\r\ncontent-type: text/event-stream\r\n";

/// Events, each of which can be decoded as soon as its own bytes are there.
fn compressed(events: &[&str]) -> Vec<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let mut pieces = Vec::new();
    for event in events {
        encoder.write_all(event.as_bytes()).expect("a Vec takes all");
        encoder.flush().expect("a Vec takes all");
        pieces.push(std::mem::take(encoder.get_mut()));
    }
    pieces.push(encoder.finish().expect("a Vec takes all"));
    pieces
}

async fn tell(call: &mut Call, coding: &str, pieces: &[Vec<u8>]) {
    call.ok(&format!("{HEAD}content-encoding: {coding}\r\n")).await;
    for piece in pieces {
        call.chunk(piece).await;
    }
    call.chunk("").await;
}

#[tokio::test]
async fn a_compressed_stream_passes_as_it_is_and_is_metered() {
    let upstream = Upstream::start().await;
    let world = before(&upstream).start().await;
    let pieces = compressed(&ANSWER);
    let mut client = world.post(ASK).await;
    let (mut call, received) = upstream.call().await;
    assert_eq!(received.head.header("accept-encoding"), Some("identity"));
    tell(&mut call, "gzip", &pieces).await;
    let answer = client.answer().await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert!(answer.is_whole && answer.body == pieces.concat());
    let row = world.row(answer.event_id()).await;
    assert_eq!((&*row.end, &*row.usage_source, row.total_tokens), ("complete", "reported", 7));
    assert!(row.flags.is_empty(), "{:?}", row.flags);
    world.finish().await;
}

/// No event of ours can be put into it: all that can be told of a stream without an end is the cut.
#[tokio::test]
async fn a_compressed_stream_without_an_end_is_cut() {
    let upstream = Upstream::start().await;
    let world = before(&upstream).start().await;
    let pieces = compressed(&ANSWER[..1]);
    let mut client = world.post(ASK).await;
    let (mut call, _) = upstream.call().await;
    tell(&mut call, "gzip", &pieces).await;
    let answer = client.answer().await;
    assert!(!answer.is_whole && answer.body == pieces.concat());
    assert_eq!(world.row(answer.event_id()).await.end, "upstream_truncated");
    world.finish().await;
}

/// It has used up its quota, which cannot be told in it: it is cut all the same.
#[tokio::test]
async fn a_compressed_stream_is_cut_where_its_quota_ends() {
    let upstream = Upstream::start().await;
    let world = before(&upstream).start().await;
    let ask = ASK.replacen('{', "{\"max_tokens\":100,", 1);
    let text = "word".repeat(100);
    let event = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    for (options, events) in [(&["--cut", "--daily-tokens", "1000"][..], 10), (&["--cut"], 20)] {
        let key = world.new_key(options).await;
        let pieces = compressed(&vec![&*event; 20]);
        let mut client = world.connect().await;
        let request = request("POST", "/v1/chat/completions", &key, "", &ask);
        client.send(request.as_bytes()).await;
        let (mut call, _) = upstream.call().await;
        call.ok(&format!("{HEAD}content-encoding: gzip\r\n")).await;
        let id = client.head().await.header("x-request-id").expect("an id").to_owned();
        for piece in &pieces[..events] {
            call.chunk(piece).await;
            let Piece::Data(data) = client.piece().await else { panic!("cut too early") };
            assert_eq!(&data, piece);
        }
        if events < 20 {
            assert_eq!(client.rest().await, (Vec::new(), false), "nothing but the cut");
            call.closed().await;
            let row = world.row(&id).await;
            assert_eq!((&*row.end, &*row.usage_source), ("quota_cut", "estimated"));
            assert_eq!(row.output_tokens, 1000);
        }
    }
    world.finish().await;
}

#[tokio::test]
async fn what_cannot_be_decoded_passes_and_is_marked() {
    let upstream = Upstream::start().await;
    let world: World = before(&upstream).start().await;
    let plain: Vec<_> = ANSWER.iter().map(|event| event.as_bytes().to_vec()).collect();
    for coding in ["br", "gzip"] {
        let mut client = world.post(ASK).await;
        let (mut call, _) = upstream.call().await;
        tell(&mut call, coding, &plain).await;
        let answer = client.answer().await;
        assert!(answer.is_whole && answer.body == plain.concat());
        let row = world.row(answer.event_id()).await;
        assert_eq!((&*row.end, &*row.usage_source), ("complete", "estimated"), "{coding}");
        assert_eq!(row.flags, ["reserved", "encoded"], "{coding}");
    }
    world.finish().await;
}
