//! Which files a connection has open, and whether they still are the store. SQLite goes on with files that
//! somebody removed or replaced, and what it writes to them is lost; closing such a connection can even
//! write old pages into the new file.
//!
//! The connections of a process share the state that SQLite keeps for a file, by its inode. As long as one
//! of them has a removed `-shm` open, all that are opened get that one, too: so all close first.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::StoreError;

/// What SQLite adds to the database's name for its other files, which are there as long as somebody has
/// the database open.
pub(super) const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

type Identity = Option<(u64, u64)>;

/// The files by device and inode: the database, and its companions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Files {
    database: Identity,
    companions: [Identity; 2],
}

impl Files {
    /// What has the names now.
    pub(super) fn at(path: &Path) -> Self {
        let companions = COMPANIONS.map(|end| identity(&companion(path, end)));
        Self { database: identity(path), companions }
    }

    /// All of them are there.
    pub(super) fn are_there(&self) -> bool {
        self.database.is_some() && self.companions.iter().all(Option::is_some)
    }

    /// Whether `path` is one of them.
    pub(super) fn have(&self, path: &Path) -> bool {
        let found = identity(path);
        let [wal, shm] = self.companions;
        found.is_some() && [self.database, wal, shm].contains(&found)
    }

    /// The first companion that is still there although the database is another one.
    fn left_over(&self, now: &Self) -> Option<&'static str> {
        let is_left =
            |at: &usize| now.companions[*at].is_some_and(|it| Some(it) == self.companions[*at]);
        let is_other = now.database != self.database;
        (0..COMPANIONS.len()).find(is_left).filter(|_| is_other).map(|at| COMPANIONS[at])
    }
}

/// A name beside the database's.
pub(super) fn companion(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

fn identity(path: &Path) -> Identity {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// The files that the connections of this process to one store have open.
#[derive(Clone, Debug, Default)]
pub(super) struct Siblings(Arc<Mutex<Vec<Files>>>);

impl Siblings {
    /// Refuses while a connection has files open that are not in place, or was opened on `last`, whose
    /// companions still lie beside a new database.
    pub(super) fn check(&self, path: &Path, last: Option<&Files>) -> Result<(), StoreError> {
        let now = Files::at(path);
        if let Some(end) = last.and_then(|last| last.left_over(&now)) {
            let left = companion(path, end);
            return Err(StoreError::LeftOver { path: path.to_owned(), left });
        }
        let is_stale = |open: &Files| open.database == now.database && *open != now;
        match self.lock().iter().any(is_stale) {
            true => Err(StoreError::StillOpen { path: path.to_owned() }),
            false => Ok(()),
        }
    }

    pub(super) fn add(&self, files: Files) {
        self.lock().push(files);
    }

    pub(super) fn remove(&self, files: &Files) {
        let mut open = self.lock();
        if let Some(at) = open.iter().position(|one| one == files) {
            open.swap_remove(at);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Files>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
