//! A store that fails, is locked, away, replaced or a copy, and what is deleted in it.

use super::*;

#[test]
fn a_store_that_fails_loses_nothing_and_is_followed_when_it_works_again() {
    type Break = fn(&Store) -> rusqlite::Result<()>;
    let cases: [(&str, Break, Break, &str); 3] = [
        (
            "read-only",
            |store| store.connection().pragma_update(None, "query_only", true),
            |store| store.connection().pragma_update(None, "query_only", false),
            "readonly",
        ),
        (
            "full",
            |store| {
                let sql = "CREATE TEMP TRIGGER full BEFORE INSERT ON requests
                    BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END";
                store.connection().execute_batch(sql)
            },
            |store| store.connection().execute_batch("DROP TRIGGER full"),
            "full",
        ),
        (
            "without its table",
            |store| store.connection().execute_batch("ALTER TABLE requests RENAME TO gone"),
            |store| store.connection().execute_batch("ALTER TABLE gone RENAME TO requests"),
            "no such table",
        ),
    ];
    for (what, break_it, mend, error) in cases {
        let fixture = Fixture::new(300);
        let directory = fixture.directory();
        let mut drain = fixture.drain(&directory);
        let mut journal = Journal::new(directory.clone());
        break_it(&drain.store).expect(what);
        for n in 0..20 {
            journal.open_now(&opened(n)).expect("the journal takes it");
            journal.close_now(&closed(n)).expect("the journal takes it");
            let found = drain.pass().expect_err(what).to_string();
            assert!(found.contains(error), "{what}: {found}");
            assert!(directory.lag_bytes() > 0, "{what}: read is not stored");
        }
        assert!(directory.segments().len() > 5, "nothing was removed");
        mend(&drain.store).expect(what);
        assert_eq!(drain.pass().expect(what).rows, 20);
        assert_eq!(fixture.ends(), [(End::Complete, 20)], "{what}");
    }
}

#[test]
fn a_locked_store_is_waited_for() {
    let fixture = Fixture::new(1 << 20);
    let directory = fixture.directory();
    let mut drain = fixture.drain(&directory);
    drain.store.connection().busy_timeout(std::time::Duration::ZERO).expect("sets");
    let mut journal = Journal::new(directory);
    journal.open_now(&opened(1)).expect("writes");
    journal.close_now(&closed(1)).expect("writes");
    let other = Store::open(fixture.dir.path()).expect("opens");
    other.connection().execute_batch("BEGIN IMMEDIATE").expect("locks");
    assert!(drain.pass().expect_err("locked").to_string().contains("write lock"));
    other.connection().execute_batch("COMMIT").expect("unlocks");
    assert_eq!(drain.pass().expect("free").rows, 1);
}

#[test]
fn a_store_that_was_removed_or_replaced_is_noticed_before_anything_is_forgotten() {
    let fixture = Fixture::new(300);
    let directory = fixture.directory();
    let mut drain = fixture.drain(&directory);
    let mut journal = Journal::new(directory.clone());
    for n in 0..5 {
        journal.open_now(&opened(n)).expect("writes");
    }
    let backup = fixture.dir.path().join("backup");
    std::fs::create_dir(&backup).expect("makes");
    drop(Store::open(&backup).expect("a store"));
    for n in 0..4 {
        journal.close_now(&closed(n)).expect("writes");
    }
    let file = |dir: &std::path::Path, end: &str| dir.join(format!("weir.sqlite{end}"));
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(file(fixture.dir.path(), end));
    }
    let segments = directory.segments().len();
    for _ in 0..2 {
        let error = drain.pass().expect_err("gone").to_string();
        assert!(error.contains("is gone") && error.contains("backup"), "{error}");
    }
    assert!(!file(fixture.dir.path(), "").exists(), "no empty store hides it");
    assert_eq!(directory.segments().len(), segments);
    std::fs::rename(file(&backup, ""), file(fixture.dir.path(), "")).expect("restores");
    assert_eq!(drain.pass().expect("follows").rows, 4);
    journal.close_now(&closed(4)).expect("writes");
    assert_eq!(drain.pass().expect("passes").rows, 1);
    assert_eq!(fixture.ends(), [(End::Complete, 5)]);
}

