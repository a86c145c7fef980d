//! All endpoints that cost tokens: each forwarded byte for byte, identified, limited and recorded alike.
//! Which there are is read from the one table of routes, so that none is forgotten here.

pub mod samples;
mod bodies;
mod anthropic;
mod checked;
mod audio;

use serde_json::Value;
use weir::simulator::Served;

use crate::harness::{Answer, Row, UPSTREAM_KEY, Upstream, World, eventually};
use crate::http::assert_own_error;
use crate::traffic::simulated;
use samples::{FREE, Sample, post, sample, samples};

/// Sends a request on a new connection.
async fn ask(world: &World, bytes: &[u8]) -> Answer {
    let mut client = world.connect().await;
    client.send(bytes).await;
    client.answer().await
}

/// What the simulator served last, once it has ended.
async fn served(simulator: &weir::simulator::Simulator, count: usize) -> Served {
    let last = || simulator.served().into_iter().nth(count - 1);
    eventually("the simulator has served it", last).await
}

#[tokio::test]
async fn no_route_forwards_without_key_limit_and_ledger() {
    let (simulator, builder) = simulated().await;
    let world = builder.start().await;
    let paths = weir::bench::forwarded_paths();
    assert_eq!(paths.len(), 13);
    for (done, path) in paths.into_iter().enumerate() {
        let Sample { content_type, body, .. } = sample(path);
        for key in ["", "nobody", &format!("{}x", world.key)] {
            let answer = ask(&world, &post(path, key, &content_type, "", &body)).await;
            let error = &answer.json()["error"];
            assert_eq!((answer.status, &error["code"]), (401, &"invalid_api_key".into()), "{path}");
        }
        assert_eq!(
            simulator.counts().requests,
            2 * done as u64,
            "{path} was forwarded without a key"
        );

        let key = world.new_key(&["--rpm", "1"]).await;
        let request = post(path, &key, &content_type, "", &body);
        let first = ask(&world, &request).await;
        assert_eq!(first.status, 200, "{path}: {:?}", String::from_utf8_lossy(&first.body));
        assert_eq!(first.header("x-ratelimit-remaining-requests"), Some("0"), "{path}");
        let second = ask(&world, &request).await;
        assert_eq!((second.status, second.header("x-weir-limit")), (429, Some("key-requests")));
        assert_eq!(simulator.counts().requests, 2 * done as u64 + 1, "{path} ignores a limit");

        let row = world.row(first.event_id()).await;
        assert_eq!((&*row.endpoint, &*row.end, row.status), (path, "complete", 200));
        let poor = world.new_key(&["--daily-requests", "1"]).await;
        let request = post(path, &poor, &content_type, "", &body);
        assert_eq!(ask(&world, &request).await.status, 200);
        let refused = ask(&world, &request).await;
        assert_eq!((refused.status, refused.code().as_str()), (429, "insufficient_quota"));
        let narrow = world.new_key(&["--models", "gpt-5.4-image-2"]).await;
        let refused = ask(&world, &post(path, &narrow, &content_type, "", &body)).await;
        assert_eq!((refused.status, refused.code().as_str()), (404, "model_not_found"));
        assert_eq!(simulator.counts().requests, 2 * done as u64 + 2, "{path} ignores a limit");
    }
    world.rows_eventually(26).await;
    world.finish().await;
    simulator.shutdown().await;
}

/// Every sample as a client sends it arrives as it was sent, and its answer comes back as it was given.
#[tokio::test]
async fn every_route_is_transparent() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let answer = b"\x00\xffany \r\n bytes";
    for Sample { path, content_type, body, .. } in samples() {
        let target = format!("{path}?api-version=1%2F2&beta=%20");
        let headers =
            "x-stainless-x: 1\r\nanthropic-version: 2023-06-01\r\nanthropic-beta: a,b\r\n";
        let mut client = world.connect().await;
        client
            .send(&post(&format!("{target}&&x=%20"), &world.key, &content_type, headers, &body))
            .await;
        let (mut call, received) = upstream.call().await;
        assert_eq!(received.head.first, format!("POST {target} HTTP/1.1"));
        let is_chat = path.ends_with("completions");
        if !is_chat || !String::from_utf8_lossy(&body).contains("\"stream\":true") {
            assert_eq!(received.body, body, "{path}");
        }
        let head = &received.head;
        assert_eq!(head.header("content-type"), Some(&*content_type), "the boundary is kept");
        assert_eq!(head.header("authorization"), Some(&*format!("Bearer {UPSTREAM_KEY}")));
        let own = path.starts_with("/v1/messages").then_some(UPSTREAM_KEY);
        assert_eq!(head.header("x-api-key"), own, "{path}");
        for name in ["x-stainless-x", "anthropic-version", "anthropic-beta"] {
            assert!(head.header(name).is_some(), "{name}");
        }
        assert!(!head.raw.contains(&world.key), "{path}");
        call.ok(&format!("content-type: audio/mpeg\r\ncontent-length: {}\r\n", answer.len())).await;
        call.write(answer).await;
        let got = client.answer().await;
        assert_eq!((got.status, &*got.body, got.is_whole), (200, &answer[..], true), "{path}");
        assert_eq!(got.header("content-type"), Some("audio/mpeg"));
    }
    world.rows_eventually(samples().len()).await;
    world.finish().await;
}

