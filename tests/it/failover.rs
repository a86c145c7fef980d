//! Several candidates for one model: a request goes to another one where nothing was generated, and only there; who fails
//! rests, and is asked again by one request at a time.

use serde_json::{Value, json};
use weir::clock::Clock;
use weir::server::Environment;

use crate::harness::{
    Answer, Builder, Call, Received, Upstream, World, chunk, eventually, request,
};

const CHAT: &str = r#"{"model":"gpt-5.4","messages":[{"role":"user","content":"hi"}]}"#;
const STREAM: &str =
    r#"{"model":"gpt-5.4","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
const JSON: &str = "content-type: application/json\r\n";
const ANSWER: &str = r#"{"id":"c","object":"chat.completion","model":"gpt-5.4","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":8,"completion_tokens":2,"total_tokens":10}}"#;
const EVENTS: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-5.4\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"},\"finish_reason\":\"stop\"}]}\n\n\
    data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-5.4\",\"choices\":[],\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":2,\"total_tokens\":10}}\n\ndata: [DONE]\n\n";

/// A gateway whose second upstream gets what the first can't take.
fn before(first: &str, second: &Upstream, more: &str) -> Builder {
    let second = format!(
        "[[upstream]]\nname = \"second\"\nbase_url = \"{}\"\nmodels = [\"gpt-5.4\"]\npriority = 1\n\
         breaker_failures = 0\n{more}\n",
        second.base_url()
    );
    World::builder().set("upstream.base_url", format!("{first:?}")).more(&second)
}

async fn stream(call: &mut Call) {
    call.stream().await;
    call.chunk(EVENTS).await;
    call.chunk("").await;
}

/// A request that the first upstream answers with `status`, if it is called, and the second with a whole answer.
async fn elsewhere(
    world: &World,
    first: &Upstream,
    second: &Upstream,
    status: &str,
) -> (Answer, Received) {
    let mut client = world.post(CHAT).await;
    let (mut call, _) = first.call().await;
    call.answer(status, JSON, r#"{"error":{"message":"No.","type":"x","code":"y"}}"#).await;
    let (mut call, received) = second.call().await;
    call.answer("200 OK", JSON, ANSWER).await;
    (client.answer().await, received)
}

#[tokio::test]
async fn where_nothing_was_generated_another_one_answers() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let world = before(&first.base_url(), &second, "").start().await;
    for (line, status) in [
        ("429 Too Many Requests", 429),
        ("503 Service Unavailable", 503),
        ("401 Unauthorized", 401),
        ("402 Payment Required", 402),
    ] {
        let (answer, received) = elsewhere(&world, &first, &second, line).await;
        assert_eq!((answer.status, answer.text()), (200, ANSWER), "{line}");
        // No key was configured for it: the first one's does not go there.
        assert_eq!(received.head.header("authorization"), None);
        assert_eq!(received.body, CHAT.as_bytes());
        let row = world.row(answer.event_id()).await;
        assert_eq!((&*row.upstream, row.attempts, row.total_tokens), ("second", 2, 10));
        let failed = row.failed_attempts.expect("it had been elsewhere");
        let expected = json!([{"upstream": "up", "status": status, "duration_ms": 0}]);
        assert_eq!(failed, expected, "{line}");
    }
    let metrics = world.metrics().await;
    assert!(metrics.contains("\nweir_upstream_failovers_total 4\n"), "{metrics}");
    world.finish().await;
}

#[tokio::test]
async fn a_stream_goes_elsewhere_before_its_first_byte() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let world = before(&first.base_url(), &second, "").start().await;
    let mut client = world.post(STREAM).await;
    let (mut call, received) = first.call().await;
    assert!(String::from_utf8_lossy(&received.body).contains("include_usage"));
    call.answer("503 Service Unavailable", JSON, "{}").await;
    let (mut call, received) = second.call().await;
    assert!(String::from_utf8_lossy(&received.body).contains("include_usage"));
    stream(&mut call).await;
    let answer = client.answer().await;
    assert!(answer.text().contains("Hello") && answer.text().ends_with("data: [DONE]\n\n"));
    assert!(!answer.text().contains("usage"), "{}", answer.text());
    let row = world.row(answer.event_id()).await;
    assert_eq!((&*row.end, &*row.usage_source, row.total_tokens), ("complete", "reported", 10));
    world.finish().await;
}

