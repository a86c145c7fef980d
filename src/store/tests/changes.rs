//! Following what changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::super::samples::{new_key, store_with};
use super::super::{Change, KeysVersion, Store};
use crate::tenancy::{Key, Tenant};

/// Somebody who follows a store.
#[derive(Default)]
pub(in crate::store) struct Reader {
    pub(in crate::store) version: Option<KeysVersion>,
    pub(in crate::store) tenants: BTreeMap<Arc<str>, Tenant>,
    pub(in crate::store) keys: BTreeMap<Arc<str>, Key>,
}

impl Reader {
    /// Takes what has changed; returns how many changes that were, and whether it was all there is.
    pub(in crate::store) fn follow(&mut self, store: &Store) -> (usize, bool) {
        let changes = store.changes(self.version).unwrap();
        let mut count = 0;
        if changes.is_all() {
            *self = Self::default();
        }
        let mut take = |change| {
            count += 1;
            match change {
                Change::KeyDeleted(id) => drop(self.keys.remove(&id)),
                Change::TenantDeleted(name) => drop(self.tenants.remove(&name)),
                Change::Tenant(tenant) => drop(self.tenants.insert(tenant.name.clone(), tenant)),
                Change::Key(key) => drop(self.keys.insert(key.id.clone(), key)),
            }
            Ok(())
        };
        changes.each(&mut take).unwrap();
        self.version = Some(changes.version());
        assert_eq!(self.version, Some(store.keys_version().unwrap()));
        (count, changes.is_all())
    }

    pub(in crate::store) fn assert_equals(&self, store: &Store) {
        let mut keys = store.keys().unwrap();
        keys.sort_by(|a, b| a.id.cmp(&b.id));
        assert_eq!(self.keys.values().cloned().collect::<Vec<_>>(), keys);
        let tenants = store.tenants().unwrap();
        assert_eq!(self.tenants.values().cloned().collect::<Vec<_>>(), tenants);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Create { key: u64, tenant: usize },
    Set { key: u64 },
    Rotate { key: u64, secret: u64 },
    Revoke { key: u64 },
    Delete { key: u64 },
    SetTenant { tenant: usize },
    DeleteTenant { tenant: usize },
    Follow,
}

const NAMES: [&str; 3] = ["acme", "beta", "gamma"];

fn op() -> impl Strategy<Value = Op> {
    let (key, tenant) = (0..12u64, 0..NAMES.len());
    prop_oneof![
        4 => (key.clone(), tenant.clone()).prop_map(|(key, tenant)| Op::Create { key, tenant }),
        2 => key.clone().prop_map(|key| Op::Set { key }),
        2 => (key.clone(), 100..120u64).prop_map(|(key, secret)| Op::Rotate { key, secret }),
        1 => key.clone().prop_map(|key| Op::Revoke { key }),
        2 => key.prop_map(|key| Op::Delete { key }),
        1 => tenant.clone().prop_map(|tenant| Op::SetTenant { tenant }),
        1 => tenant.prop_map(|tenant| Op::DeleteTenant { tenant }),
        3 => Just(Op::Follow),
    ]
}

fn id(key: u64) -> String {
    format!("key_{key}")
}

/// What can't be done is an error, and changes nothing.
fn apply(store: &mut Store, op: Op, reader: &mut Reader, at_ms: i64) {
    match op {
        Op::Create { key, tenant } => drop(store.create_key(&new_key(key, NAMES[tenant]), at_ms)),
        Op::Set { key } => drop(store.set_key(&id(key), |key| key.created_at_ms = at_ms)),
        Op::Rotate { key, secret } => {
            let secret = new_key(secret, "").secret;
            drop(store.rotate_key(&id(key), &secret, at_ms + 2, at_ms));
        }
        Op::Revoke { key } => drop(store.revoke_key(&id(key), at_ms)),
        Op::Delete { key } => drop(store.delete_key(&id(key), true, at_ms)),
        Op::SetTenant { tenant } => {
            drop(store.set_tenant(NAMES[tenant], |one| one.limits.tpm = Some(at_ms as u64)));
        }
        Op::DeleteTenant { tenant } => drop(store.delete_tenant(NAMES[tenant], true, at_ms)),
        Op::Follow => {
            let first = reader.version.is_none();
            assert_eq!(reader.follow(store).1, first);
            reader.assert_equals(store);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

    #[test]
    fn whoever_follows_has_what_is_there(ops in prop::collection::vec(op(), 1..80)) {
        let (_dir, mut store) = store_with(&[]);
        let mut reader = Reader::default();
        for (at_ms, op) in ops.into_iter().chain([Op::Follow]).enumerate() {
            apply(&mut store, op, &mut reader, at_ms as i64);
        }
    }
}
