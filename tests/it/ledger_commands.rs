//! What the command line does with the ledger beside a running server and without one: verify, back up,
//! export; and a store that is taken away under a server.

use serde_json::Value;
use weir::clock::Clock;
use weir::server::Environment;

use crate::harness::{Client, Place, Upstream, World, eventually, request};
use crate::process::Gateway;

const CHAT: &str = r#"{"model":"gpt-5.4","messages":[],"max_tokens":7}"#;
const JSON: &str = "content-type: application/json\r\n";
const ANSWER: &str = r#"{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":11,"completion_tokens":13,"total_tokens":24}}"#;

async fn requests(world: &World, upstream: &Upstream, count: usize) {
    for _ in 0..count {
        let mut client = world.post(CHAT).await;
        let (mut call, _) = upstream.call().await;
        call.answer("200 OK", JSON, ANSWER).await;
        assert_eq!(client.answer().await.status, 200);
    }
}

/// What `weir verify` lists, its exit code, and what it says.
fn verify(place: &Place, more: &[&str]) -> (Vec<Value>, i32, String) {
    let arguments = [&["verify", "--format", "json"], more].concat();
    let output = place.command(&arguments).output().expect("the program runs");
    let listed = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    (listed, output.status.code().expect("it was not killed"), said)
}

#[tokio::test]
async fn books_are_verified_backed_up_and_exported_beside_a_server_and_without() {
    let upstream = Upstream::start().await;
    let mut world = World::before(&upstream).start().await;
    requests(&world, &upstream, 5).await;
    let backup = world.place.path().join("copy.sqlite");
    let export = world.place.path().join("rows.ndjson");
    for _ in 0..2 {
        let (listed, code, said) = verify(&world.place, &[]);
        assert_eq!((listed.len(), code), (0, 0), "{said}");
        world.place.weir(&["backup", backup.to_str().expect("UTF-8")]);
        world.place.weir(&["export", export.to_str().expect("UTF-8")]);
        let rows = std::fs::read_to_string(&export).expect("it is there");
        // Beside a server, the last one may still be on its way into the store.
        assert!(rows.lines().count() >= 4, "{rows}");
        world.stop().await;
        world.start_again();
        world.rows_eventually(5).await;
    }
    world.stop().await;
    // A wrong sum is found and put right.
    let store = rusqlite::Connection::open(world.place.data_dir().join("weir.sqlite"));
    let store = store.expect("the store");
    let tampering = "UPDATE rollups SET total_tokens = total_tokens + 1000";
    assert_eq!(store.execute(tampering, []).expect("one hour's sum"), 1);
    drop(store);
    let (listed, code, said) = verify(&world.place, &[]);
    assert_eq!(code, 1, "{said}");
    assert_eq!((&listed[0]["stored"], &listed[0]["recomputed"]), (&"1120".into(), &"120".into()));
    assert_eq!(verify(&world.place, &["--repair"]).1, 0);
    assert_eq!(verify(&world.place, &[]).1, 0);
    // The copy, put in the place of the store, is the ledger again.
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(world.place.data_dir().join(format!("weir.sqlite{end}")));
    }
    std::fs::copy(&backup, world.place.data_dir().join("weir.sqlite")).expect("restores");
    world.start_again();
    requests(&world, &upstream, 1).await;
    world.rows_eventually(6).await;
    world.finish().await;
}

/// The server goes on, and what it writes meanwhile is in the ledger once there is a store again.
#[tokio::test]
async fn a_store_that_is_taken_away_is_missed_and_followed() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    requests(&world, &upstream, 3).await;
    world.rows_eventually(3).await;
    let data = world.place.data_dir();
    let backup = world.place.path().join("copy.sqlite");
    world.place.weir(&["backup", backup.to_str().expect("UTF-8")]);
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(data.join(format!("weir.sqlite{end}")));
    }
    requests(&world, &upstream, 3).await;
    let output = world.place.command(&["requests"]).output().expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("is gone"), "{said}");
    assert!(!data.join("weir.sqlite").exists(), "no empty store hides it");
    std::fs::copy(&backup, data.join("weir.sqlite")).expect("restores");
    eventually("all rows", || (world.place.rows().len() == 6).then_some(())).await;
    world.finish().await;
}

