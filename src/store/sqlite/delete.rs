//! Deleting keys and tenants. Their rows and roll-ups stay, under id and name, and are reported as before:
//! what was used was used.

use rusqlite::{Transaction, params};

use crate::tenancy::{Key, Tenant};

use super::keys::rows::{KEY_AT, each_key, key, tenant};
use super::lock_wait::others_turn;
use super::{Sqlite, StoreError};

/// Keys deleted in one transaction, at most: other writers wait for its end.
const BATCH: usize = 4_000;

/// Keys that were revoked or had expired by ?2. What a clock that is ahead takes for expired stays: it may
/// be alive, and a key that is deleted is gone for good.
const ENDED: &str = "SELECT rowid FROM keys WHERE rowid > ?1 AND (revoked_at_ms <= ?2
    OR expires_at_ms <= (SELECT min(?2, coalesce(confirmed_ms, ?2)) FROM meta))
    ORDER BY rowid LIMIT ?3";
const ALIVE: &str = "SELECT count(*) FROM keys WHERE tenant = ?1 AND revoked_at_ms IS NULL
    AND coalesce(expires_at_ms > (SELECT min(?2, coalesce(confirmed_ms, ?2)) FROM meta), TRUE)";
const CONFIRMED: &str = "SELECT min(?1, coalesce(confirmed_ms, ?1)) FROM meta";

impl Sqlite {
    /// What has ended beyond doubt is in [`ENDED`].
    pub(super) fn delete_key(
        &mut self,
        id: &str,
        force: bool,
        now_ms: i64,
    ) -> Result<Key, StoreError> {
        let tx = self.write_synced()?;
        let key = key(&tx, id)?;
        let confirmed_ms: i64 = tx.query_row(CONFIRMED, [now_ms], |row| row.get(0))?;
        let is_revoked = key.revoked_at_ms.is_some();
        let has_expired = key.expires_at_ms.is_some_and(|end_ms| end_ms <= confirmed_ms);
        if !force && !is_revoked && !has_expired {
            return Err(StoreError::KeyAlive(id.to_owned()));
        }
        let rowid = "SELECT rowid FROM keys WHERE id = ?1";
        remove_key(&tx, tx.query_row(rowid, [id], |row| row.get(0))?)?;
        tx.commit()?;
        self.require_in_place()?;
        Ok(key)
    }

    pub(super) fn delete_ended_keys(&mut self, until_ms: i64) -> Result<Vec<Key>, StoreError> {
        self.delete_ended_in_turns(until_ms, others_turn)
    }

    fn delete_ended_in_turns(
        &mut self,
        until_ms: i64,
        mut others_turn: impl FnMut(),
    ) -> Result<Vec<Key>, StoreError> {
        let mut deleted = Vec::new();
        let mut last_rowid = i64::MIN;
        loop {
            let tx = self.write_synced()?;
            let ended = rowids(&tx, ENDED, params![last_rowid, until_ms, BATCH as i64])?;
            for rowid in &ended {
                each_key(&tx, KEY_AT, [rowid], |key| {
                    deleted.push(key);
                    Ok(())
                })?;
                remove_key(&tx, *rowid)?;
                last_rowid = *rowid;
            }
            tx.commit()?;
            self.require_in_place()?;
            if ended.len() < BATCH {
                return Ok(deleted);
            }
            others_turn();
        }
    }

    pub(super) fn delete_tenant(
        &mut self,
        name: &str,
        force: bool,
        now_ms: i64,
    ) -> Result<(Tenant, usize), StoreError> {
        self.delete_tenant_in_turns(name, force, now_ms, others_turn)
    }

