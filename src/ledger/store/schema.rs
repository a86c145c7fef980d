//! The store's settings and tables, and how an older file becomes a current one.

use std::cmp::Ordering;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::{BUSY_WAIT, StoreError, WAL_KEPT_BYTES};

/// What brings a file from schema version `i` to `i + 1`, in order. Never change one that was
/// released, not even its spaces: add another. A file carries their [`fingerprint`].
const MIGRATIONS: [&str; 4] = [FIRST, RETENTION, DAY_SUMS, CONFIRMED];

/// Whatever the drain writes lies together on few pages, however many keys are busy: rows go to the
/// end of the table and of its one index, which are both in the order of time, and the roll-ups of
/// the current hour are neighbours. With the key first in either, each batch wrote a page or two
/// for each key in it. Reports pay for that with a seek per hour.
///
/// Rows are too long for `WITHOUT ROWID`: whole rows would stand in the inner pages as well, and
/// SQLite has no short way of adding to the end of such a table.
const FIRST: &str = r#"
CREATE TABLE requests (
    event_id BLOB NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    key_id TEXT NOT NULL,
    model TEXT NOT NULL,
    model_served TEXT,
    upstream TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    started_at_ms INTEGER NOT NULL,
    ttfb_ms INTEGER,
    duration_ms INTEGER NOT NULL,
    status INTEGER NOT NULL,
    upstream_status INTEGER,
    "end" TEXT NOT NULL,
    usage_source TEXT NOT NULL,
    input_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    audio_input_tokens INTEGER NOT NULL,
    audio_output_tokens INTEGER NOT NULL,
    image_input_tokens INTEGER NOT NULL,
    image_output_tokens INTEGER NOT NULL,
    accepted_prediction_tokens INTEGER NOT NULL,
    rejected_prediction_tokens INTEGER NOT NULL,
    total_tokens INTEGER NOT NULL,
    output_images INTEGER NOT NULL,
    audio_ms INTEGER NOT NULL,
    raw_usage TEXT,
    reserved_tokens INTEGER NOT NULL,
    price_version INTEGER,
    cost_nano_usd INTEGER,
    reported_cost_nano_usd INTEGER,
    attempts INTEGER NOT NULL,
    streamed INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    upstream_request_id TEXT
) STRICT;
CREATE INDEX requests_by_time ON requests (started_at_ms, event_id, key_id);

CREATE TABLE rollups (
    hour INTEGER NOT NULL,
    key_id TEXT NOT NULL,
    model TEXT NOT NULL,
    tenant TEXT NOT NULL,
    requests INTEGER NOT NULL,
    estimated_requests INTEGER NOT NULL,
    unpriced_requests INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    audio_input_tokens INTEGER NOT NULL,
    audio_output_tokens INTEGER NOT NULL,
    image_input_tokens INTEGER NOT NULL,
    image_output_tokens INTEGER NOT NULL,
    accepted_prediction_tokens INTEGER NOT NULL,
    rejected_prediction_tokens INTEGER NOT NULL,
    total_tokens INTEGER NOT NULL,
    cost_nano_usd INTEGER,
    PRIMARY KEY (hour, key_id, model, tenant)
) STRICT, WITHOUT ROWID;

CREATE TABLE price_versions (
    version INTEGER PRIMARY KEY,
    model TEXT NOT NULL,
    from_ms INTEGER NOT NULL,
    input_pico_usd INTEGER NOT NULL,
    cached_input_pico_usd INTEGER NOT NULL,
    cache_write_pico_usd INTEGER NOT NULL,
    output_pico_usd INTEGER NOT NULL,
    reasoning_pico_usd INTEGER NOT NULL,
    image_input_pico_usd INTEGER NOT NULL,
    image_output_pico_usd INTEGER NOT NULL,
    audio_input_pico_usd INTEGER NOT NULL,
    audio_output_pico_usd INTEGER NOT NULL,
    per_request_nano_usd INTEGER NOT NULL,
    per_image_nano_usd INTEGER NOT NULL,
    per_second_nano_usd INTEGER NOT NULL
) STRICT;

