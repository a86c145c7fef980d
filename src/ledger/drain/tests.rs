//! The drain between a journal and a store that are whole, damaged, locked, full, or gone.

use std::collections::VecDeque;
use std::path::Path;

use super::*;
use crate::config::Durability;
use crate::ledger::codec::tests::{closed, opened};
use crate::ledger::journal::Journal;
use crate::ledger::journal::background::Background;
use crate::ledger::record::{Closed, EventId, Opened};
use crate::ledger::report::{Filter, requests};
use crate::ledger::simulated_disk::{Random, Simulated};
use crate::price::Rates;
use crate::usage::End;

struct Fixture {
    dir: tempfile::TempDir,
    segment_bytes: u64,
}

impl Fixture {
    fn new(segment_bytes: u64) -> Self {
        Self { dir: tempfile::tempdir().expect("a directory"), segment_bytes }
    }

    fn directory(&self) -> Arc<Directory> {
        Arc::new(
            Directory::open(self.dir.path(), self.segment_bytes, Durability::Crash).expect("opens"),
        )
    }

    fn drain(&self, directory: &Arc<Directory>) -> Drain {
        let store = Store::open(self.dir.path()).expect("opens");
        Drain::new(directory.clone(), store).expect("begins")
    }

    /// The ends of all rows, by how often each stands there.
    fn ends(&self) -> Vec<(End, usize)> {
        let store = Store::open(self.dir.path()).expect("opens");
        let rows = requests(&store, &Filter::default(), None, 1000).expect("reads");
        let count = |end: End| (end, rows.iter().filter(|row| row.end == end.name()).count());
        End::ALL.into_iter().map(count).filter(|(_, count)| *count > 0).collect()
    }
}

#[test]
fn rows_are_joined_across_segments_and_finished_segments_go() {
    let fixture = Fixture::new(300);
    let directory = fixture.directory();
    let mut drain = fixture.drain(&directory);
    let mut journal = Journal::new(directory.clone());
    for n in 0..30 {
        journal.open_now(&opened(n)).expect("writes");
    }
    assert_eq!(drain.pass().expect("passes").rows, 0);
    let open = directory.segments().len();
    for n in 0..29 {
        journal.close_now(&closed(n)).expect("writes");
    }
    assert!(directory.lag_bytes() > 0);
    assert_eq!(drain.pass().expect("passes"), Progress { rows: 29, ..Progress::default() });
    assert_eq!(directory.lag_bytes(), 0);
    // The segment with the request that is still open stays, and so does the one being written.
    assert!(directory.segments().len() <= 3 && open >= 10);
    journal.close_now(&closed(29)).expect("writes");
    drop(journal);
    assert_eq!(drain.pass().expect("passes").rows, 1);
    assert!(directory.segments().is_empty());
    assert_eq!(fixture.ends(), [(End::Complete, 30)]);
}

#[test]
fn what_was_open_in_a_crash_becomes_a_row_once_however_often_it_is_replayed() {
    let fixture = Fixture::new(1 << 20);
    let directory = fixture.directory();
    let mut journal = Journal::new(directory.clone());
    for n in 0..5 {
        journal.open_now(&opened(n)).expect("writes");
    }
    journal.close_now(&closed(0)).expect("writes");
    // An earlier run has stored a part; its process then died with the segment in place.
    fixture.drain(&directory).pass().expect("passes");
    journal.close_now(&closed(1)).expect("writes");
    let copy = std::fs::read(&directory.segments()[0].path).expect("reads");
    let path = directory.segments()[0].path.clone();
    std::mem::forget(journal);
    for _ in 0..3 {
        std::fs::write(&path, &copy).expect("writes");
        let directory = fixture.directory();
        fixture.drain(&directory).replay().expect("replays");
        assert!(directory.segments().is_empty());
        assert_eq!(fixture.ends(), [(End::Complete, 2), (End::Crashed, 3)]);
    }
}

