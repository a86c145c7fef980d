//! The store's files against other processes: a foreign SQLite that looks at them, files that somebody
//! removes, the data directory's lock, and commands in directories that have no ledger.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::harness::{Client, Place, Upstream, World, eventually, patiently, request};
use crate::process::{Gateway, get};
use crate::traffic::{chat, exchange, simulated, usage};

const CHAT: &str = r#"{"model":"gpt-5.4","messages":[],"max_tokens":7}"#;
const JSON: &str = "content-type: application/json\r\n";
const ANSWER: &str = r#"{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":11,"completion_tokens":13,"total_tokens":24}}"#;

/// Another program that reads the store: Python's own SQLite, which on most machines is older than the
/// one that asks a second time before it deletes a WAL. It looks once for each line that it is sent.
struct ForeignReader {
    child: Child,
    answers: BufReader<ChildStdout>,
}

/// The same again and again, until it is dropped.
pub struct ForeignReaders {
    child: Child,
    looks: Arc<AtomicU64>,
}

const LOOK: &str = r#"
import sqlite3, sys, time
def look(path):
    connection = sqlite3.connect(path)
    try:
        return connection.execute("select count(*) from requests").fetchone()[0]
    finally:
        connection.close()
path, is_loop = sys.argv[1], sys.argv[2] == "loop"
while is_loop or sys.stdin.readline():
    try:
        print(look(path), flush=True)
    except sqlite3.OperationalError as error:
        # Others write, and it has less patience than they.
        print("busy:", error, flush=True)
    if is_loop:
        time.sleep(0.05)
"#;

fn foreign(place: &Place, way: &str) -> (Child, BufReader<ChildStdout>) {
    let mut command = Command::new("python3");
    command.args(["-c", LOOK]).arg(place.data_dir().join("weir.sqlite")).arg(way);
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = spawned.expect("python3 with its module sqlite3 is installed");
    let answers = BufReader::new(child.stdout.take().expect("it is piped"));
    (child, answers)
}

impl ForeignReader {
    fn of(place: &Place) -> Self {
        let (child, answers) = foreign(place, "asked");
        Self { child, answers }
    }

    /// Opens the store, counts its rows, and closes it: as the last one, as far as it knows.
    fn look(&mut self) -> String {
        let mut stdin = self.child.stdin.as_ref().expect("it is piped");
        stdin.write_all(b"look\n").expect("it reads");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it answers");
        assert!(!line.is_empty(), "the reader has failed; see its error");
        line.trim().to_owned()
    }
}

impl ForeignReaders {
    pub fn of(place: &Place) -> Self {
        let (child, answers) = foreign(place, "loop");
        let looks = Arc::new(AtomicU64::new(0));
        let counted = looks.clone();
        // It ends with the pipe.
        std::thread::spawn(move || {
            for line in answers.lines().map_while(Result::ok) {
                let has_found = line.parse::<u64>().is_ok_and(|rows| rows > 0);
                counted.fetch_add(u64::from(has_found), Ordering::Relaxed);
            }
        });
        Self { child, looks }
    }

    /// How often it has found rows. It still looks: what it can't read ends it.
    pub fn looks(&mut self) -> u64 {
        let ended = self.child.try_wait().expect("a process of ours");
        assert!(ended.is_none(), "the reader has failed; see its error");
        self.looks.load(Ordering::Relaxed)
    }
}

impl Drop for ForeignReader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for ForeignReaders {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn requests(world: &World, upstream: &Upstream, count: usize) {
    for _ in 0..count {
        let mut client = world.post(CHAT).await;
        let (mut call, _) = upstream.call().await;
        call.answer("200 OK", JSON, ANSWER).await;
        assert_eq!(client.answer().await.status, 200);
    }
}

/// The locks that this process has on a file, as the kernel lists them.
#[cfg(target_os = "linux")]
fn locks_on(path: &Path) -> Vec<String> {
    let inode = format!(":{} ", std::fs::metadata(path).expect("it is there").ino());
    let owner = format!(" {} ", std::process::id());
    let all = std::fs::read_to_string("/proc/locks").expect("the kernel says");
    let ours = all.lines().filter(|line| line.contains(&inode) && line.contains(&owner));
    ours.map(str::to_owned).collect()
}

/// SQLite's lock on the database is what keeps others from deleting the WAL. It is gone from the kernel as
/// soon as this process closes any other descriptor of the file.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_running_server_holds_its_lock_on_the_database() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let store = world.place.data_dir().join("weir.sqlite");
    let is_locked =
        || locks_on(&store).iter().any(|line| line.contains("POSIX") && line.contains("READ"));
    assert!(is_locked(), "{:?}", locks_on(&store));
    requests(&world, &upstream, 3).await;
    world.rows_eventually(3).await;
    world.place.create_key(&[]);
    assert!(is_locked(), "{:?}", locks_on(&store));
    let metrics = get(world.server().admin_address(), "/metrics").await.1;
    let wal = metrics.lines().find_map(|line| line.strip_prefix("weir_store_wal_bytes "));
    assert!(wal.is_some_and(|bytes| bytes != "0.0"), "{wal:?}");
    world.finish().await;
}

