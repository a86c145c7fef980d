//! A copy of the store that holds one state, while others write to it.

use std::path::Path;
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ffi};

use super::error::error_text;
use super::integrity::file_problems;
use super::{CopyError, Sqlite};

/// Pages copied between two words of progress: 16 MiB.
const STEP_PAGES: i32 = 1024;
/// How long somebody has the file's lock.
const LOCK_POLL: Duration = Duration::from_millis(50);

impl CopyError {
    /// SQLite copies between two files, and says of neither which one fails: only the store is read.
    fn of(error: rusqlite::Error) -> Self {
        let is_read = |failed: &ffi::Error| {
            const READ: [i32; 4] = [
                ffi::SQLITE_IOERR_READ,
                ffi::SQLITE_IOERR_SHORT_READ,
                ffi::SQLITE_IOERR_DATA,
                // What SQLite makes of EIO: a bad block.
                ffi::SQLITE_IOERR_CORRUPTFS,
            ];
            READ.contains(&failed.extended_code)
        };
        match error.sqlite_error().is_some_and(is_read) {
            true => Self::Store(error.into()),
            false => Self::Write(error_text(&error)),
        }
    }
}

impl Sqlite {
    pub(super) fn copy_to(
        &self,
        path: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Vec<String>, CopyError> {
        let snapshot = self.read().map_err(CopyError::Store)?;
        // It begins with its first statement.
        self.rows_from_ms().map_err(CopyError::Store)?;
        let mut copy = Connection::open(path).map_err(CopyError::of)?;
        {
            let backup = Backup::new(&snapshot, &mut copy).map_err(CopyError::of)?;
            loop {
                let step = backup.step(STEP_PAGES).map_err(CopyError::of)?;
                let pages = backup.progress();
                let count = |pages: i32| u64::try_from(pages).unwrap_or(0);
                progress(count(pages.pagecount - pages.remaining), count(pages.pagecount));
                match step {
                    StepResult::Done => break,
                    StepResult::More => {}
                    _ => std::thread::park_timeout(LOCK_POLL),
                }
            }
        }
        copy.execute_batch("PRAGMA journal_mode = DELETE").map_err(CopyError::of)?;
        let problems = file_problems(&copy).map_err(CopyError::of)?;
        if !problems.is_empty() {
            return Ok(problems);
        }
        // Another journal may have segments of the same numbers. Without positions a segment is read from
        // its beginning, and what the store has already changes nothing.
        let forget = "DELETE FROM positions; PRAGMA journal_mode = WAL";
        copy.execute_batch(forget).map_err(CopyError::of)?;
        copy.close().map_err(|(_, error)| CopyError::of(error))?;
        Ok(problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_that_is_full_is_the_copy_s() {
        for (code, is_store, expected) in [
            (ffi::SQLITE_FULL, false, "its disk is full"),
            (ffi::SQLITE_IOERR_WRITE, false, "its disk takes no more"),
            (ffi::SQLITE_IOERR_READ, true, "/d/weir.sqlite fails: its disk fails"),
            (ffi::SQLITE_IOERR_CORRUPTFS, true, "/d/weir.sqlite fails: its disk fails"),
        ] {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            let (is_of_store, said) = match CopyError::of(error) {
                CopyError::Store(error) => {
                    (true, error.at(Path::new("/d/weir.sqlite")).to_string())
                }
                CopyError::Write(why) => (false, why),
            };
            assert!(is_of_store == is_store && said.starts_with(expected), "{said}");
        }
    }

    #[test]
    fn a_store_that_cannot_be_copied_is_named() {
        let (dir, store) = crate::store::samples::store_with(&[]);
        store.connection().execute_batch("DROP TABLE meta").unwrap();
        match store.copy_to(&dir.path().join("copy"), &mut |_, _| ()) {
            Err(CopyError::Store(error)) => {
                assert!(error.to_string().contains("weir.sqlite fails"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
}