#[tokio::test]
async fn one_that_cannot_be_reached_is_passed_over() {
    let second = Upstream::start().await;
    let world = before("http://127.0.0.1:9", &second, "").start().await;
    let mut client = world.post(CHAT).await;
    let (mut call, _) = second.call().await;
    call.answer("200 OK", JSON, ANSWER).await;
    let answer = client.answer().await;
    let row = world.row(answer.event_id()).await;
    let failed = row.failed_attempts.expect("it had been elsewhere");
    assert_eq!(failed[0]["error"], "connect");
    world.finish().await;
}

/// The client's own faults, and what the upstream may have worked on, are answered as they are.
#[tokio::test]
async fn what_may_have_been_worked_on_goes_nowhere_else() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let world = before(&first.base_url(), &second, "").start().await;
    for (line, status) in [
        ("400 Bad Request", 400),
        ("404 Not Found", 404),
        ("500 Internal Server Error", 500),
        ("504 Gateway Timeout", 504),
    ] {
        let mut client = world.post(CHAT).await;
        let (mut call, _) = first.call().await;
        call.answer(line, JSON, r#"{"error":{"message":"No."}}"#).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status);
        let row = world.row(answer.event_id()).await;
        assert_eq!((row.attempts, row.failed_attempts), (1, None));
    }
    let mut client = world.post(CHAT).await;
    let (call, _) = first.call().await;
    call.reset();
    assert_eq!(client.answer().await.code(), "upstream_reset");
    assert!(!second.was_called());
    world.finish().await;
}

#[tokio::test]
async fn a_lost_connection_goes_elsewhere_where_that_is_wanted() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let world = before(&first.base_url(), &second, "").set("retry.on_reset", true).start().await;
    let mut client = world.post(CHAT).await;
    let (call, _) = first.call().await;
    call.reset();
    let (mut call, _) = second.call().await;
    call.answer("200 OK", JSON, ANSWER).await;
    assert_eq!(client.answer().await.text(), ANSWER);
    world.finish().await;
}

