//! Opening the ledger for a report.

use anyhow::Context;

use crate::config::Config;
use crate::ledger;
use crate::ledger::store::Store;

/// Opens the store to report from it: without a running server, what its journal holds comes first.
pub(crate) fn open_ledger(config: &Config) -> anyhow::Result<Store> {
    Ok(ledger::open_store(&config.data)?)
}

/// Opens the store for tenants and keys, which need no ledger.
pub(crate) fn open_store(config: &Config) -> anyhow::Result<Store> {
    Store::open(&config.data.dir)
        .with_context(|| format!("data directory {}", config.data.dir.display()))
}
