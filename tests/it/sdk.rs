//! SDKs through the real program: simulator, gateway and command line are processes of their own, as
//! users start them. `tests/sdk/` has one script per SDK, which prints what the SDK handed out; below
//! here stands what that must be. Afterwards the ledger must hold, endpoint by endpoint, what the
//! simulator says it served, and the log nothing that is secret.

mod official;
mod endpoints;
mod ecosystem;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::endpoints::samples::FREE;
use crate::harness::{eventually, weir};

const UPSTREAM_KEY: &str = "sk-upstream-secret";
/// A picture of one pixel.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJ\
                   RU5ErkJggg==";

/// Endpoints whose answers, as the scripts ask for them, state no usage.
const SILENT: [&str; 3] = ["/v1/moderations", "/v1/audio/translations", "/v1/audio/speech"];
/// What an SDK would read of the environment, and what makes it report to somebody.
const STRANGERS: [&str; 9] = [
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_BASE_URL",
    "LANGCHAIN_TRACING_V2",
    "LANGSMITH_TRACING",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "OPENAI_ORG_ID",
    "OPENAI_PROJECT_ID",
];

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
    /// One without limits, one with a rate, one with a quota.
    keys: [String; 3],
    dir: tempfile::TempDir,
}

/// What a subcommand prints with `--format json`.
fn json(config: &Path, arguments: &[&str]) -> Value {
    let mut command = weir();
    command.arg("--config").arg(config).args(arguments).args(["--format", "json"]);
    let output = command.output().expect("the program is built");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "weir {arguments:?}: {said}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn new_key(config: &Path, limits: &[&str]) -> String {
    let key = json(config, &[&["key", "create", "--tenant", "sdk"], limits].concat());
    key["key"].as_str().expect("a new key is shown").to_owned()
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
        // Before the server starts: later, it would follow within a second only.
        let keys: [&[&str]; 3] = [&[], &["--rpm", "30"], &["--monthly-requests", "1"]];
        let keys = keys.map(|limits| new_key(&config, limits));
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
        Self { simulator, gateway, simulator_address, gateway_address, config, keys, dir }
    }

    fn rows(&self) -> Vec<Value> {
        let rows = json(&self.config, &["requests", "--limit", "1000"]);
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
    async fn run(self, script: &mut Command, check: Check) {
        let keys = &self.keys;
        for name in STRANGERS {
            script.env_remove(name);
        }
        script
            .env("WEIR_BASE_URL", format!("http://{}/v1", self.gateway_address))
            .env("WEIR_KEY", &keys[0])
            .env("WEIR_KEY_RATE", &keys[1])
            .env("WEIR_KEY_QUOTA", &keys[2])
            .env("WEIR_PNG", PNG)
            .env("WEIR_DIR", self.dir.path())
            // Nobody listens there: what wants to leave this machine fails at once. That holds for
            // Python; Node's fetch takes no notice of it.
            .env("HTTP_PROXY", "http://127.0.0.1:1")
            .env("HTTPS_PROXY", "http://127.0.0.1:1")
            .env("NO_PROXY", "127.0.0.1");
        let output = script.output();
        let output = output.unwrap_or_else(|error| panic!("{script:?} can't be run: {error}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script:?}: {said}");
        let got: Value = serde_json::from_slice(&output.stdout).expect("the script prints JSON");
        for (name, result) in got.as_object().expect("an object") {
            eprintln!("{name}: {result}");
        }
        check(&got);
        check_books(&self, usize::from(got["abort"].is_object())).await;
        let Self { gateway, simulator, .. } = self;
        let log = gateway.stop();
        simulator.stop();
        for secret in keys.iter().map(String::as_str).chain([UPSTREAM_KEY, "the sky blue", "Oslo"])
        {
            assert!(!log.contains(secret), "the log has {secret}");
        }
    }
}

/// The ledger against the simulator's books: every request once, every token once, of each endpoint.
async fn check_books(site: &Site, aborted: usize) {
    let both = || {
        let (counts, rows) = (site.counts(), site.rows());
        let is_over = counts["streams_open"] == 0 && counts["requests"] == rows.len();
        is_over.then_some((counts, rows))
    };
    let (counts, rows) = eventually("a row for every request", both).await;
    let ended = |end: &str| rows.iter().filter(|row| row["end"] == end).count();
    assert_eq!(counts["completed"], ended("complete"), "{counts}");
    assert_eq!(counts["refused"], ended("upstream_rejected"), "{counts}");
    let gone = (&counts["aborted"], ended("client_closed"));
    assert_eq!(gone, (&json!(aborted), aborted), "{counts}");
    let mut completed = 0;
    for (path, counts) in counts["paths"].as_object().expect("an object") {
        let is_own = |row: &&Value| row["end"] == "complete" && row["endpoint"] == **path;
        let own: Vec<&Value> = rows.iter().filter(is_own).collect();
        assert_eq!(counts["completed"], own.len(), "{path}");
        completed += own.len();
        let source = match path.as_str() {
            FREE => "none",
            path if SILENT.contains(&path) => "estimated",
            _ => "reported",
        };
        assert!(own.iter().all(|row| row["usage_source"] == source), "{own:?}");
        if source == "reported" {
            let sum = |field: &str| own.iter().filter_map(|row| row[field].as_u64()).sum::<u64>();
            let (input, output) = (sum("input_tokens"), sum("output_tokens"));
            assert_eq!(
                (&counts["prompt_tokens"], sum("total_tokens")),
                (&json!(input), input + output)
            );
            assert_eq!(counts["completion_tokens"], output, "{path}");
        }
    }
    assert_eq!(counts["completed"], completed, "no other endpoint has completed anything");
    assert!(rows.iter().all(|row| row["attempts"] == 1 && row["tenant"] == "sdk"), "{rows:?}");
    for row in rows.iter().filter(|row| row["end"] == "client_closed") {
        assert_eq!(row["usage_source"], "estimated");
        // Nobody says how far the upstream went on; the prompt may have been stated.
        assert_eq!(row["flags"], json!(["reserved"]), "{row}");
    }
    let usage = json(&site.config, &["usage", "--by", "tenant"]);
    assert_eq!(usage[0]["requests"], rows.len(), "{usage}");
}

/// What a script must have printed.
type Check = fn(&Value);

/// Nothing is missing, and nothing goes unchecked.
fn assert_names<'n>(got: &Value, names: impl IntoIterator<Item = &'n str>) {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    let mut found: Vec<&str> = got.as_object().expect("an object").keys().map(|it| &**it).collect();
    found.sort_unstable();
    assert_eq!(found, names);
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

/// A script for the Python that `make` installs the SDKs for.
fn python(script: &str) -> Command {
    // `make` leaves this behind when all of it is there.
    installed(".venv/.installed");
    let mut command = Command::new(installed(".venv/bin/python"));
    command.arg(installed(&format!("tests/sdk/python/{script}")));
    command
}

fn node(script: &str) -> Command {
    installed("tests/sdk/node/node_modules/.installed");
    let mut command = Command::new("node");
    command.arg(installed(&format!("tests/sdk/node/{script}")));
    command
}

async fn run(mut script: Command, check: Check) {
    Site::start().run(&mut script, check).await;
}

/// The official SDK as it was a major version ago, by the name under which it is installed.
fn node_6(script: &str) -> Command {
    let mut command = node(script);
    command.arg("openai-6");
    command
}

#[tokio::test]
async fn python_chat() {
    run(python("scenarios.py"), official::check).await;
}

#[tokio::test]
async fn node_chat() {
    run(node("scenarios.mjs"), official::check).await;
}

#[tokio::test]
async fn node_6_chat() {
    run(node_6("scenarios.mjs"), official::check).await;
}

#[tokio::test]
async fn python_endpoints() {
    run(python("endpoints.py"), endpoints::check).await;
}

#[tokio::test]
async fn node_endpoints() {
    run(node("endpoints.mjs"), endpoints::check).await;
}

#[tokio::test]
async fn node_6_endpoints() {
    run(node_6("endpoints.mjs"), endpoints::check).await;
}

#[tokio::test]
async fn python_anthropic() {
    run(python("anthropic_sdk.py"), ecosystem::anthropic).await;
}

#[tokio::test]
async fn node_anthropic() {
    run(node("anthropic.mjs"), ecosystem::anthropic).await;
}

#[tokio::test]
async fn python_langchain() {
    run(python("langchain_sdk.py"), ecosystem::langchain).await;
}

#[tokio::test]
async fn node_langchain() {
    run(node("langchain.mjs"), ecosystem::langchain).await;
}

#[tokio::test]
async fn python_agents() {
    run(python("agents_sdk.py"), ecosystem::agents).await;
}

#[tokio::test]
async fn python_pydantic_ai() {
    run(python("pydantic_ai_sdk.py"), ecosystem::pydantic_ai).await;
}

#[tokio::test]
async fn python_llm() {
    run(python("llm_sdk.py"), ecosystem::llm).await;
}

#[tokio::test]
async fn node_ai_sdk() {
    run(node("ai.mjs"), ecosystem::ai_sdk).await;
}
