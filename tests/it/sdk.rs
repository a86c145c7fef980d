//! The official SDKs through the real program: simulator, gateway and command line are processes of
//! their own, as users start them. `tests/sdk/` has one script per SDK; both do the same and print
//! what the SDK handed out, and here stands what that must be. Afterwards the ledger must hold what
//! the simulator says it served, and the log nothing that is secret.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::world::eventually;

const UPSTREAM_KEY: &str = "sk-upstream-secret";
/// A picture of one pixel.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJ\
                   RU5ErkJggg==";

/// A running process of the program. Dropped, it is killed.
struct Process {
    child: Child,
    /// Reads what it says until it ends, so that it never waits for a reader.
    rest: Option<JoinHandle<String>>,
}

impl Process {
    /// Starts it and waits for the line that `ready` finds its address in.
    fn start(command: &mut Command, ready: impl Fn(&str) -> Option<String>) -> (Self, String) {
        let (out, err) = std::io::pipe().expect("a pipe");
        let twin = err.try_clone().expect("a pipe");
        let child = command.stdin(Stdio::null()).stdout(twin).stderr(err).spawn();
        let mut process = Self { child: child.expect("the program is built"), rest: None };
        // The command holds the pipe's writing ends; with them open its end would never be seen.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let (mut out, mut text) = (BufReader::new(out), String::new());
        let address = loop {
            let begin = text.len();
            assert!(out.read_line(&mut text).expect("text") > 0, "it ended at once: {text}");
            if let Some(address) = ready(&text[begin..]) {
                break address;
            }
        };
        process.rest = Some(std::thread::spawn(move || {
            out.read_to_string(&mut text).expect("text");
            text
        }));
        (process, address)
    }

