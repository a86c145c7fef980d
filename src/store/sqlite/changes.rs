//! What of the tenants and keys has changed since a version: what a running server reads, instead of
//! all there is, however many keys there are.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction};

use crate::tenancy::{Key, Tenant};

use super::keys::rows::{CHANGED_KEYS, CHANGED_TENANTS, each_key, each_tenant};
use super::{Store, StoreError};

/// Before every version that there is.
const BEGINNING: i64 = -1;

const DELETED: &str = "SELECT kind, id FROM deletions WHERE version > ?1 ORDER BY version";

const VERSION: &str =
    "SELECT keys_version, stamp FROM meta JOIN key_stamps ON version = keys_version";
const STAMP: &str = "SELECT stamp FROM key_stamps WHERE version = ?1";

/// What the tenants and keys are at one moment. A number alone would be a count: a backup that was restored, and then
/// changed as often, has come to the same, and to other keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeysVersion {
    /// Grows with each change.
    pub(super) number: i64,
    /// Of this one in this history, by chance.
    stamp: i64,
}

impl KeysVersion {
    pub(super) fn of(conn: &Connection) -> Result<Self, StoreError> {
        let version = conn
            .prepare_cached(VERSION)?
            .query_row([], |row| Ok(Self { number: row.get(0)?, stamp: row.get(1)? }))?;
        Ok(version)
    }

    /// Whether what is there now has come from this one.
    fn is_past_of(self, conn: &Connection) -> Result<bool, StoreError> {
        let stamp = conn.prepare_cached(STAMP)?.query_row([self.number], |row| row.get(0));
        Ok(stamp.optional()? == Some(self.stamp))
    }
}

/// One thing that has changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    KeyDeleted(Arc<str>),
    TenantDeleted(Arc<str>),
    /// A new or changed tenant, as it is now, readable or not.
    Tenant(Tenant),
    /// A new or changed key, as it is now, readable or not, or one whose secrets have changed.
    Key(Key),
}

/// The changes from one version to another, as they were at one moment.
#[derive(Debug)]
pub(crate) struct Changes<'s> {
    tx: Transaction<'s>,
    since: i64,
    /// The version that one has who has taken them all.
    pub(crate) version: KeysVersion,
}

impl Store {
    /// What has changed since `known`, a version from earlier [`Changes`]; all there is without one, where that is
    /// not the past of what is there, and where what was deleted since is not all known any more.
    pub(crate) fn changes(&self, known: Option<KeysVersion>) -> Result<Changes<'_>, StoreError> {
        let tx = self.read()?;
        let version = KeysVersion::of(&tx)?;
        let first = "SELECT number, version FROM deletions ORDER BY number LIMIT 1";
        let first = tx.query_row(first, [], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let is_pruned = |known: i64| {
            first.is_some_and(|(number, version): (i64, i64)| number > 1 && known < version - 1)
        };
        let since = match known {
            Some(known) if known.is_past_of(&tx)? && !is_pruned(known.number) => known.number,
            _ => BEGINNING,
        };
        Ok(Changes { tx, since, version })
    }
}

