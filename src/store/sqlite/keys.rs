//! Tenants and keys. Each change raises the version that a running server polls.

mod names;
pub(super) mod rows;
mod suspend;

use rusqlite::types::Value;
use rusqlite::{Transaction, named_params};

use crate::tenancy::{Key, Limits, Secret, Tenant};

use super::{KeysVersion, NewKey, Sqlite, StoreError};
use rows::{
    ALL_KEYS, ALL_TENANTS, KEY_WITH, columns_of_key, columns_of_tenant, each_key, each_tenant, key,
    limits_to_sql, models_to_sql, tenant, with_limits,
};

impl Sqlite {
    pub(super) fn keys_version(&self) -> Result<KeysVersion, StoreError> {
        KeysVersion::of(&self.conn)
    }

    pub(super) fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        let mut all = Vec::new();
        each_tenant(&*self.read()?, ALL_TENANTS, [], |tenant| {
            all.push(tenant);
            Ok(())
        })?;
        Ok(all)
    }

    pub(super) fn keys(&self) -> Result<Vec<Key>, StoreError> {
        let mut all = Vec::new();
        each_key(&*self.read()?, ALL_KEYS, [], |key| {
            all.push(key);
            Ok(())
        })?;
        Ok(all)
    }

    pub(super) fn key_with(&self, digest: &[u8; 32]) -> Result<Option<(Key, Secret)>, StoreError> {
        let mut found = None;
        each_key(&*self.read()?, KEY_WITH, [digest], |key| {
            found = Some(key);
            Ok(())
        })?;
        Ok(found.and_then(|key| {
            let secret = key.secrets.iter().find(|secret| secret.digest == *digest)?.clone();
            Some((key, secret))
        }))
    }

    pub(super) fn create_tenant(
        &mut self,
        name: &str,
        limits: &Limits,
        time_zone: Option<&str>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let tx = self.write_synced()?;
        if !add_tenant(&tx, name, limits, time_zone, now_ms)? {
            return Err(StoreError::TenantExists(name.to_owned()));
        }
        tx.commit()?;
        self.require_in_place()
    }

    pub(super) fn change_tenant(
        &mut self,
        name: &str,
        change: &mut dyn FnMut(&mut Tenant),
    ) -> Result<Tenant, StoreError> {
        let tx = self.write_synced()?;
        let mut changed = tenant(&tx, name)?;
        let before = columns_of_tenant(&changed);
        change(&mut changed);
        for (column, value) in differing(before, columns_of_tenant(&changed)) {
            let set = format!("UPDATE tenants SET {column} = ?2 WHERE name = ?1");
            tx.execute(&set, (name, value))?;
        }
        let tenant = tenant(&tx, name)?;
        tx.commit()?;
        self.require_in_place()?;
        Ok(tenant)
    }

    pub(super) fn create_key(&mut self, new: &NewKey, now_ms: i64) -> Result<bool, StoreError> {
        let tx = self.write_synced()?;
        let tenant_is_new = add_key(&tx, new, now_ms)?;
        tx.commit()?;
        self.require_in_place()?;
        Ok(tenant_is_new)
    }

    pub(super) fn create_keys(&mut self, new: &[NewKey], now_ms: i64) -> Result<(), StoreError> {
        let tx = self.write_synced()?;
        for new in new {
            add_key(&tx, new, now_ms)?;
        }
        tx.commit()?;
        self.require_in_place()
    }

    pub(super) fn change_key(
        &mut self,
        id: &str,
        change: &mut dyn FnMut(&mut Key),
    ) -> Result<Key, StoreError> {
        let tx = self.write_synced()?;
        let mut changed = key(&tx, id)?;
        let before = columns_of_key(&changed);
        change(&mut changed);
        for (column, value) in differing(before, columns_of_key(&changed)) {
            tx.execute(&format!("UPDATE keys SET {column} = ?2 WHERE id = ?1"), (id, value))?;
        }
        let key = key(&tx, id)?;
        tx.commit()?;
        self.require_in_place()?;
        Ok(key)
    }

    pub(super) fn rotate_key(
        &mut self,
        id: &str,
        secret: &Secret,
        old_until_ms: i64,
        now_ms: i64,
    ) -> Result<Key, StoreError> {
        let tx = self.write_synced()?;
        if key(&tx, id)?.revoked_at_ms.is_some() {
            return Err(StoreError::Revoked(id.to_owned()));
        }
        tx.execute(
            "UPDATE secrets SET expires_at_ms = min(coalesce(expires_at_ms, ?2), ?2)
             WHERE key_id = ?1",
            (id, old_until_ms),
        )?;
        let ended = "DELETE FROM secrets WHERE key_id = ?1 AND expires_at_ms <= iif(?3 <= ?2, ?2,
            (SELECT min(?2, coalesce(confirmed_ms, ?2)) FROM meta))";
        tx.execute(ended, (id, now_ms, old_until_ms))?;
        add_secret(&tx, id, secret)?;
        let key = key(&tx, id)?;
        tx.commit()?;
        self.require_in_place()?;
        Ok(key)
    }

    pub(super) fn revoke_key(&mut self, id: &str, now_ms: i64) -> Result<Key, StoreError> {
        let tx = self.write_synced()?;
        tx.execute(
            "UPDATE keys SET revoked_at_ms = ?2 WHERE id = ?1 AND revoked_at_ms IS NULL",
            (id, now_ms),
        )?;
        let key = key(&tx, id)?;
        tx.commit()?;
        self.require_in_place()?;
        Ok(key)
    }
}

