//! Whether the file of a database is sound, also of one that can't be opened as a store any more.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{BUSY_WAIT, FILE_NAME, StoreError};

/// What SQLite finds wrong with its file; empty when nothing is. Where it can't even look, that is what is wrong.
pub(crate) fn file_problems(conn: &Connection) -> Result<Vec<String>, rusqlite::Error> {
    let mut found = Vec::new();
    match check(conn, &mut found) {
        Err(error) if is_damage(&error) => found.push(error.to_string()),
        other => other?,
    }
    found.retain(|line| line != "ok");
    Ok(found)
}

/// The same of `dir`'s database, before anybody needs it to be a store.
pub(crate) fn problems_in(dir: &Path) -> Result<Vec<String>, StoreError> {
    let path = dir.join(FILE_NAME);
    // As all who open it: what may only read can't recover a WAL.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let looked = Connection::open_with_flags(&path, flags).and_then(|conn| {
        conn.busy_timeout(BUSY_WAIT)?;
        file_problems(&conn)
    });
    looked.map_err(|error| StoreError::Open { path, source: error.into() })
}

fn check(conn: &Connection, found: &mut Vec<String>) -> Result<(), rusqlite::Error> {
    let mut check = conn.prepare("PRAGMA quick_check")?;
    for line in check.query_map([], |row| row.get(0))? {
        found.push(line?);
    }
    Ok(())
}

/// The error says that the file is not what it should be.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}
