//! When the upstream misbehaves: a test a fault, by the numbers of the fault table. Each checks what the
//! client sees, to the byte, and what the ledger holds; that nothing stays reserved is checked when
//! the world ends.

mod unsent;
mod unanswered;
mod bodies;
mod streams;
mod answers;
mod clients;
mod leaving;
mod journal;
mod power;
mod threads;
mod usage_option;

use serde_json::json;

use crate::harness::{Answer, Client, Row, World, patiently, request};

/// A request that reserves what its prompt is estimated at, and [`OUTPUT`].
const CHAT: &str = r#"{"model":"gpt-5.4","messages":[{"role":"user","content":"What is a weir?"}],"max_tokens":7}"#;
const STREAM: &str = r#"{"model":"gpt-5.4","messages":[{"role":"user","content":"Hi"}],"max_tokens":7,"stream":true}"#;
/// As [`STREAM`], but the client asks for usage itself, so that nothing is held or edited.
const STREAM_WITH_USAGE: &str = r#"{"model":"gpt-5.4","messages":[],"max_tokens":7,"stream":true,"stream_options":{"include_usage":true}}"#;
const OUTPUT: u64 = 7;

const JSON: &str = "content-type: application/json\r\n";
/// A complete answer, with usage 11/13/24.
const ANSWER: &str = r#"{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":11,"completion_tokens":13,"total_tokens":24}}"#;
/// An event with 5 bytes of text, which are estimated at 2 tokens.
const DELTA: &str =
    "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}]}\n\n";
const FINISH: &str =
    "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
/// As [`DELTA`], with running usage 11/1/12.
const RUNNING: &str = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":1,\"total_tokens\":12}}\n\n";
/// Usage alone, 11/13/24.
const USAGE: &str = "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":13,\"total_tokens\":24}}\n\n";
const DONE: &str = "data: [DONE]\n\n";
/// The tokens of [`ANSWER`] and [`USAGE`].
const STATED: Tokens = Tokens::Stated(11, 13);

/// A deadline that is to be missed. On a busy machine it may come before anything else does, so nothing
/// that has to happen first waits under it.
const SOON_MS: u64 = 300;
/// A deadline that is not.
const LATE_MS: u64 = 600_000;

/// What a row has to say of tokens, and where from.
#[derive(Clone, Copy, Debug)]
enum Tokens {
    /// `none`, 0.
    Nothing,
    /// `estimated`: the prompt, and so much output.
    Estimated(u64),
    /// `estimated`, and flagged: all that was reserved.
    Reserved,
    /// `reported`: input and output.
    Stated(u64, u64),
    /// `running`: input and output.
    Running(u64, u64),
}

/// What a row has to say.
#[derive(Clone, Copy, Debug)]
struct Booked {
    end: &'static str,
    tokens: Tokens,
    status: u16,
    upstream_status: Option<u16>,
    attempts: u32,
    flags: &'static [&'static str],
}

impl Booked {
    /// One attempt that the upstream answered with 200, as the client saw.
    const fn ok(end: &'static str, tokens: Tokens) -> Self {
        Self { end, tokens, status: 200, upstream_status: Some(200), attempts: 1, flags: &[] }
    }

    /// One attempt that the upstream did not answer.
    const fn unanswered(end: &'static str, tokens: Tokens, status: u16) -> Self {
        Self { end, tokens, status, upstream_status: None, attempts: 1, flags: &[] }
    }

