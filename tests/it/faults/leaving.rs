//! Leaving early is never cheaper than staying. Each way of leaving is one line of a table: in which form
//! the answer comes, how far it had come, by which policy; then what was booked, beside what the upstream
//! has used.

use std::time::{Duration, Instant};

use super::{DELTA, DONE, FINISH, JSON, OUTPUT, SOON_MS, clients_gone};
use crate::harness::{Call, Client, Row, Upstream, World, chunk, request};

/// What the upstream uses of every request, and states if it comes to that: all that it was allowed.
const INPUT: u64 = 5;
const USAGE: &str = "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":7,\"total_tokens\":12}}\n\n";
/// A whole answer in the parts in which it comes.
const PARTS: [&str; 5] = [
    r#"{"id":"c","choices":[{"index":0,"message":{"#,
    r#""content":"Hello"#,
    r#" world"},"finish_reason":"stop"}],"#,
    r#""usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}"#,
    "}",
];
const EVENTS: [&str; 5] = [DELTA, DELTA, FINISH, USAGE, DONE];

/// A usage that is all that is missing is waited for twice as long. A machine on which the test takes
/// longer to send it proves nothing.
const SOON_ENOUGH: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Stream,
    Whole,
}

/// What the client had seen when it left: so many parts of the answer, or not even the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    BeforeHead,
    After(usize),
}

/// What is booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Booked {
    /// What the upstream stated when it was read on.
    ReadOn,
    /// What it had stated before.
    Known,
    Reserved,
    /// So many bytes of text.
    Seen(u64),
}

use Booked::{Known, ReadOn, Reserved, Seen};
use Form::{Stream, Whole};
use Moment::{After, BeforeHead};

/// What each policy books: `cancel` and `reserved`, which is the default; `cancel` and `seen`; `drain`,
/// for which it is the same with both.
const WAYS: [(Form, Moment, Booked, Booked, Booked); 10] = [
    (Stream, BeforeHead, Reserved, Seen(0), ReadOn),
    (Stream, After(1), Reserved, Seen(5), ReadOn),
    (Stream, After(2), Reserved, Seen(10), ReadOn),
    (Stream, After(3), ReadOn, ReadOn, ReadOn),
    (Stream, After(4), Known, Known, Known),
    (Whole, BeforeHead, ReadOn, Seen(0), ReadOn),
    (Whole, After(1), ReadOn, Seen(0), ReadOn),
    (Whole, After(2), ReadOn, Seen(5), ReadOn),
    (Whole, After(3), ReadOn, Seen(11), ReadOn),
    // The usage has come, if not the body's last byte.
    (Whole, After(4), ReadOn, Known, ReadOn),
];

