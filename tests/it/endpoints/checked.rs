//! What was checked is what is forwarded: requests that another reader would take for others are refused,
//! and what goes upstream says nothing that was not looked at.

use crate::harness::{MODEL, Upstream, World};
use crate::traffic::simulated;

use super::ask;
use super::samples::post;

const JSON: &str = "application/json";
const CHAT: &str = "/v1/chat/completions";
const FORM: &str = "multipart/form-data; boundary=B";

fn part(name: &str, value: &str) -> String {
    format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

/// The body of an image edit whose form has these parts, and is of this model.
fn form(parts: &str) -> String {
    format!("{}{parts}--B--\r\n", part("model", MODEL))
}

/// A chat with further fields.
fn chat(more: &str) -> String {
    format!(r#"{{"model":"{MODEL}","messages":[]{more}}}"#)
}

#[tokio::test]
async fn what_readers_take_differently_is_refused() {
    let (simulator, builder) = simulated().await;
    let world = builder.start().await;
    let edits = "/v1/images/edits";
    let twice = format!("{JSON}\r\ncontent-type: text/plain");
    let preamble = format!("{{\"model\":\"expensive\"}}\r\n{}", form(""));
    let line_feeds = format!("x\n--B\n{}", form(""));
    let not_allowed = "is not allowed by the operator of this gateway";
    // Target, content type, body, what the message says.
    for (target, kind, body, message) in [
        ("/v1/chat/completions?model=expensive", JSON, chat(""), "`model` decides"),
        ("/v1/chat/completions?a=b;m%6Fdel=expensive", JSON, chat(""), "`model` decides"),
        ("/v1/images/edits?n=10", FORM, form(""), "`n` decides"),
        ("/v1/chat/completions?models=expensive", JSON, chat(""), "`models`"),
        (CHAT, JSON, chat(r#","Model":"expensive""#), "differs from `model`"),
        (CHAT, JSON, chat(r#","max_to\u212aens":9"#), "differs from `max_tokens`"),
        (CHAT, JSON, chat(r#","mod\u0065l":"expensive""#), "Duplicate key `model`"),
        (CHAT, JSON, chat(r#","fallbacks":["expensive"]"#), not_allowed),
        (CHAT, JSON, chat(r#","MODELS":["expensive"]"#), not_allowed),
        (CHAT, JSON, chat(r#","mock_response":"x""#), "`mock_*`"),
        (CHAT, JSON, chat(r#","extra_body":{"model":"expensive"}"#), "`extra_body`"),
        ("/v1/responses", JSON, chat(r#","background":true"#), "`background`"),
        (CHAT, JSON, chat(r#","stream_options":{"include_usage":"true"}"#), "must be a boolean"),
        (CHAT, &twice, chat(""), "one content type"),
        (edits, FORM, form(&part("Model", "expensive")), "differs from `model`"),
        (edits, FORM, form(&part("model[]", "expensive")), "differs from `model`"),
        (edits, FORM, form(&part("fallbacks", "expensive")), "`fallbacks`"),
        (edits, FORM, preamble, "begins with its delimiter"),
        (edits, FORM, line_feeds, "begins with its delimiter"),
        (edits, FORM, form(&part("a", "x\n--B\n")), "after CRLF"),
    ] {
        let answer = ask(&world, &post(target, &world.key, kind, "", body.as_bytes())).await;
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status, &error["code"]), (400, &"invalid_request".into()), "{body}");
        let text = error["message"].as_str().expect("a text");
        assert!(text.contains(message), "{target} {body}: {text}");
    }
    assert_eq!(simulator.counts().requests, 0);
    world.finish().await;
    simulator.shutdown().await;
}

/// Whatever the client calls its body, it goes on as what it was read as, and of the query only what is listed.
#[tokio::test]
async fn a_body_goes_on_as_what_it_was_read_as() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let urlencoded = "application/x-www-form-urlencoded";
    let charset = "multipart/form-data; boundary=\"B\"; charset=utf-7";
    for (target, kind, headers, body, sent_target, sent_kind) in [
        (CHAT, JSON, "", chat(""), CHAT, JSON),
        (CHAT, "text/plain; charset=utf-16", "", chat(""), CHAT, JSON),
        (CHAT, urlencoded, "", chat(r#","z":"&model=expensive&""#), CHAT, JSON),
        (CHAT, "", "connection: content-type\r\n", chat(""), CHAT, JSON),
        ("/v1/images/edits", charset, "", form(""), "/v1/images/edits", FORM),
        (
            "/v1/messages?beta=true&x=1&api-version=2",
            JSON,
            "",
            chat(""),
            "/v1/messages?beta=true&api-version=2",
            JSON,
        ),
        ("/v1/messages?x=1", JSON, "", chat(""), "/v1/messages", JSON),
    ] {
        let mut client = world.connect().await;
        client.send(&post(target, &world.key, kind, headers, body.as_bytes())).await;
        let (mut call, received) = upstream.call().await;
        assert_eq!(received.head.first, format!("POST {sent_target} HTTP/1.1"));
        let sent = received.head.raw.lines().filter(|line| line.starts_with("content-type"));
        let sent: Vec<_> = sent.collect();
        assert_eq!(sent, [format!("content-type: {sent_kind}")], "{kind}");
        assert_eq!(received.body, body.as_bytes());
        call.answer("200 OK", "content-type: application/json\r\n", "{}").await;
        assert_eq!(client.answer().await.status, 200);
    }
    world.finish().await;
}

/// The lists are the upstream's, and each replaces its default.
#[tokio::test]
async fn an_operator_lets_pass_what_the_lists_say() {
    let upstream = Upstream::start().await;
    let builder = World::before(&upstream)
        .set("upstream.allow_query", r#"["trace"]"#)
        .set("upstream.refuse_fields", r#"["service_tier", "web_*"]"#)
        .set("upstream.allow_background", true);
    let world = builder.start().await;
    for (more, is_refused) in [
        (r#","models":["other"],"background":true"#, false),
        (r#","service_tier":"priority""#, true),
        (r#","web_search_options":{}"#, true),
    ] {
        let body = chat(more);
        let mut client = world.connect().await;
        let target = format!("{CHAT}?trace=1&beta=1");
        client.send(&post(&target, &world.key, JSON, "", body.as_bytes())).await;
        if !is_refused {
            let (mut call, received) = upstream.call().await;
            assert_eq!(received.head.first, format!("POST {CHAT}?trace=1 HTTP/1.1"));
            assert_eq!(received.body, body.as_bytes());
            call.answer("200 OK", "content-type: application/json\r\n", "{}").await;
        }
        let answer = client.answer().await;
        assert_eq!(answer.status, if is_refused { 400 } else { 200 }, "{more}");
    }
    world.finish().await;
}
