//! Both API documents, example by example, through the gateway. Each example's request is sent byte
//! for byte as it is printed (`tests/fixtures/requests/`) to the simulator in mode literal, which
//! answers as printed and keeps what it received: the upstream must get the client's bytes, the
//! client the upstream's, and the ledger what was stated, or an estimate.
//!
//! The names carry the numbers of the cases, S1 to S42, in the order of the documents.

use serde_json::{Value, json};
use weir::simulator::{self, Mode, Options, Served, Simulator};

use crate::world::{Answer, Client, Row, UPSTREAM_KEY, Upstream, World, request};

macro_rules! printed {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/requests/", $name))
    };
}

const CHAT: &str = printed!("chat.json");
const TURNS: &str = printed!("turns.json");
const VISION: &str = printed!("vision.json");
const JSON_MODE: &str = printed!("json_mode.json");
const TOOLS: &str = printed!("tools.json");
const STREAM: &str = printed!("stream.json");
const PICTURE: &str = printed!("picture.json");
const EDIT: &str = printed!("edit.json");
const EDIT_SEVERAL: &str = printed!("edit_several.json");
const UNDERSTAND: &str = printed!("understand.json");
const PICTURE_STREAM: &str = printed!("picture_stream.json");

const BAD_KEY: &str = r#"{"error":{"message":"Invalid API key.","type":"authentication_error","code":"invalid_api_key"}}"#;
const TOO_FAST: &str = r#"{"error":{"message":"Rate limit exceeded.","type":"rate_limit_error","code":"rate_limit_exceeded"}}"#;
const INVALID: &str = r#"{"error":{"message":"Invalid request.","type":"invalid_request_error","code":"invalid_request"}}"#;
const BAD_IMAGE: &str = r#"{"error":{"message":"Invalid image format.","type":"invalid_request_error","code":"invalid_image"}}"#;

/// A gateway before a simulator that answers as the documents print it.
struct Site {
    simulator: Simulator,
    world: World,
}

/// One exchange, seen from everywhere.
struct Told {
    answer: Answer,
    served: Served,
    row: Row,
}

impl Site {
    async fn start() -> Self {
        Self::with(|builder| builder).await
    }

    async fn with(set: impl FnOnce(crate::world::Builder) -> crate::world::Builder) -> Self {
        let options = Options {
            mode: Mode::Literal,
            record: true,
            api_key: Some(UPSTREAM_KEY.to_owned()),
            ..Options::default()
        };
        let simulator = simulator::start(options).await.expect("a free port");
        let base_url = format!("\"{}\"", simulator.base_url());
        let world = set(World::builder().set("upstream.base_url", base_url)).start().await;
        Self { simulator, world }
    }

    /// Sends a chat request and checks all that holds for every one of them.
    async fn ask(&self, headers: &str, body: &str) -> Told {
        let mut client = self.world.connect().await;
        let key = &self.world.key;
        client.send(request("POST", CHAT_PATH, key, headers, body).as_bytes()).await;
        let answer = client.answer().await;
        assert!(answer.is_whole);
        let served = self.simulator.served().pop().expect("it arrived");
        assert_same_request(&served, body, key);
        let mut direct = Client::connect(self.simulator.addr()).await;
        direct.send(request("POST", CHAT_PATH, UPSTREAM_KEY, headers, body).as_bytes()).await;
        let printed = direct.answer().await;
        assert_eq!(answer.status, printed.status, "{}", printed.text());
        assert_eq!(without_id(answer.text()), without_id(printed.text()));
        assert_eq!(answer.header("content-type"), printed.header("content-type"));
        assert_eq!(answer.header("x-weir-origin"), Some("upstream"));
        let row = self.world.row(answer.event_id()).await;
        assert_eq!(row.upstream_request_id.as_deref(), Some(&*served.request_id));
        Told { answer, served, row }
    }

    async fn finish(self) {
        self.world.finish().await;
        self.simulator.shutdown().await;
    }
}

const CHAT_PATH: &str = "/v1/chat/completions";

/// The upstream got what the client sent, under its own key.
fn assert_same_request(served: &Served, body: &str, key: &str) {
    let received = std::str::from_utf8(&served.body).expect("text");
    // The only edit: a stream is asked for its usage where the client did not.
    if body.contains("\"stream\":true") && !body.contains("stream_options") {
        let edit = r#""stream_options":{"include_usage":true},"#;
        assert_eq!(received.matches(edit).count(), 1, "{received}");
        assert_eq!(received.replacen(edit, "", 1), body);
    } else {
        assert_eq!(received, body);
    }
    let headers = format!("{:?}", served.headers);
    assert!(!headers.contains(key) && !received.contains(key), "the tenant's key: {headers}");
    assert_eq!(served.headers["authorization"], format!("Bearer {UPSTREAM_KEY}"));
    assert_eq!(served.headers["content-type"], "application/json");
    assert_eq!(served.headers["accept-encoding"], "identity");
}

