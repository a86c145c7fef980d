//! All requests, oldest first.

use super::super::samples::{HOUR_MS, Sample, new_key, store_with};
use super::super::{Filter, Store, StoreError};
use crate::usage::End;

pub(in crate::store) fn sample(id: u64, at_ms: i64) -> Sample<'static> {
    Sample { id, at_ms, ..Sample::default() }
}

fn export(store: &Store, filter: &Filter, end: Option<End>) -> Vec<String> {
    let mut ids = Vec::new();
    let exported = store.each_request::<StoreError>(filter, end, |request| {
        ids.push(request.event_id);
        Ok(())
    });
    exported.map(|()| ids).expect("reads")
}

#[test]
fn pages_are_cut_anywhere_and_have_every_row_once() {
    // Many of one instant, more than a page an hour, an hour without any, the calendar's ends.
    let far = [i64::MIN, -1, 0, i64::MAX - 1];
    let times = (0..2_500).map(|n| n / 1_200).chain((0..2_100).map(|n| 7 * HOUR_MS + n * 900));
    let times = times.chain(far).enumerate();
    let samples: Vec<_> = times
        .map(|(id, at_ms)| Sample {
            key: ["key_a", "key_b", "key_c"][id % 3],
            end: [End::Complete, End::Timeout][usize::from(id % 7 == 0)],
            ..sample(id as u64, at_ms)
        })
        .collect();
    let (_dir, store) = store_with(&samples);
    let whole = |key: Option<&str>| Filter { key: key.map(str::to_owned), ..Filter::default() };
    let part = |filter: Filter| Filter {
        since_ms: Some(1),
        until_ms: Some(7 * HOUR_MS + 1_000_001),
        ..filter
    };
    for key in [None, Some("key_b"), Some("nobody")] {
        for filter in [whole(key), part(whole(key))] {
            for end in [None, Some(End::Timeout)] {
                let mut expected = store.requests(&filter, end, 10_000).expect("reads");
                expected.reverse();
                let expected: Vec<_> = expected.into_iter().map(|one| one.event_id).collect();
                assert_eq!(export(&store, &filter, end), expected, "{filter:?} {end:?}");
            }
        }
    }
}

#[test]
fn rows_that_retention_deletes_before_they_are_read_are_an_error() {
    let samples: Vec<_> = (0..3_000).map(|id| sample(id, id as i64 * 10_000)).collect();
    for (before_ms, is_late) in [(2 * HOUR_MS, false), (5 * HOUR_MS, true)] {
        let (_dir, store) = store_with(&samples);
        let mut other = store.another().expect("opens");
        let mut seen = 0;
        let exported = store.each_request::<StoreError>(&Filter::default(), None, |_| {
            seen += 1;
            if seen == 1_000 {
                other.expire(before_ms, usize::MAX >> 1, &mut || {})?;
            }
            Ok(())
        });
        match exported {
            Ok(()) => assert!(!is_late && seen == 3_000),
            Err(error) => {
                assert!(is_late, "{error}");
                let told = error.to_string();
                assert!(told.contains("before 1970-01-01T05:00:00.000Z"), "{told}");
            }
        }
    }
}

#[test]
fn a_reader_that_breaks_off_gets_no_more_and_its_own_error_back() {
    let (_dir, store) = store_with(&[1, 2, 3].map(|id| sample(id, id as i64)));
    let mut seen = 0;
    let read = store.each_request(&Filter::default(), None, |_| {
        seen += 1;
        if seen == 2 { Err(anyhow::anyhow!("enough")) } else { Ok(()) }
    });
    assert_eq!((seen, read.unwrap_err().to_string()), (2, "enough".to_owned()));
}

#[test]
fn a_snapshot_holds_still_for_every_kind_of_reading() {
    let (_dir, mut writer) = store_with(&[sample(1, 1)]);
    let reader = writer.another().unwrap();
    let counted = || {
        let all = Filter::default();
        let found = reader.requests(&all, None, 9).unwrap();
        assert_eq!(export(&reader, &all, None).len(), found.len());
        let names = reader.key_names(&["key_a"]).unwrap();
        let known = reader.tenants().unwrap().len() + reader.keys().unwrap().len() + names.len();
        let balances = reader.balances(i64::MIN, i64::MAX).unwrap();
        assert!(reader.changes(None).unwrap().is_all());
        assert_eq!(balances.iter().map(|one| one.requests).sum::<u64>(), found.len() as u64);
        (found.len(), known)
    };
    {
        let _snapshot = reader.snapshot().unwrap();
        assert_eq!(counted(), (1, 0));
        writer.append(&[sample(2, 2).row()], &[]).unwrap();
        writer.create_key(&new_key(1, "acme"), 1).unwrap();
        let _within = reader.snapshot().unwrap();
        assert_eq!(counted(), (1, 0));
    }
    assert_eq!(counted(), (2, 2));
}
