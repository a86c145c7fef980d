//! The store in SQLite: one file that holds the rows, their hourly roll-ups, how far the journal has
//! been drained, and the tenants with their keys.
//!
//! Rows, roll-ups and journal positions change in one transaction, keyed by event id. That is what
//! makes a replay of any journal segment harmless, and what lets a report trust the roll-ups alone.
//!
//! Several processes have the file open at once (a server's drain, its readers, the CLI): it is in
//! WAL mode, so readers never wait, and writers take turns, each waiting up to [`BUSY_WAIT`].
//!
//! Once they are made, nothing but SQLite ever opens the files: POSIX locks belong to the process, and closing
//! any descriptor of a file drops SQLite's as well (<https://sqlite.org/howtocorrupt.html>, 2.2). Without them
//! an older SQLite that only looks at the store deletes the WAL under its writers.

mod append;
mod balances;
mod changes;
mod checkpoint;
mod confirmed;
mod copy;
mod day_sums;
mod delete;
mod engine;
mod error;
mod expire;
mod positions;
mod integrity;
mod keys;
mod lock_wait;
mod numbers;
mod owners;
mod pages;
mod files;
mod prices;
mod recompute;
mod recost;
mod redate;
mod requests;
mod content;
#[cfg(test)]
pub(crate) mod samples;
mod schema;
mod sums;

use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, MAIN_DB, OpenFlags, Transaction, TransactionBehavior};

use self::content::Content;
use self::files::{Files, Siblings, create_private};
use self::numbers::{from_sql, to_sql};

use super::sums::{EVERYTHING, HOUR_MS, counts, hour_of};
use super::{
    Addend, Balance, Cause, Change, Changed, Changes, CopyError, Counts, DatabaseError, Difference,
    Differing, DifferingDay, Future, KeysVersion, Misdated, NewKey, Owner, Position, PriceVersions,
    Range, Recost, Snapshot, StoreError, Sums,
};

pub(super) use integrity::problems_in;
#[cfg(test)]
pub(crate) use positions::synced_commits;

/// The database's name in the data directory.
pub(crate) const FILE_NAME: &str = "weir.sqlite";

/// How long one writer waits for another before it gives up.
const BUSY_WAIT: Duration = Duration::from_secs(10);

/// Older versions can corrupt a WAL that several connections write and checkpoint at once.
const OLDEST_SQLITE: i32 = 3_051_003;

/// Bytes that the WAL file keeps after a checkpoint; without it one big transaction's size stays.
const WAL_KEPT_BYTES: i64 = 16 * 1024 * 1024;

/// Prepared statements kept per connection: more than this file's modules have.
const STATEMENTS_KEPT: usize = 40;

/// Responses whose owner is kept, unless somebody says otherwise.
const OWNERS_KEPT: usize = 1_000_000;

/// One connection to the store. It is not shared between threads: each opens its own.
#[derive(Debug)]
pub(super) struct Sqlite {
    conn: Connection,
    path: PathBuf,
    /// Which files those are.
    files: Files,
    /// It was closed because they are no longer the store; every statement fails.
    is_abandoned: bool,
    /// Since then, or before: the database was not there, or another.
    was_away: bool,
    siblings: Siblings,
    syncs_commits: bool,
    /// A commit failed that was to be synced, or copying the WAL did: what is in it may never reach the disk.
    is_doubtful: bool,
    content: Content,
    /// Responses whose owner is kept.
    most_owners: usize,
}

/// A transaction that only reads, or a part of one.
#[derive(Debug)]
struct Reading<'c> {
    conn: &'c Connection,
    _begun: Option<Transaction<'c>>,
}

/// What becomes of a file with an older schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Schema {
    /// It is brought up to date: for processes that have the data directory to themselves.
    Migrate,
    /// It is refused: an older program may be at work on it.
    Refuse,
    /// The same, of what has come to the place of a store that is gone: it may still be on its way.
    Follow,
    /// The same, and nothing is written, nor shared with anybody.
    ReadAlone,
}

impl Sqlite {
    /// For whoever holds the directory's lock, who has no connection yet to the file that is created.
    pub(super) fn open_patiently(
        dir: &Path,
        tell: &mut dyn FnMut(Duration),
    ) -> Result<Self, StoreError> {
        let path = dir.join(FILE_NAME);
        create_private(dir, &path)?;
        Self::open_file(path, Schema::Migrate, Siblings::default(), tell)
    }

    pub(super) fn open_existing(dir: &Path) -> Result<Self, StoreError> {
        Self::open_file(dir.join(FILE_NAME), Schema::Refuse, Siblings::default(), &mut |_| ())
    }

