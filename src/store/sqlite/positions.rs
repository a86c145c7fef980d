//! Forgetting segments of the journal, which then go from the disk: what they held has to have reached it in
//! the store before.

use std::time::Duration;

use rusqlite::Transaction;

use super::{BUSY_WAIT, Position, Sqlite, StoreError, schema};

/// Whichever of its number.
const FORGET_SEGMENT: &str = "DELETE FROM positions
WHERE segment = ?1 OR substr(segment, 1, length(?1) + 1) = ?1 || '-'";

#[cfg(test)]
thread_local! {
    static SYNCED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// How many commits of this thread were to survive a power cut, and wrote something.
#[cfg(test)]
pub(crate) fn synced_commits() -> u64 {
    SYNCED.get()
}

impl Sqlite {
    /// Forgets all segments but those of these numbers, which are there.
    pub(super) fn forget_segments_but(&mut self, numbers: &[u64]) -> Result<(), StoreError> {
        let is_gone = |position: &Position| {
            let number = position.segment.split('-').next().and_then(|number| number.parse().ok());
            number.is_none_or(|number| !numbers.contains(&number))
        };
        let mut gone = self.positions()?;
        gone.retain(is_gone);
        if gone.is_empty() {
            return Ok(());
        }
        let tx = self.write()?;
        for position in gone {
            let forget = "DELETE FROM positions WHERE segment = ?1";
            tx.prepare_cached(forget)?.execute([position.segment])?;
        }
        Ok(tx.commit()?)
    }

    pub(super) fn forget_segments(&mut self, numbers: &[u64]) -> Result<(), StoreError> {
        if self.is_doubtful {
            self.empty_wal()?;
        }
        // A commit in this mode syncs the whole WAL, and with it the commits before it that were not.
        let synced = self.synced_commit(|tx| {
            let mut forget = tx.prepare_cached(FORGET_SEGMENT)?;
            for number in numbers {
                forget.execute([number.to_string()])?;
            }
            // One that changes nothing would sync nothing, and SQLite compares.
            tx.execute("UPDATE meta SET removals = removals + 1", [])?;
            Ok(())
        });
        self.is_doubtful = synced.is_err();
        synced?;
        self.require_in_place()
    }

    /// Copies the whole WAL to the database, syncs that, and begins the WAL anew. After a sync that failed
    /// the kernel may have dropped what it could not write, and says yes to the next one: no later sync of
    /// the WAL says anything about it. Without readers it takes a moment; with one, it is an error.
    fn empty_wal(&self) -> Result<(), StoreError> {
        self.conn.busy_timeout(Duration::ZERO)?;
        let busy = self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
        self.conn.busy_timeout(BUSY_WAIT)?;
        match busy? {
            0 => Ok(()),
            _ => Err(StoreError::Doubtful { path: self.path.clone() }),
        }
    }

    /// A transaction that has survived a power cut when this returns.
    fn synced_commit(
        &mut self,
        write: impl FnOnce(&Transaction<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        schema::set_synchronous(&self.conn, "FULL", "2")?;
        #[cfg(test)]
        let before = self.wal_bytes();
        let written = self.write().and_then(|tx| {
            write(&tx)?;
            Ok(tx.commit()?)
        });
        if !self.syncs_commits {
            schema::set_synchronous(&self.conn, "NORMAL", "1")?;
        }
        // One that wrote nothing to the WAL has synced nothing.
        #[cfg(test)]
        SYNCED.set(SYNCED.get() + u64::from(written.is_ok() && self.wal_bytes() > before));
        written
    }
}
