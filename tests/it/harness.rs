//! The world that a test lives in: a gateway in this process with a data directory of its own, an
//! upstream whose every byte the test decides, a client that sees every byte, and the ledger as users
//! read it, through the program `weir`.
//!
//! A test is its own script: it plays the client and the upstream in turn, so that nothing has to be
//! waited for by time. What can't come about at once is waited for by [`eventually`]; nothing waits
//! for longer than [`PATIENCE`].

mod wire;
mod client;
mod upstream;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use weir::clock::Clock;
use weir::config::{Config, Secrets};
use weir::server::{Environment, Server};

pub use client::{Answer, Client, Piece, request};
pub use upstream::{Call, Received, Upstream, chunk};

/// The longest that anything is waited for; a test that reaches it fails.
pub const PATIENCE: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_millis(10);
pub const MODEL: &str = "gpt-5.4";
pub const IMAGE_MODEL: &str = "gpt-5.4-image-2";
/// What the gateway authenticates with at its upstream.
pub const UPSTREAM_KEY: &str = "sk-upstream-0123456789abcdef";

/// Waits for what is to come, and fails by the name of it when it doesn't.
pub async fn patiently<T>(what: &str, coming: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, coming).await {
        Ok(come) => come,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

/// The program, of whose configuration the environment of whoever runs the tests decides nothing.
pub fn weir() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    let names = std::env::vars_os().map(|(name, _)| name);
    for name in names.filter(|name| name.to_string_lossy().starts_with("WEIR_")) {
        command.env_remove(name);
    }
    command
}

/// Asks until there is an answer.
pub async fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    };
    patiently(what, asking).await
}

/// A directory with a configuration in it, whether or not a server runs there. `weir` runs here too.
pub struct Place {
    dir: TempDir,
    config: String,
    base_url: String,
}

/// What is configured, `table.key` by `table.key`; `upstream.…` is the first upstream.
pub struct Builder {
    keys: BTreeMap<String, String>,
    more: String,
    environment: Environment,
    row_wait: Duration,
}

/// A running gateway, with one key of tenant `acme`.
pub struct World {
    pub place: Place,
    /// The text of the key.
    pub key: String,
    environment: Environment,
    server: Option<Server>,
}

impl Builder {
    /// Sets a key; `value` as TOML writes it: `.set("upstream.on_disconnect", "\"drain\"")`.
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.keys.insert(key.to_owned(), value.to_string());
        self
    }

    /// More TOML, after everything else: further `[[upstream]]`, `[[model]]`.
    pub fn more(mut self, toml: &str) -> Self {
        self.more.push_str(toml);
        self
    }

    /// The clock and the resolver that the server gets. Unless a test gives another one, the clock stands still.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = environment;
        self
    }

    /// How long few rows wait for others, which is not at all if nobody says: a test would wait, too.
    pub fn row_wait(mut self, row_wait: Duration) -> Self {
        self.row_wait = row_wait;
        self
    }

    /// Makes the directory and its configuration; nothing runs yet.
    pub fn place(self) -> (Place, Environment) {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let secret = dir.path().join("upstream-key");
        std::fs::write(&secret, UPSTREAM_KEY).expect("the directory is writable");
        let mut keys = self.keys;
        let mut default = |key: &str, value: String| {
            keys.entry(key.into()).or_insert(value);
        };
        let quoted = |path: &Path| format!("{:?}", path.display().to_string());
        default("server.listen", "\"127.0.0.1:0\"".into());
        default("admin.listen", "\"127.0.0.1:0\"".into());
        // One worker: which connection is used again is not left to chance.
        default("server.workers", "1".into());
        // A new key is tried until it works.
        default("server.failed_keys_per_minute", "0".into());
        // What `request` and `get` say.
        default("admin.hosts", "[\"weir.test\", \"x\"]".into());
        default("data.dir", quoted(&dir.path().join("data")));
        default("log.filter", "\"off\"".into());
        default("upstream.name", "\"up\"".into());
        default("upstream.base_url", "\"http://127.0.0.1:9\"".into());
        default("upstream.api_key", quoted(Path::new(&format!("file:{}", secret.display()))));
        // The clock stands still: who rests would rest for ever.
        default("upstream.breaker_failures", "0".into());
        default("upstream.models", format!("[\"{MODEL}\", \"{IMAGE_MODEL}\"]"));
        // How a test asks the simulator for something.
        let base_url = keys["upstream.base_url"].trim_matches('"').to_owned();
        let config = format!("{}{}", toml(&keys), self.more);
        std::fs::write(dir.path().join("weir.toml"), &config).expect("the directory is writable");
        let environment = Environment { row_wait: self.row_wait, ..self.environment };
        (Place { dir, config, base_url }, environment)
    }

    /// Starts the gateway, with a key that works.
    pub async fn start(self) -> World {
        let (place, environment) = self.place();
        let key = place.create_key(&[]);
        let server = Some(place.start(environment.clone()));
        World { place, key, environment, server }
    }
}

