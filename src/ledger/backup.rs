//! `weir backup FILE`: a copy of the store that is whole and consistent, made beside a running server. It
//! holds one state: a read transaction is open while it is copied, so that what the drain writes meanwhile
//! neither gets in nor makes SQLite begin anew. For as long the WAL grows, which the disks' speed bounds.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::LedgerError;
use super::backlog::unstored;
use super::open::{WaitingFor, for_report};
use super::output_file::{OutputFile, Target, TargetError};
use crate::config::Data;
use crate::store::{CopyError, Store, StoreError};

/// How long a running server's drain may take for what the journal holds.
const DRAIN_WAIT: Duration = Duration::from_secs(30);
const DRAIN_POLL: Duration = Duration::from_millis(50);

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("{} is no regular file; a backup needs one", path.display())]
    NoFile { path: PathBuf },
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(
        "the store is damaged, and a copy of it is no backup: {}; {} is as it was. Restore an older backup, or \
         save what can be read by `.recover` of SQLite's shell (docs/damage.md)",
        problems.first().map_or("", String::as_str).trim(),
        path.display()
    )]
    Damaged { path: PathBuf, problems: Vec<String> },
    #[error(
        "the running server has not stored all of its journal (finished requests: {rows}) within 30 seconds; its \
         log says why"
    )]
    Backlog { rows: usize },
    #[error("can't write the copy {}: {why}", path.display())]
    Copy { path: PathBuf, why: String },
}

impl From<StoreError> for BackupError {
    fn from(error: StoreError) -> Self {
        Self::Ledger(error.into())
    }
}

/// Copies the store to `target`, which appears under its name once it is whole and synced, and replaces
/// what had that name. Everything that had ended when this began is in it. `progress` is told how many
/// pages of how many are done, and `tell` what is waited for. Returns why something of a running server's journal may be
/// missing: a part of it could not be read.
pub(crate) fn backup(
    data: &Data,
    target: &Path,
    tell: &mut dyn FnMut(&WaitingFor, Duration),
    mut progress: impl FnMut(u64, u64),
) -> Result<Option<LedgerError>, BackupError> {
    let failed = |source| BackupError::Write { path: target.to_owned(), source };
    let alone = for_report(data, "backup", tell)?;
    let is_alone = alone.is_some();
    if let Some((_lock, mut drain)) = alone {
        drain.replay_telling(tell).map_err(LedgerError::from)?;
    }
    let store = Store::open_existing(&data.dir)?;
    let place = match Target::of(target, data, &store)? {
        Target::File(place) => place,
        Target::Stream(path) => return Err(BackupError::NoFile { path }),
    };
    let unread = if is_alone { None } else { await_drain(data, &store)? };
    let growing = OutputFile::beside(place).map_err(failed)?;
    let problems = store.copy_to(growing.path(), &mut progress).map_err(|error| match error {
        CopyError::Store(error) => error.into(),
        CopyError::Write(why) => BackupError::Copy { path: target.to_owned(), why },
    })?;
    // It would take the place of a good one. Pages are copied as they are, whatever they hold.
    if !problems.is_empty() {
        return Err(BackupError::Damaged { path: target.to_owned(), problems });
    }
    growing.place().map_err(failed)?;
    Ok(unread)
}

