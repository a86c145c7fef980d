//! The examples of both API documents against a running simulator, over a real connection. The
//! names carry the numbers of the cases.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::*;

/// A client with one connection to one simulator.
struct World {
    simulator: Simulator,
    client: SendRequest<Full<Bytes>>,
}

/// An answer, read to its end; `end` says how that was.
struct Got {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
    end: Result<(), hyper::Error>,
}

const HELLO: &str = r#"{"model":"gpt-5.4","messages":[{"role":"user","content":"你好"}]}"#;
const TOOLS: &str = r#"{"model":"gpt-5.4","messages":[{"role":"user","content":"上海天气怎么样?"}],"tools":[{"type":"function","function":{"name":"get_weather","description":"获取天气信息","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}}]}"#;
const VISION: &str = r#"{"model":"gpt-5.4","messages":[{"role":"user","content":[{"type":"text","text":"描述图片内容"},{"type":"image","image":"data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA..."}]}]}"#;
const JSON_MODE: &str = r#"{"model":"gpt-5.4","messages":[{"role":"user","content":"返回一个用户对象"}],"response_format":{"type":"json_object"}}"#;
const LINUX: &str =
    r#"{"model":"gpt-5.4","stream":true,"messages":[{"role":"user","content":"介绍一下Linux"}]}"#;
const MOON_CAT: &str = r#"{"model":"gpt-5.4-image-2","messages":[{"role":"user","content":"生成一只坐在月球上的橘猫,超写实风格"}]}"#;
const SUNGLASSES: &str = r#"{"model":"gpt-5.4-image-2","messages":[{"role":"user","content":[{"type":"text","text":"给这只猫戴上墨镜"},{"type":"image","image":"data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA..."}]}]}"#;
const MERGE: &str = r#"{"model":"gpt-5.4-image-2","messages":[{"role":"user","content":[{"type":"text","text":"将两张图片中的人物合并到同一个场景中"},{"type":"image","image":"data:image/png;base64,IMAGE_BASE64_1"},{"type":"image","image":"data:image/png;base64,IMAGE_BASE64_2"}]}]}"#;
const DESCRIBE: &str = r#"{"model":"gpt-5.4-image-2","messages":[{"role":"user","content":[{"type":"text","text":"请描述这张图片"},{"type":"image","image":"data:image/jpeg;base64,/9j/4AAQSk..."}]}]}"#;
const CAR: &str = r#"{"model":"gpt-5.4-image-2","stream":true,"messages":[{"role":"user","content":"生成一辆未来概念跑车"}]}"#;

impl World {
    async fn new(options: Options) -> Self {
        let simulator = start(options).await.expect("a free port");
        let client = connect(&simulator).await;
        Self { simulator, client }
    }

    async fn full() -> Self {
        Self::new(Options::default()).await
    }

    async fn literal() -> Self {
        Self::new(Options { mode: Mode::Literal, ..Options::default() }).await
    }

    async fn ask(&mut self, body: &str, headers: &[(&str, &str)]) -> Got {
        self.send("POST", "/v1/chat/completions", body, headers).await
    }

    async fn send(&mut self, method: &str, path: &str, body: &str, extra: &[(&str, &str)]) -> Got {
        let mut request = Request::builder().method(method).uri(path).header("host", "simulator");
        if !extra.iter().any(|(name, _)| *name == "authorization") {
            request = request.header("authorization", "Bearer sk-test");
        }
        for (name, value) in extra {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::from(body.to_owned())).expect("a request");
        if self.client.ready().await.is_err() {
            self.client = connect(&self.simulator).await;
        }
        let response = self.client.send_request(request).await.expect("a response");
        let (parts, mut body) = response.into_parts();
        let (mut bytes, mut end) = (Vec::new(), Ok(()));
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => bytes.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new())),
                Err(error) => end = Err(error),
            }
        }
        let text = String::from_utf8(bytes).expect("UTF-8");
        Got { status: parts.status, headers: parts.headers, text, end }
    }
}

async fn connect(simulator: &Simulator) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(simulator.addr()).await.expect("a listener");
    handshake(stream).await.0
}

async fn handshake<S>(stream: S) -> (SendRequest<Full<Bytes>>, JoinHandle<hyper::Result<()>>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let stream = TokioIo::new(stream);
    let (client, connection) =
        hyper::client::conn::http1::handshake(stream).await.expect("HTTP/1.1");
    (client, tokio::spawn(connection))
}

impl Got {
    fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json");
        serde_json::from_str(&self.text).expect(&self.text)
    }

    /// The chunks of a stream that is whole and ends with `[DONE]`.
    fn chunks(&self) -> Vec<Value> {
        assert_eq!(self.headers["content-type"], "text/event-stream");
        assert!(self.end.is_ok());
        let events = self.text.strip_suffix("data: [DONE]\n\n").expect("[DONE]");
        let events = events.split_terminator("\n\n").filter(|event| !event.starts_with(':'));
        let json = events.map(|event| event.strip_prefix("data: ").expect(event));
        json.map(|json| serde_json::from_str(json).expect(json)).collect()
    }

    fn content(&self, index: u64) -> String {
        let choices = self.chunks();
        let choices =
            choices.iter().flat_map(|chunk| chunk["choices"].as_array().into_iter().flatten());
        let mine = choices.filter(|choice| choice["index"] == index);
        mine.filter_map(|choice| choice["delta"]["content"].as_str().map(str::to_owned)).collect()
    }
}

