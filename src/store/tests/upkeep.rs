//! What time does to the store.

use super::super::samples::{HOUR_MS, Sample, store_with};
use crate::clock::AHEAD_MAX_MS;

#[test]
fn rows_bear_witness_that_lie_apart_but_not_too_far() {
    const STEADY_MS: i64 = 600_000;
    const AT_MS: i64 = 10_000 * HOUR_MS;
    let witnessed_ms = |rows: &[(i64, Option<i64>)]| {
        let (_dir, mut store) = store_with(&[]);
        for (id, (at_ms, made_at_ms)) in (1..).zip(rows) {
            let sample = Sample { id, at_ms: *at_ms, ..Sample::default() };
            let row = match made_at_ms {
                Some(ms) => sample.row_made_at(*ms as u64),
                None => sample.row(),
            };
            store.append(&[row], &[]).unwrap();
        }
        store.witnessed_ms(STEADY_MS).unwrap()
    };
    let by = |before_ms: i64| witnessed_ms(&[(AT_MS - before_ms, None), (AT_MS, None)]);
    assert_eq!(witnessed_ms(&[]), None);
    assert_eq!(witnessed_ms(&[(AT_MS, None)]), None);
    assert_eq!((by(STEADY_MS - 1), by(AHEAD_MAX_MS + 1)), (None, None));
    assert_eq!((by(STEADY_MS), by(AHEAD_MAX_MS)), (Some(AT_MS), Some(AT_MS)));
    // The date of the id counts where it is earlier.
    let first = (AT_MS - HOUR_MS, None);
    assert_eq!(witnessed_ms(&[first, (9 * AT_MS, Some(AT_MS))]), Some(AT_MS));
    assert_eq!(witnessed_ms(&[first, (AT_MS, Some(9 * AT_MS))]), Some(AT_MS));
    // Those that were stored later, but have no witness, are passed over.
    let alone = [(9 * AT_MS, None), (9 * AT_MS + 1, None), (AT_MS - 900 * HOUR_MS, None)];
    let rows = [&[first, (AT_MS, None)], &alone[..]].concat();
    assert_eq!(witnessed_ms(&rows), Some(AT_MS));
}