    /// Ends it as a service manager does, and returns all that it said.
    fn stop(mut self) -> String {
        let pid = self.child.id().to_string();
        let killed = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(killed.expect("kill is everywhere").success());
        let status = self.child.wait().expect("it is our child");
        let rest = self.rest.take().expect("taken only here").join();
        let said = rest.expect("its output is text");
        assert!(status.success(), "{status}: {said}");
        said
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Simulator, gateway, and their directory.
struct Site {
    simulator: Process,
    gateway: Process,
    simulator_address: String,
    gateway_address: String,
    config: PathBuf,
    _dir: tempfile::TempDir,
}

fn weir() -> Command {
    Command::new(env!("CARGO_BIN_EXE_weir"))
}

impl Site {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (simulator, simulator_address) = Process::start(
            weir().args(["simulate", "--listen", "127.0.0.1:0", "--api-key", UPSTREAM_KEY]),
            |line| Some(line.trim().strip_prefix("simulator listens on http://")?.to_owned()),
        );
        let config = dir.path().join("weir.toml");
        let text = format!(
            r#"
            [server]
            listen = "127.0.0.1:0"
            max_body_bytes = 1048576
            [admin]
            listen = "127.0.0.1:0"
            [data]
            dir = "{data}"
            [limits]
            rpm_burst = 1
            [[upstream]]
            name = "simulator"
            base_url = "http://{simulator_address}"
            api_key = "env:SDK_TEST_UPSTREAM_KEY"
            models = ["gpt-5.4", "gpt-5.4-image-2"]
            [log]
            filter = "info,weir=debug"
            format = "json"
            "#,
            data = dir.path().join("data").display(),
        );
        std::fs::write(&config, text).expect("a file");
        let (gateway, gateway_address) = Process::start(
            weir()
                .arg("--config")
                .arg(&config)
                .arg("serve")
                .env("SDK_TEST_UPSTREAM_KEY", UPSTREAM_KEY),
            |line| {
                let line: Value = serde_json::from_str(line).expect(line);
                (line["message"] == "ready").then(|| line["listen"].as_str().map(str::to_owned))?
            },
        );
        Self { simulator, gateway, simulator_address, gateway_address, config, _dir: dir }
    }

    /// What a subcommand prints with `--format json`.
    fn json(&self, arguments: &[&str]) -> Value {
        let mut command = weir();
        command.arg("--config").arg(&self.config).args(arguments).args(["--format", "json"]);
        let output = command.output().expect("the program is built");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "weir {arguments:?}: {said}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    fn key(&self, limits: &[&str]) -> String {
        let key = self.json(&[&["key", "create", "--tenant", "sdk"], limits].concat());
        key["key"].as_str().expect("a new key is shown").to_owned()
    }

    fn rows(&self) -> Vec<Value> {
        let rows = self.json(&["requests", "--limit", "1000"]);
        rows.as_array().expect("an array").clone()
    }

    /// The simulator's own books.
    fn counts(&self) -> Value {
        let mut stream = TcpStream::connect(&self.simulator_address).expect("it runs");
        let request = "GET /simulator/counts HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("a small request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
        serde_json::from_str(body).expect("JSON")
    }

    /// Runs one SDK's script, checks what it got, then the books and the log.
    async fn run(self, sdk: &mut Command) {
        let keys =
            [self.key(&[]), self.key(&["--rpm", "30"]), self.key(&["--daily-requests", "1"])];
        sdk.env("WEIR_BASE_URL", format!("http://{}/v1", self.gateway_address))
            .env("WEIR_KEY", &keys[0])
            .env("WEIR_KEY_RATE", &keys[1])
            .env("WEIR_KEY_QUOTA", &keys[2])
            .env("WEIR_PNG", PNG)
            // A proxy of this machine has no part in this.
            .env("NO_PROXY", "*");
        let output = sdk.output();
        let output = output.unwrap_or_else(|error| panic!("{sdk:?} can't be run: {error}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{sdk:?}: {said}");
        let got = serde_json::from_slice(&output.stdout).expect("the script prints JSON");
        check(&got);
        check_books(&self).await;
        let Self { gateway, simulator, .. } = self;
        let log = gateway.stop();
        simulator.stop();
        for secret in keys.iter().map(String::as_str).chain([UPSTREAM_KEY, "the sky blue", "Oslo"])
        {
            assert!(!log.contains(secret), "the log has {secret}");
        }
    }
}

/// The ledger against the simulator's books: every request once, every token once.
async fn check_books(site: &Site) {
    let both = || {
        let (counts, rows) = (site.counts(), site.rows());
        let is_over = counts["streams_open"] == 0 && counts["requests"] == rows.len();
        is_over.then_some((counts, rows))
    };
    let (counts, rows) = eventually("a row for every request", both).await;
    let ended = |end: &str| rows.iter().filter(|row| row["end"] == end).count();
    assert_eq!(counts["completed"], ended("complete"), "{counts}");
    assert_eq!(counts["refused"], ended("upstream_rejected"), "{counts}");
    assert_eq!((&counts["aborted"], ended("client_closed")), (&json!(1), 1), "{counts}");
    let complete = || rows.iter().filter(|row| row["end"] == "complete");
    let sum = |field: &str| complete().filter_map(|row| row[field].as_u64()).sum::<u64>();
    assert_eq!(counts["prompt_tokens"], sum("input_tokens"));
    assert_eq!(counts["completion_tokens"], sum("output_tokens"));
    assert_eq!(counts["total_tokens"], sum("total_tokens"));
    assert!(complete().all(|row| row["usage_source"] == "reported"), "{rows:?}");
    assert!(rows.iter().all(|row| row["attempts"] == 1 && row["tenant"] == "sdk"), "{rows:?}");
    let aborted = rows.iter().find(|row| row["end"] == "client_closed").expect("counted");
    assert_eq!(aborted["usage_source"], "estimated");
    assert!(aborted["output_tokens"].as_u64() < Some(1000), "{aborted}");
    let usage = site.json(&["usage", "--by", "tenant"]);
    assert_eq!(usage[0]["requests"], rows.len(), "{usage}");
}

type Check = fn(&Value);

/// Every scenario, and what an SDK must hand out in it.
const CHECKS: [(&str, Check); 13] = [
    ("chat", chat),
    ("stream", stream),
    ("stream_with_usage", stream_with_usage),
    ("stream_refusing_usage", stream),
    ("tools", tools),
    ("vision", vision),
    ("json_mode", |got| assert_eq!(*got, json!({"is_object": true}))),
    ("images", images),
    ("errors", errors),
    ("retries", retries),
    ("models", models),
    ("concurrent", concurrent),
    ("abort", |got| assert_eq!(*got, json!({"chunks": 4}))),
];

fn check(got: &Value) {
    let got = got.as_object().expect("an object");
    assert_eq!(got.len(), CHECKS.len(), "{:?}", got.keys());
    for (name, check) in CHECKS {
        eprintln!("{name}: {}", got[name]);
        check(&got[name]);
    }
    // What streams said is what was said without a stream.
    for streamed in ["stream", "stream_with_usage", "stream_refusing_usage"] {
        assert_eq!(got[streamed]["content"], got["chat"]["content"], "{streamed}");
    }
    assert_eq!(got["stream_with_usage"]["usages"], json!([got["chat"]["usage"]]));
}

fn chat(got: &Value) {
    let content = got["content"].as_str().expect("text");
    assert!(content.starts_with("About \"Why is the sky blue?\""), "{content}");
    assert_eq!((&got["finish_reason"], &got["model"]), (&json!("stop"), &json!("gpt-5.4")));
    let usage: Vec<u64> = serde_json::from_value(got["usage"].clone()).expect("three counts");
    assert!(usage[0] > 0 && usage[1] > 0 && usage[2] == usage[0] + usage[1], "{usage:?}");
    assert_event_id(&got["request_id"]);
}

/// A stream that did not ask for usage shows no trace of Weir having asked.
fn stream(got: &Value) {
    assert!(got["chunks"].as_u64() > Some(5), "{got}");
    assert_eq!(got["without_choices"], 0);
    assert_eq!((&got["naming_usage"], &got["usages"]), (&json!(0), &json!([])));
    assert_eq!(got["finish_reason"], "stop");
}

/// One that did gets all of it: a usage event without choices, and `usage` in all others.
fn stream_with_usage(got: &Value) {
    assert_eq!((&got["without_choices"], &got["finish_reason"]), (&json!(1), &json!("stop")));
    assert_eq!(got["naming_usage"], got["chunks"]);
    assert_eq!(got["usages"].as_array().map(Vec::len), Some(1));
}

fn tools(got: &Value) {
    let city = json!(["city"]);
    let call = |name: &str| json!({"name": name, "arguments": city, "finish_reason": "tool_calls"});
    assert_eq!(got["auto"], call("get_weather"));
    assert_eq!(got["required"], call("get_weather"));
    assert_eq!(got["named"], call("get_time"));
    assert_eq!(got["streamed"], json!({"name": "get_weather", "arguments": city}));
    let second = got["second_round"].as_str().expect("text");
    assert!(second.starts_with("According to the tool: 22 degrees."), "{second}");
}

/// OpenAI's image part and the API documents' mean the same.
fn vision(got: &Value) {
    let content = got["document"].as_str().expect("text");
    assert!(content.contains("a PNG of 1x1 pixels"), "{content}");
    assert_eq!(got["document"], got["image_url"]);
}

fn images(got: &Value) {
    assert_eq!(got["types"], json!([["image_base64"], ["image_base64"]]));
    assert_eq!(got["png"], json!([true, true]));
    assert_eq!(got["streamed_png"], json!([true]));
    assert!(got["completion_tokens"].as_u64() > Some(1000), "{got}");
}

/// One failure: whose class, which words, from whom, and how often it was asked.
fn assert_failure(got: &Value, class: &[&str], code: &str, kind: &str, by: &str, answers: &[u16]) {
    assert!(class.contains(&got["class"].as_str().expect("a class")), "{got}");
    assert_eq!((&got["code"], &got["type"]), (&json!(code), &json!(kind)), "{got}");
    assert_eq!((&got["origin"], &got["statuses"]), (&json!(by), &json!(answers)), "{got}");
    assert_eq!(got["status"], *answers.last().expect("an answer"), "{got}");
    assert_event_id(&got["request_id"]);
}

fn errors(got: &Value) {
    const INVALID: &str = "invalid_request_error";
    let bad = ["BadRequestError"];
    let key = ["AuthenticationError"];
    assert_failure(&got["key"], &key, "invalid_api_key", "authentication_error", "gateway", &[401]);
    assert_failure(&got["parameter"], &bad, "invalid_request", INVALID, "upstream", &[400]);
    assert_failure(&got["our_parameter"], &bad, "invalid_request", INVALID, "gateway", &[400]);
    assert_failure(&got["image"], &bad, "invalid_image", INVALID, "upstream", &[400]);
    let unknown = ["NotFoundError"];
    assert_failure(&got["model"], &unknown, "model_not_found", INVALID, "gateway", &[404]);
    // Python and Node have no class of their own for 413.
    let large = ["APIStatusError", "APIError"];
    assert_failure(&got["large"], &large, "request_too_large", INVALID, "gateway", &[413]);
}

fn retries(got: &Value) {
    assert_eq!(got["upstream"]["statuses"], json!([429, 429, 200]), "the upstream's own");
    assert_eq!(got["ours"]["statuses"], json!([429, 200]), "Retry-After is long enough");
    assert_eq!(got["upstream"]["content"], got["ours"]["content"]);
    let (class, quota) = (["RateLimitError"], "insufficient_quota");
    assert_failure(&got["quota"], &class, quota, quota, "gateway", &[429]);
}

fn models(got: &Value) {
    assert_eq!(got["list"], json!(["gpt-5.4", "gpt-5.4-image-2"]));
    assert_eq!(got["one"], "gpt-5.4-image-2");
    let unknown = ["NotFoundError"];
    let kind = "invalid_request_error";
    assert_failure(&got["unknown"], &unknown, "model_not_found", kind, "gateway", &[404]);
}

fn concurrent(got: &Value) {
    let answers = got.as_array().expect("an array");
    assert_eq!(answers.len(), 8);
    for (n, answer) in answers.iter().enumerate() {
        let own = format!("About \"Say {n}\"");
        assert!(answer.as_str().is_some_and(|text| text.starts_with(&own)), "{n}: {answer}");
    }
}

/// The id of the request's row: a UUID of version 7.
fn assert_event_id(id: &Value) {
    let id = id.as_str().and_then(|id| uuid::Uuid::parse_str(id).ok());
    assert_eq!(id.map(|id| id.get_version_num()), Some(7), "{id:?}");
}

/// The file that must be there, or a word about how it comes there.
fn installed(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    assert!(path.exists(), "{} is missing: run `make test`, which installs it", path.display());
    path
}

#[tokio::test]
async fn python() {
    // `make` leaves this behind when all of it is there.
    installed(".venv/.installed");
    let script = installed("tests/sdk/python/scenarios.py");
    Site::start().run(Command::new(installed(".venv/bin/python")).arg(script)).await;
}

#[tokio::test]
async fn node() {
    installed("tests/sdk/node/node_modules/.installed");
    let script = installed("tests/sdk/node/scenarios.mjs");
    Site::start().run(Command::new("node").arg(script)).await;
}
