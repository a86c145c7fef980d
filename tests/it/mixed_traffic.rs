//! Requests of every kind, with every fault that the simulator knows, leave nothing outstanding and nothing
//! uncounted. `WEIR_TORTURE_REQUESTS` says how many, 10,000 by default.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, LocalSet};
use weir::simulator::{Counts, Dialect, Served, Simulator};

use crate::endpoints::samples::{Sample, samples};
use crate::harness::{Client, IMAGE_MODEL, Row, request};
use crate::torture::{report, times};
use crate::traffic::{CHAT, Dice, body, by_id, chat, exchange, simulated, stream, sum, usage};

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
async fn any_request(
    address: SocketAddr,
    key: &str,
    dice: &mut Dice,
    samples: &[Sample],
    seen: &Seen,
) {
    const BRIEF: &str = "connection: close\r\nx-sim-tokens: 6\r\n";
    let with = |more: &str| format!("{BRIEF}{more}\r\n");
    let (bytes, statuses): (String, &[u16]) = match dice.below(100) {
        0..35 => (chat(key, BRIEF), &[200]),
        35..54 => (stream(key, BRIEF), &[200]),
        54..60 => (other(key, dice, samples), &[200]),
        60..62 => (stream(key, &with("x-sim-usage: none\r\nx-sim-tag: unstated")), &[200]),
        62..63 => {
            let usage = dice.of(&["x-sim-usage: standard", "x-sim-stream-options: ignore"]);
            let is_ignored = usage.ends_with("ignore");
            let tag = if is_ignored { "unstated" } else { "stated" };
            (stream(key, &with(&format!("{usage}\r\nx-sim-tag: {tag}"))), &[200])
        }
        63..64 => {
            let dialects: Vec<_> = Dialect::names().collect();
            let dialect = dice.of(&dialects);
            // The printed streams state no usage.
            let tag = if dialect.starts_with("documents") { "unstated" } else { "stated" };
            let lines = with(&format!("x-sim-dialect: {dialect}\r\nx-sim-tag: {tag}"));
            (stream(key, &lines), &[200])
        }
        64..66 => {
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

/// A request of any endpoint.
fn other(key: &str, dice: &mut Dice, samples: &[Sample]) -> String {
    let sample = &samples[dice.below(samples.len() as u64) as usize];
    let tag = if sample.states { "stated" } else { "unstated" };
    let lines = format!("connection: close\r\nx-sim-tag: {tag}\r\n");
    let body = String::from_utf8(sample.body.clone()).expect("only those that are text");
    request("POST", sample.path, key, &lines, &body)
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
    let unstated = |one: &&&Served| one.tag == "unstated";
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

fn table(count: u64, took: Duration, rows: &[Row], counts: &Counts) -> String {
    let ended = |end: &str| rows.iter().filter(|row| row.end == end).count();
    let reported = || rows.iter().filter(|row| row.usage_source == "reported");
    let tokens = |of: fn(&Row) -> u64| reported().map(of).sum::<u64>();
    let lines = [
        ("requests", count.to_string()),
        ("… received upstream", counts.requests.to_string()),
        ("rows", rows.len().to_string()),
        ("… complete", ended("complete").to_string()),
        ("… client_closed", ended("client_closed").to_string()),
        ("… upstream_truncated", ended("upstream_truncated").to_string()),
        ("… upstream_error", ended("upstream_error").to_string()),
        ("… upstream_rejected", ended("upstream_rejected").to_string()),
        ("reported rows, each as the simulator counted it", reported().count().to_string()),
        ("… input tokens", tokens(|row| row.input_tokens).to_string()),
        ("… output tokens", tokens(|row| row.output_tokens).to_string()),
        ("seconds", took.as_secs().to_string()),
    ];
    let line = |(name, value): &(&str, String)| format!("| {name} | {value} |\n");
    let lines: String = lines.iter().map(line).collect();
    format!("\nMixed requests with every fault\n\n| | |\n|---|---|\n{lines}")
}

#[tokio::test]
async fn requests_of_every_kind_add_up() {
    const CLIENTS: u64 = 40;
    let count = times("WEIR_TORTURE_REQUESTS", 10_000);
    let begun = Instant::now();
    let run = async {
        let (simulator, builder) = simulated().await;
        let mut world = builder.set("server.workers", 2).start().await;
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
                let samples: Vec<_> = samples().into_iter().filter(Sample::is_text).collect();
                for _ in 0..count / CLIENTS {
                    any_request(address, &key, &mut dice, &samples, &seen).await;
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
        let sent = seen.sent.take();
        for id in sent.iter() {
            assert!(rows_by_id.contains_key(&**id), "{id} was answered and has no row");
        }
        let unheard: Vec<_> = rows.iter().filter(|row| !sent.contains(&row.event_id)).collect();
        let has_left = |row: &&Row| ["client_closed", "not_sent"].contains(&&*row.end);
        let all_left = unheard.iter().all(|row| has_left(row) && row.status == 0);
        assert!(all_left, "{unheard:#?}");
        assert!(rows.iter().filter(has_left).count() <= seen.left.get());
        // A client may leave before its request is on the wire: the row is there all the same.
        let received = simulator.counts().requests;
        let attempts = |rows: &mut dyn Iterator<Item = &Row>| -> u64 {
            rows.map(|row| u64::from(row.attempts)).sum()
        };
        let (most, unsure) = (attempts(&mut rows.iter()), attempts(&mut unheard.iter().copied()));
        assert!(
            (most - unsure..=most).contains(&received),
            "{received} of {most}, or {unsure} less"
        );
        let few = (count / 20) as usize;
        assert!(seen.refused.get() > few && seen.left.get() > few, "the dice are fair");
        assert_same_numbers(&rows, &simulator);
        report(&table(count, begun.elapsed(), &rows, &simulator.counts()));
        simulator.shutdown().await;
    };
    LocalSet::new().run_until(run).await;
}
