//! Who may do what with a data directory. A server has it for as long as it runs. A report that finds nobody
//! there has it until it has replayed the journal; beside a server, it only reads the store. Nobody makes
//! a store where there should be one, nor brings one up to date under somebody else.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Data, Durability};
use crate::files::create_private_dir;
use crate::journal::Directory;
use crate::ledger::backlog::{Backlog, behind};
use crate::ledger::drain::{Drain, Progress};
use crate::ledger::lock::{DirectoryLock, LockCheck, LockError, SERVE};
use crate::ledger::{LedgerError, directory_error};
use crate::store::{FILE_NAME, Store, StoreError};

use crate::ledger::lock::Holder;
pub(crate) use crate::ledger::waiting_for::WaitingFor;

/// The directory for a server, with its journal and the drain, which has read nothing yet.
pub(super) fn for_server(data: &Data) -> Result<(DirectoryLock, Drain), LedgerError> {
    create_private_dir(&data.dir).map_err(|source| directory_error(data, source))?;
    let mut tell = |awaited: &WaitingFor, waited: Duration| {
        let waited_s = waited.as_secs();
        tracing::info!(holder = %awaited, waited_s, "waiting for the data directory");
    };
    let lock = lock(data, SERVE, &mut tell)?;
    // A new store would take what the journal has for all there ever was, and nobody would have a key.
    if !Store::is_there(&data.dir) && has_journal(&data.dir) {
        return Err(missing(data));
    }
    Ok((lock, drain(data, &mut tell)?))
}

/// The directory for a report, which has to replay the journal; `None`: a server has it, and does that.
pub(super) fn for_report(
    data: &Data,
    command: &'static str,
    tell: &mut dyn FnMut(&WaitingFor, Duration),
) -> Result<Option<(DirectoryLock, Drain)>, LedgerError> {
    if !Store::is_there(&data.dir) {
        return Err(missing(data));
    }
    match lock(data, command, tell) {
        Err(LedgerError::InUse { holder, .. }) if !holder.is_passing() => Ok(None),
        Err(error) => Err(error),
        Ok(lock) => Ok(Some((lock, drain(data, tell)?))),
    }
}

/// A store that is opened to report from it, and what a person should know of that.
#[derive(Debug)]
pub(crate) struct Reported {
    pub(crate) store: Store,
    /// A server has the directory, and stores what has ended a little later.
    pub(crate) is_served: bool,
    /// What the replay did, which no log tells.
    pub(crate) replayed: Progress,
    /// What the store does not have although it should.
    pub(crate) behind: Option<Backlog>,
    /// Why that may not be all: a part of the journal could not be read.
    pub(crate) unread: Option<LedgerError>,
    /// Why the journal was not replayed although nobody else does it: the disk is full.
    pub(crate) full: Option<LedgerError>,
}

/// Opens the store for reading, with everything in it that the journal knows: if no server holds the
/// directory, its journal is replayed first; if one does, its drain is at most a second behind, unless
/// something is wrong. On a full disk without a server, the store is read as it is.
pub(crate) fn open_store(
    data: &Data,
    command: &'static str,
    now_ms: i64,
    tell: &mut dyn FnMut(&WaitingFor, Duration),
) -> Result<Reported, LedgerError> {
    let (replayed, full) = match replayed(data, command, tell) {
        Ok(replayed) => (replayed, None),
        Err(error) if error.is_disk_full() => (None, Some(error)),
        Err(error) => return Err(error),
    };
    if let Some(replayed) = replayed {
        let store = Store::open_existing(&data.dir)?;
        let is_served = false;
        return Ok(Reported { store, is_served, replayed, behind: None, unread: None, full });
    }
    // Of what nobody is about to store, all is missing that has ended.
    let (store, late_ms) = match full {
        None => (Store::open_existing(&data.dir)?, now_ms),
        Some(_) => (Store::open_full(&data.dir)?, i64::MAX),
    };
    let (behind, unread) = behind(data, &store, late_ms)?;
    let is_served = full.is_none();
    Ok(Reported { store, is_served, replayed: Progress::default(), behind, unread, full })
}

/// Replays the journal, unless a server holds the directory.
fn replayed(
    data: &Data,
    command: &'static str,
    tell: &mut dyn FnMut(&WaitingFor, Duration),
) -> Result<Option<Progress>, LedgerError> {
    let Some((_lock, mut drain)) = for_report(data, command, tell)? else { return Ok(None) };
    Ok(Some(drain.replay_telling(tell)?))
}

/// Opens the store for a change of tenants and keys, which need no journal. With `may_make` there may be
/// none yet.
pub(crate) fn open_for_keys(
    data: &Data,
    command: &'static str,
    may_make: bool,
    tell: &mut dyn FnMut(&WaitingFor, Duration),
) -> Result<Store, LedgerError> {
    let is_there = Store::is_there(&data.dir);
    if !is_there && (!may_make || has_journal(&data.dir)) {
        return Err(missing(data));
    }
    create_private_dir(&data.dir).map_err(|source| directory_error(data, source))?;
    // Whoever is there already has brought it up to date; who makes it is waited for.
    let lock = match is_there {
        true => DirectoryLock::take(&data.dir, command),
        false => DirectoryLock::wait_for(&data.dir, command, telling(tell)),
    };
    match lock {
        Ok(_lock) => Ok(open_patiently(data, tell)?),
        Err(LockError::Held(_)) => Ok(Store::open_existing(&data.dir)?),
        Err(LockError::Io(source)) => Err(directory_error(data, source)),
    }
}

