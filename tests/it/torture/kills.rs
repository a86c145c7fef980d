//! `kill -9` at random instants, under streams and short requests, and a start on the same data at once.
//!
//! Beside them a program with another SQLite opens, reads and closes the store all the time: what it finds
//! does not matter, only that it may not delete what the server still writes.
//!
//! Every request carries a number of its own in the most that it allows, so that its reservation is
//! its number as well: what the clients saw, what the simulator received and what the ledger has are
//! compared request by request, and not only by their sums.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::process::Stdio;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, LocalSet};
use tokio::time::MissedTickBehavior;
use weir::server::Environment;
use weir::simulator::{Served, Simulator};

use super::{report, times};
use crate::harness::{MODEL, Place, Row, eventually, patiently, request};
use crate::process::{Gateway, get};
use crate::store::ForeignReaders;
use crate::traffic::{CHAT, Dice, Heard, exchange, simulated, usage, usage_since};

const STREAMS: u64 = 200;
/// Short requests: so many at once, and how often. 300 a second, or as many as the machine can do: no more
/// are begun while so many run.
const SHORT_AT_ONCE: u64 = 3;
const SHORT_EVERY: Duration = Duration::from_millis(10);
const SHORT_MAX: usize = 50;
/// What request 0 allows, in tokens.
const LEAST: u64 = 1_000;
const ROUNDS: &str = "WEIR_TORTURE_KILLS";

/// The request of a number, and how it is answered.
fn ask(key: &str, number: u64, is_stream: bool, lines: &str) -> String {
    let most = LEAST + number;
    // Every other client of a stream asks for the usage; for the rest, Weir asks.
    let usage = r#""stream_options":{"include_usage":true},"#;
    let usage = if is_stream && number.is_multiple_of(2) { usage } else { "" };
    // So long that the text alone decides what is reserved for the prompt, however long the numbers are.
    let long = " ".repeat(300);
    let body = format!(
        r#"{{"model":"{MODEL}","stream":{is_stream},{usage}"max_completion_tokens":{most},"messages":[{{"role":"user","content":"Go on.{long}"}}]}}"#
    );
    request("POST", CHAT, key, &format!("connection: close\r\n{lines}"), &body)
}

/// What a client saw of one answer.
struct Seen {
    id: String,
    is_whole: bool,
    /// Input and output tokens, where it was told.
    usage: Option<(u64, u64)>,
}

impl Seen {
    fn of(heard: Heard) -> Self {
        assert_eq!(heard.status, 200, "{}", heard.text);
        let text = unchunked(&heard.text);
        let number = |name: &str| {
            let (_, rest) = text.rsplit_once(name)?;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        let usage = number("\"prompt_tokens\":").zip(number("\"completion_tokens\":"));
        Self { id: heard.id, is_whole: heard.is_whole, usage: usage.filter(|_| heard.is_whole) }
    }
}

/// A chunked body without its chunks; any other body as it is.
fn unchunked(body: &str) -> String {
    let mut text = String::new();
    let mut rest = body;
    while let Some((size, chunk)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).ok().filter(|size| *size > 0);
        let Some((data, after)) = size.and_then(|size| chunk.split_at_checked(size)) else { break };
        text.push_str(data);
        rest = after.strip_prefix("\r\n").unwrap_or_default();
    }
    if text.is_empty() { body.to_owned() } else { text }
}

/// All clients of one round.
struct Load {
    tasks: JoinSet<()>,
    state: Rc<State>,
}

/// What clients share.
#[derive(Default)]
struct State {
    next: Cell<u64>,
    /// No new requests.
    is_over: Cell<bool>,
    seen: RefCell<HashMap<u64, Seen>>,
}

impl State {
    fn number(&self) -> u64 {
        let number = self.next.get();
        self.next.set(number + 1);
        number
    }

    /// Sends the next request; false when the server is gone.
    async fn once(&self, address: SocketAddr, key: &str, is_stream: bool, lines: &str) -> bool {
        let number = self.number();
        let Some(heard) = exchange(address, &ask(key, number, is_stream, lines)).await else {
            return false;
        };
        let seen = Seen::of(heard);
        let is_whole = seen.is_whole;
        self.seen.borrow_mut().insert(number, seen);
        is_whole
    }
}