#[tokio::test]
async fn attempts_are_bounded_in_number_and_by_a_budget() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let world = before(&first.base_url(), &second, "").set("retry.attempts", 1).start().await;
    let mut client = world.post(CHAT).await;
    let (mut call, _) = first.call().await;
    call.answer("503 Service Unavailable", JSON, r#"{"error":{"message":"No."}}"#).await;
    assert_eq!(client.answer().await.status, 503);
    assert!(!second.was_called());
    world.finish().await;

    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let world = before(&first.base_url(), &second, "").set("retry.budget_percent", 0).start().await;
    for _ in 0..10 {
        elsewhere(&world, &first, &second, "503 Service Unavailable").await;
    }
    let mut client = world.post(CHAT).await;
    let (mut call, _) = first.call().await;
    call.answer("503 Service Unavailable", JSON, r#"{"error":{"message":"No."}}"#).await;
    assert_eq!(client.answer().await.status, 503);
    let metrics = world.metrics().await;
    assert!(metrics.contains("\nweir_upstream_retries_refused_total 1\n"), "{metrics}");
    world.finish().await;
}

#[tokio::test]
async fn each_candidate_gets_its_own_name_for_the_model_and_what_its_operator_lets_pass() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let more = "refuse_fields = [\"seed\"]";
    let mapped = "models = [{ name = \"gpt-5.4\", upstream_name = \"there\" }]";
    let world = before(&first.base_url(), &second, more);
    let world = world.set("upstream.models", "[{ name = \"gpt-5.4\", upstream_name = \"here\" }]");
    let world = world.start().await;
    let mut client = world.post(CHAT).await;
    let (mut call, received) = first.call().await;
    let model = |received: &Received| {
        let body: Value = serde_json::from_slice(&received.body).expect("it is JSON");
        body["model"].as_str().map(str::to_owned)
    };
    assert_eq!(model(&received).as_deref(), Some("here"));
    call.answer("429 Too Many Requests", JSON, "{}").await;
    let (mut call, received) = second.call().await;
    assert_eq!(model(&received).as_deref(), Some("gpt-5.4"), "{mapped}");
    call.answer("200 OK", JSON, ANSWER).await;
    assert_eq!(client.answer().await.text(), ANSWER);
    // The second one refuses this field: the first one's answer stands.
    let mut client = world.post(&CHAT.replacen('{', "{\"seed\":1,", 1)).await;
    let (mut call, _) = first.call().await;
    call.answer("429 Too Many Requests", JSON, r#"{"error":{"message":"Wait."}}"#).await;
    assert_eq!(client.answer().await.status, 429);
    assert!(!second.was_called());
    world.finish().await;
}

#[tokio::test]
async fn a_key_that_is_not_accepted_rests_and_the_other_one_serves() {
    let upstream = Upstream::start().await;
    let keys = tempfile::tempdir().expect("a directory");
    let file = |name: &str| {
        let path = keys.path().join(name);
        std::fs::write(&path, format!("sk-{name}")).expect("it is written");
        format!(
            "{{ name = {name:?}, key = {:?}, weight = {} }}",
            format!("file:{}", path.display()),
            1
        )
    };
    let (clock, hand) = Clock::manual(1_780_000_000_000);
    let environment = Environment { clock, ..Environment::default() };
    let world = World::before(&upstream)
        .set("upstream.api_key", "\"\"")
        .set("upstream.api_keys", format!("[{}, {}]", file("a"), file("b")))
        .set("upstream.breaker_failures", 5)
        .environment(environment)
        .start()
        .await;
    let mut rejected = None;
    for turn in 0..12 {
        if turn == 8 {
            // It has rested for long enough: whoever draws it first is the probe.
            hand.advance_ms(60_000);
        }
        let mut client = world.post(CHAT).await;
        let mut key = None;
        loop {
            let (mut call, received) = upstream.call().await;
            let sent = received.head.header("authorization").expect("a key").to_owned();
            if sent == "Bearer sk-a" && turn < 8 {
                assert!(rejected.is_none(), "it was asked again at turn {turn}");
                rejected = Some(turn);
                call.answer("401 Unauthorized", JSON, "{}").await;
                continue;
            }
            call.answer("200 OK", JSON, ANSWER).await;
            key.get_or_insert(sent);
            break;
        }
        let answer = client.answer().await;
        assert_eq!(answer.text(), ANSWER, "the client sees nothing of it");
        let row = world.row(answer.event_id()).await;
        let name = key.expect("one has served").replace("Bearer sk-", "");
        assert_eq!(row.upstream_key.as_deref(), Some(&*name));
        if turn >= 8 {
            rejected = None;
        }
    }
    world.finish().await;
}

#[tokio::test]
async fn who_fails_rests_and_one_request_at_a_time_finds_out_whether_it_is_well() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let (clock, hand) = Clock::manual(1_780_000_000_000);
    let environment = Environment { clock, ..Environment::default() };
    let world = before(&first.base_url(), &second, "")
        .set("upstream.breaker_failures", 3)
        .set("retry.on_status", "[500]")
        .environment(environment)
        .start()
        .await;
    for _ in 0..3 {
        elsewhere(&world, &first, &second, "500 Internal Server Error").await;
    }
    let by_second = async || {
        let mut client = world.post(CHAT).await;
        let (mut call, _) = second.call().await;
        call.answer("200 OK", JSON, ANSWER).await;
        client.answer().await
    };
    let row = world.row(by_second().await.event_id()).await;
    assert_eq!((row.attempts, row.failed_attempts), (1, None), "it is not asked any more");
    assert!(!first.was_called());
    hand.advance_ms(1_000);
    let mut probe = world.post(CHAT).await;
    let (mut call, _) = first.call().await;
    by_second().await;
    assert!(!first.was_called(), "the probe is out");
    call.answer("200 OK", JSON, ANSWER).await;
    assert_eq!(probe.answer().await.text(), ANSWER);
    let mut client = world.post(CHAT).await;
    let received = call.receive().await;
    assert_eq!(received.body, CHAT.as_bytes(), "it serves again");
    call.answer("200 OK", JSON, ANSWER).await;
    client.answer().await;
    world.finish().await;
}

