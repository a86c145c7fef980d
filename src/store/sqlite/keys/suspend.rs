//! Keys that open nothing for a while. Unlike a revoked key, a suspended one can be resumed, with the text,
//! limits and usage that it had.

use super::super::{Sqlite, StoreError};
use super::rows::key;
use crate::store::Switched;

impl Sqlite {
    pub(in crate::store::sqlite) fn suspend_key(
        &mut self,
        id: &str,
        now_ms: i64,
    ) -> Result<Switched, StoreError> {
        self.set_suspended(id, Some(now_ms))
    }

    pub(in crate::store::sqlite) fn resume_key(
        &mut self,
        id: &str,
    ) -> Result<Switched, StoreError> {
        self.set_suspended(id, None)
    }

    fn set_suspended(&mut self, id: &str, since_ms: Option<i64>) -> Result<Switched, StoreError> {
        let tx = self.write_synced()?;
        let before = key(&tx, id)?;
        if before.revoked_at_ms.is_some() {
            return Err(StoreError::Revoked(id.to_owned()));
        }
        let set =
            "UPDATE keys SET suspended_at_ms = iif(?2 IS NULL, NULL, coalesce(suspended_at_ms, ?2))
            WHERE id = ?1";
        tx.execute(set, (id, since_ms))?;
        let key = key(&tx, id)?;
        tx.commit()?;
        self.require_in_place()?;
        Ok(Switched { before, key })
    }
}
