//! Tenants and keys, of the [`Engine`](crate::store::Engine) that [`Sqlite`] is.

use std::collections::HashMap;

use crate::store::sqlite::{Changes, KeysVersion, NewKey, Sqlite, StoreError};
use crate::store::{Switched, Tenancy};
use crate::tenancy::{Key, Limits, Secret, Tenant};

impl Tenancy for Sqlite {
    fn keys_version(&self) -> Result<KeysVersion, StoreError> {
        self.at(Sqlite::keys_version(self))
    }

    fn changes(&self, known: Option<KeysVersion>) -> Result<Box<dyn Changes + '_>, StoreError> {
        self.at(Sqlite::changes(self, known))
    }

    fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        self.at(Sqlite::tenants(self))
    }

    fn keys(&self) -> Result<Vec<Key>, StoreError> {
        self.at(Sqlite::keys(self))
    }

    fn key_with(&self, digest: &[u8; 32]) -> Result<Option<(Key, Secret)>, StoreError> {
        self.at(Sqlite::key_with(self, digest))
    }

    fn key_names<'a>(&self, ids: &[&'a str]) -> Result<HashMap<&'a str, String>, StoreError> {
        self.at(Sqlite::key_names(self, ids))
    }

    fn knows_key(&self, id: &str) -> Result<bool, StoreError> {
        self.at(Sqlite::knows_key(self, id))
    }

    fn knows_tenant(&self, name: &str) -> Result<bool, StoreError> {
        self.at(Sqlite::knows_tenant(self, name))
    }

    fn create_tenant(
        &mut self,
        name: &str,
        limits: &Limits,
        time_zone: Option<&str>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let result = Sqlite::create_tenant(self, name, limits, time_zone, now_ms);
        self.at(result)
    }

    fn change_tenant(
        &mut self,
        name: &str,
        change: &mut dyn FnMut(&mut Tenant),
    ) -> Result<Tenant, StoreError> {
        let result = Sqlite::change_tenant(self, name, change);
        self.at(result)
    }

    fn delete_tenant(
        &mut self,
        name: &str,
        force: bool,
        now_ms: i64,
    ) -> Result<(Tenant, usize), StoreError> {
        let result = Sqlite::delete_tenant(self, name, force, now_ms);
        self.at(result)
    }

    fn create_key(&mut self, new: &NewKey, now_ms: i64) -> Result<bool, StoreError> {
        let result = Sqlite::create_key(self, new, now_ms);
        self.at(result)
    }

    fn create_keys(&mut self, new: &[NewKey], now_ms: i64) -> Result<(), StoreError> {
        let result = Sqlite::create_keys(self, new, now_ms);
        self.at(result)
    }

    fn change_key(
        &mut self,
        id: &str,
        change: &mut dyn FnMut(&mut Key),
    ) -> Result<Key, StoreError> {
        let result = Sqlite::change_key(self, id, change);
        self.at(result)
    }

    fn rotate_key(
        &mut self,
        id: &str,
        secret: &Secret,
        old_until_ms: i64,
        now_ms: i64,
    ) -> Result<Key, StoreError> {
        let result = Sqlite::rotate_key(self, id, secret, old_until_ms, now_ms);
        self.at(result)
    }

    fn suspend_key(&mut self, id: &str, now_ms: i64) -> Result<Switched, StoreError> {
        let result = Sqlite::suspend_key(self, id, now_ms);
        self.at(result)
    }

    fn resume_key(&mut self, id: &str) -> Result<Switched, StoreError> {
        let result = Sqlite::resume_key(self, id);
        self.at(result)
    }

    fn revoke_key(&mut self, id: &str, now_ms: i64) -> Result<Key, StoreError> {
        let result = Sqlite::revoke_key(self, id, now_ms);
        self.at(result)
    }

    fn delete_key(&mut self, id: &str, force: bool, now_ms: i64) -> Result<Key, StoreError> {
        let result = Sqlite::delete_key(self, id, force, now_ms);
        self.at(result)
    }

    fn delete_ended_keys(&mut self, until_ms: i64) -> Result<Vec<Key>, StoreError> {
        let result = Sqlite::delete_ended_keys(self, until_ms);
        self.at(result)
    }
}