/// Another program keeps the store's write lock: what ends meanwhile is in the journal only, and no report is
/// out of date without saying so.
#[tokio::test]
async fn a_report_beside_a_store_that_takes_nothing_says_what_it_lacks() {
    let upstream = Upstream::start().await;
    let an_hour_ago = jiff::Timestamp::now().as_millisecond() - 3_600_000;
    let (clock, _) = Clock::manual(an_hour_ago);
    let environment = Environment { clock, ..Environment::default() };
    let world = World::before(&upstream).environment(environment).start().await;
    requests(&world, &upstream, 2).await;
    world.rows_eventually(2).await;
    let store = rusqlite::Connection::open(world.place.data_dir().join("weir.sqlite"));
    let store = store.expect("the store");
    store.execute_batch("BEGIN IMMEDIATE").expect("the write lock");
    requests(&world, &upstream, 3).await;
    let said = |arguments: &[&str]| {
        let output = world.place.command(arguments).output().expect("the program runs");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    let reports = [&["usage"][..], &["requests"], &["verify"], &["export", "-", "--format", "csv"]];
    for arguments in reports {
        let said = said(arguments);
        assert!(said.contains("3 finished requests not in the store yet"), "{arguments:?}: {said}");
    }
    store.execute_batch("ROLLBACK").expect("lets go");
    world.rows_eventually(5).await;
    for arguments in reports {
        let said = said(arguments);
        assert!(!said.contains("not in the store yet"), "{arguments:?}: {said}");
    }
    world.finish().await;
}

/// Without a server nobody empties the journal, and on such a disk nothing can be written: a file may not grow by
/// a byte.
#[tokio::test]
async fn a_report_on_a_full_disk_shows_what_is_stored_and_says_what_it_lacks() {
    let upstream = Upstream::start().await;
    let logged =
        World::before(&upstream).set("log.filter", "\"info\"").set("log.format", "\"json\"");
    let (place, _) = logged.place();
    let key = place.create_key(&[]);
    let gateway = Gateway::start(&place);
    let mut client = Client::connect(gateway.address).await;
    let store = rusqlite::Connection::open(place.data_dir().join("weir.sqlite")).expect("opens");
    let stored = || -> i64 {
        store.query_row("SELECT count(*) FROM requests", [], |row| row.get(0)).expect("counts")
    };
    for number in 1..=5 {
        client.send(request("POST", "/v1/chat/completions", &key, "", CHAT).as_bytes()).await;
        let (mut call, _) = upstream.call().await;
        call.answer("200 OK", &format!("{JSON}connection: close\r\n"), ANSWER).await;
        assert_eq!(client.answer().await.status, 200);
        if number == 2 {
            eventually("the store has both", || (stored() == 2).then_some(())).await;
            store.execute_batch("BEGIN IMMEDIATE").expect("the write lock");
        }
    }
    gateway.kill();
    drop(store);
    let reported = |arguments: &[&str]| {
        let command = place.command(arguments);
        let mut full = std::process::Command::new("sh");
        full.args(["-c", "ulimit -f 0 && exec \"$0\" \"$@\""]).arg(command.get_program());
        full.args(command.get_args()).current_dir(place.path());
        let set = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
        let output = full.envs(set).output().expect("the program runs");
        let [listed, said] = [output.stdout, output.stderr].map(String::from_utf8);
        (output.status.code(), listed.expect("UTF-8"), said.expect("UTF-8"))
    };
    for arguments in [&["requests", "--format", "csv"][..], &["export", "-", "--format", "csv"]] {
        let (code, listed, said) = reported(arguments);
        assert_eq!((code, listed.lines().count()), (Some(0), 1 + 2), "{arguments:?}: {said}");
        assert!(said.contains("3 finished requests only in the journal"), "{said}");
        assert!(said.contains("make room"), "{said}");
    }
    let (code, listed, said) = reported(&["usage", "--format", "csv"]);
    assert!(code == Some(0) && listed.contains(",2,"), "{listed} {said}");
    let rows = place.weir(&["requests", "--format", "csv"]);
    assert_eq!(rows.lines().count(), 1 + 5, "with room, all are there");
}
