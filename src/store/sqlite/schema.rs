//! The store's settings, and how an older file becomes a current one.

mod migrations;

use std::cmp::Ordering;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use self::migrations::MIGRATIONS;
use super::integrity::is_damage;
use super::{BUSY_WAIT, StoreError, WAL_KEPT_BYTES};

/// The size of a new file's pages in bytes, which stays for the file's life. A commit writes four pages
/// however few rows are in it: with pages of 16 KiB, a few requests a second took two and a half times as
/// many bytes for each. In large batches all pages are full, and a row costs 1 % more work with small ones.
const PAGE_BYTES: i64 = 4 * 1024;

/// Pages in the WAL that make a commit copy them to the file: 8 MiB. The drain does that itself.
const CHECKPOINT_PAGES: i64 = 2048;

/// How long to wait before asking again for the lock that turns WAL mode on.
const WAL_RETRY: Duration = Duration::from_millis(5);

/// Sets what has to be set on each connection, and reads it back: SQLite answers a setting that it
/// can't grant with the old value, not with an error.
pub(super) fn configure(conn: &Connection) -> Result<(), StoreError> {
    // It counts only as long as the file is empty, and what is there already keeps its own.
    conn.pragma_update(None, "page_size", PAGE_BYTES)?;
    turn_wal_on(conn)?;
    set_synchronous(conn, "NORMAL", "1")?;
    conn.pragma_update(None, "foreign_keys", "ON")?;
    conn.pragma_update(None, "trusted_schema", "OFF")?;
    conn.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    conn.pragma_update(None, "journal_size_limit", WAL_KEPT_BYTES)?;
    for (name, wanted) in [("journal_mode", "wal"), ("foreign_keys", "1"), ("trusted_schema", "0")]
    {
        let found = setting(conn, name)?;
        if found != wanted {
            return Err(StoreError::Setting { name, wanted, found });
        }
    }
    Ok(())
}

/// Sets a connection up that only reads, and alone: what others would have to share (`-shm`) is in its memory.
pub(super) fn read_alone(conn: &Connection) -> Result<(), StoreError> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    conn.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    conn.pragma_update(None, "query_only", "ON")?;
    Ok(())
}

/// When SQLite syncs: by its name, and by the number that it reads back as.
pub(super) fn set_synchronous(
    conn: &Connection,
    name: &str,
    wanted: &'static str,
) -> Result<(), StoreError> {
    conn.pragma_update(None, "synchronous", name)?;
    let found = setting(conn, "synchronous")?;
    match found == wanted {
        true => Ok(()),
        false => Err(StoreError::Setting { name: "synchronous", wanted, found }),
    }
}

/// The mode stays in the file, so this happens once in its life. SQLite does not wait for the lock
/// that the change needs, whatever its busy timeout, so two processes that make a file together
/// would trip over each other without the loop.
fn turn_wal_on(conn: &Connection) -> Result<(), StoreError> {
    let give_up = Instant::now() + BUSY_WAIT;
    loop {
        let busy =
            |error: &rusqlite::Error| error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy);
        let mode = conn
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
        match mode {
            Err(error) if busy(&error) && Instant::now() < give_up => {
                std::thread::park_timeout(WAL_RETRY)
            }
            Err(error) => return Err(error.into()),
            // A refusal shows when the settings are read back.
            Ok(_) => return Ok(()),
        }
    }
}

fn setting(conn: &Connection, name: &str) -> Result<String, StoreError> {
    use rusqlite::types::Value;
    let value = conn.pragma_query_value(None, name, |row| row.get::<_, Value>(0))?;
    Ok(match value {
        Value::Integer(number) => number.to_string(),
        Value::Text(text) => text,
        other => format!("{other:?}"),
    })
}

/// Brings the tables to the current version, or refuses what a newer program wrote, and what has a
/// version of ours but other tables. Each step is a transaction: whatever ends the process between two
/// of them leaves a file of the version in between, which the next start goes on with.
pub(super) fn migrate(conn: &mut Connection, path: &Path) -> Result<(), StoreError> {
    while !step(conn, path)? {}
    Ok(())
}

/// Refuses a file whose end, or beginning, is missing: a copy that has not arrived yet looks like that.
pub(super) fn require_whole(conn: &Connection, path: &Path) -> Result<(), StoreError> {
    // SQLite itself compares the file's length with the number of pages that stands in it, and rounds up.
    let page_bytes = conn
        .pragma_query_value(None, "page_count", |_| Ok(()))
        .and_then(|()| conn.pragma_query_value(None, "page_size", |row| row.get::<_, i64>(0)));
    let partial = || StoreError::Partial { path: path.to_owned() };
    let page_bytes = match page_bytes {
        Err(error) if is_damage(&error) => return Err(partial()),
        other => u64::try_from(other?).unwrap_or(0),
    };
    let bytes = std::fs::metadata(path).map_or(0, |file| file.len());
    match bytes > 0 && bytes.is_multiple_of(page_bytes) {
        true => Ok(()),
        false => Err(partial()),
    }
}