    /// Nobody else can have the store open meanwhile, so that SQLite needs no room for what it shares with others.
    pub(super) fn open_full(dir: &Path) -> Result<Self, StoreError> {
        Self::open_file(dir.join(FILE_NAME), Schema::ReadAlone, Siblings::default(), &mut |_| ())
    }

    fn open_sibling(&self, schema: Schema) -> Result<Self, StoreError> {
        Self::open_file(self.path.clone(), schema, self.siblings.clone(), &mut |_| ())
    }

    /// Whether `dir` has a database. An empty file is none: somebody begins to copy one there.
    pub(super) fn is_there(dir: &Path) -> bool {
        has_content(&dir.join(FILE_NAME))
    }

    fn open_file(
        path: PathBuf,
        schema: Schema,
        siblings: Siblings,
        tell: &mut dyn FnMut(Duration),
    ) -> Result<Self, StoreError> {
        Self::try_open(path.clone(), schema, siblings, tell).map_err(|error| error.at(&path))
    }

    fn try_open(
        path: PathBuf,
        schema: Schema,
        siblings: Siblings,
        tell: &mut dyn FnMut(Duration),
    ) -> Result<Self, StoreError> {
        if rusqlite::version_number() < OLDEST_SQLITE {
            return Err(StoreError::OldSqlite { found: rusqlite::version() });
        }
        if !path.exists() || (schema != Schema::Migrate && !has_content(&path)) {
            return Err(StoreError::Gone { path });
        }
        let open =
            |error: rusqlite::Error| StoreError::Open { path: path.clone(), source: error.into() };
        // Not to be created: it may go away just now.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut conn = Connection::open_with_flags(&path, flags).map_err(open)?;
        conn.busy_timeout(BUSY_WAIT).map_err(open)?;
        // What SQLite can't open for writing it opens for reading; its errors say so much later.
        if conn.is_readonly(MAIN_DB).map_err(open)? {
            return Err(StoreError::NotWritable { path });
        }
        let named = |error| lock_wait::name_lock(error, &path);
        match schema {
            Schema::Migrate => {
                schema::configure(&conn).map_err(named)?;
                lock_wait::wait_for(&mut conn, &path, tell)?;
                schema::migrate(&mut conn, &path).map_err(named)?;
            }
            Schema::ReadAlone => {
                schema::read_alone(&conn).map_err(named)?;
                schema::require_current(&conn, &path)
                    .map_err(|error| lock_wait::name_lock(error, &path))?;
            }
            Schema::Refuse | Schema::Follow => {
                if schema == Schema::Follow {
                    schema::require_whole(&conn, &path)?;
                }
                // First of all: to set it up can write to it.
                schema::require_current(&conn, &path)?;
                schema::configure(&conn).map_err(named)?;
            }
        }
        conn.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
        // From its first read on a connection holds its lock on the database, and while anybody does,
        // no SQLite removes the others.
        let files = Files::at(&path);
        if !files.are_there() && schema != Schema::ReadAlone {
            return Err(StoreError::Gone { path });
        }
        siblings.add(files);
        Ok(Self {
            conn,
            path,
            files,
            is_abandoned: false,
            was_away: false,
            siblings,
            syncs_commits: false,
            is_doubtful: false,
            content: Content::default(),
            most_owners: OWNERS_KEPT,
        })
    }

    /// Whether the files that are open are still those in the data directory. What is written to others
    /// is lost.
    pub(super) fn is_in_place(&self) -> bool {
        !self.is_abandoned && Files::at(&self.path) == self.files
    }

    /// How long the WAL is; it grows as long as a reader needs what is at its begin.
    pub(super) fn wal_bytes(&self) -> u64 {
        std::fs::metadata(files::companion(&self.path, "-wal")).map_or(0, |wal| wal.len())
    }

    pub(super) fn reopen(&mut self) -> Result<Self, StoreError> {
        // Before it is closed: from then on, another file can get its number.
        self.was_away |= !self.files.has_database(&self.path);
        self.abandon()?;
        self.siblings.check(&self.path, &self.files, self.was_away)?;
        let mut store = self.open_sibling(Schema::Follow)?;
        if self.syncs_commits {
            store.sync_commits()?;
        }
        store.is_doubtful = self.is_doubtful;
        store.most_owners = self.most_owners;
        Ok(store)
    }

    /// Closes the connection without what SQLite does at a database's last: it would copy the WAL to the
    /// database and delete it, and both may be others' by now.
    fn abandon(&mut self) -> Result<(), StoreError> {
        if self.is_abandoned {
            return Ok(());
        }
        self.conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        self.conn = Connection::open_in_memory()?;
        self.is_abandoned = true;
        self.siblings.remove(&self.files);
        Ok(())
    }