fn body(form: Form) -> String {
    // A client that asks for the usage sees it come.
    let stream = match form {
        Stream => r#","stream":true,"stream_options":{"include_usage":true}"#,
        Whole => "",
    };
    let messages = r#""messages":[{"role":"user","content":"Hi"}]"#;
    format!(r#"{{"model":"gpt-5.4",{messages},"max_tokens":{OUTPUT}{stream}}}"#)
}

/// The upstream has sent the head and so many parts, and the client has them.
async fn sent(client: &mut Client, call: &mut Call, form: Form, parts: usize) {
    match form {
        Stream => call.stream().await,
        Whole => call.ok(&format!("{JSON}content-length: {}\r\n", PARTS.concat().len())).await,
    }
    let parts = match form {
        Stream => &EVENTS[..parts],
        Whole => &PARTS[..parts],
    };
    for part in parts {
        if form == Stream { call.chunk(part).await } else { call.write(part).await }
    }
    assert_eq!(client.head().await.status(), 200);
    let mut left = parts.concat().len();
    while left > 0 {
        let crate::harness::Piece::Data(data) = client.piece().await else { panic!("it ends") };
        left -= data.len();
    }
}

/// The upstream sends the rest, whether or not anybody reads it.
async fn rest(call: &mut Call, form: Form, moment: Moment) {
    let from = if let After(parts) = moment { parts } else { 0 };
    let head = match (form, moment) {
        (_, After(_)) => String::new(),
        (Stream, BeforeHead) => "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                                 transfer-encoding: chunked\r\n\r\n"
            .to_owned(),
        (Whole, BeforeHead) => {
            format!("HTTP/1.1 200 OK\r\n{JSON}content-length: {}\r\n\r\n", PARTS.concat().len())
        }
    };
    let bytes = match form {
        Stream => [chunk(EVENTS[from..].concat()), chunk("")].concat(),
        Whole => PARTS[from..].concat().into_bytes(),
    };
    call.try_write([head.into_bytes(), bytes].concat()).await;
}

fn check(row: &Row, booked: Booked, what: &str) {
    let prompt = row.reserved_tokens - OUTPUT;
    let used = INPUT + OUTPUT;
    let (source, total, flags): (_, _, &[&str]) = match booked {
        ReadOn => ("reported", used, &["drained"]),
        Known => ("reported", used, &[]),
        Reserved => ("estimated", row.reserved_tokens, &["reserved"]),
        Seen(bytes) => ("estimated", prompt + bytes.div_ceil(4), &[]),
    };
    assert_eq!(
        (&*row.end, &*row.usage_source, row.total_tokens),
        ("client_closed", source, total),
        "{what}"
    );
    assert_eq!(row.flags, flags, "{what}");
}

#[tokio::test]
async fn every_way_of_leaving_is_booked() {
    for on_disconnect in ["cancel", "drain"] {
        for unstated in ["reserved", "seen"] {
            let upstream = Upstream::start().await;
            let world = World::before(&upstream)
                .set("upstream.on_disconnect", format!("\"{on_disconnect}\""))
                .set("upstream.unstated", format!("\"{unstated}\""))
                .start()
                .await;
            for (done, (form, moment, reserved, seen, drained)) in WAYS.into_iter().enumerate() {
                let what = format!("{on_disconnect} {unstated} {form:?} {moment:?}");
                let booked = match (on_disconnect, unstated) {
                    ("drain", _) => drained,
                    (_, "seen") => seen,
                    _ => reserved,
                };
                let mut client = world.post(&body(form)).await;
                let (mut call, _) = upstream.call().await;
                if let After(parts) = moment {
                    sent(&mut client, &mut call, form, parts).await;
                }
                let left = Instant::now();
                client.reset();
                clients_gone(&world).await;
                match booked {
                    ReadOn => rest(&mut call, form, moment).await,
                    _ => call.closed().await,
                }
                let was_in_time = left.elapsed() < SOON_ENOUGH;
                drop(call);
                let rows = world.rows_eventually(done + 1).await;
                if was_in_time || on_disconnect == "drain" || (form, moment) != (Stream, After(3)) {
                    check(&rows[0], booked, &what);
                }
                // The promise itself.
                let (row, used) = (&rows[0], INPUT + OUTPUT);
                if unstated == "reserved" {
                    assert!(row.total_tokens >= used, "{what}");
                }
                assert!(row.total_tokens <= row.reserved_tokens.max(used), "{what}");
                world.settled().await;
            }
            world.finish().await;
        }
    }
}

/// Where nothing can be read on, what was reserved is booked.
#[tokio::test]
async fn what_is_not_read_on_is_booked_at_its_reservation() {
    for (key, value, is_drained) in [("drain_max", 0, false), ("drain_ms", SOON_MS, true)] {
        let upstream = Upstream::start().await;
        let world = World::before(&upstream).set(&format!("upstream.{key}"), value).start().await;
        let ways = [(Whole, BeforeHead), (Whole, After(2)), (Stream, After(3))];
        for (done, (form, moment)) in ways.into_iter().enumerate() {
            let mut client = world.post(&body(form)).await;
            let (mut call, _) = upstream.call().await;
            if let After(parts) = moment {
                sent(&mut client, &mut call, form, parts).await;
            }
            drop(client);
            call.closed().await;
            let row = &world.rows_eventually(done + 1).await[0];
            let found = (&*row.end, row.total_tokens, row.flags.contains(&"drained".to_owned()));
            let wanted = ("client_closed", row.reserved_tokens, is_drained);
            assert_eq!(found, wanted, "{key} {form:?} {moment:?}");
            assert!(row.flags.contains(&"reserved".to_owned()), "{row:?}");
        }
        world.finish().await;
    }
}

/// While it is read on, a request has its place and its reservation; what the upstream says in the end is
/// what counts, also if that is an error.
#[tokio::test]
async fn who_has_left_still_holds_what_was_reserved() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    for (status, source, total) in [("200 OK", "reported", 12), ("429 Too Many", "none", 0)] {
        let client = world.post(&body(Whole)).await;
        let (mut call, _) = upstream.call().await;
        client.reset();
        clients_gone(&world).await;
        let (requests, reserved) = world.server().outstanding();
        assert!(requests == 1 && reserved > OUTPUT, "{requests} {reserved}");
        let answer = if total > 0 { PARTS.concat() } else { r#"{"error":{"code":1}}"#.to_owned() };
        call.answer(status, JSON, &answer).await;
        world.settled().await;
        let count = if total > 0 { 1 } else { 2 };
        let row = &world.rows_eventually(count).await[0];
        let found = (&*row.end, row.status, &*row.usage_source, row.total_tokens);
        assert_eq!(found, ("client_closed", 0, source, total));
    }
    world.finish().await;
}

/// An answer that is only promised: the upstream makes it whether or not anybody comes for it.
#[tokio::test]
async fn an_answer_that_is_still_to_be_made_is_booked_at_its_reservation() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).set("upstream.unstated", "\"seen\"").start().await;
    let asked = r#"{"model":"gpt-5.4","input":"A report.","max_output_tokens":500}"#;
    for (done, status) in ["queued", "in_progress", "completed"].into_iter().enumerate() {
        let mut client = world.connect().await;
        let bytes = request("POST", "/v1/responses", &world.key, "", asked);
        client.send(bytes.as_bytes()).await;
        let (mut call, _) = upstream.call().await;
        let answer = format!(r#"{{"id":"r","status":"{status}","output":[],"usage":null}}"#);
        call.answer("200 OK", JSON, &answer).await;
        let answered = client.answer().await;
        assert_eq!((answered.status, answered.text(), answered.is_whole), (200, &*answer, true));
        let row = &world.rows_eventually(done + 1).await[0];
        let is_reserved = row.flags == ["reserved"];
        let found = (&*row.end, row.total_tokens == row.reserved_tokens, is_reserved);
        let wanted = if status == "completed" {
            ("complete", false, false)
        } else {
            ("upstream_truncated", true, true)
        };
        assert_eq!(found, wanted, "{status}: {row:?}");
    }
    world.finish().await;
}

