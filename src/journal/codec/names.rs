//! The few names that nearly all records repeat, each kept once while a journal is read.

use std::collections::HashMap;
use std::sync::Arc;

/// How many of an `Opened`'s fields are names.
const NAME_FIELDS: usize = 5;

/// Names that many records share, each kept once. Bounded: past the limit it starts anew.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: HashMap<Box<str>, Arc<str>>,
    /// The last name of each field: mostly it is the next one too.
    last: [Option<Arc<str>>; NAME_FIELDS],
}

impl Names {
    const MAX: usize = 16 * 1024;

    pub(super) fn shared(&mut self, field: usize, name: &str) -> Arc<str> {
        if let Some(last) = &self.last[field]
            && **last == *name
        {
            return last.clone();
        }
        let shared = self.find(name);
        self.last[field] = Some(shared.clone());
        shared
    }

    /// No name, shared as well.
    pub(super) fn none(&mut self) -> Arc<str> {
        self.find("")
    }

    fn find(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.known.get(name) {
            return known.clone();
        }
        if self.known.len() >= Self::MAX {
            self.known.clear();
        }
        let shared: Arc<str> = Arc::from(name);
        self.known.insert(Box::from(name), shared.clone());
        shared
    }
}
