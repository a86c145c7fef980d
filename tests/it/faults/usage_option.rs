//! Weir asks streams for their usage. An upstream that refuses the request for it gets the client's own
//! bytes, and its model is not asked for some minutes, once it is sure that it was the option.

use weir::clock::Clock;
use weir::server::Environment;

use super::{Booked, CHAT, DELTA, DONE, FINISH, JSON, STATED, STREAM, Tokens, USAGE};
use super::{assert_passed, assert_refused};
use crate::harness::{Answer, Builder, Call, Client, Upstream, World, request};

/// It does not say what is wrong.
const REFUSAL: &str =
    r#"{"error":{"message":"Unknown field.","type":"invalid_request_error","code":"x"}}"#;
const NAMED: &str = r#"{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"]}]}"#;
const ANOTHER: &str =
    r#"{"error":{"message":"Too hot.","type":"invalid_request_error","param":"temperature"}}"#;
const OPTION: &str = r#""stream_options":{"include_usage":true}"#;
const BAD: &str = "400 Bad Request";
const COMPLETIONS: &str = "/v1/completions";
/// What an option that was refused is not asked for.
const REMEMBERED_MS: u64 = 5 * 60_000;

/// Whether a request asks for usage; otherwise it is the client's.
fn asks(body: Vec<u8>) -> bool {
    let body = String::from_utf8(body).expect("it is JSON");
    let plain = body.replace(&format!("{OPTION},"), "");
    assert!(plain.contains("\"stream\":true") && !plain.contains("stream_options"), "{plain}");
    plain != body
}

async fn asked(call: &mut Call) -> bool {
    asks(call.receive().await.body)
}

async fn refuse(call: &mut Call, status: &str) {
    call.answer(status, JSON, REFUSAL).await;
}

async fn stream(call: &mut Call, events: &[&str]) {
    call.stream().await;
    call.chunk(events.concat()).await;
    call.chunk("").await;
}

/// A gateway that makes a connection for each attempt.
fn before(upstream: &Upstream) -> Builder {
    World::before(upstream).set("upstream.pool_max_idle", 0)
}

/// Sends a stream request; the upstream's connection for it.
async fn post(world: &World, upstream: &Upstream) -> (Client, Call) {
    (world.post(STREAM).await, upstream.accept().await)
}

async fn check(world: &World, answer: &Answer, booked: Booked) {
    booked.check(&world.row(answer.event_id()).await);
}

/// One stream of a model at a path: with the option it is refused by `refusal`, if there is one. Whether
/// it was asked with it at all.
async fn once(
    world: &World,
    upstream: &Upstream,
    (path, model): (&str, &str),
    refusal: Option<&str>,
) -> bool {
    let mut client = world.connect().await;
    let body = STREAM.replace("gpt-5.4", model);
    client.send(request("POST", path, &world.key, "", &body).as_bytes()).await;
    let (mut call, received) = upstream.call().await;
    let (is_asked, mut events) = (asks(received.body), vec![DELTA, FINISH, DONE]);
    match refusal.filter(|_| is_asked) {
        Some(refusal) => {
            call.answer(BAD, JSON, refusal).await;
            call = upstream.accept().await;
            assert!(!asked(&mut call).await);
        }
        None if is_asked => events.insert(2, USAGE),
        None => {}
    }
    stream(&mut call, &events).await;
    let answer = client.answer().await;
    assert_passed(&answer, 200, &[DELTA, FINISH, DONE].concat());
    let is_without = !is_asked || refusal.is_some();
    let row = world.row(answer.event_id()).await;
    let attempts = 1 + u32::from(is_asked && refusal.is_some());
    let is_flagged = row.flags.iter().any(|flag| flag == "usage_option_refused");
    assert_eq!((row.attempts, is_flagged), (attempts, is_without), "{row:#?}");
    is_asked
}