async fn status_of(world: &World, key: &str) -> u16 {
    let mut client = world.connect().await;
    client.send(request("GET", "/v1/models", key, "", "").as_bytes()).await;
    client.answer().await.status
}

/// Makes a second key, revokes it, and waits until the server refuses it.
async fn revocation_holds(world: &World) {
    let key = world.new_key(&["--tenant", "beta"]).await;
    let listed = world.place.weir(&["key", "list", "--tenant", "beta", "--format", "json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    let lives = listed.as_array().expect("a list").iter().find(|key| key["status"] == "active");
    let id = lives.expect("the new one")["id"].as_str().expect("a text").to_owned();
    world.place.weir(&["key", "revoke", &id]);
    let refused = async { while status_of(world, &key).await != 401 {} };
    patiently("the revoked key is refused", refused).await;
}

#[tokio::test]
async fn a_look_with_another_sqlite_loses_no_row_and_no_revocation() {
    let upstream = Upstream::start().await;
    let builder = World::before(&upstream).set("data.segment_bytes", 65_536);
    let mut world = builder.start().await;
    let mut reader = ForeignReader::of(&world.place);
    let data = world.place.data_dir();
    let is_whole =
        || ["-wal", "-shm"].iter().all(|end| data.join(format!("weir.sqlite{end}")).exists());
    for round in 1..=5 {
        requests(&world, &upstream, 20).await;
        world.rows_eventually(20 * round).await;
        assert_eq!(reader.look(), (20 * round).to_string());
        assert!(is_whole(), "the reader has deleted the WAL");
    }
    revocation_holds(&world).await;
    requests(&world, &upstream, 5).await;
    world.stop().await;
    assert_eq!(reader.look(), "105");
    world.start_again();
    world.rows_eventually(105).await;
    world.place.weir(&["verify"]);
    world.finish().await;
}

/// With the WAL deleted under it, the server would remove journal segments whose rows no file has.
#[tokio::test]
async fn killed_after_a_look_with_another_sqlite_every_answer_has_its_row() {
    let (simulator, builder) = simulated().await;
    let builder = builder.set("log.filter", "\"info\"").set("log.format", "\"json\"");
    let (place, _) = builder.set("data.segment_bytes", 65_536).place();
    let key = place.create_key(&[]);
    let gateway = Gateway::start(&place);
    let mut reader = ForeignReader::of(&place);
    for round in 1..=4 {
        for _ in 0..100 {
            let heard = exchange(gateway.address, &chat(&key, "connection: close\r\n")).await;
            assert!(heard.is_some_and(|heard| heard.is_whole && heard.status == 200));
        }
        let all = round * 100;
        eventually("all rows", || (usage(&place).0 == all).then_some(())).await;
        assert_eq!(reader.look(), all.to_string());
    }
    gateway.kill();
    assert_eq!(place.rows().len(), 400);
    simulator.shutdown().await;
}

/// Somebody removes what SQLite needs beside the database, which no lock prevents. What is written from
/// then on is not lost, and keys are followed as before.
#[tokio::test]
async fn a_removed_wal_or_shm_is_noticed_and_no_row_is_lost() {
    for gone in [&["-wal"][..], &["-shm"], &["-wal", "-shm"]] {
        let upstream = Upstream::start().await;
        let builder = World::before(&upstream).set("data.segment_bytes", 65_536);
        let mut world = builder.start().await;
        requests(&world, &upstream, 10).await;
        world.rows_eventually(10).await;
        let file = |end: &str| world.place.data_dir().join(format!("weir.sqlite{end}"));
        gone.iter().for_each(|end| std::fs::remove_file(file(end)).expect("it is there"));
        requests(&world, &upstream, 10).await;
        let is_back = || gone.iter().all(|end| file(end).exists()).then_some(());
        eventually("the server makes them again", is_back).await;
        world.rows_eventually(20).await;
        revocation_holds(&world).await;
        let used = world.server().used_today();
        world.stop().await;
        assert_eq!(world.place.rows().len(), 20, "{gone:?}");
        assert_eq!(used.0, 20);
        world.start_again();
        requests(&world, &upstream, 1).await;
        world.rows_eventually(21).await;
        world.place.weir(&["verify"]);
        world.finish().await;
    }
}

/// A backup that takes the store's place brings its keys, and loses none of the journal's rows.
#[tokio::test]
async fn tenants_and_keys_follow_a_store_that_was_replaced() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    requests(&world, &upstream, 3).await;
    world.rows_eventually(3).await;
    let data = world.place.data_dir();
    let backup = world.place.path().join("copy.sqlite");
    world.place.weir(&["backup", backup.to_str().expect("UTF-8")]);
    let later = world.new_key(&[]).await;
    // It has had as many changes as the one that the server knows: only they are others.
    let copy = rusqlite::Connection::open(&backup).expect("the copy");
    for _ in 0..2 {
        copy.execute("UPDATE tenants SET created_at_ms = created_at_ms", []).expect("a tenant");
    }
    copy.close().expect("it is a file again");
    // Of the old store, the WAL is left: it is not read into the new one.
    std::fs::rename(&backup, data.join("weir.sqlite")).expect("replaces");
    requests(&world, &upstream, 2).await;
    assert_eq!(status_of(&world, &later).await, 200, "nothing is known of the new one yet");
    for end in ["-wal", "-shm"] {
        std::fs::remove_file(data.join(format!("weir.sqlite{end}"))).expect("it is left");
    }
    world.rows_eventually(5).await;
    let refused = async { while status_of(&world, &later).await != 401 {} };
    patiently("a key that the backup does not have", refused).await;
    revocation_holds(&world).await;
    world.finish().await;
}

/// A backup that arrives slowly in the place of a store that is gone: until it is whole, keys and journal stay.
#[tokio::test]
async fn a_backup_that_is_still_being_copied_is_waited_for() {
    let upstream = Upstream::start().await;
    let mut world = World::before(&upstream).start().await;
    requests(&world, &upstream, 3).await;
    world.rows_eventually(3).await;
    let store = world.place.data_dir().join("weir.sqlite");
    let backup = world.place.path().join("copy.sqlite");
    world.place.weir(&["backup", backup.to_str().expect("UTF-8")]);
    let whole = std::fs::read(&backup).expect("the copy");
    for end in ["", "-wal", "-shm"] {
        std::fs::remove_file(world.place.data_dir().join(format!("weir.sqlite{end}")))
            .expect("is there");
    }
    for length in [0, 512, whole.len() / 2] {
        std::fs::write(&store, &whole[..length]).expect("writes");
        // Both who follow it have looked by then.
        let failures = || async {
            let metrics = get(world.server().admin_address(), "/metrics").await.1;
            let line = metrics.lines().find_map(|it| it.strip_prefix("weir_drain_errors_total "));
            line.expect("a metric").parse::<f64>().expect("a number")
        };
        let before = failures().await;
        let failing = async { while failures().await < before + 3.0 {} };
        patiently("the drain has looked", failing).await;
        requests(&world, &upstream, 1).await;
        assert_eq!(std::fs::read(&store).expect("is there"), &whole[..length]);
    }
    let said = refused(&world.place, &["usage"]);
    assert!(!said.is_empty());
    std::fs::write(&store, &whole).expect("writes");
    world.rows_eventually(6).await;
    revocation_holds(&world).await;
    world.stop().await;
    world.start_again();
    world.place.weir(&["verify"]);
    world.finish().await;
}

/// The database may be on another disk, with a link in its place.
#[tokio::test]
async fn a_store_behind_a_link_is_served() {
    let upstream = Upstream::start().await;
    let mut world = World::before(&upstream).start().await;
    requests(&world, &upstream, 1).await;
    world.stop().await;
    let store = world.place.data_dir().join("weir.sqlite");
    let target = world.place.path().join("elsewhere.sqlite");
    std::fs::rename(&store, &target).expect("moves");
    std::os::unix::fs::symlink(&target, &store).expect("links");
    world.start_again();
    requests(&world, &upstream, 1).await;
    world.rows_eventually(2).await;
    revocation_holds(&world).await;
    world.finish().await;
}

/// Runs a command that has to fail; what it says.
fn refused(place: &Place, arguments: &[&str]) -> String {
    let output = place.command(arguments).output().expect("the program runs");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    said
}

/// All that open a store and make none.
fn readers(place: &Place) -> Vec<Vec<String>> {
    let out = |name: &str| place.path().join(name).display().to_string();
    let (backup, export) = (out("out.sqlite"), out("out.csv"));
    let lines = [
        "usage",
        "requests",
        "verify",
        "verify --repair",
        "key list",
        "key set key_x --rpm 1",
        "key rotate key_x",
        "key revoke key_x",
        "tenant list",
        "tenant set acme --rpm 1",
    ];
    let words = |line: &str| line.split(' ').map(str::to_owned).collect();
    let mut all: Vec<Vec<String>> = lines.iter().map(|line| words(line)).collect();
    all.push(vec!["backup".to_owned(), backup]);
    all.push(vec!["export".to_owned(), export]);
    all
}

#[tokio::test]
async fn a_directory_without_a_ledger_stays_as_it_is() {
    let (place, _) = World::builder().place();
    let data = place.data_dir();
    for made in [false, true] {
        for words in readers(&place) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let said = refused(&place, &words);
            assert!(said.contains(&*data.to_string_lossy()), "{words:?}: {said}");
            assert!(said.contains("data.dir") && said.contains("--config"), "{words:?}: {said}");
            assert_eq!(data.exists(), made, "{words:?}");
        }
        if made {
            assert_eq!(std::fs::read_dir(&data).expect("a directory").count(), 0);
        } else {
            std::fs::create_dir(&data).expect("makes");
        }
    }
    assert!(!place.path().join("out.csv").exists() && !place.path().join("out.sqlite").exists());
    for line in [
        "usage --since yesterday",
        "usage --since 1h --until 2h",
        "export x.xls",
        "key create --tenant acme --expires 1970-01-01",
    ] {
        let words: Vec<_> = line.split(' ').collect();
        let output = place.command(&words).output().expect("the program runs");
        assert_eq!(output.status.code(), Some(2), "{line}: {output:?}");
        assert_eq!(std::fs::read_dir(&data).expect("a directory").count(), 0, "{line}");
    }
    // The first key makes all of it, and says where.
    let output = place.command(&["key", "create", "--tenant", "acme"]).output();
    let said = String::from_utf8(output.expect("the program runs").stderr).expect("UTF-8");
    assert!(said.contains(&format!("made a new ledger in {}", data.display())), "{said}");
    assert_eq!(place.weir(&["key", "list", "--format", "csv"]).lines().count(), 2);
}

