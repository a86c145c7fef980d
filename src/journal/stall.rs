//! A sync that does not return: a network disk that is gone, a controller that resets. It can't be
//! ended, and nobody knows whether it will. Three times are named for it: until [`REFUSED_AFTER`] all waits, as
//! a disk may be slow; then new requests are refused, which would be paid for and could not end; after
//! [`CUT_AFTER`] the answers that wait are cut as well. The sync's return ends all that.
//!
//! Nothing here reads a clock: the worker looks once a second, and says what time it is.

use std::time::Duration;

/// A sync that has run for so long is not waited for by new requests.
pub(super) const REFUSED_AFTER: Duration = Duration::from_secs(5);
/// Nor by answers that are whole but for their end. It is longer, because a client that is cut asks again,
/// and the answer is paid for twice.
pub(super) const CUT_AFTER: Duration = Duration::from_secs(30);

/// What has been seen of a sync thread.
#[derive(Debug, Default)]
pub(super) struct Stall {
    /// How far it was when it last had got on, and when that was seen, on the monotonic clock.
    seen: Option<(u64, u64)>,
    /// Since then.
    lasts: Duration,
}

impl Stall {
    /// `progress`: what the thread has got done so far, if it is at work. To be called every now and then.
    pub(super) fn look(&mut self, progress: Option<u64>, mono_ns: u64) {
        let Some(progress) = progress else {
            *self = Self::default();
            return;
        };
        let before = self.seen.filter(|(seen, _)| *seen == progress);
        let (_, since_ns) = *self.seen.insert(before.unwrap_or((progress, mono_ns)));
        self.lasts = Duration::from_nanos(mono_ns.saturating_sub(since_ns));
    }

    pub(super) fn refuses(&self) -> bool {
        self.lasts >= REFUSED_AFTER
    }

    pub(super) fn cuts(&self) -> bool {
        self.lasts >= CUT_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sync_that_does_not_get_on_is_stalled() {
        const S: u64 = 1_000_000_000;
        let mut stall = Stall::default();
        // When it is looked, how far the thread is, and what is said of it.
        let looks = [
            (0, Some(1), (false, false)),
            (4 * S, Some(1), (false, false)),
            (5 * S - 1, Some(1), (false, false)),
            // However long it works.
            (9 * S, Some(2), (false, false)),
            (14 * S - 1, Some(2), (false, false)),
            (14 * S, Some(2), (true, false)),
            (39 * S - 1, Some(2), (true, false)),
            (39 * S, Some(2), (true, true)),
            (40 * S, Some(3), (false, false)),
            (45 * S, Some(3), (true, false)),
            (46 * S, None, (false, false)),
            // What it has done is no more now; nobody has asked for more in between.
            (90 * S, Some(3), (false, false)),
        ];
        for (mono_ns, progress, expected) in looks {
            stall.look(progress, mono_ns);
            assert_eq!((stall.refuses(), stall.cuts()), expected, "at {mono_ns}");
        }
    }
}