#[test]
fn a_crashed_request_is_charged_by_its_price_or_has_none() {
    let fixture = Fixture::new(1 << 20);
    let directory = fixture.directory();
    let mut prices = Prices::default();
    prices.add("m", 0, Rates { input: 1_000, output: 10_000, ..Rates::default() });
    let known = prices.of("m").at(0).map(|price| price.version);
    let mut drain = fixture.drain(&directory);
    drain.record_prices(&prices).expect("stores");
    let mut journal = Journal::new(directory.clone());
    let unknown = opened(1).price_version;
    for (n, price_version) in [(0, None), (1, unknown), (2, known)] {
        journal.open_now(&Opened { price_version, ..opened(n) }).expect("writes");
    }
    std::mem::forget(journal);
    fixture.drain(&fixture.directory()).replay().expect("replays");
    let store = Store::open(fixture.dir.path()).expect("opens");
    let rows = requests(&store, &Filter::default(), None, 9).expect("reads");
    let costs: Vec<_> = rows.iter().map(|row| row.cost_usd.as_deref()).collect();
    // 8 tokens of prompt, and 1,024 for the answer; the newest first.
    assert_eq!(costs, [Some("0.000010248"), None, None]);
    assert_eq!(rows[0].price_version, known.map(|version| version.to_string()));
    assert_eq!((&rows[1].price_version, &rows[2].price_version), (&None, &None));
    let recost = store.recost(i64::MIN, i64::MAX, |one| panic!("{one:?}")).expect("reads");
    assert_eq!((recost.rows, recost.unpriced, recost.nano_usd), (3, 2, 10_248));
}

#[test]
fn a_torn_tail_is_cut_and_what_stands_before_it_counts() {
    let fixture = Fixture::new(1 << 20);
    let directory = fixture.directory();
    let mut journal = Journal::new(directory.clone());
    journal.open_now(&opened(1)).expect("writes");
    let whole = std::fs::read(&directory.segments()[0].path).expect("reads").len();
    journal.close_now(&closed(1)).expect("writes");
    let bytes = std::fs::read(&directory.segments()[0].path).expect("reads");
    let path = directory.segments()[0].path.clone();
    drop(journal);
    for cut in whole..bytes.len() {
        let fixture = Fixture::new(1 << 20);
        let target = fixture.dir.path().join("journal").join(path.file_name().expect("a name"));
        std::fs::create_dir_all(target.parent().expect("a directory")).expect("makes");
        std::fs::write(target, &bytes[..cut]).expect("writes");
        let progress = fixture.drain(&fixture.directory()).replay().expect("replays");
        assert_eq!(progress.torn_bytes, (cut - whole) as u64);
        assert_eq!(progress.damaged_bytes, 0);
        assert_eq!(fixture.ends(), [(End::Crashed, 1)], "cut at {cut}");
    }
}

#[test]
fn a_segment_of_another_version_stops_the_start_and_is_left_alone() {
    let fixture = Fixture::new(1 << 20);
    let path = fixture.dir.path().join("journal").join("0000000000000001.wj");
    std::fs::create_dir_all(path.parent().expect("a directory")).expect("makes");
    std::fs::write(&path, b"WEIRJRNL\x02\0\0\0\0\0\0\0later").expect("writes");
    let error = fixture.drain(&fixture.directory()).replay().expect_err("refused");
    assert!(error.to_string().contains("of this version"), "{error}");
    assert!(path.exists());
}

/// Requests 0 to 4, one after the other, and where each record ends.
fn five(fixture: &Fixture) -> (std::path::PathBuf, Vec<u8>, Vec<usize>) {
    let directory = fixture.directory();
    let mut journal = Journal::new(directory.clone());
    let mut ends = Vec::new();
    let published = || directory.segments()[0].published() as usize;
    for n in 0..5 {
        journal.open_now(&opened(n)).expect("writes");
        ends.push(published());
        journal.close_now(&closed(n)).expect("writes");
        ends.push(published());
    }
    let path = directory.segments()[0].path.clone();
    let bytes = std::fs::read(&path).expect("reads");
    std::mem::forget(journal);
    (path, bytes, ends)
}

