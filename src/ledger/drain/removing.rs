//! Removing segments that are done with. What they held has to be in the store, and to have reached its disk.

use super::reading::Cursor;
use super::{Drain, DrainError, POSITION_BYTES};
use crate::ledger::journal::Segment;
use crate::ledger::journal::disk::Disk;

impl<D: Disk> Drain<D> {
    /// Removes segments that nobody will write to and whose requests are all stored.
    pub(super) fn remove_finished(&mut self) -> Result<(), DrainError> {
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
        let mut removed = Ok(());
        for segment in finished {
            let is_damaged = self.cursor(segment.number).is_damaged;
            match self.directory.remove(&segment, is_damaged) {
                Ok(()) => drop(self.cursors.remove(&segment.number)),
                // It keeps no other from going.
                Err(source) => {
                    let path = segment.path.clone();
                    removed = removed.and(Err(DrainError::Remove { path, source }));
                }
            }
        }
        removed
    }

    fn is_finished(&self, segment: &Segment) -> bool {
        let is_sealed = segment.is_sealed() && segment.is_complete();
        let is_closed = |cursor: &Cursor<_>| cursor.open == 0 && cursor.held == 0;
        is_sealed
            && segment.settled() >= segment.published()
            && self.cursors.get(&segment.number).is_some_and(is_closed)
    }
}
