//! Opening the ledger for a report, and the store for tenants and keys; and what a person should know of that.

use std::time::Duration;

use crate::clock::moment;
use crate::config::Config;
use crate::ledger::LedgerError;
use crate::ledger::backlog::Backlog;
use crate::ledger::open::{self, WaitingFor};
use crate::store::Store;

use super::output::{counted, note};

/// A store that is opened to report from it.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) store: Store,
    /// A running server stores what has ended, within a second.
    pub(crate) is_served: bool,
}

impl Opened {
    /// Says that a report has nothing, and beside a server why that may be so of a request just sent.
    pub(crate) fn tell_nothing(&self) {
        note("no such requests in the ledger");
        if self.is_served {
            note("the running server stores a request within a second of its end");
        }
    }
}

/// Opens the store to report from it: without a running server, what its journal holds comes first.
pub(crate) fn open_ledger(
    config: &Config,
    command: &'static str,
    now_ms: i64,
) -> anyhow::Result<Opened> {
    let reported = open::open_store(&config.data, command, now_ms, &mut note_wait)?;
    let (damaged_bytes, orphans) = (reported.replayed.damaged_bytes, reported.replayed.orphans);
    if damaged_bytes > 0 {
        note(&format!(
            "{} in the journal passed over as damaged; the damaged segments are kept as *.wj.damaged",
            counted(damaged_bytes, "byte")
        ));
    }
    if orphans > 0 {
        note(&format!(
            "{} in the journal without a beginning: in no report",
            counted(orphans, "request")
        ));
    }
    match &reported.full {
        None => warn_backlog(reported.behind),
        Some(error) => note_full(error, reported.behind),
    }
    note_unread(reported.unread.as_ref());
    Ok(Opened { store: reported.store, is_served: reported.is_served })
}

/// Says that the journal of the running server could not be read as a whole.
pub(crate) fn note_unread(unread: Option<&LedgerError>) {
    let Some(error) = unread else { return };
    note(&format!(
        "what only that part of the journal has is not in this, and not counted: {error}"
    ));
}

/// Says what a report lacks on a full disk, without a server.
fn note_full(error: &LedgerError, behind: Option<Backlog>) {
    note(&format!(
        "the journal could not be read into the store, which is shown as it is: {error}"
    ));
    let Some(Backlog { rows, since_ms }) = behind else { return };
    note(&format!(
        "{} only in the journal, and not in this, the first of which ended at {}",
        counted(rows, "finished request"),
        moment(since_ms)
    ));
}

/// Says what a report lacks beside a server whose store takes nothing.
pub(crate) fn warn_backlog(behind: Option<Backlog>) {
    let Some(Backlog { rows, since_ms }) = behind else { return };
    note(&format!(
        "{} not in the store yet, and not in this, the first of which ended at {}: the running server keeps \
         them in its journal, and its log says why",
        counted(rows, "finished request"),
        moment(since_ms)
    ));
}

/// Says what a command waits for, once that takes a second.
pub(crate) fn note_wait(awaited: &WaitingFor, waited: Duration) {
    if WaitingFor::is_long(waited) {
        note(&format!("waiting for {awaited}"));
    }
}

/// Opens the store to look at tenants and keys, which need no journal.
pub(crate) fn open_store(config: &Config, command: &'static str) -> anyhow::Result<Store> {
    Ok(open::open_for_keys(&config.data, command, false, &mut note_wait)?)
}

/// The same to change them.
pub(crate) fn open_to_change(config: &Config, command: &'static str) -> anyhow::Result<Store> {
    Ok(open::open_to_change(&config.data, command, false, &mut note_wait)?)
}

/// The same for the first of them: the store is made if there is none, and that is said, as the directory may
/// not be the one that was meant.
pub(crate) fn open_or_make_store(config: &Config, command: &'static str) -> anyhow::Result<Store> {
    let dir = &config.data.dir;
    let is_new = !Store::is_there(dir);
    let store = open::open_to_change(&config.data, command, true, &mut note_wait)?;
    if is_new {
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
        note(&format!("made a new ledger in {}", dir.display()));
    }
    Ok(store)
}
