//! Copying the WAL to the database. SQLite can do that by itself after a commit, and then keeps to itself that a
//! sync of the WAL has failed: a later one that says yes would be believed, and the journal forgotten.

use super::{Sqlite, StoreError};

/// Pages in the WAL from which on it is copied: 8 MiB.
const PAGES: i64 = 2048;

impl Sqlite {
    /// From here on nobody but [`Sqlite::checkpoint`] does it.
    pub(super) fn checkpoint_by_hand(&self) -> Result<(), StoreError> {
        Ok(self.conn.pragma_update(None, "wal_autocheckpoint", 0)?)
    }

    /// Copies the WAL to the database if it is long, as far as readers let it.
    pub(super) fn checkpoint(&mut self) -> Result<(), StoreError> {
        let (pages, copied) = self.wal_pages("NOOP")?;
        if pages < PAGES || pages == copied {
            return Ok(());
        }
        let copied = self.wal_pages("PASSIVE").map(drop);
        self.take_word(copied)
    }

    /// What became of copying the WAL. Where that failed, its sync may have: from then on no word about the WAL is
    /// believed, whatever the next copy says, until it is copied whole.
    fn take_word(&mut self, copied: Result<(), StoreError>) -> Result<(), StoreError> {
        self.is_doubtful |= copied.is_err();
        copied
    }

    /// Pages in the WAL, and how many of them are copied.
    fn wal_pages(&self, mode: &str) -> Result<(i64, i64), StoreError> {
        let pragma = format!("PRAGMA wal_checkpoint({mode})");
        let mut statement = self.conn.prepare_cached(&pragma)?;
        Ok(statement.query_row([], |row| Ok((row.get(1)?, row.get(2)?)))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::store::samples::{Sample, store_with};

    #[test]
    fn after_a_copy_that_failed_nothing_is_forgotten_until_the_wal_is_copied_whole() {
        let (dir, mut store) = store_with(&[Sample::default()]);
        store.begin_drain(&[]).unwrap();
        let reader = Store::open(dir.path()).unwrap();
        reader.connection().execute_batch("BEGIN; SELECT count(*) FROM meta").unwrap();
        store.forget_segments(&[1]).unwrap();
        let failed = rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC),
            None,
        );
        store.sqlite_mut().take_word(Err(failed.into())).unwrap_err();
        store.sqlite_mut().take_word(Ok(())).unwrap();
        let refused = store.forget_segments(&[1]);
        assert!(matches!(refused, Err(StoreError::Doubtful { .. })), "{refused:?}");
        reader.connection().execute_batch("COMMIT").unwrap();
        store.forget_segments(&[1]).unwrap();
    }

    #[test]
    fn a_long_wal_is_copied_and_a_short_one_is_not() {
        let (_dir, mut store) = store_with(&[]);
        store.begin_drain(&[]).unwrap();
        let mut rows = (1..).map(|id| Sample { id, ..Sample::default() }.row());
        let mut fill = |store: &mut Store| {
            while store.sqlite().wal_pages("NOOP").unwrap().0 < PAGES {
                assert_eq!(store.sqlite().wal_pages("NOOP").unwrap().1, 0, "nobody else copies it");
                let rows: Vec<_> = rows.by_ref().take(4_000).collect();
                store.append(&rows, &[]).unwrap();
            }
        };
        store.maintain().unwrap();
        fill(&mut store);
        store.maintain().unwrap();
        let (pages, copied) = store.sqlite().wal_pages("NOOP").unwrap();
        assert!(pages >= PAGES && copied == pages, "{pages}, {copied}");
        // It begins anew, and so there is more and more to copy, but never more in the WAL.
        store.append(&[Sample { id: 1 << 40, ..Sample::default() }.row()], &[]).unwrap();
        assert!(store.sqlite().wal_pages("NOOP").unwrap().0 < PAGES);
    }
}
