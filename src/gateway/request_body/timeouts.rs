//! How slowly a body may come. Three deadlines hold at once, because each lets something pass alone: between
//! two reads a byte now and then is enough, on average a pause is not, and a whole one is as long as the
//! slowest honest upload of the largest body.

use std::time::Duration;

use tokio::time::Instant;

/// What a body is held to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    /// Between two reads.
    pub(crate) idle: Duration,
    /// For all of it.
    pub(crate) whole: Duration,
    /// What has to come on average once `idle` has passed; 0: any.
    pub(crate) bytes_per_second: u64,
}

/// A body on its way. Its time begins when it is waited for first: most are never waited for.
#[derive(Debug)]
pub(super) struct BodyDeadline<'d> {
    deadlines: &'d Deadlines,
    begun: Option<Instant>,
    received: u64,
}

impl<'d> BodyDeadline<'d> {
    pub(super) fn new(deadlines: &'d Deadlines) -> Self {
        Self { deadlines, begun: None, received: 0 }
    }

    /// So much more has come, as it was sent: what is decoded from it does not count.
    pub(super) fn received(&mut self, bytes: usize) {
        self.received += bytes as u64;
    }

    /// By when more has to come.
    pub(super) fn deadline(&mut self) -> Instant {
        let now = Instant::now();
        let begun = *self.begun.get_or_insert(now);
        now + self.patience(now - begun)
    }

    /// For how long the next piece is waited for, so long after the beginning.
    fn patience(&self, elapsed: Duration) -> Duration {
        let Deadlines { idle, whole, bytes_per_second } = *self.deadlines;
        let mut until = whole;
        let earned_ms = self.received.saturating_mul(1000).checked_div(bytes_per_second);
        if let Some(earned_ms) = earned_ms {
            until = until.min(idle.saturating_add(Duration::from_millis(earned_ms)));
        }
        idle.min(until.saturating_sub(elapsed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn whichever_deadline_is_first_counts() {
        let deadlines = Deadlines { idle: s(30), whole: s(300), bytes_per_second: 4096 };
        let any = Deadlines { bytes_per_second: 0, ..deadlines };
        let mib = |bits: u64, seconds: u64| bits * (1 << 20) / 8 * seconds;
        for (deadlines, received, elapsed, patience) in [
            // A byte now and then is no body.
            (&deadlines, 0, s(0), s(30)),
            (&deadlines, 5, s(29), Duration::from_millis(1001)),
            (&deadlines, 5, s(31), s(0)),
            (&any, 5, s(31), s(30)),
            // What came at once earns time.
            (&deadlines, 4096 * 40, s(31), s(30)),
            (&deadlines, 4096 * 40, s(60), s(10)),
            // 32 MiB at 1 Mbit/s, all the way.
            (&deadlines, mib(1, 200), s(200), s(30)),
            (&deadlines, mib(1, 267), s(267), s(30)),
            (&deadlines, mib(1, 290), s(290), s(10)),
            (&any, u64::MAX, s(301), s(0)),
        ] {
            let pace = BodyDeadline { deadlines, begun: None, received };
            assert_eq!(pace.patience(elapsed), patience, "{received} bytes after {elapsed:?}");
        }
    }
}
