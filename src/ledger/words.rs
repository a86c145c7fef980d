//! How often a wait is told.

use std::time::Duration;

/// A wait that is shorter is nobody's business but a log's.
pub(super) const FIRST: Duration = Duration::from_secs(1);
/// Between two words about a long one.
const EVERY: Duration = Duration::from_secs(5);

/// When a word is due: at once, after a second, and then every five.
#[derive(Debug, Default)]
pub(super) struct Words {
    next: Duration,
}

impl Words {
    /// Whether a word is due about a wait that has lasted so long.
    pub(super) fn are_due(&mut self, waited: Duration) -> bool {
        let are_due = waited >= self.next;
        if are_due {
            self.next = if waited < FIRST { FIRST } else { waited + EVERY };
        }
        are_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_at_once_after_a_second_and_then_every_five() {
        let mut words = Words::default();
        let waited = (0..16_000).step_by(50).map(Duration::from_millis);
        let told: Vec<_> = waited.filter(|waited| words.are_due(*waited)).collect();
        assert_eq!(told, [0, 1, 6, 11].map(Duration::from_secs));
    }
}