    fn delete_tenant_in_turns(
        &mut self,
        name: &str,
        force: bool,
        now_ms: i64,
        mut others_turn: impl FnMut(),
    ) -> Result<(Tenant, usize), StoreError> {
        let mut keys = 0;
        loop {
            let tx = self.write_synced()?;
            let tenant = tenant(&tx, name)?;
            if !force {
                let alive: u32 = tx.query_row(ALIVE, params![name, now_ms], |row| row.get(0))?;
                if alive > 0 {
                    return Err(StoreError::TenantInUse { name: name.to_owned(), keys: alive });
                }
            }
            let of_tenant = "SELECT rowid FROM keys WHERE tenant = ?1 LIMIT ?2";
            let of_tenant = rowids(&tx, of_tenant, params![name, BATCH as i64])?;
            for rowid in &of_tenant {
                remove_key(&tx, *rowid)?;
            }
            keys += of_tenant.len();
            let is_last = of_tenant.len() < BATCH;
            if is_last {
                tx.execute("DELETE FROM tenants WHERE name = ?1", [name])?;
            }
            tx.commit()?;
            self.require_in_place()?;
            if is_last {
                return Ok((tenant, keys));
            }
            others_turn();
        }
    }

    pub(super) fn knows_key(&self, id: &str) -> Result<bool, StoreError> {
        let known = "SELECT 1 FROM keys WHERE id = ?1
            UNION ALL SELECT 1 FROM deletions WHERE kind = 'key' AND id = ?1";
        Ok(self.conn.prepare_cached(known)?.exists([id])?)
    }

    pub(super) fn knows_tenant(&self, name: &str) -> Result<bool, StoreError> {
        let known = "SELECT 1 FROM tenants WHERE name = ?1
            UNION ALL SELECT 1 FROM deletions WHERE kind = 'tenant' AND id = ?1";
        Ok(self.conn.prepare_cached(known)?.exists([name])?)
    }
}

fn rowids(
    tx: &Transaction<'_>,
    sql: &str,
    params: impl rusqlite::Params,
) -> Result<Vec<i64>, StoreError> {
    let mut statement = tx.prepare_cached(sql)?;
    let found = statement.query_map(params, |row| row.get(0))?;
    Ok(found.collect::<Result<_, _>>()?)
}

