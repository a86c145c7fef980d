//! Requests per minute. The decisions are governor's (GCRA); the state is ours, because admission
//! must put it back when a later check refuses, and governor's own cannot be taken back.
//!
//! GCRA keeps one number, the theoretical arrival time: how far it lies ahead of now is how much of
//! the burst is used. A limiter lives for one check only and reads its start as 0, so that the
//! number counts from the start of our own clock and stays meaningful when the limit changes.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

use super::denied::Level;

/// No burst takes longer than this to come back, about 73 years: governor multiplies unchecked.
const MAX_BURST_NS: u64 = u64::MAX / 8;

/// Clocks are read up to here, about 292 years, for the same reason.
const MAX_NOW_NS: u64 = u64::MAX / 2;

/// The live state of one requests-per-minute limit.
#[derive(Debug)]
pub(super) struct Rate {
    quota: Quota,
    rpm: NonZeroU32,
    /// Tells it from the limiter that stood here before the limit was lifted for a while.
    id: u64,
    state: State,
}

/// All that changes, small enough to be saved and put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    /// Nanoseconds on our monotonic clock; now or before means that nothing is used.
    arrival_ns: u64,
    /// How often a request found the whole burst there.
    fills: u64,
}

/// A request taken, as long as everything can still be undone.
#[derive(Clone, Copy, Debug)]
pub(super) struct RateSpend {
    before: State,
    pub(super) receipt: RateReceipt,
}

/// What a request keeps for giving itself back later.
#[derive(Clone, Copy, Debug)]
pub(super) struct RateReceipt {
    id: u64,
    fills: u64,
}

/// The number on loan to governor for one check.
struct Arrival(Cell<u64>);

/// An instant for governor to read.
struct At(Cell<Nanos>);

impl StateStore for &Arrival {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (decision, next) = decide(Some(Nanos::new(self.0.get())))?;
        self.0.set(next.as_u64());
        Ok(decision)
    }
}

impl Clock for At {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.get()
    }
}

impl Rate {
    /// A limit with nothing used yet. `burst` may come at once; `None`: as many as the limit.
    pub(super) fn new(rpm: NonZeroU32, burst: Option<u32>, id: u64) -> Self {
        let quota = quota_of(rpm, burst);
        Self { quota, rpm, id, state: State { arrival_ns: 0, fills: 0 } }
    }

    /// Takes one request, or says how long until that will do.
    pub(super) fn spend(&mut self, mono_ns: u64) -> Result<RateSpend, Duration> {
        let now_ns = mono_ns.min(MAX_NOW_NS);
        let now = Nanos::new(now_ns);
        let before = self.state;
        let arrival = Arrival(Cell::new(before.arrival_ns));
        let limiter = RateLimiter::<_, _, _, NoOpMiddleware<Nanos>>::new(
            self.quota,
            &arrival,
            At(Cell::new(Nanos::new(0))),
        );
        limiter.clock().0.set(now);
        limiter.check().map_err(|refused| refused.wait_time_from(now))?;
        self.state.arrival_ns = arrival.0.get();
        self.state.fills += u64::from(before.arrival_ns <= now_ns);
        let receipt = RateReceipt { id: self.id, fills: self.state.fills };
        Ok(RateSpend { before, receipt })
    }

    /// How long until a request may be taken. Takes nothing.
    pub(super) fn wait(&mut self, mono_ns: u64) -> Option<Duration> {
        if self.used_ns(mono_ns) == 0 {
            return None;
        }
        match self.spend(mono_ns) {
            Ok(spend) => {
                self.put_back(spend);
                None
            }
            Err(wait) => Some(wait),
        }
    }

    /// Undoes the latest [`Self::spend`] to the letter; nothing may have come between.
    pub(super) fn put_back(&mut self, spend: RateSpend) {
        self.state = spend.before;
    }

    /// Gives an older request back. If the whole burst was there again since, time has already
    /// given it back.
    pub(super) fn give_back(&mut self, receipt: RateReceipt) {
        if (self.id, self.state.fills) == (receipt.id, receipt.fills) {
            self.state.arrival_ns = self.state.arrival_ns.saturating_sub(self.interval_ns());
        }
    }

    /// Changes the limit. What was used stays used, request for request, but no more than the new
    /// burst: a lowered limit waits at most one interval.
    pub(super) fn set_limit(&mut self, rpm: NonZeroU32, burst: Option<u32>, mono_ns: u64) {
        let quota = quota_of(rpm, burst);
        if quota != self.quota {
            let used_ns = u128::from(self.used_ns(mono_ns));
            let old_interval = u128::from(self.interval_ns());
            self.quota = quota;
            let used_ns = (used_ns * u128::from(self.interval_ns())).div_ceil(old_interval);
            let used_ns = u64::try_from(used_ns).unwrap_or(u64::MAX).min(self.burst_ns());
            self.state.arrival_ns = mono_ns.min(MAX_NOW_NS) + used_ns;
        }
        self.rpm = rpm;
    }

