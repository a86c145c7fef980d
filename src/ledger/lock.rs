//! One process at a time owns a data directory: two drains on one journal would each remove what the
//! other still reads. The lock is the operating system's, so it ends with the process, however it ends.
//! The locked file says who holds it, for those who wait.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const FILE_NAME: &str = "lock";
/// The command that keeps the directory for as long as it runs. All others only replay the journal.
pub(crate) const SERVE: &str = "serve";
/// How long another server is waited for: it may be about to end.
const SERVER_WAIT: Duration = Duration::from_secs(1);
/// How long the others are: a replay takes microseconds a request, and a journal can be long.
const REPLAY_WAIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
/// Between two words about a wait.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Held as long as the directory is in use.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    file: File,
    path: PathBuf,
    command: &'static str,
}

/// Who has a directory, as far as its lock file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// The subcommand and the process's number; `None` for an instant after the lock is taken.
    known: Option<(String, u32)>,
}

/// Why a directory is not ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    #[error("{0} has it")]
    Held(Holder),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl DirectoryLock {
    /// Takes the lock for a subcommand of `weir`, if nobody has it.
    pub(crate) fn take(dir: &Path, command: &'static str) -> Result<Self, LockError> {
        let path = dir.join(FILE_NAME);
        loop {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(LockError::Held(Holder::of(&path))),
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
            let lock = Self { file, path: path.clone(), command };
            // The name may have gone to another file meanwhile, which others lock.
            if lock.is_in_place() {
                lock.tell();
                return Ok(lock);
            }
        }
    }

    /// The same, but a holder is waited for: one that only replays the journal for a minute; by a server,
    /// another one for a second. `tell` hears now and then who that is, and how long it has been waited.
    pub(crate) fn wait_for(
        dir: &Path,
        command: &'static str,
        mut tell: impl FnMut(&Holder, Duration),
    ) -> Result<Self, LockError> {
        let begun = Instant::now();
        let mut next_word = Duration::ZERO;
        loop {
            let holder = match Self::take(dir, command) {
                Err(LockError::Held(holder)) => holder,
                other => return other,
            };
            let waited = begun.elapsed();
            let patience = match &holder.known {
                Some(_) if holder.is_passing() => REPLAY_WAIT,
                Some(_) if command != SERVE => Duration::ZERO,
                _ => SERVER_WAIT,
            };
            if waited >= patience {
                return Err(LockError::Held(holder));
            }
            if holder.is_passing() && waited >= next_word {
                tell(&holder, waited);
                next_word = waited + TELL_EVERY;
            }
            std::thread::park_timeout(POLL);
        }
    }

    /// Whether the file that is locked is the one that others would lock.
    fn is_in_place(&self) -> bool {
        let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let locked = self.file.metadata().map(identity).ok();
        locked.is_some() && locked == std::fs::metadata(&self.path).map(identity).ok()
    }

    /// Goes on holding the directory when somebody has removed the file or put another in its place:
    /// true when it had to be locked anew. It fails when another process was faster.
    pub(crate) fn keep(&mut self) -> Result<bool, LockError> {
        if self.is_in_place() {
            return Ok(false);
        }
        let dir = self.path.parent().unwrap_or(Path::new("."));
        *self = Self::take(dir, self.command)?;
        Ok(true)
    }

    /// Writes down who holds it.
    fn tell(&self) {
        let text = format!("{} {}\n", self.command, std::process::id());
        // On a full disk nobody learns it; the lock holds all the same.
        let _ = self.file.set_len(0).and_then(|()| (&self.file).write_all(text.as_bytes()));
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // While it is still locked; who is killed leaves its name, which the next one overwrites.
        let _ = self.file.set_len(0);
    }
}

impl Holder {
    fn of(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let known = text.trim_end().split_once(' ');
        Self { known: known.and_then(|(command, id)| Some((command.to_owned(), id.parse().ok()?))) }
    }

