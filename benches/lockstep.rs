//! A gateway under callgrind between a client and an upstream that take turns in one thread: nobody
//! writes before the other has read, so that a worker's work is the same however slow the machine is.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

const WEIR: &str = env!("CARGO_BIN_EXE_weir");
const CONFIG: &str = "weir.toml";
/// High enough to be checked on every request and never to refuse one.
const LIMITS: &str = "--rpm 1000000000 --tpm 1000000000000 --concurrency 1000 \
    --daily-tokens 1000000000000000 --monthly-tokens 1000000000000000 \
    --daily-requests 1000000000000 --monthly-requests 1000000000000";
const REQUESTS: u64 = 500;
const STREAMS: u64 = 20;
const EVENTS: u64 = 50;
/// Of an event that is a chunk.
const EVENT_END: &str = "\n\n\r\n";
/// So long a turn may take, under callgrind and on a busy machine.
const PATIENCE: Option<Duration> = Some(Duration::from_secs(60));

/// A directory with a configuration and a key, and the upstream.
pub struct Lockstep {
    dir: TempDir,
    key: String,
    upstream: TcpListener,
}

/// The gateway, and both of its connections.
struct Running {
    process: Child,
    client: TcpStream,
    upstream: TcpStream,
}

impl Lockstep {
    pub fn new(below: &Path) -> Self {
        let dir = tempfile::tempdir_in(below).expect("the directory is writable");
        let upstream = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = upstream.local_addr().expect("it is bound");
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [data]\ndir = {:?}\n[log]\nformat = \"json\"\n[[upstream]]\nname = \"up\"\n\
             base_url = \"http://{address}\"\napi_key = \"env:BENCH_KEY\"\nmodels = [\"gpt-5.4\"]\n",
            dir.path().join("data"),
        );
        std::fs::write(dir.path().join(CONFIG), config).expect("the directory is writable");
        let mut lockstep = Self { dir, key: String::new(), upstream };
        let limits = || LIMITS.split_whitespace();
        lockstep.weir(["tenant", "create", "bench"].into_iter().chain(limits()));
        let create = ["key", "create", "--tenant", "bench", "--format", "json"];
        let created = lockstep.weir(create.into_iter().chain(limits()));
        let created: Value = serde_json::from_slice(&created).expect("it prints JSON");
        lockstep.key = created["key"].as_str().expect("the key is in it").to_owned();
        lockstep
    }

    /// Instructions of a worker for a request that is answered whole.
    pub fn request(&self) -> u64 {
        let usage = usage();
        let answer = format!(
            r#"{{"id":"chatcmpl-1","object":"chat.completion","created":1780470861,"model":"gpt-5.4","choices":[{{"index":0,"message":{{"role":"assistant","content":"A weir lets the river run over it while the flow is measured.","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"stop"}}],"usage":{usage},"service_tier":"default"}}"#
        );
        let length = answer.len();
        let answer =
            format!("{}content-length: {length}\r\n\r\n{answer}", head("application/json"));
        self.counted(|running| {
            for _ in 0..REQUESTS {
                running.ask(&self.key, "");
                running.answer(&answer, &answer[answer.len() - 20..]);
            }
        }) / REQUESTS
    }

    /// Instructions of a worker for an event of a stream, a fiftieth of the request included. The usage
    /// is asked for and taken out.
    pub fn event(&self) -> u64 {
        let head = head("text/event-stream");
        self.counted(|running| {
            for _ in 0..STREAMS {
                running.ask(&self.key, r#","stream":true"#);
                let head = format!("{head}transfer-encoding: chunked\r\n\r\n");
                running.answer(&(head + &chunk(&event("role"))), EVENT_END);
                for at in 1..EVENTS {
                    running.answer(&chunk(&event(&format!("word{at}"))), EVENT_END);
                }
                let usage = format!("data: {{\"choices\":[],\"usage\":{}}}\n\n", usage());
                let end = chunk(&usage) + &chunk("data: [DONE]\n\n") + "0\r\n\r\n";
                running.answer(&end, "0\r\n\r\n");
            }
        }) / (STREAMS * EVENTS)
    }

    /// The instructions of the busiest thread, which is the worker, while `load` runs.
    fn counted(&self, load: impl FnOnce(&mut Running)) -> u64 {
        let out = self.dir.path().join("callgrind");
        let mut running = self.start(&out);
        load(&mut running);
        let Running { mut process, .. } = running;
        let ended = Command::new("kill").arg(process.id().to_string()).status();
        assert!(ended.expect("kill is a command").success(), "the gateway runs to the end");
        assert!(process.wait().expect("a process of ours").success(), "it ends well");
        let threads = std::fs::read_dir(self.dir.path()).expect("it is there").flatten();
        let count = |path: &Path| -> Option<u64> {
            let text = std::fs::read_to_string(path).ok()?;
            std::fs::remove_file(path).ok()?;
            text.lines().find_map(|line| line.strip_prefix("totals: "))?.parse().ok()
        };
        let of_a_thread = |path: &Path| path.to_string_lossy().contains("/callgrind-");
        let paths = threads.map(|entry| entry.path()).filter(|path| of_a_thread(path));
        paths.filter_map(|path| count(&path)).max().expect("callgrind has counted")
    }

    fn start(&self, out: &Path) -> Running {
        let mut process = Command::new("valgrind")
            .args(["--quiet", "--tool=callgrind", "--separate-threads=yes"])
            .arg(format!("--callgrind-out-file={}", out.display()))
            .args([WEIR, "--config", CONFIG, "serve"])
            .current_dir(self.dir.path())
            .env("BENCH_KEY", "sk-bench")
            .stderr(Stdio::piped())
            .spawn()
            .expect("valgrind is installed (scripts/debian-tools.sh valgrind)");
        let mut log = BufReader::new(process.stderr.take().expect("it is piped"));
        let mut said = String::new();
        let address: SocketAddr = loop {
            let begun = said.len();
            let read = log.read_line(&mut said).expect("a log is text");
            assert!(read > 0, "the gateway does not start:\n{said}");
            let line: Value = serde_json::from_str(&said[begun..]).unwrap_or_default();
            if line["message"] == "ready" {
                break line["listen"]
                    .as_str()
                    .and_then(|text| text.parse().ok())
                    .expect("it listens");
            }
        };
        // Read on, or the gateway would wait for room.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        let mut client = TcpStream::connect(address).expect("it listens");
        ask(&mut client, &self.key, "");
        let (mut upstream, _) = self.upstream.accept().expect("it forwards");
        for connection in [&client, &upstream] {
            connection.set_read_timeout(PATIENCE).expect("it is not zero");
        }
        read_until(&mut upstream, "]}");
        let answer = head("application/json") + "content-length: 2\r\n\r\n{}";
        upstream.write_all(answer.as_bytes()).expect("it reads");
        read_until(&mut client, "{}");
        Running { process, client, upstream }
    }

    fn weir<'a>(&self, args: impl Iterator<Item = &'a str>) -> Vec<u8> {
        let mut command = Command::new(WEIR);
        let output = command
            .args(["--config", CONFIG])
            .args(args)
            .current_dir(self.dir.path())
            .env("BENCH_KEY", "sk-bench");
        let output = output.output().expect("the program starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

impl Running {
    /// A request goes all the way.
    fn ask(&mut self, key: &str, more: &str) {
        ask(&mut self.client, key, more);
        read_until(&mut self.upstream, "]}");
    }

    /// What goes back, up to its `end`.
    fn answer(&mut self, bytes: &str, end: &str) {
        self.upstream.write_all(bytes.as_bytes()).expect("it reads");
        read_until(&mut self.client, end);
    }
}

fn ask(client: &mut TcpStream, key: &str, more: &str) {
    let body = format!(
        r#"{{"model":"gpt-5.4"{more},"temperature":0.7,"messages":[{{"role":"system","content":"You are a careful assistant who answers in one short paragraph."}},{{"role":"user","content":"What is a weir, how does it differ from a dam, and why is water measured at one?"}}]}}"#
    );
    let length = body.len();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\nuser-agent: OpenAI/Python 2.1.0\r\naccept: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    client.write_all(request.as_bytes()).expect("it reads");
}

/// Reads up to what ends with `end`.
fn read_until(from: &mut TcpStream, end: &str) {
    let mut all = Vec::new();
    let mut piece = [0; 16 * 1024];
    while !all.ends_with(end.as_bytes()) {
        let read = from.read(&mut piece).expect("a whole message");
        assert!(read > 0, "ended before `{end}`: {}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&piece[..read]);
    }
}

fn head(content_type: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\nx-request-id: req_1\r\n\
         openai-processing-ms: 340\r\ndate: Mon, 01 Jun 2026 00:00:00 GMT\r\n"
    )
}

fn usage() -> &'static str {
    r#"{"prompt_tokens":57,"completion_tokens":20,"total_tokens":77,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}"#
}

fn event(word: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1780470861,\
         \"model\":\"gpt-5.4\",\"service_tier\":\"default\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\
         \" {word}\"}},\"logprobs\":null,\"finish_reason\":null}}],\"usage\":null}}\n\n"
    )
}

fn chunk(event: &str) -> String {
    format!("{:x}\r\n{event}\r\n", event.len())
}
