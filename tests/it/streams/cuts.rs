//! Every recorded stream of `tests/fixtures/streams/` through a running gateway, cut in two at every
//! byte: the client's bytes and the ledger's row must be the same for each. The upstream sends each
//! piece as a chunk of its own, which the gateway's HTTP library hands on as such, so that the cut is
//! where it should be however TCP groups the bytes.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinSet, LocalSet};

use super::{ASK, ASK_USAGE};
use crate::harness::{Client, MODEL, World, request};

/// So that no fixture goes missing unnoticed.
const FIXTURES: usize = 274;
/// Between two cuts where nothing is edited, beside those that are interesting; a prime, so that it falls
/// out of step with whatever repeats in a stream.
const STRIDE: usize = 29;
/// What is as short as this is cut wherever it may be; of longer ones' cuts one in so many is made, or in as
/// many as `WEIR_TORTURE_CUTS` says.
const SHORT: usize = 128;
const SAMPLE: usize = 7;
/// What a fixture says of usage that is no number of tokens.
const NOT_TOKENS: [&str; 2] = ["audio_ms", "reported_cost_nano_usd"];
/// Fixtures of endpoints that are not asked here, and that have rules of their own; src/meter/tests.rs
/// has them.
const ELSEWHERE: [&str; 5] =
    ["ark/pictures", "audio/verbose", "embeddings/", "moderations/", "voyage/"];
/// Clients that ask at the same time.
const CLIENTS: usize = 4;

struct Fixture {
    name: String,
    is_stream: bool,
    /// What the upstream sends, and what a client gets of it that has not asked for usage.
    stream: Bytes,
    hidden: Bytes,
    /// What the ledger must know of it.
    expected: Value,
}

fn fixtures() -> Vec<Fixture> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/streams");
    let files = |dir: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).expect("the fixtures are in the repository");
        entries.map(|entry| entry.expect("a readable entry").path()).collect()
    };
    let read = |path: &Path| Bytes::from(std::fs::read(path).expect("a readable fixture"));
    let mut found = Vec::new();
    for path in files(&root).iter().flat_map(|dialect| files(dialect)) {
        let name = path.strip_prefix(&root).expect("below the root").display().to_string();
        // Beside the streams stand those that a client gets when something is hidden.
        let is_stream = name.ends_with(".sse") && name.matches('.').count() == 1;
        if !is_stream && !name.ends_with(".body") {
            continue;
        }
        let stream = read(&path);
        let hidden = path.with_extension("hidden.sse");
        let hidden = if hidden.exists() { read(&hidden) } else { stream.clone() };
        let expected = serde_json::from_slice(&read(&path.with_extension("json")));
        found.push(Fixture { name, is_stream, stream, hidden, expected: expected.expect("JSON") });
    }
    found
}

impl Fixture {
    fn is_elsewhere(&self) -> bool {
        ELSEWHERE.iter().any(|name| self.name.starts_with(name))
    }

    /// The cuts that are made: which of them, its length decides.
    fn drawn(&self, hides: bool) -> BTreeSet<usize> {
        let asked = std::env::var("WEIR_TORTURE_CUTS").ok();
        let sample =
            asked.map_or(SAMPLE, |text| text.parse().expect("WEIR_TORTURE_CUTS is a number"));
        let len = self.stream.len();
        let mut cuts = self.cuts(hides);
        cuts.retain(|cut| *cut == 0 || len <= SHORT || cut % sample == len % sample);
        cuts
    }

    /// Where it may be cut: 0 is not at all. Where something is hidden that is everywhere.
    fn cuts(&self, hides: bool) -> BTreeSet<usize> {
        let len = self.stream.len();
        if hides && self.hidden != self.stream {
            return (0..len.max(1)).collect();
        }
        let mut cuts: BTreeSet<usize> = (0..len).step_by(STRIDE).collect();
        for (at, byte) in self.stream.iter().enumerate() {
            match byte {
                // Before and after line ends, which are two bytes in some streams.
                b'\n' | b'\r' => cuts.extend([at, at + 1]),
                // Within a character.
                0x80.. if at % 3 == 0 => drop(cuts.insert(at)),
                _ => {}
            }
        }
        // Within the first field name, within `usage`, and within the end mark.
        cuts.extend(1..6);
        for word in [&b"\"usage\":null"[..], b"[DONE]"] {
            let found = self.stream.windows(word.len()).position(|bytes| bytes == word);
            cuts.extend(found.into_iter().flat_map(|at| at..at + word.len()));
        }
        cuts.retain(|cut| *cut < len.max(1));
        cuts
    }

    fn says(&self, name: &str) -> bool {
        self.expected[name] == true
    }

