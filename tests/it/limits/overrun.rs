//! What keys can be told to do where a quota ends: shorten answers until they fit, and end streams that
//! have used up what was left.

use super::{MORNING_MS, STREAM_HEAD, at, chat, open, served, stream, whole};
use crate::harness::{MODEL, Piece, Upstream, World};

const CUT_EVENT: &str = "data: {\"error\":{\"message\":\"This answer has used up what its quotas had left, \
                         and was ended here.\",\"type\":\"insufficient_quota\",\"code\":\"insufficient_quota\"}}\n\n";

/// An event of 100 tokens of text, by the estimate of four bytes to a token.
fn hundred() -> String {
    let text = "word".repeat(100);
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
}

#[tokio::test]
async fn an_answer_is_made_to_fit_into_what_is_left() {
    let upstream = Upstream::start().await;
    let (environment, hand) = at(MORNING_MS);
    let world = World::before(&upstream).environment(environment).start().await;
    let key = world.new_key(&["--clamp", "--daily-tokens", "2000"]).await;
    let bare = chat(0).replace("\"max_completion_tokens\":0,", "");
    let prompt = {
        served(&world, &upstream, &world.key, &chat(100), 2).await;
        world.rows_eventually(1).await[0].reserved_tokens - 100
    };
    let left = 2000 - prompt;
    // As it was asked and as it arrives, while nothing is used.
    let bound = |most: u64| format!("\"max_completion_tokens\":{most}");
    let two = chat(1500).replacen('{', "{\"n\":2,", 1);
    let old = chat(9000).replace("max_completion_tokens", "max_tokens");
    let cases = [
        (chat(500), chat(500)),
        (chat(left), chat(left)),
        (chat(left + 1), chat(left)),
        (stream(u64::MAX), stream(left)),
        (old.clone(), old.replace("9000", &left.to_string())),
        (two.clone(), two.replace("1500", &(left / 2).to_string())),
        (bare.clone(), bare.replacen('{', &format!("{{{},", bound(1024)), 1)),
        (
            bare.replacen('{', "{\"max_completion_tokens\": null ,", 1),
            bare.replacen('{', "{\"max_completion_tokens\": 1024 ,", 1),
        ),
    ];
    for (asked, arrives) in cases {
        let mut client = open(&world, &key, &asked).await;
        let (mut call, received) = upstream.call().await;
        let option = "\"stream_options\":{\"include_usage\":true},";
        let body = String::from_utf8_lossy(&received.body).replacen(option, "", 1);
        assert_eq!(body, arrives, "{asked}");
        let length = received.body.len().to_string();
        assert_eq!(received.head.header("content-length"), Some(&*length));
        let most: u64 = arrives
            .split(['"', ':', ','])
            .filter_map(|part| part.trim().parse().ok())
            .max()
            .expect("there is a bound");
        let n = if asked.contains("\"n\":2") { 2 } else { 1 };
        assert_eq!(world.server().outstanding(), (1, prompt + n * most), "{asked}");
        whole(&mut call, &received, 2).await;
        assert_eq!(client.answer().await.status, 200);
        world.settled().await;
        hand.advance_ms(24 * 3_600_000);
    }
    // Two at once share what is left, and a third gets nothing.
    let mut first = open(&world, &key, &chat(1900 - prompt)).await;
    let (mut first_call, first_received) = upstream.call().await;
    let mut second = open(&world, &key, &chat(1000)).await;
    let (mut second_call, second_received) = upstream.call().await;
    let second_body = String::from_utf8_lossy(&second_received.body).into_owned();
    assert!(second_body.contains(&bound(100 - prompt)), "{second_body}");
    let refused = super::ask(&world, &key, &chat(1000)).await;
    assert_eq!((refused.status, &*refused.code()), (429, "insufficient_quota"));
    assert_eq!(world.server().outstanding(), (2, 2000));
    whole(&mut first_call, &first_received, 1900).await;
    whole(&mut second_call, &second_received, 90).await;
    assert_eq!((first.answer().await.status, second.answer().await.status), (200, 200));
    world.settled().await;
    // Ten are left, which is too little to ask for; and a prompt alone can be larger than the quota.
    let refused = super::ask(&world, &key, &chat(1000)).await;
    assert_eq!((refused.status, refused.header("x-weir-limit")), (429, Some("key-daily-tokens")));
    let long = format!(r#"{{"model":"{MODEL}","messages":"{}"}}"#, "long ".repeat(2000));
    assert_eq!(super::ask(&world, &key, &long).await.code(), "request_exceeds_limit");
    // Without a quota nothing is edited.
    let free = world.new_key(&["--clamp", "--tpm", "100000"]).await;
    let mut client = open(&world, &free, &bare).await;
    let (mut call, received) = upstream.call().await;
    assert_eq!(String::from_utf8_lossy(&received.body), bare);
    whole(&mut call, &received, 2).await;
    assert_eq!(client.answer().await.status, 200);
    world.finish().await;
}

#[tokio::test]
async fn a_stream_ends_where_the_quota_does() {
    let upstream = Upstream::start().await;
    let (environment, hand) = at(MORNING_MS);
    let world = World::before(&upstream).environment(environment).start().await;
    let key = world.new_key(&["--cut", "--daily-tokens", "1000"]).await;
    // Estimated from the text: 100 are reserved, and all thousand may be used before it ends.
    let mut client = open(&world, &key, &stream(100)).await;
    let (mut call, _) = upstream.call().await;
    call.ok(STREAM_HEAD).await;
    let head = client.head().await;
    let mut sent = String::new();
    let seen = loop {
        sent += &hundred();
        call.try_write(format!("{:x}\r\n{}\r\n", hundred().len(), hundred())).await;
        let Piece::Data(data) = client.piece().await else { panic!("cut without a word") };
        let text = String::from_utf8(data).expect("UTF-8");
        assert_eq!(text, hundred());
        if sent.len() >= 10 * hundred().len() {
            break sent;
        }
    };
    assert_eq!(seen.len(), 10 * hundred().len(), "nine fit, the tenth was one too many");
    let (rest, is_whole) = client.rest().await;
    assert_eq!((String::from_utf8_lossy(&rest).as_ref(), is_whole), (CUT_EVENT, false));
    call.closed().await;
    let row = world.row(head.header("x-request-id").expect("an id")).await;
    assert_eq!((row.end.as_str(), row.usage_source.as_str()), ("quota_cut", "estimated"));
    assert_eq!(row.output_tokens, 1000);
    assert!(row.total_tokens > 1000 && row.total_tokens == row.input_tokens + 1000);
    world.settled().await;
    let refused = super::ask(&world, &key, &chat(1)).await;
    assert_eq!((refused.status, &*refused.code()), (429, "insufficient_quota"));

    // Running usage is exact; what others have reserved is not left.
    hand.advance_ms(24 * 3_600_000);
    let mut other = open(&world, &key, &chat(700)).await;
    let (mut other_call, other_received) = upstream.call().await;
    let mut client = open(&world, &key, &stream(100)).await;
    let (mut call, _) = upstream.call().await;
    call.ok(STREAM_HEAD).await;
    let running = |total: u64| {
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"a\"}}}}],\"usage\":{{\"prompt_tokens\":5,\
             \"completion_tokens\":{},\"total_tokens\":{total}}}}}\n\n",
            total - 5
        )
    };
    let head = client.head().await;
    let free = 1000 - (world.server().outstanding().1 - 100 - (reserved_prompt(&world).await));
    for total in [50, 100, free] {
        call.chunk(running(total)).await;
        let Piece::Data(data) = client.piece().await else { panic!("cut at {total}") };
        assert_eq!(String::from_utf8_lossy(&data), running(total));
    }
    call.chunk(running(free + 1)).await;
    let (rest, is_whole) = client.rest().await;
    assert_eq!(String::from_utf8_lossy(&rest), running(free + 1) + CUT_EVENT);
    assert!(!is_whole);
    let row = world.row(head.header("x-request-id").expect("an id")).await;
    assert_eq!((row.end.as_str(), row.usage_source.as_str()), ("quota_cut", "running"));
    assert_eq!(row.total_tokens, free + 1);
    whole(&mut other_call, &other_received, 2).await;
    assert_eq!(other.answer().await.status, 200);
    world.finish().await;
}

