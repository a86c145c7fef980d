//! Compressed bodies and forms: decoded, searched, renamed, and refused where they are not sound.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

use super::ask;
use super::samples::{form, form_type, post, sample};
use crate::harness::{MODEL, Upstream, World, eventually};
use crate::http::assert_own_error;
use crate::traffic::{CHAT, simulated};

const BODY: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/codings/body.json"));
const BODY_BR: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/codings/body.json.br"));
/// 64 MiB of spaces.
const BOMB_BR: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/codings/bomb.br"));
const JSON: &str = "application/json";

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).and_then(|()| encoder.finish()).expect("a Vec takes it")
}

fn zlib(body: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).and_then(|()| encoder.finish()).expect("a Vec takes it")
}

fn deflate(body: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).and_then(|()| encoder.finish()).expect("a Vec takes it")
}

fn zstd(body: &[u8]) -> Vec<u8> {
    zstd::encode_all(body, 3).expect("a Vec takes it")
}

#[tokio::test]
async fn compressed_bodies_go_on_as_they_were_before() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let codings = [
        ("gzip", gzip(BODY)),
        ("x-gzip", gzip(BODY)),
        ("deflate", zlib(BODY)),
        ("deflate", deflate(BODY)),
        ("br", BODY_BR.to_vec()),
        ("ZSTD", zstd(BODY)),
        ("identity", BODY.to_vec()),
    ];
    for (coding, body) in codings {
        let headers = format!("content-encoding: {coding}\r\n");
        let mut client = world.connect().await;
        let request = post(CHAT, &world.key, JSON, &headers, &body);
        // The body arrives byte by byte, so that every state is left and entered.
        let (head, body) = request.split_at(request.len() - body.len());
        client.send(head).await;
        for byte in body.chunks(1) {
            client.send(byte).await;
        }
        let (mut call, received) = upstream.call().await;
        assert_eq!(received.body, BODY, "{coding}");
        assert_eq!(received.head.header("content-encoding"), None);
        assert_eq!(received.head.header("content-length"), Some(&*BODY.len().to_string()));
        call.answer("200 OK", "content-type: application/json\r\n", "{}").await;
        assert_eq!(client.answer().await.status, 200, "{coding}");
    }
    // A form, too.
    let body = form(&[("model", MODEL)], "file");
    let mut client = world.connect().await;
    let headers = "content-encoding: zstd\r\n";
    let path = "/v1/audio/transcriptions";
    client.send(&post(path, &world.key, &form_type(), headers, &zstd(&body))).await;
    let (mut call, received) = upstream.call().await;
    assert_eq!(received.body, body);
    call.answer("200 OK", "content-type: application/json\r\n", "{}").await;
    assert_eq!(client.answer().await.status, 200);
    world.finish().await;
}

#[tokio::test]
async fn what_does_not_decode_is_refused_and_a_bomb_does_not_go_off() {
    let (simulator, builder) = simulated().await;
    let world = builder.set("server.max_body_bytes", 1 << 20).start().await;
    let held = || world.place.rows().is_empty().then_some(());
    let spaces = vec![b' '; 64 << 20];
    let bombs = [
        ("gzip", gzip(&spaces)),
        ("deflate", deflate(&spaces)),
        ("br", BOMB_BR.to_vec()),
        ("zstd", zstd(&spaces)),
        // Nothing at all, at any length: empty members.
        ("gzip", gzip(b"").repeat(60_000)),
    ];
    drop(spaces);
    for (coding, bomb) in bombs {
        let headers = format!("content-encoding: {coding}\r\n");
        let answer = ask(&world, &post(CHAT, &world.key, JSON, &headers, &bomb)).await;
        assert_own_error(&answer, 413, "invalid_request_error", "request_too_large");
    }
    for (coding, body) in [
        ("gzip", &b"{}"[..]),
        ("gzip", b""),
        ("gzip", &gzip(BODY)[..40]),
        ("deflate", b"\xff\xff\xff"),
        ("deflate", &deflate(BODY)[..40]),
        ("br", b"\xff\xff\xff"),
        ("br", &BODY_BR[..40]),
        ("zstd", b"{}"),
        ("zstd", &zstd(BODY)[..40]),
        ("br", &gzip(BODY)),
    ] {
        let headers = format!("content-encoding: {coding}\r\n");
        let answer = ask(&world, &post(CHAT, &world.key, JSON, &headers, body)).await;
        assert_own_error(&answer, 400, "invalid_request_error", "invalid_request");
    }
    for headers in [
        "content-encoding: compress\r\n",
        "content-encoding: gzip, br\r\n",
        "content-encoding: gzip\r\ncontent-encoding: gzip\r\n",
        "content-encoding: aws-chunked\r\n",
    ] {
        let answer = ask(&world, &post(CHAT, &world.key, JSON, headers, &gzip(BODY))).await;
        assert_own_error(&answer, 415, "invalid_request_error", "unsupported_media_type");
    }
    eventually("nothing was recorded", held).await;
    assert_eq!(simulator.counts().requests, 0);
    let headers = "content-encoding: br\r\n";
    assert_eq!(ask(&world, &post(CHAT, &world.key, JSON, headers, BODY_BR)).await.status, 200);
    world.finish().await;
    simulator.shutdown().await;
}