fn assert_png(base64: &Value, expected: (u32, u32)) {
    let bytes = STANDARD.decode(base64.as_str().expect("a string")).expect("base64");
    let reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().expect("a PNG");
    assert_eq!((reader.info().width, reader.info().height), expected);
}

#[tokio::test]
async fn s05_s06_a_chat_answer_is_as_printed() {
    let got = World::literal().await.ask(HELLO, &[]).await;
    assert_eq!(
        got.text,
        concat!(
            r#"{"id":"chatcmpl_abc123","object":"chat.completion","created":1780470861,"#,
            r#""model":"gpt-5.4","choices":[{"index":0,"message":{"role":"assistant","#,
            r#""content":"你好!有什么可以帮助你的吗?"},"finish_reason":"stop"}],"#,
            r#""usage":{"prompt_tokens":8,"completion_tokens":12,"total_tokens":20}}"#
        )
    );
    assert!(got.headers["x-request-id"].to_str().expect("ASCII").starts_with("req_"));
}

#[tokio::test]
async fn s05_s39_a_full_chat_answer_has_everything() {
    let mut world = World::full().await;
    let answer = world.ask(HELLO, &[]).await.json();
    assert!(answer["id"].as_str().is_some_and(|id| id.starts_with("chatcmpl-")));
    assert_eq!(answer["object"], "chat.completion");
    assert!(answer["created"].as_i64() > Some(1_780_000_000));
    let choice = &answer["choices"][0];
    assert_eq!(choice["message"]["content"], "你好!有什么可以帮助你的吗?");
    assert_eq!((&choice["logprobs"], &choice["finish_reason"]), (&Value::Null, &json!("stop")));
    let usage = &answer["usage"];
    let sum = usage["prompt_tokens"].as_u64().zip(usage["completion_tokens"].as_u64());
    assert_eq!(usage["total_tokens"].as_u64(), sum.map(|(prompt, completion)| prompt + completion));
    assert_eq!(usage["prompt_tokens_details"], json!({"cached_tokens":0,"audio_tokens":0}));
    let details = json!({"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,
        "rejected_prediction_tokens":0});
    assert_eq!(usage["completion_tokens_details"], details);
    let standard = world.ask(HELLO, &[("x-sim-usage", "standard")]).await.json();
    assert_eq!(standard["usage"].as_object().map(serde_json::Map::len), Some(3));
    assert!(world.ask(HELLO, &[("x-sim-usage", "none")]).await.json().get("usage").is_none());
}

#[tokio::test]
async fn s07_several_turns_answer_the_last_question() {
    let body = r#"{"model":"gpt-5.4","messages":[{"role":"system","content":"你是一名资深运维工程师"},
        {"role":"user","content":"CentOS如何安装Nginx?"}]}"#;
    let answer = World::full().await.ask(body, &[]).await.json();
    let content = answer["choices"][0]["message"]["content"].as_str().expect("text");
    assert!(content.starts_with("关于“CentOS如何安装Nginx?”"), "{content}");
}

#[tokio::test]
async fn s09_s35_vision_answers_have_neither_index_nor_usage() {
    let mut world = World::literal().await;
    for (body, id, model, content) in [
        (VISION, "chatcmpl_vision001", "gpt-5.4", "图片中是一只橘猫坐在沙发上。"),
        (
            DESCRIBE,
            "chatcmpl_vision_001",
            "gpt-5.4-image-2",
            "图片中是一只橘猫坐在窗台上,阳光从左侧照射进来。",
        ),
    ] {
        let printed = format!(
            r#"{{"id":"{id}","object":"chat.completion","created":1780470861,"model":"{model}","choices":[{{"message":{{"role":"assistant","content":"{content}"}},"finish_reason":"stop"}}]}}"#
        );
        assert_eq!(world.ask(body, &[]).await.text, printed);
        let full = world.ask(body, &[("x-sim-mode", "full")]).await.json();
        assert_eq!(full["choices"][0]["message"]["content"], content);
        assert!(full["usage"]["prompt_tokens"].as_u64() > Some(85));
    }
}

#[tokio::test]
async fn s08_a_seen_picture_is_described_by_format_and_size() {
    let gif = STANDARD.encode(b"GIF89a\x40\x01\xf0\0\0\0\0");
    let body = json!({"model":"gpt-5.4","messages":[{"role":"user","content":[
        {"type":"text","text":"What is this?"},
        {"type":"image_url","image_url":{"url":format!("data:image/png;base64,{gif}")}}]}]});
    let answer = World::full().await.ask(&body.to_string(), &[]).await.json();
    let content = answer["choices"][0]["message"]["content"].as_str().expect("text");
    assert!(content.starts_with("The image is a GIF of 320x240 pixels."), "{content}");
}

