//! S1 to S23: the document of the text model.

use serde_json::json;

use super::{
    BAD_KEY, CHAT, CHAT_PATH, INVALID, JSON_MODE, STREAM, Site, TOO_FAST, TOOLS, TURNS, VISION,
    assert_counts, refusal, row_of_usage,
};
use crate::harness::{Row, UPSTREAM_KEY, Upstream, World, misspelt, request};

#[tokio::test]
async fn s01_the_base_url_is_without_v1_and_may_have_it() {
    for suffix in ["", "/", "/v1", "/v1/"] {
        let upstream = Upstream::start().await;
        let base_url = format!("\"{}{suffix}\"", upstream.base_url());
        let world = World::builder().set("upstream.base_url", base_url).start().await;
        let mut client = world.post(CHAT).await;
        let (mut call, received) = upstream.call().await;
        assert_eq!(received.head.first, "POST /v1/chat/completions HTTP/1.1", "{suffix}");
        call.answer("200 OK", "content-type: application/json\r\n", "{}").await;
        assert_eq!(client.answer().await.text(), "{}");
        world.finish().await;
    }
}

#[tokio::test]
async fn s02_every_request_needs_a_bearer_key() {
    let site = Site::start().await;
    let world = &site.world;
    let key = world.key.clone();
    for (method, path, body) in [("POST", CHAT_PATH, CHAT), ("GET", "/v1/models", "")] {
        let good = request(method, path, &key, "", body);
        assert_eq!(refusal(world, &good).await.status, 200, "{method}");
        let lower = good.replace("Bearer ", "bearer ");
        assert_eq!(refusal(world, &lower).await.status, 200, "{method}");
        let line = format!("authorization: Bearer {key}\r\n");
        for bad in ["", "authorization: Bearer \r\n", "authorization: Basic x\r\n"] {
            let answer = refusal(world, &good.replace(&line, bad)).await;
            assert_eq!((answer.status, answer.text()), (401, BAD_KEY), "{method} {bad}");
        }
    }
    assert_eq!(site.simulator.counts().requests, 2, "what has no key stays here");
    site.finish().await;
}

#[tokio::test]
async fn s03_listed_parameters_and_others_pass_unchanged() {
    let site = Site::start().await;
    let listed = r#"{"temperature":0.70, "top_p" : 1e0,"max_completion_tokens":64,"stream":false,
        "response_format":{"type":"text"},"tools":[],"tool_choice":"none","#;
    let unlisted = r#""max_tokens":64,"n":1,"seed":-7,"stop":["\u4f60"],"x":{"x":[1.0,null,1E2]},"#;
    let body = format!("{listed}{unlisted}{}", &CHAT[1..]);
    site.ask("x-stainless-any: stays\r\nx-unknown: 1\r\n", &body).await.assert_reported(8, 12, 20);
    let served = site.simulator.served();
    assert_eq!(served[0].headers["x-stainless-any"], "stays");
    assert!(!served[0].headers.contains_key("x-unknown"), "what is not listed stays back");
    site.finish().await;
}