/// The tables of `table.key = value`, in the alphabet's order.
fn toml(keys: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    let mut last = "";
    for (path, value) in keys {
        let (table, key) = path.split_once('.').expect("keys are `table.key`");
        if table != last {
            let head = if table == "upstream" { "[[upstream]]" } else { &format!("[{table}]") };
            text.push_str(&format!("{head}\n"));
            last = table;
        }
        text.push_str(&format!("{key} = {value}\n"));
    }
    text
}

impl Place {
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn config_file(&self) -> PathBuf {
        self.dir.path().join("weir.toml")
    }

    /// Where journal and store are, unless the test has set `data.dir`.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Starts a server here, in this process.
    pub fn start(&self, environment: Environment) -> Server {
        let config = Config::from_toml(&self.config, Secrets::Required);
        let config = config.unwrap_or_else(|error| panic!("{error}\n{}", self.config));
        Server::start(&config, environment).unwrap_or_else(|error| panic!("no start: {error}"))
    }

    /// The program `weir` with this place's configuration, for the test to run or to spawn.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = weir();
        command.current_dir(self.path()).arg("--config").arg(self.config_file()).args(arguments);
        command
    }

    /// Runs `weir` and returns what it prints; it has to succeed.
    pub fn weir(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("the program runs");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "weir {arguments:?}: {error}");
        String::from_utf8(output.stdout).expect("it prints UTF-8")
    }

    /// `weir key create` for tenant `acme`, unless `options` say otherwise; the new key's text.
    pub fn create_key(&self, options: &[&str]) -> String {
        let mut arguments = vec!["key", "create", "--format", "json"];
        if !options.contains(&"--tenant") {
            arguments.extend(["--tenant", "acme"]);
        }
        arguments.extend(options);
        let made: Value = serde_json::from_str(&self.weir(&arguments)).expect("it prints JSON");
        made["key"].as_str().expect("it shows the text").to_owned()
    }

    /// All rows of the ledger, newest first.
    pub fn rows(&self) -> Vec<Row> {
        self.rows_of(&[])
    }

    /// The rows that `weir requests` finds with further `options`, newest first; it gives 100,000 at most.
    pub fn rows_of(&self, options: &[&str]) -> Vec<Row> {
        let all = ["requests", "--format", "json", "--limit", "100000"];
        let text = self.weir(&[&all, options].concat());
        serde_json::from_str(&text).expect("rows are JSON")
    }
}

/// What a test holds open may wait for a busy machine for longer than clients may: tests of a deadline set
/// it.
const DEADLINES: [&str; 4] = [
    "deadlines.request_head_ms",
    "deadlines.request_body_idle_ms",
    "deadlines.request_body_ms",
    "deadlines.write_progress_ms",
];
const NEVER_MS: u64 = 24 * 3_600_000;

impl World {
    pub fn builder() -> Builder {
        let (keys, more) = (BTreeMap::new(), String::new());
        // Held: no hour and no day ends in the middle of a test.
        let (clock, _) = Clock::manual(jiff::Timestamp::now().as_millisecond());
        let environment = Environment { clock, ..Environment::default() };
        let builder = Builder { keys, more, environment, row_wait: Duration::ZERO };
        DEADLINES.iter().fold(builder, |builder, key| builder.set(key, NEVER_MS))
    }

    /// A gateway in front of `upstream`, everything else by default but for what ends by itself.
    pub fn before(upstream: &Upstream) -> Builder {
        Self::builder()
            .set("upstream.base_url", format!("\"{}\"", upstream.base_url()))
            .set("upstream.idle_ms", NEVER_MS)
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs until it is stopped")
    }

    pub fn address(&self) -> SocketAddr {
        self.server().address()
    }

