//! Both API documents, example by example, through the gateway. Each example's request is sent byte
//! for byte as it is printed (`tests/fixtures/requests/`) to the simulator in mode literal, which
//! answers as printed and keeps what it received: the upstream must get the client's bytes, the
//! client the upstream's, and the ledger what was stated, or an estimate.
//!
//! The names carry the numbers of the cases, S1 to S42, in the order of the documents.

mod picture;
mod text;

use serde_json::{Value, json};
use weir::simulator::{self, Mode, Options, Served, Simulator};

use crate::harness::{Answer, Client, Row, UPSTREAM_KEY, Upstream, World, request};

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

    async fn with(set: impl FnOnce(crate::harness::Builder) -> crate::harness::Builder) -> Self {
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

    /// Mode full has other ids and times in every answer: only its text.
    async fn ask_fully(&self, headers: &str, body: &str) -> String {
        let raw = request("POST", CHAT_PATH, &self.world.key, headers, body);
        let answer = refusal(&self.world, &raw).await;
        assert!(answer.is_whole && answer.status == 200, "{}", answer.text());
        answer.text().to_owned()
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

/// Every number has its test, and it is there to stay.
#[test]
fn no_case_is_missing() {
    let sources = [include_str!("conformance/text.rs"), include_str!("conformance/picture.rs")];
    let tests: Vec<&str> =
        sources.iter().flat_map(|source| source.split("async fn s").skip(1)).collect();
    for number in 1..=42 {
        let begin = format!("{number:02}_");
        let found = tests.iter().filter(|test| test.starts_with(&begin)).count();
        assert_eq!(found, 1, "S{number}");
    }
}
