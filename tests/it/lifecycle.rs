//! How the program ends and begins again: signals, `kill -9` under load, a torn journal; and that ten
//! thousand requests of every kind leave nothing outstanding and nothing uncounted.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};
use weir::simulator::{self, Served, Simulator};

use crate::process::Gateway;
use crate::world::{
    Builder, Client, IMAGE_MODEL, MODEL, Place, Row, World, eventually, patiently, request,
};

const CHAT: &str = "/v1/chat/completions";
const STALLS: &str = "x-sim-fault: stall:3\r\n";

async fn simulated() -> (Simulator, Builder) {
    let options = simulator::Options { record: true, ..simulator::Options::default() };
    let simulator = simulator::start(options).await.expect("it starts");
    let base_url = format!("\"{}\"", simulator.base_url());
    let builder = World::builder()
        .set("upstream.base_url", base_url)
        .set("server.workers", 2)
        .set("log.filter", "\"info\"")
        .set("log.format", "\"json\"");
    (simulator, builder)
}

fn body(model: &str, is_stream: bool) -> String {
    format!(
        r#"{{"model":"{model}","stream":{is_stream},"messages":[{{"role":"user","content":"Go on."}}]}}"#
    )
}

fn chat(key: &str, headers: &str) -> String {
    request("POST", CHAT, key, headers, &body(MODEL, false))
}

fn stream(key: &str, headers: &str) -> String {
    request("POST", CHAT, key, headers, &body(MODEL, true))
}

/// Begins a stream, and returns once something of it has come.
async fn begin(address: SocketAddr, bytes: &str) -> (Client, String) {
    let mut client = Client::connect(address).await;
    client.send(bytes.as_bytes()).await;
    let head = client.head().await;
    assert_eq!(head.status(), 200, "{}", head.raw);
    let id = head.header("x-request-id").expect("every answer has an id").to_owned();
    client.body_until("data: ").await;
    (client, id)
}

/// What a client got that does not mind if the server dies.
struct Heard {
    status: u16,
    id: String,
    text: String,
    /// The end that clients go by was there.
    is_whole: bool,
}

/// One exchange on a connection of its own; `None` where not even a head came back.
async fn exchange(address: SocketAddr, bytes: &str) -> Option<Heard> {
    let mut connection = TcpStream::connect(address).await.ok()?;
    connection.write_all(bytes.as_bytes()).await.ok()?;
    let mut raw = Vec::new();
    // A reset is an end as good as any: what came before it counts.
    let _ = patiently("an answer", connection.read_to_end(&mut raw)).await;
    let raw = String::from_utf8(raw).expect("these answers are text");
    let (head, rest) = raw.split_once("\r\n\r\n")?;
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(one, _)| one.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    let is_whole = match header("content-length") {
        Some(length) => length.parse() == Ok(rest.len()),
        None => rest.contains("data: [DONE]") && rest.ends_with("0\r\n\r\n"),
    };
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let id = header("x-request-id")?.to_owned();
    Some(Heard { status, id, text: rest.to_owned(), is_whole })
}

/// Short requests, one after the other on several connections, until the server is gone.
struct Load {
    tasks: JoinSet<()>,
    /// The ids of all answers that were seen whole.
    whole: Rc<RefCell<Vec<String>>>,
}

impl Load {
    /// To be called within a [`LocalSet`].
    fn start(address: SocketAddr, key: &str) -> Self {
        let whole = Rc::new(RefCell::new(Vec::new()));
        let mut tasks = JoinSet::new();
        let lines = "connection: close\r\nx-sim-tokens: 5\r\n";
        for bytes in [chat(key, lines), stream(key, lines), chat(key, lines), stream(key, lines)] {
            let whole = whole.clone();
            tasks.spawn_local(async move {
                while let Some(heard) = exchange(address, &bytes).await {
                    if heard.is_whole && heard.status == 200 {
                        whole.borrow_mut().push(heard.id);
                    }
                }
            });
        }
        Self { tasks, whole }
    }

    async fn until(&self, count: usize) {
        let enough = || (self.whole.borrow().len() >= count).then_some(());
        eventually("answers under load", enough).await;
    }