CREATE TABLE positions (
    segment TEXT PRIMARY KEY,
    "offset" INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tenants (
    name TEXT PRIMARY KEY,
    created_at_ms INTEGER NOT NULL,
    time_zone TEXT,
    rpm INTEGER, tpm INTEGER, concurrency INTEGER,
    daily_tokens INTEGER, monthly_tokens INTEGER,
    daily_requests INTEGER, monthly_requests INTEGER,
    daily_nano_usd INTEGER, monthly_nano_usd INTEGER
) STRICT;
CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL REFERENCES tenants (name),
    name TEXT NOT NULL,
    models TEXT,
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER,
    revoked_at_ms INTEGER,
    clamp INTEGER NOT NULL,
    cut INTEGER NOT NULL,
    rpm INTEGER, tpm INTEGER, concurrency INTEGER,
    daily_tokens INTEGER, monthly_tokens INTEGER,
    daily_requests INTEGER, monthly_requests INTEGER,
    daily_nano_usd INTEGER, monthly_nano_usd INTEGER
) STRICT;
CREATE TABLE secrets (
    digest BLOB PRIMARY KEY,
    key_id TEXT NOT NULL REFERENCES keys (id),
    last4 TEXT NOT NULL,
    expires_at_ms INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX secrets_by_key ON secrets (key_id);

CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    keys_version INTEGER NOT NULL
) STRICT;
INSERT INTO meta (one, keys_version) VALUES (1, 0);
CREATE TRIGGER tenants_added AFTER INSERT ON tenants
    BEGIN UPDATE meta SET keys_version = keys_version + 1; END;
CREATE TRIGGER tenants_changed AFTER UPDATE ON tenants
    BEGIN UPDATE meta SET keys_version = keys_version + 1; END;
CREATE TRIGGER tenants_removed AFTER DELETE ON tenants
    BEGIN UPDATE meta SET keys_version = keys_version + 1; END;
CREATE TRIGGER keys_added AFTER INSERT ON keys
    BEGIN UPDATE meta SET keys_version = keys_version + 1; END;
CREATE TRIGGER keys_changed AFTER UPDATE ON keys
    BEGIN UPDATE meta SET keys_version = keys_version + 1; END;
CREATE TRIGGER keys_removed AFTER DELETE ON keys
    BEGIN UPDATE meta SET keys_version = keys_version + 1; END;
CREATE TRIGGER secrets_added AFTER INSERT ON secrets
    BEGIN UPDATE meta SET keys_version = keys_version + 1; END;
CREATE TRIGGER secrets_changed AFTER UPDATE ON secrets
    BEGIN UPDATE meta SET keys_version = keys_version + 1; END;
CREATE TRIGGER secrets_removed AFTER DELETE ON secrets
    BEGIN UPDATE meta SET keys_version = keys_version + 1; END;
"#;

/// Rows can be deleted when they are old, and then their roll-ups stand alone: from which moment on
/// every row is there, in milliseconds since the epoch.
const RETENTION: &str = "ALTER TABLE meta ADD COLUMN rows_from_ms INTEGER NOT NULL DEFAULT 0";

/// Roll-ups are folded by the day. The position begins before all of them, so that a server folds what an
/// older one left, a batch at a time. A day's sums lie together, as what is folded does; those of a tenant
/// are one range of each day.
const DAY_SUMS: &str = "
CREATE TABLE day_sums (
    day INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    key_id TEXT NOT NULL,
    requests INTEGER NOT NULL,
    total_tokens INTEGER NOT NULL,
    nano_usd INTEGER NOT NULL,
    PRIMARY KEY (day, tenant, key_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE folded (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    hour INTEGER NOT NULL,
    key_id TEXT NOT NULL,
    model TEXT NOT NULL,
    tenant TEXT NOT NULL
) STRICT;
INSERT INTO folded (one, hour, key_id, model, tenant) VALUES (1, -9223372036854775808, '', '', '');
";

/// The clock can be wrong: the time that was confirmed last, in milliseconds since the epoch.
const CONFIRMED: &str = "ALTER TABLE meta ADD COLUMN confirmed_ms INTEGER";

/// The size of a new file's pages in bytes, which stays for the file's life. A commit writes four pages
/// however few rows are in it: with pages of 16 KiB, a few requests a second took two and a half times as
/// many bytes for each. In large batches all pages are full, and a row costs 1 % more work with small ones.
const PAGE_BYTES: i64 = 4 * 1024;

/// Pages in the WAL that make a commit copy them to the file: 8 MiB.
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

/// Refuses a file that is not of the current version, and leaves it as it is.
pub(super) fn require_current(conn: &Connection, path: &Path) -> Result<(), StoreError> {
    let (found, ours) = (version(conn)?, MIGRATIONS.len());
    let path = path.to_owned();
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
    use super::super::samples::Sample;
    use super::super::{FILE_NAME, Store};
    use super::*;

    /// Of each schema version. A number of a released version never changes: files carry it, and would
    /// be refused. Whoever changes the tables adds a migration, and a line here.
    const FINGERPRINTS: [i32; 4] = [1_072_165_523, 840_007_805, 778_602_424, 0];

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
