//! Keys that open nothing for a while. Unlike a revoked key, a suspended one can be resumed, with the text,
//! limits and usage that it had.

use super::super::{Store, StoreError};
use super::rows::key;
use crate::tenancy::Key;

impl Store {
    /// Suspends a key. Suspending it again keeps the first time. Returns the key.
    ///
    /// # Errors
    ///
    /// If there is no such key, it is revoked, or the store fails.
    pub(crate) fn suspend_key(&mut self, id: &str, now_ms: i64) -> Result<Key, StoreError> {
        self.set_suspended(id, Some(now_ms))
    }

    /// Lets a suspended key work again. Returns the key.
    ///
    /// # Errors
    ///
    /// As [`Self::suspend_key`].
    pub(crate) fn resume_key(&mut self, id: &str) -> Result<Key, StoreError> {
        self.set_suspended(id, None)
    }

    fn set_suspended(&mut self, id: &str, since_ms: Option<i64>) -> Result<Key, StoreError> {
        let tx = self.write_synced()?;
        if key(&tx, id)?.revoked_at_ms.is_some() {
            return Err(StoreError::Revoked(id.to_owned()));
        }
        let set =
            "UPDATE keys SET suspended_at_ms = iif(?2 IS NULL, NULL, coalesce(suspended_at_ms, ?2))
            WHERE id = ?1";
        tx.execute(set, (id, since_ms))?;
        let key = key(&tx, id)?;
        tx.commit()?;
        self.require_in_place()?;
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::samples::{new_key, store_with};
    use super::*;

    #[test]
    fn a_key_is_suspended_once_resumed_as_it_was_and_revoked_for_good() {
        let (_dir, mut store) = store_with(&[]);
        store.create_key(&new_key(1, "acme"), 1).unwrap();
        let before = store.keys().unwrap();
        let since = |key: Key| key.suspended_at_ms;
        assert_eq!(since(store.suspend_key("key_1", 5).unwrap()), Some(5));
        assert_eq!(since(store.suspend_key("key_1", 9).unwrap()), Some(5));
        assert_eq!(since(store.resume_key("key_1").unwrap()), None);
        assert_eq!(store.keys().unwrap(), before);
        store.revoke_key("key_1", 10).unwrap();
        for refused in [store.suspend_key("key_1", 11), store.resume_key("key_1")] {
            assert!(matches!(refused, Err(StoreError::Revoked(_))), "{refused:?}");
        }
        assert!(matches!(store.resume_key("key_2"), Err(StoreError::UnknownKey(_))));
    }
}
