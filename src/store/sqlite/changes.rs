//! What of the tenants and keys has changed since a version: what a running server reads, instead of
//! all there is, however many keys there are.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use super::keys::rows::{CHANGED_KEYS, CHANGED_TENANTS, each_key, each_tenant};
use super::{Change, Changes, KeysVersion, Reading, Sqlite, StoreError};

/// Before every version that there is.
const BEGINNING: i64 = -1;

const DELETED: &str = "SELECT kind, id FROM deletions WHERE version > ?1 ORDER BY version";

const VERSION: &str =
    "SELECT keys_version, stamp FROM meta JOIN key_stamps ON version = keys_version";
const STAMP: &str = "SELECT stamp FROM key_stamps WHERE version = ?1";

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

/// [`Changes`] as they stand in the tables.
#[derive(Debug)]
struct Read<'s> {
    tx: Reading<'s>,
    path: &'s Path,
    since: i64,
    version: KeysVersion,
}

impl Sqlite {
    pub(super) fn changes(
        &self,
        known: Option<KeysVersion>,
    ) -> Result<Box<dyn Changes + '_>, StoreError> {
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
        Ok(Box::new(Read { tx, path: &self.path, since, version }))
    }
}

impl Changes for Read<'_> {
    fn version(&self) -> KeysVersion {
        self.version
    }

    fn is_all(&self) -> bool {
        self.since == BEGINNING
    }

    fn each(
        &self,
        each: &mut dyn FnMut(Change) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.read_each(each).map_err(|error| error.at(self.path))
    }
}

impl Read<'_> {
    fn read_each(
        &self,
        each: &mut dyn FnMut(Change) -> Result<(), StoreError>,
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
    use super::super::keys::rows::{ONE_KEY, ONE_TENANT};
    use super::*;
    use crate::store::Store;
    use crate::store::samples::{new_key, store_with};
    use crate::store::tests::changes::Reader;
    use crate::tenancy::Limits;

    #[test]
    fn a_change_is_read_alone_among_many_keys() {
        let (_dir, mut store) = store_with(&[]);
        let of = |number: u64| new_key(number, ["acme", "beta"][number as usize % 2]);
        store.create_keys(&(0..1_000).map(of).collect::<Vec<_>>(), 5).unwrap();
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
                |store| {
                    drop(store.create_keys(
                        &(2_000..2_300).map(|n| new_key(n, "acme")).collect::<Vec<_>>(),
                        9,
                    ))
                },
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
            store.create_keys(&[new_key(1, "acme"), new_key(2, "acme")], 5).unwrap();
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

    #[test]
    fn what_fails_while_changes_are_read_says_of_which_file() {
        let (_dir, mut store) = store_with(&[]);
        store.create_key(&new_key(1, "acme"), 1).unwrap();
        let changes = store.changes(None).unwrap();
        store.connection().execute_batch("ALTER TABLE keys RENAME COLUMN name TO x").unwrap();
        let error = changes.each(&mut |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("weir.sqlite fails"), "{error}");
    }
}