    fn check(self, row: &Row) {
        let prompt = row.reserved_tokens - OUTPUT;
        let (source, input, output) = match self.tokens {
            Tokens::Nothing => ("none", 0, 0),
            Tokens::Estimated(output) => ("estimated", prompt, output),
            Tokens::Reserved => ("estimated", prompt, OUTPUT),
            Tokens::Stated(input, output) => ("reported", input, output),
            Tokens::Running(input, output) => ("running", input, output),
        };
        assert!(prompt > 0, "the prompt is estimated: {row:#?}");
        let found = (&*row.end, &*row.usage_source, row.status, row.upstream_status, row.attempts);
        let wanted = (self.end, source, self.status, self.upstream_status, self.attempts);
        assert_eq!(found, wanted, "{row:#?}");
        let found = (row.input_tokens, row.output_tokens, row.total_tokens);
        assert_eq!(found, (input, output, input + output), "{row:#?}");
        let is_reserved = matches!(self.tokens, Tokens::Reserved);
        let mut flags = [self.flags, if is_reserved { &["reserved"] } else { &[] }].concat();
        let mut found = row.flags.clone();
        flags.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, flags, "{row:#?}");
        let rest = (&*row.tenant, &*row.model, &*row.upstream, &*row.endpoint);
        assert_eq!(rest, ("acme", "gpt-5.4", "up", "/v1/chat/completions"));
    }

    /// Checks the only row of the ledger, which is this answer's.
    async fn check_only(self, world: &World, event_id: &str) {
        let rows = world.rows_eventually(1).await;
        assert_eq!(rows[0].event_id, event_id);
        self.check(&rows[0]);
    }
}

/// The body of an answer of Weir's own, as the API documents print it.
fn assert_error_body(world: &World, body: &[u8], kind: &str, code: &str) {
    let value: serde_json::Value = serde_json::from_slice(body).expect("an error is JSON");
    let message = value["error"]["message"].as_str().unwrap_or_default();
    assert!(message.ends_with('.'), "{value}");
    let (message, kind, code) = (json!(message), json!(kind), json!(code));
    let expected = format!(r#"{{"error":{{"message":{message},"type":{kind},"code":{code}}}}}"#);
    assert_eq!(String::from_utf8_lossy(body), expected);
    world.assert_discreet(body);
}

/// An answer of Weir's own.
fn assert_refused(world: &World, answer: &Answer, status: u16, code: &str, retry: Option<&str>) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let kind = if code.starts_with("upstream") { "upstream_error" } else { "server_error" };
    assert_error_body(world, &answer.body, kind, code);
    world.assert_discreet(answer.head.raw.as_bytes());
    assert_eq!(answer.header("x-should-retry"), retry);
    assert_eq!(answer.header("x-weir-origin"), Some("gateway"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.is_whole);
}

/// The upstream's own answer, as it is.
fn assert_passed(answer: &Answer, status: u16, body: &str) {
    assert_eq!((answer.status, answer.text(), answer.is_whole), (status, body, true));
    assert_eq!(answer.header("x-weir-origin"), Some("upstream"));
}

/// What is left of a stream is one error event, and then it is cut: neither `[DONE]` nor terminator.
async fn assert_cut(world: &World, client: &mut Client, code: &str) {
    let (rest, is_whole) = client.rest().await;
    let text = String::from_utf8(rest).expect("events are UTF-8");
    let body = text.strip_prefix("data: ").and_then(|text| text.strip_suffix("\n\n"));
    let body = body.unwrap_or_else(|| panic!("no error event: {text:?}"));
    let kind = if code.starts_with("upstream") { "upstream_error" } else { "server_error" };
    assert_error_body(world, body.as_bytes(), kind, code);
    assert!(!is_whole, "the terminator was sent");
}

/// The head of the upstream's 200 has come; the answer's id.
async fn begun(client: &mut Client) -> String {
    let head = client.head().await;
    assert_eq!((head.status(), head.header("x-weir-origin")), (200, Some("upstream")));
    head.header("x-request-id").expect("every answer has an id").to_owned()
}

/// The gateway has noticed that all clients have gone.
async fn clients_gone(world: &World) {
    let gone = async {
        loop {
            let mut client = Client::connect(world.server().admin_address()).await;
            client.send(request("GET", "/metrics", "none", "", "").as_bytes()).await;
            let answer = client.answer().await;
            if answer.text().lines().any(|line| line == "weir_client_connections_open 0.0") {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    patiently("the gateway notices that its clients have gone", gone).await;
}