    pub(super) fn sync_commits(&mut self) -> Result<(), StoreError> {
        schema::set_synchronous(&self.conn, "FULL", "2")?;
        // The file's own name; SQLite does it for its other files.
        let file = files::target(&self.path);
        let dir = file.parent().unwrap_or(Path::new("."));
        let synced = File::open(dir).and_then(|dir| dir.sync_all());
        synced.map_err(|source| StoreError::Sync { path: dir.to_owned(), source })?;
        self.syncs_commits = true;
        Ok(())
    }

    /// Gives back the memory that only makes the next statements quicker.
    pub(super) fn shrink(&self) {
        // Whether it could matters to nobody.
        let _ = self.conn.execute_batch("PRAGMA shrink_memory");
    }

    /// A transaction that writes. It takes the write lock at once: one that begins by reading can't
    /// wait for another writer later, it would fail.
    fn write(&mut self) -> Result<Transaction<'_>, StoreError> {
        self.require_in_place()?;
        let begun = self.conn.transaction_with_behavior(TransactionBehavior::Immediate);
        let tx = begun.map_err(|error| lock_wait::name_lock(error.into(), &self.path))?;
        // Whoever held the lock may have held it in order to put something else here.
        if Files::at(&self.path) != self.files {
            return Err(StoreError::Gone { path: self.path.clone() });
        }
        if self.content.is_other(&tx)? {
            return Err(StoreError::Rewritten { path: self.path.clone() });
        }
        Ok(tx)
    }

    /// An error once the files that are open are not the store's. To be asked after a commit, too, before anybody
    /// hears of it or something else is given up for it: they can be moved away meanwhile.
    pub(super) fn require_in_place(&self) -> Result<(), StoreError> {
        match self.is_in_place() {
            true => Ok(()),
            false => Err(StoreError::Gone { path: self.path.clone() }),
        }
    }

    /// The same for tenants and keys: what somebody was told has survived a power cut, whatever the mode.
    /// A key that came back after it was revoked would be worse than a lost row, and these are rare.
    fn write_synced(&mut self) -> Result<Transaction<'_>, StoreError> {
        if !self.syncs_commits {
            self.sync_commits()?;
        }
        self.write().map_err(StoreError::of_change)
    }

    pub(super) fn await_change(
        &mut self,
        tell: &mut dyn FnMut(Duration),
    ) -> Result<(), StoreError> {
        let waited = lock_wait::wait_for(&mut self.conn, &self.path, tell);
        waited.map_err(StoreError::of_change)
    }

    /// Several statements that see the same state; within others, theirs.
    fn read(&self) -> Result<Reading<'_>, StoreError> {
        let begun = self.conn.is_autocommit().then(|| self.conn.unchecked_transaction());
        Ok(Reading { conn: &self.conn, _begun: begun.transpose()? })
    }
}

impl Deref for Reading<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.conn
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        if !self.is_in_place() {
            // Nothing is left that could be done about a failure.
            let _ = self.abandon();
        }
        if !self.is_abandoned {
            self.siblings.remove(&self.files);
        }
    }
}