/// The columns that are to be written: only what was changed, so that a value that can't be read stays what
/// it is until somebody gives another one.
fn differing(
    before: Vec<(&'static str, Value)>,
    after: Vec<(&'static str, Value)>,
) -> impl Iterator<Item = (&'static str, Value)> {
    before.into_iter().zip(after).filter(|(before, after)| before != after).map(|(_, after)| after)
}

/// True when its tenant is new.
fn add_key(tx: &Transaction<'_>, new: &NewKey, now_ms: i64) -> Result<bool, StoreError> {
    let tenant_is_new = add_tenant(tx, &new.tenant, &Limits::default(), None, now_ms)?;
    let limits = limits_to_sql(&new.limits);
    let others = named_params! {
        ":id": &*new.id,
        ":tenant": &*new.tenant,
        ":name": new.name,
        ":models": models_to_sql(new.models.as_deref()),
        ":created": now_ms,
        ":expires": new.expires_at_ms,
        ":clamp": new.clamp,
        ":cut": new.cut,
    };
    let insert = "INSERT INTO keys (id, tenant, name, models, created_at_ms, expires_at_ms, clamp,
            cut, rpm, tpm, concurrency, daily_tokens, monthly_tokens, daily_requests,
            monthly_requests, daily_nano_usd, monthly_nano_usd)
         VALUES (:id, :tenant, :name, :models, :created, :expires, :clamp, :cut,
            :rpm, :tpm, :concurrency, :daily_tokens, :monthly_tokens, :daily_requests,
            :monthly_requests, :daily_nano_usd, :monthly_nano_usd)";
    tx.prepare_cached(insert)?.execute(with_limits(&limits, others).as_slice())?;
    add_secret(tx, &new.id, &new.secret)?;
    Ok(tenant_is_new)
}

/// False when it is there already.
fn add_tenant(
    tx: &Transaction<'_>,
    name: &str,
    limits: &Limits,
    time_zone: Option<&str>,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let limits = limits_to_sql(limits);
    let insert = "INSERT INTO tenants (name, created_at_ms, rpm, tpm, concurrency, daily_tokens,
            monthly_tokens, daily_requests, monthly_requests, daily_nano_usd, monthly_nano_usd,
            time_zone)
         VALUES (:name, :created, :rpm, :tpm, :concurrency, :daily_tokens,
            :monthly_tokens, :daily_requests, :monthly_requests, :daily_nano_usd, :monthly_nano_usd,
            :zone)
         ON CONFLICT (name) DO NOTHING";
    let others = named_params! { ":name": name, ":created": now_ms, ":zone": time_zone };
    let changed = tx.prepare_cached(insert)?.execute(with_limits(&limits, others).as_slice())?;
    Ok(changed == 1)
}

fn add_secret(tx: &Transaction<'_>, key_id: &str, secret: &Secret) -> Result<(), StoreError> {
    let insert =
        "INSERT INTO secrets (digest, key_id, last4, expires_at_ms) VALUES (?1, ?2, ?3, ?4)";
    let values = (secret.digest, key_id, &secret.last4, secret.expires_at_ms);
    tx.prepare_cached(insert)?.execute(values)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::store::samples::{move_away, store_with, while_it_waits};
    use crate::store::tests::tenancy::new_key;

    #[test]
    fn the_version_follows_each_table_and_each_kind_of_change() {
        let (_dir, mut store) = store_with(&[]);
        store.create_key(&new_key("key_1"), 2).unwrap();
        for statement in [
            "UPDATE tenants SET rpm = 1",
            "UPDATE keys SET rpm = 1",
            "UPDATE secrets SET last4 = ''",
            "DELETE FROM secrets",
            "DELETE FROM keys",
            "DELETE FROM tenants",
        ] {
            let before = store.keys_version().unwrap().number;
            store.connection().execute(statement, []).unwrap();
            assert_eq!(store.keys_version().unwrap().number, before + 1, "{statement}");
        }
    }

    /// Who moves the files away may do so at any moment; what was written to them then is no success.
    #[test]
    fn nothing_is_told_of_files_that_were_moved_away_meanwhile() {
        type Write = fn(&mut Store) -> Result<(), StoreError>;
        let writes: [(&str, bool, Write); 3] = [
            ("revoked while it waited", true, |store| store.revoke_key("key_1", 5).map(drop)),
            ("deleted while it waited", true, |store| store.delete_key("key_1", true, 5).map(drop)),
            ("moved before the commit", false, |store| {
                let path = store.path().to_owned();
                let change = |key: &mut Key| {
                    key.cut = true;
                    move_away(&path);
                };
                store.set_key("key_1", change).map(drop)
            }),
        ];
        for (what, waits, write) in writes {
            let (_dir, mut store) = store_with(&[]);
            store.create_key(&new_key("key_1"), 0).unwrap();
            let path = store.path().to_owned();
            if waits {
                while_it_waits(&mut store, move || move_away(&path));
            }
            let error = write(&mut store).expect_err(what);
            assert!(matches!(error, StoreError::Gone { .. }), "{what}: {error}");
        }
    }
}
