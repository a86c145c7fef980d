//! How the program ends and begins again: signals, `kill -9` under load, a torn journal.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;

use tokio::task::{JoinSet, LocalSet};
use weir::simulator::Simulator;

use crate::harness::{Builder, Client, Place, Row, World, eventually, patiently, request};
use crate::process::{Gateway, get};
use crate::traffic::{begin, by_id, chat, exchange, simulated, stream, sum, usage};

const STALLS: &str = "x-sim-fault: stall:3\r\n";

/// As [`simulated`], for the program to run: two workers, and a log that can be read.
async fn logged() -> (Simulator, Builder) {
    let (simulator, builder) = simulated().await;
    let builder = builder.set("server.workers", 2).set("log.filter", "\"info\"");
    (simulator, builder.set("log.format", "\"json\""))
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

fn assert_complete(rows: &HashMap<&str, &Row>, ids: &[String]) {
    for id in ids {
        let row = rows.get(&**id).unwrap_or_else(|| panic!("{id} was seen whole and has no row"));
        assert_eq!((&*row.end, &*row.usage_source), ("complete", "reported"), "{row:?}");
    }
}

#[tokio::test]
async fn a_signal_lets_what_runs_end() {
    let run = async {
        let (simulator, builder) = logged().await;
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
    get(admin, "/readyz").await.0 == 200
}

/// There may be a long journal to replay, and many keys to read: here, somebody has the store's lock.
#[tokio::test]
async fn health_is_answered_while_the_server_starts() {
    // An address that no other process has: the port is not known before the start has ended.
    let [.., high, low] = std::process::id().to_be_bytes();
    let admin: SocketAddr = ([127, high, low, 77], 18081).into();
    let world = World::builder().set("admin.listen", format!("\"{admin}\""));
    let (place, environment) = world.place();
    std::fs::create_dir_all(place.data_dir()).expect("the directory is writable");
    let store = rusqlite::Connection::open(place.data_dir().join("weir.sqlite"));
    let store = store.expect("a new file");
    store.execute_batch("BEGIN EXCLUSIVE").expect("nobody else has it");
    let starting = tokio::task::spawn_blocking(move || {
        let server = place.start(environment);
        (place, server)
    });
    let listens = async {
        while tokio::net::TcpStream::connect(admin).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    patiently("the administration listener is open", listens).await;
    assert_eq!(get(admin, "/healthz").await.0, 200);
    let (status, text) = get(admin, "/readyz").await;
    assert!(status == 503 && text.contains("starting"), "{status} {text}");
    drop(store);
    let (_place, server) = patiently("the start ends", starting).await.expect("no panic");
    assert!(is_ready(admin).await);
    patiently("the server stops", server.shutdown(std::future::ready(()))).await;
}

/// What still runs at the deadline (or at a second signal) is told so, cut, and accounted for.
#[tokio::test]
async fn the_deadline_and_a_second_signal_end_the_rest() {
    for (shutdown_ms, hurries) in [(100, false), (3_600_000, true)] {
        let (simulator, builder) = logged().await;
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
    let (simulator, builder) = logged().await;
    let (place, _) = builder.place();
    let key = place.create_key(&[]);
    let gateway = Gateway::start(&place);
    let second = place.command(&["serve"]).output().expect("the program runs");
    let error = String::from_utf8(second.stderr).expect("text");
    assert_eq!(second.status.code(), Some(1), "{error}");
    assert!(error.contains(&*place.data_dir().to_string_lossy()), "{error}");
    assert!(error.contains("in use") && !error.contains("a thread has failed"), "{error}");
    let heard = exchange(gateway.address, &chat(&key, "connection: close\r\n")).await;
    assert!(heard.is_some_and(|heard| heard.is_whole), "the first one goes on");
    gateway.signal("TERM");
    assert!(gateway.ended().await.0.success());
    assert_eq!(place.rows().len(), 1);
    simulator.shutdown().await;
}

#[tokio::test]
async fn a_log_that_nobody_reads_stops_nothing() {
    let (simulator, builder) = logged().await;
    let (place, _) = builder.set("log.filter", "\"debug\"").place();
    let key = place.create_key(&[]);
    let gateway = Gateway::start_unheard(&place);
    for _ in 0..3 {
        let heard = exchange(gateway.address, &chat(&key, "connection: close\r\n")).await;
        let heard = heard.expect("it is served");
        assert!(heard.is_whole && heard.status == 200, "{}", heard.text);
    }
    gateway.signal("TERM");
    assert!(gateway.ended().await.0.success());
    assert_eq!(place.rows().len(), 3);
    simulator.shutdown().await;
}

/// A refusal has no row: this line is all that an operator can look up.
#[tokio::test]
async fn a_refusal_is_logged_with_whose_it_was_and_the_limit() {
    let (simulator, builder) = logged().await;
    let (place, _) = builder.set("log.filter", "\"info,weir=debug\"").place();
    let key = place.create_key(&["--rpm", "1"]);
    let gateway = Gateway::start(&place);
    let mut ids = Vec::new();
    for (key, status) in [(&*key, 200), (&*key, 429), ("sk-weir-nobody", 401)] {
        let heard = exchange(gateway.address, &chat(key, "connection: close\r\n")).await;
        let heard = heard.expect("it is answered");
        assert_eq!(heard.status, status, "{}", heard.text);
        ids.push(heard.id);
    }
    gateway.signal("TERM");
    let (_, log) = gateway.ended().await;
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let refused: Vec<_> = lines.filter(|line| line["message"] == "request refused").collect();
    let fields = |line: &serde_json::Value| {
        ["event_id", "code", "tenant", "limit"].map(|name| line[name].clone())
    };
    let found: Vec<_> = refused.iter().map(fields).collect();
    let limited = [&*ids[1], "rate_limit_exceeded", "acme", "key-requests"];
    assert_eq!(found.len(), 2, "{log}");
    assert_eq!(found[0], limited.map(serde_json::Value::from), "{log}");
    assert!(refused[0]["key_id"].as_str().is_some_and(|id| id.starts_with("key_")), "{log}");
    assert_eq!((&found[1][0], &found[1][2]), (&ids[2].clone().into(), &serde_json::Value::Null));
    simulator.shutdown().await;
}

/// The request and the client's leaving are there at once, however far the request came by then.
#[tokio::test]
async fn a_client_that_leaves_at_once_is_counted_as_it_is_written_down() {
    const CLIENTS: usize = 200;
    let (simulator, builder) = simulated().await;
    let mut world = builder.start().await;
    let asked = chat(&world.key, "x-sim-head-ms: 3600000\r\n");
    for _ in 0..CLIENTS {
        let mut client = Client::connect(world.address()).await;
        client.send(asked.as_bytes()).await;
        drop(client);
    }
    let are_gone = || world.server().connections().iter().sum::<usize>() == 0;
    eventually("all are gone", || are_gone().then_some(())).await;
    world.settled().await;
    let used = world.server().used_today();
    world.stop().await;
    let rows = world.place.rows();
    assert_eq!(used, (rows.len() as u64, sum(&rows)));
    assert!(rows.iter().all(|row| ["client_closed", "not_sent"].contains(&&*row.end)), "{rows:?}");
    let sent = rows.iter().filter(|row| row.end == "client_closed").count() as u64;
    assert!(simulator.counts().requests <= sent, "what was sent has a row");
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

/// Whatever a client saw whole is in the ledger, nothing is there twice, nothing that went upstream is
/// missing; the command line finds all of it before a server runs again.
#[tokio::test]
async fn nothing_is_lost_when_the_process_is_killed() {
    let run = async {
        let (simulator, builder) = logged().await;
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