/// The same, for who changes what is there: waits for a program that holds the write lock.
pub(crate) fn open_to_change(
    data: &Data,
    command: &'static str,
    may_make: bool,
    tell: &mut dyn FnMut(&WaitingFor, Duration),
) -> Result<Store, LedgerError> {
    let mut store = open_for_keys(data, command, may_make, tell).map_err(|error| match error {
        LedgerError::Store(error) => LedgerError::Store(error.of_change()),
        other => other,
    })?;
    let writer = WaitingFor::Holder(Holder::Writer);
    store.await_change(&mut |waited| tell(&writer, waited))?;
    Ok(store)
}

fn lock(
    data: &Data,
    command: &'static str,
    tell: &mut dyn FnMut(&WaitingFor, Duration),
) -> Result<DirectoryLock, LedgerError> {
    DirectoryLock::wait_for(&data.dir, command, telling(tell)).map_err(|error| match error {
        LockError::Held(holder) => {
            LedgerError::InUse { path: data.dir.display().to_string(), holder }
        }
        LockError::Io(source) => directory_error(data, source),
    })
}

fn telling(tell: &mut dyn FnMut(&WaitingFor, Duration)) -> impl FnMut(&Holder, Duration) {
    |holder, waited| tell(&WaitingFor::Holder(holder.clone()), waited)
}

/// Opens the store, and waits for a program that holds its write lock.
fn open_patiently(
    data: &Data,
    tell: &mut dyn FnMut(&WaitingFor, Duration),
) -> Result<Store, StoreError> {
    let writer = WaitingFor::Holder(Holder::Writer);
    Store::open_patiently(&data.dir, &mut |waited| tell(&writer, waited))
}

/// A program that holds the store's write lock is waited for: the replay would fail.
fn drain(data: &Data, tell: &mut dyn FnMut(&WaitingFor, Duration)) -> Result<Drain, LedgerError> {
    let directory = Directory::open(&data.dir, data.segment_bytes, data.durability)
        .map_err(|source| directory_error(data, source))?;
    let mut store = open_patiently(data, tell)?;
    store.keep_response_owners(data.response_owners);
    if data.durability == Durability::Power {
        store.sync_commits()?;
    }
    Ok(Drain::new(Arc::new(directory), store)?)
}

/// Why there is no store: nothing was ever recorded, or it is gone and its journal is not, or this user
/// may not look.
fn missing(data: &Data) -> LedgerError {
    match std::fs::read_dir(&data.dir) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => directory_error(data, source),
        _ if has_journal(&data.dir) => StoreError::Gone { path: data.dir.join(FILE_NAME) }.into(),
        _ => {
            let path = std::path::absolute(&data.dir).unwrap_or_else(|_| data.dir.clone());
            LedgerError::Nothing { path: path.display().to_string() }
        }
    }
}

fn has_journal(dir: &Path) -> bool {
    std::fs::read_dir(dir.join("journal")).is_ok_and(|mut entries| entries.next().is_some())
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::metadata(path).map(|found| (found.dev(), found.ino()))
}

/// The directory as a running server has it.
#[derive(Debug)]
pub(super) struct Hold {
    lock: DirectoryLock,
    journal: PathBuf,
    /// Device and inode of the journal's directory; `None` where it could not be asked.
    journal_is: Option<(u64, u64)>,
    is_failing: bool,
}

impl Hold {
    pub(super) fn new(lock: DirectoryLock, data: &Data) -> Self {
        let journal = data.dir.join("journal");
        let journal_is = identity(&journal).ok();
        Self { lock, journal, journal_is, is_failing: false }
    }