impl Load {
    /// Begins with request `first`. To be called within a [`LocalSet`].
    fn start(address: SocketAddr, key: &str, first: u64, seed: u64) -> Self {
        let state = Rc::new(State { next: Cell::new(first), ..State::default() });
        let mut tasks = JoinSet::new();
        for stream in 0..STREAMS {
            let (state, key) = (state.clone(), key.to_owned());
            let mut dice = Dice(seed ^ (stream << 32));
            tasks.spawn_local(async move {
                while !state.is_over.get() {
                    let tokens = 4 + dice.below(40);
                    let lines = format!("x-sim-tokens: {tokens}\r\nx-sim-interval-ms: 50\r\n");
                    if !state.once(address, &key, true, &lines).await {
                        return;
                    }
                }
            });
        }
        let (shared, key) = (state.clone(), key.to_owned());
        tasks.spawn_local(async move {
            let mut tick = tokio::time::interval(SHORT_EVERY);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut short = JoinSet::new();
            while !shared.is_over.get() {
                tick.tick().await;
                while short.len() > SHORT_MAX {
                    short.join_next().await.expect("some run").expect("a client does not panic");
                }
                for number in 0..SHORT_AT_ONCE {
                    let (state, key) = (shared.clone(), key.clone());
                    short.spawn_local(async move {
                        let lines = "x-sim-tokens: 5\r\n";
                        state.once(address, &key, number == 0, lines).await;
                    });
                }
            }
            while let Some(ended) = short.join_next().await {
                ended.expect("a client does not panic");
            }
        });
        Self { tasks, state }
    }

    /// Once nothing runs any more: the first number that was not used, and what was seen.
    async fn ended(mut self) -> (u64, HashMap<u64, Seen>) {
        self.state.is_over.set(true);
        while let Some(ended) = patiently("the load ends", self.tasks.join_next()).await {
            ended.expect("a client does not panic");
        }
        (self.state.next.get(), self.state.seen.take())
    }
}

/// What all rounds found.
#[derive(Default)]
struct Found {
    kills: u64,
    kills_while_starting: u64,
    looks: u64,
    requests: u64,
    received: u64,
    whole: u64,
    streams_cut: u64,
    rows: u64,
    crashed: u64,
    missing: u64,
    twice: u64,
    wrong: u64,
    ready: Vec<Duration>,
}

impl Found {
    fn miss(&mut self, what: &str) {
        self.missing += 1;
        eprintln!("missing: {what}");
    }

    fn wrong(&mut self, what: &str) {
        self.wrong += 1;
        eprintln!("wrong: {what}");
    }

    /// One round's clients, simulator and ledger against each other.
    fn compare(&mut self, base: u64, seen: &HashMap<u64, Seen>, served: &[Served], rows: &[Row]) {
        let mut by_number = HashMap::new();
        let mut ids = HashSet::new();
        for row in rows {
            let number = row.reserved_tokens - base;
            if by_number.insert(number, row).is_some() || !ids.insert(&row.event_id) {
                self.twice += 1;
                eprintln!("twice: request {number}, {row:?}");
            }
        }
        let received: HashMap<u64, &Served> =
            served.iter().filter_map(|one| Some((number_of(one)?, one))).collect();
        for number in received.keys().filter(|number| !by_number.contains_key(number)) {
            self.miss(&format!("request {number} was received upstream and has no row"));
        }
        for (number, row) in &by_number {
            let one = received.get(number);
            let right = match (&*row.end, &*row.usage_source) {
                ("complete", "reported") => one.is_some_and(|one| {
                    (one.prompt_tokens, one.completion_tokens)
                        == (row.input_tokens, row.output_tokens)
                }),
                ("crashed", "estimated") => row.total_tokens == row.reserved_tokens,
                _ => false,
            };
            if !right {
                self.wrong(&format!("request {number}: {row:?}, {one:?}"));
            }
            self.crashed += u64::from(row.end == "crashed");
        }
        for (number, Seen { id, is_whole, usage }) in seen {
            let Some(row) = by_number.get(number).filter(|row| row.event_id == *id) else {
                self.miss(&format!("request {number} was answered as {id} and has no row"));
                continue;
            };
            let told = usage.is_none_or(|usage| usage == (row.input_tokens, row.output_tokens));
            if *is_whole && (row.end != "complete" || !told) {
                self.wrong(&format!("request {number} was seen whole, {usage:?}: {row:?}"));
            }
            self.whole += u64::from(*is_whole);
            self.streams_cut += u64::from(!is_whole && row.streamed);
        }
        self.rows += rows.len() as u64;
        self.received += received.len() as u64;
    }

