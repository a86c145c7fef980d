//! Opening the ledger for a report.

use anyhow::Context;

use crate::config::Config;
use crate::ledger;
use crate::ledger::store::Store;

use super::output::note;

/// Opens the store to report from it: without a running server, what its journal holds comes first.
pub(crate) fn open_ledger(config: &Config) -> anyhow::Result<Store> {
    let (store, replayed) = ledger::open_store(&config.data)?;
    if replayed.damaged_bytes > 0 {
        note(&format!(
            "{} damaged bytes in the journal were passed over; the damaged segments are kept as \
             *.wj.damaged",
            replayed.damaged_bytes
        ));
    }
    if replayed.orphans > 0 {
        note(&format!(
            "the journal had the end of {} requests but not their beginning: they are in no report",
            replayed.orphans
        ));
    }
    Ok(store)
}

/// Opens the store for tenants and keys, which need no ledger.
pub(crate) fn open_store(config: &Config) -> anyhow::Result<Store> {
    Store::open(&config.data.dir)
        .with_context(|| format!("data directory {}", config.data.dir.display()))
}