    /// Looks after the lock and its file. False when the directory is no longer this process's alone: then
    /// it may not touch it any more, as another could take what this one writes for what a dead one has left.
    pub(super) fn keep(&mut self) -> bool {
        let kept = match self.lock.keep() {
            Ok(LockCheck::Still) => identity(&self.journal).map(|found| match self.journal_is {
                Some(ours) if ours != found => None,
                _ => Some(LockCheck::Still),
            }),
            kept => kept.map(Some),
        };
        let was_failing = std::mem::replace(&mut self.is_failing, kept.is_err());
        match kept {
            Ok(Some(LockCheck::Still)) => true,
            Ok(None) => {
                tracing::error!(
                    journal = %self.journal.display(),
                    "the journal's directory was replaced by another one; this process serves nothing more: \
                     what it wrote is in the one that was there before"
                );
                false
            }
            Ok(Some(LockCheck::FileAnew)) => {
                tracing::error!(
                    "the data directory's lock file was removed or replaced, and is made again; leave it \
                     alone: it says who has the directory"
                );
                true
            }
            Ok(Some(LockCheck::FileTaken(holder))) => {
                tracing::error!(
                    %holder,
                    "the data directory's lock file was removed or replaced, and another process has \
                     taken the directory; this one serves nothing more: end one of them"
                );
                false
            }
            Ok(Some(LockCheck::OtherDirectory)) => {
                tracing::error!(
                    "the data directory was replaced by another one; this process serves nothing more: \
                     what it wrote is in the one that was there before"
                );
                false
            }
            Err(error) => {
                if !was_failing {
                    tracing::error!(
                        %error,
                        "the data directory, its lock file or its journal is gone, and cannot be made"
                    );
                }
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Journal;
    use crate::store::Filter;
    use crate::store::samples::Sample;

    /// What the workers write goes to the files that they have open, which the next start would not find.
    #[test]
    fn a_journal_that_another_directory_replaced_is_not_served_from() {
        let dir = tempfile::tempdir().expect("a directory");
        let (durability, segment_bytes, keep_rows) = (Durability::Crash, 1 << 20, None);
        let data = Data {
            dir: dir.path().to_owned(),
            durability,
            segment_bytes,
            keep_rows,
            response_owners: 1_000,
        };
        let (lock, _drain) = for_server(&data).expect("nobody is there");
        let (journal, moved) = (data.dir.join("journal"), data.dir.join("moved"));
        let mut hold = Hold::new(lock, &data);
        assert!(hold.keep());
        std::fs::rename(&journal, &moved).expect("moves");
        assert!(hold.keep(), "it may come back");
        std::fs::rename(&moved, &journal).expect("moves");
        assert!(hold.keep());
        std::fs::rename(&journal, &moved).expect("moves");
        std::fs::create_dir(&journal).expect("makes");
        assert!(!hold.keep());
    }

    #[test]
    fn on_a_full_disk_what_is_stored_is_read_alone_and_what_is_missing_is_counted() {
        let [killed, place] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
        let row = |id| Sample { id, ..Sample::default() }.row();
        let mut store = Store::open(killed.path()).expect("opens");
        store.append(&[row(1)], &[]).expect("stores");
        // As a killed process leaves it: the row is in the WAL only. What it shared is gone.
        for end in ["", "-wal"] {
            let name = format!("{FILE_NAME}{end}");
            std::fs::copy(killed.path().join(&name), place.path().join(&name)).expect("copies");
        }
        let (durability, segment_bytes, keep_rows) = (Durability::Crash, 1 << 20, None);
        let (dir, response_owners) = (place.path().to_owned(), 1_000);
        let data = Data { dir, durability, segment_bytes, keep_rows, response_owners };
        let directory = Directory::open(&data.dir, segment_bytes, durability).expect("opens");
        let mut journal = Journal::new(Arc::new(directory));
        for row in [row(2), row(3)] {
            drop((journal.open(&row.opened), journal.close(&row.closed)));
        }
        journal.commit().expect("writes");
        let files = || {
            let entries = std::fs::read_dir(&data.dir).expect("is there");
            let mut files: Vec<_> = entries.map(|entry| entry.expect("one").path()).collect();
            files.retain(|path| path.is_file());
            files.sort();
            files.into_iter().map(|path| (std::fs::read(&path).expect("reads"), path)).collect()
        };
        let before: Vec<_> = files();
        let store = Store::open_full(&data.dir).expect("reads");
        let stored = store.requests(&Filter::default(), None, 9).expect("reads");
        assert_eq!(stored.len(), 1);
        assert_eq!(behind(&data, &store, i64::MAX).expect("reads").0.map(|it| it.rows), Some(2));
        store.connection().execute("DELETE FROM requests", []).expect_err("it only reads");
        drop(store);
        assert!(before == files(), "nothing was written, removed or made");
    }

    #[test]
    fn a_server_makes_no_store_where_a_journal_is_left() {
        let dir = tempfile::tempdir().expect("a directory");
        let (durability, segment_bytes, keep_rows) = (Durability::Crash, 1 << 20, None);
        let data = Data {
            dir: dir.path().to_owned(),
            durability,
            segment_bytes,
            keep_rows,
            response_owners: 1_000,
        };
        drop(for_server(&data).expect("nothing was recorded yet"));
        let segment = dir.path().join("journal/0000000000000001.wj");
        std::fs::write(&segment, b"").expect("writes");
        drop(for_server(&data).expect("the store is there"));
        std::fs::write(&segment, b"").expect("writes");
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(dir.path().join(format!("{FILE_NAME}{end}")));
        }
        let error = for_server(&data).expect_err("it is gone").to_string();
        assert!(error.contains("is gone") && error.contains("journal"), "{error}");
        assert!(!Store::is_there(dir.path()) && segment.exists());
        std::fs::remove_file(segment).expect("it was left alone");
        drop(for_server(&data).expect("a new one is wanted"));
    }
}