#[tokio::test]
async fn s11_json_mode_answers_an_object_with_and_without_an_envelope() {
    let mut world = World::literal().await;
    let object = r#"{"name":"Tom","age":25,"email":"tom@example.com"}"#;
    let enveloped = world.ask(JSON_MODE, &[]).await.json();
    assert_eq!(enveloped["choices"][0]["message"]["content"], object);
    assert_eq!(world.ask(JSON_MODE, &[("x-sim-mode", "literal-bare")]).await.text, object);
    let schema = json!({"model":"gpt-5.4","messages":[{"role":"user","content":"7 days"}],
        "response_format":{"type":"json_schema","json_schema":{"name":"x","schema":
            {"type":"object","properties":{"days":{"type":"integer"}}}}}});
    let answer = world.ask(&schema.to_string(), &[("x-sim-mode", "full")]).await.json();
    assert_eq!(answer["choices"][0]["message"]["content"], r#"{"days":7}"#);
}

#[tokio::test]
async fn s14_a_tool_answer_is_as_printed() {
    let mut world = World::literal().await;
    let printed = concat!(
        r#"{"choices":[{"message":{"role":"assistant","tool_calls":[{"id":"call_001","#,
        r#""type":"function","function":{"name":"get_weather","#,
        r#""arguments":"{\"city\":\"上海\"}"}}]},"finish_reason":"tool_calls"}]}"#
    );
    assert_eq!(world.ask(TOOLS, &[]).await.text, printed);
    let full = world.ask(TOOLS, &[("x-sim-mode", "full")]).await.json();
    assert_eq!(full["choices"][0]["message"]["content"], Value::Null);
    assert_eq!(full["choices"][0]["finish_reason"], "tool_calls");
    let none = TOOLS.replace(r#""tools":"#, r#""tool_choice":"none","tools":"#);
    assert_eq!(world.ask(&none, &[]).await.json()["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn s14_a_streamed_tool_call_comes_in_fragments() {
    let body = TOOLS.replace(r#""tools":"#, r#""stream":true,"tools":"#);
    let chunks = World::full().await.ask(&body, &[]).await.chunks();
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({"role":"assistant","content":null}));
    let first = &chunks[1]["choices"][0]["delta"]["tool_calls"][0];
    assert_eq!((&first["index"], &first["function"]["name"]), (&json!(0), &json!("get_weather")));
    let fragment = |chunk: &Value| {
        let call = &chunk["choices"][0]["delta"]["tool_calls"][0];
        call["function"]["arguments"].as_str().map(str::to_owned)
    };
    let arguments: String = chunks.iter().filter_map(fragment).collect();
    assert_eq!(arguments, r#"{"city":"上海"}"#);
    let last = chunks.last().expect("a finish chunk");
    assert_eq!(last["choices"][0]["finish_reason"], "tool_calls");
}

#[tokio::test]
async fn s16_s18_a_stream_is_as_printed_and_never_states_usage() {
    let mut world = World::literal().await;
    let printed = concat!(
        "data: {\"choices\":[{\"delta\":{\"content\":\"Linux\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\" 是一个开源操作系统...\"}}]}\n\n",
        "data: [DONE]\n\n"
    );
    assert_eq!(world.ask(LINUX, &[]).await.text, printed);
    let asked = LINUX.replace("true,", r#"true,"stream_options":{"include_usage":true},"#);
    assert_eq!(world.ask(&asked, &[]).await.text, printed);
}

#[tokio::test]
async fn s17_the_printed_layout_itself_is_available() {
    let got = World::literal().await.ask(LINUX, &[("x-sim-dialect", "documents-pretty")]).await;
    assert!(got.text.starts_with("data: {\n  \"choices\": [\n    {\n"), "{}", got.text);
    assert!(got.text.contains("\n}\ndata: {\n") && got.text.ends_with("}\ndata: [DONE]\n\n"));
}

#[tokio::test]
async fn s16_a_full_stream_is_openais() {
    let mut world = World::full().await;
    let asked = LINUX.replace("true,", r#"true,"stream_options":{"include_usage":true},"#);
    let chunks = world.ask(&asked, &[]).await.chunks();
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({"role":"assistant","content":""}));
    let (last, others) = chunks.split_last().expect("chunks");
    assert_eq!(last["choices"], json!([]));
    let usage = &last["usage"];
    let text = r#"Linux 是一个开源操作系统..."#;
    assert_eq!(usage["completion_tokens"].as_u64(), Some(generated_text::count(text)));
    for chunk in others {
        assert_eq!(chunk.get("usage"), Some(&Value::Null));
        assert_eq!((&chunk["id"], &chunk["created"]), (&last["id"], &last["created"]));
        assert_eq!(chunk["object"], "chat.completion.chunk");
    }
    assert_eq!(others.last().expect("finish")["choices"][0]["finish_reason"], "stop");
    let unasked = world.ask(LINUX, &[]).await;
    assert!(!unasked.text.contains("usage"), "{}", unasked.text);
    assert_eq!(unasked.content(0), text);
}

#[tokio::test]
async fn s20_the_model_list_is_as_printed() {
    let mut world = World::literal().await;
    let one = r#"{"id":"gpt-5.4","object":"model","created":1780000000,"owned_by":"system"}"#;
    let got = world.send("GET", "/v1/models", "", &[]).await;
    assert_eq!(got.text, format!(r#"{{"object":"list","data":[{one}]}}"#));
    let full = world.send("GET", "/v1/models", "", &[("x-sim-mode", "full")]).await.json();
    assert_eq!(full["data"][1]["id"], "gpt-5.4-image-2");
    assert_eq!(world.send("GET", "/v1/models/gpt%2D5.4", "", &[]).await.text, one);
    let unknown = world.send("GET", "/v1/models/gpt-9", "", &[]).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert_eq!(unknown.json()["error"]["code"], "model_not_found");
}

#[tokio::test]
async fn s21_s22_s23_s40_errors_are_as_printed() {
    let options = Options { api_key: Some("sk-right".to_owned()), ..Options::default() };
    let mut world = World::new(options).await;
    let right = ("authorization", "bearer sk-right");
    let bad_key = r#"{"error":{"message":"Invalid API key.","type":"authentication_error","code":"invalid_api_key"}}"#;
    let rate = r#"{"error":{"message":"Rate limit exceeded.","type":"rate_limit_error","code":"rate_limit_exceeded"}}"#;
    let invalid = r#"{"error":{"message":"Invalid request.","type":"invalid_request_error","code":"invalid_request"}}"#;
    let image = r#"{"error":{"message":"Invalid image format.","type":"invalid_request_error","code":"invalid_image"}}"#;
    let not_an_image = SUNGLASSES.replace("iVBORw0KGgoAAAANSUhEUgAA...", "SGVsbG8=");
    let small = MOON_CAT.replace(r#""messages""#, r#""size":"1x1","messages""#);
    for (body, headers, status, expected) in [
        (HELLO, vec![("authorization", "Bearer sk-wrong")], 401, bad_key),
        (HELLO, vec![("authorization", "Basic sk-right")], 401, bad_key),
        (HELLO, vec![("authorization", "")], 401, bad_key),
        (HELLO, vec![right, ("x-sim-error", "401")], 401, bad_key),
        (HELLO, vec![right, ("x-sim-error", "429")], 429, rate),
        (HELLO, vec![right, ("x-sim-error", "400")], 400, invalid),
        (HELLO, vec![right, ("x-sim-error", "invalid_image")], 400, image),
        (&HELLO[1..], vec![right], 400, invalid),
        (&small, vec![right], 400, invalid),
        (&not_an_image, vec![right], 400, image),
    ] {
        let got = world.ask(body, &headers).await;
        assert_eq!((got.status.as_u16(), got.text.as_str()), (status, expected), "{headers:?}");
        assert_eq!(got.headers.contains_key("retry-after"), status == 429);
        assert!(got.headers.contains_key("x-request-id"));
    }
    for (status, code) in [("500", "server_error"), ("503", "overloaded")] {
        let got = world.ask(HELLO, &[right, ("x-sim-error", status)]).await;
        assert_eq!((got.status.as_str(), &got.json()["error"]["code"]), (status, &json!(code)));
    }
    let other = HELLO.replace("gpt-5.4", "gpt-\\\"9");
    let unknown = world.ask(&other, &[right]).await;
    assert_eq!(
        (unknown.status.as_u16(), &unknown.json()["error"]["code"]),
        (404, &json!("model_not_found"))
    );
    assert_eq!(world.send("GET", "/v1/other", "", &[right]).await.status, 404);
    let wrong = world.send("GET", "/v1/chat/completions", "", &[right]).await;
    assert_eq!(
        (wrong.status.as_u16(), &wrong.headers["allow"]),
        (405, &"POST".parse().expect("POST"))
    );
    let counts = world.simulator.counts();
    assert_eq!((counts.requests, counts.refused, counts.completed), (15, 15, 0));
}

#[tokio::test]
async fn s29_s30_a_picture_is_as_printed_and_real() {
    let mut world = World::literal().await;
    let answer = world.ask(MOON_CAT, &[]).await.json();
    assert_eq!(answer["id"], "chatcmpl_img_A1B2C3");
    assert_eq!(answer["choices"][0]["index"], 0);
    let part = &answer["choices"][0]["message"]["content"][0];
    assert_eq!(part["type"], "image_base64");
    assert_png(&part["image_base64"], (64, 64));
    let usage = json!({"prompt_tokens":42,"completion_tokens":1560,"total_tokens":1602});
    assert_eq!(answer["usage"], usage);
}

#[tokio::test]
async fn s25_s26_s27_sizes_qualities_and_several_pictures() {
    let body =
        MOON_CAT.replace(r#""messages""#, r#""size":"1024x1536","quality":"low","n":3,"messages""#);
    let answer = World::full().await.ask(&body, &[]).await.json();
    let choices = answer["choices"].as_array().expect("choices");
    assert_eq!(choices.len(), 3);
    for choice in choices {
        assert_png(&choice["message"]["content"][0]["image_base64"], (64, 96));
    }
    assert_ne!(choices[0]["message"], choices[1]["message"]);
    assert_eq!(answer["usage"]["completion_tokens"], 3 * 408);
}

#[tokio::test]
async fn s32_s33_edits_have_an_index_and_no_usage() {
    let mut world = World::literal().await;
    for body in [SUNGLASSES, MERGE] {
        let answer = world.ask(body, &[]).await.json();
        assert_png(&answer["choices"][0]["message"]["content"][0]["image_base64"], (64, 64));
        assert_eq!(answer["choices"][0]["index"], 0);
        assert!(answer.get("usage").is_none());
        let full = world.ask(body, &[("x-sim-mode", "full")]).await.json();
        assert_eq!(full["usage"]["completion_tokens"], 1560);
    }
}

#[tokio::test]
async fn s37_a_streamed_picture_is_as_printed() {
    let mut world = World::literal().await;
    let got = world.ask(CAR, &[]).await;
    let chunks = got.chunks();
    assert_eq!(chunks[0], json!({"choices":[{"delta":{"content":"正在生成图片..."}}]}));
    assert_png(&chunks[1]["choices"][0]["delta"]["image_base64"], (64, 64));
    assert_eq!(chunks.len(), 2);
    let full = world.ask(CAR, &[("x-sim-mode", "full")]).await.chunks();
    assert_eq!(full[2]["choices"][0]["delta"], chunks[1]["choices"][0]["delta"]);
}

#[tokio::test]
async fn the_same_question_is_answered_alike_streamed_or_not() {
    let mut world = World::full().await;
    for question in ["Why is the sky blue?", "天空为什么是蓝色的?", "say \\\"\\\\n\\\""] {
        let body = HELLO.replace("你好", question);
        let whole = world.ask(&body, &[]).await.json();
        let streamed =
            world.ask(&body.replace("{\"model\"", "{\"stream\":true,\"model\""), &[]).await;
        assert_eq!(whole["choices"][0]["message"]["content"], streamed.content(0));
        let again = world.ask(&body, &[]).await.json();
        assert_eq!(again["choices"], whole["choices"]);
    }
}

#[tokio::test]
async fn lengths_limits_padding_and_choices_are_kept() {
    let mut world = World::full().await;
    let body = HELLO
        .replace(r#""messages""#, r#""stream":true,"n":2,"max_completion_tokens":9,"messages""#);
    let got = world.ask(&body, &[("x-sim-tokens", "40")]).await;
    let reasons: Vec<_> =
        got.chunks().iter().map(|it| it["choices"][0]["finish_reason"].clone()).collect();
    assert_eq!(reasons.iter().filter(|reason| **reason == "length").count(), 2);
    assert_eq!(generated_text::count(&got.content(1)), 9);
    assert_ne!(got.content(0), "");
    let turns: Vec<_> = got.chunks().iter().map(|it| it["choices"][0]["index"].clone()).collect();
    assert_eq!(turns[..4], [0, 1, 0, 1]);
    let padded = [("x-sim-tokens", "50"), ("x-sim-pad-bytes", "100")];
    let answer = world.ask(HELLO, &padded).await.json();
    assert_eq!(answer["usage"]["completion_tokens"], 50);
    let content = answer["choices"][0]["message"]["content"].as_str().expect("text");
    assert_eq!(content.matches('x').count(), 5000);
}

/// Also where the documents' examples are answered as printed: what is not printed is counted.
#[tokio::test]
async fn bounds_and_choices_are_kept_in_mode_literal() {
    let mut world = World::literal().await;
    let json_mode = world.ask(JSON_MODE, &[]).await.json();
    assert!(json_mode["usage"]["completion_tokens"].as_u64() > Some(10), "{json_mode}");
    let asked = |fields: &str| HELLO.replace(r#""messages""#, &format!("{fields},\"messages\""));
    let short = world.ask(&asked(r#""max_completion_tokens":3"#), &[]).await.json();
    let content = short["choices"][0]["message"]["content"].as_str().expect("text");
    assert_eq!(
        (generated_text::count(content), &short["choices"][0]["finish_reason"]),
        (3, &json!("length"))
    );
    assert_eq!(short["usage"]["completion_tokens"], 3);
    let two = world.ask(&asked(r#""n":2"#), &[]).await.json();
    assert_eq!(two["choices"].as_array().map(Vec::len), Some(2));
    let said = two["usage"]["completion_tokens"].as_u64();
    assert_eq!(said, Some(2 * generated_text::count("你好!有什么可以帮助你的吗?")));
    let streamed = LINUX.replace("true,", r#"true,"max_completion_tokens":2,"#);
    let text = world.ask(&streamed, &[]).await.text;
    assert!(text.contains("Linux") && !text.contains("系统"), "{text}");
}

#[tokio::test]
async fn a_stamped_event_says_when_it_was_sent_and_is_the_same_otherwise() {
    let mut world = World::full().await;
    let plain = world.ask(LINUX, &[]).await;
    let stamped = world.ask(LINUX, &[("x-sim-stamp", "1")]).await;
    let (stamps, rest): (Vec<_>, Vec<_>) =
        stamped.text.lines().partition(|line| line.starts_with(":sent "));
    let times: Vec<u128> = stamps.iter().map(|line| line[6..].parse().expect(line)).collect();
    assert!(times.is_sorted() && times[0] > 1_780_000_000_000_000_000, "{times:?}");
    assert_eq!(times.len(), plain.chunks().len() + 1, "the end mark, too");
    assert_eq!(rest.len(), plain.text.lines().count());
}

#[tokio::test]
async fn every_dialect_states_usage_where_its_server_does() {
    let mut world = World::full().await;
    let asked = LINUX.replace("true,", r#"true,"stream_options":{"include_usage":true},"#);
    // Dialect; how many chunks have usage that is not null, without and with asking.
    for (dialect, unasked, with) in [
        ("openai", "0", "1"),
        ("azure", "0", "1"),
        ("litellm", "0", "1"),
        ("ollama", "0", "1"),
        ("vllm-continuous", "all", "all"),
        ("openrouter", "1", "1"),
        ("llamacpp", "0", "1"),
        ("llamacpp-old", "1", "1"),
        ("documents", "0", "0"),
        ("vllm", "0", "1"),
        ("deepseek", "1", "1"),
        ("moonshot", "0", "0"),
        ("xai", "0", "1"),
        ("gemini", "all", "all"),
        ("minimax", "1", "1"),
    ] {
        for (body, expected) in [(LINUX, unasked), (asked.as_str(), with)] {
            let chunks = world.ask(body, &[("x-sim-dialect", dialect)]).await.chunks();
            let stated = chunks.iter().filter(|chunk| chunk["usage"].is_object()).count();
            let expected = expected.parse().unwrap_or(chunks.len());
            assert_eq!(stated, expected, "{dialect}");
            let last = chunks.last().expect("chunks");
            if stated > 0 && !["vllm-continuous", "gemini"].contains(&dialect) {
                assert!(last["usage"]["completion_tokens"].as_u64() > Some(5), "{dialect}");
            }
        }
    }
    let azure = world.ask(&asked, &[("x-sim-dialect", "azure")]).await;
    assert!(azure.chunks()[0]["prompt_filter_results"].is_array());
    let litellm = world.ask(&asked, &[("x-sim-dialect", "litellm")]).await.chunks();
    assert_eq!(litellm.last().expect("usage")["choices"], json!([{"index":0,"delta":{}}]));
    let openrouter = world.ask(LINUX, &[("x-sim-dialect", "openrouter")]).await;
    assert!(openrouter.text.starts_with(": OPENROUTER PROCESSING\n\n"));
    let llamacpp = world.ask(LINUX, &[("x-sim-dialect", "llamacpp")]).await.chunks();
    assert!(llamacpp.last().expect("finish")["timings"].is_object());
}

/// The same answer in the words of each server, in a body and in the last word of a stream.
#[tokio::test]
async fn every_dialect_states_usage_in_its_own_words() {
    let mut world = World::full().await;
    let asked = LINUX.replace("true,", r#"true,"stream_options":{"include_usage":true},"#);
    let body = LINUX.replace(r#""stream":true,"#, "");
    let plain = world.ask(&body, &[("x-sim-tokens", "40")]).await.json()["usage"].clone();
    let prompt = plain["prompt_tokens"].as_u64().expect("a count");
    let total = prompt + 40;
    // Beside the prompt: completion tokens, and what is its own.
    for (dialect, completion, own) in [
        ("openai", 40, json!({"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0}})),
        ("openrouter", 40, json!({"cost":0.00014})),
        ("deepseek", 40, json!({"prompt_cache_hit_tokens":0,"prompt_cache_miss_tokens":prompt})),
        ("moonshot", 40, json!({"cached_tokens":0})),
        ("xai", 30, json!({"completion_tokens_details":{"reasoning_tokens":10}})),
        ("gemini", 30, json!({})),
        ("vllm", 40, json!({"prompt_tokens_details":null})),
        ("ollama", 40, json!({})),
        ("minimax", 40, json!({"total_characters":0})),
    ] {
        let headers = [("x-sim-dialect", dialect), ("x-sim-tokens", "40")];
        let whole = world.ask(&body, &headers).await.json()["usage"].clone();
        let chunks = world.ask(&asked, &headers).await.chunks();
        let last = chunks.last().expect("chunks");
        let choice = &last["choices"][0]["usage"];
        let streamed = if choice.is_object() { choice } else { &last["usage"] };
        for usage in [&whole, streamed] {
            let sums = ["prompt_tokens", "completion_tokens", "total_tokens"];
            let sums = sums.map(|name| usage[name].as_u64());
            assert_eq!(sums, [prompt, completion, total].map(Some), "{dialect}: {usage}");
            for (name, value) in own.as_object().expect("an object") {
                assert_eq!(&usage[name], value, "{dialect}");
            }
        }
        assert_eq!(choice.is_object(), dialect == "moonshot");
        assert_eq!(last["base_resp"].is_object(), dialect == "minimax");
    }
}

#[tokio::test]
async fn running_usage_grows_with_each_choice_and_the_last_chunk_has_the_sum() {
    let asked = LINUX.replace("true,", r#"true,"n":2,"stream_options":{"include_usage":true},"#);
    let headers = [("x-sim-dialect", "vllm-continuous"), ("x-sim-tokens", "7")];
    let chunks = World::full().await.ask(&asked, &headers).await.chunks();
    let (last, others) = chunks.split_last().expect("chunks");
    for index in [0, 1] {
        let mine = others.iter().filter(|chunk| chunk["choices"][0]["index"] == index);
        let running: Vec<_> = mine.map(|chunk| &chunk["usage"]["completion_tokens"]).collect();
        assert_eq!(running, [0, 1, 2, 3, 4, 5, 6, 7, 7], "role, tokens, finish");
    }
    assert_eq!(last["usage"]["completion_tokens"], 14);
}

#[tokio::test]
async fn stream_options_can_be_unknown() {
    let mut world = World::full().await;
    let asked = LINUX.replace("true,", r#"true,"stream_options":{"include_usage":true},"#);
    let refused = world.ask(&asked, &[("x-sim-stream-options", "refuse")]).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        world.ask(LINUX, &[("x-sim-stream-options", "refuse")]).await.status,
        StatusCode::OK
    );
    let ignored = world.ask(&asked, &[("x-sim-stream-options", "ignore")]).await;
    assert!(!ignored.text.contains("usage"));
}

#[tokio::test]
async fn faults_break_the_answer_where_they_should() {
    let mut world = World::full().await;
    let long = LINUX.replace("Linux", "Unix");
    for fault in ["cut:3", "reset:3"] {
        let got = world.ask(&long, &[("x-sim-fault", fault)]).await;
        assert!(got.end.is_err(), "{fault}");
        assert_eq!(got.text.matches("data: ").count(), 3, "{fault}");
    }
    let half = world.ask(HELLO, &[("x-sim-fault", "cut")]).await;
    assert!(half.end.is_err() && half.text.starts_with(r#"{"id""#));
    let error = world.ask(&long, &[("x-sim-fault", "error:2")]).await;
    assert!(error.text.contains(r#"data: {"error":{"#) && error.text.ends_with("[DONE]\n\n"));
    let open = world.ask(&long, &[("x-sim-fault", "no-done")]).await;
    assert!(open.end.is_ok() && !open.text.contains("[DONE]") && open.text.contains(r#""stop""#));
    let counts = world.simulator.counts();
    assert_eq!((counts.streams_broken, counts.streams_completed, counts.broken), (3, 1, 4));
    let mut lost = connect(&world.simulator).await;
    let request = Request::post("/v1/chat/completions")
        .header("authorization", "Bearer x")
        .header("x-sim-fault", "close")
        .body(Full::from(HELLO));
    assert!(lost.send_request(request.expect("a request")).await.is_err());
}

#[tokio::test]
async fn a_client_that_leaves_is_counted_and_its_stream_ends() {
    let world = World::new(Options { record: true, ..Options::default() }).await;
    for fault in ["stall:2", "x"] {
        let stream = TcpStream::connect(world.simulator.addr()).await.expect("a listener");
        let (mut client, connection) = handshake(stream).await;
        let slow = [("x-sim-fault", fault), ("x-sim-interval-ms", "3600000")];
        let slow = slow.iter().filter(|(_, value)| *value != "x");
        let request = Request::post("/v1/chat/completions").header("authorization", "Bearer x");
        let request = slow.fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.header("x-sim-tag", fault).body(Full::from(LINUX));
        let response = client.send_request(request.expect("a request")).await.expect("a head");
        let mut body = response.into_body();
        assert!(body.frame().await.expect("an event").is_ok());
        assert_eq!(world.simulator.counts().streams_open, 1);
        drop((body, client));
        connection.abort();
        let closed = async {
            while world.simulator.counts().streams_open > 0 {
                tokio::task::yield_now().await;
            }
        };
        let patience = std::time::Duration::from_secs(60);
        tokio::time::timeout(patience, closed).await.expect("the stream is dropped");
    }
    let counts = world.simulator.counts();
    assert_eq!((counts.streams_started, counts.streams_aborted, counts.aborted), (2, 2, 2));
    let served = world.simulator.served();
    assert_eq!(served.iter().map(|it| it.tag.as_str()).collect::<Vec<_>>(), ["stall:2", "x"]);
    assert!(served.iter().all(|it| it.streamed && !it.completed && it.body == LINUX));
    world.simulator.shutdown().await;
}

#[tokio::test]
async fn counts_are_what_the_answers_said() {
    let mut world = World::new(Options { record: true, ..Options::default() }).await;
    let mut total = 0;
    for body in [HELLO, VISION, JSON_MODE, TOOLS, MOON_CAT, MERGE, DESCRIBE] {
        let answer = world.ask(body, &[("x-sim-tag", "whole")]).await.json();
        total += answer["usage"]["total_tokens"].as_u64().expect("usage");
        let asked =
            format!(r#"{{"stream":true,"stream_options":{{"include_usage":true}},{}"#, &body[1..]);
        let chunks = world.ask(&asked, &[("x-weir-event", "streamed")]).await.chunks();
        let usage = &chunks.last().expect("a usage chunk")["usage"];
        total += usage["total_tokens"].as_u64().expect("usage");
        assert_eq!(usage, &answer["usage"], "streamed or not");
    }
    let over_http = world.send("GET", "/simulator/counts", "", &[]).await.json();
    assert_eq!(over_http["total_tokens"], total);
    assert_eq!((&over_http["requests"], &over_http["completed"]), (&json!(14), &json!(14)));
    assert_eq!(over_http["streams_completed"], 7);
    let served = world.simulator.served();
    let sum: u64 = served.iter().map(|it| it.prompt_tokens + it.completion_tokens).sum();
    assert_eq!((served.len(), sum), (14, total));
    assert_eq!(served.iter().filter(|it| it.tag == "streamed" && it.streamed).count(), 7);
    assert_eq!(served[0].body, HELLO);
}

#[tokio::test]
async fn streams_wait_for_the_first_token_and_between_tokens() {
    const HOUR: u64 = 3_600_000;
    // What is set to an hour; the events that come before it has passed.
    for (first_token_ms, token_interval_ms, expected) in [(HOUR, 0, 0), (0, HOUR, 2), (0, 0, 14)] {
        let options = Options {
            first_token_ms,
            token_interval_ms,
            answer_tokens: Some(11),
            ..Options::default()
        };
        let controls = controls::Controls::read(&HeaderMap::new(), &options).expect("no headers");
        let question = chat_request::Question::read(LINUX.as_bytes()).expect("a question");
        let reply = answer::Reply::to(&question, &controls);
        let envelope = render::Envelope { id: "x".into(), created: 0, model: "m".into() };
        let script = script::Script::new(reply, &controls, &envelope, false);
        let books = Arc::new(counts::Counters::new(false));
        let tally = counts::Tally::begin(books.clone(), "/v1/x", true, 1, 11, None);
        let mut body =
            body::Body::stream(body::Play::Chat(script), tally, &controls, &Arc::default());
        let mut events = 0;
        while let Some(Some(frame)) = body.frame().now_or_never() {
            assert!(frame.is_ok());
            events += 1;
        }
        assert_eq!(events, expected);
        drop(body);
        assert_eq!(books.snapshot().streams_completed, u64::from(expected == 14));
    }
}

/// What a future has at once.
trait NowOrNever: Future + Sized {
    fn now_or_never(self) -> Option<Self::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::pin!(self).poll(&mut context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }
}

impl<F: Future> NowOrNever for F {}

#[tokio::test]
async fn tls_is_trusted_through_the_ca_that_it_hands_out() {
    let simulator = start(Options { tls: true, ..Options::default() }).await.expect("a free port");
    assert!(simulator.base_url().starts_with("https://127.0.0.1:"));
    let pem = simulator.ca_pem().expect("a CA");
    let ca = rustls_pki_types::pem::PemObject::from_pem_slice(pem.as_bytes()).expect("PEM");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca).expect("a CA certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(simulator.addr()).await.expect("a listener");
    let name = rustls_pki_types::ServerName::try_from("localhost").expect("a name");
    let stream = connector.connect(name, stream).await.expect("a trusted certificate");
    let (mut client, _connection) = handshake(stream).await;
    let request = Request::get("/v1/models").header("authorization", "Bearer x");
    let request = request.body(Full::<Bytes>::default()).expect("a request");
    assert_eq!(client.send_request(request).await.expect("an answer").status(), StatusCode::OK);
    drop(client);
    simulator.shutdown().await;
}

#[tokio::test]
async fn a_simulator_that_is_shut_down_is_gone() {
    let world = World::full().await;
    let address = world.simulator.addr();
    world.simulator.shutdown().await;
    assert!(TcpStream::connect(address).await.is_err());
}