fn remove_key(tx: &Transaction<'_>, rowid: i64) -> Result<(), StoreError> {
    let secrets = "DELETE FROM secrets WHERE key_id = (SELECT id FROM keys WHERE rowid = ?1)";
    tx.prepare_cached(secrets)?.execute([rowid])?;
    tx.prepare_cached("DELETE FROM keys WHERE rowid = ?1")?.execute([rowid])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{NewKey, Range};
    use super::*;
    use crate::store::Store;
    use crate::store::samples::{Sample, new_key, store_with};

    const ALL: Range<'_> =
        Range { from_ms: i64::MIN, until_ms: i64::MAX, key: None, tenant: None, model: None };

    fn ids(store: &Store) -> Vec<String> {
        store.keys().unwrap().iter().map(|key| key.id.to_string()).collect()
    }

    fn requests(store: &Store, range: &Range<'_>) -> u64 {
        let mut sum = 0;
        store.addends(range, &|_| true, &mut |addend| sum += addend.sums.requests).unwrap();
        sum
    }

    #[test]
    fn only_a_key_that_has_ended_is_deleted_unless_it_has_to_be() {
        let (_dir, mut store) = store_with(&[Sample { key: "key_1", ..Sample::default() }]);
        let expiring = |number| NewKey { expires_at_ms: Some(50), ..new_key(number, "acme") };
        for new in [new_key(1, "acme"), new_key(2, "acme"), expiring(3), new_key(4, "acme")] {
            store.create_key(&new, 1).unwrap();
        }
        let error = store.delete_key("key_1", false, 49).unwrap_err();
        assert!(error.to_string().contains("weir key revoke key_1"), "{error}");
        assert!(matches!(store.delete_key("key_3", false, 49), Err(StoreError::KeyAlive(_))));
        store.delete_key("key_3", false, 50).unwrap();
        store.revoke_key("key_1", 60).unwrap();
        let deleted = store.delete_key("key_1", false, 60).unwrap();
        assert_eq!((&*deleted.id, deleted.revoked_at_ms), ("key_1", Some(60)));
        store.delete_key("key_2", true, 60).unwrap();
        assert_eq!(ids(&store), ["key_4"]);
        let error = store.delete_key("key_1", true, 60).unwrap_err();
        assert!(matches!(error, StoreError::UnknownKey(_)), "{error}");
        // No secret is left behind, and what the key used is still there.
        let secrets = "SELECT count(*) FROM secrets";
        let secrets: u32 = store.connection().query_row(secrets, [], |row| row.get(0)).unwrap();
        assert_eq!(secrets, 1);
        assert_eq!(requests(&store, &Range { key: Some("key_1"), ..ALL }), 1);
        assert!(store.knows_key("key_1").unwrap() && !store.knows_key("key_9").unwrap());
    }

    #[test]
    fn those_that_ended_long_ago_go_together() {
        let (_dir, mut store) = store_with(&[]);
        // Of eight, four are more than a batch, two have expired, and two are alive.
        let count = 2 * BATCH as u64 + 8;
        store
            .create_keys(&(0..count).map(|number| new_key(number, "acme")).collect::<Vec<_>>(), 1)
            .unwrap();
        let end = "UPDATE keys SET revoked_at_ms = iif(rowid % 4 < 2, 40, NULL),
            expires_at_ms = iif(rowid % 4 = 2, 41, NULL)";
        store.connection().execute(end, []).unwrap();
        assert_eq!(store.delete_ended_keys(39).unwrap(), []);
        let quarter = count as usize / 4;
        let mut turns = 0;
        let deleted = store.sqlite_mut().delete_ended_in_turns(40, || turns += 1).unwrap();
        assert_eq!((deleted.len(), turns), (2 * quarter, 1), "others write in between");
        store.confirm(None, 40).unwrap();
        assert_eq!(store.delete_ended_keys(99).unwrap(), [], "by a clock that may be wrong");
        store.confirm(Some(40), 41).unwrap();
        let expired = store.delete_ended_keys(99).unwrap();
        assert!(expired.iter().all(|key| key.expires_at_ms == Some(41)));
        assert_eq!(expired.len(), quarter);
        assert_eq!(ids(&store).len(), quarter);
        assert_eq!(store.delete_ended_keys(99).unwrap(), []);
    }

    #[test]
    fn a_tenant_goes_with_its_keys_and_only_without_those_that_live_unless_it_has_to() {
        let (dir, mut store) = store_with(&[Sample::default()]);
        let count = BATCH as u64 + 1;
        store
            .create_keys(&(0..count).map(|number| new_key(number, "acme")).collect::<Vec<_>>(), 1)
            .unwrap();
        store.create_keys(&[new_key(count, "beta")], 1).unwrap();
        let revoke = "UPDATE keys SET revoked_at_ms = 5 WHERE id NOT IN ('key_2', 'key_3')";
        store.connection().execute(revoke, []).unwrap();
        let error = store.delete_tenant("acme", false, 9).unwrap_err();
        assert!(matches!(error, StoreError::TenantInUse { keys: 2, .. }), "{error}");
        assert_eq!(ids(&store).len() as u64, count + 1, "none of its keys is gone");
        let other = rusqlite::Connection::open(dir.path().join(super::super::FILE_NAME)).unwrap();
        other.busy_timeout(std::time::Duration::ZERO).unwrap();
        let mut turns = 0;
        let write = || turns += other.execute("UPDATE meta SET removals = removals", []).unwrap();
        let (tenant, keys) =
            store.sqlite_mut().delete_tenant_in_turns("acme", true, 9, write).unwrap();
        assert_eq!((&*tenant.name, keys as u64), ("acme", count));
        assert_eq!(turns, 1, "between two batches others write");
        assert_eq!(store.delete_tenant("beta", false, 9).unwrap().1, 1);
        assert_eq!((store.tenants().unwrap(), ids(&store)), (vec![], vec![]));
        let error = store.delete_tenant("acme", true, 9).unwrap_err();
        assert!(matches!(error, StoreError::UnknownTenant(_)), "{error}");
        assert_eq!(requests(&store, &Range { tenant: Some("acme"), ..ALL }), 1);
        assert!(store.knows_tenant("acme").unwrap() && !store.knows_tenant("x").unwrap());
    }
}
