//! Disks that really refuse: files that may not grow (the operating system's limit on a process's file
//! size, which needs no privilege and can be lifted from outside), and directories that may not be
//! written to. The errors come out of the kernel, half-written records included.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::harness::{Answer, Call, Client, MODEL, Place, Upstream, World, eventually, patiently};
use crate::harness::{Builder, request};
use crate::process::{Gateway, get};
use crate::traffic::by_id;

const CHAT: &str = "/v1/chat/completions";
const JSON: &str = "content-type: application/json\r\nconnection: close\r\n";
const ANSWER: &str = r#"{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":11,"completion_tokens":13,"total_tokens":24}}"#;
const DELTA: &str =
    "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}]}\n\n";
const END: &str = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":13,\"total_tokens\":24}}\n\ndata: [DONE]\n\n";
/// What a file may grow to while the disk is full: the store's log comes there after a few transactions,
/// the journal after some hundred requests.
const FULL: u64 = 100_000;
/// More requests than fit.
const MANY: usize = 2_000;

/// `weir serve` in this place, by way of another program that becomes it.
fn serve_by(place: &Place, program: &[&str]) -> Command {
    let serve = place.command(&["serve"]);
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).arg(serve.get_program()).args(serve.get_args());
    command.current_dir(place.path());
    command
}

/// Lets the process write no file beyond `bytes`; `None`: as far as it likes. It is told by a signal as well, which would
/// end a program that doesn't expect it.
fn limit(gateway: &Gateway, bytes: Option<u64>) {
    let limit = bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
    let mut command = Command::new("prlimit");
    command.arg(format!("--pid={}", gateway.id())).arg(format!("--fsize={limit}:"));
    assert!(command.status().expect("util-linux is installed").success());
}

/// Root may write everywhere; without that privilege it may not.
fn start_unprivileged(place: &Place) -> Command {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|it| {
        use std::os::unix::fs::MetadataExt;
        it.uid() == 0
    });
    match is_root {
        true => serve_by(place, &["setpriv", "--bounding-set=-dac_override", "--"]),
        false => place.command(&["serve"]),
    }
}

fn builder(upstream: &Upstream) -> Builder {
    let builder = World::before(upstream).set("log.filter", "\"info\"");
    builder.set("log.format", "\"json\"")
}

fn body(is_stream: bool) -> String {
    format!(r#"{{"model":"{MODEL}","stream":{is_stream},"messages":[]}}"#)
}

/// Sends a request, which the upstream answers if it gets it; whether it did.
async fn ask(address: SocketAddr, key: &str, upstream: &Upstream) -> (Answer, bool) {
    let mut client = Client::connect(address).await;
    let lines = "connection: close\r\n";
    client.send(request("POST", CHAT, key, lines, &body(false)).as_bytes()).await;
    let answered = client.answer();
    tokio::select! {
        answer = answered => return (answer, false),
        (mut call, _) = upstream.call() => call.answer("200 OK", JSON, ANSWER).await,
    }
    (client.answer().await, true)
}

/// Asks until it is refused; the ids of what was answered before that.
async fn ask_until_refused(address: SocketAddr, key: &str, upstream: &Upstream) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..MANY {
        let (answer, was_sent) = ask(address, key, upstream).await;
        if answer.status == 200 {
            assert!(answer.is_whole && was_sent);
            ids.push(answer.event_id().to_owned());
            continue;
        }
        assert_eq!((answer.status, &*answer.code()), (503, "ledger_unavailable"));
        if was_sent {
            // Its end could not be recorded. It is one of those that may not be sent again.
            assert_eq!(answer.header("x-should-retry"), Some("false"));
            continue;
        }
        assert_eq!(answer.header("retry-after"), Some("1"));
        return ids;
    }
    panic!("the disk takes everything");
}

/// A stream of which something has come.
async fn begin_stream(
    address: SocketAddr,
    key: &str,
    upstream: &Upstream,
) -> (Client, Call, String) {
    let mut client = Client::connect(address).await;
    client.send(request("POST", CHAT, key, "", &body(true)).as_bytes()).await;
    let (mut call, _) = upstream.call().await;
    call.stream().await;
    call.chunk(DELTA).await;
    let head = client.head().await;
    client.body_until("Hello").await;
    (client, call, head.header("x-request-id").expect("every answer has an id").to_owned())
}

async fn metric(admin: SocketAddr, name: &str) -> f64 {
    let metrics = get(admin, "/metrics").await.1;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name}"))
}

/// Waits until the store has so many rows, or has failed.
async fn taken_or_refused(admin: SocketAddr, rows: usize) {
    while metric(admin, "weir_drain_rows_total").await < rows as f64
        && metric(admin, "weir_drain_errors_total").await == 0.0
    {
        tokio::task::yield_now().await;
    }
}