/// An answer that is printed nowhere has an id of its own.
fn without_id(text: &str) -> String {
    match text.split_once(r#""id":"chatcmpl_"#) {
        Some((before, after)) => {
            let (id, after) = after.split_once('"').expect("a string ends");
            assert!(id.len() <= 16, "{id}");
            format!("{before}{after}")
        }
        None => text.to_owned(),
    }
}

impl Told {
    /// A whole answer in one JSON document, with this usage in the ledger as it was stated.
    fn assert_reported(&self, input: u64, output: u64, total: u64) {
        let row = &self.row;
        assert_eq!((self.answer.status, row.status, &*row.end), (200, 200, "complete"));
        assert_eq!(row.usage_source, "reported", "{row:?}");
        assert_eq!((row.input_tokens, row.output_tokens, row.total_tokens), (input, output, total));
        let stated = self.json()["usage"].clone();
        assert_eq!(row.raw_usage.as_ref(), Some(&stated));
    }

    /// A whole answer that states no usage.
    fn assert_estimated(&self) {
        let row = &self.row;
        assert_eq!((self.answer.status, row.status, &*row.end), (200, 200, "complete"));
        assert_eq!((&*row.usage_source, &row.raw_usage), ("estimated", &None), "{row:?}");
        assert!(!self.answer.text().contains("usage"));
        assert!(row.input_tokens > 0 && row.output_tokens > 0, "{row:?}");
        assert_eq!(row.total_tokens, row.input_tokens + row.output_tokens);
    }

    fn json(&self) -> Value {
        self.answer.json()
    }
}

/// What the ledger has for an answer with this `usage`, which no example asks for.
async fn row_of_usage(usage: &Value) -> Row {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let mut client = world.post(PICTURE).await;
    let (mut call, _) = upstream.call().await;
    let body = json!({"choices": [{"message": {"content": "x"}}], "usage": usage}).to_string();
    call.answer("200 OK", "content-type: application/json\r\n", &body).await;
    let answer = client.answer().await;
    assert_eq!(answer.text(), body);
    let row = world.row(answer.event_id()).await;
    assert_eq!(row.raw_usage.as_ref(), Some(usage));
    world.finish().await;
    row
}

fn assert_counts(row: &Row, input: u64, output: u64, total: u64) {
    assert_eq!((row.input_tokens, row.output_tokens, row.total_tokens), (input, output, total));
    assert_eq!(row.usage_source, "reported");
}

/// What a request is refused with, by whom, and which headers say so.
async fn refusal(world: &World, raw: &str) -> Answer {
    let mut client = world.connect().await;
    client.send(raw.as_bytes()).await;
    client.answer().await
}

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
    site.ask("x-unknown: stays\r\n", &body).await.assert_reported(8, 12, 20);
    let served = site.simulator.served();
    assert_eq!(served[0].headers["x-unknown"], "stays");
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
    let typo = format!("{}x", &world.key[..world.key.len() - 1]);
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

#[tokio::test]
async fn s24_pictures_come_from_the_chat_endpoint() {
    let site = Site::start().await;
    let told = site.ask("", PICTURE).await;
    assert_eq!((&*told.row.model, &*told.row.endpoint), ("gpt-5.4-image-2", CHAT_PATH));
    let other = request("POST", "/v1/images/generations", &site.world.key, "", PICTURE);
    let answer = refusal(&site.world, &other).await;
    assert_eq!((answer.status, &*answer.code()), (404, "not_found"));
    assert_eq!(site.simulator.counts().requests, 2, "it was not forwarded");
    site.finish().await;
}

/// Asks for a picture with one more field, for each of these values of it.
async fn pictures_with(field: &str, values: &[&str]) {
    let site = Site::start().await;
    for value in values {
        let body = PICTURE.replacen('{', &format!("{{\"{field}\":\"{value}\","), 1);
        assert_eq!(site.ask("", &body).await.answer.status, 200, "{value}");
    }
    site.finish().await;
}

#[tokio::test]
async fn s25_sizes_pass() {
    pictures_with("size", &["1024x1024", "1024x1536", "1536x1024", "auto"]).await;
}

#[tokio::test]
async fn s26_qualities_pass() {
    pictures_with("quality", &["low", "medium", "high", "auto"]).await;
}

#[tokio::test]
async fn s27_n_pictures_are_reserved_for_n_times() {
    let site = Site::start().await;
    let one = site.ask("", PICTURE).await;
    let three = site.ask("", &PICTURE.replacen('{', "{\"n\":3,", 1)).await;
    assert_eq!(three.json()["choices"].as_array().map(Vec::len), Some(3));
    assert_eq!(three.row.reserved_tokens - one.row.reserved_tokens, 2 * 1024);
    let (prompt, completion) = (three.served.prompt_tokens, three.served.completion_tokens);
    three.assert_reported(prompt, completion, prompt + completion);
    site.finish().await;
}

