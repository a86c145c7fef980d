//! One process at a time owns a data directory: two drains on one journal would each remove what the
//! other still reads. The lock is the operating system's, so it ends with the process, however it ends.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Held as long as the directory is in use.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the lock, or fails with `WouldBlock` when another process has it.
    pub(crate) fn take(dir: &Path) -> io::Result<Self> {
        let path = dir.join("lock");
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// Makes a directory, and what is missing above it, that only its owner can look into: what clients
/// used is nobody else's business. One that is there keeps the permissions that somebody chose.
pub(crate) fn create_private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::ledger::journal::Directory;

    #[test]
    fn what_is_made_is_its_owners_and_what_is_there_keeps_its_permissions() {
        let top = tempfile::tempdir().expect("a directory");
        let data = top.path().join("deep/data");
        let mode = |path: &Path| {
            let metadata = std::fs::metadata(path).expect("it is there");
            metadata.permissions().mode() & 0o777
        };
        create_private_dir(&data).expect("makes");
        let lock = DirectoryLock::take(&data).expect("free");
        Directory::open(&data, 1 << 20, crate::config::Durability::Crash).expect("opens");
        assert_eq!(mode(&data), 0o700);
        assert_eq!(mode(&data.join("journal")), 0o700);
        assert_eq!(mode(&data.join("lock")), 0o600);
        let error = DirectoryLock::take(&data).expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(lock);

        let chosen = std::fs::Permissions::from_mode(0o750);
        std::fs::set_permissions(&data, chosen).expect("ours");
        create_private_dir(&data).expect("is there");
        assert_eq!(mode(&data), 0o750);
    }
}