    /// It is an object that is open at its end.
    fn breaks_off(&self) -> bool {
        let read = serde_json::from_slice::<Value>(&self.stream);
        !self.is_stream && self.stream.starts_with(b"{") && read.is_err_and(|error| error.is_eof())
    }

    /// How the ledger has it ended.
    fn end(&self) -> &'static str {
        let is_over =
            ["done", "finish_reason", "error", "usage_last"].iter().any(|name| self.says(name));
        match () {
            () if self.is_stream && !is_over => "upstream_truncated",
            () if self.breaks_off() && !self.says("error") => "upstream_truncated",
            () if self.says("error") => "upstream_error",
            () => "complete",
        }
    }

    /// The bytes that a client must get; where the stream has no end of its own, an error event may follow,
    /// and the connection is cut.
    fn check_client(&self, hides: bool, got: &[u8], is_whole: bool, how: &str) {
        let expected = if hides { &self.hidden } else { &self.stream };
        let (name, text) = (&self.name, got.escape_ascii());
        let rest = got.strip_prefix(&expected[..]);
        let rest = rest.unwrap_or_else(|| panic!("{name} {how}: {text}"));
        let is_truncated = self.end() == "upstream_truncated";
        assert_eq!(is_whole, !is_truncated, "{name} {how}: {text}");
        let is_error = rest.starts_with(b"data: {\"error\":{") && rest.ends_with(b"}}\n\n");
        assert!(rest.is_empty() || (is_truncated && is_error), "{name} {how}: {text}");
    }

    /// Whether usage stands there once, with text behind it.
    fn states_early(&self) -> bool {
        let stream = String::from_utf8_lossy(&self.stream);
        let usage = "\"usage\":{";
        stream.matches(usage).count() == 1 && stream.find(usage) < stream.rfind("\"content\":\"")
    }

    /// It states no output, and there was some: zeros of who does not know.
    fn says_too_little(&self) -> bool {
        let usage = &self.expected["usage"];
        let is_silent =
            usage.is_object() && usage["output"].is_null() && usage["audio_ms"].is_null();
        is_silent
            && self.says("final")
            && !self.says("undivided")
            && self.expected["text_bytes"].as_u64() > Some(0)
    }

    /// What the row must say, in the row's own words.
    fn check_row(&self, row: &Value) {
        let (name, usage) = (&self.name, &self.expected["usage"]);
        let end = self.end();
        let source = match () {
            () if usage.is_null() || self.says("start") || self.says_too_little() => "estimated",
            // Zeros in the middle of an answer are no statement.
            () if end == "upstream_truncated" && usage["output"].is_null() => "estimated",
            () if self.says("final") || end == "complete" => "reported",
            // Stated once, and then the answer went on.
            () if self.is_stream && end == "upstream_truncated" && self.states_early() => {
                "estimated"
            }
            () => "running",
        };
        assert_eq!((&row["end"], &row["usage_source"]), (&json!(end), &json!(source)), "{name}");
        assert_eq!(row["model_served"], self.expected["model"], "{name}");
        let is_over = self.says("finish_reason") || self.says("usage_last");
        let no_done = self.is_stream && is_over && !self.says("done");
        let served = self.expected["model"].as_str().unwrap_or_default();
        let served = served.rsplit('/').next().unwrap_or_default();
        let flags = [
            (no_done, "no_done"),
            (self.says("suspect") || self.says_too_little(), "usage_suspect"),
            (self.says("differs"), "total_differs"),
            (self.says("unread"), "unread"),
            (self.says("no_answer") && end == "complete", "no_answer"),
            (!matches!(served, "" | MODEL | "gpt-5.4-2026-03-05"), "model_differs"),
        ];
        let flags: Vec<_> = flags.iter().filter(|(is_set, _)| *is_set).map(|it| it.1).collect();
        assert_eq!(row["flags"], json!(flags), "{name}");
        let has_raw = !usage.is_null() && !self.says("loose");
        assert_eq!(row["raw_usage"].is_null(), !has_raw, "{name}");
        let counts = usage.as_object().into_iter().flatten();
        let bytes = |name: &str| self.expected[name].as_u64().unwrap_or(0);
        let said = bytes("text_bytes").max(bytes("unread_bytes")).div_ceil(4);
        if usage.is_null() {
            let images = bytes("images") * 1560;
            assert_eq!(row["output_tokens"], said + images, "{name}");
        }
        for (count, expected) in counts.filter(|(name, _)| !NOT_TOKENS.contains(&&***name)) {
            let expected = match &**count {
                // What was stated before the answer began leaves out the answer.
                "output" if self.says("start") || self.says_too_little() => json!(said),
                // Of a total alone, what was seen is the answer.
                "input" if self.says("undivided") => {
                    json!(usage["total"].as_u64().map(|it| it - said))
                }
                "total" if self.says("start") || self.says_too_little() => {
                    json!(usage["input"].as_u64().map(|it| it + said))
                }
                _ => expected.clone(),
            };
            assert_eq!(row[&format!("{count}_tokens")], expected, "{name}: {count}");
        }
    }
}

