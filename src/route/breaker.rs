//! A circuit breaker: whether an upstream, or a key of it, is to be used. All workers share it, in atomics, for each
//! of them sees only its part of what happens.
//!
//! It opens on failures in a row, or on a share of failures among the latest requests. When it has rested it is half
//! open: one request at a time is a probe, whose place is taken by compare-and-swap. To look at it takes nothing.
//! The probe's success closes it, its failure makes it rest for twice as long.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};

const SECOND_NS: u64 = 1_000_000_000;
/// The first rest, and the longest.
const REST_NS: u64 = SECOND_NS;
const LONGEST_REST_NS: u64 = 60 * SECOND_NS;
/// A probe of which nobody has heard for so long makes place for another one.
const PROBE_NS: u64 = 60 * SECOND_NS;
/// Seconds that the share of failures is counted over.
const WINDOW: usize = 10;
/// Below so many requests in the window, a share says nothing.
const LEAST_REQUESTS: u64 = 20;
/// The share of failures that opens it, in percent.
const FAILED_PERCENT: u64 = 50;

/// A breaker; closed when it is new.
#[derive(Debug)]
pub(crate) struct Breaker {
    /// Failures in a row that open it; 0: it never opens by itself.
    failures: u32,
    in_a_row: AtomicU32,
    /// Until when it rests, by the monotonic clock; 0: it is closed.
    rests_until_ns: AtomicU64,
    /// Rests since it was closed.
    rests: AtomicU32,
    /// When the probe that is out is given up; 0: none is.
    probe_until_ns: AtomicU64,
    window: [Bucket; WINDOW],
}

/// What happened in one second: the second in the upper 32 bits, then all and failed requests, 16 bits each.
#[derive(Debug, Default)]
struct Bucket(AtomicU64);

/// Whether a request may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Closed,
    /// Not before then, by the monotonic clock.
    Resting(u64),
    /// One request may be the probe.
    HalfOpen,
    /// Another one is.
    Probed,
}

/// What a report has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    Nothing,
    /// It was closed, and rests now.
    Opened,
    /// It had rested, and serves again.
    Closed,
}

/// Leave to send one request, which is to be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "whoever has passed reports how it went"]
pub(crate) enum Pass {
    Ordinary,
    /// The probe, by when it is given up.
    Probe(u64),
}

impl Breaker {
    pub(crate) fn new(failures: u32) -> Self {
        Self {
            failures,
            in_a_row: AtomicU32::new(0),
            rests_until_ns: AtomicU64::new(0),
            rests: AtomicU32::new(0),
            probe_until_ns: AtomicU64::new(0),
            window: Default::default(),
        }
    }

    /// What it would say to a request at `now_ns`. Nothing changes by being asked.
    pub(crate) fn state(&self, now_ns: u64) -> State {
        match self.rests_until_ns.load(Relaxed) {
            0 => State::Closed,
            until if now_ns < until => State::Resting(until),
            _ if self.probe_until_ns.load(Relaxed) > now_ns => State::Probed,
            _ => State::HalfOpen,
        }
    }

    /// Lets a request pass, as the probe where it takes one; `None`: not now.
    pub(crate) fn enter(&self, now_ns: u64) -> Option<Pass> {
        match self.rests_until_ns.load(Relaxed) {
            0 => Some(Pass::Ordinary),
            until if now_ns < until => None,
            _ => {
                let out = self.probe_until_ns.load(Relaxed);
                let until = now_ns + PROBE_NS;
                let is_free = out <= now_ns;
                let take = || self.probe_until_ns.compare_exchange(out, until, Relaxed, Relaxed);
                (is_free && take().is_ok()).then_some(Pass::Probe(until))
            }
        }
    }

