//! Records that are torn, damaged or lost, and segments of another version.

use super::*;

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
fn a_segment_of_an_older_version_is_read_and_one_of_a_newer_stops_the_start_and_is_left_alone() {
    for (version, refused) in
        [(0, Some("an older")), (1, None), (2, None), (3, None), (4, Some("a newer"))]
    {
        let fixture = Fixture::new(1 << 20);
        let (path, mut bytes, _) = five(&fixture);
        assert_eq!(bytes[8], 3, "what is written is of the newest");
        bytes[8] = version;
        std::fs::write(&path, &bytes).expect("writes");
        match (fixture.drain(&fixture.directory()).replay(), refused) {
            (Ok(progress), None) => assert_eq!((progress.rows, progress.damaged_bytes), (5, 0)),
            (Err(error), Some(whose)) => {
                let expected = format!("format {version} is that of {whose} weir");
                assert!(error.to_string().contains(&expected), "{error}");
                assert!(error.to_string().contains(&path.display().to_string()), "{error}");
                assert_eq!(std::fs::read(&path).expect("reads"), bytes);
                assert!(fixture.ends().is_empty());
            }
            (replayed, _) => panic!("{version}: {replayed:?}"),
        }
    }
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
                // By its wrong length it may end where another does, which depends on how long records are.
                let length =
                    u32::from_le_bytes(*damaged[begin..].first_chunk().expect("it is there"));
                if at < 4 && ends.contains(&(begin + 8 + length as usize)) {
                    continue;
                }
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