#[tokio::test]
async fn a_refusal_that_names_the_option_is_believed_for_some_minutes() {
    for status in [BAD, "422 Unprocessable Content"] {
        let upstream = Upstream::start().await;
        let (clock, hand) = Clock::manual(1_780_470_861_000);
        let environment = Environment { clock, ..Environment::default() };
        let world = World::before(&upstream).environment(environment).start().await;
        let (mut client, mut call) = post(&world, &upstream).await;
        assert!(asked(&mut call).await);
        call.answer(status, JSON, NAMED).await;
        let mut call = upstream.accept().await;
        assert!(!asked(&mut call).await);
        stream(&mut call, &[DELTA, FINISH, DONE]).await;
        let answer = client.answer().await;
        assert_passed(&answer, 200, &[DELTA, FINISH, DONE].concat());
        let without = Booked {
            flags: &["usage_option_refused"],
            ..Booked::ok("complete", Tokens::Estimated(2))
        };
        let again = Booked { attempts: 2, tokens: Tokens::Reserved, ..without };
        check(&world, &answer, again).await;
        // From now on the client's own bytes go at once, and a 400 is about them.
        hand.advance_ms(REMEMBERED_MS - 1);
        client.send(world.chat(STREAM).as_bytes()).await;
        assert!(!asked(&mut call).await);
        stream(&mut call, &[DELTA, FINISH, DONE]).await;
        check(&world, &client.answer().await, without).await;
        client.send(world.chat(STREAM).as_bytes()).await;
        assert!(!asked(&mut call).await);
        refuse(&mut call, status).await;
        let answer = client.answer().await;
        assert_eq!((answer.status.to_string().as_str(), answer.text()), (&status[..3], REFUSAL));
        let row = world.row(answer.event_id()).await;
        assert_eq!((row.end.as_str(), row.attempts), ("upstream_rejected", 1));
        let metrics = world.metrics().await;
        assert!(metrics.contains("\nweir_usage_option_refused_total 3\n"), "{metrics}");
        // Another server may stand there by then.
        hand.advance_ms(1);
        client.send(world.chat(STREAM).as_bytes()).await;
        assert!(asked(&mut call).await);
        stream(&mut call, &[DELTA, FINISH, USAGE, DONE]).await;
        check(&world, &client.answer().await, Booked::ok("complete", STATED)).await;
        world.finish().await;
    }
}

/// A refusal that names nothing may be chance: it is believed when it comes three times in a row.
#[tokio::test]
async fn a_refusal_that_names_nothing_is_believed_when_it_repeats() {
    let upstream = Upstream::start().await;
    let world = before(&upstream).start().await;
    let chat = ("/v1/chat/completions", "gpt-5.4");
    // Also after an acceptance a client does not get a refusal of what it did not ask for.
    for refusal in [None, Some(REFUSAL), Some(REFUSAL), None, Some(REFUSAL), Some(REFUSAL)] {
        assert!(once(&world, &upstream, chat, refusal).await);
    }
    assert!(once(&world, &upstream, chat, Some(REFUSAL)).await, "the third in a row");
    assert!(!once(&world, &upstream, chat, Some(REFUSAL)).await);
    world.finish().await;
}

/// One upstream serves models of several servers.
#[tokio::test]
async fn models_endpoints_and_upstreams_are_remembered_apart() {
    let (upstream, other) = (Upstream::start().await, Upstream::start().await);
    let more = format!(
        "[[upstream]]\nname = \"other\"\nbase_url = \"{}\"\nmodels = [\"c\"]\npool_max_idle = 0\n",
        other.base_url()
    );
    let models = r#"["a", { name = "b", upstream_name = "bb" }]"#;
    let world = before(&upstream).set("upstream.models", models).more(&more).start().await;
    let chat = "/v1/chat/completions";
    for is_asked in [true, false] {
        let asked = once(&world, &upstream, (chat, "a"), Some(NAMED)).await;
        assert_eq!(asked, is_asked, "a at chat");
        assert!(once(&world, &upstream, (COMPLETIONS, "a"), None).await, "a at completions");
        assert!(once(&world, &upstream, (chat, "b"), None).await, "b at chat");
        assert!(once(&world, &other, (chat, "c"), None).await, "another upstream's");
    }
    assert!(once(&world, &upstream, (chat, "b"), Some(NAMED)).await, "it had been taken");
    assert!(!once(&world, &upstream, (chat, "b"), None).await);
    world.finish().await;
}

/// Some servers close a connection on which they have refused something, a moment later and without a word:
/// nothing is sent on it again, also where other connections wait.
#[tokio::test]
async fn asking_again_takes_a_connection_of_its_own() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let mut idle = Vec::new();
    for _ in 0..2 {
        idle.push(post(&world, &upstream).await);
    }
    for (client, call) in &mut idle {
        assert!(asked(call).await);
        stream(call, &[DELTA, FINISH, USAGE, DONE]).await;
        assert_passed(&client.answer().await, 200, &[DELTA, FINISH, DONE].concat());
    }
    let (_, mut waiting) = idle.remove(0);
    let mut client = world.post(STREAM).await;
    let mut call = idle.remove(0).1;
    assert!(asked(&mut call).await, "the one used last");
    refuse(&mut call, BAD).await;
    let mut second = upstream.accept().await;
    assert!(!asked(&mut second).await);
    call.closed().await;
    refuse(&mut second, BAD).await;
    let answer = client.answer().await;
    assert_passed(&answer, 400, REFUSAL);
    let ok = Booked::ok("upstream_rejected", Tokens::Nothing);
    let twice = Booked { status: 400, upstream_status: Some(400), attempts: 2, ..ok };
    check(&world, &answer, twice).await;
    assert!(waiting.is_open().await);
    world.finish().await;
}