#[tokio::test]
async fn s28_a_picture_out_of_words() {
    let site = Site::start().await;
    assert!(PICTURE.contains(r#""content":"生成一只坐在月球上的橘猫,超写实风格""#));
    assert_eq!(site.ask("", PICTURE).await.answer.status, 200);
    site.finish().await;
}

#[tokio::test]
async fn s29_a_picture_is_an_array_of_content() {
    let site = Site::start().await;
    let told = site.ask("", PICTURE).await;
    assert_eq!(told.json()["id"], "chatcmpl_img_A1B2C3");
    let content = &told.json()["choices"][0]["message"]["content"];
    assert_eq!(content[0]["type"], "image_base64");
    assert!(content[0]["image_base64"].as_str().is_some_and(|it| it.starts_with("iVBORw0KGgo")));
    site.finish().await;
}

#[tokio::test]
async fn s30_a_pictures_usage_is_recorded() {
    let site = Site::start().await;
    site.ask("", PICTURE).await.assert_reported(42, 1560, 1602);
    site.finish().await;
}

#[tokio::test]
async fn s31_an_edit_is_text_and_a_picture() {
    let site = Site::start().await;
    assert_eq!(site.ask("", EDIT).await.answer.status, 200);
    site.finish().await;
}

#[tokio::test]
async fn s32_an_edit_without_usage_is_estimated_dear() {
    let site = Site::start().await;
    let told = site.ask("", EDIT).await;
    told.assert_estimated();
    assert_eq!(told.json()["choices"][0]["index"], 0);
    assert!(told.row.output_tokens >= 1000, "a picture is not free: {:?}", told.row);
    site.finish().await;
}

#[tokio::test]
async fn s33_several_pictures_in_one_edit() {
    let site = Site::start().await;
    assert!(EDIT_SEVERAL.contains("base64,IMAGE_BASE64_2\""));
    let told = site.ask("", EDIT_SEVERAL).await;
    told.assert_estimated();
    let one = site.ask("", EDIT).await;
    assert!(told.row.input_tokens > one.row.input_tokens, "each picture counts");
    site.finish().await;
}

#[tokio::test]
async fn s34_slashes_of_base64_are_not_escaped() {
    let site = Site::start().await;
    assert!(UNDERSTAND.contains("data:image/jpeg;base64,/9j/4AAQSk..."));
    assert_eq!(site.ask("", UNDERSTAND).await.answer.status, 200);
    site.finish().await;
}

#[tokio::test]
async fn s35_understanding_a_picture_answers_in_words() {
    let site = Site::start().await;
    let told = site.ask("", UNDERSTAND).await;
    told.assert_estimated();
    let choice = &told.json()["choices"][0];
    assert!(choice.get("index").is_none());
    assert_eq!(choice["message"]["content"], "图片中是一只橘猫坐在窗台上,阳光从左侧照射进来。");
    site.finish().await;
}

#[tokio::test]
async fn s36_a_picture_can_be_streamed() {
    let site = Site::start().await;
    let told = site.ask("", PICTURE_STREAM).await;
    assert_eq!(told.answer.header("content-type"), Some("text/event-stream"));
    assert!(told.row.streamed);
    site.finish().await;
}

#[tokio::test]
async fn s37_a_streamed_picture_is_words_then_one_long_line() {
    let site = Site::start().await;
    // At full size the line is longer than anything that is held.
    for scale in ["", "x-sim-picture-scale: 16\r\n"] {
        let told = site.ask(scale, PICTURE_STREAM).await;
        let text = told.answer.text();
        let words = "data: {\"choices\":[{\"delta\":{\"content\":\"正在生成图片...\"}}]}\n\n";
        let rest = text.strip_prefix(words).expect("words first");
        let rest = rest.strip_prefix("data: {\"choices\":[{\"delta\":{\"image_base64\":\"iVBOR");
        assert!(rest.expect("a picture").ends_with("\"}}]}\n\ndata: [DONE]\n\n"));
        assert!(scale.is_empty() || text.len() > 16 * 1024, "{}", text.len());
        told.assert_estimated();
        assert!(told.row.output_tokens >= 1000, "{:?}", told.row);
    }
    site.finish().await;
}

#[tokio::test]
async fn s38_standard_usage_of_pictures() {
    let usage = json!({"prompt_tokens": 135, "completion_tokens": 1800, "total_tokens": 1935});
    assert_counts(&row_of_usage(&usage).await, 135, 1800, 1935);
}

#[tokio::test]
async fn s39_extended_usage_means_the_same() {
    let usage = json!({
        "prompt_tokens": 135,
        "completion_tokens": 1800,
        "total_tokens": 1935,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    });
    assert_counts(&row_of_usage(&usage).await, 135, 1800, 1935);
    let site = Site::start().await;
    site.ask("x-sim-usage: extended\r\n", CHAT).await.assert_reported(8, 12, 20);
    site.finish().await;
}

#[tokio::test]
async fn s40_a_bad_image_gets_the_printed_error() {
    let site = Site::start().await;
    let told = site.ask("", &EDIT.replace("iVBORw0KGgoAAAANSUhEUgAA...", "bm8gaW1hZ2U=")).await;
    assert_eq!((told.answer.status, told.answer.text()), (400, BAD_IMAGE));
    assert_eq!((&*told.row.end, told.row.total_tokens), ("upstream_rejected", 0));
    site.finish().await;
}

#[tokio::test]
async fn s41_image_formats_are_not_policed() {
    let site = Site::start().await;
    let png = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA...";
    for other in [
        "data:image/gif;base64,R0lGODlhQAHwAAAAAA==",
        "data:image/webp;base64,UklGRiQAAABXRUJQVlA4WAoAAAAAAAAAfwIA3wEA",
        "data:image/jpeg;base64,/9j/4AAQSk...",
        "https://example.com/cat.png",
    ] {
        assert_eq!(site.ask("", &VISION.replace(png, other)).await.answer.status, 200, "{other}");
    }
    // Not even what no image is: that is for the upstream to say.
    let odd = VISION.replace(png, "data:text/plain,x");
    assert_eq!(site.ask("", &odd).await.answer.text(), BAD_IMAGE);
    site.finish().await;
}

#[tokio::test]
async fn s42_where_the_documents_are_silent_it_is_as_at_openai() {
    let site = Site::start().await;
    // Usage in a stream for who asks, none for who does not; errors in a stream as they come.
    let full = "x-sim-mode: full\r\n";
    let asking = STREAM.replace("true,", "true,\"stream_options\":{\"include_usage\":true},");
    let told = site.ask_fully(full, &asking).await;
    assert!(told.contains(r#""choices":[],"usage":{"#) && told.contains(r#""usage":null"#));
    let told = site.ask_fully(full, STREAM).await;
    assert!(!told.contains("usage"), "{told}");
    let broken = format!("{full}x-sim-fault: error:2\r\n");
    let told = site.ask_fully(&broken, STREAM).await;
    assert!(told.contains("data: {\"error\":{") && told.ends_with("data: [DONE]\n\n"), "{told}");
    // Request ids, and limits on every answer.
    let key = site.world.new_key(&["--rpm", "60", "--tpm", "100000"]).await;
    let answer = refusal(&site.world, &request("POST", CHAT_PATH, &key, "", CHAT)).await;
    for name in ["x-request-id", "x-ratelimit-limit-requests", "x-ratelimit-remaining-tokens"] {
        assert!(answer.header(name).is_some(), "{name}: {:?}", answer.head.headers);
    }
    assert_eq!(answer.header("x-ratelimit-limit-tokens"), Some("100000"));
    site.finish().await;
}

impl Site {
    /// Mode full has other ids and times in every answer: only its text.
    async fn ask_fully(&self, headers: &str, body: &str) -> String {
        let raw = request("POST", CHAT_PATH, &self.world.key, headers, body);
        let answer = refusal(&self.world, &raw).await;
        assert!(answer.is_whole && answer.status == 200, "{}", answer.text());
        answer.text().to_owned()
    }
}

/// Every number has its test, and it is there to stay.
#[test]
fn no_case_is_missing() {
    let source = include_str!("conformance.rs");
    let tests: Vec<&str> = source.split("async fn s").skip(1).collect();
    for number in 1..=42 {
        let begin = format!("{number:02}_");
        let found = tests.iter().filter(|test| test.starts_with(&begin)).count();
        assert_eq!(found, 1, "S{number}");
    }
}

/// An answer before the whole body was read says that the connection ends, or a client would reuse it.
#[tokio::test]
async fn an_unread_body_ends_the_connection_openly() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).set("server.max_body_bytes", 65536).start().await;
    let mut client = world.connect().await;
    let large = "x".repeat(65537);
    for (path, body, status) in [(CHAT_PATH, &*large, 413), ("/v1/images/edits", CHAT, 404)] {
        client.send(request("POST", path, &world.key, "", body).as_bytes()).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (status, None), "it was read");
    }
    // More than is read and forgotten is announced; what the client never sends is never read.
    let head = request("POST", CHAT_PATH, &world.key, "expect: 100-continue\r\n", &large);
    let head = head.split_inclusive("\r\n\r\n").next().expect("a head");
    client.send(head.as_bytes()).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));
    client.closed().await;
    world.finish().await;
}