    /// `weir key create` beside the running server; returns once the server knows the key.
    pub async fn new_key(&self, options: &[&str]) -> String {
        let key = self.place.create_key(options);
        let trying = async {
            loop {
                let mut client = self.connect().await;
                client.send(request("GET", "/v1/models", &key, "", "").as_bytes()).await;
                if client.answer().await.status == 200 {
                    return;
                }
                tokio::time::sleep(POLL_EVERY).await;
            }
        };
        patiently("the server knows a new key", trying).await;
        key
    }

    pub async fn connect(&self) -> Client {
        Client::connect(self.address()).await
    }

    /// What `/metrics` says.
    pub async fn metrics(&self) -> String {
        let mut client = Client::connect(self.server().admin_address()).await;
        client.send(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
        client.answer().await.text().to_owned()
    }

    /// A chat request's bytes, with this world's key.
    pub fn chat(&self, body: &str) -> String {
        request("POST", "/v1/chat/completions", &self.key, "", body)
    }

    /// Sends a chat request on a new connection.
    pub async fn post(&self, body: &str) -> Client {
        let mut client = self.connect().await;
        client.send(self.chat(body).as_bytes()).await;
        client
    }

    /// The rows, newest first, once there are `count` of them.
    pub async fn rows_eventually(&self, count: usize) -> Vec<Row> {
        let enough = || Some(self.place.rows()).filter(|rows| rows.len() >= count);
        let rows = eventually("rows in the ledger", enough).await;
        assert_eq!(rows.len(), count, "{rows:#?}");
        rows
    }

    /// The row of an answer, by its `x-request-id`.
    pub async fn row(&self, event_id: &str) -> Row {
        let find = || {
            let mut rows = self.place.rows().into_iter().filter(|row| row.event_id == event_id);
            let found = rows.next();
            assert!(rows.next().is_none(), "{event_id} is in the ledger twice");
            found
        };
        eventually("a row in the ledger", find).await
    }

    /// Nothing that Weir says of its own may contain the upstream's address or anybody's key.
    pub fn assert_discreet(&self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let authority = self.place.base_url.split('/').nth(2).unwrap_or_default();
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        for secret in [authority, host, UPSTREAM_KEY, &*self.key] {
            assert!(!text.contains(secret), "`{secret}` is told: {text}");
        }
    }

    /// Requests in flight and tokens reserved have come down to 0.
    pub async fn settled(&self) {
        let server = self.server();
        eventually("nothing is outstanding", || (server.outstanding() == (0, 0)).then_some(()))
            .await;
    }

    /// Stops the server; running requests are cut. Directory, key and ledger stay.
    pub async fn stop(&mut self) {
        let server = self.server.take().expect("it runs");
        patiently("the server stops", server.shutdown(std::future::ready(()))).await;
    }

    /// The same, but whatever runs may end first.
    pub async fn stop_gently(&mut self) {
        let server = self.server.take().expect("it runs");
        patiently("the server stops", server.shutdown(std::future::pending())).await;
    }

    /// Starts the server again, in the same place; its port is another one.
    pub fn start_again(&mut self) {
        assert!(self.server.is_none(), "it still runs");
        self.server = Some(self.place.start(self.environment.clone()));
    }

    /// The end of every test: nothing is left outstanding, and the server stops.
    pub async fn finish(mut self) {
        self.settled().await;
        self.stop().await;
    }
}

/// One row, as `weir requests --format json` prints it.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Row {
    pub event_id: String,
    pub tenant: String,
    pub model: String,
    pub model_served: Option<String>,
    pub upstream: String,
    pub endpoint: String,
    pub started_at: String,
    pub status: u16,
    pub upstream_status: Option<u16>,
    pub end: String,
    pub usage_source: String,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub total_tokens: u64,
    pub raw_usage: Option<Value>,
    pub reserved_tokens: u64,
    pub attempts: u32,
    pub streamed: bool,
    pub flags: Vec<String>,
    pub upstream_request_id: Option<String>,
    pub upstream_key: Option<String>,
    pub failed_attempts: Option<serde_json::Value>,
}

/// A key with another last letter: keys are random, and some end in any letter.
pub fn misspelt(key: &str) -> String {
    let (rest, last) = key.split_at(key.len() - 1);
    format!("{rest}{}", if last == "x" { "y" } else { "x" })
}