#[test]
fn a_damaged_record_in_the_middle_costs_only_itself_and_is_told() {
    let sample = Fixture::new(1 << 20);
    let (_, bytes, ends) = five(&sample);
    // Which record is damaged, at which of its bytes; then how many are complete and crashed, and
    // how many ends have lost their beginning.
    for (record, complete, crashed, orphans) in [(4, 4, 0, 1), (5, 4, 1, 0)] {
        let begin = ends[record - 1];
        for at in [0, 1, 2, 3, 4, 9, 30] {
            for change in [0x01, 0x80, 0xff] {
                let fixture = Fixture::new(1 << 20);
                let (path, ..) = five(&fixture);
                let mut damaged = bytes.clone();
                damaged[begin + at] ^= change;
                std::fs::write(&path, &damaged).expect("writes");
                let directory = fixture.directory();
                let progress = fixture.drain(&directory).replay().expect("replays");
                let length = (ends[record] - begin) as u64;
                assert_eq!((progress.damaged_bytes, progress.torn_bytes), (length, 0), "{at}");
                assert_eq!(progress.orphans, orphans, "{record} {at}");
                let ends = [(End::Complete, complete), (End::Crashed, crashed)];
                let ends: Vec<_> = ends.into_iter().filter(|(_, count)| *count > 0).collect();
                assert_eq!(fixture.ends(), ends, "{record} {at}");
                assert!(directory.segments().is_empty() && !path.exists());
                let kept = std::fs::read(path.with_extension("wj.damaged")).expect("kept");
                assert_eq!(kept, damaged);
            }
        }
    }
}

#[test]
fn a_hole_of_any_size_loses_what_it_covers_and_a_lost_header_nothing() {
    let sample = Fixture::new(1 << 20);
    let (_, bytes, ends) = five(&sample);
    for (from, until) in [(ends[1] + 5, ends[4] + 7), (ends[0], ends[6]), (3, ends[2] + 1)] {
        let fixture = Fixture::new(1 << 20);
        let (path, ..) = five(&fixture);
        let mut damaged = bytes.clone();
        damaged[from..until].fill(0);
        std::fs::write(&path, &damaged).expect("writes");
        let progress = fixture.drain(&fixture.directory()).replay().expect("replays");
        assert!(progress.damaged_bytes > 0 && progress.torn_bytes == 0, "{progress:?}");
        let whole = ends.windows(4).skip(1).step_by(2);
        let whole = whole.filter(|at| at[0] >= until || at[2] <= from).count();
        let found = fixture.ends();
        assert!(found.iter().any(|(end, count)| *end == End::Complete && *count >= whole));
    }
    let fixture = Fixture::new(1 << 20);
    let (path, mut bytes, _) = five(&fixture);
    bytes[..16].fill(0);
    std::fs::write(&path, &bytes).expect("writes");
    let progress = fixture.drain(&fixture.directory()).replay().expect("replays");
    assert_eq!((progress.rows, progress.damaged_bytes), (5, 16));
}

