//! `weir backup FILE`: a copy of the store that is whole and consistent, made beside a running server. It
//! holds one state: a read transaction is open while it is copied, so that what the drain writes meanwhile
//! neither gets in nor makes SQLite begin anew. For as long the WAL grows, which the disks' speed bounds.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::LedgerError;
use super::behind::unstored;
use super::open::{Awaited, for_report};
use super::store::{Store, StoreError};
use crate::config::Data;

/// Pages copied between two words of progress: 16 MiB.
const STEP_PAGES: i32 = 1024;
/// How long a running server's drain may take for what the journal holds.
const DRAIN_WAIT: Duration = Duration::from_secs(30);
const DRAIN_POLL: Duration = Duration::from_millis(50);

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("cannot write {}: {source}", path.display())]
    Target { path: PathBuf, source: io::Error },
    #[error("{} is the store itself; name another file", path.display())]
    Itself { path: PathBuf },
    #[error(
        "the running server has not stored {rows} finished requests of its journal within 30 seconds; its \
         log says why"
    )]
    Behind { rows: usize },
    #[error("the copy to {} could not be made: {source}", path.display())]
    Copy { path: PathBuf, source: StoreError },
}

impl BackupError {
    /// The same of the store at `path`, where it is of one.
    pub(crate) fn at(self, path: &Path) -> Self {
        match self {
            Self::Ledger(error) => Self::Ledger(error.at(path)),
            other => other,
        }
    }
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
    tell: &mut dyn FnMut(&Awaited, Duration),
    mut progress: impl FnMut(u64, u64),
) -> Result<Option<LedgerError>, BackupError> {
    let failed = |source| BackupError::Target { path: target.to_owned(), source };
    let alone = for_report(data, "backup", tell)?;
    let is_alone = alone.is_some();
    if let Some((_lock, mut drain)) = alone {
        drain.replay_telling(tell).map_err(LedgerError::from)?;
    }
    let store = Store::open_existing(&data.dir)?;
    if store.is_file(target) {
        return Err(BackupError::Itself { path: target.to_owned() });
    }
    let unread = if is_alone { None } else { await_drain(data, &store)? };
    let partial = partial(target);
    // The umask would let others read who used what.
    create_private(&partial).map_err(failed)?;
    let copied = copy(&store, &partial, &mut progress);
    let placed = copied.and_then(|()| place(&partial, target).map_err(failed));
    if placed.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    placed.map(|()| unread)
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
            return Err(BackupError::Behind { rows: pending.len() });
        } else {
            std::thread::park_timeout(DRAIN_POLL);
        }
    }
    Ok(unread)
}

fn copy(
    store: &Store,
    partial: &Path,
    progress: &mut impl FnMut(u64, u64),
) -> Result<(), BackupError> {
    let failed = |error: rusqlite::Error| {
        let (path, source) = (partial.to_owned(), error.into());
        BackupError::Copy { path, source }
    };
    let snapshot = store.read()?;
    // It begins with its first statement.
    store.rows_from_ms()?;
    let mut copy = Connection::open(partial).map_err(failed)?;
    {
        let backup = Backup::new(&snapshot, &mut copy).map_err(failed)?;
        loop {
            let step = backup.step(STEP_PAGES).map_err(failed)?;
            let pages = backup.progress();
            let count = |pages: i32| u64::try_from(pages).unwrap_or(0);
            progress(count(pages.pagecount - pages.remaining), count(pages.pagecount));
            match step {
                StepResult::Done => break,
                StepResult::More => {}
                // Somebody has the file's lock for a moment.
                _ => std::thread::park_timeout(DRAIN_POLL),
            }
        }
    }
    // Another journal may have segments of the same numbers. Without positions a segment is read from
    // its beginning, and what the store has already changes nothing.
    let forget = "PRAGMA journal_mode = DELETE; DELETE FROM positions; PRAGMA journal_mode = WAL";
    copy.execute_batch(forget).map_err(failed)?;
    copy.close().map_err(|(_, error)| failed(error))
}

/// A new or emptied file for its owner only.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)
}

/// The name under which a file grows, beside where it will be.
pub(crate) fn partial(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

/// Gives a whole file its name, in the place of what had it, so that it survives a power cut.
pub(crate) fn place(partial: &Path, target: &Path) -> io::Result<()> {
    File::open(partial)?.sync_all()?;
    std::fs::rename(partial, target)?;
    let dir = target.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use super::super::journal::{Directory, Journal};
    use super::super::lock::{DirectoryLock, SERVE};
    use super::super::store::samples::Sample;
    use super::*;
    use crate::config::Durability;
    use crate::ledger::codec::tests::{closed, opened};
    use crate::ledger::drain::Drain;

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
        let restored = dir.path().join("restored");
        std::fs::create_dir(&restored).expect("makes");
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
        assert!(matches!(error, Err(BackupError::Itself { .. })));
        let error =
            backup(&data(dir.path()), Path::new("/nowhere/at/all"), &mut |_, _| (), |_, _| ());
        assert!(matches!(error, Err(BackupError::Target { .. })));
    }

    #[test]
    fn beside_a_server_it_holds_one_state_however_much_is_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let _server = DirectoryLock::take(dir.path(), SERVE).expect("free");
        let mut store = Store::open(dir.path()).expect("opens");
        let batch = |first: u64| -> Vec<_> {
            (first..first + 1_000).map(|id| Sample { id, ..Sample::default() }.row()).collect()
        };
        let positions = [super::super::store::Position { segment: "1".to_owned(), offset: 99 }];
        for n in 0..30 {
            store.append(&batch(n * 1_000), &positions).expect("appends");
        }
        let mut steps = 0;
        let target = dir.path().join("copy");
        backup(&data(dir.path()), &target, &mut |_, _| (), |_, _| {
            steps += 1;
            store.append(&batch(100_000 + steps * 1_000), &[]).expect("a writer never waits");
        })
        .expect("copies");
        assert!(steps > 0, "nothing was written meanwhile");
        std::fs::create_dir(dir.path().join("r")).expect("makes");
        std::fs::rename(&target, dir.path().join("r/weir.sqlite")).expect("moves");
        assert_eq!(requests(&dir.path().join("r")), 30_000);
        let copy = Store::open(&dir.path().join("r")).expect("opens");
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
        let target = dir.path().join("copy");
        std::thread::scope(|scope| {
            let copied =
                scope.spawn(|| backup(&data(dir.path()), &target, &mut |_, _| (), |_, _| ()));
            drain.pass().expect("passes");
            copied.join().expect("no panic").expect("copies");
        });
        std::fs::create_dir(dir.path().join("r")).expect("makes");
        std::fs::rename(&target, dir.path().join("r/weir.sqlite")).expect("moves");
        assert_eq!(requests(&dir.path().join("r")), 1);
    }
}