    /// It only replays the journal, and will be gone soon. A server keeps the directory until it is
    /// stopped, and so may whoever does not say who it is.
    pub(crate) fn is_passing(&self) -> bool {
        self.known.as_ref().is_some_and(|(command, _)| command != SERVE)
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.known {
            Some((command, id)) => write!(f, "`weir {command}` (process {id})"),
            None => f.write_str("another process"),
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

    fn holder(error: LockError) -> Holder {
        match error {
            LockError::Held(holder) => holder,
            LockError::Io(error) => panic!("{error}"),
        }
    }

    #[test]
    fn what_is_made_is_its_owners_and_what_is_there_keeps_its_permissions() {
        let top = tempfile::tempdir().expect("a directory");
        let data = top.path().join("deep/data");
        let mode = |path: &Path| {
            let metadata = std::fs::metadata(path).expect("it is there");
            metadata.permissions().mode() & 0o777
        };
        create_private_dir(&data).expect("makes");
        let lock = DirectoryLock::take(&data, SERVE).expect("free");
        Directory::open(&data, 1 << 20, crate::config::Durability::Crash).expect("opens");
        assert_eq!(mode(&data), 0o700);
        assert_eq!(mode(&data.join("journal")), 0o700);
        assert_eq!(mode(&data.join("lock")), 0o600);
        DirectoryLock::take(&data, SERVE).expect_err("taken");
        drop(lock);

        let chosen = std::fs::Permissions::from_mode(0o750);
        std::fs::set_permissions(&data, chosen).expect("ours");
        create_private_dir(&data).expect("is there");
        assert_eq!(mode(&data), 0o750);
    }

    #[test]
    fn the_file_says_who_holds_it_and_a_stale_word_does_no_harm() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(FILE_NAME);
        for stale in ["serve 4294967295 and more than fits\n", "\0\u{1}", ""] {
            std::fs::write(&path, stale).expect("writes");
            let lock = DirectoryLock::take(dir.path(), "verify").expect("nobody holds it");
            let found = holder(DirectoryLock::take(dir.path(), "usage").expect_err("taken"));
            let id = std::process::id();
            assert_eq!(found.to_string(), format!("`weir verify` (process {id})"));
            assert!(found.is_passing());
            drop(lock);
        }
        let lock = DirectoryLock::take(dir.path(), SERVE).expect("free");
        assert!(!holder(DirectoryLock::take(dir.path(), SERVE).expect_err("taken")).is_passing());
        std::fs::write(&path, "").expect("writes");
        let found = holder(DirectoryLock::take(dir.path(), SERVE).expect_err("taken"));
        assert_eq!(found, Holder::default());
        drop(lock);
    }

    #[test]
    fn whoever_replays_is_waited_for_by_name_and_a_server_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut held = Some(DirectoryLock::take(dir.path(), "verify").expect("free"));
        let mut told = Vec::new();
        let lock = DirectoryLock::wait_for(dir.path(), SERVE, |holder, _| {
            told.push(holder.to_string());
            held = None;
        });
        assert!(lock.is_ok() && told.len() == 1, "{told:?}");
        assert!(told[0].starts_with("`weir verify` (process "), "{told:?}");
        for command in ["usage", SERVE] {
            let failed = DirectoryLock::wait_for(dir.path(), command, |one, _| panic!("{one}"));
            assert!(!holder(failed.expect_err("a server has it")).is_passing());
        }
    }

    #[test]
    fn a_removed_file_is_locked_again_and_one_that_another_holds_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(FILE_NAME);
        let mut lock = DirectoryLock::take(dir.path(), SERVE).expect("free");
        assert!(!lock.keep().expect("it is there"));
        std::fs::remove_file(&path).expect("removes");
        assert!(lock.keep().expect("nobody was faster"));
        DirectoryLock::take(dir.path(), "usage").expect_err("held again");
        std::fs::remove_file(&path).expect("removes");
        let other = DirectoryLock::take(dir.path(), SERVE).expect("the name was free");
        holder(lock.keep().expect_err("another was faster"));
        drop(other);
        assert!(lock.keep().expect("it has ended"));
    }
}