#[test]
fn a_number_that_comes_again_is_a_new_segment() {
    let fixture = Fixture::new(1 << 20);
    let mut store = Store::open(fixture.dir.path()).expect("opens");
    // As a power cut leaves it: the store knows the segment, the disk does not.
    store.append(&[], &[Position { segment: "1".to_owned(), offset: 5_000 }]).expect("sets");
    let directory = fixture.directory();
    let mut drain = fixture.drain(&directory);
    let mut journal = Journal::new(directory);
    journal.open_now(&opened(1)).expect("writes");
    journal.close_now(&closed(1)).expect("writes");
    assert_eq!(drain.pass().expect("passes").rows, 1);
}

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
    let recost = store.recost(i64::MIN, i64::MAX, |one| panic!("{one:?}")).expect("reads");
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
fn a_short_segment_goes_when_it_is_an_hour_old() {
    let fixture = Fixture::new(1 << 20);
    let directory = fixture.directory();
    let mut drain = fixture.drain(&directory);
    let mut journal = Journal::new(directory.clone());
    journal.open_now(&opened(1)).expect("writes");
    journal.close_now(&closed(1)).expect("writes");
    const HOUR_NS: u64 = 3_600_000_000_000;
    for (mono_ns, left) in [(7, 1), (HOUR_NS, 1), (HOUR_NS + 7, 0), (HOUR_NS + 8, 0)] {
        journal.rotate(mono_ns);
        drain.pass().expect("passes");
        assert_eq!(directory.segments().len(), left, "{mono_ns}");
    }
}

/// Rows as they end, and passes as the drain's thread does them: when each is stored.
#[test]
fn few_rows_wait_for_others_and_none_for_longer_than_a_second() {
    const SECOND: Duration = Duration::from_secs(1);
    for (seed, per_second, most_commits) in [(1, 5, 80), (2, 50, 80), (3, 1, 61), (4, 5, 80)] {
        let fixture = Fixture::new(1 << 20);
        let directory = fixture.directory();
        let mut drain = fixture.drain(&directory);
        let mut journal = Journal::new(directory);
        let mut random = Random::new(seed);
        let (mut now, mut next_end) = (Duration::from_secs(7), Duration::from_secs(7));
        let (mut waiting, mut ended, mut commits) = (VecDeque::new(), 0_u64, 0);
        let until = now + 60 * SECOND;
        while now < until {
            while next_end <= now {
                let event_id = EventId(u128::from(ended).to_be_bytes());
                journal.open_now(&Opened { event_id, ..opened(1) }).expect("writes");
                journal.close_now(&Closed { event_id, ..closed(1) }).expect("writes");
                waiting.push_back(next_end);
                ended += 1;
                next_end += Duration::from_micros(random.below(2_000_000 / per_second));
            }
            let rows = drain.pass_at(now).expect("passes").rows;
            let takes = Duration::from_millis(random.below(40));
            commits += u64::from(rows > 0);
            for end in waiting.drain(..rows as usize) {
                assert!(now + takes <= end + SECOND, "seed {seed}: {end:?} was stored at {now:?}");
            }
            now += takes + drain.rest(now + takes);
        }
        assert!(ended > 30 * per_second, "seed {seed}: only {ended} requests ended");
        assert!(commits <= most_commits, "seed {seed}: {commits} commits for {ended} rows");
        assert!(waiting.iter().all(|end| now <= *end + SECOND), "seed {seed}");
    }
}

#[test]
fn many_rows_do_not_wait_and_segments_go_once_a_second() {
    let fixture = Fixture::new(300);
    let directory = fixture.directory();
    let mut drain = fixture.drain(&directory);
    let mut journal = Journal::new(directory.clone());
    let ms = Duration::from_millis;
    assert_eq!(drain.pass_at(ms(0)).expect("passes").rows, 0);
    let mut write = || {
        for n in 0..=100 {
            journal.open_now(&opened(n)).expect("writes");
            journal.close_now(&closed(n)).expect("writes");
        }
    };
    write();
    assert_eq!(drain.pass_at(ms(200)).expect("passes").rows, 101);
    let waiting = directory.segments().len();
    assert!(waiting > 50, "a removal takes a sync, and one was just done");
    drain.pass_at(ms(999)).expect("passes");
    assert_eq!(directory.segments().len(), waiting);
    drain.pass_at(ms(1_000)).expect("passes");
    assert_eq!(directory.segments().len(), 1);
    // Rows that could not be stored are tried again at the usual pace.
    drain.store.connection().pragma_update(None, "query_only", true).expect("sets");
    let mut one = |n| {
        journal.open_now(&opened(n)).expect("writes");
        journal.close_now(&closed(n)).expect("writes");
    };
    one(201);
    drain.pass_at(ms(1_200)).expect("it waits for others");
    assert_eq!(drain.rest(ms(1_200)), ms(200));
    assert_eq!(drain.rest(ms(1_750)), ms(50));
    drain.pass_at(ms(1_800)).expect_err("it waits no longer");
    assert_eq!(drain.rest(ms(1_800)), ms(200));
    drain.store.connection().pragma_update(None, "query_only", false).expect("sets");
    assert_eq!(drain.pass_at(ms(2_000)).expect("passes").rows, 1);
}