#[tokio::test]
async fn decoded_bytes_count_as_in_flight() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream)
        .set("server.max_body_bytes", 100_000)
        // The decoder counts as well, for as long as it is there.
        .set("server.max_inflight_body_bytes", 250_000)
        .start()
        .await;
    let body = format!(r#"{{"model":"{MODEL}","messages":[],"seen":"{}"}}"#, " ".repeat(90_000));
    let request =
        post(CHAT, &world.key, JSON, "content-encoding: gzip\r\n", &gzip(body.as_bytes()));
    let mut first = world.connect().await;
    first.send(&request).await;
    let (mut call, received) = upstream.call().await;
    assert_eq!(received.body, body.as_bytes());
    let refused = ask(&world, &request).await;
    assert_own_error(&refused, 503, "server_error", "overloaded");
    call.answer("200 OK", "content-type: application/json\r\n", "{}").await;
    assert_eq!(first.answer().await.status, 200);
    world.finish().await;
}

#[tokio::test]
async fn a_forms_model_is_renamed_in_its_place() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream)
        .set("upstream.models", r#"[{ name = "ears", upstream_name = "whisper/large:3" }]"#)
        .start()
        .await;
    let body = form(&[("model", "ears"), ("language", "de")], "file");
    let expected = form(&[("model", "whisper/large:3"), ("language", "de")], "file");
    let mut client = world.connect().await;
    let path = "/v1/audio/transcriptions";
    client.send(&post(path, &world.key, &form_type(), "", &body)).await;
    let (mut call, received) = upstream.call().await;
    assert_eq!(received.body, expected);
    call.answer("200 OK", "content-type: application/json\r\n", r#"{"text":"a"}"#).await;
    let row = world.row(client.answer().await.event_id()).await;
    assert_eq!((&*row.model, &*row.endpoint), ("ears", path));
    world.finish().await;
}

#[tokio::test]
async fn unsound_forms_are_refused() {
    let (simulator, builder) = simulated().await;
    let world = builder.start().await;
    let path = "/v1/images/edits";
    let good = sample(path).body;
    let twice = form(&[("model", MODEL), ("model", MODEL)], "image");
    for (content_type, body) in [
        ("multipart/form-data".to_owned(), good.clone()),
        ("multipart/form-data; boundary=other".to_owned(), good.clone()),
        (form_type(), good[..good.len() - 4].to_vec()),
        (form_type(), b"{}".to_vec()),
        (form_type(), Vec::new()),
        (form_type(), twice),
        (form_type(), form(&[("prompt", "a")], "image")),
        (form_type(), form(&[("model", MODEL), ("n", "two")], "image")),
        ("application/x-www-form-urlencoded".to_owned(), b"model=gpt-5.4".to_vec()),
    ] {
        let answer = ask(&world, &post(path, &world.key, &content_type, "", &body)).await;
        assert_own_error(&answer, 400, "invalid_request_error", "invalid_request");
    }
    let types = "content-type: application/json\r\n";
    let answer = ask(&world, &post(path, &world.key, &form_type(), types, &good)).await;
    assert_own_error(&answer, 400, "invalid_request_error", "invalid_request");
    assert_eq!(simulator.counts().requests, 0);
    // Where no form is taken, a form is no JSON.
    let answer = ask(&world, &post(CHAT, &world.key, &form_type(), "", &good)).await;
    assert_own_error(&answer, 400, "invalid_request_error", "invalid_request");
    world.finish().await;
    simulator.shutdown().await;
}