    fn table(&mut self, durability: &str, seed: u64) -> String {
        self.ready.sort();
        let ms = |at: usize| self.ready[at].as_millis();
        let late = self.ready.iter().filter(|time| time.as_millis() >= 1_000).count();
        let lines = [
            ("kills (seed)", format!("{} ({seed})", self.kills)),
            ("… during a start", self.kills_while_starting.to_string()),
            ("looks of another program at the store", self.looks.to_string()),
            ("requests begun", self.requests.to_string()),
            ("… received upstream", self.received.to_string()),
            ("… seen whole", self.whole.to_string()),
            ("streams cut by a kill", self.streams_cut.to_string()),
            ("rows", self.rows.to_string()),
            ("… crashed", self.crashed.to_string()),
            ("rows missing", self.missing.to_string()),
            ("rows there twice", self.twice.to_string()),
            ("rows with wrong counts", self.wrong.to_string()),
            ("ready again, median", format!("{} ms", ms(self.ready.len() / 2))),
            ("ready again, worst", format!("{} ms", ms(self.ready.len() - 1))),
            ("not ready within a second", late.to_string()),
        ];
        let line = |(name, value): &(&str, String)| format!("| {name} | {value} |\n");
        let lines: String = lines.iter().map(line).collect();
        format!(
            "\nkill -9 under {STREAMS} streams and 300 short requests a second, `{durability}` mode\n\n| | |\n|---|---|\n{lines}"
        )
    }
}

/// The number of a request that the simulator received whole.
fn number_of(served: &Served) -> Option<u64> {
    let body: serde_json::Value = serde_json::from_slice(&served.body).ok()?;
    Some(body["max_completion_tokens"].as_u64()? - LEAST)
}

/// Starts the server; how long until it serves.
async fn start(place: &Place) -> (Gateway, Duration) {
    let begun = Instant::now();
    let gateway = Gateway::start(place);
    assert_eq!(get(gateway.admin, "/readyz").await.0, 200);
    (gateway, begun.elapsed())
}

