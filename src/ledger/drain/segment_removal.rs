//! Removing segments that are done with. What they held has to be in the store, and to have reached its disk.

use super::error::Unremoved;
use super::reading::Cursor;
use super::{Drain, DrainError, POSITION_BYTES};
use crate::journal::Segment;
use crate::journal::disk::Disk;
use crate::store::StoreError;

impl<D: Disk> Drain<D> {
    /// The segments that the last try could not remove; none once they have gone.
    pub(crate) fn unremoved(&self) -> Option<&Unremoved> {
        self.unremoved.as_ref()
    }

    /// An error where the last try left one: for those who begin, and can be told at once.
    pub(super) fn require_removed(&mut self) -> Result<(), DrainError> {
        self.unremoved.take().map_or(Ok(()), |unremoved| Err(DrainError::Remove(unremoved)))
    }

    /// Removes segments that nobody will write to and whose requests are all stored. One that stays is no failure
    /// of the pass: its rows are in the store, and it is tried again.
    pub(super) fn remove_finished(&mut self) -> Result<(), StoreError> {
        self.unremoved = None;
        let mut finished = self.directory.segments();
        finished.retain(|segment| self.is_finished(segment));
        if finished.is_empty() || !self.store.is_in_place() {
            return Ok(());
        }
        // Both records of a row that waits have been read, but one that began in these segments, and ended in
        // another, is nowhere else.
        if !self.rows.is_empty() {
            self.store_rows(POSITION_BYTES)?;
        }
        // The positions go first: one that is left behind would be taken for that of a later segment with
        // the same number. Without it, a segment that stays is only read once more.
        let numbers: Vec<_> = finished.iter().map(|segment| segment.number).collect();
        self.store.forget_segments(&numbers)?;
        for segment in finished {
            let is_damaged = self.cursor(segment.number).is_damaged;
            match self.directory.remove(&segment, is_damaged) {
                Ok(()) => drop(self.cursors.remove(&segment.number)),
                // It keeps no other from going.
                Err(source) => {
                    let first = Unremoved { path: segment.path.clone(), source, segments: 0 };
                    self.unremoved.get_or_insert(first).segments += 1;
                }
            }
        }
        Ok(())
    }

    fn is_finished(&self, segment: &Segment) -> bool {
        let is_sealed = segment.is_sealed() && segment.is_complete();
        let is_closed = |cursor: &Cursor<_>| cursor.open == 0 && cursor.held == 0;
        is_sealed
            && segment.settled() >= segment.published()
            && self.cursors.get(&segment.number).is_some_and(is_closed)
    }
}