/// The estimate of the prompt that all requests here have.
async fn reserved_prompt(world: &World) -> u64 {
    world.place.rows().iter().map(|row| row.reserved_tokens - 100).min().expect("a row")
}

#[tokio::test]
async fn what_is_all_said_is_not_cut_and_nobody_elses_stream_is() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let cut = world.new_key(&["--cut", "--daily-tokens", "300"]).await;
    let uncut = world.new_key(&["--daily-tokens", "300"]).await;
    let finish = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":900,\
                 \"total_tokens\":905}}\n\n";
    let done = "data: [DONE]\n\n";
    for (key, before) in [(&cut, 2), (&uncut, 9)] {
        let mut client = open(&world, key, &stream(100)).await;
        let (mut call, _) = upstream.call().await;
        call.ok(STREAM_HEAD).await;
        for _ in 0..before {
            call.chunk(hundred()).await;
        }
        // The last event of text is one too many, but with it comes the end.
        call.chunk(hundred() + finish).await;
        for event in [usage, done, ""] {
            call.chunk(event).await;
        }
        let answer = client.answer().await;
        assert!(answer.is_whole, "{}", answer.text());
        assert!(answer.text().ends_with(&format!("{finish}{done}")), "{}", answer.text());
        let row = world.row(answer.event_id()).await;
        assert_eq!((row.end.as_str(), row.total_tokens), ("complete", 905));
    }
    world.finish().await;
}

