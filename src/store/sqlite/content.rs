//! Whether another program has put other content into the database by SQLite's own means: `.restore` of its
//! shell is one big transaction, after which the files are the same and the rows are those of a backup. What the
//! journal has to keep is told by whether the store still has the row that was stored last.

use rusqlite::{Connection, OptionalExtension};

use super::{Sqlite, StoreError};
use crate::record::EventId;

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

    /// Whether the row is no longer there that was stored last. Asked only after somebody else has committed, and
    /// again until it is answered by no: whoever is told has to begin anew.
    pub(super) fn is_other(&mut self, conn: &Connection) -> Result<bool, StoreError> {
        let version = conn.pragma_query_value(None, "data_version", |row| row.get(0))?;
        if self.version == Some(version) {
            return Ok(false);
        }
        let is_there = self.is_there(conn)?;
        self.version = is_there.then_some(version);
        Ok(!is_there)
    }

    /// This connection has deleted rows itself: where the last one was among them, it is the last of those left.
    pub(super) fn expired(&mut self, conn: &Connection) -> Result<(), StoreError> {
        if !self.is_there(conn)? {
            self.last_row = last_row(conn)?;
        }
        Ok(())
    }

    fn is_there(&self, conn: &Connection) -> Result<bool, StoreError> {
        let Some(event_id) = self.last_row else { return Ok(true) };
        let mut statement = conn.prepare_cached("SELECT 1 FROM requests WHERE event_id = ?1")?;
        Ok(statement.exists([event_id.0])?)
    }
}

impl Sqlite {
    /// From here on the content is this one: what replaces it is told by the last row, whoever stored that.
    pub(super) fn watch_content(&mut self) -> Result<(), StoreError> {
        self.content = Content { last_row: last_row(&self.conn)?, version: None };
        Ok(())
    }

    /// Whether others have put another content in the place of what this connection has stored. Each of its
    /// transactions asks the same once the lock is its own: a program that restores holds it before.
    pub(super) fn is_rewritten(&mut self) -> Result<bool, StoreError> {
        self.content.is_other(&self.conn)
    }
}

fn last_row(conn: &Connection) -> Result<Option<EventId>, StoreError> {
    let last = "SELECT event_id FROM requests ORDER BY rowid DESC LIMIT 1";
    let last = conn.prepare_cached(last)?.query_row([], |row| row.get(0)).optional()?;
    Ok(last.map(EventId))
}
