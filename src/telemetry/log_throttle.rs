//! Lines in the log that anyone can provoke, a client with its requests or an upstream with its answers:
//! the first is written, and then one a minute, with how many were left out. No log is filled by them.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Clock;

const MINUTE_NS: u64 = 60_000_000_000;

/// One kind of line; shared by whoever may write it.
#[derive(Debug)]
pub(crate) struct LogThrottle {
    clock: Clock,
    /// From when on it may be written again.
    due_ns: AtomicU64,
    left_out: AtomicU64,
}

impl LogThrottle {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, due_ns: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }

    /// Whether the line is to be written now; if so, how many were left out since the last one.
    pub(crate) fn allow(&self) -> Option<u64> {
        let now_ns = self.clock.mono_ns();
        let due_ns = self.due_ns.load(Ordering::Relaxed);
        let next_ns = now_ns.saturating_add(MINUTE_NS);
        // Of several at once one writes it.
        let is_said = now_ns >= due_ns
            && self
                .due_ns
                .compare_exchange(due_ns, next_ns, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if !is_said {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.left_out.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_a_minute_is_said_and_the_others_are_counted() {
        let (clock, hand) = Clock::manual(0);
        let line = LogThrottle::new(clock);
        let mut said = Vec::new();
        for wait_ms in [0, 0, 0, 59_999, 1, 0, 60_000, 600_000] {
            hand.advance_ms(wait_ms);
            said.push(line.allow());
        }
        assert_eq!(said, [Some(0), None, None, None, Some(3), None, Some(1), Some(0)]);
    }
}
