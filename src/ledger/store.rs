//! The store: one SQLite file that holds the rows, their hourly roll-ups, how far the journal has
//! been drained, and the tenants with their keys.
//!
//! Rows, roll-ups and journal positions change in one transaction, keyed by event id. That is what
//! makes a replay of any journal segment harmless, and what lets a report trust the roll-ups alone.
//!
//! Several processes have the file open at once (a server's drain, its readers, the CLI): it is in
//! WAL mode, so readers never wait, and writers take turns, each waiting up to [`BUSY_WAIT`].

mod append;
mod expire;
mod keys;
mod prices;
mod recompute;
mod recost;
#[cfg(test)]
pub(crate) mod samples;
mod schema;
mod sums;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::ledger::lock::create_private_dir;

pub(crate) use append::Position;
#[cfg(test)]
pub(crate) use append::synced_commits;
pub(crate) use keys::NewKey;
pub(crate) use recompute::Owner;
pub(crate) use recost::Recost;
pub(crate) use sums::{Balance, Sums};
pub(in crate::ledger) use sums::{Range, hours_of, usage_at};

/// The database's name in the data directory.
pub(crate) const FILE_NAME: &str = "weir.sqlite";

/// How long one writer waits for another before it gives up with "database is locked".
const BUSY_WAIT: Duration = Duration::from_secs(10);

/// Older versions can corrupt a WAL that several connections write and checkpoint at once.
const OLDEST_SQLITE: i32 = 3_051_003;

/// Bytes that the WAL file keeps after a checkpoint; without it one big transaction's size stays.
const WAL_KEPT_BYTES: i64 = 16 * 1024 * 1024;

/// Prepared statements kept per connection: more than this file's modules have.
const STATEMENTS_KEPT: usize = 32;

/// One connection to the store. It is not shared between threads: each opens its own.
#[derive(Debug)]
pub(crate) struct Store {
    conn: Connection,
    path: PathBuf,
    /// Which file that was: device and inode.
    identity: (u64, u64),
    syncs_commits: bool,
}

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("can't create {}: {source}", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("can't write to {}: {source}", path.display())]
    NotWritable { path: PathBuf, source: io::Error },
    #[error("can't open {}: {source}", path.display())]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error(
        "SQLite {found} is too old: 3.51.3 or newer is needed, as older ones can corrupt a WAL"
    )]
    OldSqlite { found: &'static str },
    #[error(
        "SQLite would not set {name} to {wanted} (it is {found}); is the data directory on a local disk?"
    )]
    Setting { name: &'static str, wanted: &'static str, found: String },
    #[error(
        "{} was written by a newer weir (schema {found}, this one knows {ours}): use that version, or another data directory",
        path.display()
    )]
    NewerSchema { path: PathBuf, found: i64, ours: i64 },
    #[error(
        "{} has other tables than schema {version} has: an unreleased weir wrote it; use that one, or move the file away",
        path.display()
    )]
    OtherSchema { path: PathBuf, version: usize },
    #[error(
        "{} is gone; the journal keeps the rows until the file, or a backup of it, is there again \
         (a restart makes a new one)",
        path.display()
    )]
    Gone { path: PathBuf },
    #[error("the store holds a value that can't be: {0}")]
    Corrupt(String),
    #[error("no key `{0}`; `weir key list` shows them")]
    UnknownKey(String),
    #[error("key `{0}` is revoked, and stays so; `weir key create` makes a new one")]
    Revoked(String),
    #[error("no tenant `{0}`; `weir tenant list` shows them")]
    UnknownTenant(String),
    #[error("there is a tenant `{0}` already; `weir tenant set {0} …` changes its limits")]
    TenantExists(String),
    #[error("the store failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