/// Waits until the store has what had ended when this began, as far as it can be read.
fn await_drain(data: &Data, store: &Store) -> Result<Option<LedgerError>, BackupError> {
    let (unstored, unread) = unstored(data, store)?;
    let mut pending: Vec<_> = unstored.into_keys().collect();
    let give_up = Instant::now() + DRAIN_WAIT;
    while let Some(event_id) = pending.last() {
        if store.has_row(*event_id)? {
            pending.pop();
        } else if Instant::now() >= give_up {
            return Err(BackupError::Backlog { rows: pending.len() });
        } else {
            std::thread::park_timeout(DRAIN_POLL);
        }
    }
    Ok(unread)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use super::super::lock::{DirectoryLock, SERVE};
    use super::*;
    use crate::config::Durability;
    use crate::journal::codec::tests::{closed, opened};
    use crate::journal::{Directory, Journal};
    use crate::ledger::drain::Drain;
    use crate::store::samples::{Sample, damage, store_with};

    fn data(dir: &Path) -> Data {
        let (durability, segment_bytes) = (Durability::Crash, 1 << 20);
        let (keep_rows, response_owners) = (None, 1_000);
        Data { dir: dir.to_owned(), durability, segment_bytes, keep_rows, response_owners }
    }

    fn requests(dir: &Path) -> u64 {
        let store = Store::open(dir).expect("opens");
        store.balances(i64::MIN, i64::MAX).expect("reads").iter().map(|b| b.requests).sum()
    }

    #[test]
    fn what_the_journal_holds_is_in_the_copy_and_the_copy_is_private_and_restorable() {
        let dir = tempfile::tempdir().expect("a directory");
        drop(Store::open(dir.path()).expect("a store without rows"));
        let directory = Directory::open(dir.path(), 1 << 20, Durability::Crash).expect("opens");
        let mut journal = Journal::new(Arc::new(directory));
        let _ = (journal.open(&opened(1)), journal.close(&closed(1)), journal.open(&opened(2)));
        journal.commit().expect("writes");
        drop(journal);
        let outside = tempfile::tempdir().expect("a directory");
        let restored = outside.path().to_owned();
        let target = restored.join("weir.sqlite");
        let mut last = (0, 0);
        backup(&data(dir.path()), &target, &mut |_, _| (), |done, total| last = (done, total))
            .expect("copies");
        assert!(last.0 > 0 && last.0 == last.1, "{last:?}");
        let mode = std::fs::metadata(&target).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&restored).expect("reads").count(), 1, "nothing else is left");
        assert_eq!(requests(&restored), 2);
        let error =
            backup(&data(dir.path()), &dir.path().join("weir.sqlite"), &mut |_, _| (), |_, _| ());
        assert!(matches!(error, Err(BackupError::Target(TargetError::Own { .. }))));
        let error =
            backup(&data(dir.path()), Path::new("/nowhere/at/all"), &mut |_, _| (), |_, _| ());
        assert!(matches!(error, Err(BackupError::Target(TargetError::Io { .. }))));
    }

    #[test]
    fn beside_a_server_it_holds_one_state_however_much_is_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let _server = DirectoryLock::take(dir.path(), SERVE).expect("free");
        let mut store = Store::open(dir.path()).expect("opens");
        let batch = |first: u64| -> Vec<_> {
            (first..first + 1_000).map(|id| Sample { id, ..Sample::default() }.row()).collect()
        };
        let positions = [crate::store::Position { segment: "1".to_owned(), offset: 99 }];
        for n in 0..30 {
            store.append(&batch(n * 1_000), &positions).expect("appends");
        }
        let mut steps = 0;
        let outside = tempfile::tempdir().expect("a directory");
        let target = outside.path().join("weir.sqlite");
        backup(&data(dir.path()), &target, &mut |_, _| (), |_, _| {
            steps += 1;
            store.append(&batch(100_000 + steps * 1_000), &[]).expect("a writer never waits");
        })
        .expect("copies");
        assert!(steps > 0, "nothing was written meanwhile");
        assert_eq!(requests(outside.path()), 30_000);
        let copy = Store::open(outside.path()).expect("opens");
        assert!(copy.positions().expect("reads").is_empty(), "they are of another journal");
    }

    #[test]
    fn beside_a_server_it_waits_for_the_drain() {
        let dir = tempfile::tempdir().expect("a directory");
        let _server = DirectoryLock::take(dir.path(), SERVE).expect("free");
        let store = Store::open(dir.path()).expect("opens");
        let directory = Directory::open(dir.path(), 1 << 20, Durability::Crash).expect("opens");
        let directory = Arc::new(directory);
        let mut journal = Journal::new(directory.clone());
        let _ = (journal.open(&opened(1)), journal.close(&closed(1)), journal.open(&opened(2)));
        journal.commit().expect("writes");
        let mut drain = Drain::new(directory, store).expect("begins");
        let outside = tempfile::tempdir().expect("a directory");
        let target = outside.path().join("weir.sqlite");
        std::thread::scope(|scope| {
            let copied =
                scope.spawn(|| backup(&data(dir.path()), &target, &mut |_, _| (), |_, _| ()));
            drain.pass().expect("passes");
            copied.join().expect("no panic").expect("copies");
        });
        assert_eq!(requests(outside.path()), 1);
    }

    #[test]
    fn what_is_no_good_copy_takes_the_place_of_none() {
        let (dir, mut store) = store_with(&[]);
        let rows: Vec<_> = (0..2_000).map(|id| Sample { id, ..Sample::default() }.row()).collect();
        store.append(&rows, &[]).expect("appends");
        let outside = tempfile::tempdir().expect("a directory");
        let target = outside.path().join("weir.sqlite");
        let run = || backup(&data(dir.path()), &target, &mut |_, _| (), |_, _| ());
        run().expect("it is sound");
        let good = std::fs::read(&target).expect("reads");
        store.connection().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").expect("writes");
        drop(store);
        let file = dir.path().join("weir.sqlite");
        damage(&file);
        let error = run().expect_err("it is damaged");
        assert!(matches!(&error, BackupError::Damaged { problems, .. } if !problems.is_empty()));
        let said = error.to_string();
        assert!(said.contains("is as it was") && said.contains("page"), "{said}");
        assert_eq!(std::fs::read(&target).expect("reads"), good);
        let socket = outside.path().join("socket");
        let _socket = std::os::unix::net::UnixListener::bind(&socket).expect("binds");
        let error = backup(&data(dir.path()), &socket, &mut |_, _| (), |_, _| ());
        assert!(matches!(error, Err(BackupError::NoFile { .. })), "{error:?}");
        assert_eq!(std::fs::read_dir(outside.path()).expect("reads").count(), 2, "nothing is left");
    }

    #[test]
    fn of_two_at_once_to_one_file_each_is_whole() {
        let (dir, mut store) = store_with(&[]);
        let rows: Vec<_> = (0..2_000).map(|id| Sample { id, ..Sample::default() }.row()).collect();
        store.append(&rows, &[]).expect("appends");
        let outside = tempfile::tempdir().expect("a directory");
        let target = outside.path().join("weir.sqlite");
        let another = || backup(&data(dir.path()), &target, &mut |_, _| (), |_, _| ());
        let mut whole = Vec::new();
        backup(&data(dir.path()), &target, &mut |_, _| (), |_, _| {
            another().expect("copies");
            whole.push(requests(outside.path()));
        })
        .expect("copies");
        assert!(!whole.is_empty() && whole.iter().all(|rows| *rows == 2_000), "{whole:?}");
        assert_eq!(requests(outside.path()), 2_000);
        assert_eq!(std::fs::read_dir(outside.path()).expect("reads").count(), 1);
    }
}
