//! Tenants and keys. Each change raises the version that a running server polls.

mod names;
pub(super) mod rows;
mod suspend;

use std::sync::Arc;

use rusqlite::types::Value;
use rusqlite::{Transaction, named_params};

use crate::tenancy::{Key, Limits, Secret, Tenant};

use super::{KeysVersion, Store, StoreError};
use rows::{
    ALL_KEYS, ALL_TENANTS, KEY_WITH, columns_of_key, columns_of_tenant, each_key, each_tenant, key,
    limits_to_sql, models_to_sql, tenant, with_limits,
};

/// A key to be made; its id and secret come from whoever shows the key's text to its owner.
#[derive(Clone, Debug)]
pub(crate) struct NewKey {
    pub id: Arc<str>,
    /// Made, without limits, if there is none.
    pub tenant: Arc<str>,
    pub name: String,
    pub limits: Limits,
    pub clamp: bool,
    pub cut: bool,
    pub models: Option<Vec<String>>,
    /// Milliseconds since the epoch.
    pub expires_at_ms: Option<i64>,
    pub secret: Secret,
}

impl Store {
    /// Another one after each change of a tenant, a key or a secret, by whichever process.
    pub(crate) fn keys_version(&self) -> Result<KeysVersion, StoreError> {
        KeysVersion::of(&self.conn)
    }