    /// The request went well. Who passed before it opened says nothing of how it is now.
    pub(crate) fn succeeded(&self, pass: Pass, now_ns: u64) -> Changed {
        match pass {
            Pass::Probe(_) if self.end_probe(pass) => {
                self.rests.store(0, Relaxed);
                self.in_a_row.store(0, Relaxed);
                self.window.iter().for_each(|bucket| bucket.0.store(0, Relaxed));
                self.rests_until_ns.store(0, Relaxed);
                return Changed::Closed;
            }
            Pass::Probe(_) => {}
            // Nothing is written that all workers share.
            Pass::Ordinary if self.failures == 0 => {}
            Pass::Ordinary => {
                if self.in_a_row.load(Relaxed) != 0 {
                    self.in_a_row.store(0, Relaxed);
                }
                self.count(now_ns, false);
            }
        }
        Changed::Nothing
    }

    /// The request failed. `is_in_a_row`: it counts among failures in a row, and not only in their share.
    pub(crate) fn failed(&self, pass: Pass, now_ns: u64, is_in_a_row: bool) -> Changed {
        if let Pass::Probe(_) = pass {
            if self.end_probe(pass) {
                self.rest(now_ns, 0);
            }
            return Changed::Nothing;
        }
        if self.failures == 0 {
            return Changed::Nothing;
        }
        self.count(now_ns, true);
        let in_a_row = match is_in_a_row {
            true => self.in_a_row.fetch_add(1, Relaxed).saturating_add(1),
            false => self.in_a_row.load(Relaxed),
        };
        if (is_in_a_row && in_a_row >= self.failures) || self.is_share_too_large(now_ns) {
            return self.open(now_ns, 0);
        }
        Changed::Nothing
    }

    /// Opens it at once, for `least_ns` at least: one answer has said all.
    pub(crate) fn trip(&self, pass: Pass, now_ns: u64, least_ns: u64) -> Changed {
        match pass {
            Pass::Probe(_) if self.end_probe(pass) => self.rest(now_ns, least_ns),
            Pass::Probe(_) => {}
            Pass::Ordinary => return self.open(now_ns, least_ns),
        }
        Changed::Nothing
    }

    /// Nothing is known of how the request went; a probe's place is free again.
    pub(crate) fn released(&self, pass: Pass) {
        self.end_probe(pass);
    }

    /// False if it was given up meanwhile, and another one is out.
    fn end_probe(&self, pass: Pass) -> bool {
        let Pass::Probe(until) = pass else { return false };
        self.probe_until_ns.compare_exchange(until, 0, Relaxed, Relaxed).is_ok()
    }

    /// Of several failures at once, one opens it.
    fn open(&self, now_ns: u64, least_ns: u64) -> Changed {
        let until = now_ns + REST_NS.max(least_ns);
        if self.rests_until_ns.compare_exchange(0, until, Relaxed, Relaxed).is_err() {
            return Changed::Nothing;
        }
        self.rests.store(1, Relaxed);
        Changed::Opened
    }

    fn rest(&self, now_ns: u64, least_ns: u64) {
        let rests = self.rests.fetch_add(1, Relaxed).min(16);
        let rest_ns = REST_NS.saturating_mul(1 << rests).min(LONGEST_REST_NS);
        let longest_ns = least_ns.saturating_mul(1 << rests.min(5));
        self.rests_until_ns.store(now_ns + rest_ns.max(longest_ns), Relaxed);
    }

    fn count(&self, now_ns: u64, is_failure: bool) {
        let second = now_ns / SECOND_NS;
        self.window[second as usize % WINDOW].add(second as u32, is_failure);
    }

    fn is_share_too_large(&self, now_ns: u64) -> bool {
        let second = (now_ns / SECOND_NS) as u32;
        let (all, failed) = self.window.iter().fold((0, 0), |(all, failed), bucket| {
            let (more, also) = bucket.within(second);
            (all + more, failed + also)
        });
        all >= LEAST_REQUESTS && failed * 100 >= all * FAILED_PERCENT
    }
}

