//! How far a store is behind the journal of a server that runs beside the command. Reports read the store: while
//! it takes nothing, because it is locked, or full, or nobody empties the journal, they would be out of date
//! and not say so.

use std::collections::HashMap;

use super::LedgerError;
use super::scan::scan;
use crate::config::Data;
use crate::record::EventId;
use crate::store::Store;

/// A server stores what has ended within a second, and a busy one somewhat later.
const LATE_MS: i64 = 5_000;

/// Requests that should be in the store by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backlog {
    pub(crate) rows: u64,
    /// When the first of them ended, in milliseconds since the epoch.
    pub(crate) since_ms: i64,
}

/// What ended in the journal, by when, without what the store must have by its positions; and why that may
/// not be all.
pub(super) fn unstored(
    data: &Data,
    store: &Store,
) -> Result<(HashMap<EventId, i64>, Option<LedgerError>), LedgerError> {
    let mut unstored = HashMap::new();
    let scanned = scan(&data.dir, &store.positions()?, |row, is_stored| {
        if !is_stored {
            let lasted_ms = i64::try_from(row.closed.duration_ms).unwrap_or(i64::MAX);
            let ended_ms = row.opened.started_at_ms.saturating_add(lasted_ms);
            unstored.insert(row.opened.event_id, ended_ms);
        }
        Ok(())
    })?;
    Ok((unstored, scanned.unread))
}

/// What ended some seconds before `now_ms` and is in the journal only; and why that may not be all. A report is
/// made of the store, which a journal that cannot be read does not keep from it.
pub(crate) fn behind(
    data: &Data,
    store: &Store,
    now_ms: i64,
) -> Result<(Option<Backlog>, Option<LedgerError>), LedgerError> {
    let mut behind: Option<Backlog> = None;
    let (unstored, unread) = unstored(data, store)?;
    for (event_id, ended_ms) in unstored {
        if ended_ms > now_ms.saturating_sub(LATE_MS) || store.has_row(event_id)? {
            continue;
        }
        let before = behind.unwrap_or(Backlog { rows: 0, since_ms: i64::MAX });
        let since_ms = before.since_ms.min(ended_ms);
        behind = Some(Backlog { rows: before.rows + 1, since_ms });
    }
    Ok((behind, unread))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::drain::Drain;
    use super::*;
    use crate::config::Durability;
    use crate::journal::{Directory, Journal};
    use crate::store::samples::Sample;

    #[test]
    fn what_ended_some_seconds_ago_and_is_not_stored_is_counted_from_its_first() {
        let dir = tempfile::tempdir().unwrap();
        let (durability, segment_bytes) = (Durability::Crash, 1 << 20);
        let data = Data {
            dir: dir.path().to_owned(),
            durability,
            segment_bytes,
            keep_rows: None,
            response_owners: 1_000,
        };
        let store = Store::open(dir.path()).unwrap();
        let directory = Arc::new(Directory::open(dir.path(), 1 << 20, durability).unwrap());
        let mut journal = Journal::new(directory.clone());
        let row = |id, at_ms| Sample { id, at_ms, ..Sample::default() }.row();
        for row in [row(1, 1_000), row(2, 2_000), row(3, 9_000)] {
            drop((journal.open(&row.opened), journal.close(&row.closed)));
        }
        // One that runs.
        drop(journal.open(&row(4, 500).opened));
        journal.commit().unwrap();
        let lasted_ms = row(1, 0).closed.duration_ms as i64;
        let at = |now_ms| behind(&data, &store, now_ms).unwrap().0;
        assert_eq!(at(1_000 + lasted_ms + LATE_MS - 1), None);
        let since_ms = 1_000 + lasted_ms;
        assert_eq!(at(since_ms + LATE_MS), Some(Backlog { rows: 1, since_ms }));
        assert_eq!(at(9_000), Some(Backlog { rows: 2, since_ms }));
        assert_eq!(at(60_000), Some(Backlog { rows: 3, since_ms }));
        assert!(behind(&data, &store, 0).unwrap().1.is_none());
        // One that cannot be read, and one of another version: they hide nothing of the others.
        let other = |name: &str| dir.path().join("journal").join(name);
        let unread = || {
            assert_eq!(at(60_000), Some(Backlog { rows: 3, since_ms }));
            behind(&data, &store, 0).unwrap().1.expect("it is told").to_string()
        };
        let name = "00000000000000000000.wj";
        std::fs::create_dir(other(name)).unwrap();
        assert!(unread().contains(name));
        std::fs::remove_dir(other(name)).unwrap();
        let mut header = crate::journal::HEADER;
        header[8] += 1;
        std::fs::write(other(name), header).unwrap();
        assert!(unread().contains("format"));
        std::fs::remove_file(other(name)).unwrap();
        let mut drain = Drain::new(directory, Store::open(dir.path()).unwrap()).unwrap();
        drain.pass().unwrap();
        assert_eq!(at(60_000), None);
        // A position is behind what is stored, and after a restore there is none.
        store.connection().execute("DELETE FROM positions", []).unwrap();
        assert_eq!(at(60_000), None);
    }
}
