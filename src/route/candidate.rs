//! Who can serve a model: an API key at an upstream, under the name that the model has there. What is known of
//! each is shared by all workers: how much is in flight, and whether it is to be used.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::route::breaker::{Breaker, Changed, Pass, State};

const SECOND_NS: u64 = 1_000_000_000;
/// How long a key rests that the upstream does not accept, or does not pay for; longer each time.
const REJECTED_NS: u64 = 60 * SECOND_NS;
/// How long a model rests at a key that was told to wait, if nobody said for how long; and at most.
const LIMITED: Duration = Duration::from_secs(1);
const LIMITED_MOST: Duration = Duration::from_secs(3600);
/// What one request weighs beside the tokens that are reserved for it.
const REQUEST_TOKENS: u64 = 1_000;
/// A failure counts as so many requests in flight, for so long: one that fails fast must not look idle.
const PENALTY_REQUESTS: u64 = 16;
const PENALTY_NS: u64 = 5 * SECOND_NS;

/// One API key at one upstream.
#[derive(Debug)]
pub(crate) struct Backend {
    /// Index into the configuration's upstreams.
    pub(crate) upstream: usize,
    /// Index into the upstream's keys.
    pub(crate) key: usize,
    /// What the key is called; empty where the upstream has no more than one.
    pub(crate) key_name: Arc<str>,
    /// The account, by the names of upstream and key: what it keeps, no other has.
    pub(crate) place: Box<str>,
    /// Requests in flight until their last byte, and the tokens reserved for them.
    requests: AtomicU64,
    tokens: AtomicU64,
    penalized_until_ns: AtomicU64,
    /// Whatever comes of it, it never rests.
    never_rests: bool,
    /// Of the key: rejected, out of credit.
    breaker: Breaker,
    /// Of the upstream, whichever the key.
    upstream_breaker: Arc<Breaker>,
}

/// A backend that serves a model.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) backend: Arc<Backend>,
    /// The upstream's name for the model, where that differs.
    pub(crate) upstream_model: Option<String>,
    /// The lower, the sooner.
    pub(crate) priority: u32,
    /// Its part of what candidates of its priority get.
    pub(crate) weight: u64,
    /// Until when the model rests there, by the monotonic clock: it was told to wait.
    limited_until_ns: AtomicU64,
}

/// Whose fault it is how an attempt went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It answered, be it with a refusal of what the client sent.
    Answered,
    /// The key is not accepted, or its account can't pay.
    KeyRejected,
    /// It was told to wait, and for how long if that was said.
    Limited(Option<Duration>),
    /// The upstream failed, or did not answer.
    Failed,
}

/// Why no candidate can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AllRest {
    /// When the first can be, by the monotonic clock; `None`: nobody knows.
    pub(crate) until_ns: Option<u64>,
    /// Each was told to wait by its upstream.
    pub(crate) are_limited: bool,
}

/// Whether a candidate can be used now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Availability {
    Ready,
    Resting { until_ns: Option<u64>, is_limited: bool },
}

/// A request at a candidate: counted there until it is dropped, and reported at most once.
#[derive(Debug)]
pub(crate) struct Attempt {
    candidate: Arc<Candidate>,
    tokens: u64,
    /// It was answered well, as far as the head says.
    is_answered: bool,
    /// Of the key and of the upstream; gone once reported.
    passes: Option<(Pass, Pass)>,
}

impl Backend {
    pub(crate) fn new(
        upstream: usize,
        key: usize,
        (upstream_name, key_name): (&str, Arc<str>),
        failures: u32,
        upstream_breaker: Arc<Breaker>,
    ) -> Self {
        Self {
            upstream,
            key,
            place: format!("{upstream_name}/{key_name}").into(),
            key_name,
            requests: AtomicU64::new(0),
            tokens: AtomicU64::new(0),
            penalized_until_ns: AtomicU64::new(0),
            never_rests: failures == 0,
            breaker: Breaker::new(failures),
            upstream_breaker,
        }
    }

    /// What is in flight, in tokens.
    fn load(&self, now_ns: u64) -> u64 {
        let is_penalized = self.penalized_until_ns.load(Relaxed) > now_ns;
        let requests = self.requests.load(Relaxed) + u64::from(is_penalized) * PENALTY_REQUESTS;
        requests.saturating_mul(REQUEST_TOKENS).saturating_add(self.tokens.load(Relaxed))
    }
}

impl Candidate {
    pub(crate) fn new(
        backend: Arc<Backend>,
        upstream_model: Option<String>,
        priority: u32,
        weight: u64,
    ) -> Self {
        let limited_until_ns = AtomicU64::new(0);
        Self { backend, upstream_model, priority, weight, limited_until_ns }
    }

    /// Whether anything that comes of a request can make it rest.
    pub(crate) fn may_rest(&self) -> bool {
        !self.backend.never_rests
    }