#[test]
fn a_row_that_waits_for_others_keeps_the_segment_that_it_began_in() {
    let fixture = Fixture::new(300);
    let directory = fixture.directory();
    let mut drain = fixture.drain(&directory);
    let mut journal = Journal::new(directory.clone());
    let ms = Duration::from_millis;
    for n in 0..10 {
        journal.open_now(&opened(n)).expect("writes");
    }
    drain.pass_at(ms(0)).expect("segments may go");
    drain.pass_at(ms(900)).expect("nothing has ended");
    for n in 0..10 {
        journal.close_now(&closed(n)).expect("writes");
    }
    drain.pass_at(ms(1_000)).expect("segments may go again");
    std::mem::forget((journal, drain));
    fixture.drain(&fixture.directory()).replay().expect("replays");
    assert_eq!(fixture.ends(), [(End::Complete, 10)]);
}

fn simulated(segment_bytes: u64) -> (Simulated, Arc<Directory<Simulated>>) {
    let disk = Simulated::default();
    let directory =
        Directory::on(disk.clone(), Path::new("data"), segment_bytes, Durability::Crash);
    (disk, Arc::new(directory.expect("opens")))
}

#[test]
fn a_replay_needs_no_descriptor_for_each_segment() {
    const SEGMENTS: u32 = 1_100;
    let fixture = Fixture::new(0);
    let (disk, directory) = simulated(1);
    let mut journal = Journal::new(directory);
    let event_id = |n: u32| EventId(u128::from(n).to_be_bytes());
    // All are open until the end: none of their segments can go.
    for n in 0..SEGMENTS {
        journal.open_now(&Opened { event_id: event_id(n), ..opened(1) }).expect("writes");
    }
    for n in 0..SEGMENTS {
        journal.close_now(&Closed { event_id: event_id(n), ..closed(1) }).expect("writes");
    }
    drop(journal);
    let directory = Directory::on(disk.clone(), Path::new("data"), 1, Durability::Crash);
    let directory = Arc::new(directory.expect("opens"));
    assert_eq!(directory.segments().len(), 2 * SEGMENTS as usize);
    let store = Store::open(fixture.dir.path()).expect("opens");
    let mut drain = Drain::new(directory.clone(), store).expect("begins");
    let mut background = Background::new(directory.clone());
    background.round().expect("syncs");
    assert_eq!(drain.replay().expect("replays").rows, u64::from(SEGMENTS));
    assert!(directory.segments().is_empty());
    assert!(disk.most_open() <= 3, "{} files were open at once", disk.most_open());
}

