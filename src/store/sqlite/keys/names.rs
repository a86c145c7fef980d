//! What keys are called, for reports: the ledger has their ids.

use std::collections::HashMap;

use rusqlite::OptionalExtension;

use super::super::{Store, StoreError};

impl Store {
    /// The names of these keys, by id. Those that are deleted, or have none, are left out.
    pub(crate) fn key_names<'a>(
        &self,
        ids: impl Iterator<Item = &'a str>,
    ) -> Result<HashMap<&'a str, String>, StoreError> {
        let tx = self.read()?;
        let mut statement = tx.prepare_cached("SELECT name FROM keys WHERE id = ?1")?;
        let mut names = HashMap::new();
        for id in ids {
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

#[cfg(test)]
mod tests {
    use super::super::super::samples::{new_key, store_with};
    use super::*;

    #[test]
    fn names_are_found_by_id() {
        let (_dir, mut store) = store_with(&[]);
        for (number, name) in [(1, "ci"), (2, "")] {
            let new = super::super::NewKey { name: name.to_owned(), ..new_key(number, "acme") };
            store.create_key(&new, 1).unwrap();
        }
        let names = store.key_names(["key_1", "key_2", "key_3", "key_1"].into_iter()).unwrap();
        assert_eq!(names, HashMap::from([("key_1", "ci".to_owned())]));
    }
}
