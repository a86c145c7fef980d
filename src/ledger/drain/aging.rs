//! What is old in the store: rows of which only sums are kept, and sums that are kept by the day. The drain
//! has the connection that writes, and knows what the journal would bring back.

use super::{Drain, MAX_BATCH};
use crate::journal::disk::Disk;
use crate::store::StoreError;

/// Roll-ups in one transaction. They come in the order of keys and go to that of tenants, so each batch
/// writes many pages of its day: few large ones are cheaper, and this takes some hundredths of a second.
const FOLDED_AT_ONCE: usize = 16_000;

impl<D: Disk> Drain<D> {
    /// Deletes a batch of rows that began before `before_ms` (milliseconds since the epoch), and says
    /// how many those were. Their roll-ups stay. What the journal still has is kept in the store as
    /// well: read again, it would come back, and count twice. What began after `until_ms`, no clock can
    /// be right about: its row may have been redated, so nothing is deleted as long as the journal has it.
    pub(crate) fn expire(&mut self, before_ms: i64, until_ms: i64) -> Result<usize, StoreError> {
        // What cannot be read now may be as old.
        let is_unknown = self.is_unread_up_to(u64::MAX);
        if is_unknown || self.cursors.values().any(|cursor| cursor.newest_ms > Some(until_ms)) {
            return Ok(0);
        }
        let oldest_ms = self.cursors.values().filter_map(|cursor| cursor.oldest_ms).min();
        let before_ms = before_ms.min(oldest_ms.unwrap_or(i64::MAX));
        let expired =
            self.store.expire(before_ms, MAX_BATCH, &mut || self.pacing.pause_if_due())?;
        self.store.maintain().map(|()| expired)
    }

    /// Folds a batch of roll-ups of hours (since the epoch, UTC) before `before`, and says how many those
    /// were.
    pub(crate) fn fold(&mut self, before: i64) -> Result<usize, StoreError> {
        let folded = self.store.fold(before, FOLDED_AT_ONCE, &mut || self.pacing.pause_if_due())?;
        self.store.maintain().map(|()| folded)
    }
}
