//! What SQLite's errors mean for the person who runs Weir: it says "disk I/O error" of a full disk, and names no
//! file. This is the one place where they become sentences; the file is named by whoever knows it.

use rusqlite::ErrorCode;
use rusqlite::ffi::{
    SQLITE_IOERR_SHMMAP, SQLITE_IOERR_SHMOPEN, SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_WRITE,
};

use super::{Cause, DatabaseError, StoreError};

impl From<rusqlite::Error> for DatabaseError {
    fn from(error: rusqlite::Error) -> Self {
        let is_busy = error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy);
        let cause = match (is_full(&error), is_busy) {
            (true, _) => Cause::Full,
            (false, true) => Cause::Busy,
            (false, false) => Cause::Other,
        };
        Self { text: error_text(&error), cause }
    }
}

/// Of what is open: whoever hands it on says of which file.
impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error.into())
    }
}

/// An error as a sentence, with what to do, and SQLite's own words behind it.
pub(super) fn error_text(error: &rusqlite::Error) -> String {
    match error.sqlite_error().and_then(|failure| advice(failure.code, failure.extended_code)) {
        Some(advice) => format!("{advice} (SQLite: {error})"),
        None => error.to_string(),
    }
}

/// Whether the disk takes no more, by whatever limit.
fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|failure| {
        failure.code == ErrorCode::DiskFull || is_room(failure.extended_code)
    })
}

/// How SQLite makes the `-shm`, and makes it longer, the first things that a full disk or a limit on the size of files
/// refuses, has errors of its own. And it knows `ENOSPC` alone for a full disk: a limit, a quota and a disk that fails are
/// one error to it.
fn is_room(extended_code: i32) -> bool {
    [SQLITE_IOERR_SHMOPEN, SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_SHMMAP, SQLITE_IOERR_WRITE]
        .contains(&extended_code)
}

fn advice(code: ErrorCode, extended_code: i32) -> Option<&'static str> {
    Some(match code {
        // Whoever wanted a change has to ask for it again: not "and nothing else".
        ErrorCode::DiskFull => "its disk is full; make room there",
        ErrorCode::SystemIoFailure if is_room(extended_code) => {
            "its disk takes no more; make room there, or raise what limits the size of files or the quota; if \
             there is room, the disk fails: look into the system's log"
        }
        ErrorCode::SystemIoFailure => {
            "its disk fails; look into the system's log; if the disk is sound, start Weir again"
        }
        ErrorCode::NotADatabase => {
            "it is no SQLite database, as another file has its name, or its beginning is damaged; put a backup \
             in its place, with no server running"
        }
        ErrorCode::DatabaseCorrupt => {
            "it is damaged; put a backup in its place, with no server running, or save what can be read by \
             `.recover` of SQLite's shell"
        }
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => {
            "it may not be written to; look at its permissions, and at those of its directory"
        }
        ErrorCode::CannotOpen => {
            "it, or what belongs beside it, can't be opened; look at the permissions of its directory, and \
             at how many files may be open"
        }
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
            "another program holds it; end that, or its transaction"
        }
        ErrorCode::OutOfMemory => "there is no memory left",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn every_error_that_a_person_can_mend_says_what_to_do() {
        for (code, expected) in [
            (ffi::SQLITE_FULL, "make room"),
            (ffi::SQLITE_IOERR_SHMOPEN, "make room"),
            (ffi::SQLITE_IOERR_SHMSIZE, "make room"),
            (ffi::SQLITE_IOERR_WRITE, "make room"),
            (ffi::SQLITE_IOERR_WRITE, "the disk fails"),
            (ffi::SQLITE_IOERR_FSYNC, "its disk fails"),
            (ffi::SQLITE_NOTADB, "no SQLite database"),
            (ffi::SQLITE_CORRUPT, "put a backup in its place"),
            (ffi::SQLITE_READONLY_DIRECTORY, "permissions"),
            (ffi::SQLITE_CANTOPEN, "permissions"),
            (ffi::SQLITE_BUSY, "another program"),
        ] {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            let said = error_text(&error);
            assert!(said.contains(expected) && said.contains("(SQLite: "), "{said}");
        }
        let other = rusqlite::Error::QueryReturnedNoRows;
        assert_eq!(error_text(&other), other.to_string());
    }
}