impl Store {
    /// Opens `dir`'s database, and creates both where there is none: readable by their owner only.
    /// An older schema is brought up to date, a newer one is refused.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        if rusqlite::version_number() < OLDEST_SQLITE {
            return Err(StoreError::OldSqlite { found: rusqlite::version() });
        }
        let path = dir.join(FILE_NAME);
        create_private(dir, &path)?;
        Self::open_file(path)
    }

    /// Opens `dir`'s database only if there is one.
    pub(crate) fn open_existing(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(FILE_NAME);
        match path.exists() {
            true => Self::open_file(path),
            false => Err(StoreError::Gone { path }),
        }
    }

    fn open_file(path: PathBuf) -> Result<Self, StoreError> {
        let open = |source| StoreError::Open { path: path.clone(), source };
        let mut conn = Connection::open(&path).map_err(open)?;
        conn.busy_timeout(BUSY_WAIT).map_err(open)?;
        schema::configure(&conn)?;
        schema::migrate(&mut conn, &path)?;
        conn.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
        let identity = identity(&path).ok_or_else(|| StoreError::Gone { path: path.clone() })?;
        Ok(Self { conn, path, identity, syncs_commits: false })
    }

    /// Whether the file that is open is still the one in the data directory. SQLite goes on with a file
    /// that was removed, and everything written to it is lost.
    pub(crate) fn is_in_place(&self) -> bool {
        identity(&self.path) == Some(self.identity)
    }

    /// Whether `path` is this store's file.
    pub(crate) fn is_file(&self, path: &Path) -> bool {
        identity(path) == Some(self.identity)
    }

    /// For tests, which break it.
    #[cfg(test)]
    pub(crate) fn connection(&self) -> &Connection {
        &self.conn
    }

    /// Opens what stands where this store was.
    pub(crate) fn reopen(&self) -> Result<Self, StoreError> {
        if !self.path.exists() {
            return Err(StoreError::Gone { path: self.path.clone() });
        }
        let mut store = Self::open_file(self.path.clone())?;
        if self.syncs_commits {
            store.sync_commits()?;
        }
        Ok(store)
    }

    /// From here on a commit has survived a power cut when it returns, and not only a crash.
    pub(crate) fn sync_commits(&mut self) -> Result<(), StoreError> {
        self.syncs_commits = true;
        schema::set_synchronous(&self.conn, "FULL", "2")?;
        // The file's own name; SQLite does it for its other files.
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let synced = File::open(dir).and_then(|dir| dir.sync_all());
        synced.map_err(|source| StoreError::Create { path: dir.to_owned(), source })
    }

    /// Gives back the memory that only makes the next statements quicker.
    pub(crate) fn shrink(&self) {
        // Whether it could matters to nobody.
        let _ = self.conn.execute_batch("PRAGMA shrink_memory");
    }

    /// A transaction that writes. It takes the write lock at once: one that begins by reading can't
    /// wait for another writer later, it would fail.
    fn write(&mut self) -> Result<Transaction<'_>, StoreError> {
        Ok(self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?)
    }

    /// A transaction that only reads, so that several statements see the same state.
    pub(in crate::ledger) fn read(&self) -> Result<Transaction<'_>, StoreError> {
        Ok(self.conn.unchecked_transaction()?)
    }

    /// The same, unless one is open already.
    fn snapshot(&self) -> Result<Option<Transaction<'_>>, StoreError> {
        self.conn.is_autocommit().then(|| self.read()).transpose()
    }
}

