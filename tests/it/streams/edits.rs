//! The edits that are made on purpose: usage asked for and hidden again, and the model's name.

use serde_json::Value;
use weir::simulator::{self, Options};

use super::{ANSWER, ASK, ASK_USAGE, HIDDEN, before, exchange, tell};
use crate::harness::{Upstream, World, request};

#[tokio::test]
async fn usage_is_asked_for_and_hidden_where_the_client_did_not_ask() {
    let upstream = Upstream::start().await;
    let world = before(&upstream).start().await;
    // As it was asked, and what the upstream gets to see of it.
    let cases = [
        (r#""stream":true"#, r#""stream":true"#, true),
        (
            r#""stream_options":null,"stream":true"#,
            r#""stream_options":{"include_usage":true},"stream":true"#,
            false,
        ),
        (
            r#""stream":true,"stream_options": { }"#,
            r#""stream":true,"stream_options": {"include_usage":true }"#,
            false,
        ),
        (
            r#""stream":true,"stream_options":{"include_usage":false}"#,
            r#""stream":true,"stream_options":{"include_usage":true}"#,
            false,
        ),
        (
            r#""stream_options":{"include_usage" : null,"x":1},"stream":true"#,
            r#""stream_options":{"include_usage" : true,"x":1},"stream":true"#,
            false,
        ),
        (
            r#""stream_options":{"include_obfuscation":false},"stream":true"#,
            r#""stream_options":{"include_usage":true,"include_obfuscation":false},"stream":true"#,
            false,
        ),
    ];
    for (asked, expected, is_inserted) in cases {
        let body = |options: &str| format!("{{\"model\":\"gpt-5.4\",{options}, \"messages\":[]}}");
        let (received, seen) = exchange(&world, &upstream, &body(asked)).await;
        let expected = if is_inserted {
            body(expected).replacen('{', "{\"stream_options\":{\"include_usage\":true},", 1)
        } else {
            body(expected)
        };
        assert_eq!(String::from_utf8_lossy(&received.body), expected);
        let length = expected.len().to_string();
        assert_eq!(received.head.header("content-length"), Some(&*length));
        assert_eq!(seen, HIDDEN, "{asked}");
    }
    world.finish().await;
}

/// Only what states a usage is there for it: the rest is the client's, whatever it is good for. Of what stands
/// there because Weir has asked, the null goes.
#[tokio::test]
async fn what_states_no_usage_stays() {
    let upstream = Upstream::start().await;
    let world = before(&upstream).start().await;
    let more = ["", r#","provider":"p""#, r#","service_tier":"s""#, r#","obfuscation":"ab""#];
    let more = [&more[..], &[r#","system_fingerprint":"f""#, r#","object":"o","id":"""#]].concat();
    let kept = more.iter().map(|more| format!("data: {{\"choices\":[]{more}}}\n\n"));
    let kept: Vec<_> = kept.chain(["data: {}\n\n".into()]).collect();
    let nulls = kept.iter().filter(|event| event.contains("[]"));
    let nulls: Vec<_> = nulls.map(|event| event.replace("[]", "[],\"usage\":null")).collect();
    let kept: Vec<_> = kept.iter().map(String::as_str).collect();
    let nulls: Vec<_> = nulls.iter().map(String::as_str).collect();
    let sent = [&kept, &ANSWER[..1], &kept, &nulls, &ANSWER[1..3], &kept, &ANSWER[3..]].concat();
    let hidden = sent.concat().replace(ANSWER[2], "").replace(",\"usage\":null", "");
    for (ask, expected) in [(ASK, &hidden), (ASK_USAGE, &sent.concat())] {
        let mut client = world.post(ask).await;
        let (mut call, _) = upstream.call().await;
        tell(&mut call, &sent).await;
        let answer = client.answer().await;
        assert_eq!((answer.text(), answer.is_whole), (&**expected, true));
        let row = world.row(answer.event_id()).await;
        assert_eq!((row.total_tokens, &*row.usage_source), (7, "reported"));
    }
    world.finish().await;
}

#[tokio::test]
async fn who_asks_for_usage_gets_it_untouched() {
    let upstream = Upstream::start().await;
    let world = before(&upstream).start().await;
    let (received, seen) = exchange(&world, &upstream, ASK_USAGE).await;
    assert_eq!(String::from_utf8_lossy(&received.body), ASK_USAGE);
    assert_eq!(seen, ANSWER.concat());
    world.finish().await;
}

#[tokio::test]
async fn an_upstream_can_be_exempt_from_being_asked() {
    let upstream = Upstream::start().await;
    let world = before(&upstream).set("upstream.inject_usage", false).start().await;
    for ask in [ASK, ASK_USAGE] {
        let (received, seen) = exchange(&world, &upstream, ask).await;
        assert_eq!(String::from_utf8_lossy(&received.body), ask);
        assert_eq!(seen, ANSWER.concat(), "what it says of itself is not hidden");
    }
    world.finish().await;
}

#[tokio::test]
async fn what_is_no_stream_is_not_asked_for_usage() {
    let upstream = Upstream::start().await;
    let world = before(&upstream).start().await;
    let json = r#"{"usage":null,"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
    for options in [
        "",
        r#""stream":false,"#,
        r#""stream":null,"#,
        r#""stream":false,"stream_options":{"include_usage":false},"#,
    ] {
        let body = format!("{{{options}\"model\":\"gpt-5.4\",\"messages\":[]}}");
        let mut client = world.post(&body).await;
        let (mut call, received) = upstream.call().await;
        assert_eq!(String::from_utf8_lossy(&received.body), body);
        call.answer("200 OK", "content-type: application/json\r\n", json).await;
        let answer = client.answer().await;
        assert_eq!(answer.text(), json);
        assert_eq!(world.row(answer.event_id()).await.total_tokens, 7);
    }
    world.finish().await;
}

/// An upstream that does not know the option is asked again without it, and is not asked any more.
#[tokio::test]
async fn an_upstream_that_refuses_the_option_is_remembered() {
    let upstream = Upstream::start().await;
    let world = before(&upstream).start().await;
    let mut client = world.post(ASK).await;
    let (mut call, received) = upstream.call().await;
    assert!(String::from_utf8_lossy(&received.body).contains("include_usage"));
    let json = "content-type: application/json\r\n";
    let refusal = r#"{"error":{"message":"Unknown.","param":"stream_options"}}"#;
    call.answer("400 Bad Request", json, refusal).await;
    let (mut call, received) = upstream.call().await;
    assert_eq!(String::from_utf8_lossy(&received.body), ASK, "the client's own bytes");
    tell(&mut call, &ANSWER).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (200, &*ANSWER.concat()));
    let row = world.row(answer.event_id()).await;
    assert_eq!((row.attempts, row.flags), (2, vec!["usage_option_refused".to_owned()]));
    let (received, _) = exchange(&world, &upstream, ASK).await;
    assert_eq!(String::from_utf8_lossy(&received.body), ASK);
    world.finish().await;
}

/// The same for every dialect that the simulator speaks, both ways of asking.
#[tokio::test]
async fn no_dialect_shows_usage_that_nobody_asked_for() {
    let options = Options { answer_tokens: Some(12), ..Options::default() };
    let simulator = simulator::start(options).await.expect("a free port");
    let base_url = format!("\"{}\"", simulator.base_url());
    let world = World::builder().set("upstream.base_url", base_url).start().await;
    let body = |ask: &str| ask.replace("[]", r#"[{"role":"user","content":"Hi"}]"#);
    for dialect in ["openai", "azure", "litellm", "ollama", "llamacpp", "openrouter"] {
        let mut contents = Vec::new();
        for ask in [ASK, ASK_USAGE] {
            let headers = format!("x-sim-dialect: {dialect}\r\n");
            let path = "/v1/chat/completions";
            let raw = request("POST", path, &world.key, &headers, &body(ask));
            let mut client = world.connect().await;
            client.send(raw.as_bytes()).await;
            let answer = client.answer().await;
            let chunks = chunks(answer.text());
            let stated = chunks.iter().filter(|chunk| chunk["usage"].is_object()).count();
            let expected = usize::from(ask == ASK_USAGE);
            assert_eq!(stated, expected, "{dialect} {ask}: {}", answer.text());
            let row = world.row(answer.event_id()).await;
            assert_eq!((row.output_tokens, &*row.usage_source), (12, "reported"), "{dialect}");
            contents.push(chunks.iter().map(content).collect::<String>());
        }
        assert!(!contents[0].is_empty() && contents[0] == contents[1], "{dialect}: {contents:?}");
    }
    world.finish().await;
    simulator.shutdown().await;
}

fn chunks(stream: &str) -> Vec<Value> {
    let events = stream.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
    let documents = events.filter(|data| *data != "[DONE]");
    documents.map(|data| serde_json::from_str(data).expect(data)).collect()
}

fn content(chunk: &Value) -> String {
    chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned()
}

/// Wherever an API has the model's name, and whatever the upstream puts there: dated names, too.
#[tokio::test]
async fn no_api_shows_the_upstreams_name() {
    let upstream = Upstream::start().await;
    let models = r#"[{ name = "public", upstream_name = "up" }]"#;
    let world = before(&upstream).set("upstream.models", models).start().await;
    let usage = r#""usage":{"input_tokens":1,"output_tokens":2}"#;
    let cases = [
        (
            "/v1/responses",
            format!(
                "event: response.created\ndata: {{\"type\":\"response.created\",\"response\":\
                 {{\"id\":\"r\",\"model\":\"up-2026-11-27\",\"usage\":null}}}}\n\n\
                 event: response.completed\ndata: {{\"type\":\"response.completed\",\"response\":\
                 {{\"model\":\"up-2026-11-27\",{usage}}}}}\n\n"
            ),
        ),
        (
            "/v1/messages",
            format!(
                "event: message_start\ndata: {{\"type\":\"message_start\",\"message\":\
                 {{\"model\":\"up-2026-11-27\",{usage}}}}}\n\n\
                 event: message_delta\ndata: {{\"type\":\"message_delta\",\"usage\":\
                 {{\"output_tokens\":2}}}}\n\n\
                 event: message_stop\ndata: {{\"type\":\"message_stop\"}}\n\n"
            ),
        ),
    ];
    for (path, events) in cases {
        let body = r#"{"model":"public","max_tokens":9,"stream":true,"input":"x","messages":[]}"#;
        let mut client = world.connect().await;
        client.send(request("POST", path, &world.key, "", body).as_bytes()).await;
        let (mut call, received) = upstream.call().await;
        assert!(String::from_utf8_lossy(&received.body).contains(r#""model":"up""#));
        tell(&mut call, &[&events]).await;
        let answer = client.answer().await;
        assert_eq!(answer.text(), events.replace("up-2026-11-27", "public"), "{path}");
        let row = world.row(answer.event_id()).await;
        assert_eq!((&*row.model, row.model_served.as_deref()), ("public", Some("up-2026-11-27")));
        assert_eq!((row.total_tokens, &*row.usage_source), (3, "reported"), "{path}");
    }
    world.finish().await;
}

#[tokio::test]
async fn a_model_goes_by_its_public_name() {
    let upstream = Upstream::start().await;
    let models = r#"[{ name = "public", upstream_name = "up\"stream-2026" }, "gpt-5.4"]"#;
    let world = before(&upstream).set("upstream.models", models).start().await;
    let there = r#""up\"stream-2026""#;
    for asked in [r#""public""#, r#""p\u0075blic""#] {
        // A document: only the top-level name is Weir's business.
        let body =
            format!(r#"{{ "messages":["public",{{"model":"public"}}], "model" : {asked} }}"#);
        let mut client = world.post(&body).await;
        let (mut call, received) = upstream.call().await;
        let expected = body.replacen(&format!(": {asked}"), &format!(": {there}"), 1);
        assert_eq!(String::from_utf8_lossy(&received.body), expected);
        let usage = r#""usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}"#;
        let told = |name: &str| format!(r#"{{"x":{{"model":{there}}}, "model": {name},{usage}}}"#);
        call.answer("200 OK", "content-type: application/json\r\n", &told(there)).await;
        let answer = client.answer().await;
        assert_eq!(answer.text(), told(r#""public""#));
        let row = world.row(answer.event_id()).await;
        assert_eq!(
            (&*row.model, row.model_served.as_deref()),
            ("public", Some(r#"up"stream-2026"#))
        );
        assert_eq!(row.total_tokens, 3);
    }
    for options in ["", r#""stream_options":{"include_usage":true},"#] {
        // A stream: in every event, usage hidden or not.
        let body = format!(r#"{{"model":"public",{options}"stream":true}}"#);
        let mut client = world.post(&body).await;
        let (mut call, received) = upstream.call().await;
        let expected = body.replace(r#""public""#, there);
        assert!(String::from_utf8_lossy(&received.body).ends_with(&expected[1..]));
        let events: Vec<_> = ANSWER
            .iter()
            .map(|event| event.replace(r#"{"choices"#, r#"{"model":"gpt-5.4","choices"#))
            .collect();
        let theirs: Vec<_> = events.iter().map(|it| it.replace(r#""gpt-5.4""#, there)).collect();
        tell(&mut call, &theirs.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let answer = client.answer().await;
        let mut ours = events.concat().replace("gpt-5.4", "public");
        if options.is_empty() {
            ours = ours.replace(",\"usage\":null", "");
            let usage =
                ours.find("data: {\"model\":\"public\",\"choices\":[],").expect("it is there");
            let done = ours.find("data: [DONE]").expect("it is there");
            ours.replace_range(usage..done, "");
        }
        assert_eq!(answer.text(), ours);
    }
    // A model that has one name is not touched.
    exchange(&world, &upstream, ASK).await;
    world.finish().await;
}