    /// Nothing changes by being asked.
    pub(super) fn availability(&self, now_ns: u64) -> Availability {
        let limited_until = self.limited_until_ns.load(Relaxed);
        if limited_until > now_ns {
            return Availability::Resting { until_ns: Some(limited_until), is_limited: true };
        }
        let Backend { breaker, upstream_breaker, .. } = &*self.backend;
        for breaker in [breaker, &**upstream_breaker] {
            let until_ns = match breaker.state(now_ns) {
                State::Closed | State::HalfOpen => continue,
                State::Resting(until_ns) => Some(until_ns),
                State::Probed => None,
            };
            return Availability::Resting { until_ns, is_limited: false };
        }
        Availability::Ready
    }

    /// Whether it has less to do than another one, for its weight.
    pub(super) fn is_freer(&self, other: &Self, now_ns: u64) -> bool {
        let (mine, its) = (self.backend.load(now_ns), other.backend.load(now_ns));
        u128::from(mine) * u128::from(other.weight) < u128::from(its) * u128::from(self.weight)
    }

    /// Begins a request for which so many tokens are reserved; `None`: another one was quicker to be the probe.
    pub(super) fn begin(self: &Arc<Self>, tokens: u64, now_ns: u64) -> Option<Attempt> {
        let Backend { breaker, upstream_breaker, .. } = &*self.backend;
        let key = breaker.enter(now_ns)?;
        let Some(upstream) = upstream_breaker.enter(now_ns) else {
            breaker.released(key);
            return None;
        };
        self.backend.requests.fetch_add(1, Relaxed);
        self.backend.tokens.fetch_add(tokens, Relaxed);
        let passes = Some((key, upstream));
        Some(Attempt { candidate: self.clone(), tokens, is_answered: false, passes })
    }
}

impl Attempt {
    pub(crate) fn candidate(&self) -> &Arc<Candidate> {
        &self.candidate
    }

    /// What is reserved for it, now that it is.
    pub(crate) fn weigh(&mut self, tokens: u64) {
        self.candidate.backend.tokens.fetch_add(tokens, Relaxed);
        self.tokens += tokens;
    }

    /// How it went; only what is said first counts. Returns what became of the key and of the upstream.
    pub(crate) fn report(&mut self, outcome: Outcome, now_ns: u64) -> [Changed; 2] {
        let Some((key, upstream)) = self.passes.take() else { return [Changed::Nothing; 2] };
        let Backend { breaker, upstream_breaker, penalized_until_ns, never_rests, .. } =
            &*self.candidate.backend;
        let of_key = match outcome {
            Outcome::Answered => {
                self.is_answered = true;
                breaker.succeeded(key, now_ns)
            }
            Outcome::KeyRejected if !never_rests => breaker.trip(key, now_ns, REJECTED_NS),
            Outcome::Limited(wait) if !never_rests => {
                let wait = wait.unwrap_or(LIMITED).clamp(LIMITED, LIMITED_MOST);
                let until = now_ns.saturating_add(wait.as_nanos() as u64);
                self.candidate.limited_until_ns.fetch_max(until, Relaxed);
                breaker.released(key);
                Changed::Nothing
            }
            Outcome::KeyRejected | Outcome::Limited(_) | Outcome::Failed => {
                breaker.released(key);
                Changed::Nothing
            }
        };
        if outcome != Outcome::Failed {
            return [of_key, upstream_breaker.succeeded(upstream, now_ns)];
        }
        penalized_until_ns.fetch_max(now_ns + PENALTY_NS, Relaxed);
        [of_key, upstream_breaker.failed(upstream, now_ns, true)]
    }

    /// An answer that had begun well broke off: a failure of the upstream like any other.
    pub(crate) fn broke_off(&mut self, now_ns: u64) -> Changed {
        if !std::mem::take(&mut self.is_answered) {
            return Changed::Nothing;
        }
        let Backend { upstream_breaker, penalized_until_ns, .. } = &*self.candidate.backend;
        penalized_until_ns.fetch_max(now_ns + PENALTY_NS, Relaxed);
        upstream_breaker.failed(Pass::Ordinary, now_ns, true)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let Backend { breaker, upstream_breaker, requests, tokens, .. } = &*self.candidate.backend;
        requests.fetch_sub(1, Relaxed);
        tokens.fetch_sub(self.tokens, Relaxed);
        if let Some((key, upstream)) = self.passes.take() {
            breaker.released(key);
            upstream_breaker.released(upstream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_and_then_breaks_off_has_failed_once() {
        let upstream = Arc::new(Breaker::new(2));
        let backend = Backend::new(0, 0, ("up", "".into()), 2, upstream.clone());
        let candidate = Arc::new(Candidate::new(Arc::new(backend), None, 0, 1));
        let mut attempt = candidate.begin(5, 1).unwrap();
        attempt.report(Outcome::Failed, 1);
        assert_eq!(attempt.broke_off(1), Changed::Nothing);
        drop(attempt);
        assert_eq!(upstream.state(1), State::Closed);
        let mut attempt = candidate.begin(5, 1).unwrap();
        assert_eq!(attempt.report(Outcome::Failed, 1)[1], Changed::Opened);
        let Backend { requests, tokens, .. } = &*candidate.backend;
        attempt.weigh(3);
        assert_eq!((requests.load(Relaxed), tokens.load(Relaxed)), (1, 8));
        drop(attempt);
        assert_eq!((requests.load(Relaxed), tokens.load(Relaxed)), (0, 0));
    }
}
