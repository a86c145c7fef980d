//! Rows that begin and end in whatever segments, and segments that go.

use super::*;

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
    let rows = store.requests(&Filter::default(), None, 9).expect("reads");
    let costs: Vec<_> = rows.iter().map(|row| row.cost_usd.as_deref()).collect();
    // 8 tokens of prompt, and 1,024 for the answer; the newest first.
    assert_eq!(costs, [Some("0.000010248"), None, None]);
    assert_eq!(rows[0].price_version, known.map(|version| version.to_string()));
    assert_eq!((&rows[1].price_version, &rows[2].price_version), (&None, &None));
    let recost = store.recost(i64::MIN, i64::MAX, &mut |one| panic!("{one:?}")).expect("reads");
    assert_eq!((recost.rows, recost.unpriced, recost.nano_usd), (3, 2, 10_248));
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
fn a_segment_that_cannot_be_removed_keeps_no_row_from_being_counted_and_goes_when_it_can() {
    const EACCES: i32 = 13;
    let (disk, directory) = simulated(300);
    let place = tempfile::tempdir().expect("a directory");
    let store = Store::open(place.path()).expect("opens");
    let mut drain = Drain::new(directory.clone(), store).expect("begins");
    let mut journal = Journal::new(directory.clone());
    let mut background = Background::new(directory.clone());
    disk.lock().frozen = Some(EACCES);
    // The second try comes two seconds after the first.
    for (pass, numbers) in (1..).step_by(2).zip([0..10, 10..15]) {
        for n in numbers.clone() {
            journal.open_now(&opened(n)).expect("writes");
            journal.close_now(&closed(n)).expect("writes");
        }
        background.round().expect("syncs");
        let progress = drain.pass_at(Duration::from_secs(pass)).expect("the rows are stored");
        assert_eq!(progress.rows, numbers.len() as u64);
        let found = drain.unremoved().expect("they stay");
        let (path, segments) = (found.path.clone(), found.segments);
        assert_eq!(path, directory.segments()[0].path, "the first is named");
        let finished = directory.segments().iter().filter(|segment| segment.is_sealed()).count();
        assert!(segments > 1 && segments == finished as u64, "{segments} of {finished}");
    }
    // A start can say it to somebody, and does not begin what it cannot go on with.
    let store = Store::open(place.path()).expect("opens");
    let mut next = Drain::new(directory.clone(), store).expect("begins");
    let error = next.replay().expect_err("it is told").to_string();
    assert!(error.contains("can't remove") && error.contains("stored whole"), "{error}");
    drop(next);
    disk.lock().frozen = None;
    drain.pass_at(Duration::from_secs(9)).expect("passes");
    assert!(drain.unremoved().is_none());
    assert!(directory.segments().iter().all(|segment| !segment.is_sealed()));
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
