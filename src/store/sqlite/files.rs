//! Which files a connection has open, and whether they still are the store. SQLite goes on with files that
//! somebody removed or replaced, and what it writes to them is lost; closing such a connection can even
//! write old pages into the new file.
//!
//! The connections of a process share the state that SQLite keeps for a file, by its inode. As long as one
//! of them has a removed `-shm` open, all that are opened get that one, too: so all close first.
//!
//! The database's name may be a symbolic link. SQLite follows it, and has its other files beside what it leads to.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::StoreError;
use crate::files::create_private_dir;

/// What SQLite adds to the database's name for its other files, which are there as long as somebody has
/// the database open.
pub(super) const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// A file by device and inode, whose number is used again once nobody has the file open; and where the file
/// system knows it, by when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    made: Option<SystemTime>,
}

/// The database and its companions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Files {
    database: Option<Identity>,
    companions: [Option<Identity>; 2],
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

    /// Whether this database has its name now.
    pub(super) fn has_database(&self, path: &Path) -> bool {
        self.database.is_some() && identity(path) == self.database
    }

    /// The first companion that is still there although the database is another one. If it `was_away`, the
    /// same number says nothing: a copy that came to its place can have got that.
    fn left_over(&self, now: &Self, was_away: bool) -> Option<&'static str> {
        let is_known = |it: Identity| !was_away || it.made.is_some();
        if now.database == self.database && now.database.is_some_and(is_known) {
            return None;
        }
        let is_left =
            |at: &usize| now.companions[*at].is_some_and(|it| Some(it) == self.companions[*at]);
        (0..COMPANIONS.len()).find(is_left).map(|at| COMPANIONS[at])
    }
}

/// SQLite would create the file with the umask's permissions; its WAL and shared memory take after
/// the main file. What is there already keeps the permissions that somebody chose, and is not opened.
pub(super) fn create_private(dir: &Path, path: &Path) -> Result<(), StoreError> {
    let failed = |path: &Path, source| StoreError::Create { path: path.to_owned(), source };
    create_private_dir(dir).map_err(|error| failed(dir, error))?;
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(path, error)),
        _ => Ok(()),
    }
}

/// The file that a database's name leads to.
pub(super) fn target(path: &Path) -> PathBuf {
    let target = path.is_symlink().then(|| path.canonicalize().ok()).flatten();
    target.unwrap_or_else(|| path.to_owned())
}

/// A name beside the database's.
pub(super) fn companion(path: &Path, end: &str) -> PathBuf {
    let mut name = target(path).into_os_string();
    name.push(end);
    PathBuf::from(name)
}

fn identity(path: &Path) -> Option<Identity> {
    let metadata = std::fs::metadata(path).ok()?;
    let (device, inode) = (metadata.dev(), metadata.ino());
    Some(Identity { device, inode, made: metadata.created().ok() })
}

/// The files that the connections of this process to one store have open.
#[derive(Clone, Debug, Default)]
pub(super) struct Siblings(Arc<Mutex<Vec<Files>>>);

impl Siblings {
    /// Refuses while nothing is there, while companions of the `last` database lie beside a new one, or while
    /// a connection has files open that are not in place. `was_away`: that database was seen to be gone.
    pub(super) fn check(
        &self,
        path: &Path,
        last: &Files,
        was_away: bool,
    ) -> Result<(), StoreError> {
        let now = Files::at(path);
        if now.database.is_none() {
            return Err(StoreError::Gone { path: path.to_owned() });
        }
        // What another connection has gone over to is not left over, whatever numbers it got.
        let left = last.left_over(&now, was_away).filter(|_| !self.lock().contains(&now));
        if let Some(end) = left {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn companions_are_left_over_also_beside_a_database_that_got_the_old_number() {
        let file = |inode, made: Option<u64>| {
            let made = made.map(|s| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(s));
            Some(Identity { device: 1, inode, made })
        };
        let files = |database, wal, shm| Files { database, companions: [wal, shm] };
        for is_told in [true, false] {
            let made = |second| is_told.then_some(second);
            let (wal, shm) = (file(11, made(5)), file(12, made(5)));
            let last = files(file(10, made(5)), wal, shm);
            let of = |database, was_away| last.left_over(&files(database, wal, shm), was_away);
            // Never away, or another by its number.
            assert_eq!(of(last.database, false), None);
            assert_eq!(of(file(20, made(9)), false), Some("-wal"));
            assert_eq!(of(file(20, made(9)), true), Some("-wal"));
            // The old number once more.
            assert_eq!(of(file(10, made(9)), true), Some("-wal"));
            // Moved away and back, which can only be told where files say when they were made.
            assert_eq!(of(last.database, true), (!is_told).then_some("-wal"));
            let only = |wal, shm| last.left_over(&files(file(20, made(9)), wal, shm), true);
            assert_eq!(only(None, shm), Some("-shm"));
            assert_eq!(only(file(21, made(9)), None), None);
        }
    }
}
