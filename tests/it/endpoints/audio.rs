//! What is heard and what is read out: forms with fields of all kinds, and transcripts under types that are
//! not theirs.

use super::samples::post;
use crate::harness::{MODEL, Row, Upstream, World};

const PATH: &str = "/v1/audio/transcriptions";
const FORM: &str = "multipart/form-data; boundary=B";
/// Without a bound so much output is reserved.
const DEFAULT: u64 = 1024;

fn part(name: &str, value: &str) -> String {
    format!("--B\r\nContent-Disposition: form-data; name={name}\r\n\r\n{value}\r\n")
}

/// A form of these fields, with a tenth of a second of sound.
fn form(fields: &[(&str, &str)]) -> String {
    let sound = part("file; filename=a", &"~".repeat(100));
    let fields: String = fields.iter().map(|(name, value)| part(name, value)).collect();
    format!("{sound}{fields}{}--B--\r\n", part("model", MODEL))
}

/// Sends `body`; the upstream answers with these pieces under this type. What the client got, and the row.
async fn heard(
    world: &World,
    upstream: &Upstream,
    body: &str,
    content_type: &str,
    pieces: &[&str],
) -> (String, Row) {
    let mut client = world.connect().await;
    client.send(&post(PATH, &world.key, FORM, "", body.as_bytes())).await;
    let (mut call, received) = upstream.call().await;
    assert_eq!(received.body, body.as_bytes());
    call.ok(&format!("transfer-encoding: chunked\r\ncontent-type: {content_type}\r\n")).await;
    for piece in pieces {
        call.chunk(piece).await;
    }
    call.chunk("").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.is_whole), (200, true));
    assert_eq!(answer.header("content-type"), Some(content_type));
    (answer.text().to_owned(), world.row(answer.event_id()).await)
}

fn before(upstream: &Upstream) -> crate::harness::Builder {
    World::before(upstream).set("upstream.pool_max_idle", 0)
}

/// whisper.cpp's server calls a transcript in plain text HTML.
#[tokio::test]
async fn a_transcript_is_text_whatever_its_type_says() {
    let upstream = Upstream::start().await;
    let world = before(&upstream).start().await;
    for content_type in ["text/html; charset=utf-8", "text/html", "text/plain"] {
        for (pieces, output) in [
            (&[" Thank you.\n"][..], 3),
            (&["<", "|0.00|>Thanks"], 4),
            (&["<", "unk> a"], 2),
            (&["<!doc", "ument"], 3),
            (&["<ht"], 1),
            (&["[Music]"], 2),
        ] {
            let body = form(&[("response_format", "text")]);
            let (text, row) = heard(&world, &upstream, &body, content_type, pieces).await;
            let how = format!("{content_type}: {pieces:?}");
            assert_eq!(text, pieces.concat(), "{how}");
            assert_eq!((&*row.end, &*row.usage_source), ("complete", "estimated"), "{how}");
            assert_eq!(row.output_tokens, output, "{how}");
        }
    }
    // What stands before the model has answered.
    for pieces in [&["<!DOCTYPE html><p>"][..], &["\n<", "HTML>"], &["<!doctype ", "html>"]] {
        let (_, row) = heard(&world, &upstream, &form(&[]), "text/html", pieces).await;
        assert_eq!(row.end, "upstream_error", "{pieces:?}");
    }
    // A stream that was asked for.
    let done = "data: {\"type\":\"transcript.text.done\",\"text\":\"a\",\"usage\":{\"type\":\"tokens\",                \"input_tokens\":3,\"output_tokens\":4,\"total_tokens\":7}}\n\n";
    for stream in ["true", "y", "Yes", "ON", "1", "t"] {
        let body = form(&[("stream", stream)]);
        let (text, row) = heard(&world, &upstream, &body, "text/html", &[done]).await;
        assert_eq!(text, done);
        let found = (&*row.end, &*row.usage_source, row.total_tokens, row.streamed);
        assert_eq!(found, ("complete", "reported", 7, true), "{stream}");
    }
    world.finish().await;
}

/// No field is free, and a bound that a server may obey is reserved.
#[tokio::test]
async fn the_fields_of_a_form_are_reserved() {
    let upstream = Upstream::start().await;
    let world = before(&upstream).start().await;
    let words = "word ".repeat(8_000);
    let voice = format!("data:audio/mpeg;base64,{}", "A".repeat(40_000));
    // So much input beside the sound's, and so much output.
    for (name, value, input, output) in [
        ("language", "de", 1, DEFAULT),
        ("hotwords", &*words, 10_000, DEFAULT),
        ("known_speaker_references[]", &*voice, 300, DEFAULT),
        ("max_completion_tokens", "50000", 0, 50_000),
        ("max_tokens", "50000", 0, 50_000),
        ("max_new_tokens", "5", 0, DEFAULT),
        ("max_tokens", "-1", 0, DEFAULT),
        ("max_tokens", "", 0, DEFAULT),
    ] {
        let body = form(&[(name, value)]);
        let (_, row) = heard(&world, &upstream, &body, "text/plain", &["a"]).await;
        assert_eq!(row.reserved_tokens, 1 + input + output, "{name}");
        assert_eq!((row.input_tokens, row.output_tokens), (1 + input, 1), "{name}");
    }
    for (name, value) in
        [("max_tokens", "5.0"), ("max_tokens", "many"), ("Max_Tokens", "5"), ("max_tokens[]", "5")]
    {
        let body = form(&[(name, value)]);
        let answer = super::ask(&world, &post(PATH, &world.key, FORM, "", body.as_bytes())).await;
        assert_eq!((answer.status, &*answer.code()), (400, "invalid_request"), "{name}={value}");
    }
    world.finish().await;
}
