//! When the drain stores what it has read, and when segments go. A commit writes a handful of pages however
//! few rows are in it, so few rows wait for others; and a removal takes a sync. Neither may take long: a
//! request is to be found in a report within a second of its end.

use std::time::Duration;

/// Between two passes.
const EVERY: Duration = Duration::from_millis(200);
/// So many rows are worth a commit of their own.
const MANY_ROWS: usize = 100;
/// How long fewer wait at most. What is left of a second is for the commit.
pub(crate) const ROW_WAIT: Duration = Duration::from_millis(800);
/// Between two removals of segments, each of which takes a sync.
const REMOVE_EVERY: Duration = Duration::from_secs(1);
/// Between two tries to remove one that stays; each wait before is twice the last.
const RETRY_AT_MOST: Duration = Duration::from_secs(60);

/// Times are since any one moment.
#[derive(Debug)]
pub(super) struct Schedule {
    row_wait: Duration,
    /// When the last pass began to read: what it did not find has ended since.
    looked: Duration,
    /// No row that waits is of a request that had ended by then. None while no row waits.
    waiting_since: Option<Duration>,
    removed: Option<Duration>,
    remove_every: Duration,
}

impl Schedule {
    /// One by which few rows wait for others for `row_wait`.
    pub(super) fn new(row_wait: Duration) -> Self {
        Self {
            row_wait,
            looked: Duration::ZERO,
            waiting_since: None,
            removed: None,
            remove_every: REMOVE_EVERY,
        }
    }

    /// Whether the `rows` that wait are to be stored by a pass that began to read at `now`.
    pub(super) fn stores(&mut self, rows: usize, now: Duration) -> bool {
        let before = std::mem::replace(&mut self.looked, now);
        if rows == 0 {
            return true;
        }
        let since = *self.waiting_since.get_or_insert(before);
        rows >= MANY_ROWS || now >= since + self.row_wait
    }

    /// No row waits any more.
    pub(super) fn stored(&mut self) {
        self.waiting_since = None;
    }

    /// Whether segments may go at `now`.
    pub(super) fn removes(&mut self, now: Duration) -> bool {
        let is_due = self.removed.is_none_or(|removed| now >= removed + self.remove_every);
        if is_due {
            self.removed = Some(now);
        }
        is_due
    }

    /// Segments were removed; those that stay are tried again less and less often.
    pub(super) fn has_removed(&mut self, all: bool) {
        self.remove_every = match all {
            true => REMOVE_EVERY,
            false => RETRY_AT_MOST.min(self.remove_every * 2),
        };
    }

    /// How long after `now` the next pass begins: in time for the rows that wait. Those that could not be
    /// stored in time are tried again like all others.
    pub(super) fn rest(&self, now: Duration) -> Duration {
        let left = self.waiting_since.map(|since| (since + self.row_wait).saturating_sub(now));
        left.filter(|left| !left.is_zero()).map_or(EVERY, |left| left.min(EVERY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_that_stay_are_tried_again_less_and_less_often() {
        let mut schedule = Schedule::new(ROW_WAIT);
        let mut tried = Vec::new();
        for second in 0..187 {
            if schedule.removes(Duration::from_secs(second)) {
                tried.push(second);
                // At first they go, and once more in the end.
                schedule.has_removed([0, 1, 184].contains(&second));
            }
        }
        assert_eq!(tried, [0, 1, 2, 4, 8, 16, 32, 64, 124, 184, 185]);
    }
}
