//! Whatever is folded and whatever comes late, balances are what the rows say.

use crate::store::Store;
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;
use crate::store::samples::{HOUR_MS, MINUTE_MS, Sample, store_with};

/// Half an hour off, three quarters, far west, and Greenwich.
const ZONES: [&str; 5] =
    ["UTC", "Asia/Kolkata", "Pacific/Chatham", "America/St_Johns", "America/Los_Angeles"];
const KEYS: [(&str, &str); 4] =
    [("acme", "key_a"), ("acme", "key_c"), ("beta", "key_b"), ("beta", "key_a")];
/// Noon of 27 February 2026, in hours; what happens here takes five days, and a month ends within.
const BEGIN: i64 = 492_228;
const HOURS: i64 = 120;

#[derive(Clone, Debug)]
enum Step {
    /// Requests: the minute in which they began, whose they are, and of which model.
    Append(Vec<(i64, usize, usize)>),
    /// Hours before this one, so many roll-ups.
    Fold(i64, usize),
    /// Sums of an hour are spoilt, some are folded so, and they are put right.
    Rebuild(i64, usize),
    /// One of the requests began in another minute.
    Redate(prop::sample::Index, i64),
}

fn step() -> impl Strategy<Value = Step> {
    let requests = prop::collection::vec((0..HOURS * 60, 0..KEYS.len(), 0..3_usize), 1..30);
    prop_oneof![
        2 => requests.prop_map(Step::Append),
        3 => (0..HOURS + 10, 1..40_usize).prop_map(|(before, limit)| Step::Fold(before, limit)),
        1 => (0..HOURS, 1..40_usize).prop_map(|(hour, limit)| Step::Rebuild(hour, limit)),
        1 => (any::<prop::sample::Index>(), 0..HOURS * 60)
            .prop_map(|(which, minute)| Step::Redate(which, minute)),
    ]
}

fn take(step: &Step, store: &mut Store, samples: &mut Vec<Sample<'static>>) {
    match step {
        Step::Append(requests) => {
            let first = samples.len();
            for (minute, key, model) in requests {
                let (tenant, key) = KEYS[*key];
                let id = samples.len() as u64;
                let at_ms = BEGIN * HOUR_MS + minute * MINUTE_MS;
                let (cost, model) =
                    ((!id.is_multiple_of(3)).then_some(id), ["m", "n", "o"][*model]);
                samples.push(Sample { id, at_ms, tenant, key, model, cost, ..<_>::default() });
            }
            // Some come once more, as a replay has them.
            let again = first.saturating_sub(5);
            let rows: Vec<_> = samples[again..].iter().map(|sample| sample.row()).collect();
            assert_eq!(store.append(&rows, &[]).unwrap(), requests.len());
        }
        Step::Fold(before, limit) => {
            assert!(store.fold(BEGIN + before, *limit, &mut || ()).unwrap() <= *limit);
        }
        Step::Rebuild(hour, limit) => {
            let hour = BEGIN + hour;
            let spoil = "UPDATE rollups SET total_tokens = 5, cost_nano_usd = 7 WHERE hour = ?1";
            store.connection().execute(spoil, [hour]).unwrap();
            store.fold(hour + 1, *limit, &mut || ()).unwrap();
            store.rebuild_hour(hour).unwrap();
        }
        Step::Redate(which, minute) if !samples.is_empty() => {
            let one = which.get_mut(samples);
            let before_ms = one.at_ms;
            one.at_ms = BEGIN * HOUR_MS + minute * MINUTE_MS;
            let redate = "UPDATE requests SET started_at_ms = ?1 WHERE event_id = ?2";
            let id = one.row().opened.event_id;
            store.connection().execute(redate, params![one.at_ms, id.0]).unwrap();
            for at_ms in [before_ms, one.at_ms] {
                store.rebuild_hour(at_ms / HOUR_MS).unwrap();
            }
        }
        Step::Redate(..) => {}
    }
}

/// The days and the months of a zone, as spans.
fn windows(zone: &str) -> Vec<(i64, i64)> {
    let zone = TimeZone::get(zone).unwrap();
    let begin = |date: Date| date.to_zoned(zone.clone()).unwrap().timestamp().as_millisecond();
    let days = date(2026, 2, 26).series(jiff::Span::new().days(1)).take(7);
    let days = days.map(|day| (begin(day), begin(day.tomorrow().unwrap())));
    let months = [(2, 3), (3, 4)]
        .map(|(month, next)| (begin(date(2026, month, 1)), begin(date(2026, next, 1))));
    days.chain(months).collect()
}