/// An empty store in the place of one that is gone would be followed, and what the journal has kept for the
/// backup forgotten.
#[tokio::test]
async fn no_command_makes_a_store_where_one_is_gone() {
    let upstream = Upstream::start().await;
    let mut world = World::before(&upstream).start().await;
    requests(&world, &upstream, 3).await;
    world.rows_eventually(3).await;
    let store = world.place.data_dir().join("weir.sqlite");
    let backup = world.place.path().join("copy.sqlite");
    world.place.weir(&["backup", backup.to_str().expect("UTF-8")]);
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(world.place.data_dir().join(format!("weir.sqlite{end}")));
    }
    requests(&world, &upstream, 3).await;
    let makers = ["key create --tenant acme", "tenant create beta"];
    let makers = makers.iter().map(|line| line.split(' ').map(str::to_owned).collect());
    let all: Vec<Vec<String>> = readers(&world.place).into_iter().chain(makers).collect();
    let check = |world: &World| {
        for words in &all {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let said = refused(&world.place, &words);
            assert!(said.contains("is gone") && said.contains("backup"), "{words:?}: {said}");
            assert!(!store.exists(), "{words:?}");
        }
    };
    check(&world);
    world.stop().await;
    check(&world);
    std::fs::copy(&backup, &store).expect("restores");
    assert_eq!(world.place.rows().len(), 6);
    world.start_again();
    world.finish().await;
}

