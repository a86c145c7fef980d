//! How often a wait is told.

use std::time::Duration;

/// A wait that is shorter is nobody's business but a log's.
pub(crate) const FIRST: Duration = Duration::from_secs(1);
/// Between two words about a long one.
const EVERY: Duration = Duration::from_secs(5);

/// When a word is due: at once, after a second, and then every five.
#[derive(Debug, Default)]
pub(crate) struct WaitNotice {
    next: Duration,
}

impl WaitNotice {
    /// Whether a word is due about a wait that has lasted so long.
    pub(crate) fn is_due(&mut self, waited: Duration) -> bool {
        let is_due = waited >= self.next;
        if is_due {
            self.next = if waited < FIRST { FIRST } else { waited + EVERY };
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_at_once_after_a_second_and_then_every_five() {
        let mut notice = WaitNotice::default();
        let waited = (0..16_000).step_by(50).map(Duration::from_millis);
        let told: Vec<_> = waited.filter(|waited| notice.is_due(*waited)).collect();
        assert_eq!(told, [0, 1, 6, 11].map(Duration::from_secs));
    }
}
