//! The store: what is kept. Tenants with their keys, prices, the row of every request and the sums of rows,
//! how far the journal has been stored, and the time that was confirmed.

mod request;
pub(crate) mod sqlite;

pub(crate) use request::{Filter, Request};
pub use sqlite::StoreError;
pub(crate) use sqlite::{
    Balance, Change, CopyError, Counts, FILE_NAME, Future, KeysVersion, NewKey, Owner, Position,
    Range, Recost, Store, Sums, is_database_s, problems_in,
};
#[cfg(test)]
pub(crate) use sqlite::{samples, synced_commits};
