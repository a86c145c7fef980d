//! Ends of requests whose beginning may stand in a segment that cannot be read now. They wait until it can
//! be, or is given up; until then the segments that they stand in stay, and are read again after a crash.

use std::collections::HashMap;

use super::Drain;
use crate::journal::disk::Disk;
use crate::record::{Closed, EventId};
use crate::store::StoreError;

#[derive(Debug, Default)]
pub(super) struct UnmatchedEnds {
    /// Each with the segment that it stands in.
    ends: HashMap<EventId, (u64, Closed)>,
    /// The segments of those whose rows wait for the store.
    joined: Vec<u64>,
}

impl UnmatchedEnds {
    /// The end of a request whose beginning was found.
    pub(super) fn take(&mut self, event_id: EventId) -> Option<Closed> {
        let (number, closed) = self.ends.remove(&event_id)?;
        self.joined.push(number);
        Some(closed)
    }
}

impl<D: Disk> Drain<D> {
    /// Whether there is more to read in a segment up to this one, than can be: a beginning stands in no
    /// later one than its end.
    pub(super) fn is_unread_up_to(&self, number: u64) -> bool {
        self.cursors.range(..=number).any(|(_, cursor)| cursor.failing.is_some())
    }

    pub(super) fn hold(&mut self, number: u64, closed: Closed) {
        self.cursor(number).held += 1;
        let before = self.held.ends.insert(closed.event_id, (number, closed));
        // Written once more after a failed sync.
        if let Some((number, _)) = before {
            self.cursor(number).held -= 1;
        }
    }

    /// Once all has been read that will be, what has no beginning by then has none.
    pub(super) fn end_held(&mut self) -> Result<(), StoreError> {
        if self.held.ends.is_empty() || self.is_unread_up_to(u64::MAX) {
            return Ok(());
        }
        while let Some((number, closed)) = self.held.ends.values().next().cloned() {
            self.orphan(number, &closed)?;
            self.held.ends.remove(&closed.event_id);
            self.cursor(number).held -= 1;
        }
        Ok(())
    }

    /// All rows are stored: those of ends that were held, too.
    pub(super) fn let_go(&mut self) {
        for number in std::mem::take(&mut self.held.joined) {
            self.cursor(number).held -= 1;
        }
    }
}