/// Whether there is a file with anything in it.
fn has_content(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.len() > 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Barrier;

    use rusqlite::Connection;

    use super::*;
    use crate::store::Store;
    use crate::store::samples::{HOUR_MS, Sample};

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
            store.connection().pragma_query_value(None, "page_size", |row| row.get(0)).unwrap();
        assert_eq!(page_bytes, 4 * 1024);
        let check: String =
            store.connection().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
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
        assert_eq!(version(&conn), Ok(10_i64));

        conn.pragma_update(None, "user_version", 11).unwrap();
        let error = Store::open(dir.path()).unwrap_err();
        assert!(matches!(error, StoreError::NewerSchema { found: 11, ours: 10, .. }), "{error}");
        assert!(error.to_string().contains("newer weir"), "{error}");
        assert_eq!(version(&conn), Ok(11_i64));
    }

    /// Who comes beside a server changes nothing of what an older or newer one has made.
    #[test]
    fn beside_others_only_the_current_schema_is_opened_and_none_is_made() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Store::open_existing(dir.path()), Err(StoreError::Gone { .. })));
        assert!(!Store::is_there(dir.path()));
        drop(Store::open(dir.path()).unwrap());
        let conn = Connection::open(dir.path().join(FILE_NAME)).unwrap();
        let version =
            |conn: &Connection| conn.pragma_query_value(None, "user_version", |row| row.get(0));
        let current: i64 = version(&conn).unwrap();
        for (found, told) in [(current - 1, "older weir"), (current + 1, "newer weir")] {
            conn.pragma_update(None, "user_version", found).unwrap();
            let error = Store::open_existing(dir.path()).unwrap_err().to_string();
            let both = format!("(schema {found}, this one knows {current})");
            assert!(error.contains(told) && error.contains(&both), "{error}");
            assert_eq!(version(&conn), Ok(found));
        }
        conn.pragma_update(None, "user_version", current).unwrap();
        Store::open_existing(dir.path()).unwrap();
    }

    #[test]
    fn what_is_written_of_keys_is_synced_in_either_mode() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        let synchronous = |store: &Store| {
            store
                .connection()
                .pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0))
                .unwrap()
        };
        assert_eq!(synchronous(&store), 1);
        store.append(&[Sample::default().row()], &[]).unwrap();
        assert_eq!(synchronous(&store), 1, "rows have the journal");
        store.create_tenant("acme", &crate::tenancy::Limits::default(), None, 0).unwrap();
        assert_eq!(synchronous(&store), 2);
        // It is the only way to write them: the tables' names stand in no other writer.
        let sources = [
            include_str!("sqlite/keys.rs"),
            include_str!("sqlite/keys/suspend.rs"),
            include_str!("sqlite/delete.rs"),
        ];
        for source in sources {
            let writers = source.split("#[cfg(test)]").next().unwrap();
            assert!(!writers.contains("self.write()") && writers.contains("self.write_synced()"));
            // And none is told done before the files were looked for again.
            let commits = writers.matches("tx.commit()?;\n").count();
            assert_eq!(writers.matches("tx.commit()").count(), commits);
            assert_eq!(writers.matches("self.require_in_place()").count(), commits);
        }
    }

    /// A connection whose files are gone writes nothing any more, and closing it touches what has
    /// their names now.
    #[test]
    fn a_connection_to_files_that_are_gone_writes_nothing_and_spoils_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let row = |id: u64| [Sample { id, ..Sample::default() }.row()];
        let file = |end: &str| dir.path().join(format!("{FILE_NAME}{end}"));
        // Its tables are in the database, and not in a WAL that is removed.
        drop(Store::open(dir.path()).unwrap());
        for end in ["-wal", "-shm"] {
            let mut store = Store::open(dir.path()).unwrap();
            let mut second = store.another().unwrap();
            store.append(&row(1), &[]).unwrap();
            std::fs::remove_file(file(end)).unwrap();
            assert!(!store.is_in_place() && !second.is_in_place());
            assert!(matches!(store.append(&row(2), &[]), Err(StoreError::Gone { .. })));
            // Both have the removed file, and a new connection would share it: the last one begins.
            assert!(matches!(store.follow(), Err(StoreError::StillOpen { .. })));
            assert!(store.keys_version().is_err(), "it is closed");
            assert!(second.follow().unwrap());
            let sqlite = store.sqlite_mut();
            (sqlite.is_doubtful, sqlite.most_owners) = (true, 7);
            sqlite.sync_commits().unwrap();
            assert!(store.follow().unwrap());
            let sqlite = store.sqlite();
            assert_eq!((sqlite.is_doubtful, sqlite.most_owners), (true, 7), "it goes with it");
            assert!(sqlite.syncs_commits, "and so do its commits");
            assert!(!store.follow().unwrap() && !second.follow().unwrap());
            store.append(&row(3), &[]).unwrap();
            assert!(second.has_row(row(3)[0].opened.event_id).unwrap());
        }
        // Another process has made new files by the time that this one ends.
        let store = Store::open(dir.path()).unwrap();
        ["-wal", "-shm"].iter().for_each(|end| std::fs::remove_file(file(end)).unwrap());
        std::fs::write(file("-wal"), "another's").unwrap();
        drop(store);
        assert_eq!(std::fs::read(file("-wal")).unwrap(), b"another's");
    }

    #[test]
    fn a_database_is_not_opened_beside_anothers_wal() {
        let (dir, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut store = Store::open(dir.path()).unwrap();
        store.append(&[Sample::default().row()], &[]).unwrap();
        drop(Store::open(new.path()).unwrap());
        let file = |end: &str| dir.path().join(format!("{FILE_NAME}{end}"));
        std::fs::rename(new.path().join(FILE_NAME), file("")).unwrap();
        for end in ["-wal", "-shm"] {
            let error = store.follow().unwrap_err();
            assert!(
                matches!(&error, StoreError::LeftOver { left, .. } if *left == file(end)),
                "{error}"
            );
            std::fs::remove_file(file(end)).unwrap();
        }
        assert!(store.follow().unwrap());
        assert_eq!(store.newest_ms(i64::MAX).unwrap(), None, "it is the new one");
    }

    fn remove_all(dir: &Path) {
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(dir.join(format!("{FILE_NAME}{end}")));
        }
    }

    /// A copy takes its time to arrive. Whoever made an empty store of its beginning would hide it for ever.
    #[test]
    fn what_comes_to_the_stores_place_is_followed_once_it_is_a_whole_store() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = dir.path().join(FILE_NAME);
        let mut backed_up = Store::open(other.path()).unwrap();
        backed_up.append(&[Sample { id: 7, ..Sample::default() }.row()], &[]).unwrap();
        drop(backed_up);
        let whole = std::fs::read(other.path().join(FILE_NAME)).unwrap();
        let older = earlier_version(&other.path().join(FILE_NAME));

        let mut store = Store::open(dir.path()).unwrap();
        let mut second = store.another().unwrap();
        remove_all(dir.path());
        let mut refused = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let errors = [&mut store, &mut second].map(|store| store.follow().unwrap_err());
            assert!(std::fs::read(&path).unwrap() == bytes, "{errors:?}");
            errors
        };
        assert!(refused(b"").iter().all(|error| matches!(error, StoreError::Gone { .. })));
        assert!(!Store::is_there(dir.path()));
        for bytes in
            [10, 50, 512, 4 * 1024, whole.len() / 2, whole.len() - 4 * 1024, whole.len() - 1]
        {
            let errors = refused(&whole[..bytes]);
            let are_partial =
                errors.iter().all(|error| matches!(error, StoreError::Partial { .. }));
            assert!(are_partial, "{bytes}: {errors:?}");
        }
        let is_older = |error: &StoreError| matches!(error, StoreError::OlderSchema { .. });
        assert!(refused(&older).iter().all(is_older));
        std::fs::write(&path, whole).unwrap();
        assert!(store.follow().unwrap() && second.follow().unwrap());
        let id = Sample { id: 7, ..Sample::default() }.row().opened.event_id;
        assert!(store.has_row(id).unwrap() && second.has_row(id).unwrap());
    }

    /// The file as a version before this one would have it, and is left as it is.
    fn earlier_version(path: &Path) -> Vec<u8> {
        let conn = Connection::open(path).unwrap();
        conn.pragma_update(None, "user_version", 1).unwrap();
        drop(conn);
        std::fs::read(path).unwrap()
    }

    #[test]
    fn a_database_that_was_moved_away_and_back_is_itself_again() {
        let dir = tempfile::tempdir().unwrap();
        let (path, away) = (dir.path().join(FILE_NAME), dir.path().join("away"));
        let mut store = Store::open(dir.path()).unwrap();
        let row = Sample::default().row();
        store.append(&[Sample::default().row()], &[]).unwrap();
        std::fs::rename(&path, &away).unwrap();
        assert!(matches!(store.follow(), Err(StoreError::Gone { .. })));
        std::fs::rename(&away, &path).unwrap();
        // Where files don't say when they were made, it could be another one with the same number.
        match std::fs::metadata(&path).unwrap().created() {
            Ok(_) => {
                assert!(store.follow().unwrap() && store.has_row(row.opened.event_id).unwrap())
            }
            Err(_) => assert!(matches!(store.follow(), Err(StoreError::LeftOver { .. }))),
        }
    }

    #[test]
    fn a_database_behind_a_link_is_opened_and_a_link_that_leads_elsewhere_is_noticed() {
        let (dir, disk) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let link = dir.path().join(FILE_NAME);
        let target = |name: &str| disk.path().join(name);
        let is_new = |path: &Path| {
            drop(Store::open(disk.path()).unwrap());
            std::fs::rename(disk.path().join(FILE_NAME), path).unwrap();
        };
        is_new(&target("one"));
        is_new(&target("two"));
        std::os::unix::fs::symlink(target("one"), &link).unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        store.append(&[Sample::default().row()], &[]).unwrap();
        assert!(store.is_in_place() && store.log_bytes() > 0);
        assert!(store.is_file(&target("one-wal")) && store.is_file(&target("one")));
        std::fs::remove_file(&link).unwrap();
        assert!(matches!(store.follow(), Err(StoreError::Gone { .. })));
        std::os::unix::fs::symlink(target("two"), &link).unwrap();
        assert!(store.follow().unwrap());
        assert_eq!(store.newest_ms(i64::MAX).unwrap(), None, "it is the other one");
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
        assert!(matches!(error, StoreError::OtherSchema { version: 10, .. }), "{error}");
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