/// What the row says, compared with what the simulator counted. An answer that states no usage is
/// estimated, and says so.
fn assert_booked(sample: &Sample, row: &Row, served: &Served) {
    let what = format!("{} {row:?}", sample.path);
    assert_eq!((row.streamed, &*row.end), (sample.stream, "complete"), "{what}");
    assert_eq!(row.upstream_request_id.as_deref(), Some(&*served.request_id), "{what}");
    assert!(row.flags.is_empty(), "{what}");
    if sample.states {
        assert_eq!(row.usage_source, "reported", "{what}");
        let booked = (row.input_tokens, row.output_tokens);
        assert_eq!(booked, (served.prompt_tokens, served.completion_tokens), "{what}");
    } else if sample.path == FREE {
        assert_eq!((&*row.usage_source, row.total_tokens, row.reserved_tokens), ("none", 0, 0));
    } else {
        assert_eq!(row.usage_source, "estimated", "{what}");
    }
}

#[tokio::test]
async fn every_form_of_answer_is_passed_on_and_booked() {
    let (simulator, builder) = simulated().await;
    let world = builder.start().await;
    for (at, sample) in samples().into_iter().enumerate() {
        let Sample { path, content_type, body, .. } = &sample;
        let headers = "x-sim-tokens: 9\r\nx-sim-picture-scale: 1\r\n";
        let answer = ask(&world, &post(path, &world.key, content_type, headers, body)).await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!((answer.status, answer.is_whole), (200, true), "{path}: {text}");
        assert_eq!(answer.header("x-weir-origin"), Some("upstream"));
        assert!(answer.header("content-type").is_some_and(|it| it.starts_with(sample.answer)));
        assert!(text.contains(sample.holds), "{path}: {text}");
        let is_null = path.ends_with("/completions") && text.contains("\"usage\":null");
        assert!(!is_null, "nobody asked for it: {text}");
        let served = served(&simulator, at + 1).await;
        assert_eq!(&served.path, path);
        assert_booked(&sample, &world.row(answer.event_id()).await, &served);
    }
    let (counts, rows) = (simulator.counts(), world.place.rows());
    assert_eq!(counts.completed, rows.len() as u64);
    world.finish().await;
    simulator.shutdown().await;
}

