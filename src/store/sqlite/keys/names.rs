//! What keys are called, for reports: the ledger has their ids.

use std::collections::HashMap;

use rusqlite::OptionalExtension;

use super::super::{Sqlite, StoreError};

impl Sqlite {
    pub(in crate::store::sqlite) fn key_names<'a>(
        &self,
        ids: &[&'a str],
    ) -> Result<HashMap<&'a str, String>, StoreError> {
        let tx = self.read()?;
        let mut statement = tx.prepare_cached("SELECT name FROM keys WHERE id = ?1")?;
        let mut names = HashMap::new();
        for id in ids.iter().copied() {
            if names.contains_key(id) {
                continue;
            }
            // One that somebody else made no text is told of by `weir key list`.
            let name = statement
                .query_row([id], |row| Ok(row.get_ref(0)?.as_str().unwrap_or_default().to_owned()));
            names.insert(id, name.optional()?.unwrap_or_default());
        }
        names.retain(|_, name| !name.is_empty());
        Ok(names)
    }
}
