//! Which candidate gets a request: of the best priority that has any to use, the freer of two that are drawn by
//! lot. Two are enough to keep all about equally busy (Mitzenmacher, "The Power of Two Choices in Randomized Load
//! Balancing", 2001), and nobody runs to the one that looks best to all at once.

use std::cell::Cell;
use std::sync::Arc;

use crate::config::CANDIDATES_MAX;
use crate::route::candidate::{AllRest, Attempt, Availability, Candidate};

// A bit for each.
const _: () = assert!(CANDIDATES_MAX <= u64::BITS as usize);

/// A set of candidates: those that a request has been to, or can't go to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tried(u64);

impl Tried {
    pub(crate) fn add(&mut self, index: usize) {
        self.0 |= 1 << index;
    }

    fn has(self, index: usize) -> bool {
        self.0 >> index & 1 == 1
    }

    fn indices(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let index = (left != 0).then_some(left.trailing_zeros() as usize);
            left &= left.wrapping_sub(1);
            index
        })
    }
}

/// Lots, one generator for each worker (xorshift64*, Vigna 2016).
#[derive(Debug)]
pub(crate) struct Lots(Cell<u64>);

impl Lots {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Cell::new(seed.max(1)))
    }

    fn below(&self, n: u64) -> u64 {
        let mut x = self.0.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0.set(x);
        let x = x.wrapping_mul(0x2545_f491_4f6c_dd1d);
        ((u128::from(x) * u128::from(n)) >> 64) as u64
    }
}

/// Begins a request at one of the candidates, which stand in the order of their priorities, and says which that is.
/// Candidates that were tried are left out.
pub(crate) fn choose(
    candidates: &[Arc<Candidate>],
    tried: &mut Tried,
    tokens: u64,
    lots: &Lots,
    now_ns: u64,
) -> Result<Attempt, AllRest> {
    let mut rest = AllRest { until_ns: None, are_limited: true };
    let mut from = 0;
    while from < candidates.len() {
        let priority = candidates[from].priority;
        let group = candidates[from..].iter().take_while(|one| one.priority == priority).count();
        let group = from..from + group;
        from = group.end;
        // As often as somebody else is quicker to be a probe.
        while let Some(index) = pick(candidates, group.clone(), *tried, lots, now_ns) {
            tried.add(index);
            if let Some(attempt) = candidates[index].begin(tokens, now_ns) {
                return Ok(attempt);
            }
            rest.are_limited = false;
        }
        for (_, one) in
            group.map(|index| (index, &candidates[index])).filter(|(i, _)| !tried.has(*i))
        {
            if let Availability::Resting { until_ns, is_limited } = one.availability(now_ns) {
                rest.until_ns = rest.until_ns.into_iter().chain(until_ns).min();
                rest.are_limited &= is_limited;
            }
        }
    }
    Err(rest)
}

/// One of a group that can be used.
fn pick(
    candidates: &[Arc<Candidate>],
    group: std::ops::Range<usize>,
    tried: Tried,
    lots: &Lots,
    now_ns: u64,
) -> Option<usize> {
    let is_ready = |index: &usize| {
        !tried.has(*index) && candidates[*index].availability(now_ns) == Availability::Ready
    };
    let ready = group.filter(is_ready).fold(Tried::default(), |mut ready, index| {
        ready.add(index);
        ready
    });
    let first = draw(candidates, ready, lots)?;
    let Some(second) = draw(candidates, Tried(ready.0 & !(1 << first)), lots) else {
        return Some(first);
    };
    let is_second = candidates[second].is_freer(&candidates[first], now_ns);
    Some(if is_second { second } else { first })
}

/// One of a set by lot, as their weights say.
fn draw(candidates: &[Arc<Candidate>], of: Tried, lots: &Lots) -> Option<usize> {
    if of.0.count_ones() < 2 {
        return (of.0 != 0).then_some(of.0.trailing_zeros() as usize);
    }
    let weight = |index: usize| candidates[index].weight;
    let mut lot = lots.below(of.indices().map(weight).sum());
    of.indices().find(|index| {
        let is_it = lot < weight(*index);
        lot = lot.wrapping_sub(weight(*index));
        is_it
    })
}