    /// Once the server is gone: what was seen whole.
    async fn ended(mut self) -> Vec<String> {
        while let Some(ended) = patiently("the load ends", self.tasks.join_next()).await {
            ended.expect("a client does not panic");
        }
        self.whole.take()
    }
}

fn by_id(rows: &[Row]) -> HashMap<&str, &Row> {
    let rows_by_id: HashMap<_, _> = rows.iter().map(|row| (&*row.event_id, row)).collect();
    assert_eq!(rows_by_id.len(), rows.len(), "no event id twice");
    rows_by_id
}

fn assert_complete(rows: &HashMap<&str, &Row>, ids: &[String]) {
    for id in ids {
        let row = rows.get(&**id).unwrap_or_else(|| panic!("{id} was seen whole and has no row"));
        assert_eq!((&*row.end, &*row.usage_source), ("complete", "reported"), "{row:?}");
    }
}

#[tokio::test]
async fn a_signal_lets_what_runs_end() {
    let run = async {
        let (simulator, builder) = simulated().await;
        let (place, _) = builder.place();
        let key = place.create_key(&[]);
        let gateway = Gateway::start(&place);
        let pace = "x-sim-interval-ms: 20\r\nx-sim-tokens: 60\r\n";
        let mut streams = Vec::new();
        for _ in 0..8 {
            streams.push(begin(gateway.address, &stream(&key, pace)).await);
        }
        let load = Load::start(gateway.address, &key);
        load.until(40).await;
        gateway.signal("TERM");
        let mut ids = load.ended().await;
        for (mut client, id) in streams {
            let (rest, is_whole) = client.rest().await;
            let text = String::from_utf8(rest).expect("a stream is text");
            assert!(is_whole && text.contains("data: [DONE]"), "{text}");
            ids.push(id);
        }
        let (status, log) = gateway.ended().await;
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(!log.contains("ERROR"), "{log}");
        let rows = place.rows();
        let rows_by_id = by_id(&rows);
        assert_complete(&rows_by_id, &ids);
        assert_eq!(rows.len() as u64, simulator.counts().requests);
        simulator.shutdown().await;
    };
    LocalSet::new().run_until(run).await;
}

