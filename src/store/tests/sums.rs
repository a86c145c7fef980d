//! Sums over spans of time.

use std::collections::BTreeMap;

use super::super::samples::{HOUR_MS, MINUTE_MS, Sample, minutes, store_with};
use super::super::{Balance, Range, Sums};
use crate::usage::Usage;

#[test]
fn balances_are_exact_wherever_the_hours_are_cut() {
    let samples = minutes();
    let (_dir, store) = store_with(&samples);
    let edges = [0, 1, 30, 59, 60, 61, 90, 150, 300, 329, 330, 540, 599, 600];
    let edges: Vec<_> = edges
        .into_iter()
        .flat_map(|minute| [-1, 0, 1].map(|off| minute * MINUTE_MS + off))
        .chain([i64::MIN, i64::MAX])
        .collect();
    for from_ms in edges.iter().copied() {
        for until_ms in edges.iter().copied() {
            let inside = |sample: &&Sample<'_>| (from_ms..until_ms).contains(&sample.at_ms);
            let mut expected: BTreeMap<_, (u64, u64)> = BTreeMap::new();
            for sample in samples.iter().filter(inside) {
                let (requests, cost) = expected.entry((sample.tenant, sample.key)).or_default();
                *requests += 1;
                *cost += sample.cost.unwrap_or(0);
            }
            let balance = |((tenant, key), (requests, cost)): (_, (u64, u64))| Balance {
                tenant: str::to_owned(tenant),
                key_id: str::to_owned(key),
                requests,
                total_tokens: 10 * requests,
                nano_usd: cost,
            };
            let expected: Vec<_> = expected.into_iter().map(balance).collect();
            let found = store.balances(from_ms, until_ms).unwrap();
            assert_eq!(found, expected, "{from_ms}..{until_ms}");
        }
    }
}

#[test]
fn filters_and_cut_hours_agree_with_the_rows() {
    let samples = minutes();
    let (_dir, store) = store_with(&samples);
    for key in [None, Some("key_a"), Some("key_x")] {
        for tenant in [None, Some("acme"), Some("beta"), Some("x")] {
            for model in [None, Some("n")] {
                let range = Range { from_ms: 90_001, until_ms: 30_000_000, key, tenant, model };
                let wanted = |sample: &&Sample<'_>| {
                    (range.from_ms..range.until_ms).contains(&sample.at_ms)
                        && key.is_none_or(|key| key == sample.key)
                        && tenant.is_none_or(|tenant| tenant == sample.tenant)
                        && model.is_none_or(|model| model == sample.model)
                };
                let expected = samples.iter().filter(wanted).count() as u64;
                for every in [1, 2, 1_000] {
                    let mut found = 0;
                    let cut = |begin_ms: i64| begin_ms / HOUR_MS % every == 0;
                    store
                        .addends(&range, &cut, &mut |addend| found += addend.sums.requests)
                        .unwrap();
                    assert_eq!(found, expected, "{range:?} {every}");
                }
            }
        }
    }
}

#[test]
fn sums_saturate() {
    let large = Sums {
        requests: u64::MAX,
        cost_nano_usd: Some(i64::MAX),
        usage: Usage { total: u64::MAX, ..Usage::default() },
        ..Sums::default()
    };
    let mut sums = Sums::default();
    sums.add(&Sums::default());
    assert_eq!(sums.cost_nano_usd, None);
    sums.add(&large);
    sums.add(&large);
    assert_eq!(sums, large);
}
