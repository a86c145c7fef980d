//! Whose the latest responses and items are: what comes with their rows, in the order in which it came, and stays when
//! those are deleted. Of too many go the oldest of the tenant that has most, as in memory (`gateway/response_owners.rs`);
//! the oldest by number, so that no clock decides.

use rusqlite::{Transaction, params};

use super::{Sqlite, StoreError};
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

impl Sqlite {
    pub(super) fn response_owners(
        &self,
        take: &mut dyn FnMut(&str, ResponseOwner),
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