fn expected(
    samples: &[Sample<'_>],
    tenant: Option<&str>,
    (from, until): (i64, i64),
) -> BTreeMap<Owner, Counts> {
    let mut sums = BTreeMap::<Owner, Counts>::new();
    for one in samples {
        if (from..until).contains(&one.at_ms) && tenant.is_none_or(|name| name == one.tenant) {
            let nano_usd = one.cost.unwrap_or(0);
            let counts = Counts { requests: 1, total_tokens: 10, nano_usd };
            sums.entry((one.tenant.to_owned(), one.key.to_owned())).or_default().add(counts);
        }
    }
    sums
}

fn check(store: &Store, samples: &[Sample<'_>]) {
    for span in ZONES.iter().flat_map(|zone| windows(zone)) {
        for tenant in [None, Some("acme"), Some("x")] {
            let [found] = store.balances_of(tenant, [span]).unwrap();
            let found = found.into_iter().map(|one| {
                let counts = one.counts();
                ((one.tenant, one.key_id), counts)
            });
            let expected = expected(samples, tenant, span).into_iter();
            assert!(found.eq(expected), "{span:?} {tenant:?}");
        }
    }
    let mut from = i64::MIN;
    while let Some(day) = store.next_day(from).unwrap() {
        assert_eq!(store.differing_day(day).unwrap(), [], "{day}");
        from = day + 1;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn balances_are_what_the_rows_say_whatever_is_folded_and_whatever_comes_late(
        steps in prop::collection::vec(step(), 1..12),
    ) {
        let (_dir, mut store) = store_with(&[]);
        let mut samples = Vec::new();
        for step in &steps {
            take(step, &mut store, &mut samples);
            check(&store, &samples);
        }
    }
}

#[test]
fn each_rollup_is_folded_once_in_its_order_and_only_of_hours_that_are_over() {
    let at = |id: u64, hour, key| Sample { id, at_ms: hour * HOUR_MS, key, ..Sample::default() };
    let samples = [at(1, 47, "key_a"), at(2, 47, "key_b"), at(3, 48, "key_a"), at(4, 50, "a")];
    let (_dir, mut store) = store_with(&samples);
    let sums = |store: &Store| -> Vec<(i64, String, i64)> {
        let mut all =
            store.connection().prepare("SELECT day, key_id, requests FROM day_sums").unwrap();
        let sums = all.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        sums.unwrap().collect::<Result<_, _>>().unwrap()
    };
    let sum = |day, key: &str, requests| (day, key.to_owned(), requests);
    let mut stepped = 0;
    let mut fold = |store: &mut Store, limit| store.fold(50, limit, &mut || stepped += 1).unwrap();
    assert_eq!(fold(&mut store, 1), 1);
    assert_eq!(sums(&store), [sum(1, "key_a", 1)]);
    // Of an hour that is folded in part, what stands before the position is late, and no other.
    let late = [at(5, 47, "key_a"), at(6, 47, "key_b"), at(7, 40, "key_z")].map(Sample::row);
    store.append(&late, &[]).unwrap();
    assert_eq!(sums(&store), [sum(1, "key_a", 2), sum(1, "key_z", 1)]);
    assert_eq!((fold(&mut store, 9), fold(&mut store, 9)), (2, 0));
    let all = [sum(1, "key_a", 2), sum(1, "key_b", 2), sum(1, "key_z", 1), sum(2, "key_a", 1)];
    assert_eq!(sums(&store), all);
    assert!(stepped > 3, "there are rests");
}

#[test]
fn sums_of_a_day_stop_at_the_largest_integer() {
    let usage = crate::usage::Usage { total: u64::MAX, ..Default::default() };
    let sample = Sample { usage, cost: Some(u64::MAX), ..Sample::default() };
    let (_dir, mut store) = store_with(&[sample, Sample { id: 2, model: "n", ..sample }]);
    store.fold(1_000, 10, &mut || ()).unwrap();
    store.append(&[Sample { id: 3, ..sample }.row()], &[]).unwrap();
    let largest = i64::MAX as u64;
    let expected = Counts { requests: 3, total_tokens: largest, nano_usd: largest };
    let found = store.balances(0, i64::MAX).unwrap();
    assert_eq!((found.len(), found[0].counts()), (1, expected));
    assert_eq!(store.balances_of_rows(0, i64::MAX).unwrap(), found);
    assert_eq!(store.differing_day(4).unwrap(), []);
}

#[test]
fn folding_begins_behind_the_position() {
    let (_dir, store) = store_with(&[Sample::default()]);
    let mut plan = store.connection().prepare(&format!("EXPLAIN QUERY PLAN {UNFOLDED}")).unwrap();
    let steps = plan.query_map(params![0, "", "", "", 9, 9], |row| row.get::<_, String>(3));
    let steps: Vec<_> = steps.unwrap().collect::<Result<_, _>>().unwrap();
    let key = "SEARCH rollups USING PRIMARY KEY ((hour,key_id,model,tenant)>(?,?,?,?) AND hour<?)";
    assert_eq!(steps, [key]);
}