#[test]
fn a_block_that_cannot_be_read_costs_what_stands_in_it_and_is_kept() {
    const BLOCK: usize = 4096;
    const REQUESTS: u32 = 200;
    let event_id = |n: u32| EventId(u128::from(n).to_be_bytes());
    // Somewhere in a segment, its header, its end, and all of it.
    for lost in [2 * BLOCK..2 * BLOCK + 1, 0..1, 20_000..usize::MAX, 0..usize::MAX] {
        let fixture = Fixture::new(0);
        let (disk, directory) = simulated(30_000);
        let mut journal = Journal::new(directory.clone());
        let mut ends = Vec::new();
        for n in 0..REQUESTS {
            journal.open_now(&Opened { event_id: event_id(n), ..opened(1) }).expect("writes");
            journal.close_now(&Closed { event_id: event_id(n), ..closed(1) }).expect("writes");
            let segments = directory.segments();
            let newest = segments.last().expect("it was written");
            ends.push((newest.number, newest.published() as usize));
        }
        let [first, .., _] = &directory.segments()[..] else { panic!("there are several") };
        let path = first.path.clone();
        disk.lose(&path, lost.clone());
        let store = Store::open(fixture.dir.path()).expect("opens");
        let mut drain = Drain::new(directory.clone(), store).expect("begins");
        drain.patience = Duration::ZERO;
        let mut live = drain.pass().expect("what can be read is read");
        live.add(drain.pass().expect("what cannot be is passed over"));
        let blocks =
            (lost.start / BLOCK * BLOCK)..lost.end.saturating_add(BLOCK - 1) / BLOCK * BLOCK;
        let in_others = ends.iter().filter(|(number, _)| *number > 1).count();
        let before = ends.iter().filter(|(n, end)| *n == 1 && *end <= blocks.start).count();
        let length = ends.iter().filter(|(n, _)| *n == 1).map(|(_, end)| *end).max().expect("some");
        let after = (blocks.end < length)
            .then(|| ends.iter().filter(|(n, end)| *n == 1 && *end > blocks.end + 1_000).count());
        let least = (in_others + before + after.unwrap_or(0)) as u64;
        assert!(live.rows >= least, "{lost:?}: {} rows, of {least} at least", live.rows);
        // At the next start what lost its end is a row as well, and the segment is there to be looked at.
        drop((drain, journal));
        let directory = Directory::on(disk.clone(), Path::new("data"), 30_000, Durability::Crash);
        let directory = Arc::new(directory.expect("opens"));
        let store = Store::open(fixture.dir.path()).expect("opens");
        let mut drain = Drain::new(directory.clone(), store).expect("begins");
        drain.patience = Duration::ZERO;
        drain.replay().expect("it starts");
        assert!(directory.segments().is_empty(), "{lost:?}");
        assert_eq!(disk.names(), [path.with_extension("wj.damaged")], "{lost:?}");
        let rows = fixture.ends().iter().map(|(_, count)| *count).sum::<usize>();
        assert!(rows as u64 >= live.rows, "{lost:?}");
    }
}

/// Five requests that have begun in the first segment and end in others, on a disk that does not give the
/// first one back in some way.
struct Withheld {
    fixture: Fixture,
    disk: Simulated,
    directory: Arc<Directory<Simulated>>,
    first: std::path::PathBuf,
}

const EIO: i32 = 5;
const ENOENT: i32 = 2;
const EACCES: i32 = 13;

/// How a segment is withheld, and whether for good is as good as lost.
type Way = (fn(&Simulated, &Path, bool), bool);

const WAYS: [Way; 4] = [
    (|disk, path, is| disk.lose(path, if is { 0..usize::MAX } else { 0..0 }), true),
    (|disk, path, is| disk.keep_shut(path, is.then_some(EIO)), true),
    (|disk, path, is| disk.keep_shut(path, is.then_some(ENOENT)), true),
    (|disk, path, is| disk.keep_shut(path, is.then_some(EACCES)), false),
];

impl Withheld {
    fn new() -> Self {
        let (disk, directory) = simulated(700);
        let mut journal = Journal::new(directory.clone());
        for n in 0..5 {
            journal.open_now(&opened(n)).expect("writes");
        }
        let first = directory.segments()[0].path.clone();
        while directory.segments().len() < 2 {
            journal.open_now(&opened(100)).expect("writes");
        }
        for n in 0..10 {
            if n >= 5 {
                journal.open_now(&opened(n)).expect("writes");
            }
            journal.close_now(&closed(n)).expect("writes");
        }
        journal.close_now(&closed(100)).expect("writes");
        Self { fixture: Fixture::new(0), disk, directory, first }
    }