impl Bucket {
    const ONE: u64 = 1 << 16;
    const FULL: u64 = 0xffff;

    fn add(&self, second: u32, is_failure: bool) {
        let mut now = self.0.load(Relaxed);
        loop {
            let kept = if now >> 32 == u64::from(second) { now } else { u64::from(second) << 32 };
            if kept >> 16 & Self::FULL == Self::FULL {
                return;
            }
            let more = kept + Self::ONE + u64::from(is_failure);
            match self.0.compare_exchange_weak(now, more, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(found) => now = found,
            }
        }
    }

    /// All and failed requests, if they are of the window that ends with `second`.
    fn within(&self, second: u32) -> (u64, u64) {
        let now = self.0.load(Relaxed);
        let age = u64::from(second).wrapping_sub(now >> 32);
        if age >= WINDOW as u64 {
            return (0, 0);
        }
        (now >> 16 & Self::FULL, now & Self::FULL)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_opens_on_failures_in_a_row_and_one_probe_at_a_time_closes_it() {
        let breaker = Breaker::new(3);
        let fail = |now_ns| breaker.failed(breaker.enter(now_ns).unwrap(), now_ns, true);
        assert_eq!([fail(1), fail(2)], [Changed::Nothing; 2]);
        breaker.succeeded(breaker.enter(3).unwrap(), 3);
        fail(4);
        fail(5);
        assert_eq!(breaker.state(5), State::Closed);
        let late = breaker.enter(6).unwrap();
        assert_eq!(fail(6), Changed::Opened);
        assert_eq!(breaker.failed(late, 6, true), Changed::Nothing, "it is open already");
        let until = 6 + REST_NS;
        assert_eq!((breaker.state(6), breaker.enter(until - 1)), (State::Resting(until), None));
        // To look takes nothing.
        assert_eq!([(); 2].map(|()| breaker.state(until)), [State::HalfOpen; 2]);
        let probe = breaker.enter(until).unwrap();
        assert_eq!((breaker.state(until), breaker.enter(until)), (State::Probed, None));
        breaker.failed(probe, until, true);
        let second = until + 2 * REST_NS;
        assert_eq!(breaker.state(until), State::Resting(second));
        // One that is given back makes place, one that is forgotten does after a while.
        breaker.released(breaker.enter(second).unwrap());
        let forgotten = breaker.enter(second).unwrap();
        let late = second + PROBE_NS;
        let probe = breaker.enter(late).unwrap();
        breaker.failed(forgotten, late, true);
        assert_eq!(breaker.state(late), State::Probed, "it has no say any more");
        assert_eq!(breaker.succeeded(probe, late), Changed::Closed);
        assert_eq!(breaker.state(late), State::Closed);
        fail(late);
        assert_eq!(breaker.state(late), State::Closed, "it begins anew");
    }

    #[test]
    fn a_share_of_failures_opens_it_and_is_forgotten() {
        let at = |second: u64| second * SECOND_NS;
        for (failed, opens) in [(9, false), (10, true)] {
            let breaker = Breaker::new(1_000);
            for n in 0..20 {
                let pass = breaker.enter(at(n / 4)).unwrap();
                let _ = match n < 20 - failed {
                    true => breaker.succeeded(pass, at(n / 4)),
                    false => breaker.failed(pass, at(n / 4), false),
                };
            }
            assert_eq!(breaker.state(at(5)) != State::Closed, opens, "{failed}");
        }
        let breaker = Breaker::new(1_000);
        for second in [0, 10] {
            for _ in 0..15 {
                breaker.failed(breaker.enter(at(second)).unwrap(), at(second), true);
            }
        }
        assert_eq!(breaker.state(at(10)), State::Closed, "fifteen in ten seconds");
    }

    #[test]
    fn one_answer_can_open_it_for_long_and_longer_each_time() {
        let breaker = Breaker::new(0);
        for _ in 0..100 {
            breaker.failed(breaker.enter(1).unwrap(), 1, true);
        }
        assert_eq!(breaker.state(1), State::Closed, "it is off");
        const LEAST: u64 = 30 * SECOND_NS;
        breaker.trip(breaker.enter(1).unwrap(), 1, LEAST);
        assert_eq!(breaker.state(1), State::Resting(1 + LEAST));
        let now = 1 + LEAST;
        breaker.trip(breaker.enter(now).unwrap(), now, LEAST);
        assert_eq!(breaker.state(now), State::Resting(now + 2 * LEAST));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Wait(u64),
        Enter,
        /// Which of those that passed, and how it went: well, failed, nobody knows.
        Report(usize, u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..3 * SECOND_NS).prop_map(Step::Wait),
            Just(Step::Enter),
            Just(Step::Enter),
            (0..8_usize, 0..3_u8).prop_map(|(which, how)| Step::Report(which, how)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        /// A plain one that is told the same.
        #[test]
        fn it_is_what_a_simple_one_is(steps in prop::collection::vec(step(), 1..200)) {
            let breaker = Breaker::new(3);
            let (mut now, mut in_a_row, mut rests) = (1_u64, 0, 0);
            // Open since a rest that ends then; who is the probe, and by when.
            let (mut rests_until, mut probe): (Option<u64>, Option<u64>) = (None, None);
            let mut out: Vec<Pass> = Vec::new();
            // What was reported: the second, and whether it had failed.
            let mut counted: Vec<(u64, bool)> = Vec::new();
            for step in steps {
                match step {
                    Step::Wait(ns) => now += ns,
                    Step::Enter => {
                        let expected = match rests_until {
                            None => Some(Pass::Ordinary),
                            Some(until) if now < until => None,
                            Some(_) if probe.is_some_and(|until| until > now) => None,
                            Some(_) => Some(Pass::Probe(now + PROBE_NS)),
                        };
                        prop_assert_eq!(breaker.enter(now), expected);
                        if let Some(Pass::Probe(until)) = expected {
                            probe = Some(until);
                        }
                        out.extend(expected);
                    }
                    Step::Report(which, how) => {
                        if out.is_empty() {
                            continue;
                        }
                        let pass = out.swap_remove(which % out.len());
                        match how {
                            0 => drop(breaker.succeeded(pass, now)),
                            1 => drop(breaker.failed(pass, now, true)),
                            _ => breaker.released(pass),
                        }
                        match (pass, how) {
                            (Pass::Probe(until), how) if probe == Some(until) => {
                                probe = None;
                                match how {
                                    0 => {
                                        (rests_until, in_a_row, rests) = (None, 0, 0);
                                        counted.clear();
                                    }
                                    1 => {
                                        let rest = (REST_NS << rests).min(LONGEST_REST_NS);
                                        rests = (rests + 1).min(16);
                                        rests_until = Some(now + rest);
                                    }
                                    _ => {}
                                }
                            }
                            (Pass::Ordinary, 0) => {
                                counted.push((now / SECOND_NS, false));
                                in_a_row = 0;
                            }
                            (Pass::Ordinary, 1) => {
                                counted.push((now / SECOND_NS, true));
                                in_a_row += 1;
                                let is_late = |(second, _): &&(u64, bool)| {
                                    now / SECOND_NS - second < WINDOW as u64
                                };
                                let late: Vec<_> = counted.iter().filter(is_late).collect();
                                let failed = late.iter().filter(|(_, failed)| *failed).count();
                                let opens = in_a_row >= 3 || late.len() >= 20 && failed * 2 >= late.len();
                                if opens && rests_until.is_none() {
                                    (rests_until, rests) = (Some(now + REST_NS), 1);
                                }
                            }
                            _ => {}
                        }
                    }
                }
                prop_assert_eq!(breaker.state(now) == State::Closed, rests_until.is_none());
            }
        }
    }
}