/// SQLite would create the file with the umask's permissions; its WAL and shared memory take after
/// the main file. What is there already keeps the permissions that somebody chose.
fn create_private(dir: &Path, path: &Path) -> Result<(), StoreError> {
    let failed = |path: &Path, source| StoreError::Create { path: path.to_owned(), source };
    create_private_dir(dir).map_err(|error| failed(dir, error))?;
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // SQLite would open it for reading, and its error names neither the file nor the reason.
            let written = OpenOptions::new().write(true).open(path);
            let not_writable = |source| StoreError::NotWritable { path: path.to_owned(), source };
            written.map(drop).map_err(not_writable)
        }
        Err(error) => Err(failed(path, error)),
        Ok(_) => Ok(()),
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// A count as SQLite can hold it: 64 bits with a sign. What is larger (no upstream means it) stays
/// at the largest.
fn to_sql(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A count as SQLite holds it; a negative one was not written by us and counts as zero.
pub(in crate::ledger) fn from_sql(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Barrier;

    use rusqlite::Connection;

    use super::samples::{HOUR_MS, Sample};
    use super::*;

    #[test]
    fn a_new_store_is_private_and_set_up() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("deep/data");
        let mut store = Store::open(&dir).unwrap();
        store.append(&[Sample::default().row()], &[]).unwrap();
        for name in ["weir.sqlite", "weir.sqlite-wal", "weir.sqlite-shm"] {
            let mode = std::fs::metadata(dir.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        let page_bytes: i64 =
            store.conn.pragma_query_value(None, "page_size", |row| row.get(0)).unwrap();
        assert_eq!(page_bytes, 4 * 1024);
        let check: String =
            store.conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
    }

    #[test]
    fn an_empty_file_of_version_0_is_migrated_and_a_newer_one_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        std::fs::write(&path, b"").unwrap();
        drop(Store::open(dir.path()).unwrap());
        let conn = Connection::open(&path).unwrap();
        let version =
            |conn: &Connection| conn.pragma_query_value(None, "user_version", |row| row.get(0));
        assert_eq!(version(&conn), Ok(2_i64));

        conn.pragma_update(None, "user_version", 3).unwrap();
        let error = Store::open(dir.path()).unwrap_err();
        assert!(matches!(error, StoreError::NewerSchema { found: 3, ours: 2, .. }), "{error}");
        assert!(error.to_string().contains("newer weir"), "{error}");
        assert_eq!(version(&conn), Ok(3_i64));
    }

    #[test]
    fn a_file_of_our_version_with_other_tables_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::open(dir.path()).unwrap());
        drop(Store::open(dir.path()).unwrap());
        let conn = Connection::open(dir.path().join(FILE_NAME)).unwrap();
        // As an earlier build left it, which did not say how it made the tables.
        conn.pragma_update(None, "application_id", 0).unwrap();
        let error = Store::open(dir.path()).unwrap_err();
        assert!(matches!(error, StoreError::OtherSchema { version: 2, .. }), "{error}");
        // What is no store at all is not made into one.
        conn.pragma_update(None, "user_version", 0).unwrap();
        conn.pragma_update(None, "application_id", 7).unwrap();
        let error = Store::open(dir.path()).unwrap_err();
        assert!(matches!(error, StoreError::OtherSchema { version: 0, .. }), "{error}");
    }

    #[test]
    fn a_file_that_is_no_database_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE_NAME), "not a database at all, ".repeat(50)).unwrap();
        assert!(Store::open(dir.path()).is_err());
        assert!(Store::open(&dir.path().join(FILE_NAME)).is_err());
    }

    #[test]
    fn many_open_a_new_store_at_once_and_all_write() {
        const WRITERS: u64 = 8;
        const BATCHES: u64 = 20;
        let dir = tempfile::tempdir().unwrap();
        let start = Barrier::new(WRITERS as usize);
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (dir, start) = (dir.path(), &start);
                scope.spawn(move || {
                    start.wait();
                    let mut store = Store::open(dir).unwrap();
                    for batch in 0..BATCHES {
                        let id = writer * BATCHES + batch;
                        let rows = [id, 1_000_000].map(|id| Sample { id, ..Sample::default() });
                        store.append(&rows.map(|sample| sample.row()), &[]).unwrap();
                        store.balances(0, i64::MAX).unwrap();
                    }
                });
            }
        });
        let balances = Store::open(dir.path()).unwrap().balances(0, 500 * HOUR_MS).unwrap();
        assert_eq!(balances[0].requests, WRITERS * BATCHES + 1);
    }
}