    fn drain(&self) -> Drain<Simulated> {
        let store = Store::open(self.fixture.dir.path()).expect("opens");
        Drain::new(self.directory.clone(), store).expect("begins")
    }
}

#[test]
fn a_segment_that_cannot_be_read_for_a_moment_costs_nothing_and_stops_no_other() {
    for (at, (withhold, _)) in WAYS.into_iter().enumerate() {
        let world = Withheld::new();
        let mut drain = world.drain();
        withhold(&world.disk, &world.first, true);
        let mut rows = 0;
        for second in 0..59 {
            let progress = drain.pass_at(Duration::from_secs(second)).expect("passes");
            assert_eq!((progress.unread, progress.orphans), (1, 0), "{at}");
            rows += progress.rows;
        }
        assert!((5..=6).contains(&rows), "{at}: those of the others are stored, not {rows}");
        assert_eq!(drain.expire(i64::MAX, i64::MAX).expect("looks"), 0, "{at}");
        withhold(&world.disk, &world.first, false);
        let progress = drain.pass().expect("passes");
        assert_eq!((progress.unread, progress.orphans, progress.damaged_bytes), (0, 0, 0), "{at}");
        assert_eq!(world.fixture.ends(), [(End::Complete, 11)], "{at}");
        assert!(world.directory.segments().len() <= 1, "{at}: but for the one that is written");
    }
}

#[test]
fn a_process_that_ends_while_a_segment_cannot_be_read_leaves_all_of_it_to_the_next() {
    for (at, (withhold, _)) in WAYS.into_iter().enumerate() {
        let world = Withheld::new();
        withhold(&world.disk, &world.first, true);
        let mut drain = world.drain();
        drain.pass().expect("passes");
        drop(drain);
        withhold(&world.disk, &world.first, false);
        let directory = Directory::on(world.disk.clone(), Path::new("data"), 1, Durability::Crash);
        let store = Store::open(world.fixture.dir.path()).expect("opens");
        let mut drain = Drain::new(Arc::new(directory.expect("opens")), store).expect("begins");
        assert_eq!(drain.replay().expect("replays").orphans, 0, "{at}");
        assert_eq!(world.fixture.ends(), [(End::Complete, 11)], "{at}");
        assert!(world.disk.names().is_empty(), "{at}");
    }
}

#[test]
fn what_a_disk_does_not_give_back_for_a_minute_is_passed_over_and_nothing_else_ever() {
    for (at, (withhold, is_lost)) in WAYS.into_iter().enumerate() {
        let world = Withheld::new();
        let mut drain = world.drain();
        withhold(&world.disk, &world.first, true);
        drain.pass_at(Duration::from_secs(7)).expect("passes");
        let later = drain.pass_at(Duration::from_secs(67)).expect("passes");
        if is_lost {
            assert_eq!(later.unread, 0, "{at}");
            assert!(later.orphans >= 5, "{at}: {later:?}");
            drain.pass().expect("passes");
            assert!(world.directory.segments().len() <= 1, "{at}: it is gone or put aside");
            let kept = world.first.with_extension("wj.damaged");
            assert!(world.disk.names().contains(&kept), "{at}");
        } else {
            assert_eq!((later.unread, later.orphans), (1, 0), "{at}");
            withhold(&world.disk, &world.first, false);
            drain.pass().expect("passes");
            assert_eq!(world.fixture.ends(), [(End::Complete, 11)], "{at}");
        }
    }
}

