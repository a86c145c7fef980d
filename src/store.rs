//! The store: what is kept. Tenants with their keys, prices, the row of every request and the sums of rows,
//! how far the journal has been stored, and the time that was confirmed.
//!
//! [`Engine`] says what the program needs of a database, by subject; [`sqlite`] is the engine that there is. No SQL
//! stands anywhere else.

mod audit;
mod engine;
mod error;
mod ingest;
mod prices;
mod reports;
mod request;
#[cfg(test)]
pub(crate) mod samples;
pub(crate) mod sqlite;
mod sums;
mod tenancy;
#[cfg(test)]
mod tests;
mod upkeep;

use std::ops::{ControlFlow, Deref, DerefMut};
use std::path::Path;
use std::time::Duration;

use self::audit::{Audit, Changed, Difference, Differing, DifferingDay, Misdated};
use self::engine::{Engine, Snapshot};
use self::error::{Cause, DatabaseError};
use self::ingest::Ingest;
use self::prices::PriceVersions;
use self::reports::Reports;
use self::sqlite::Sqlite;
use self::sums::Addend;
use self::tenancy::{Changes, Tenancy};
use self::upkeep::Upkeep;
use crate::tenancy::{Key, Tenant};
use crate::usage::End;

pub(crate) use self::audit::{Owner, Recost};
pub(crate) use self::error::CopyError;
pub use self::error::StoreError;
pub(crate) use self::ingest::Position;
pub(crate) use self::request::{Filter, Request};
pub(crate) use self::sqlite::FILE_NAME;
#[cfg(test)]
pub(crate) use self::sqlite::synced_commits;
pub(crate) use self::sums::{Balance, Counts, Range, Sums};
pub(crate) use self::tenancy::{Change, KeysVersion, NewKey, Switched};
pub(crate) use self::upkeep::Future;

/// One connection to the store, by whichever engine; what it can do is the [`Engine`]'s.
#[derive(Debug)]
pub(crate) struct Store(Box<dyn Engine>);

impl Store {
    /// Opens the store of a data directory, and creates both where there is none: readable by their owner only.
    /// An older schema is brought up to date, a newer one is refused.
    ///
    /// For whoever holds the directory's lock: beside a server, a new file would hide that the old one is
    /// gone.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::open_patiently(dir, &mut |_| ())
    }

    /// The same, for whoever wants to hear how long another program that holds the write lock is waited for.
    pub(crate) fn open_patiently(
        dir: &Path,
        tell: &mut dyn FnMut(Duration),
    ) -> Result<Self, StoreError> {
        Ok(Self(Box::new(Sqlite::open_patiently(dir, tell)?)))
    }

    /// Opens the store only if there is one, and only with the current schema: for processes that come beside a
    /// server.
    pub(crate) fn open_existing(dir: &Path) -> Result<Self, StoreError> {
        Ok(Self(Box::new(Sqlite::open_existing(dir)?)))
    }

    /// The same where nothing can be written, as on a full disk, and no server runs.
    pub(crate) fn open_full(dir: &Path) -> Result<Self, StoreError> {
        Ok(Self(Box::new(Sqlite::open_full(dir)?)))
    }

    /// Whether a data directory has a store.
    pub(crate) fn is_there(dir: &Path) -> bool {
        Sqlite::is_there(dir)
    }

    /// What is wrong with the files of a data directory's store, before anybody needs it to be one; empty when
    /// nothing is.
    pub(crate) fn problems_in(dir: &Path) -> Result<Vec<String>, StoreError> {
        sqlite::problems_in(dir)
    }

    /// Another connection of this process, for another thread.
    pub(crate) fn another(&self) -> Result<Self, StoreError> {
        self.0.another().map(Self)
    }

    /// Opens what stands in the store's place now, see [`Engine::reopen`].
    pub(crate) fn reopen(&mut self) -> Result<Self, StoreError> {
        self.0.reopen().map(Self)
    }

    /// Goes over to what stands where this store was, if that is no longer this one: true when it did.
    pub(crate) fn follow(&mut self) -> Result<bool, StoreError> {
        if self.is_in_place() {
            return Ok(false);
        }
        *self = self.reopen()?;
        Ok(true)
    }

    /// [`Tenancy::change_tenant`], by what is done once.
    pub(crate) fn set_tenant(
        &mut self,
        name: &str,
        change: impl FnOnce(&mut Tenant),
    ) -> Result<Tenant, StoreError> {
        self.change_tenant(name, &mut once(change))
    }

    /// [`Tenancy::change_key`], by what is done once.
    pub(crate) fn set_key(
        &mut self,
        id: &str,
        change: impl FnOnce(&mut Key),
    ) -> Result<Key, StoreError> {
        self.change_key(id, &mut once(change))
    }

    /// [`Reports::requests_oldest_first`], for an `each` that can fail.
    pub(crate) fn each_request<E: From<StoreError>>(
        &self,
        filter: &Filter,
        end: Option<End>,
        mut each: impl FnMut(Request) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut result = Ok(());
        let read = self.requests_oldest_first(filter, end, &mut |request| {
            if result.is_ok() {
                result = each(request);
            }
            if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        // What came of it first is why it was broken off.
        result?;
        Ok(read?)
    }

    /// [`Reports::balances_in`], for so many spans as one knows.
    pub(crate) fn balances_of<const N: usize>(
        &self,
        tenant: Option<&str>,
        spans: [(i64, i64); N],
    ) -> Result<[Vec<Balance>; N], StoreError> {
        let balances = self.balances_in(tenant, &spans)?;
        Ok(balances.try_into().expect("as many as there are spans"))
    }

    /// What each key used of the requests that began in `from_ms..until_ms` (milliseconds since the
    /// epoch), by tenant and key in order.
    pub(crate) fn balances(&self, from_ms: i64, until_ms: i64) -> Result<Vec<Balance>, StoreError> {
        let [balances] = self.balances_of(None, [(from_ms, until_ms)])?;
        Ok(balances)
    }
}

impl Deref for Store {
    type Target = dyn Engine;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl DerefMut for Store {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut *self.0
    }
}

/// As an object has to take it, which can't be told that it calls only once.
fn once<T>(change: impl FnOnce(&mut T)) -> impl FnMut(&mut T) {
    let mut change = Some(change);
    move |it| (change.take().expect("an engine changes a thing once"))(it)
}
