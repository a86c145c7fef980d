//! Whether another program has put other content into the database by SQLite's own means: `.restore` of its
//! shell is one big transaction, after which the files are the same and the rows are those of a backup. What the
//! journal has to keep is told by whether the store still has the row that was stored last.

use rusqlite::Connection;

use super::{Store, StoreError};
use crate::ledger::record::EventId;

/// What is known of the content.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// Any row of the last batch that was stored: where that is, all before it are, too.
    last_row: Option<EventId>,
    /// Changes with what other connections commit, and with nothing else.
    version: Option<i64>,
}

impl Content {
    pub(super) fn stored(&mut self, event_id: Option<EventId>) {
        self.last_row = event_id.or(self.last_row);
    }

    /// Whether the row is there that was stored last.
    pub(super) fn is_there(&self, conn: &Connection) -> Result<bool, StoreError> {
        let Some(event_id) = self.last_row else { return Ok(true) };
        let mut statement = conn.prepare_cached("SELECT 1 FROM requests WHERE event_id = ?1")?;
        Ok(statement.exists([event_id.0])?)
    }
}

impl Store {
    /// Whether others have put another content in the place of what this connection has stored. Where retention
    /// has deleted the last row, which is then as old as that, it looks the same, and costs reading the journal again.
    pub(crate) fn is_rewritten(&mut self) -> Result<bool, StoreError> {
        let version = self.conn.pragma_query_value(None, "data_version", |row| row.get(0))?;
        if self.content.version.replace(version) == Some(version) {
            return Ok(false);
        }
        Ok(!self.content.is_there(&self.conn)?)
    }
}