/// What names another cause is the client's, at once and byte for byte, however long it is.
#[tokio::test]
async fn a_refusal_of_something_else_passes_as_it_came() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let (mut client, mut call) = post(&world, &upstream).await;
    let long = format!("{}{}", ANOTHER, " ".repeat(100_000));
    for (body, is_chunked) in [(ANOTHER, false), (ANOTHER, true), (&long, false)] {
        assert!(asked(&mut call).await);
        if is_chunked {
            call.write(format!("HTTP/1.1 {BAD}\r\n{JSON}transfer-encoding: chunked\r\n\r\n")).await;
            call.chunk(&body[..9]).await;
            call.chunk(&body[9..]).await;
            call.chunk("").await;
        } else {
            call.answer(BAD, JSON, body).await;
        }
        let answer = client.answer().await;
        assert_passed(&answer, 400, body);
        let ok = Booked::ok("upstream_rejected", Tokens::Nothing);
        check(&world, &answer, Booked { status: 400, upstream_status: Some(400), ..ok }).await;
        client.send(world.chat(STREAM).as_bytes()).await;
    }
    assert!(asked(&mut call).await);
    stream(&mut call, &[DELTA, FINISH, USAGE, DONE]).await;
    check(&world, &client.answer().await, Booked::ok("complete", STATED)).await;
    world.finish().await;
}

/// A refusal that breaks off could look whole to the client: it is taken for one that names nothing.
#[tokio::test]
async fn a_refusal_that_breaks_off_is_asked_again() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let (mut client, mut call) = post(&world, &upstream).await;
    assert!(asked(&mut call).await);
    call.write(format!("HTTP/1.1 {BAD}\r\n{JSON}transfer-encoding: chunked\r\n\r\n")).await;
    call.chunk(ANOTHER).await;
    drop(call);
    let mut call = upstream.accept().await;
    assert!(!asked(&mut call).await);
    stream(&mut call, &[DELTA, FINISH, DONE]).await;
    assert_passed(&client.answer().await, 200, &[DELTA, FINISH, DONE].concat());
    world.finish().await;
}

/// A request that is refused without the option as well tells nothing about the option.
#[tokio::test]
async fn a_bad_request_stays_one_and_teaches_nothing() {
    let upstream = Upstream::start().await;
    let world = before(&upstream).start().await;
    for _ in 0..2 {
        let (mut client, mut call) = post(&world, &upstream).await;
        assert!(asked(&mut call).await, "the option is asked for again");
        refuse(&mut call, "400 Bad Request").await;
        let mut call = upstream.accept().await;
        assert!(!asked(&mut call).await);
        call.answer("400 Bad Request", &format!("{JSON}connection: close\r\n"), REFUSAL).await;
        let answer = client.answer().await;
        assert_passed(&answer, 400, REFUSAL);
        let ok = Booked::ok("upstream_rejected", Tokens::Nothing);
        let twice = Booked { status: 400, upstream_status: Some(400), attempts: 2, ..ok };
        check(&world, &answer, twice).await;
    }
    world.finish().await;
}

#[tokio::test]
async fn a_failure_of_the_second_try_is_told() {
    let upstream = Upstream::start().await;
    let world = before(&upstream).start().await;
    let (mut client, mut call) = post(&world, &upstream).await;
    assert!(asked(&mut call).await);
    refuse(&mut call, "400 Bad Request").await;
    let mut call = upstream.accept().await;
    assert!(!asked(&mut call).await);
    call.reset();
    let answer = client.answer().await;
    assert_refused(&world, &answer, 502, "upstream_reset", Some("false"));
    let unanswered = Booked::unanswered("upstream_error", Tokens::Reserved, 502);
    check(&world, &answer, Booked { attempts: 2, ..unanswered }).await;
    world.finish().await;
}

#[tokio::test]
async fn other_requests_are_not_asked_again() {
    let upstream = Upstream::start().await;
    let world = before(&upstream).start().await;
    // Not a stream; a stream refused for another reason.
    for (body, status) in [(CHAT, "400 Bad Request"), (STREAM, "404 Not Found")] {
        let mut client = world.post(body).await;
        let (mut call, _) = upstream.call().await;
        call.answer(status, &format!("{JSON}connection: close\r\n"), REFUSAL).await;
        let answer = client.answer().await;
        assert_eq!(answer.text(), REFUSAL);
        assert_eq!(world.row(answer.event_id()).await.attempts, 1);
    }
    world.finish().await;
}