#[tokio::test]
async fn s04_a_chat_reaches_the_upstream_as_it_was_written() {
    let site = Site::start().await;
    assert!(CHAT.contains(r#""content":"你好""#));
    site.ask("", CHAT).await;
    site.ask("", &CHAT.replace("你好", "\\u4f60\\u597d")).await;
    site.finish().await;
}

#[tokio::test]
async fn s05_its_answer_gets_nothing_added() {
    let site = Site::start().await;
    let told = site.ask("", CHAT).await;
    let answer = concat!(
        r#"{"id":"chatcmpl_abc123","object":"chat.completion","created":1780470861,"#,
        r#""model":"gpt-5.4","choices":[{"index":0,"message":{"role":"assistant","#,
        r#""content":"你好!有什么可以帮助你的吗?"},"finish_reason":"stop"}],"#,
        r#""usage":{"prompt_tokens":8,"completion_tokens":12,"total_tokens":20}}"#
    );
    assert_eq!(told.answer.text(), answer);
    site.finish().await;
}

#[tokio::test]
async fn s06_its_usage_is_recorded() {
    let site = Site::start().await;
    let told = site.ask("", CHAT).await;
    told.assert_reported(8, 12, 20);
    let Row { model, model_served, endpoint, streamed, attempts, .. } = &told.row;
    assert_eq!((&**model, model_served.as_deref()), ("gpt-5.4", Some("gpt-5.4")));
    assert_eq!((&**endpoint, *streamed, *attempts), (CHAT_PATH, false, 1));
    site.finish().await;
}

#[tokio::test]
async fn s07_several_turns() {
    let site = Site::start().await;
    let told = site.ask("", TURNS).await;
    let (prompt, completion) = (told.served.prompt_tokens, told.served.completion_tokens);
    told.assert_reported(prompt, completion, prompt + completion);
    site.finish().await;
}

#[tokio::test]
async fn s08_an_image_part_of_the_documents_passes_undecoded() {
    let site = Site::start().await;
    assert!(VISION.contains("base64,iVBORw0KGgoAAAANSUhEUgAA...\""), "it isn't even base64");
    assert_eq!(site.ask("", VISION).await.answer.status, 200);
    site.finish().await;
}

#[tokio::test]
async fn s09_a_vision_answer_has_neither_index_nor_usage() {
    let site = Site::start().await;
    let told = site.ask("", VISION).await;
    told.assert_estimated();
    let choice = &told.json()["choices"][0];
    assert!(choice.get("index").is_none());
    assert_eq!(choice["message"]["content"], "图片中是一只橘猫坐在沙发上。");
    site.finish().await;
}

#[tokio::test]
async fn s10_json_mode() {
    let site = Site::start().await;
    let told = site.ask("", JSON_MODE).await;
    let (prompt, completion) = (told.served.prompt_tokens, told.served.completion_tokens);
    told.assert_reported(prompt, completion, prompt + completion);
    let content = told.json()["choices"][0]["message"]["content"].clone();
    assert_eq!(content, r#"{"name":"Tom","age":25,"email":"tom@example.com"}"#);
    site.finish().await;
}

#[tokio::test]
async fn s11_an_answer_without_an_envelope_is_one_all_the_same() {
    let site = Site::start().await;
    let told = site.ask("x-sim-mode: literal-bare\r\n", JSON_MODE).await;
    assert_eq!(told.answer.text(), r#"{"name":"Tom","age":25,"email":"tom@example.com"}"#);
    assert_eq!((&*told.row.end, &*told.row.usage_source), ("complete", "estimated"));
    site.finish().await;
}

#[tokio::test]
async fn s12_tools_with_a_schema() {
    let site = Site::start().await;
    let told = site.ask("", TOOLS).await;
    assert_eq!(told.json()["choices"][0]["finish_reason"], "tool_calls");
    site.finish().await;
}

#[tokio::test]
async fn s13_a_tool_choice_is_a_string_or_an_object() {
    let site = Site::start().await;
    let named = r#"{"type":"function","function":{"name":"get_weather"}}"#;
    for choice in ["\"auto\"", "\"required\"", "\"none\"", named] {
        let body = format!("{{\"tool_choice\":{choice},{}", &TOOLS[1..]);
        let told = site.ask("", &body).await;
        let called = told.answer.text().contains("get_weather");
        assert_eq!(called, choice != "\"none\"", "{choice}");
    }
    site.finish().await;
}

#[tokio::test]
async fn s14_a_tool_answer_without_an_envelope() {
    let site = Site::start().await;
    let told = site.ask("", TOOLS).await;
    let answer = concat!(
        r#"{"choices":[{"message":{"role":"assistant","tool_calls":[{"id":"call_001","#,
        r#""type":"function","function":{"name":"get_weather","#,
        r#""arguments":"{\"city\":\"上海\"}"}}]},"finish_reason":"tool_calls"}]}"#
    );
    assert_eq!(told.answer.text(), answer);
    told.assert_estimated();
    site.finish().await;
}

#[tokio::test]
async fn s15_a_stream_is_asked_for_between_other_fields() {
    let site = Site::start().await;
    let told = site.ask("", STREAM).await;
    assert_eq!(told.answer.header("content-type"), Some("text/event-stream"));
    assert!(told.row.streamed && told.served.streamed);
    let off = STREAM.replace("\"stream\":true", "\"stream\":false");
    assert_eq!(site.ask("", &off).await.answer.header("content-type"), Some("application/json"));
    site.finish().await;
}

#[tokio::test]
async fn s16_a_stream_of_deltas_and_nothing_else() {
    let site = Site::start().await;
    let told = site.ask("", STREAM).await;
    let stream = concat!(
        "data: {\"choices\":[{\"delta\":{\"content\":\"Linux\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\" 是一个开源操作系统...\"}}]}\n\n",
        "data: [DONE]\n\n"
    );
    assert_eq!(told.answer.text(), stream);
    told.assert_estimated();
    // One that asks for usage gets what the upstream makes of it.
    let asking = STREAM.replace("true,", "true,\"stream_options\":{\"include_usage\":true},");
    assert_eq!(site.ask("", &asking).await.answer.text(), stream);
    site.finish().await;
}

#[tokio::test]
async fn s17_a_stream_laid_out_as_printed_passes() {
    let site = Site::start().await;
    let told = site.ask("x-sim-dialect: documents-pretty\r\n", STREAM).await;
    let text = told.answer.text();
    assert!(text.starts_with("data: {\n") && text.ends_with("data: [DONE]\n\n"), "{text}");
    assert_eq!(text.matches("\n\n").count(), 1, "no blank lines between events");
    assert_eq!((&*told.row.end, &*told.row.usage_source), ("complete", "estimated"));
    site.finish().await;
}

#[tokio::test]
async fn s18_a_delta_may_begin_with_a_space() {
    let site = Site::start().await;
    let told = site.ask("", STREAM).await;
    assert!(told.answer.text().contains(r#""content":" 是一个"#));
    site.finish().await;
}

#[tokio::test]
async fn s19_standard_usage_of_text() {
    let usage = json!({"prompt_tokens": 120, "completion_tokens": 280, "total_tokens": 400});
    assert_counts(&row_of_usage(&usage).await, 120, 280, 400);
}

#[tokio::test]
async fn s20_the_model_list() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let model = |id: &str| {
        format!(r#"{{"id":"{id}","object":"model","created":1780000000,"owned_by":"system"}}"#)
    };
    let list = |models: &[String]| format!(r#"{{"object":"list","data":[{}]}}"#, models.join(","));
    let ask = async |key: &str, path: &str| {
        let answer = refusal(&world, &request("GET", path, key, "", "")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text().to_owned()
    };
    let only = world.new_key(&["--models", "gpt-5.4"]).await;
    assert_eq!(ask(&only, "/v1/models").await, list(&[model("gpt-5.4")]), "as it is printed");
    let both = list(&[model("gpt-5.4"), model("gpt-5.4-image-2")]);
    assert_eq!(ask(&world.key, "/v1/models").await, both);
    assert_eq!(ask(&only, "/v1/models/gpt-5.4").await, model("gpt-5.4"));
    let hidden = request("GET", "/v1/models/gpt-5.4-image-2", &only, "", "");
    let answer = refusal(&world, &hidden).await;
    assert_eq!((answer.status, &*answer.code()), (404, "model_not_found"));
    world.finish().await;
}

#[tokio::test]
async fn s21_a_bad_key_gets_the_printed_error() {
    let site = Site::start().await;
    let world = &site.world;
    let zeros = "0".repeat(40);
    let typo = misspelt(&world.key);
    for key in [format!("sk-weir-{zeros}"), typo, "YOUR_API_KEY".into(), UPSTREAM_KEY.into()] {
        let answer = refusal(world, &request("POST", CHAT_PATH, &key, "", CHAT)).await;
        assert_eq!((answer.status, answer.text()), (401, BAD_KEY), "{key}");
        assert_eq!(answer.header("x-weir-origin"), Some("gateway"));
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    // That the upstream does not like our key is not the tenant's fault.
    let ours = request("POST", CHAT_PATH, &world.key, "x-sim-error: 401\r\n", CHAT);
    let answer = refusal(world, &ours).await;
    assert_eq!((answer.status, &*answer.code()), (502, "upstream_auth"));
    site.finish().await;
}

#[tokio::test]
async fn s22_a_rate_limit_gets_the_printed_error() {
    let site = Site::with(|builder| builder.set("limits.rpm_burst", 1)).await;
    let key = site.world.new_key(&["--rpm", "1"]).await;
    let raw = request("POST", CHAT_PATH, &key, "", CHAT);
    assert_eq!(refusal(&site.world, &raw).await.status, 200);
    let ours = refusal(&site.world, &raw).await;
    assert_eq!((ours.status, ours.text()), (429, TOO_FAST));
    assert_eq!(ours.header("x-weir-limit"), Some("key-requests"));
    assert_eq!(ours.header("x-weir-origin"), Some("gateway"));
    let wait: u64 = ours.header("retry-after").expect("a wait").parse().expect("whole seconds");
    assert!((1..=60).contains(&wait), "{wait}");
    let told = site.ask("x-sim-error: 429\r\n", CHAT).await;
    assert_eq!((told.answer.status, told.answer.text()), (429, TOO_FAST));
    assert_eq!(told.answer.header("retry-after"), Some("1"));
    assert_eq!(told.answer.header("x-ratelimit-limit-requests"), None, "the account's, not ours");
    assert_eq!((&*told.row.end, told.row.total_tokens), ("upstream_rejected", 0));
    site.finish().await;
}

#[tokio::test]
async fn s23_a_bad_parameter_gets_the_printed_error() {
    let site = Site::start().await;
    let told = site.ask("", &CHAT.replacen('{', "{\"temperature\":9,", 1)).await;
    assert_eq!((told.answer.status, told.answer.text()), (400, INVALID));
    assert_eq!((&*told.row.end, told.row.total_tokens), ("upstream_rejected", 0));
    // What Weir itself has to understand, it refuses in the same words and says what is wrong.
    let broken = request("POST", CHAT_PATH, &site.world.key, "", &CHAT[..CHAT.len() - 2]);
    let answer = refusal(&site.world, &broken).await;
    assert_eq!((answer.status, &*answer.code()), (400, "invalid_request"));
    let error = &answer.json()["error"];
    assert!(error["message"].as_str().is_some_and(|it| it.starts_with("Invalid request.")));
    assert_eq!(error["type"], "invalid_request_error");
    assert!(error.get("param").is_none(), "the documents have none");
    site.finish().await;
}

/// An answer before the whole body was read says that the connection ends, or a client would reuse it.
#[tokio::test]
async fn an_unread_body_ends_the_connection_openly() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).set("server.max_body_bytes", 65536).start().await;
    let large = "x".repeat(65537);
    let mut client = world.connect().await;
    client.send(request("POST", "/v1/files", &world.key, "", CHAT).as_bytes()).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (404, None), "it was all there");
    // More than is kept off the connection, and what the client never sends.
    client.send(request("POST", CHAT_PATH, &world.key, "", &large).as_bytes()).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));
    client.closed().await;
    let mut client = world.connect().await;
    let head = request("POST", CHAT_PATH, &world.key, "expect: 100-continue\r\n", &large);
    let head = head.split_inclusive("\r\n\r\n").next().expect("a head");
    client.send(head.as_bytes()).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));
    client.closed().await;
    world.finish().await;
}

/// The tenant's credentials stay here in every form, also where there is no key to put in their place.
#[tokio::test]
async fn an_upstream_without_a_key_gets_none() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).set("upstream.api_key", "\"\"").start().await;
    let key = &world.key;
    let others = format!("x-api-key: {key}\r\napi-key: {key}\r\ncookie: key={key}\r\n");
    let mut client = world.connect().await;
    client.send(request("POST", CHAT_PATH, key, &others, CHAT).as_bytes()).await;
    let (mut call, received) = upstream.call().await;
    assert!(!received.head.raw.contains(&**key), "{}", received.head.raw);
    assert_eq!(received.head.header("authorization"), None);
    call.answer("200 OK", "content-type: application/json\r\n", "{}").await;
    assert_eq!(client.answer().await.status, 200);
    world.finish().await;
}
