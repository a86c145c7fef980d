//! Streams under another content type than theirs, as servers between Weir and the model send them: the
//! type passes as it is, and the first bytes say how the answer is read.

use super::{ANSWER, ASK, HIDDEN, before};
use crate::harness::{Received, Upstream, World};

const NONE: &[&str] = &[];
const CHUNKED: &str = "transfer-encoding: chunked\r\n";
const TYPES: [Option<&str>; 6] = [
    None,
    Some("text/plain; charset=utf-8"),
    Some("application/json"),
    Some("text/html"),
    Some("application/octet-stream"),
    Some("*/*"),
];
const BODY: &str = r#"{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;

/// Sends `ask`; the upstream answers with these pieces under this type. What the client got, and whether
/// all of it.
async fn told(
    world: &World,
    upstream: &Upstream,
    ask: &str,
    content_type: Option<&str>,
    pieces: &[&str],
) -> (String, bool, crate::harness::Row) {
    let mut client = world.post(ask).await;
    let (mut call, _): (_, Received) = upstream.call().await;
    let line = content_type.map(|it| format!("content-type: {it}\r\n")).unwrap_or_default();
    call.ok(&format!("{CHUNKED}{line}")).await;
    for piece in pieces {
        call.chunk(piece).await;
    }
    call.chunk("").await;
    let answer = client.answer().await;
    assert_eq!(answer.header("content-type"), content_type);
    let row = world.row(answer.event_id()).await;
    (answer.text().to_owned(), answer.is_whole, row)
}

#[tokio::test]
async fn a_stream_is_read_by_its_first_bytes() {
    let upstream = Upstream::start().await;
    let world = before(&upstream).start().await;
    let whole = ANSWER.concat();
    for content_type in TYPES {
        // Where too little has come to tell, it waits for more.
        for cut in [0, 1, 4, 5, 60] {
            let (left, right) = whole.split_at(cut);
            let pieces: Vec<_> = [left, right].into_iter().filter(|it| !it.is_empty()).collect();
            let (text, is_whole, row) = told(&world, &upstream, ASK, content_type, &pieces).await;
            assert_eq!((&*text, is_whole), (HIDDEN, true), "{content_type:?} cut at {cut}");
            assert_eq!(
                (&*row.end, &*row.usage_source, row.total_tokens),
                ("complete", "reported", 7)
            );
        }
        let (text, is_whole, row) = told(&world, &upstream, ASK, content_type, &ANSWER[..1]).await;
        assert!(!is_whole && text.contains("upstream_truncated"), "{content_type:?}: {text}");
        assert_eq!(row.end, "upstream_truncated");
    }
    world.finish().await;
}

#[tokio::test]
async fn what_is_no_stream_is_read_as_what_it_is() {
    let upstream = Upstream::start().await;
    let world = before(&upstream).start().await;
    for content_type in TYPES {
        for (pieces, end, source, flags) in [
            (&["\n", BODY][..], "complete", "reported", NONE),
            (&[r#"{"error":{"message":"no"}}"#], "upstream_error", "estimated", NONE),
            (&["<!DOCTYPE html><html>"], "upstream_error", "estimated", NONE),
            (&["\n", "  <html>"], "upstream_error", "estimated", NONE),
        ] {
            let (text, is_whole, row) = told(&world, &upstream, ASK, content_type, pieces).await;
            let how = format!("{content_type:?}: {pieces:?}");
            assert_eq!((text, is_whole), (pieces.concat(), true), "{how}");
            assert_eq!((&*row.end, &*row.usage_source), (end, source), "{how}");
            assert_eq!(row.flags, flags, "{how}");
        }
    }
    // Little that tells nothing, and nothing at all.
    for (content_type, pieces, end, flags) in [
        (Some("text/plain"), &["d"][..], "complete", NONE),
        (Some("text/plain"), &[], "complete", &["reserved", "no_answer"]),
        (Some("application/json"), &[], "complete", &["reserved", "no_answer"]),
        (None, &[], "complete", &["reserved", "no_answer"]),
        (Some("text/event-stream"), &["data: [DONE]\n\n"], "complete", &["reserved", "no_answer"]),
        (Some("text/event-stream"), &[], "upstream_truncated", &["reserved"]),
    ] {
        let (_, _, row) = told(&world, &upstream, ASK, content_type, pieces).await;
        assert_eq!(row.end, end, "{content_type:?}: {pieces:?}");
        assert_eq!(row.flags, flags, "{content_type:?}: {pieces:?}");
    }
    world.finish().await;
}

#[tokio::test]
async fn what_was_not_asked_for_as_a_stream_counts_whatever_its_type_says() {
    const PLAIN: &str = r#"{"model":"gpt-5.4","messages":[]}"#;
    let upstream = Upstream::start().await;
    let world = before(&upstream).start().await;
    let stream = ANSWER.concat();
    let doubled = Some("application/json, application/json");
    let types = TYPES.into_iter().filter(|it| *it != Some("application/json"));
    for content_type in types.chain([doubled, Some("text/json")]) {
        for pieces in [&[BODY][..], &["\n", BODY], &[&stream]] {
            let (text, is_whole, row) = told(&world, &upstream, PLAIN, content_type, pieces).await;
            let how = format!("{content_type:?}: {pieces:?}");
            assert_eq!((text, is_whole), (pieces.concat(), true), "{how}");
            let found = (&*row.end, &*row.usage_source, row.total_tokens);
            assert_eq!(found, ("complete", "reported", 7), "{how}");
            assert_eq!(row.flags, NONE, "{how}");
        }
        // An object that is open where the chunks end.
        let (_, is_whole, row) = told(&world, &upstream, PLAIN, content_type, &[&BODY[..40]]).await;
        assert!(!is_whole, "{content_type:?}");
        assert_eq!(row.end, "upstream_truncated", "{content_type:?}");
    }
    // What is in no form that is known.
    let unknown = Some("application/octet-stream");
    let (_, _, row) = told(&world, &upstream, PLAIN, unknown, &[&"?".repeat(400)]).await;
    // Nobody can tell what it was, so it may have been all that was reserved.
    assert_eq!((&*row.usage_source, row.output_tokens), ("estimated", 1024));
    assert_eq!(row.flags, ["reserved", "unread"]);
    world.finish().await;
}
