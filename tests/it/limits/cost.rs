//! Quotas of cost: as many requests as their reservations fit in, whatever comes at once; what they cost
//! in the end takes the place of what was reserved; and what has no price is refused, or flagged.

use serde_json::Value;

use super::{MORNING_MS, STREAM_HEAD, ask, at, chat, open, served, stream, whole};
use crate::harness::{Answer, IMAGE_MODEL, MODEL, Piece, Upstream, World, patiently, request};

/// A token of the prompt costs 1,000 nano-USD, one of the answer 10,000.
const PRICE: &str = "[[price]]\nmodel = \"gpt-5.4\"\ninput = 1\noutput = 10\n";
const INPUT: u64 = 1_000;
const OUTPUT: u64 = 10_000;
/// What [`whole`] says that 10 tokens were: one of the prompt, nine of the answer.
const TEN_TOKENS: u64 = INPUT + 9 * OUTPUT;

fn usd(nano_usd: u64) -> String {
    format!("{}.{:09}", nano_usd / 1_000_000_000, nano_usd % 1_000_000_000)
}

/// What the prompt of [`chat`] is estimated to cost.
async fn prompt_cost(world: &World, upstream: &Upstream) -> u64 {
    let answer = served(world, upstream, &world.key, &chat(100), 10).await;
    (world.row(answer.event_id()).await.reserved_tokens - 100) * INPUT
}

fn assert_used_up(answer: &Answer, limit: &str) {
    assert_eq!((answer.status, &*answer.code()), (429, "insufficient_quota"), "{}", answer.text());
    assert_eq!(answer.header("x-weir-limit"), Some(limit));
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert_eq!(answer.header("retry-after"), None);
}

/// Of a list of rows as `weir requests` prints them, the one with this id.
async fn row(world: &World, id: &str) -> Value {
    world.row(id).await;
    let rows = world.place.weir(&["requests", "--format", "json"]);
    let rows: Vec<Value> = serde_json::from_str(&rows).expect("JSON");
    rows.into_iter().find(|row| row["event_id"] == id).expect("it was just there")
}

#[tokio::test]
async fn as_many_are_admitted_as_their_cost_fits() {
    let upstream = Upstream::start().await;
    let (environment, hand) = at(MORNING_MS);
    let builder = World::before(&upstream).environment(environment).more(PRICE);
    let mut world = builder.start().await;
    let prompt = prompt_cost(&world, &upstream).await;
    let each = prompt + 100 * OUTPUT;
    let quota = 3 * each;
    let key = world.new_key(&["--daily-usd", &usd(quota)]).await;

    let mut running = Vec::new();
    for _ in 0..3 {
        let client = open(&world, &key, &chat(100)).await;
        let (call, received) = upstream.call().await;
        running.push((client, call, received));
    }
    for most in [100, 1] {
        assert_used_up(&ask(&world, &key, &chat(most)).await, "key-daily-usd");
    }
    let too_large = ask(&world, &key, &chat(4_000)).await;
    assert_eq!((too_large.status, &*too_large.code()), (400, "request_exceeds_limit"));
    assert_eq!(too_large.header("x-weir-limit"), Some("key-daily-usd"));
    assert!(!upstream.was_called());
    for (mut client, mut call, received) in running {
        whole(&mut call, &received, 10).await;
        assert_eq!(client.answer().await.status, 200);
    }
    world.settled().await;

    // What they cost has taken the place of what was reserved: to the token, and after a restart, too.
    let mut used = 3 * TEN_TOKENS;
    for is_restarted in [false, true] {
        if is_restarted {
            world.rows_eventually(5).await;
            world.stop().await;
            world.start_again();
        }
        let fits = (quota - used - prompt) / OUTPUT;
        assert_used_up(&ask(&world, &key, &chat(fits + 1)).await, "key-daily-usd");
        let answer = served(&world, &upstream, &key, &chat(fits), 10).await;
        assert_eq!(row(&world, answer.event_id()).await["cost_usd"], "0.000091");
        world.settled().await;
        used += TEN_TOKENS;
    }
    // More than was reserved is booked in full.
    served(&world, &upstream, &key, &chat(100), 1_000).await;
    world.settled().await;
    assert_used_up(&ask(&world, &key, &chat(1)).await, "key-daily-usd");
    hand.advance_ms(24 * 3_600_000);
    served(&world, &upstream, &key, &chat(100), 10).await;
    assert!(world.place.weir(&["verify", "--format", "json"]).contains("[]"));
    world.finish().await;
}

