//! The tenants and their keys: what the command line changes, and a running server follows. Each change raises
//! the version that the server polls, and has survived a power cut when it returns: a key that came back after
//! it was revoked would be worse than a lost row.

use std::collections::HashMap;
use std::sync::Arc;

use crate::tenancy::{Key, Limits, Secret, Tenant};

use super::StoreError;

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

/// A key that was suspended or resumed: as it was before, and as it is.
#[derive(Debug)]
pub(crate) struct Switched {
    pub before: Key,
    pub key: Key,
}

/// What the tenants and keys are at one moment. A number alone would be a count: a backup that was restored, and then
/// changed as often, has come to the same, and to other keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeysVersion {
    /// Grows with each change.
    pub(super) number: i64,
    /// Of this one in this history, by chance.
    pub(super) stamp: i64,
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
pub(crate) trait Changes {
    /// The version that one has who has taken them all.
    fn version(&self) -> KeysVersion;

    /// Whether this is all there is: what it does not name was deleted.
    fn is_all(&self) -> bool;

    /// Hands them over: first what was deleted, for its name may be there again, then tenants, then their
    /// keys.
    fn each(
        &self,
        each: &mut dyn FnMut(Change) -> Result<(), StoreError>,
    ) -> Result<(), StoreError>;
}

/// The side of the store that knows tenants and keys.
///
/// All moments are milliseconds since the epoch. What names a key or a tenant that is not there is
/// [`StoreError::UnknownKey`] or [`StoreError::UnknownTenant`].
pub(crate) trait Tenancy {
    /// Another one after each change of a tenant, a key or a secret, by whichever process.
    fn keys_version(&self) -> Result<KeysVersion, StoreError>;

    /// What has changed since `known`, a version from earlier [`Changes`]; all there is without one, where that is
    /// not the past of what is there, and where what was deleted since is not all known any more.
    fn changes(&self, known: Option<KeysVersion>) -> Result<Box<dyn Changes + '_>, StoreError>;

    /// All tenants by name, those too that can't be read.
    fn tenants(&self) -> Result<Vec<Tenant>, StoreError>;

    /// All keys, revoked, expired and unreadable ones too, by tenant and age. The secret without an end, the
    /// current one, comes first.
    fn keys(&self) -> Result<Vec<Key>, StoreError>;

    /// The key that has the secret with this digest, which may be an old one, and that secret.
    fn key_with(&self, digest: &[u8; 32]) -> Result<Option<(Key, Secret)>, StoreError>;

    /// The names of these keys, by id, for reports: the ledger has their ids. Those that are deleted, or have
    /// none, are left out.
    fn key_names<'a>(&self, ids: &[&'a str]) -> Result<HashMap<&'a str, String>, StoreError>;

    /// Whether there is such a key, or was one that is among those deleted last.
    fn knows_key(&self, id: &str) -> Result<bool, StoreError>;

    /// The same of a tenant.
    fn knows_tenant(&self, name: &str) -> Result<bool, StoreError>;

    /// Makes a tenant; one of that name must not be there.
    fn create_tenant(
        &mut self,
        name: &str,
        limits: &Limits,
        time_zone: Option<&str>,
        now_ms: i64,
    ) -> Result<(), StoreError>;

    /// Lets `change` have a tenant, once at most, and keeps what it makes of its limits and its time zone (not of
    /// anything else). Returns the result.
    fn change_tenant(
        &mut self,
        name: &str,
        change: &mut dyn FnMut(&mut Tenant),
    ) -> Result<Tenant, StoreError>;

    /// Deletes a tenant with its keys, of which none may be alive at `now_ms`, or by the time that is confirmed,
    /// but with `force`. Returns it as it was, and how many keys it had. Other writers have a turn meanwhile.
    fn delete_tenant(
        &mut self,
        name: &str,
        force: bool,
        now_ms: i64,
    ) -> Result<(Tenant, usize), StoreError>;

    /// Makes a key, and its tenant if there is none. True when the tenant is new.
    fn create_key(&mut self, new: &NewKey, now_ms: i64) -> Result<bool, StoreError>;

    /// Makes many keys in one transaction, as [`Self::create_key`] makes one.
    fn create_keys(&mut self, new: &[NewKey], now_ms: i64) -> Result<(), StoreError>;

    /// Lets `change` have a key, once at most, and keeps what it makes of its name, limits, models, expiry,
    /// clamp and cut (not of anything else). Returns the result.
    fn change_key(&mut self, id: &str, change: &mut dyn FnMut(&mut Key))
    -> Result<Key, StoreError>;

    /// Gives a key a new secret. The old ones end at `old_until_ms` at the latest, which is now or
    /// later. Those that are to end now are removed, and those that have ended beyond doubt: a clock
    /// that is ahead only refuses what it takes for ended. Returns the key as it is then.
    fn rotate_key(
        &mut self,
        id: &str,
        secret: &Secret,
        old_until_ms: i64,
        now_ms: i64,
    ) -> Result<Key, StoreError>;

    /// Suspends a key. Suspending it again keeps the first time; a revoked one is an error.
    fn suspend_key(&mut self, id: &str, now_ms: i64) -> Result<Switched, StoreError>;

    /// Lets a suspended key work again; a revoked one is an error.
    fn resume_key(&mut self, id: &str) -> Result<Switched, StoreError>;

    /// Ends a key for good. Revoking it again keeps the first time. Returns the key.
    fn revoke_key(&mut self, id: &str, now_ms: i64) -> Result<Key, StoreError>;

    /// Deletes a key that is revoked, whatever the clock says, or has expired by `now_ms` and by the time that is confirmed: what a clock
    /// that is ahead takes for expired may be alive. With `force` any key. Returns it as it was.
    fn delete_key(&mut self, id: &str, force: bool, now_ms: i64) -> Result<Key, StoreError>;

    /// Deletes every key that was revoked or had expired by `until_ms`, beyond doubt as [`Self::delete_key`] says.
    /// Returns them as they were. Other writers have a turn meanwhile.
    fn delete_ended_keys(&mut self, until_ms: i64) -> Result<Vec<Key>, StoreError>;
}
