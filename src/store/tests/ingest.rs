//! What the drain writes.

use super::super::samples::{Sample, store_with};
use super::super::{Position, Store};
use crate::record::ResponseOwner;

#[test]
fn positions_are_kept_moved_and_forgotten() {
    let (_dir, mut store) = store_with(&[]);
    let at = |segment: &str, offset| Position { segment: segment.to_owned(), offset };
    store.append(&[], &[at("1", 10), at("1-ab", 15), at("11-ab", 20)]).unwrap();
    store.append(&[Sample::default().row()], &[at("1", 30)]).unwrap();
    let other = store.another().unwrap();
    assert_eq!(other.positions().unwrap(), [at("1", 30), at("1-ab", 15), at("11-ab", 20)]);
    assert_eq!((other.position("1").unwrap(), other.position("1-cd").unwrap()), (30, 0));
    store.forget_segments(&[1, 2]).unwrap();
    assert_eq!(other.positions().unwrap(), [at("11-ab", 20)]);
    store.begin_drain(&[11]).unwrap();
    assert_eq!(other.positions().unwrap(), [at("11-ab", 20)]);
    store.begin_drain(&[1]).unwrap();
    assert_eq!(other.positions().unwrap(), []);
}

fn known(store: &Store) -> Vec<u64> {
    let mut known = Vec::new();
    store.response_owners(&mut |_, owner| known.push(owner.0)).expect("reads");
    known
}

#[test]
fn owners_come_once_with_their_rows_and_the_latest_stay() {
    let (_dir, mut store) = store_with(&[]);
    store.keep_response_owners(5);
    let row = |id: u64| {
        let mut row = Sample { id, ..Sample::default() }.row();
        // Every other one is of no response that is kept.
        let owner = id.is_multiple_of(2).then_some(ResponseOwner(u64::MAX - id));
        row.closed.owners = owner.into_iter().collect();
        row
    };
    let owner = |id: u64| u64::MAX - id;
    let rows: Vec<_> = (0..6).map(row).collect();
    assert_eq!(store.append(&rows, &[]).expect("writes"), 6);
    assert_eq!(store.append(&rows[..4], &[]).expect("a replay"), 0);
    assert_eq!(known(&store), [owner(0), owner(2), owner(4)]);
    // Rows go, by retention, and what they brought stays.
    store.expire(i64::MAX, 100, &mut || ()).expect("deletes");
    assert_eq!(known(&store.another().expect("opens")), known(&store));
    let more: Vec<_> = (6..20).map(row).collect();
    store.append(&more, &[]).expect("writes");
    assert_eq!(known(&store), [10, 12, 14, 16, 18].map(owner));
    // With fewer to be kept, the surplus goes in steps.
    store.keep_response_owners(2);
    store.append(&[row(20)], &[]).expect("writes");
    assert_eq!(known(&store), [18, 20].map(owner));
}

#[test]
fn a_tenant_that_makes_many_pushes_out_its_own() {
    let (_dir, mut store) = store_with(&[]);
    store.keep_response_owners(100);
    let row = |id: u64, tenant: &str| {
        let mut row = Sample { id, tenant, ..Sample::default() }.row();
        row.closed.owners = [ResponseOwner(id)].into();
        row
    };
    let few: Vec<_> = (0..20).map(|id| row(id, "other")).collect();
    store.append(&few, &[]).expect("writes");
    for from in (1_000..2_000).step_by(50) {
        let many: Vec<_> = (from..from + 50).map(|id| row(id, "acme")).collect();
        store.append(&many, &[]).expect("writes");
    }
    let kept: Vec<_> = (0..20).chain(1_920..2_000).collect();
    assert_eq!(known(&store), kept);
    assert_eq!(known(&store.another().expect("opens")), kept);
}