#[tokio::test]
async fn what_has_no_price_is_refused_or_flagged_where_a_quota_of_cost_holds() {
    for policy in ["refuse", "flag"] {
        let upstream = Upstream::start().await;
        let builder = World::before(&upstream).more(PRICE);
        let world = builder.set("limits.unpriced", format!("{policy:?}")).start().await;
        let unpriced = chat(9).replace(MODEL, IMAGE_MODEL);
        let key = world.new_key(&["--monthly-usd", "0.01"]).await;
        // Without such a quota nothing needs a price, and nothing is remarked.
        let free = served(&world, &upstream, &world.key, &unpriced, 10).await;
        assert_eq!(row(&world, free.event_id()).await["flags"], serde_json::json!([]));
        served(&world, &upstream, &key, &chat(9), 10).await;
        if policy == "refuse" {
            let refused = ask(&world, &key, &unpriced).await;
            assert_eq!((refused.status, &*refused.code()), (400, "model_unpriced"));
            assert_eq!(refused.header("x-weir-origin"), Some("gateway"));
            assert!(refused.text().contains(IMAGE_MODEL), "{}", refused.text());
            // The tenant's quota needs one just as well.
            world.place.weir(&["tenant", "set", "acme", "--daily-usd", "5"]);
            let asking = async {
                loop {
                    let mut client = open(&world, &world.key, &unpriced).await;
                    tokio::select! {
                        answer = client.answer() => return answer,
                        (mut call, received) = upstream.call() => {
                            whole(&mut call, &received, 10).await;
                        }
                    }
                }
            };
            let refused = patiently("the tenant's quota holds", asking).await;
            assert_eq!(refused.code(), "model_unpriced");
        } else {
            // It costs the quota nothing, however much it is.
            for _ in 0..2 {
                let answer = served(&world, &upstream, &key, &unpriced, 1_000_000).await;
                let row = row(&world, answer.event_id()).await;
                assert_eq!(row["flags"], serde_json::json!(["unpriced"]));
                assert_eq!(row["cost_usd"], Value::Null);
            }
            served(&world, &upstream, &key, &chat(9), 10).await;
        }
        world.finish().await;
    }
}

#[tokio::test]
async fn answers_are_clamped_to_what_is_left_to_pay_for() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).more(PRICE).start().await;
    let prompt = prompt_cost(&world, &upstream).await;
    let quota = usd(prompt + 700 * OUTPUT + OUTPUT - 1);
    for (path, field) in [
        ("/v1/chat/completions", "max_completion_tokens"),
        ("/v1/completions", "max_tokens"),
        ("/v1/responses", "max_output_tokens"),
        ("/v1/messages", "max_tokens"),
    ] {
        let key = world.new_key(&["--clamp", "--daily-usd", &quota]).await;
        let asked = |most: u64| chat(most).replace("max_completion_tokens", field);
        let post = |body: String| request("POST", path, &key, "", &body);
        let bare = asked(0).replace(&format!("\"{field}\":0,"), "");
        for (body, arrives) in [
            (asked(9_000), asked(700)),
            (asked(600), asked(600)),
            (bare.clone(), bare.replacen('{', &format!("{{\"{field}\":700,"), 1)),
        ] {
            let mut client = world.connect().await;
            client.send(post(body).as_bytes()).await;
            let (mut call, received) = upstream.call().await;
            assert_eq!(String::from_utf8_lossy(&received.body), arrives, "{path}");
            // Refused upstream: it costs nothing.
            call.answer("400 Bad Request", "content-type: application/json\r\n", "{}").await;
            assert_eq!(client.answer().await.status, 400);
            world.settled().await;
        }
    }
    // No bound of an embedding can be lowered: it fits, or it is refused.
    let key = world.new_key(&["--clamp", "--daily-usd", "0.000001"]).await;
    let body = format!("{{\"model\":\"{MODEL}\",\"input\":\"{}\"}}", "long ".repeat(100));
    let mut client = world.connect().await;
    client.send(request("POST", "/v1/embeddings", &key, "", &body).as_bytes()).await;
    assert_eq!(client.answer().await.code(), "request_exceeds_limit");
    world.finish().await;
}