#[test]
fn a_store_that_takes_anothers_place_knows_the_prices_in_force() {
    let fixture = Fixture::new(1 << 20);
    let directory = fixture.directory();
    let backup = fixture.dir.path().join("backup");
    std::fs::create_dir(&backup).expect("makes");
    drop(Store::open(&backup).expect("a store from before the price"));
    let mut prices = Prices::default();
    prices.add("m", 0, Rates { input: 1_000, output: 10_000, ..Rates::default() });
    let price = *prices.of("m").at(0).expect("is in force");
    let mut drain = fixture.drain(&directory);
    drain.record_prices(&prices).expect("stores");
    let file = |dir: &std::path::Path, end: &str| dir.join(format!("weir.sqlite{end}"));
    for end in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(file(fixture.dir.path(), end));
    }
    std::fs::rename(file(&backup, ""), file(fixture.dir.path(), "")).expect("restores");
    let mut journal = Journal::new(directory);
    let open = Opened { price_version: Some(price.version), ..opened(1) };
    journal.open_now(&open).expect("writes");
    let mut closed = closed(1);
    closed.cost_nano_usd = Some(price.rates.cost(&closed.billed()));
    journal.close_now(&closed).expect("writes");
    assert_eq!(drain.pass().expect("follows").rows, 1);
    let store = Store::open(fixture.dir.path()).expect("opens");
    assert_eq!(store.price_versions().expect("reads").rates(price.version), Some(&price.rates));
    let recost = store.recost(i64::MIN, i64::MAX, &mut |one| panic!("{one:?}")).expect("reads");
    assert_eq!((recost.rows, recost.unpriced), (1, 0));
}

#[test]
fn a_row_is_kept_while_the_journal_has_it_and_never_comes_back() {
    let fixture = Fixture::new(1 << 20);
    let directory = fixture.directory();
    let mut drain = fixture.drain(&directory);
    let mut journal = Journal::new(directory.clone());
    journal.open_now(&opened(1)).expect("writes");
    journal.close_now(&closed(1)).expect("writes");
    journal.open_now(&opened(2)).expect("writes");
    assert_eq!(drain.pass().expect("passes").rows, 1);
    assert_eq!(drain.expire(i64::MAX, i64::MAX).expect("looks"), 0, "its segment is there");
    journal.close_now(&closed(2)).expect("writes");
    drop(journal);
    drain.pass().expect("passes");
    assert!(directory.segments().is_empty());
    assert_eq!(drain.expire(i64::MAX, i64::MAX).expect("deletes"), 2);
    assert!(fixture.ends().is_empty());
    let store = Store::open(fixture.dir.path()).expect("opens");
    let requests = || store.balances(0, i64::MAX).expect("reads")[0].requests;
    assert_eq!(requests(), 2, "the sums stay");
}

#[test]
fn nothing_is_deleted_while_the_journal_has_what_no_clock_can_be_right_about() {
    let fixture = Fixture::new(1 << 20);
    let directory = fixture.directory();
    let mut drain = fixture.drain(&directory);
    let mut journal = Journal::new(directory.clone());
    let late = Opened { started_at_ms: opened(2).started_at_ms + 1_000, ..opened(2) };
    journal.open_now(&late).expect("writes");
    drain.pass().expect("passes");
    let old = opened(1).started_at_ms - 10 * 3_600_000;
    let row = Row { opened: Opened { started_at_ms: old, ..opened(1) }, closed: closed(1) };
    drain.store.append(&[row], &[]).expect("stores");
    assert_eq!(drain.expire(i64::MAX, late.started_at_ms - 1).expect("looks"), 0);
    assert_eq!(drain.expire(i64::MAX, late.started_at_ms).expect("deletes"), 1);
}