/// Starts it and kills it soon, most likely while it replays the journal.
async fn kill_while_starting(place: &Place, dice: &mut Dice) {
    let mut command = place.command(&["serve"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = child.expect("the program starts");
    tokio::time::sleep(Duration::from_millis(dice.below(30))).await;
    child.kill().expect("a process of ours");
    child.wait().expect("a process of ours");
}

/// What the simulator received in this round, once all of it has ended.
async fn received(simulator: &Simulator) -> Vec<Served> {
    let is_quiet = || (simulator.counts().connections_open == 0).then_some(());
    eventually("the simulator's connections end", is_quiet).await;
    simulator.take_served()
}

/// A server on what all the kills left: nothing is reserved, and the limits' count is the ledger's.
async fn check_at_the_end(place: &Place) {
    let server = place.start(Environment::default());
    assert_eq!(server.outstanding(), (0, 0), "no reservation is left");
    let today = || jiff::Zoned::now().with_time_zone(jiff::tz::TimeZone::UTC).date();
    loop {
        let day = today();
        let used = (server.used_today(), usage_since(place, &day.to_string()));
        // Unless midnight was between the two.
        if day == today() {
            assert_eq!(used.0, used.1);
            break;
        }
    }
    patiently("it stops", server.shutdown(std::future::ready(()))).await;
    place.weir(&["verify"]);
}

#[tokio::test]
async fn kills_at_random_instants_lose_nothing() {
    let rounds = times(ROUNDS, 3);
    LocalSet::new().run_until(kill("crash", rounds)).await;
}

#[tokio::test]
async fn kills_lose_nothing_where_answers_wait_for_the_disk() {
    let rounds = times(ROUNDS, 10).div_ceil(10);
    LocalSet::new().run_until(kill("power", rounds)).await;
}

async fn kill(durability: &str, rounds: u64) {
    let seed = times("WEIR_TORTURE_SEED", 1);
    let (simulator, builder) = simulated().await;
    let builder = builder.set("server.workers", 2).set("log.filter", "\"info\"");
    let builder = builder.set("log.format", "\"json\"").set("data.segment_bytes", 262_144);
    let builder = builder.set("data.durability", format!("\"{durability}\""));
    let (place, _) = builder.place();
    let key = place.create_key(&[]);
    let mut dice = Dice(seed);
    let mut found = Found::default();
    // Another program that opens, reads and closes the store all the time, server or not.
    let mut reader = ForeignReaders::of(&place);
    let (mut gateway, _) = start(&place).await;
    assert!(exchange(gateway.address, &ask(&key, 0, false, "")).await.is_some());
    let base = eventually("the first row", || place.rows().pop()).await.reserved_tokens;
    eventually("another program reads the store", || (reader.looks() > 0).then_some(())).await;
    simulator.take_served();
    let mut next = 1;
    for round in 1..=rounds {
        let since = jiff::Timestamp::now().to_string();
        let started = simulator.counts().streams_started;
        let load = Load::start(gateway.address, &key, next, dice.below(u64::MAX));
        // Now and then the load has only just begun.
        if dice.below(5) > 0 {
            let begun = || simulator.counts().streams_started - started;
            eventually("all streams begin", || (begun() >= STREAMS).then_some(())).await;
        }
        // By what has happened and not by time, so that as much happens on a busy machine.
        let answers = dice.below(300) as usize;
        let enough = || (load.state.seen.borrow().len() >= answers).then_some(());
        eventually("answers", enough).await;
        tokio::time::sleep(Duration::from_micros(dice.below(20_000))).await;
        gateway.kill();
        found.looks = reader.looks();
        if dice.below(4) == 0 {
            kill_while_starting(&place, &mut dice).await;
            found.kills_while_starting += 1;
        }
        let (again, ready) = start(&place).await;
        gateway = again;
        found.ready.push(ready);
        found.kills += 1;
        let (end, seen) = load.ended().await;
        found.requests += end - next;
        next = end;
        let rows = place.rows_of(&["--since", &since]);
        found.compare(base, &seen, &received(&simulator).await, &rows);
        let Found { requests, rows, missing, twice, wrong, .. } = found;
        eprintln!(
            "{durability} kill {round} of {rounds}: {requests} requests, {rows} rows, {missing} missing, \
             {twice} twice, {wrong} wrong, ready after {} ms",
            ready.as_millis()
        );
    }
    report(&found.table(durability, seed));
    // A last round that nobody kills.
    let load = Load::start(gateway.address, &key, next, seed);
    let enough = || (load.state.seen.borrow().len() >= 300).then_some(());
    eventually("answers", enough).await;
    let (_, seen) = load.ended().await;
    assert!(seen.values().all(|seen| seen.is_whole), "nobody killed it");
    let quiet = async {
        // A client sees the end of an answer before the server has counted it.
        while !get(gateway.admin, "/metrics").await.1.contains("\nweir_requests_in_flight 0.0\n") {
            tokio::task::yield_now().await;
        }
    };
    patiently("no request is in flight", quiet).await;
    gateway.signal("TERM");
    assert!(gateway.ended().await.0.success());
    assert_eq!(usage(&place).0, 1 + found.rows + seen.len() as u64);
    check_at_the_end(&place).await;
    simulator.shutdown().await;
    assert_eq!((found.missing, found.twice, found.wrong), (0, 0, 0), "see above");
    assert!(found.whole > 0 && found.streams_cut > 0 && found.crashed > 0, "it was under load");
}
