//! Weir asks streams for their usage. An upstream that does not know the option, and refuses the
//! request for it, gets the client's own bytes, and is not asked again.

use super::{Booked, CHAT, DELTA, DONE, FINISH, JSON, STATED, STREAM, Tokens, USAGE};
use super::{assert_passed, assert_refused};
use crate::world::{Answer, Call, Client, Upstream, World};

const REFUSAL: &str =
    r#"{"error":{"message":"Unknown field.","type":"invalid_request_error","code":"x"}}"#;
const OPTION: &str = r#""stream_options":{"include_usage":true}"#;

/// The next request on a connection: whether it asks for usage, and otherwise it is the client's.
async fn asked(call: &mut Call) -> bool {
    let body = String::from_utf8(call.receive().await.body).expect("it is JSON");
    if body.contains(OPTION) {
        assert_eq!(
            body.replace(&format!(",{OPTION}"), "").replace(&format!("{OPTION},"), ""),
            STREAM
        );
        return true;
    }
    assert_eq!(body, STREAM);
    false
}

async fn refuse(call: &mut Call, status: &str) {
    call.answer(status, JSON, REFUSAL).await;
}

async fn stream(call: &mut Call, events: &[&str]) {
    call.stream().await;
    call.chunk(events.concat()).await;
    call.chunk("").await;
}

/// Sends a stream request; the upstream's connection for it.
async fn post(world: &World, upstream: &Upstream) -> (Client, Call) {
    (world.post(STREAM).await, upstream.accept().await)
}

async fn check(world: &World, answer: &Answer, booked: Booked) {
    booked.check(&world.row(answer.event_id()).await);
}

#[tokio::test]
async fn a_refused_option_is_left_out_and_not_asked_for_again() {
    for status in ["400 Bad Request", "422 Unprocessable Content"] {
        let upstream = Upstream::start().await;
        let world = World::before(&upstream).start().await;
        let (mut client, mut call) = post(&world, &upstream).await;
        assert!(asked(&mut call).await);
        refuse(&mut call, status).await;
        // The refused answer was not read, so its connection can't be used again.
        let mut call = upstream.accept().await;
        assert!(!asked(&mut call).await);
        stream(&mut call, &[DELTA, FINISH, DONE]).await;
        let answer = client.answer().await;
        assert_passed(&answer, 200, &[DELTA, FINISH, DONE].concat());
        let ok = Booked::ok("complete", Tokens::Estimated(2));
        let twice = Booked { attempts: 2, flags: &["usage_option_refused"], ..ok };
        check(&world, &answer, twice).await;
        // From now on the client's own bytes go at once, and a 400 is about them.
        client.send(world.chat(STREAM).as_bytes()).await;
        assert!(!asked(&mut call).await);
        refuse(&mut call, status).await;
        let answer = client.answer().await;
        assert_eq!((answer.status.to_string().as_str(), answer.text()), (&status[..3], REFUSAL));
        let row = world.row(answer.event_id()).await;
        assert_eq!((row.end.as_str(), row.attempts), ("upstream_rejected", 1));
        world.rows_eventually(2).await;
        world.finish().await;
    }
}

#[tokio::test]
async fn an_upstream_that_took_the_option_is_never_asked_twice() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let (mut client, mut call) = post(&world, &upstream).await;
    assert!(asked(&mut call).await);
    stream(&mut call, &[DELTA, FINISH, USAGE, DONE]).await;
    // The usage that nobody asked for but Weir is taken out again.
    let answer = client.answer().await;
    assert_passed(&answer, 200, &[DELTA, FINISH, DONE].concat());
    check(&world, &answer, Booked::ok("complete", STATED)).await;
    client.send(world.chat(STREAM).as_bytes()).await;
    assert!(asked(&mut call).await);
    refuse(&mut call, "400 Bad Request").await;
    let answer = client.answer().await;
    assert_passed(&answer, 400, REFUSAL);
    let ok = Booked::ok("upstream_rejected", Tokens::Nothing);
    check(&world, &answer, Booked { status: 400, upstream_status: Some(400), ..ok }).await;
    world.finish().await;
}

/// A request that is refused without the option as well tells nothing about the option.
#[tokio::test]
async fn a_bad_request_stays_one_and_teaches_nothing() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
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
    let world = World::before(&upstream).start().await;
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
    let world = World::before(&upstream).start().await;
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

/// What one upstream does not know, another may.
#[tokio::test]
async fn each_upstream_is_remembered_on_its_own() {
    let (upstream, other) = (Upstream::start().await, Upstream::start().await);
    let more = format!(
        "[[upstream]]\nname = \"other\"\nbase_url = \"{}\"\nmodels = [\"other\"]\n",
        other.base_url()
    );
    let world = World::before(&upstream).more(&more).start().await;
    let (mut client, mut call) = post(&world, &upstream).await;
    assert!(asked(&mut call).await);
    refuse(&mut call, "400 Bad Request").await;
    let mut call = upstream.accept().await;
    assert!(!asked(&mut call).await);
    stream(&mut call, &[DELTA, FINISH, DONE]).await;
    assert_passed(&client.answer().await, 200, &[DELTA, FINISH, DONE].concat());
    client.send(world.chat(&STREAM.replace("gpt-5.4", "other")).as_bytes()).await;
    let (mut call, received) = other.call().await;
    assert!(String::from_utf8_lossy(&received.body).contains(OPTION));
    assert_eq!(received.head.header("authorization"), None, "it has a key of its own, or none");
    stream(&mut call, &[DELTA, FINISH, USAGE, DONE]).await;
    let answer = client.answer().await;
    assert_passed(&answer, 200, &[DELTA, FINISH, DONE].concat());
    assert_eq!(world.row(answer.event_id()).await.upstream, "other");
    world.finish().await;
}