#[tokio::test]
async fn what_is_usual_is_reserved_where_that_is_to_be_learned() {
    let upstream = Upstream::start().await;
    let more = format!("[[model]]\nname = \"{MODEL}\"\nlearn_reservation = true\n");
    let world = World::before(&upstream).more(&more).start().await;
    let bare = chat(0).replace("\"max_completion_tokens\":0,", "");
    let reserved = |world: &World| world.server().outstanding().1;
    let mut client = open(&world, &world.key, &bare).await;
    let (mut call, received) = upstream.call().await;
    let prompt = reserved(&world) - 1024;
    whole(&mut call, &received, 11).await;
    assert_eq!(client.answer().await.status, 200);
    for _ in 0..150 {
        served(&world, &upstream, &world.key, &bare, 11).await;
        // Those with a bound of their own are no measure.
        served(&world, &upstream, &world.key, &chat(5000), 5000).await;
    }
    let mut client = open(&world, &world.key, &bare).await;
    let (mut call, received) = upstream.call().await;
    assert_eq!(reserved(&world), prompt + 11, "ten, in steps of four to a power of two");
    whole(&mut call, &received, 2).await;
    assert_eq!(client.answer().await.status, 200);
    world.finish().await;
}

/// The bound of docs/overspending.md: what requests use above their reservations, of those that were in
/// flight when the quota was used up, and not a token more; and what clients leave can't exceed it at all.
#[tokio::test]
async fn a_quota_is_overspent_by_no_more_than_its_bound() {
    const ALLOWED: u64 = 90;
    const USED: u64 = 900;
    let upstream = Upstream::start().await;
    let (environment, hand) = at(MORNING_MS);
    let world = World::before(&upstream).environment(environment).start().await;
    let mut client = open(&world, &world.key, &stream(ALLOWED)).await;
    let (mut call, received) = upstream.call().await;
    let reserved = world.server().outstanding().1;
    whole(&mut call, &received, 2).await;
    assert_eq!(client.answer().await.status, 200);
    let key = world.new_key(&["--daily-tokens", &(3 * reserved).to_string()]).await;
    let used_up = async || {
        let refused = super::ask(&world, &key, &stream(ALLOWED)).await;
        (refused.status, refused.code().to_owned())
    };
    let insufficient = (429, "insufficient_quota".to_owned());
    // Three fill the quota to the last token, and none of them keeps to what it was allowed.
    let mut running = Vec::new();
    for _ in 0..3 {
        let client = open(&world, &key, &stream(ALLOWED)).await;
        running.push((client, upstream.call().await));
    }
    assert_eq!(used_up().await, insufficient, "a fourth does not fit");
    for (mut client, (mut call, received)) in running {
        whole(&mut call, &received, USED).await;
        assert_eq!(client.answer().await.status, 200);
    }
    assert_eq!(used_up().await, insufficient);
    world.settled().await;
    let rows = world.rows_eventually(4).await;
    let booked: u64 = rows[..3].iter().map(|row| row.total_tokens).sum();
    let above: u64 = rows[..3].iter().map(|row| row.total_tokens - row.reserved_tokens).sum();
    assert_eq!(booked - 3 * reserved, above);
    assert_eq!(above, 3 * (USED - reserved), "the bound is reached");
    // Whoever leaves early is booked up to the reservation, so the quota holds to the token.
    hand.advance_ms(24 * 3_600_000);
    for left in (0..3).rev() {
        let client = open(&world, &key, &stream(ALLOWED)).await;
        let (mut call, _) = upstream.call().await;
        client.reset();
        call.closed().await;
        world.settled().await;
        assert!(left > 0 || used_up().await == insufficient);
    }
    let rows = world.rows_eventually(7).await;
    assert_eq!(rows[..3].iter().map(|row| row.total_tokens).sum::<u64>(), 3 * reserved);
    world.finish().await;
}