/// A start beside `weir verify`, which replays a long journal, waits for it and says so.
#[tokio::test]
async fn a_start_waits_for_a_replay_by_name() {
    let (place, _) = World::builder().set("log.filter", "\"info\"").place();
    place.create_key(&[]);
    let lock = place.data_dir().join("lock");
    std::fs::write(&lock, "verify 4711\n").expect("writes");
    let file = std::fs::File::open(&lock).expect("it is there");
    file.try_lock().expect("nobody has it");
    let mut command = place.command(&["serve"]);
    let spawned = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut server = spawned.expect("the program starts");
    let log = BufReader::new(server.stderr.take().expect("it is piped"));
    let mut held = Some(file);
    for line in log.lines() {
        let line = line.expect("text");
        if line.contains("waiting for the data directory") {
            assert!(line.contains("`weir verify` (process 4711)"), "{line}");
            held = None;
        }
        if line.contains("ready") {
            break;
        }
    }
    assert!(held.is_none(), "it did not wait");
    server.kill().expect("a process of ours");
    server.wait().expect("a process of ours");
}

/// A person's `sqlite3` with a transaction open is waited for, and named.
#[tokio::test]
async fn a_start_waits_for_another_programs_write_lock() {
    let (place, _) = World::builder().set("log.filter", "\"info\"").place();
    place.create_key(&[]);
    let other = rusqlite::Connection::open(place.data_dir().join("weir.sqlite")).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("nobody has it");
    let mut command = place.command(&["serve"]);
    let spawned = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut server = spawned.expect("the program starts");
    let log = BufReader::new(server.stderr.take().expect("it is piped"));
    let mut has_waited = false;
    for line in log.lines() {
        let line = line.expect("text");
        if line.contains("waiting for the data directory") && !has_waited {
            assert!(line.contains("who holds the store's write lock: another program"), "{line}");
            has_waited = true;
            other.execute_batch("COMMIT").expect("it is ours");
        }
        if line.contains("ready") {
            break;
        }
    }
    assert!(has_waited, "it did not wait");
    server.kill().expect("a process of ours");
    server.wait().expect("a process of ours");
}

