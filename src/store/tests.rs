//! What every engine has to do, in the words of its traits. [`samples::store_with`](super::samples::store_with) alone
//! says by which engine a test's store is made; what only SQLite has is tested beside it.

pub(super) mod changes;
mod ingest;
pub(super) mod pages;
pub(super) mod recost;
mod requests;
mod sums;
pub(super) mod tenancy;
mod upkeep;
