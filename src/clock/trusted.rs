//! How far the wall clock is believed. It can be wrong by years for a moment, and what is decided then
//! (which day is open, which date a row gets) would stay. Two witnesses speak beside it: the time that
//! was confirmed before, and the monotonic clock, which carries that on and cannot be set.
//!
//! A clock that is behind what was confirmed is the one that is wrong. A clock that is ahead cannot be
//! told from a machine that slept, so it is followed at once; but what it opened is left again when it
//! turns out to lie more than [`AHEAD_MAX_MS`] ahead of the time that is believed. As long as nothing is
//! confirmed, nothing speaks against the wall clock, in whichever direction it goes.

use std::sync::atomic::{AtomicI64, Ordering};

use super::Now;

/// What lies further ahead than this, a clock that was wrong has made: 26 hours. The longest day has 25,
/// so that a clock that is set back within its day reopens nothing.
pub(crate) const AHEAD_MAX_MS: i64 = 26 * 3_600_000;

/// Before any wall clock, whatever the monotonic one adds.
const UNCONFIRMED: i64 = i64::MIN;

/// The time that is believed, for all threads. The ledger confirms it; admission asks for it only where
/// the wall clock is behind the windows that are open.
#[derive(Debug)]
pub(crate) struct TrustedClock {
    /// The confirmed time less what the monotonic clock said then, in milliseconds; [`UNCONFIRMED`] until
    /// there is one.
    anchor_ms: AtomicI64,
    /// The furthest moment that windows were opened for, since [`Self::take_furthest`].
    furthest_ms: AtomicI64,
}

impl TrustedClock {
    /// Begins with a time that is confirmed at `now`, in Unix milliseconds.
    pub(crate) fn new(time_ms: i64, now: Now) -> Self {
        let trusted_clock = Self::unconfirmed();
        trusted_clock.set(time_ms, now);
        trusted_clock
    }

    /// Begins with nothing that is confirmed.
    pub(crate) fn unconfirmed() -> Self {
        let (anchor_ms, furthest_ms) = (UNCONFIRMED.into(), AtomicI64::new(i64::MIN));
        Self { anchor_ms, furthest_ms }
    }

    /// Takes another time for confirmed, which may be an earlier one.
    pub(crate) fn set(&self, time_ms: i64, now: Now) {
        self.anchor_ms.store(time_ms.saturating_sub(mono_ms(now)), Ordering::Relaxed);
    }

    /// How late it is, in Unix milliseconds: the wall clock, unless that is behind what was confirmed.
    pub(crate) fn at(&self, now: Now) -> i64 {
        self.confirmed_at(now).max(now.unix_ms)
    }

    /// What was confirmed, carried on by the monotonic clock; before all times if nothing was.
    pub(crate) fn confirmed_at(&self, now: Now) -> i64 {
        self.anchor_ms.load(Ordering::Relaxed).saturating_add(mono_ms(now))
    }

    /// The last moment that is not too far ahead to be believed in.
    pub(crate) fn until(&self, now: Now) -> i64 {
        self.at(now).saturating_add(AHEAD_MAX_MS)
    }

    /// Whether the wall clock is so far ahead of what was confirmed that it may be wrong by years.
    pub(crate) fn is_ahead(&self, now: Now) -> bool {
        now.unix_ms > self.confirmed_at(now).saturating_add(AHEAD_MAX_MS)
    }

    /// Notes that windows were opened for this moment.
    pub(crate) fn opened(&self, unix_ms: i64) {
        self.furthest_ms.fetch_max(unix_ms, Ordering::Relaxed);
    }

    /// Whether windows may be open that are too far ahead.
    pub(crate) fn is_overtaken(&self, now: Now) -> bool {
        self.furthest_ms.load(Ordering::Relaxed) > self.until(now)
    }

    /// The furthest moment that windows were opened for, which is forgotten.
    pub(crate) fn take_furthest(&self) -> i64 {
        self.furthest_ms.swap(i64::MIN, Ordering::Relaxed)
    }
}

/// The monotonic clock in milliseconds.
pub(crate) fn mono_ms(now: Now) -> i64 {
    i64::try_from(now.mono_ns / 1_000_000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_followed_forward_and_not_back_beyond_what_was_confirmed() {
        let at = |unix_ms, mono_ms: u64| Now { unix_ms, mono_ns: mono_ms * 1_000_000 };
        let trusted_clock = TrustedClock::new(1_000, at(5_000, 100));
        assert_eq!(trusted_clock.at(at(5_000, 100)), 5_000);
        assert_eq!(trusted_clock.at(at(0, 100)), 1_000);
        assert_eq!(trusted_clock.at(at(0, 350)), 1_250, "time goes on by the monotonic clock");
        assert_eq!(trusted_clock.until(at(0, 350)), 1_250 + AHEAD_MAX_MS);
        assert!(!trusted_clock.is_ahead(at(1_250 + AHEAD_MAX_MS, 350)));
        assert!(trusted_clock.is_ahead(at(1_251 + AHEAD_MAX_MS, 350)));
        trusted_clock.set(700, at(0, 350));
        assert_eq!(trusted_clock.at(at(0, 400)), 750);
    }

    #[test]
    fn a_clock_is_followed_both_ways_while_nothing_is_confirmed() {
        let at = |unix_ms, mono_ms: u64| Now { unix_ms, mono_ns: mono_ms * 1_000_000 };
        let trusted_clock = TrustedClock::unconfirmed();
        assert_eq!(trusted_clock.at(at(5_000, 100)), 5_000);
        assert_eq!(trusted_clock.at(at(1_000, 200)), 1_000);
        assert!(trusted_clock.is_ahead(at(1_000, 200)), "as far as is known");
        trusted_clock.set(1_000, at(1_000, 200));
        assert_eq!(trusted_clock.at(at(0, 300)), 1_100);
    }

    #[test]
    fn what_was_opened_too_far_ahead_is_noticed_until_it_is_taken() {
        let now = Now { unix_ms: 1_000, mono_ns: 0 };
        let trusted_clock = TrustedClock::unconfirmed();
        trusted_clock.opened(1_000 + AHEAD_MAX_MS);
        trusted_clock.opened(3);
        assert!(!trusted_clock.is_overtaken(now));
        trusted_clock.opened(1_001 + AHEAD_MAX_MS);
        assert!(trusted_clock.is_overtaken(now));
        assert_eq!(trusted_clock.take_furthest(), 1_001 + AHEAD_MAX_MS);
        assert!(!trusted_clock.is_overtaken(now));
    }
}