impl Changes<'_> {
    /// Whether this is all there is: what it does not name was deleted.
    pub(crate) fn is_all(&self) -> bool {
        self.since == BEGINNING
    }

    /// Hands them over: first what was deleted, for its name may be there again, then tenants, then their
    /// keys.
    pub(crate) fn each(
        &self,
        mut each: impl FnMut(Change) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if !self.is_all() {
            let mut statement = self.tx.prepare_cached(DELETED)?;
            let mut rows = statement.query([self.since])?;
            while let Some(row) = rows.next()? {
                // One that is no UTF-8 names what was never read.
                let Ok(id) = row.get(1) else { continue };
                each(match row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)? {
                    "tenant" => Change::TenantDeleted(id),
                    _ => Change::KeyDeleted(id),
                })?;
            }
        }
        let since = [self.since];
        each_tenant(&self.tx, CHANGED_TENANTS, since, |tenant| each(Change::Tenant(tenant)))?;
        each_key(&self.tx, CHANGED_KEYS, since, |key| each(Change::Key(key)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::keys::rows::{ONE_KEY, ONE_TENANT};
    use super::super::samples::{new_key, store_with};
    use super::*;
    use crate::tenancy::Limits;

    /// Somebody who follows a store.
    #[derive(Default)]
    struct Reader {
        version: Option<KeysVersion>,
        tenants: BTreeMap<Arc<str>, Tenant>,
        keys: BTreeMap<Arc<str>, Key>,
    }

    impl Reader {
        /// Takes what has changed; returns how many changes that were, and whether it was all there is.
        fn follow(&mut self, store: &Store) -> (usize, bool) {
            let changes = store.changes(self.version).unwrap();
            let mut count = 0;
            if changes.is_all() {
                *self = Self::default();
            }
            let take = |change| {
                count += 1;
                match change {
                    Change::KeyDeleted(id) => drop(self.keys.remove(&id)),
                    Change::TenantDeleted(name) => drop(self.tenants.remove(&name)),
                    Change::Tenant(tenant) => {
                        drop(self.tenants.insert(tenant.name.clone(), tenant))
                    }
                    Change::Key(key) => drop(self.keys.insert(key.id.clone(), key)),
                }
                Ok(())
            };
            changes.each(take).unwrap();
            self.version = Some(changes.version);
            assert_eq!(self.version, Some(store.keys_version().unwrap()));
            (count, changes.is_all())
        }

        fn assert_equals(&self, store: &Store) {
            let mut keys = store.keys().unwrap();
            keys.sort_by(|a, b| a.id.cmp(&b.id));
            assert_eq!(self.keys.values().cloned().collect::<Vec<_>>(), keys);
            let tenants = store.tenants().unwrap();
            assert_eq!(self.tenants.values().cloned().collect::<Vec<_>>(), tenants);
        }
    }

    #[test]
    fn a_change_is_read_alone_among_many_keys() {
        let (_dir, mut store) = store_with(&[]);
        let of = |number: u64| new_key(number, ["acme", "beta"][number as usize % 2]);
        store.create_keys((0..1_000).map(of), 5).unwrap();
        let mut reader = Reader::default();
        assert_eq!(reader.follow(&store), (1_002, true));
        assert_eq!(reader.follow(&store), (0, false));
        type Step = fn(&mut Store);
        let steps: [(&str, Step, usize); 11] = [
            ("set key", |store| drop(store.set_key("key_7", |key| key.cut = true)), 1),
            (
                "set tenant",
                |store| drop(store.set_tenant("beta", |one| one.limits.rpm = Some(1))),
                1,
            ),
            ("revoke", |store| drop(store.revoke_key("key_8", 9)), 1),
            (
                "rotate",
                |store| drop(store.rotate_key("key_9", &new_key(5_000, "").secret, 99, 9)),
                1,
            ),
            ("create", |store| drop(store.create_key(&new_key(1_000, "acme"), 9)), 1),
            ("create both", |store| drop(store.create_key(&new_key(1_001, "new"), 9)), 2),
            ("delete key", |store| drop(store.delete_key("key_8", false, 9)), 1),
            ("delete tenant", |store| drop(store.delete_tenant("new", true, 9)), 2),
            ("nothing", |store| drop(store.set_key("key_nobody", |_| ())), 0),
            (
                "many",
                |store| drop(store.create_keys((2_000..2_300).map(|n| new_key(n, "acme")), 9)),
                300,
            ),
            (
                "made again",
                |store| drop(store.create_tenant("new", &Limits::default(), None, 10)),
                1,
            ),
        ];
        for (what, step, changes) in steps {
            step(&mut store);
            assert_eq!(reader.follow(&store), (changes, false), "{what}");
            reader.assert_equals(&store);
        }
        for (statement, changes) in [
            ("UPDATE keys SET rpm = 3 WHERE id IN ('key_1', 'key_2')", 2),
            ("UPDATE secrets SET last4 = 'wxyz' WHERE key_id = 'key_3'", 1),
            // A secret that is given to another key changes both.
            ("UPDATE secrets SET key_id = 'key_4' WHERE key_id = 'key_5'", 2),
            ("DELETE FROM secrets WHERE key_id = 'key_4'", 1),
            // Under another name it is another one, and the old one is gone.
            ("UPDATE keys SET id = 'key_x' WHERE id = 'key_5'", 2),
            ("UPDATE tenants SET name = 'newer' WHERE name = 'new'", 2),
            ("DELETE FROM tenants WHERE name = 'newer'", 1),
        ] {
            store.connection().execute(statement, []).unwrap();
            assert_eq!(reader.follow(&store), (changes, false), "{statement}");
            reader.assert_equals(&store);
        }
    }

    #[test]
    fn who_has_missed_deletions_or_knows_another_file_reads_everything() {
        let (_dir, mut store) = store_with(&[]);
        store.create_key(&new_key(1, "acme"), 5).unwrap();
        store.create_key(&new_key(2, "acme"), 5).unwrap();
        let mut late = Reader::default();
        late.follow(&store);
        store.delete_key("key_1", true, 6).unwrap();
        // As many others, one after the other.
        let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 99999)
            INSERT INTO deletions (version, kind, id)
            SELECT keys_version + i, 'key', 'key_other' FROM n, meta";
        store.connection().execute(many, []).unwrap();
        let raise = "UPDATE meta SET keys_version = keys_version + 99999";
        store.connection().execute(raise, []).unwrap();
        assert!(!store.changes(late.version).unwrap().is_all(), "all of them are kept");
        store.delete_key("key_2", true, 6).unwrap();
        let rows = "SELECT count(*) FROM deletions";
        let rows: i64 = store.connection().query_row(rows, [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 100_000);
        assert_eq!(late.follow(&store), (1, true));
        late.assert_equals(&store);
        assert_eq!(late.follow(&store), (0, false));
        let version = late.version.unwrap();
        for another in [
            KeysVersion { number: version.number + 1, ..version },
            KeysVersion { stamp: version.stamp ^ 1, ..version },
        ] {
            assert!(store.changes(Some(another)).unwrap().is_all());
        }
    }

    /// A key is revoked; a backup from before is restored, and changed as often or more: that is another history.
    #[test]
    fn what_a_restored_backup_has_become_is_read_whole() {
        for changes_since in 0..4 {
            let (dir, mut store) = store_with(&[]);
            store.create_keys([new_key(1, "acme"), new_key(2, "acme")], 5).unwrap();
            let backup = dir.path().join("copy.sqlite");
            let no_word: Option<fn(rusqlite::backup::Progress)> = None;
            store.connection().backup("main", &backup, no_word).unwrap();
            let mut reader = Reader::default();
            reader.follow(&store);
            store.set_key("key_1", |key| key.cut = true).unwrap();
            store.revoke_key("key_2", 6).unwrap();
            assert_eq!(reader.follow(&store), (2, false));
            let mut other = Connection::open(store.path()).unwrap();
            other.restore("main", &backup, no_word).unwrap();
            for at in 0..changes_since {
                store.set_key("key_2", |key| key.created_at_ms = at).unwrap();
                store.set_key("key_2", |key| key.clamp = at % 2 == 0).unwrap();
            }
            assert_eq!(reader.follow(&store), (3, true), "{changes_since}");
            reader.assert_equals(&store);
        }
    }

    #[test]
    fn no_change_reads_all_keys() {
        let (_dir, store) = store_with(&[]);
        for sql in [CHANGED_TENANTS, CHANGED_KEYS, DELETED, STAMP, ONE_KEY, ONE_TENANT] {
            let mut plan =
                store.connection().prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let steps = plan.query_map(["1"], |row| row.get::<_, String>(3)).unwrap();
            let steps: Vec<_> = steps.collect::<Result<_, _>>().unwrap();
            let is_found = |step: &String| step.starts_with("SEARCH ");
            assert!(steps.iter().all(is_found), "{sql}: {steps:#?}");
            // What is asked of a secret stands in the index.
            let secrets = "SEARCH s USING COVERING INDEX secrets_by_key (key_id=?)";
            let joins = sql.contains("JOIN");
            assert!(!joins || steps.iter().any(|step| step.starts_with(secrets)), "{steps:#?}");
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
            Op::Create { key, tenant } => {
                drop(store.create_key(&new_key(key, NAMES[tenant]), at_ms))
            }
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
}
