//! What another program does to the store while the drain waits for the lock that it holds.

use std::path::PathBuf;

use super::*;
use crate::store::samples::{move_away, while_it_waits};

/// A drain that has stored the first two requests, and has read the third.
struct Waiting {
    fixture: Fixture,
    directory: Arc<Directory>,
    journal: Option<Journal>,
    drain: Drain,
    /// Of the store when it had the first.
    backup: PathBuf,
}

impl Waiting {
    fn new() -> Self {
        let fixture = Fixture::new(1 << 20);
        let directory = fixture.directory();
        let mut journal = Journal::new(directory.clone());
        let mut drain = fixture.drain(&directory);
        let mut request = |n| {
            drop((journal.open(&opened(n)), journal.close(&closed(n))));
            journal.commit().expect("writes");
        };
        request(1);
        drain.pass().expect("stores");
        let backup = fixture.dir.path().join("copy.sqlite");
        drain.store.connection().backup("main", &backup, NO_WORD).expect("copies");
        request(2);
        drain.pass().expect("stores");
        request(3);
        Self { fixture, directory, journal: Some(journal), drain, backup }
    }

    /// Nobody writes any more, so that the segment may go.
    fn end_journal(&mut self) {
        self.journal = None;
    }
}

const NO_WORD: Option<fn(rusqlite::backup::Progress)> = None;

type Step = fn(&mut Waiting) -> Result<(), DrainError>;

const STEPS: [(&str, Step); 4] = [
    ("append", |it| it.drain.pass().map(drop)),
    ("expire", |it| Ok(it.drain.store.expire(i64::MAX, 10, &mut || ()).map(drop)?)),
    ("fold", |it| Ok(it.drain.store.fold(i64::MAX, 10, &mut || ()).map(drop)?)),
    ("remove", |it| {
        it.end_journal();
        Ok(it.drain.remove_finished()?)
    }),
];

/// `.restore` of SQLite's shell is one transaction, for which whoever comes then waits.
#[test]
fn a_backup_that_is_restored_meanwhile_gets_the_journals_rows_again() {
    for (what, step) in STEPS {
        let mut it = Waiting::new();
        if what == "remove" {
            it.drain.pass().expect("stores");
        }
        let (path, backup) = (it.drain.store.path().to_owned(), it.backup.clone());
        while_it_waits(&mut it.drain.store, move || {
            let mut other = rusqlite::Connection::open(path).expect("opens");
            other.restore("main", &backup, NO_WORD).expect("restores");
        });
        let error = step(&mut it).expect_err(what).to_string();
        assert!(error.contains("replaced by another program"), "{what}: {error}");
        assert_eq!(it.fixture.ends(), [(End::Complete, 1)], "{what}: nothing is written to it");
        assert_eq!(it.directory.segments().len(), 1, "{what}");
        it.end_journal();
        it.drain.pass().expect("reads again");
        assert_eq!(it.fixture.ends(), [(End::Complete, 3)], "{what}");
        assert!(it.directory.segments().is_empty(), "{what}");
    }
}

/// The rows of what is read again wait for others: until they are stored, the journal does not count as stored.
#[test]
fn what_a_replaced_store_had_is_behind_until_it_is_stored_again() {
    let mut it = Waiting::new();
    it.drain.pass().expect("stores");
    assert_eq!(it.directory.lag_bytes(), 0);
    let mut other = rusqlite::Connection::open(it.drain.store.path()).expect("opens");
    other.restore("main", &it.backup, NO_WORD).expect("restores");
    it.drain.pass_at(Duration::ZERO).expect("reads again");
    assert!(it.directory.lag_bytes() > 0);
    it.drain.pass().expect("stores");
    assert_eq!((it.directory.lag_bytes(), it.fixture.ends()), (0, vec![(End::Complete, 3)]));
}

/// At a start the journal is empty, and nothing has been stored by this process: the last row is the store's own.
#[test]
fn a_backup_that_is_restored_before_anything_was_stored_is_noticed() {
    let mut it = Waiting::new();
    it.end_journal();
    it.drain.pass().expect("stores");
    let Waiting { fixture, directory, backup, .. } = it;
    let mut drain = fixture.drain(&directory);
    drain.pass().expect("nothing is there");
    let mut other = rusqlite::Connection::open(drain.store.path()).expect("opens");
    other.restore("main", &backup, NO_WORD).expect("restores");
    assert!(drain.store.is_replaced().expect("looks"));
    assert!(drain.store.is_replaced().expect("looks"), "until it is followed");
    drain.pass().expect("follows");
    assert!(!drain.store.is_replaced().expect("looks"));
}

#[test]
fn the_last_row_that_this_drain_deletes_itself_is_missed_by_nobody() {
    let mut it = Waiting::new();
    it.end_journal();
    it.drain.pass().expect("stores");
    assert_eq!(it.drain.expire(i64::MAX, i64::MAX).expect("deletes"), 3);
    let mut other = Store::open(it.fixture.dir.path()).expect("opens");
    other.confirm(None, 5).expect("writes");
    assert!(!it.drain.store.is_replaced().expect("looks"));
}

#[test]
fn files_that_are_moved_away_meanwhile_are_written_to_by_nobody() {
    for (what, step) in STEPS {
        let mut it = Waiting::new();
        if what == "remove" {
            it.drain.pass().expect("stores");
        }
        let path = it.drain.store.path().to_owned();
        let rows = it.fixture.ends();
        while_it_waits(&mut it.drain.store, move || move_away(&path));
        let error = step(&mut it).expect_err(what).to_string();
        assert!(error.contains("is gone"), "{what}: {error}");
        assert_eq!(it.directory.segments().len(), 1, "{what}");
        let away = Store::open(&it.fixture.dir.path().join("away")).expect("opens");
        let found = away.requests(&Filter::default(), None, 10).expect("reads").len();
        assert_eq!(found, rows[0].1, "{what}");
    }
}