#[tokio::test]
async fn reservations_follow_each_apis_own_fields() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    // Path, body, what is reserved above the input; the default is 1024, and 1800 for an image.
    for (path, body, output) in [
        (
            "/v1/responses",
            r#"{"model":"gpt-5.4","input":"x","max_output_tokens":7,"max_tokens":9}"#,
            9,
        ),
        // A word of another API's is no bound, and may be one.
        ("/v1/responses", r#"{"model":"gpt-5.4","input":"x","max_tokens":1,"n":5}"#, 5 * 1024),
        ("/v1/responses", r#"{"model":"gpt-5.4","input":"x","max_tokens":3000}"#, 3000),
        ("/v1/messages", r#"{"model":"gpt-5.4","messages":[],"max_tokens":7}"#, 7),
        ("/v1/messages", r#"{"model":"gpt-5.4","messages":[],"max_completion_tokens":7}"#, 1024),
        ("/v1/completions", r#"{"model":"gpt-5.4","prompt":["a","b"],"n":2,"max_tokens":7}"#, 28),
        ("/v1/completions", r#"{"model":"gpt-5.4","prompt":"a","n":2,"best_of":3}"#, 3072),
        ("/v1/completions", r#"{"model":"gpt-5.4","prompt":"a","max_tokens":-1}"#, 1024),
        ("/v1/completions", r#"{"model":"gpt-5.4","prompt":"a","n_predict":2000}"#, 2000),
        ("/v1/embeddings", r#"{"model":"gpt-5.4","input":["x"],"max_tokens":7}"#, 0),
        ("/v1/moderations", r#"{"model":"gpt-5.4","input":"x","n":2}"#, 0),
        ("/v1/images/generations", r#"{"model":"gpt-5.4","prompt":"x","n":3}"#, 5400),
        ("/v1/audio/speech", r#"{"model":"gpt-5.4","input":"x","voice":"v","max_tokens":1}"#, 2),
        // How it is to be read is not read out.
        ("/v1/audio/speech", r#"{"instructions":"Softly.","model":"gpt-5.4","input":"x"}"#, 2),
        ("/v1/audio/speech", r#"{"text":"a","prompt":"b","model":"gpt-5.4","input":"x"}"#, 2),
    ] {
        let mut client = world.connect().await;
        client.send(&post(path, &world.key, "application/json", "", body.as_bytes())).await;
        let (mut call, _) = upstream.call().await;
        call.answer("400 Bad Request", "content-type: application/json\r\n", "{}").await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 400);
        let row = world.row(answer.event_id()).await;
        // There are few words in it.
        let input = body.len() as u64 / 8;
        assert_eq!((row.reserved_tokens, row.total_tokens), (input + output, 0), "{path} {body}");
    }
    world.finish().await;
}

#[tokio::test]
async fn usage_is_asked_for_only_where_a_stream_has_the_option() {
    let (simulator, builder) = simulated().await;
    let world = builder.start().await;
    for (at, sample) in samples().into_iter().filter(|sample| sample.stream).enumerate() {
        let Sample { path, content_type, body, .. } = &sample;
        let answer = ask(&world, &post(path, &world.key, content_type, "", body)).await;
        assert_eq!(answer.status, 200);
        let served = served(&simulator, at + 1).await;
        let has_option = String::from_utf8_lossy(&served.body).contains("include_usage");
        assert_eq!(has_option, path.ends_with("/completions"), "{path}");
        if has_option {
            let value: Value = serde_json::from_slice(&served.body).expect("JSON");
            assert_eq!(value["stream_options"]["include_usage"], true);
        } else {
            assert_eq!(&*served.body, &**body, "{path}");
        }
    }
    world.finish().await;
    simulator.shutdown().await;
}

#[tokio::test]
async fn a_model_is_needed_everywhere() {
    let (simulator, builder) = simulated().await;
    let world = builder.start().await;
    for path in weir::bench::forwarded_paths() {
        let body = br#"{"input":"x","prompt":"x","messages":[]}"#;
        let answer = ask(&world, &post(path, &world.key, "application/json", "", body)).await;
        let error = &answer.json()["error"];
        assert_eq!((answer.status, &error["code"]), (400, &"invalid_request".into()));
        assert_eq!(error["message"], "Invalid request. `model` is missing.");
        if !path.starts_with("/v1/messages") {
            assert_own_error(&answer, 400, "invalid_request_error", "invalid_request");
        }
    }
    assert_eq!(simulator.counts().requests, 0);
    world.finish().await;
    simulator.shutdown().await;
}

/// An endpoint stands behind the Base URL as the official SDKs put it there.
#[tokio::test]
async fn every_base_url_is_one_of_the_sdks() {
    let upstream = Upstream::start().await;
    for (base, path, target) in [
        ("", "/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/", "/v1/chat/completions", "/v1/chat/completions"),
        ("/v1beta/openai/", "/v1/chat/completions", "/v1beta/openai/chat/completions"),
        ("/api/v3", "/v1/chat/completions", "/api/v3/chat/completions"),
        ("/api/paas/v4/", "/v1/embeddings", "/api/paas/v4/embeddings"),
        ("/openai/v1", "/v1/responses", "/openai/v1/responses"),
        ("/compatible-mode/v1", "/v1/completions", "/compatible-mode/v1/completions"),
        ("", "/v1/messages", "/v1/messages"),
        ("/anthropic", "/v1/messages/count_tokens", "/anthropic/v1/messages/count_tokens"),
    ] {
        let base_url = format!("\"{}{base}\"", upstream.base_url());
        let world = World::builder().set("upstream.base_url", base_url).start().await;
        let Sample { content_type, body, .. } = sample(path);
        let mut client = world.connect().await;
        let asked = format!("{path}?api-version=preview");
        client.send(&post(&asked, &world.key, &content_type, "", &body)).await;
        let (mut call, received) = upstream.call().await;
        assert_eq!(received.head.first, format!("POST {target}?api-version=preview HTTP/1.1"));
        call.answer("200 OK", "content-type: application/json\r\nconnection: close\r\n", "{}")
            .await;
        assert_eq!(client.answer().await.status, 200);
        world.finish().await;
    }
}