#[test]
fn what_was_written_while_a_block_could_not_be_read_has_a_minute_of_its_own() {
    let fixture = Fixture::new(0);
    let (disk, directory) = simulated(1 << 20);
    let store = Store::open(fixture.dir.path()).expect("opens");
    let mut drain = Drain::new(directory.clone(), store).expect("begins");
    let mut journal = Journal::new(directory.clone());
    let mut request = |n| {
        journal.open_now(&opened(n)).expect("writes");
        journal.close_now(&closed(n)).expect("writes");
    };
    let seconds = Duration::from_secs;
    request(1);
    let path = directory.segments()[0].path.clone();
    disk.lose(&path, 0..usize::MAX);
    for second in 0..60 {
        assert_eq!(drain.pass_at(seconds(second)).expect("passes").unread, 1);
    }
    request(2);
    assert_eq!(drain.pass_at(seconds(60)).expect("passes").unread, 1, "the second one");
    assert_eq!(drain.pass_at(seconds(61)).expect("passes").unread, 1);
    disk.lose(&path, 0..0);
    drain.pass_at(seconds(62)).expect("passes");
    request(3);
    drain.pass().expect("passes");
    assert_eq!(fixture.ends(), [(End::Complete, 2)], "all but the first");
}

#[test]
fn a_segment_that_somebody_else_removed_is_removed() {
    let fixture = Fixture::new(300);
    let directory = fixture.directory();
    let mut drain = fixture.drain(&directory);
    let mut journal = Journal::new(directory.clone());
    for n in 0..5 {
        journal.open_now(&opened(n)).expect("writes");
    }
    drain.pass().expect("passes");
    std::fs::remove_file(&directory.segments()[0].path).expect("removes");
    for n in 0..5 {
        journal.close_now(&closed(n)).expect("writes");
    }
    drop(journal);
    assert_eq!(drain.pass().expect("passes").rows, 5);
    assert!(directory.segments().is_empty());
}

#[test]
fn another_error_than_a_lost_segment_stops_a_start() {
    let world = Withheld::new();
    world.disk.keep_shut(&world.first, Some(EACCES));
    let error = world.drain().replay().expect_err("it is shut").to_string();
    assert!(error.contains("can't read"), "{error}");
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

#[test]
fn a_segment_that_cannot_be_synced_keeps_no_other_from_it() {
    let (disk, directory) = simulated(300);
    let mut journal = Journal::new(directory.clone());
    for n in 0..30 {
        journal.open_now(&opened(n)).expect("writes");
    }
    let mut background = Background::new(directory.clone());
    disk.lock().fails_next_sync = true;
    background.round().expect_err("the first one fails, and is told");
    let segments = directory.segments();
    assert!(segments.len() > 2);
    assert!(!disk.is_durable(&segments[0].path));
    assert!(segments[1..].iter().all(|segment| disk.is_durable(&segment.path)));
}

#[test]
fn what_was_kept_of_a_damaged_segment_is_never_replaced() {
    let fixture = Fixture::new(1 << 20);
    let names = || {
        let journal = fixture.dir.path().join("journal");
        let names = std::fs::read_dir(journal)
            .expect("it is there")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("ASCII"));
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    };
    let damage = |expected: &[&str]| {
        let (path, bytes, ends) = five(&fixture);
        let mut damaged = bytes;
        damaged[ends[3] + 9] ^= 1;
        std::fs::write(&path, damaged).expect("writes");
        fixture.drain(&fixture.directory()).replay().expect("replays");
        assert_eq!(names(), expected);
        path
    };
    let first = damage(&["0000000000000001.wj.damaged"]);
    damage(&["0000000000000001.wj.damaged", "0000000000000002.wj.damaged"]);
    // As somebody who looks may leave them.
    let kept = first.with_extension("wj.damaged");
    std::fs::rename(first.with_file_name("0000000000000002.wj.damaged"), &first).expect("renames");
    let before = std::fs::read(&kept).expect("reads");
    fixture.drain(&fixture.directory()).replay().expect("replays");
    assert_eq!(names(), ["0000000000000001.wj.damaged", "0000000000000001.wj.damaged.2"]);
    assert_eq!(std::fs::read(&kept).expect("reads"), before);
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
