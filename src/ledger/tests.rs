//! The ledger's threads: one that is held up holds up no other, and none believes a disk that failed.

use super::*;
use crate::journal::Journal;
use crate::journal::background::Background;
use crate::journal::codec::tests::{closed, opened};
use crate::telemetry::metrics::Metrics;

/// Waits for what another thread does; it fails after twenty seconds or so.
fn eventually(what: &str, mut ask: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if ask() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    panic!("waited in vain: {what}");
}

fn metric(metrics: &Metrics, name: &str) -> Option<f64> {
    let text = metrics.render();
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn a_store_that_is_locked_holds_up_neither_syncs_nor_what_is_told_of_the_drain() {
    const AGE: u64 = 100;
    let dir = tempfile::tempdir().expect("a directory");
    let data = Data {
        dir: dir.path().to_owned(),
        durability: Durability::Crash,
        segment_bytes: 1 << 20,
        keep_rows: None,
        response_owners: 1_000,
    };
    let (clock, hand) = Clock::manual(0);
    let metrics = Metrics::new(1, Vec::new(), clock.clone());
    let shared = metrics.shared.clone();
    let supervisor = Supervisor::default();
    let prices = Prices::default();
    let ledger = Ledger::open(&data, &prices, shared, clock, supervisor, Duration::ZERO);
    let (ledger, store) = ledger.expect("opens");
    store.connection().execute_batch("BEGIN IMMEDIATE").expect("locks");
    let mut journal = ledger.journal();
    journal.open_now(&opened(1)).expect("writes");
    journal.close_now(&closed(1)).expect("writes");
    // Each is a second of the sync thread's, and SQLite has the drain wait for ten.
    for _ in 0..3 {
        hand.advance_ms(AGE * 1_000);
        let synced = || metric(&metrics, "weir_journal_sync_age_seconds") == Some(0.0);
        eventually("the journal is synced", synced);
    }
    let is_old = || {
        hand.advance_ms(AGE * 1_000);
        metric(&metrics, "weir_drain_pass_age_seconds").is_some_and(|age| age >= AGE as f64)
    };
    eventually("a pass of the drain is missed", is_old);
    let lag = || metric(&metrics, "weir_drain_lag_bytes").expect("it is always there");
    assert!(lag() > 0.0);
    store.connection().execute_batch("ROLLBACK").expect("unlocks");
    eventually("the drain goes on", || lag() == 0.0);
    eventually("and says so", || metric(&metrics, "weir_drain_pass_age_seconds") == Some(0.0));
    drop(journal);
    ledger.close();
}

#[test]
fn a_sync_that_failed_is_not_believed_when_it_says_yes_and_its_segment_goes_once_it_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let directory = Directory::open(dir.path(), 1 << 20, Durability::Crash).unwrap();
    let directory = Arc::new(directory);
    let mut background = Background::new(directory.clone());
    let mut journal = Journal::new(directory.clone());
    journal.open_now(&opened(1)).unwrap();
    background.round().unwrap();
    journal.open_now(&opened(2)).unwrap();
    directory.pretend_broken(true);
    background.round().unwrap_err();
    directory.pretend_broken(false);
    let error = background.round().unwrap_err().to_string();
    assert!(error.contains("0000000000000001.wj"), "{error}");
    // What is written from here on is synced.
    journal.close_now(&closed(1)).unwrap();
    assert_eq!(directory.segments().len(), 2);
    background.round().unwrap_err();
    let mut drain = Drain::new(directory.clone(), Store::open(dir.path()).unwrap()).unwrap();
    drain.pass().unwrap();
    background.round().unwrap_err();
    journal.close_now(&closed(2)).unwrap();
    drain.pass().unwrap();
    assert_eq!(directory.segments().len(), 1);
    background.round().unwrap();
}