/// The row is closed before the end mark leaves, which waits for nothing: what comes with it counts.
#[tokio::test]
async fn usage_behind_the_end_mark_counts_if_it_came_with_it() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let mut client = world.post(&body(Stream)).await;
    let (mut call, _) = upstream.call().await;
    let events = [DELTA, FINISH, DONE, USAGE].concat();
    call.stream_of(&events).await;
    call.chunk("").await;
    let answer = client.answer().await;
    assert_eq!((answer.text(), answer.is_whole), (&*events, true));
    let row = world.row(answer.event_id()).await;
    assert_eq!((&*row.end, &*row.usage_source, row.total_tokens), ("complete", "reported", 12));
    world.finish().await;
}

/// What has been read to its end says all that there is, also if that is no usage: the same counts as for
/// whoever stays.
#[tokio::test]
async fn a_whole_answer_without_usage_is_estimated_for_whoever_has_left() {
    const ANSWER: &str = r#"{"choices":[{"message":{"content":"Hello"},"finish_reason":"stop"}]}"#;
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).set("upstream.on_disconnect", "\"drain\"").start().await;
    for (done, form) in [Whole, Stream].into_iter().enumerate() {
        let mut client = world.post(&body(form)).await;
        let (mut call, _) = upstream.call().await;
        if form == Stream {
            sent(&mut client, &mut call, form, 1).await;
        }
        client.reset();
        clients_gone(&world).await;
        match form {
            Whole => call.answer("200 OK", JSON, ANSWER).await,
            Stream => call.chunk([FINISH, DONE].concat()).await,
        }
        let row = &world.rows_eventually(done + 1).await[0];
        let found = (&*row.end, &*row.usage_source, row.output_tokens, &*row.flags);
        let drained = &["drained".to_owned()][..];
        assert_eq!(found, ("client_closed", "estimated", 2, drained), "{form:?}");
    }
    world.finish().await;
}

/// Of two pictures the first states its usage, and the other is made as well.
#[tokio::test]
async fn who_leaves_after_the_first_of_two_pictures_has_not_stayed() {
    let asked = r#"{"model":"gpt-5.4","prompt":"A weir.","n":2,"stream":true}"#;
    let picture = |output: u32| {
        let usage = format!(r#"{{"input_tokens":9,"output_tokens":{output}}}"#);
        let kind = "image_generation.completed";
        format!("data: {{\"type\":\"{kind}\",\"b64_json\":\"AAAA\",\"usage\":{usage}}}\n\n")
    };
    for (on_disconnect, flag) in [("cancel", "reserved"), ("drain", "drained")] {
        let upstream = Upstream::start().await;
        let world = World::before(&upstream)
            .set("upstream.on_disconnect", format!("\"{on_disconnect}\""))
            .start()
            .await;
        let mut client = world.connect().await;
        let bytes = request("POST", "/v1/images/generations", &world.key, "", asked);
        client.send(bytes.as_bytes()).await;
        let (mut call, _) = upstream.call().await;
        call.stream().await;
        call.chunk(picture(900)).await;
        assert_eq!(client.head().await.status(), 200);
        client.body_until("output_tokens").await;
        client.reset();
        clients_gone(&world).await;
        if on_disconnect == "drain" {
            call.chunk(picture(8_000)).await;
        } else {
            call.closed().await;
        }
        let row = &world.rows_eventually(1).await[0];
        assert_eq!((&*row.end, &*row.flags), ("client_closed", &[flag.to_owned()][..]));
        let output = if flag == "drained" { 8_000 } else { 2 * 1_800 };
        assert_eq!((row.input_tokens, row.output_tokens), (9, output), "{row:?}");
        world.finish().await;
    }
}
