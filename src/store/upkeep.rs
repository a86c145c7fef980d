//! What time does to the store: hours are folded into days, old rows deleted, a time is confirmed, copies are made.

use std::path::Path;

use super::{CopyError, StoreError};

/// Rows that began after some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Future {
    pub rows: u64,
    /// When the first and the last of them began, in milliseconds since the epoch.
    pub first_ms: i64,
    pub last_ms: i64,
}

/// The side of the store that a running server looks after. All moments are milliseconds since the epoch.
pub(crate) trait Upkeep {
    /// Folds at most `limit` roll-ups of hours (since the epoch, UTC) before `before` into the sums of their days,
    /// and says how many that were. `step` is called after each.
    fn fold(
        &mut self,
        before: i64,
        limit: usize,
        step: &mut dyn FnMut(),
    ) -> Result<usize, StoreError>;

    /// Deletes at most `limit` rows, the oldest first, of requests that began before `before_ms`, rounded down to
    /// a full hour: an hour's rows are all there, or none is believed to be. Roll-ups stay. Returns how many were
    /// deleted. `step` is called every now and then.
    fn expire(
        &mut self,
        before_ms: i64,
        limit: usize,
        step: &mut dyn FnMut(),
    ) -> Result<usize, StoreError>;

    /// From which moment on every row is there; the roll-ups before it have no rows any more.
    fn rows_from_ms(&self) -> Result<i64, StoreError>;

    /// The time that was confirmed last; `None` until there is one.
    fn confirmed_ms(&self) -> Result<Option<i64>, StoreError>;

    /// Replaces the confirmed time if it still is `before`: false if another process has set it.
    fn confirm(&mut self, before: Option<i64>, time_ms: i64) -> Result<bool, StoreError>;

    /// A time to which rows bear witness as a clock does that keeps step for `steady_ms`: when the request
    /// began of the row stored last before which another one lies by as much, and by no more than what is
    /// believed of a clock. A row has two dates, of which the earlier counts: its own, and that of the clock which
    /// made its id.
    fn witnessed_ms(&self, steady_ms: i64) -> Result<Option<i64>, StoreError>;

    /// When the newest request began of which there is a row; those that began after `until_ms` are passed over.
    fn newest_ms(&self, until_ms: i64) -> Result<Option<i64>, StoreError>;

    /// The rows of requests that began after `until_ms`; `None` if there are none.
    fn future(&self, until_ms: i64) -> Result<Option<Future>, StoreError>;

    /// Bytes of the engine's own log that grow as long as a reader needs what is at their begin; 0 where it has
    /// none.
    fn log_bytes(&self) -> u64;

    /// Copies everything but the journal's positions to the file at `path`, which is there and empty. `progress` is
    /// told how much of how much is done. Returns what is wrong with the copy, which then is as damaged as
    /// the store.
    fn copy_to(
        &self,
        path: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Vec<String>, CopyError>;
}
