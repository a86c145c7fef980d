//! Whose the latest responses and items are: what comes with their rows, in the order in which it came, and stays when
//! those are deleted. Of too many go the oldest of the tenant that has most, as in memory (`gateway/owners.rs`);
//! the oldest by number, so that no clock decides.

use rusqlite::{Transaction, params};

use super::{Store, StoreError};
use crate::record::ResponseOwner;

/// So many are deleted at once beside those that make room, where fewer are to be kept than there are.
const SURPLUS: usize = 100;
/// The part of its own that a tenant loses before it is asked again who has most.
const LOST_PART: i64 = 64;

const ADD: &str = "INSERT INTO response_owners (owner, tenant) VALUES (?1, ?2)";

const COUNT: &str = "
INSERT INTO response_owner_counts (tenant, owners) VALUES (?1, 1)
ON CONFLICT (tenant) DO UPDATE SET owners = owners + 1";

const MOST: &str = "
SELECT tenant, owners FROM response_owner_counts ORDER BY owners DESC LIMIT 1";

const ALL: &str = "SELECT coalesce(sum(owners), 0) FROM response_owner_counts";

const DELETE: &str = "
DELETE FROM response_owners WHERE number IN (
    SELECT number FROM response_owners WHERE tenant = ?1 ORDER BY number LIMIT ?2)";

const DEDUCT: &str = "UPDATE response_owner_counts SET owners = owners - ?2 WHERE tenant = ?1";

impl Store {
    /// So many are kept from here on.
    pub(crate) fn keep_response_owners(&mut self, most: usize) {
        self.most_owners = most;
    }

    /// All of them with their tenant, oldest first. What an older version stored is of a tenant without a name.
    pub(crate) fn response_owners(
        &self,
        mut take: impl FnMut(&str, ResponseOwner),
    ) -> Result<(), StoreError> {
        let mut statement =
            self.conn.prepare("SELECT tenant, owner FROM response_owners ORDER BY number")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let tenant = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
            take(tenant, ResponseOwner(row.get::<_, i64>(1)?.cast_unsigned()));
        }
        Ok(())
    }
}

/// Adds those of new rows, each with its tenant, and deletes as many as are too many.
pub(super) fn add(
    tx: &Transaction<'_>,
    owners: &[(&str, ResponseOwner)],
    most: usize,
) -> Result<(), StoreError> {
    if owners.is_empty() {
        return Ok(());
    }
    let mut add = tx.prepare_cached(ADD)?;
    let mut count = tx.prepare_cached(COUNT)?;
    for (tenant, owner) in owners {
        add.execute(params![owner.0.cast_signed(), tenant])?;
        count.execute([tenant])?;
    }
    forget(tx, most as i64, (owners.len() + SURPLUS) as i64)
}

/// Deletes those beyond `most`, `at_once` at most.
fn forget(tx: &Transaction<'_>, most: i64, at_once: i64) -> Result<(), StoreError> {
    let all: i64 = tx.prepare_cached(ALL)?.query_row([], |row| row.get(0))?;
    let mut surplus = (all - most).min(at_once);
    while surplus > 0 {
        let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?));
        let (tenant, own) = tx.prepare_cached(MOST)?.query_row([], row)?;
        let lost = (own / LOST_PART).max(1).min(surplus);
        tx.prepare_cached(DELETE)?.execute(params![tenant, lost])?;
        tx.prepare_cached(DEDUCT)?.execute(params![tenant, lost])?;
        surplus -= lost;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Sample, store_with};
    use super::*;

    fn known(store: &Store) -> Vec<u64> {
        let mut known = Vec::new();
        store.response_owners(|_, owner| known.push(owner.0)).expect("reads");
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

    #[test]
    fn a_tenant_that_makes_many_pushes_out_its_own() {
        let (dir, mut store) = store_with(&[]);
        store.keep_response_owners(100);
        let row = |id: u64, tenant: &str| {
            let mut row = Sample { id, tenant, ..Sample::default() }.row();
            row.closed.owners = [ResponseOwner(id)].into();
            row
        };
        let few: Vec<_> = (0..20).map(|id| row(id, "other")).collect();
        store.append(&few, &[]).expect("writes");
        for from in (1_000..2_000).step_by(50) {
            let many: Vec<_> = (from..from + 50).map(|id| row(id, "acme")).collect();
            store.append(&many, &[]).expect("writes");
        }
        let kept: Vec<_> = (0..20).chain(1_920..2_000).collect();
        assert_eq!(known(&store), kept);
        assert_eq!(known(&Store::open(dir.path()).expect("opens")), kept);
    }
}
