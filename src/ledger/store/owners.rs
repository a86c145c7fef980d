//! Whose the latest responses and items are: what comes with their rows, in the order in which it came, and stays when
//! those are deleted. The oldest go by number, so that no clock decides.

use rusqlite::{Transaction, params};

use super::{Store, StoreError};
use crate::ledger::record::ResponseOwner;

/// So many are deleted at once beside those that make room, where fewer are to be kept than there are.
const SURPLUS: usize = 100;

const ADD: &str = "INSERT INTO response_owners (owner) VALUES (?1)";

const DELETE: &str = "
DELETE FROM response_owners WHERE number IN (
    SELECT number FROM response_owners WHERE number <= ?1 ORDER BY number LIMIT ?2)";

impl Store {
    /// So many are kept from here on.
    pub(crate) fn keep_response_owners(&mut self, most: usize) {
        self.most_owners = most;
    }

    /// All of them, oldest first.
    pub(crate) fn response_owners(
        &self,
        mut take: impl FnMut(ResponseOwner),
    ) -> Result<(), StoreError> {
        let mut statement =
            self.conn.prepare("SELECT owner FROM response_owners ORDER BY number")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            take(ResponseOwner(row.get::<_, i64>(0)?.cast_unsigned()));
        }
        Ok(())
    }
}

/// Adds those of new rows, and deletes as many as are too many.
pub(super) fn add(
    tx: &Transaction<'_>,
    owners: &[ResponseOwner],
    most: usize,
) -> Result<(), StoreError> {
    if owners.is_empty() {
        return Ok(());
    }
    let mut statement = tx.prepare_cached(ADD)?;
    for owner in owners {
        statement.execute([owner.0.cast_signed()])?;
    }
    let until = tx.last_insert_rowid() - most as i64;
    let at_once = owners.len() + SURPLUS;
    tx.prepare_cached(DELETE)?.execute(params![until, at_once as i64])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Sample, store_with};
    use super::*;

    fn known(store: &Store) -> Vec<u64> {
        let mut known = Vec::new();
        store.response_owners(|owner| known.push(owner.0)).expect("reads");
        known
    }

    #[test]
    fn owners_come_once_with_their_rows_and_the_latest_stay() {
        let (dir, mut store) = store_with(&[]);
        store.keep_response_owners(5);
        let row = |id: u64| {
            let mut row = Sample { id, ..Sample::default() }.row();
            // Every other one is of no response that is kept.
            let owner = id.is_multiple_of(2).then_some(ResponseOwner(u64::MAX - id));
            row.closed.owners = owner.into_iter().collect();
            row
        };
        let owner = |id: u64| u64::MAX - id;
        let rows: Vec<_> = (0..6).map(row).collect();
        assert_eq!(store.append(&rows, &[]).expect("writes"), 6);
        assert_eq!(store.append(&rows[..4], &[]).expect("a replay"), 0);
        assert_eq!(known(&store), [owner(0), owner(2), owner(4)]);
        // Rows go, by retention, and what they brought stays.
        store.expire(i64::MAX, 100, || ()).expect("deletes");
        assert_eq!(known(&Store::open(dir.path()).expect("opens")), known(&store));
        let more: Vec<_> = (6..20).map(row).collect();
        store.append(&more, &[]).expect("writes");
        assert_eq!(known(&store), [10, 12, 14, 16, 18].map(owner));
        // With fewer to be kept, the surplus goes in steps.
        store.keep_response_owners(2);
        store.append(&[row(20)], &[]).expect("writes");
        assert_eq!(known(&store), [18, 20].map(owner));
    }
}