/// The upstream's answer: these pieces, each in a chunk of its own.
struct Pieces(VecDeque<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

/// Answers as `x-sim-fixture` and `x-sim-cut` ask.
async fn answer(
    fixtures: Rc<Vec<Fixture>>,
    request: Request<Incoming>,
) -> Result<Response<Pieces>, Infallible> {
    let number = |name: &str| -> usize {
        let value = request.headers()[name].to_str().expect("ASCII");
        value.parse().expect("a number")
    };
    let (fixture, cut) = (&fixtures[number("x-sim-fixture")], number("x-sim-cut"));
    let pieces = [fixture.stream.slice(..cut), fixture.stream.slice(cut..)];
    let kind = if fixture.is_stream { "text/event-stream" } else { "application/json" };
    // Read to its end, so that the connection is used again.
    let _ = request.into_body().collect().await;
    let body = Pieces(pieces.into_iter().filter(|piece| !piece.is_empty()).collect());
    Ok(Response::builder().header("content-type", kind).body(body).expect("a head"))
}

/// Serves until the set it runs in is dropped.
async fn upstream(fixtures: Rc<Vec<Fixture>>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
    let address = listener.local_addr().expect("it listens");
    tokio::task::spawn_local(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let fixtures = fixtures.clone();
            let service = service_fn(move |request| answer(fixtures.clone(), request));
            let http = hyper::server::conn::http1::Builder::new();
            connections.spawn_local(http.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

/// One request to be made.
#[derive(Clone, Copy)]
struct Case {
    /// Of the fixture.
    number: usize,
    hides: bool,
    cut: usize,
}

/// Makes the requests of one client, and returns which case each row of the ledger belongs to.
async fn run(
    world: Rc<World>,
    fixtures: Rc<Vec<Fixture>>,
    cases: Vec<Case>,
) -> Vec<(String, usize)> {
    let mut ids = Vec::with_capacity(cases.len());
    let mut client: Option<Client> = None;
    for Case { number, hides, cut } in cases {
        let mut connection = match client.take() {
            Some(client) => client,
            None => world.connect().await,
        };
        let headers = format!("x-sim-fixture: {number}\r\nx-sim-cut: {cut}\r\n");
        let body = if hides { ASK } else { ASK_USAGE };
        let raw = request("POST", "/v1/chat/completions", &world.key, &headers, body);
        connection.send(raw.as_bytes()).await;
        let answer = connection.answer().await;
        let how = format!("cut at {cut}, hiding {hides}");
        fixtures[number].check_client(hides, &answer.body, answer.is_whole, &how);
        ids.push((answer.event_id().to_owned(), number));
        client = Some(connection).filter(|_| answer.is_whole);
    }
    ids
}

#[tokio::test]
async fn every_fixture_is_the_same_however_it_is_cut() {
    let fixtures = Rc::new(fixtures());
    assert_eq!(fixtures.len(), FIXTURES);
    let mut cases = Vec::new();
    let asked = fixtures.iter().enumerate().filter(|(_, fixture)| !fixture.is_elsewhere());
    for (number, fixture) in asked {
        for hides in [false, true] {
            cases.extend(fixture.drawn(hides).into_iter().map(|cut| Case { number, hides, cut }));
        }
    }
    let local = LocalSet::new();
    let (world, ids) = local
        .run_until(async {
            let address = upstream(fixtures.clone()).await;
            let base_url = format!("\"http://{address}\"");
            // What is told here is what was read; also of a stream that has no end.
            let builder = World::builder().set("upstream.unstated", "\"seen\"");
            let world = builder.set("upstream.base_url", base_url).start().await;
            let (world, mut clients) = (Rc::new(world), JoinSet::new());
            for first in 0..CLIENTS {
                let cases = cases.iter().skip(first).step_by(CLIENTS).copied().collect();
                clients.spawn_local(run(world.clone(), fixtures.clone(), cases));
            }
            let ids: HashMap<_, _> = clients.join_all().await.into_iter().flatten().collect();
            (Rc::into_inner(world).expect("the clients are done"), ids)
        })
        .await;
    assert_eq!(ids.len(), cases.len(), "every answer has an id of its own");
    world.settled().await;
    let mut world = world;
    world.stop().await;
    let rows = world.place.weir(&["requests", "--format", "json", "--limit", "100000"]);
    let rows: Vec<Value> = serde_json::from_str(&rows).expect("rows are JSON");
    assert_eq!(rows.len(), cases.len());
    for row in &rows {
        let id = row["event_id"].as_str().expect("every row has one");
        fixtures[ids[id]].check_row(row);
    }
}