    /// All tenants by name, those too that can't be read.
    pub(crate) fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        let mut all = Vec::new();
        each_tenant(&self.read()?, ALL_TENANTS, [], |tenant| {
            all.push(tenant);
            Ok(())
        })?;
        Ok(all)
    }

    /// All keys, revoked, expired and unreadable ones too, by tenant and age. The secret without an end, the
    /// current one, comes first.
    pub(crate) fn keys(&self) -> Result<Vec<Key>, StoreError> {
        let mut all = Vec::new();
        each_key(&self.read()?, ALL_KEYS, [], |key| {
            all.push(key);
            Ok(())
        })?;
        Ok(all)
    }

    /// The key that has the secret with this digest, which may be an old one, and that secret.
    pub(crate) fn key_with(&self, digest: &[u8; 32]) -> Result<Option<(Key, Secret)>, StoreError> {
        let mut found = None;
        each_key(&self.read()?, KEY_WITH, [digest], |key| {
            found = Some(key);
            Ok(())
        })?;
        Ok(found.and_then(|key| {
            let secret = key.secrets.iter().find(|secret| secret.digest == *digest)?.clone();
            Some((key, secret))
        }))
    }

    /// Makes a tenant; one of that name must not be there.
    pub(crate) fn create_tenant(
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

    /// Lets `change` have a tenant, and keeps what it makes of its limits and its time zone (not of
    /// anything else). Returns the result.
    pub(crate) fn set_tenant(
        &mut self,
        name: &str,
        change: impl FnOnce(&mut Tenant),
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

    /// Makes a key, and its tenant if there is none. True when the tenant is new.
    pub(crate) fn create_key(&mut self, new: &NewKey, now_ms: i64) -> Result<bool, StoreError> {
        let tx = self.write_synced()?;
        let tenant_is_new = add_key(&tx, new, now_ms)?;
        tx.commit()?;
        self.require_in_place()?;
        Ok(tenant_is_new)
    }

    /// Makes many keys in one transaction, as [`Self::create_key`] makes one.
    pub(crate) fn create_keys(
        &mut self,
        new: impl IntoIterator<Item = NewKey>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let tx = self.write_synced()?;
        for new in new {
            add_key(&tx, &new, now_ms)?;
        }
        tx.commit()?;
        self.require_in_place()
    }

    /// Lets `change` have a key, and keeps what it makes of its name, limits, models, expiry,
    /// clamp and cut (not of anything else). Returns the result.
    pub(crate) fn set_key(
        &mut self,
        id: &str,
        change: impl FnOnce(&mut Key),
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

    /// Gives a key a new secret. The old ones end at `old_until_ms` at the latest, which is now or
    /// later. Those that are to end now are removed, and those that have ended beyond doubt: a clock
    /// that is ahead only refuses what it takes for ended. Returns the key as it is then.
    pub(crate) fn rotate_key(
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

    /// Ends a key for good. Revoking it again keeps the first time. Returns the key.
    pub(crate) fn revoke_key(&mut self, id: &str, now_ms: i64) -> Result<Key, StoreError> {
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
    use super::super::samples::{move_away, store_with, while_it_waits};
    use super::*;

    fn secret(byte: u8) -> Secret {
        Secret { digest: [byte; 32], last4: format!("000{byte}"), expires_at_ms: None }
    }

    fn new_key(id: &str) -> NewKey {
        NewKey {
            id: id.into(),
            tenant: "acme".into(),
            name: "ci, \"quoted\"".to_owned(),
            limits: Limits {
                rpm: Some(u32::MAX),
                tpm: Some(i64::MAX as u64),
                concurrency: Some(1),
                daily_tokens: Some(2),
                monthly_tokens: Some(3),
                daily_requests: Some(4),
                monthly_requests: None,
                daily_nano_usd: Some(5),
                monthly_nano_usd: Some(i64::MAX as u64),
            },
            clamp: true,
            cut: false,
            models: Some(vec!["a".to_owned(), "b \"c\"".to_owned()]),
            expires_at_ms: Some(99),
            secret: secret(1),
        }
    }

    #[test]
    fn keys_and_tenants_come_back_as_they_were_given() {
        let (dir, mut store) = store_with(&[]);
        let limits = Limits { monthly_requests: Some(7), ..Limits::default() };
        store.create_tenant("beta", &limits, Some("Asia/Kolkata"), 5).unwrap();
        let error = store.create_tenant("beta", &Limits::default(), None, 6).unwrap_err();
        assert!(matches!(&error, StoreError::TenantExists(name) if name == "beta"), "{error}");
        assert!(store.create_key(&new_key("key_1"), 10).unwrap());
        let mut plain = NewKey { models: None, expires_at_ms: None, ..new_key("key_2") };
        (plain.clamp, plain.cut) = (false, true);
        plain.secret = secret(2);
        assert!(!store.create_key(&plain, 11).unwrap());

        let reader = Store::open(dir.path()).unwrap();
        let tenant = |name: &str, limits, zone: Option<&str>, created_at_ms| Tenant {
            name: name.into(),
            limits,
            time_zone: zone.map(Into::into),
            created_at_ms,
            unreadable: Vec::new(),
        };
        let expected = [
            tenant("acme", Limits::default(), None, 10),
            tenant("beta", limits, Some("Asia/Kolkata"), 5),
        ];
        assert_eq!(reader.tenants().unwrap(), expected);
        let key = |new: &NewKey, created_at_ms| Key {
            id: new.id.clone(),
            tenant: new.tenant.clone(),
            name: new.name.clone(),
            limits: new.limits.clone(),
            clamp: new.clamp,
            cut: new.cut,
            models: new.models.clone(),
            created_at_ms,
            expires_at_ms: new.expires_at_ms,
            suspended_at_ms: None,
            revoked_at_ms: None,
            secrets: vec![new.secret.clone()],
            unreadable: Vec::new(),
        };
        assert_eq!(reader.keys().unwrap(), [key(&new_key("key_1"), 10), key(&plain, 11)]);
    }

    #[test]
    fn a_key_that_can_not_be_made_leaves_no_tenant() {
        let (_dir, mut store) = store_with(&[]);
        store.create_key(&new_key("key_1"), 10).unwrap();
        let again = NewKey { tenant: "other".into(), ..new_key("key_2") };
        assert!(matches!(store.create_key(&again, 11), Err(StoreError::Sqlite(_))));
        assert_eq!((store.tenants().unwrap().len(), store.keys().unwrap().len()), (1, 1));
    }

    #[test]
    fn every_change_raises_the_version_and_reading_does_not() {
        let (dir, mut store) = store_with(&[]);
        let reader = Store::open(dir.path()).unwrap();
        let mut last = reader.keys_version().unwrap().number;
        let mut raised = |what: &str, changes: bool| {
            let version = reader.keys_version().unwrap().number;
            assert_eq!(version > last, changes, "{what}");
            last = version;
        };
        store.create_tenant("acme", &Limits::default(), None, 1).unwrap();
        raised("create tenant", true);
        store.set_tenant("acme", |tenant| tenant.limits.rpm = Some(1)).unwrap();
        raised("set tenant", true);
        store.create_key(&new_key("key_1"), 2).unwrap();
        raised("create key", true);
        store.set_key("key_1", |key| key.name.clear()).unwrap();
        raised("set key", true);
        store.rotate_key("key_1", &secret(2), 50, 3).unwrap();
        raised("rotate", true);
        store.suspend_key("key_1", 4).unwrap();
        raised("suspend", true);
        store.resume_key("key_1").unwrap();
        raised("resume", true);
        store.revoke_key("key_1", 4).unwrap();
        raised("revoke", true);
        store.keys().unwrap();
        store.changes(None).unwrap().each(|_| Ok(())).unwrap();
        store.append(&[super::super::samples::Sample::default().row()], &[]).unwrap();
        raised("read and append", false);
    }

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
            store.conn.execute(statement, []).unwrap();
            assert_eq!(store.keys_version().unwrap().number, before + 1, "{statement}");
        }
    }

    #[test]
    fn a_change_touches_only_what_it_names() {
        let (_dir, mut store) = store_with(&[]);
        store.create_key(&new_key("key_1"), 10).unwrap();
        let mut expected = store.keys().unwrap().remove(0);
        let changed = store.set_key("key_1", |key| {
            key.limits.rpm = None;
            key.models = None;
            (key.clamp, key.cut) = (false, true);
            key.tenant = "stolen".into();
        });
        changed.unwrap();
        expected.limits.rpm = None;
        expected.models = None;
        (expected.clamp, expected.cut) = (false, true);
        assert_eq!(store.keys().unwrap(), [expected]);

        let limits = Limits { tpm: Some(5), ..Limits::default() };
        store.create_tenant("beta", &limits, None, 1).unwrap();
        let tenant = store.set_tenant("beta", |tenant| {
            tenant.limits.rpm = Some(6);
            tenant.time_zone = Some("Europe/Berlin".into());
        });
        let tenant = tenant.unwrap();
        let both = Limits { rpm: Some(6), tpm: Some(5), ..Limits::default() };
        assert_eq!(tenant.limits, both);
        assert_eq!(store.tenants().unwrap()[1], tenant);
        assert_eq!(store.tenants().unwrap()[0].limits, Limits::default());
    }

    #[test]
    fn a_rotation_keeps_the_old_secret_until_its_end() {
        let (_dir, mut store) = store_with(&[]);
        store.create_key(&new_key("key_1"), 0).unwrap();
        let old = |byte, end| Secret { expires_at_ms: Some(end), ..secret(byte) };
        let key = store.rotate_key("key_1", &secret(2), 100, 10).unwrap();
        assert_eq!(key.secrets, [secret(2), old(1, 100)]);
        // A second rotation within the overlap never makes the oldest live longer.
        let key = store.rotate_key("key_1", &secret(3), 200, 50).unwrap();
        assert_eq!(key.secrets, [secret(3), old(2, 200), old(1, 100)]);
        // What has ended goes.
        let key = store.rotate_key("key_1", &secret(4), 300, 100).unwrap();
        assert_eq!(key.secrets, [secret(4), old(3, 300), old(2, 200)]);
        // Without overlap only the new one is left.
        let key = store.rotate_key("key_1", &secret(5), 150, 150).unwrap();
        assert_eq!(key.secrets, [secret(5)]);
        assert_eq!(store.keys().unwrap(), [key]);
    }

    #[test]
    fn a_rotation_by_a_clock_that_is_ahead_removes_no_secret_for_good() {
        let (_dir, mut store) = store_with(&[]);
        store.create_key(&new_key("key_1"), 0).unwrap();
        store.confirm(None, 60).unwrap();
        store.rotate_key("key_1", &secret(2), 50, 10).unwrap();
        store.rotate_key("key_1", &secret(3), 100, 20).unwrap();
        let ends =
            |key: Key| -> Vec<_> { key.secrets.iter().map(|one| one.expires_at_ms).collect() };
        let key = store.rotate_key("key_1", &secret(4), 9_010, 9_000).unwrap();
        assert_eq!(ends(key), [None, Some(9_010), Some(100)], "the first had ended for sure");
        let key = store.rotate_key("key_1", &secret(5), 9_000, 9_000).unwrap();
        assert_eq!(ends(key), [None], "without overlap all end at once");
    }

    #[test]
    fn a_revoked_key_stays_revoked() {
        let (_dir, mut store) = store_with(&[]);
        store.create_key(&new_key("key_1"), 0).unwrap();
        assert_eq!(store.revoke_key("key_1", 5).unwrap().revoked_at_ms, Some(5));
        assert_eq!(store.revoke_key("key_1", 9).unwrap().revoked_at_ms, Some(5));
        let error = store.rotate_key("key_1", &secret(2), 10, 10).unwrap_err();
        assert!(matches!(error, StoreError::Revoked(_)), "{error}");
        assert_eq!(store.keys().unwrap()[0].secrets, [secret(1)]);
    }

    #[test]
    fn what_is_unknown_is_an_error_that_says_what_to_do() {
        let (_dir, mut store) = store_with(&[]);
        let next = "no key `key_x`; `weir key list` shows them";
        assert_eq!(store.set_key("key_x", |_| ()).unwrap_err().to_string(), next);
        assert_eq!(store.revoke_key("key_x", 1).unwrap_err().to_string(), next);
        let error = store.rotate_key("key_x", &secret(1), 1, 1).unwrap_err();
        assert_eq!(error.to_string(), next);
        let error = store.set_tenant("x", |_| ()).unwrap_err();
        assert_eq!(error.to_string(), "no tenant `x`; `weir tenant list` shows them");
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