#[test]
fn a_copy_of_the_store_knows_nothing_of_segments_that_came_after_it() {
    let fixture = Fixture::new(1 << 20);
    let copy = fixture.dir.path().join("copy");
    let requests = |journal: &mut Journal, numbers: std::ops::Range<u8>| {
        for n in numbers {
            journal.open_now(&opened(n)).expect("writes");
            journal.close_now(&closed(n)).expect("writes");
        }
    };
    {
        let directory = fixture.directory();
        let mut drain = fixture.drain(&directory);
        let mut journal = Journal::new(directory);
        requests(&mut journal, 0..5);
        drain.pass().expect("passes");
        // By another program, which knows of no positions.
        let sql = format!("VACUUM INTO '{}'", copy.display());
        drain.store.connection().execute_batch(&sql).expect("copies");
        drop(journal);
        drain.pass().expect("passes");
    }
    // The directory is empty: numbers begin anew.
    let directory = fixture.directory();
    let mut journal = Journal::new(directory.clone());
    requests(&mut journal, 100..105);
    fixture.drain(&directory).pass().expect("passes");
    assert_eq!(directory.segments()[0].number, 1);
    std::mem::forget(journal);
    for end in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(fixture.dir.path().join(format!("weir.sqlite{end}")));
    }
    std::fs::rename(copy, fixture.dir.path().join("weir.sqlite")).expect("restores");
    let directory = fixture.directory();
    fixture.drain(&directory).replay().expect("replays");
    assert_eq!(fixture.ends(), [(End::Complete, 10)]);
    assert!(directory.segments().is_empty());
}

#[test]
fn after_a_synced_commit_that_failed_no_segment_goes_until_the_wal_is_copied_whole() {
    let fixture = Fixture::new(1 << 20);
    let directory = fixture.directory();
    let mut drain = fixture.drain(&directory);
    let mut journal = Journal::new(directory.clone());
    journal.open_now(&opened(1)).expect("writes");
    journal.close_now(&closed(1)).expect("writes");
    drop(journal);
    let fail = "CREATE TEMP TRIGGER fail BEFORE UPDATE ON meta
        BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END";
    drain.store.connection().execute_batch(fail).expect("breaks");
    drain.pass().expect_err("it fails");
    drain.store.connection().execute_batch("DROP TRIGGER fail").expect("mends");
    // As long as somebody reads, the WAL cannot be begun anew.
    let reader = Store::open(fixture.dir.path()).expect("opens");
    reader.connection().execute_batch("BEGIN; SELECT count(*) FROM meta").expect("reads");
    for _ in 0..2 {
        let error = drain.pass().expect_err("a reader is in the way").to_string();
        assert!(error.contains("WAL"), "{error}");
        assert_eq!(directory.segments().len(), 1, "a sync that says yes now says nothing");
    }
    reader.connection().execute_batch("COMMIT").expect("ends");
    drain.pass().expect("passes");
    assert!(directory.segments().is_empty());
    assert_eq!(fixture.ends(), [(End::Complete, 1)]);
}

/// `.restore` of SQLite's shell, beside a running server: the files are the same, and the rows those of a backup.
#[test]
fn a_content_that_another_program_restores_gets_the_journals_rows_again() {
    for restored_at in [RestoredAt::Pass, RestoredAt::Removal] {
        let fixture = Fixture::new(1 << 20);
        let directory = fixture.directory();
        let mut journal = Journal::new(directory.clone());
        let mut drain = fixture.drain(&directory);
        let request = |journal: &mut Journal, n| {
            drop((journal.open(&opened(n)), journal.close(&closed(n))));
            journal.commit().expect("writes");
        };
        request(&mut journal, 1);
        drain.pass().expect("stores");
        let copy = fixture.dir.path().join("copy.sqlite");
        let backup = |drain: &Drain| {
            let no_word: Option<fn(rusqlite::backup::Progress)> = None;
            drain.store.connection().backup("main", &copy, no_word).expect("copies");
        };
        backup(&drain);
        request(&mut journal, 2);
        drain.pass().expect("stores");
        assert_eq!(fixture.ends(), [(End::Complete, 2)]);
        let no_word: Option<fn(rusqlite::backup::Progress)> = None;
        let mut other = rusqlite::Connection::open(drain.store.path()).expect("opens");
        other.restore("main", &copy, no_word).expect("restores");
        drop(other);
        // Its last words make the segment one that may go.
        drop(journal);
        if restored_at == RestoredAt::Removal {
            // As if it came between the look and the removal.
            let error =
                drain.remove_finished().expect_err("it has not what was stored").to_string();
            assert!(error.contains("replaced by another program"), "{error}");
            assert_eq!(directory.segments().len(), 1);
        }
        drain.pass().expect("reads again");
        assert_eq!(fixture.ends(), [(End::Complete, 2)], "{restored_at:?}");
        assert!(directory.segments().is_empty());
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum RestoredAt {
    Pass,
    Removal,
}
