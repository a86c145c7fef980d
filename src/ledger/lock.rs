//! One process at a time owns a data directory: two drains on one journal would each remove what the
//! other still reads. The locks are the operating system's, so they end with the process, however it ends.
//! There are two. That on the directory itself is the one that counts: nobody removes it without all that is
//! in it. That on the file `lock`, which anybody can remove, says who it is, for those who wait.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::wait_notice::WaitNotice;

const FILE_NAME: &str = "lock";
/// The command that keeps the directory for as long as it runs. All others only replay the journal.
pub(crate) const SERVE: &str = "serve";
/// How long another server is waited for: it may be about to end.
const SERVER_WAIT: Duration = Duration::from_secs(1);
/// How long the others are: a replay takes microseconds a request, and a journal can be long.
const REPLAY_WAIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// Held as long as the directory is in use.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    /// Let go first: whoever finds the directory free finds the file free.
    file: File,
    dir: File,
    path: PathBuf,
    command: &'static str,
}

/// What became of a lock that is held for long.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LockCheck {
    Still,
    /// Somebody had removed the file or put another in its place, and it is locked anew.
    FileAnew,
    /// The same, but another process has locked that file.
    FileTaken(Holder),
    /// Another directory stands where this one was: nobody is kept out of that.
    OtherDirectory,
}

/// Who has a directory, as far as its lock file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Holder {
    /// For an instant after the lock is taken, or after its file was removed.
    #[default]
    Unknown,
    /// The subcommand and the process's number.
    Weir { command: String, process: u32 },
    /// It holds the store's write lock: another program's transaction, or that of a weir whose sync hangs. SQLite
    /// does not say whose.
    Writer,
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
        let locked_dir = locked(dir, OpenOptions::new().read(true), dir)?;
        let file = locked_file(dir)?;
        let lock = Self { file, dir: locked_dir, path: dir.to_owned(), command };
        lock.tell();
        Ok(lock)
    }

    /// The same, but a holder is waited for: one that only replays the journal for a minute; by a server,
    /// another one for a second. `tell` hears now and then who that is, and how long it has been waited.
    pub(crate) fn wait_for(
        dir: &Path,
        command: &'static str,
        mut tell: impl FnMut(&Holder, Duration),
    ) -> Result<Self, LockError> {
        let begun = Instant::now();
        let mut notice = WaitNotice::default();
        loop {
            let holder = match Self::take(dir, command) {
                Err(LockError::Held(holder)) => holder,
                other => return other,
            };
            let waited = begun.elapsed();
            let patience = match &holder {
                Holder::Weir { .. } if holder.is_passing() => REPLAY_WAIT,
                Holder::Weir { .. } if command != SERVE => Duration::ZERO,
                _ => SERVER_WAIT,
            };
            if waited >= patience {
                return Err(LockError::Held(holder));
            }
            if holder.is_passing() && notice.is_due(waited) {
                tell(&holder, waited);
            }
            std::thread::park_timeout(POLL);
        }
    }

    /// Goes on holding the directory, and makes its file again when somebody has removed it. Fails where
    /// that can't be made, or the directory is not there, for now.
    pub(crate) fn keep(&mut self) -> io::Result<LockCheck> {
        if !is_at(&self.dir, &self.path)? {
            return Ok(LockCheck::OtherDirectory);
        }
        if is_at(&self.file, &self.path.join(FILE_NAME)).unwrap_or(false) {
            return Ok(LockCheck::Still);
        }
        self.file = match locked_file(&self.path) {
            Ok(file) => file,
            Err(LockError::Held(holder)) => return Ok(LockCheck::FileTaken(holder)),
            Err(LockError::Io(error)) => return Err(error),
        };
        self.tell();
        Ok(LockCheck::FileAnew)
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

fn locked_file(dir: &Path) -> Result<File, LockError> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    locked(&dir.join(FILE_NAME), &options, dir)
}

/// Opens and locks what has this name, in or as the directory `dir`.
fn locked(path: &Path, options: &OpenOptions, dir: &Path) -> Result<File, LockError> {
    loop {
        let file = options.open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Held(Holder::of(dir))),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        // The name may have gone to another one meanwhile, which others lock.
        if is_at(&file, path).unwrap_or(false) {
            return Ok(file);
        }
    }
}

/// Whether that is what has this name now.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
    Ok(identity(std::fs::metadata(path)?) == identity(file.metadata()?))
}

impl Holder {
    fn of(dir: &Path) -> Self {
        let text = std::fs::read_to_string(dir.join(FILE_NAME)).unwrap_or_default();
        let known = text.trim_end().split_once(' ').and_then(|(command, process)| {
            Some(Self::Weir { command: command.to_owned(), process: process.parse().ok()? })
        });
        known.unwrap_or_default()
    }

    /// It only replays the journal, and will be gone soon. A server keeps the directory until it is
    /// stopped, and so may whoever does not say who it is.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Weir { command, .. } if command != SERVE)
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Weir { command, process } => write!(f, "`weir {command}` (process {process})"),
            Self::Writer => f.write_str(
                "who holds the store's write lock: another program, or a weir whose disk hangs",
            ),
            Self::Unknown => f.write_str("another process"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::files::create_private_dir;
    use crate::journal::Directory;

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

    /// Whoever came in between would replay and remove the journal that is being written.
    #[test]
    fn a_removed_file_lets_nobody_in_and_is_made_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(FILE_NAME);
        let mut lock = DirectoryLock::take(dir.path(), SERVE).expect("free");
        assert_eq!(lock.keep().expect("it is there"), LockCheck::Still);
        std::fs::remove_file(&path).expect("removes");
        for command in ["usage", SERVE] {
            let found = holder(DirectoryLock::take(dir.path(), command).expect_err("held"));
            assert_eq!(found, Holder::Unknown);
            assert!(!path.exists());
        }
        assert_eq!(lock.keep().expect("nobody was faster"), LockCheck::FileAnew);
        let found = holder(DirectoryLock::take(dir.path(), "usage").expect_err("held"));
        assert_eq!(found.to_string(), format!("`weir serve` (process {})", std::process::id()));
        // Who does not know of the directory's lock.
        std::fs::remove_file(&path).expect("removes");
        let other = File::create(&path).expect("makes");
        other.try_lock().expect("nobody has it");
        assert_eq!(lock.keep().expect("it is there"), LockCheck::FileTaken(Holder::Unknown));
        drop(other);
        assert_eq!(lock.keep().expect("it has ended"), LockCheck::FileAnew);
        drop(lock);
        DirectoryLock::take(dir.path(), "usage").expect("free");
    }

    #[test]
    fn a_directory_that_is_gone_may_come_back_and_another_is_not_ours() {
        let top = tempfile::tempdir().expect("a directory");
        let (data, moved) = (top.path().join("data"), top.path().join("moved"));
        create_private_dir(&data).expect("makes");
        let mut lock = DirectoryLock::take(&data, SERVE).expect("free");
        std::fs::rename(&data, &moved).expect("moves");
        assert_eq!(lock.keep().expect_err("gone").kind(), io::ErrorKind::NotFound);
        std::fs::rename(&moved, &data).expect("moves");
        assert_eq!(lock.keep().expect("it is back"), LockCheck::Still);
        std::fs::rename(&data, &moved).expect("moves");
        create_private_dir(&data).expect("makes");
        assert_eq!(lock.keep().expect("something is there"), LockCheck::OtherDirectory);
    }
}