#[tokio::test]
async fn when_all_rest_the_answer_says_for_how_long() {
    let upstream = Upstream::start().await;
    let (clock, hand) = Clock::manual(1_780_000_000_000);
    let environment = Environment { clock, ..Environment::default() };
    let world = World::before(&upstream)
        .set("upstream.breaker_failures", 2)
        .environment(environment)
        .start()
        .await;
    let mut client = world.post(CHAT).await;
    let (mut call, _) = upstream.call().await;
    let headers = format!("{JSON}retry-after: 17\r\n");
    call.answer("429 Too Many Requests", &headers, r#"{"error":{"message":"Wait."}}"#).await;
    assert_eq!(client.answer().await.header("retry-after"), Some("17"));
    hand.advance_ms(5_000);
    let answer = world.post(CHAT).await.answer().await;
    assert_eq!((answer.status, &*answer.code()), (429, "upstream_rate_limited"));
    assert_eq!(answer.header("retry-after"), Some("12"));
    hand.advance_ms(12_000);
    for _ in 0..2 {
        let mut client = world.post(CHAT).await;
        let received = call.receive().await;
        assert!(!received.body.is_empty());
        call.answer("500 Internal Server Error", JSON, r#"{"error":{"message":"No."}}"#).await;
        client.answer().await;
    }
    let answer = world.post(CHAT).await.answer().await;
    assert_eq!((answer.status, &*answer.code()), (503, "upstream_unavailable"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(!upstream.was_called());
    world.finish().await;
}

#[tokio::test]
async fn an_alias_is_the_model_itself() {
    let upstream = Upstream::start().await;
    let more = "[[model]]\nname = \"gpt-5.4\"\naliases = [\"latest\"]\n";
    let world = World::before(&upstream).more(more).start().await;
    let mut client = world.post(&CHAT.replace("gpt-5.4", "latest")).await;
    let (mut call, received) = upstream.call().await;
    assert_eq!(received.body, CHAT.as_bytes());
    call.answer("200 OK", JSON, ANSWER).await;
    let answer = client.answer().await;
    assert_eq!(world.row(answer.event_id()).await.model, "gpt-5.4");
    world.finish().await;
}

/// What one account keeps, no other has: who goes on from a response goes where it is kept, or nowhere.
#[tokio::test]
async fn who_goes_on_from_a_response_goes_where_it_is_kept() {
    const ASK: &str = r#"{"model":"gpt-5.4","input":"hi"}"#;
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let world = before(&first.base_url(), &second, "").start().await;
    let post = async |body: &str| {
        let mut client = world.connect().await;
        let request = request("POST", "/v1/responses", &world.key, "", body);
        client.send(request.as_bytes()).await;
        client
    };
    let kept = |id: &str| {
        format!(
            r#"{{"id":"{id}","object":"response","status":"completed","model":"gpt-5.4","output":[],"usage":{{"input_tokens":8,"output_tokens":2,"total_tokens":10}}}}"#
        )
    };
    let mut client = post(ASK).await;
    let (mut call, _) = first.call().await;
    call.answer("429 Too Many Requests", JSON, "{}").await;
    let (mut call, _) = second.call().await;
    call.answer("200 OK", JSON, &kept("resp_1")).await;
    assert_eq!(client.answer().await.status, 200);
    let next = ASK.replacen('{', r#"{"previous_response_id":"resp_1","#, 1);
    let mut client = post(&next).await;
    let received = call.receive().await;
    assert!(String::from_utf8_lossy(&received.body).contains("resp_1"));
    call.answer("429 Too Many Requests", JSON, "{}").await;
    assert_eq!(client.answer().await.status, 429);
    assert!(!first.was_called(), "its upstream is the only one that has it");
    let mut client = post(&next.replace("resp_1", "resp_2")).await;
    assert_eq!(client.answer().await.code(), "previous_response_not_found");
    world.finish().await;
}

/// Only the body says whether a 429 is about money; what was read for that comes to the client all the same.
#[tokio::test]
async fn a_slow_refusal_comes_whole() {
    let upstream = Upstream::start().await;
    for is_chunked in [false, true] {
        let breaker = "upstream.breaker_failures";
        let world = World::before(&upstream).set(breaker, 5).start().await;
        let mut client = world.post(CHAT).await;
        let (mut call, _) = upstream.call().await;
        let (first, rest) = (r#"{"error":{"message":"slow"#, r#" down"}}"#);
        let length = first.len() + rest.len();
        let framing = match is_chunked {
            true => "transfer-encoding: chunked".to_owned(),
            false => format!("content-length: {length}"),
        };
        call.write(format!("HTTP/1.1 429 Too Many Requests\r\n{JSON}{framing}\r\n\r\n")).await;
        let piece = |text: &str| match is_chunked {
            true => chunk(text),
            false => text.as_bytes().to_vec(),
        };
        call.write(piece(first)).await;
        // Longer than it is waited for.
        let head = client.head().await;
        assert_eq!(head.status(), 429);
        call.write(piece(rest)).await;
        if is_chunked {
            call.chunk("").await;
        }
        let (body, is_whole) = client.rest().await;
        assert_eq!((body, is_whole), ((first.to_owned() + rest).into_bytes(), true));
        world.finish().await;
    }
}

#[tokio::test]
async fn what_may_have_cost_is_booked_where_nobody_answers() {
    let first = Upstream::start().await;
    let second = Upstream::start().await;
    let world = before(&first.base_url(), &second, "").set("retry.on_reset", true).start().await;
    let mut client = world.post(CHAT).await;
    let (call, _) = first.call().await;
    call.reset();
    let (mut call, _) = second.call().await;
    call.answer("400 Bad Request", JSON, r#"{"error":{"message":"No."}}"#).await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 400);
    let row = world.row(answer.event_id()).await;
    assert_eq!((row.attempts, row.total_tokens), (2, row.reserved_tokens), "{row:?}");
    world.finish().await;

    // None of these was sent, or cost.
    let world = before("http://127.0.0.1:9", &second, "").start().await;
    let mut client = world.post(CHAT).await;
    let (mut call, _) = second.call().await;
    call.answer("400 Bad Request", JSON, r#"{"error":{"message":"No."}}"#).await;
    let row = world.row(client.answer().await.event_id()).await;
    assert_eq!((row.attempts, row.total_tokens), (1, 0), "a byte of it left once");
    world.finish().await;
}

#[tokio::test]
async fn who_has_left_is_tried_nowhere_else() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let world = before(&first.base_url(), &second, "").start().await;
    let client = world.post(CHAT).await;
    let (mut call, _) = first.call().await;
    client.reset();
    // It is read on, for what it may state; its client is seen to have left before that.
    eventually("the client is gone", || (world.server().connections() == [0]).then_some(())).await;
    call.answer("503 Service Unavailable", JSON, "{}").await;
    let rows = world.rows_eventually(1).await;
    assert_eq!((&*rows[0].end, rows[0].attempts), ("client_closed", 1));
    assert!(!second.was_called());
    world.finish().await;
}

#[tokio::test]
async fn that_the_one_that_takes_it_rests_is_said_and_not_that_another_may_not() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let world = before(&first.base_url(), &second, "refuse_fields = [\"seed\"]")
        .set("upstream.breaker_failures", 1)
        .start()
        .await;
    let seeded = CHAT.replacen('{', "{\"seed\":1,", 1);
    let mut client = world.post(&seeded).await;
    let (mut call, _) = first.call().await;
    call.answer("500 Internal Server Error", JSON, r#"{"error":{"message":"No."}}"#).await;
    assert_eq!(client.answer().await.status, 500);
    let answer = world.post(&seeded).await.answer().await;
    assert_eq!(answer.code(), "upstream_unavailable");
    world.finish().await;
}