/// Commands that come after the lock's file was removed, before the server has made it again, must not replay
/// and remove the journal that it writes.
#[tokio::test]
async fn killed_after_its_lock_file_was_removed_every_answer_has_its_row() {
    let (simulator, builder) = simulated().await;
    let builder = builder.set("log.filter", "\"info\"").set("log.format", "\"json\"");
    let (place, _) = builder.place();
    let key = place.create_key(&[]);
    let gateway = Gateway::start(&place);
    for _ in 0..8 {
        std::fs::remove_file(place.data_dir().join("lock")).expect("it is there");
        place.weir(&["usage"]);
        for _ in 0..10 {
            let heard = exchange(gateway.address, &chat(&key, "connection: close\r\n")).await;
            assert!(heard.is_some_and(|heard| heard.is_whole && heard.status == 200));
        }
        let lock = place.data_dir().join("lock");
        eventually("it is made again", || lock.exists().then_some(())).await;
    }
    gateway.kill();
    assert_eq!(place.rows().len(), 80);
    simulator.shutdown().await;
}

/// A second server would take what the first one writes for what a dead one has left.
#[tokio::test]
async fn a_removed_lock_file_lets_nobody_in() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let lock = world.place.data_dir().join("lock");
    std::fs::remove_file(&lock).expect("it is there");
    eventually("it is made again", || lock.exists().then_some(())).await;
    let said = refused(&world.place, &["serve"]);
    let holder = format!("in use by `weir serve` (process {})", std::process::id());
    assert!(said.contains(&holder), "{said}");
    requests(&world, &upstream, 1).await;
    world.rows_eventually(1).await;
    world.finish().await;
}

/// Where another process was faster, this one can't say what becomes of what it writes: it serves nothing.
#[tokio::test]
async fn a_lock_that_another_took_ends_the_service() {
    let upstream = Upstream::start().await;
    let mut world = World::before(&upstream).start().await;
    requests(&world, &upstream, 1).await;
    let lock = world.place.data_dir().join("lock");
    let other = world.place.path().join("another-lock");
    let file = std::fs::File::create(&other).expect("makes");
    file.try_lock().expect("nobody has it");
    std::fs::rename(&other, &lock).expect("replaces");
    let unready = async {
        while get(world.server().admin_address(), "/readyz").await.0 != 503 {
            let mut client: Client = world.post(CHAT).await;
            tokio::select! {
                (mut call, _) = upstream.call() => call.answer("200 OK", JSON, ANSWER).await,
                _ = client.answer() => {}
            }
        }
    };
    patiently("it is not ready", unready).await;
    let mut client = world.post(CHAT).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, &*answer.code()), (503, "ledger_unavailable"));
    world.stop().await;
}