/// Refuses a file that is not of the current version, and leaves it as it is. One that has no version is no
/// store yet.
pub(super) fn require_current(conn: &Connection, path: &Path) -> Result<(), StoreError> {
    let (found, ours) = (version(conn)?, MIGRATIONS.len());
    let path = path.to_owned();
    if found == 0 {
        return Err(StoreError::Gone { path });
    }
    match found.cmp(&(ours as i64)) {
        Ordering::Less => Err(StoreError::OlderSchema { path, found, ours: ours as i64 }),
        Ordering::Greater => Err(StoreError::NewerSchema { path, found, ours: ours as i64 }),
        Ordering::Equal => check(conn, &path, ours),
    }
}

/// Takes one step; true when there was none to take.
fn step(conn: &mut Connection, path: &Path) -> Result<bool, StoreError> {
    let ours = MIGRATIONS.len();
    if version(conn)? == ours as i64 {
        return check(conn, path, ours).map(|()| true);
    }
    // Another process may be at it: what counts is the version once the lock is ours.
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = version(&tx)?;
    let done = usize::try_from(found).ok().filter(|done| *done <= ours);
    let Some(done) = done else {
        return Err(StoreError::NewerSchema { path: path.to_owned(), found, ours: ours as i64 });
    };
    check(&tx, path, done)?;
    if done == ours {
        return Ok(true);
    }
    tx.execute_batch(MIGRATIONS[done])?;
    tx.pragma_update(None, "user_version", done as i64 + 1)?;
    tx.pragma_update(None, "application_id", fingerprint(done + 1))?;
    tx.commit()?;
    Ok(false)
}

fn version(conn: &Connection) -> Result<i64, StoreError> {
    Ok(conn.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

/// Refuses a file whose first `done` migrations were not ours: a build between two releases wrote
/// it. The statements would fail one by one later, at best.
fn check(conn: &Connection, path: &Path, done: usize) -> Result<(), StoreError> {
    let found: i32 = conn.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if found == fingerprint(done) {
        return Ok(());
    }
    Err(StoreError::OtherSchema { path: path.to_owned(), version: done })
}

/// Says of a file which migrations made it, in SQLite's `application_id`; 0 for a new file.
fn fingerprint(done: usize) -> i32 {
    let mut hasher = crc32fast::Hasher::new();
    for step in &MIGRATIONS[..done] {
        hasher.update(step.as_bytes());
    }
    hasher.finalize().cast_signed()
}

#[cfg(test)]
mod tests {
    use super::super::FILE_NAME;
    use super::*;
    use crate::store::Store;
    use crate::store::samples::Sample;

    /// Of each schema version. A number of a released version never changes: files carry it, and would
    /// be refused. Whoever changes the tables adds a migration, and a line here.
    const FINGERPRINTS: [i32; 10] = [
        1_072_165_523,
        840_007_805,
        759_688_660,
        1_872_034_117,
        -1_928_854_026,
        2_141_212_748,
        -120_570_365,
        -1_304_088_706,
        294_012_427,
        -2_112_625_667,
    ];

    #[test]
    fn the_schema_is_the_one_that_files_have() {
        let found: Vec<_> = (1..=MIGRATIONS.len()).map(fingerprint).collect();
        assert_eq!(found, FINGERPRINTS);
    }

    /// A file as the version before this one left it, with a row, a roll-up and a tenant.
    fn earlier(dir: &Path, done: usize) -> Connection {
        let conn = Connection::open(dir.join(FILE_NAME)).unwrap();
        configure(&conn).unwrap();
        for step in &MIGRATIONS[..done] {
            conn.execute_batch(step).unwrap();
        }
        conn.pragma_update(None, "user_version", done as i64).unwrap();
        conn.pragma_update(None, "application_id", fingerprint(done)).unwrap();
        conn
    }

    #[test]
    fn a_file_of_each_earlier_version_is_brought_up_to_date_with_what_is_in_it() {
        for done in 1..MIGRATIONS.len() {
            let dir = tempfile::tempdir().unwrap();
            let conn = earlier(dir.path(), done);
            let tenant = "INSERT INTO tenants (name, created_at_ms) VALUES ('acme', 5)";
            conn.execute_batch(tenant).unwrap();
            let position = "INSERT INTO positions VALUES ('7', 99)";
            conn.execute_batch(position).unwrap();
            drop(conn);
            let mut store = Store::open(dir.path()).unwrap();
            assert_eq!(version(store.connection()).unwrap(), MIGRATIONS.len() as i64);
            assert_eq!(store.tenants().unwrap()[0].name, "acme".into());
            assert_eq!(store.positions().unwrap()[0].offset, 99);
            assert_eq!(store.rows_from_ms().unwrap(), 0);
            assert_eq!(store.append(&[Sample::default().row()], &[]).unwrap(), 1);
        }
    }

    #[test]
    fn a_step_that_fails_leaves_the_version_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let conn = earlier(dir.path(), 1);
        conn.execute_batch("ALTER TABLE meta ADD COLUMN rows_from_ms INTEGER").unwrap();
        let mut conn = conn;
        assert!(migrate(&mut conn, Path::new("x")).is_err());
        assert_eq!(version(&conn).unwrap(), 1);
        conn.execute_batch("ALTER TABLE meta DROP COLUMN rows_from_ms").unwrap();
        migrate(&mut conn, Path::new("x")).unwrap();
        assert_eq!(version(&conn).unwrap(), MIGRATIONS.len() as i64);
    }
}
