//! The ledger: every request that was sent upstream, exactly once.

pub(crate) mod record;
