//! The ledger: every request that was sent upstream, exactly once.

pub(crate) mod record;
pub(crate) mod report;
pub(crate) mod store;