/// Waits for readiness to become what it should; nobody sends a request meanwhile.
async fn until_ready(admin: SocketAddr, is_ready: bool) {
    let asking = async {
        loop {
            let (status, text) = get(admin, "/readyz").await;
            if (status == 200) == is_ready {
                assert_eq!(text.contains("ledger_unavailable"), !is_ready, "{text}");
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    patiently("readiness", asking).await;
}

fn assert_complete(place: &Place, ids: &[String]) {
    let rows = place.rows();
    let rows = by_id(&rows);
    for id in ids {
        let row = rows.get(&**id).unwrap_or_else(|| panic!("{id} was seen whole and has no row"));
        assert_eq!((&*row.end, row.total_tokens), ("complete", 24), "{row:?}");
    }
}

/// First the store can't grow, which nobody outside notices, then the journal can't, which everybody is
/// told. With room again all goes on without a restart; or the process is killed, and nothing is
/// missing either.
async fn fill(is_killed: bool) {
    let upstream = Upstream::start().await;
    let (place, _) = builder(&upstream).place();
    let key = place.create_key(&[]);
    let gateway = Gateway::start(&place);
    let (address, admin) = (gateway.address, gateway.admin);
    let (mut ids, mut refused) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        ids.push(ask(address, &key, &upstream).await.0.event_id().to_owned());
    }
    let (mut client, mut call, id) = begin_stream(address, &key, &upstream).await;
    limit(&gateway, Some(FULL));
    // Transaction by transaction the store's log grows, until one is too much. No client notices.
    let failing = async {
        while metric(admin, "weir_drain_errors_total").await == 0.0 {
            let (answer, _) = ask(address, &key, &upstream).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            ids.push(answer.event_id().to_owned());
            taken_or_refused(admin, ids.len()).await;
        }
    };
    patiently("the store is full", failing).await;
    assert_eq!(get(admin, "/readyz").await.0, 200, "the journal keeps the rows");
    let lagging = async {
        while metric(admin, "weir_drain_lag_bytes").await == 0.0 {
            tokio::task::yield_now().await;
        }
    };
    patiently("the lag says so", lagging).await;
    ids.extend(ask_until_refused(address, &key, &upstream).await);
    assert!(ids.len() > 100, "{}", ids.len());
    until_ready(admin, false).await;
    // A stream that ends now is not told its end.
    call.chunk(END).await;
    let (rest, is_whole) = client.rest().await;
    let rest = String::from_utf8(rest).expect("a stream is text");
    assert!(rest.contains("ledger_unavailable") && !rest.contains("[DONE]"), "{rest}");
    assert!(!is_whole);
    refused.push(id);
    if is_killed {
        gateway.kill();
        let gateway = Gateway::start(&place);
        until_ready(gateway.admin, true).await;
        check_filled(&place, &gateway, &ids, &refused, &upstream, &key).await;
        return stop(&place, gateway).await;
    }
    limit(&gateway, None);
    until_ready(admin, true).await;
    check_filled(&place, &gateway, &ids, &refused, &upstream, &key).await;
    stop(&place, gateway).await;
}

/// Everything is in the ledger: what was seen whole, what was not released, and what comes next.
async fn check_filled(
    place: &Place,
    gateway: &Gateway,
    ids: &[String],
    unreleased: &[String],
    upstream: &Upstream,
    key: &str,
) {
    let (answer, _) = ask(gateway.address, key, upstream).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let last = [answer.event_id().to_owned()];
    let is_there = || place.rows().iter().any(|row| row.event_id == last[0]).then_some(());
    eventually("the store takes rows again", is_there).await;
    assert_complete(place, &[ids, &last].concat());
    let rows = place.rows();
    for id in unreleased {
        assert_eq!(by_id(&rows)[&**id].end, "crashed");
    }
    let others = rows.iter().filter(|row| row.end != "complete").count();
    // One more may have been answered by the upstream just when the disk was full.
    assert!((unreleased.len()..=unreleased.len() + 1).contains(&others), "{rows:#?}");
    assert_eq!(rows.len(), ids.len() + 1 + others, "refused requests are no rows");
}

async fn stop(place: &Place, gateway: Gateway) {
    gateway.signal("TERM");
    let (status, log) = gateway.ended().await;
    assert!(status.success(), "{log}");
    place.weir(&["verify"]);
}

#[tokio::test]
async fn a_full_disk_refuses_until_there_is_room() {
    fill(false).await;
}

#[tokio::test]
async fn killed_on_a_full_disk_nothing_is_missing() {
    fill(true).await;
}

fn protect(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("ours");
}

/// A new journal segment can't be made: an error, until the directory can be written to again.
#[tokio::test]
async fn a_journal_that_becomes_read_only_refuses_until_it_is_not() {
    let upstream = Upstream::start().await;
    let (place, _) = builder(&upstream).set("data.segment_bytes", 65_536).place();
    let key = place.create_key(&[]);
    let gateway = Gateway::start_by(start_unprivileged(&place));
    let journal = place.data_dir().join("journal");
    protect(&journal, 0o500);
    let ids = ask_until_refused(gateway.address, &key, &upstream).await;
    until_ready(gateway.admin, false).await;
    protect(&journal, 0o700);
    until_ready(gateway.admin, true).await;
    check_filled(&place, &gateway, &ids, &[], &upstream, &key).await;
    stop(&place, gateway).await;
}

/// A data directory that can't be written to is refused by its name, new or used before.
#[tokio::test]
async fn a_read_only_data_directory_is_refused() {
    let upstream = Upstream::start().await;
    let (place, _) = builder(&upstream).place();
    let data = place.data_dir();
    let refuse = |file: &str, why: &str| {
        let output = start_unprivileged(&place).output().expect("the program runs");
        let error = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(file) && error.contains(why), "{error}");
    };
    std::fs::create_dir(&data).expect("ours");
    protect(&data, 0o500);
    refuse(&data.display().to_string(), "Permission denied");
    protect(&data, 0o700);
    let key = place.create_key(&[]);
    let gateway = Gateway::start(&place);
    let (answer, _) = ask(gateway.address, &key, &upstream).await;
    let ids = [answer.event_id().to_owned()];
    gateway.kill();
    for (name, read_only, mode, why) in [
        ("lock", 0o400, 0o600, "Permission denied"),
        ("journal", 0o500, 0o700, "Permission denied"),
        ("weir.sqlite", 0o400, 0o600, "weir.sqlite: its permissions"),
    ] {
        let path = data.join(name);
        protect(&path, read_only);
        refuse(&data.display().to_string(), why);
        protect(&path, mode);
    }
    assert_complete(&place, &ids);
}
