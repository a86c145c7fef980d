//! Segments and blocks that the disk does not give back, for a moment or for good.

use super::*;

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
fn another_error_than_a_lost_segment_stops_a_start() {
    let world = Withheld::new();
    world.disk.keep_shut(&world.first, Some(EACCES));
    let error = world.drain().replay().expect_err("it is shut").to_string();
    assert!(error.contains("can't read"), "{error}");
}
