//! How the events of a stream begin. A chat's repeat the same members before `choices` (`id`, `created`,
//! `model`), which are most of what a short event is, and scanning them leads to the same each time. So
//! it is done once, and what begins as the one before is scanned from `choices` on.

use super::dialect::Document;
use crate::json::Scanner;

/// What is longer is scanned each time.
const LIMIT: usize = 1024;

/// The bytes of an event's document before the value of `choices`.
#[derive(Debug, Default)]
pub(super) struct Opening {
    bytes: Vec<u8>,
}

impl Opening {
    /// Takes a new document to `choices`, if `piece` is its beginning and begins as the one before;
    /// how many bytes that passes over.
    pub(super) fn pass(
        &self,
        piece: &[u8],
        scanner: &mut Scanner,
        document: &mut Document,
    ) -> usize {
        let len = self.bytes.len();
        if len == 0 || !piece.starts_with(&self.bytes) {
            return 0;
        }
        *scanner = Scanner::in_member(len as u64);
        document.at_choices();
        len
    }

    /// Remembers how the document begins that `piece` is the beginning of, and that has been scanned.
    pub(super) fn learn(&mut self, piece: &[u8], document: &Document) {
        let len = document.opening().and_then(|len| usize::try_from(len).ok());
        let opening = len.filter(|len| *len <= LIMIT).and_then(|len| piece.get(..len));
        if let Some(opening) = opening {
            self.bytes.clear();
            self.bytes.extend_from_slice(opening);
        }
    }
}
