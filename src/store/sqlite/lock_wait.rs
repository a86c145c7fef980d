//! Other programs that write to the store, or hold its write lock: a person's `sqlite3` with a transaction open,
//! a tool that copies it. A start waits for them, and whoever fails by them says so.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};

use super::{BUSY_WAIT, Cause, StoreError};
use crate::wait_notice::WaitNotice;

/// How long a start waits.
const START_WAIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
/// How long a work of many transactions leaves the lock alone between two of them. SQLite's waiters look every
/// 100 milliseconds at the least (`sqliteDefaultBusyCallback`): what is free for less they may never see.
const TURN: Duration = Duration::from_millis(120);

/// Waits until nobody holds the write lock. `tell` hears at once that there is somebody, and then now and then
/// how long it has been waited.
pub(super) fn wait_for(
    conn: &mut Connection,
    path: &Path,
    tell: &mut dyn FnMut(Duration),
) -> Result<(), StoreError> {
    let begun = Instant::now();
    let mut notice = WaitNotice::default();
    conn.busy_timeout(Duration::ZERO)?;
    loop {
        // Given back at once, with nothing written.
        let taken = conn.transaction_with_behavior(TransactionBehavior::Immediate);
        match taken.map(drop).map_err(|error| name_lock(error.into(), path)) {
            Err(StoreError::WriteLocked { .. }) if begun.elapsed() < START_WAIT => {}
            result => {
                conn.busy_timeout(BUSY_WAIT)?;
                return result;
            }
        }
        let waited = begun.elapsed();
        if notice.is_due(waited) {
            tell(waited);
        }
        std::thread::park_timeout(POLL);
    }
}

/// Lets whoever waits for the write lock have it.
pub(super) fn others_turn() {
    std::thread::park_timeout(TURN);
}

/// SQLite says "database is locked", and not by whom; of any error it does not say of which file.
pub(super) fn name_lock(error: StoreError, path: &Path) -> StoreError {
    match error {
        StoreError::Database(error) if error.cause == Cause::Busy => {
            StoreError::WriteLocked { path: path.to_owned() }
        }
        other => other.at(path),
    }
}

#[cfg(test)]
mod tests {
    use super::super::FILE_NAME;
    use super::*;
    use crate::store::Store;
    use crate::store::samples::Sample;

    #[test]
    fn a_start_waits_for_another_writer_and_whoever_fails_by_one_says_so() {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::open(dir.path()).unwrap());
        let other = Connection::open(dir.path().join(FILE_NAME)).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut told = 0;
        let mut store = Store::open_patiently(dir.path(), &mut |_| {
            told += 1;
            other.execute_batch("COMMIT").unwrap();
        });
        let store = store.as_mut().unwrap();
        assert_eq!(told, 1);

        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        store.connection().busy_timeout(Duration::ZERO).unwrap();
        let error = store.append(&[Sample::default().row()], &[]).unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, StoreError::WriteLocked { .. }), "{said}");
        assert!(said.contains("by another program") && said.contains("disk hangs"), "{said}");
        other.execute_batch("ROLLBACK").unwrap();
        store.append(&[Sample::default().row()], &[]).unwrap();

        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        store.connection().busy_timeout(Duration::ZERO).unwrap();
        let said = store.revoke_key("key_1", 0).unwrap_err().to_string();
        assert!(said.contains("nothing was changed") && !said.contains("journal"), "{said}");
        let mut told = 0;
        store
            .await_change(&mut |_| {
                told += 1;
                other.execute_batch("ROLLBACK").unwrap();
            })
            .unwrap();
        assert_eq!(told, 1);
    }
}
