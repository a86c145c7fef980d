//! How long rows wait for others.

use super::*;

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