async fn is_ready(admin: SocketAddr) -> bool {
    let lines = "GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut connection = TcpStream::connect(admin).await.expect("it listens until the end");
    connection.write_all(lines.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    patiently("readiness", connection.read_to_string(&mut answer)).await.expect("it answers");
    answer.starts_with("HTTP/1.1 200")
}

/// What still runs at the deadline (or at a second signal) is told so, cut, and accounted for.
#[tokio::test]
async fn the_deadline_and_a_second_signal_end_the_rest() {
    for (shutdown_ms, hurries) in [(100, false), (3_600_000, true)] {
        let (simulator, builder) = simulated().await;
        let (place, _) = builder.set("deadlines.shutdown_ms", shutdown_ms).place();
        let key = place.create_key(&[]);
        let gateway = Gateway::start(&place);
        let (mut stalled, stalled_id) = begin(gateway.address, &stream(&key, STALLS)).await;
        let mut waiting = Client::connect(gateway.address).await;
        waiting.send(chat(&key, "x-sim-head-ms: 3600000\r\n").as_bytes()).await;
        eventually("both are upstream", || (simulator.counts().requests == 2).then_some(())).await;
        let mut idle = Client::connect(gateway.address).await;
        idle.send(request("GET", "/v1/models", &key, "", "").as_bytes()).await;
        assert_eq!(idle.answer().await.status, 200);
        gateway.signal("TERM");
        idle.closed().await;
        if hurries {
            let unready = async { while is_ready(gateway.admin).await {} };
            patiently("it stops being ready", unready).await;
            gateway.signal("INT");
        }
        let (rest, is_whole) = stalled.rest().await;
        let text = String::from_utf8(rest).expect("a stream is text");
        assert!(text.ends_with("\"code\":\"server_shutdown\"}}\n\n"), "{text}");
        assert!(!is_whole && !text.contains("[DONE]"), "no client takes it for complete");
        let refused = waiting.answer().await;
        assert_eq!((refused.status, &*refused.code()), (503, "shutting_down"));
        assert_eq!(refused.header("x-should-retry"), Some("false"), "it was sent");
        let (status, log) = gateway.ended().await;
        assert_eq!(status.code(), Some(0), "{log}");
        let rows = place.rows();
        assert_eq!(rows.len(), 2);
        let rows = by_id(&rows);
        for (id, status) in [(&*stalled_id, 200), (refused.event_id(), 503)] {
            let row = rows[id];
            assert_eq!((&*row.end, &*row.usage_source), ("shutdown", "estimated"), "{row:?}");
            assert_eq!(row.status, status, "what the client saw");
            assert!(row.total_tokens > 0);
        }
        simulator.shutdown().await;
    }
}

#[tokio::test]
async fn a_data_directory_has_one_server() {
    let (simulator, builder) = simulated().await;
    let (place, _) = builder.place();
    let key = place.create_key(&[]);
    let gateway = Gateway::start(&place);
    let second = place.command(&["serve"]).output().expect("the program runs");
    let error = String::from_utf8(second.stderr).expect("text");
    assert_eq!(second.status.code(), Some(1), "{error}");
    assert!(error.contains(&*place.data_dir().to_string_lossy()), "{error}");
    assert!(error.contains("in use"), "{error}");
    let heard = exchange(gateway.address, &chat(&key, "connection: close\r\n")).await;
    assert!(heard.is_some_and(|heard| heard.is_whole), "the first one goes on");
    gateway.signal("TERM");
    assert!(gateway.ended().await.0.success());
    assert_eq!(place.rows().len(), 1);
    simulator.shutdown().await;
}

/// The journal's segments, oldest first.
fn segments(place: &Place) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(place.data_dir().join("journal")).expect("a journal");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

/// What a crash can leave at a segment's end: half a record, noise, blocks that were never written.
fn tear(place: &Place, round: usize) {
    for path in segments(place) {
        let mut bytes = std::fs::read(&path).expect("a file");
        let tail = match round {
            0 => return,
            1 => bytes.get(16..36).unwrap_or_default().to_vec(),
            2 => b"\x07 not a record \xff\xff".to_vec(),
            _ => vec![0; 4096],
        };
        bytes.extend(tail);
        std::fs::write(&path, bytes).expect("a file");
    }
}

fn sum(rows: &[Row]) -> u64 {
    rows.iter().map(|row| row.total_tokens).sum()
}

/// `weir usage` without groups: requests and tokens.
fn usage(place: &Place) -> (u64, u64) {
    let text = place.weir(&["usage", "--since", "2000-01-01", "--format", "json"]);
    let lines: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    let total = |name: &str| lines.iter().map(|line| line[name].as_u64().expect("a number")).sum();
    (total("requests"), total("total_tokens"))
}

/// Whatever a client saw whole is in the ledger, nothing is there twice, nothing that went upstream is
/// missing; the command line finds all of it before a server runs again.
#[tokio::test]
async fn nothing_is_lost_when_the_process_is_killed() {
    let run = async {
        let (simulator, builder) = simulated().await;
        let (place, _) = builder.set("data.segment_bytes", 65536).place();
        let key = place.create_key(&[]);
        let (mut whole, mut open) = (Vec::new(), Vec::new());
        for round in 0..4 {
            let gateway = Gateway::start(&place);
            assert!(is_ready(gateway.admin).await);
            let mut streams = Vec::new();
            for _ in 0..5 {
                let (client, id) = begin(gateway.address, &stream(&key, STALLS)).await;
                streams.push(client);
                open.push(id);
            }
            let load = Load::start(gateway.address, &key);
            load.until(60 + 40 * round).await;
            gateway.kill();
            whole.extend(load.ended().await);
            for mut client in streams {
                assert!(!client.rest().await.1, "no client takes it for complete");
            }
            tear(&place, round);
            let rows = place.rows();
            let rows_by_id = by_id(&rows);
            assert_complete(&rows_by_id, &whole);
            for id in &open {
                let row = rows_by_id.get(&**id).unwrap_or_else(|| panic!("{id} has no row"));
                assert_eq!((&*row.end, &*row.usage_source), ("crashed", "estimated"), "{row:?}");
                assert_eq!(row.total_tokens, row.reserved_tokens);
            }
            assert!(simulator.counts().requests <= rows.len() as u64, "what went out is there");
            assert_eq!(
                usage(&place),
                (rows.len() as u64, sum(&rows)),
                "counted as often as listed"
            );
        }
        let gateway = Gateway::start(&place);
        let before = place.rows().len();
        let heard = exchange(gateway.address, &chat(&key, "connection: close\r\n")).await;
        assert!(heard.is_some_and(|heard| heard.is_whole && heard.status == 200));
        eventually("one row more", || (place.rows().len() == before + 1).then_some(())).await;
        gateway.signal("TERM");
        assert!(gateway.ended().await.0.success());
        assert_eq!(place.rows().len(), before + 1, "replaying again changes nothing");
        simulator.shutdown().await;
    };
    LocalSet::new().run_until(run).await;
}

/// The next number of a sequence that looks random (SplitMix64), always the same one.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// What the clients of one run know.
#[derive(Default)]
struct Seen {
    /// Answers of requests that were sent upstream.
    sent: RefCell<HashSet<String>>,
    /// Clients that went away before the end.
    left: Cell<usize>,
    refused: Cell<usize>,
}

/// One request of any kind. Those whose client leaves never end by themselves, so that who ended it is
/// not left to chance.
async fn any_request(address: SocketAddr, key: &str, dice: &mut Dice, seen: &Seen) {
    const BRIEF: &str = "connection: close\r\nx-sim-tokens: 6\r\n";
    let with = |more: &str| format!("{BRIEF}{more}\r\n");
    let (bytes, statuses): (String, &[u16]) = match dice.below(100) {
        0..35 => (chat(key, BRIEF), &[200]),
        35..60 => (stream(key, BRIEF), &[200]),
        60..63 => (stream(key, &with("x-sim-usage: none")), &[200]),
        63..66 => {
            let image = body(IMAGE_MODEL, dice.below(2) == 0);
            (request("POST", CHAT, key, BRIEF, &image), &[200])
        }
        66..71 => {
            let error = dice.of(&["400", "429", "500", "503", "401", "invalid_image"]);
            let ask = if dice.below(2) == 0 { chat } else { stream };
            (ask(key, &with(&format!("x-sim-error: {error}"))), &[400, 429, 500, 502, 503])
        }
        71..77 => {
            let fault = dice.of(&["cut:2", "reset:3", "error:2", "no-done", "close", "cut:0"]);
            (stream(key, &with(&format!("x-sim-fault: {fault}"))), &[200, 502])
        }
        77..80 => {
            (chat(key, &with(&format!("x-sim-fault: {}", dice.of(&["cut", "close"])))), &[200, 502])
        }
        80..90 => return leave(address, key, dice, seen).await,
        90..93 => (chat("sk-weir-nobody", BRIEF), &[401]),
        93..95 => (request("POST", "/v1/unknown", key, BRIEF, "{}"), &[404]),
        95..97 => (request("POST", CHAT, key, BRIEF, &body("unknown", true)), &[404]),
        97..98 => (request("POST", CHAT, key, BRIEF, "{\"model\":"), &[400]),
        _ => (request("GET", "/v1/models", key, BRIEF, ""), &[]),
    };
    let heard = exchange(address, &bytes).await.expect("the server lives");
    assert!(statuses.is_empty() || statuses.contains(&heard.status), "{}", heard.text);
    let is_refused = statuses.is_empty() || [401, 404].contains(&heard.status);
    if is_refused || bytes.ends_with("{\"model\":") {
        seen.refused.set(seen.refused.get() + 1);
    } else {
        assert!(seen.sent.borrow_mut().insert(heard.id), "an id twice");
    }
}

/// A client that goes away: before the head, or after some pieces; with or without a reset.
async fn leave(address: SocketAddr, key: &str, dice: &mut Dice, seen: &Seen) {
    let mut client = Client::connect(address).await;
    let is_before_head = dice.below(3) == 0;
    if is_before_head {
        client.send(chat(key, "x-sim-head-ms: 3600000\r\n").as_bytes()).await;
    } else {
        client.send(stream(key, "x-sim-fault: stall:5\r\n").as_bytes()).await;
        let head = client.head().await;
        seen.sent.borrow_mut().insert(head.header("x-request-id").expect("an id").to_owned());
        if dice.below(2) == 0 {
            client.body_until("data: ").await;
        }
    }
    seen.left.set(seen.left.get() + 1);
    if dice.below(2) == 0 {
        client.reset();
    }
}

/// What the simulator says of each request that it answered, by the id of its answer.
fn by_request_id(served: &[Served]) -> HashMap<&str, &Served> {
    served.iter().map(|one| (&*one.request_id, one)).collect()
}

/// The ledger against the simulator's own books.
fn assert_same_numbers(rows: &[Row], simulator: &Simulator) {
    let (counts, served) = (simulator.counts(), simulator.served());
    let served = by_request_id(&served);
    let unstated = |one: &&&Served| one.headers.get("x-sim-usage").is_some();
    let completed = || served.values().filter(|one| one.completed);
    let (mut input, mut output, mut reported) = (0, 0, 0);
    for row in rows.iter().filter(|row| row.usage_source == "reported") {
        let id = row.upstream_request_id.as_deref().expect("whoever reports has answered");
        let one = served.get(id).unwrap_or_else(|| panic!("nobody served {row:?}"));
        assert!(one.completed, "{row:?}");
        assert_eq!(
            (row.input_tokens, row.output_tokens),
            (one.prompt_tokens, one.completion_tokens)
        );
        input += row.input_tokens;
        output += row.output_tokens;
        reported += 1;
    }
    assert_eq!(reported, completed().filter(|one| !unstated(one)).count());
    let silent = || completed().filter(unstated);
    assert_eq!(input, counts.prompt_tokens - silent().map(|one| one.prompt_tokens).sum::<u64>());
    let silent_output: u64 = silent().map(|one| one.completion_tokens).sum();
    assert_eq!(output, counts.completion_tokens - silent_output);
}

#[tokio::test]
async fn ten_thousand_requests_of_every_kind_add_up() {
    const CLIENTS: u64 = 40;
    let run = async {
        let (simulator, builder) = simulated().await;
        let mut world = builder.start().await;
        let address = world.address();
        let seen = Rc::new(Seen::default());
        // From here on a 400 is no sign of an upstream that does not know the usage option.
        let first = exchange(address, &stream(&world.key, "connection: close\r\n")).await;
        seen.sent.borrow_mut().insert(first.expect("the server lives").id);
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let (key, seen) = (world.key.clone(), seen.clone());
            clients.spawn_local(async move {
                let mut dice = Dice(number);
                for _ in 0..10_000 / CLIENTS {
                    any_request(address, &key, &mut dice, &seen).await;
                }
            });
        }
        while let Some(ended) = clients.join_next().await {
            ended.expect("a client does not panic");
        }
        world.settled().await;
        assert_eq!(world.server().outstanding(), (0, 0));
        let used = world.server().used_today();
        world.stop().await;
        let rows = world.place.rows();
        assert_eq!(used, (rows.len() as u64, sum(&rows)), "the limits' count is the ledger's");
        assert_eq!(usage(&world.place), used);
        let rows_by_id = by_id(&rows);
        let sent = seen.sent.borrow();
        for id in sent.iter() {
            assert!(rows_by_id.contains_key(&**id), "{id} was answered and has no row");
        }
        let unheard: Vec<_> = rows.iter().filter(|row| !sent.contains(&row.event_id)).collect();
        let all_left = unheard.iter().all(|row| row.end == "client_closed" && row.status == 0);
        assert!(all_left, "{unheard:#?}");
        assert!(rows.iter().filter(|row| row.end == "client_closed").count() <= seen.left.get());
        // A client may leave before its request is on the wire: the row is there all the same.
        let received = simulator.counts().requests as usize;
        assert!((rows.len() - unheard.len()..=rows.len()).contains(&received), "{received}");
        assert!(seen.refused.get() > 500 && seen.left.get() > 500, "the dice are fair");
        assert_same_numbers(&rows, &simulator);
        simulator.shutdown().await;
    };
    LocalSet::new().run_until(run).await;
}