    pub(super) fn level(&self, mono_ns: u64) -> Level {
        let used_ns = self.used_ns(mono_ns);
        Level {
            limit: u64::from(self.rpm.get()),
            remaining: self.burst_ns().saturating_sub(used_ns) / self.interval_ns(),
            reset: Duration::from_nanos(used_ns),
        }
    }

    /// How much of the burst is used, as the time that it takes to come back.
    fn used_ns(&self, mono_ns: u64) -> u64 {
        self.state.arrival_ns.saturating_sub(mono_ns.min(MAX_NOW_NS))
    }

    fn burst_ns(&self) -> u64 {
        self.interval_ns() * u64::from(self.quota.burst_size().get())
    }

    fn interval_ns(&self) -> u64 {
        interval_ns(&self.quota)
    }
}

fn quota_of(rpm: NonZeroU32, burst: Option<u32>) -> Quota {
    let quota = Quota::per_minute(rpm);
    let most = u32::try_from(MAX_BURST_NS / interval_ns(&quota)).unwrap_or(u32::MAX);
    let burst = burst.unwrap_or(rpm.get()).min(most);
    quota.allow_burst(NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN))
}

/// What one request weighs, between 13 ns and a minute, so it fits.
fn interval_ns(quota: &Quota) -> u64 {
    let interval = quota.replenish_interval();
    interval.as_secs() * 1_000_000_000 + u64::from(interval.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn rate(rpm: u32, burst: Option<u32>) -> Rate {
        Rate::new(NonZeroU32::new(rpm).expect("a test's own limit"), burst, 0)
    }

    fn takes(rate: &mut Rate, mono_ns: u64) -> usize {
        std::iter::repeat_with(|| rate.spend(mono_ns)).take_while(Result::is_ok).count()
    }

    #[test]
    fn a_burst_then_one_per_interval() {
        for (rpm, burst, at_once, interval) in
            [(60, None, 60, SECOND), (60, Some(5), 5, SECOND), (1, None, 1, 60 * SECOND)]
        {
            let mut rate = rate(rpm, burst);
            assert_eq!(takes(&mut rate, 7), at_once, "{rpm}/{burst:?}");
            assert_eq!(rate.spend(7).unwrap_err(), Duration::from_nanos(interval));
            assert_eq!(takes(&mut rate, 7 + interval - 1), 0);
            assert_eq!(takes(&mut rate, 7 + interval), 1);
            assert_eq!(takes(&mut rate, 7 + 3 * interval), 2.min(at_once));
        }
    }

    #[test]
    fn put_back_leaves_no_trace() {
        let mut rate = rate(3, None);
        let _first = rate.spend(SECOND).unwrap();
        let before = rate.state;
        let spend = rate.spend(90 * SECOND).unwrap();
        assert_ne!(rate.state, before);
        rate.put_back(spend);
        assert_eq!(rate.state, before);
    }

    #[test]
    fn giving_back_never_gives_what_time_has_given() {
        let mut rate = rate(60, Some(10));
        let spends: Vec<_> = (0..10).map(|_| rate.spend(0).unwrap()).collect();
        rate.give_back(spends[3].receipt);
        assert_eq!(rate.level(0).remaining, 1);
        // All there again after nine seconds; a new one was taken since.
        let _new = rate.spend(20 * SECOND).unwrap();
        rate.give_back(spends[4].receipt);
        assert_eq!(rate.level(20 * SECOND).remaining, 9);
        assert_eq!(rate.level(20 * SECOND).reset, Duration::from_secs(1));
    }

    #[test]
    fn a_changed_limit_keeps_what_was_used() {
        // from, used, to, then what remains.
        for (from, used, to, remaining) in [
            (60, 60, 600, 540),
            (60, 10, 600, 590),
            (600, 10, 60, 50),
            (600, 500, 60, 0),
            (60, 60, 60, 0),
        ] {
            let mut rate = rate(from, None);
            for _ in 0..used {
                rate.spend(SECOND).unwrap();
            }
            rate.set_limit(NonZeroU32::new(to).unwrap(), None, SECOND);
            let level = rate.level(SECOND);
            assert_eq!((level.limit, level.remaining), (u64::from(to), remaining), "{from}→{to}");
            if remaining == 0 {
                let interval = Duration::from_nanos(60 * SECOND / u64::from(to));
                assert_eq!(rate.spend(SECOND).unwrap_err(), interval);
            }
        }
    }

    #[test]
    fn extremes_do_not_overflow() {
        for (rpm, burst) in [(1, Some(u32::MAX)), (u32::MAX, None), (u32::MAX, Some(1))] {
            let mut rate = rate(rpm, burst);
            for now in [0, u64::MAX - 1, u64::MAX] {
                let spend = rate.spend(now);
                assert!(rate.level(now).remaining < u64::from(u32::MAX));
                let Ok(spend) = spend else { continue };
                rate.give_back(spend.receipt);
                rate.set_limit(NonZeroU32::MIN, Some(u32::MAX), now);
                rate.set_limit(NonZeroU32::MAX, Some(u32::MAX), now);
            }
        }
    }
}
