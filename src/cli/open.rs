//! Opening the ledger for a report, and the store for tenants and keys.

use std::time::Duration;

use crate::config::Config;
use crate::ledger::open::{self, Holder};
use crate::ledger::store::Store;

use super::output::note;

/// Opens the store to report from it: without a running server, what its journal holds comes first.
pub(crate) fn open_ledger(config: &Config, command: &'static str) -> anyhow::Result<Store> {
    let waiting = |holder: &Holder, _: Duration| note(&format!("waiting for {holder}"));
    let (store, replayed) = open::open_store(&config.data, command, waiting)?;
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

/// Opens the store for tenants and keys, which need no journal.
pub(crate) fn open_store(config: &Config, command: &'static str) -> anyhow::Result<Store> {
    Ok(open::open_for_keys(&config.data, command, false)?)
}

/// The same for the first of them: the store is made if there is none.
pub(crate) fn open_or_make_store(config: &Config, command: &'static str) -> anyhow::Result<Store> {
    Ok(open::open_for_keys(&config.data, command, true)?)
}