#[tokio::test]
async fn a_stream_ends_where_nothing_is_left_to_pay_for_it() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).more(PRICE).start().await;
    let prompt = prompt_cost(&world, &upstream).await;
    let key = world.new_key(&["--cut", "--daily-usd", &usd(prompt + 210 * OUTPUT)]).await;
    let mut client = open(&world, &key, &stream(10)).await;
    let (mut call, _) = upstream.call().await;
    call.ok(STREAM_HEAD).await;
    let head = client.head().await;
    // A hundred tokens of text, by the estimate of four bytes to a token.
    let text = "word".repeat(100);
    let event =
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    for _ in 0..2 {
        call.chunk(&event).await;
        let Piece::Data(data) = client.piece().await else { panic!("cut too soon") };
        assert_eq!(String::from_utf8_lossy(&data), event);
    }
    call.chunk(&event).await;
    let (rest, is_whole) = client.rest().await;
    assert!(String::from_utf8_lossy(&rest).contains("insufficient_quota") && !is_whole);
    call.closed().await;
    let row = row(&world, head.header("x-request-id").expect("an id")).await;
    assert_eq!((&row["end"], &row["usage_source"]), (&"quota_cut".into(), &"estimated".into()));
    assert_eq!(row["cost_usd"], usd(prompt + 300 * OUTPUT).trim_end_matches('0'));
    world.finish().await;
}

/// A client chooses the form of a transcript, and one in plain text states nothing: what is charged by the
/// second is then charged by the file's length. Speech costs by what is to be read out.
#[tokio::test]
async fn audio_costs_by_its_length_where_nothing_is_stated() {
    let upstream = Upstream::start().await;
    let price = format!(
        "[[price]]\nmodel = \"{MODEL}\"\ninput = 0\noutput = 1\naudio_output = 12\nper_second = \"0.0001\"\n"
    );
    let world = World::before(&upstream).more(&price).start().await;
    let key = world.new_key(&["--daily-usd", "0.02"]).await;
    let part = |rest: &str, value: &str| {
        format!("--XbX\r\nContent-Disposition: form-data; name={rest}\r\n\r\n{value}\r\n")
    };
    let file = |bytes| part("\"file\"; filename=\"a.mp3\"", &"~".repeat(bytes));
    let form = |bytes| {
        let rest = [part("\"model\"", MODEL), part("\"response_format\"", "text"), file(bytes)];
        rest.concat() + "--XbX--\r\n"
    };
    let transcribe = async |body: String| {
        let mut client = world.connect().await;
        let bytes = request("POST", "/v1/audio/transcriptions", &key, "", &body);
        let bytes = bytes.replacen("application/json", "multipart/form-data; boundary=XbX", 1);
        client.send(bytes.as_bytes()).await;
        client
    };
    // 10,000 bytes are ten seconds, and the form's one word is a token.
    let mut client = transcribe(form(10_000)).await;
    let (mut call, _) = upstream.call().await;
    call.answer("200 OK", "content-type: text/plain\r\n", "Hello, world").await;
    let answer = client.answer().await;
    let booked = row(&world, answer.event_id()).await;
    assert_eq!((&booked["audio_ms"], &booked["input_tokens"]), (&10_000.into(), &101.into()));
    // Ten seconds, and three tokens of text.
    assert_eq!(booked["cost_usd"], "0.001003");
    // What is left does not pay for a hundred seconds.
    let refused = transcribe(form(400_000)).await.answer().await;
    assert_eq!(refused.code(), "request_exceeds_limit", "{}", refused.text());

    let body =
        format!("{{\"model\":\"{MODEL}\",\"input\":\"{}\",\"voice\":\"v\"}}", "la ".repeat(20));
    let mut client = world.connect().await;
    client.send(request("POST", "/v1/audio/speech", &key, "", &body).as_bytes()).await;
    call.receive().await;
    call.answer("200 OK", "content-type: audio/mpeg\r\n", "~~~~").await;
    let booked = row(&world, client.answer().await.event_id()).await;
    assert_eq!(
        (&booked["output_tokens"], &booked["audio_output_tokens"]),
        (&90.into(), &90.into())
    );
    assert_eq!((&booked["end"], &booked["cost_usd"]), (&"complete".into(), &"0.00108".into()));
    world.finish().await;
}
