//! The store: what is kept. Tenants with their keys, prices, the row of every request and the sums of rows,
//! how far the journal has been stored, and the time that was confirmed.

pub(crate) mod sqlite;

pub use sqlite::StoreError;
pub(crate) use sqlite::{
    Balance, Change, Counts, FILE_NAME, Future, KeysVersion, NewKey, Owner, Position, Range,
    Recost, Store, Sums, error_text, file_problems, from_sql, hours_of, problems_in, usage_at,
};
#[cfg(test)]
pub(crate) use sqlite::{samples, synced_commits};
