//! The yes of admission, as a value: whoever holds it is in flight, and its end gives back what was
//! reserved and not used, exactly once, however the request ends.

use std::sync::Arc;

use super::demand::{Demand, KeySlot};
use super::denied::{Denied, RateLimits};
use super::quota::Amount;
use super::tenant_limiter::TenantLimiter;
use super::tenant_state::{Outcome, Reservation};
use crate::clock::Now;

/// An admitted request: its place among those in flight and its reservation. It lives until the
/// response body has ended. Purposefully not `Clone`, because it ends once.
#[derive(Debug)]
#[must_use = "a permit that is dropped at once counts its whole reservation as used"]
pub(crate) struct Permit {
    live: Arc<TenantLimiter>,
    held: Reservation,
    closed: bool,
}

impl TenantLimiter {
    /// Admits a request of a key, or says which limit is in the way; the order of the questions is
    /// at the head of [`crate::admit`]. The ledger must write down [`Permit::at_ms`] as the request's
    /// start, so that both count it in the same day.
    pub(crate) fn admit(
        self: &Arc<Self>,
        slot: KeySlot,
        ask: Demand,
        now: Now,
    ) -> Result<Permit, Denied> {
        let held = self.reserve(slot, ask, now)?;
        Ok(Permit { live: self.clone(), held, closed: false })
    }

    /// The same for a request that has a place since its head was here.
    pub(super) fn admit_arrived(
        self: &Arc<Self>,
        slot: KeySlot,
        ask: Demand,
        now: Now,
    ) -> Result<Permit, Denied> {
        let held = self.reserve_arrived(slot, ask, now)?;
        Ok(Permit { live: self.clone(), held, closed: false })
    }
}

impl Permit {
    /// The request has ended and used so many tokens, which cost so many billionths of a dollar: what
    /// was reserved above that is given back, what was used above the reservation is booked in full.
    /// The request itself stays counted.
    pub(crate) fn settle(mut self, used_tokens: u64, used_nano_usd: u64, now: Now) {
        let used = Amount { tokens: used_tokens, nano_usd: used_nano_usd };
        self.close(Outcome::Used { used, now });
    }

    /// Sets more aside for a request that has used up its reservation, if its quotas have room. All of
    /// it or nothing; `false` is the answer of a quota that is used up.
    pub(crate) fn extend(&mut self, tokens: u64, nano_usd: u64, now: Now) -> bool {
        self.live.extend(&mut self.held, Amount { tokens, nano_usd }, now)
    }

    /// The most that each answer may be, in tokens: there if the request may be clamped and a quota of
    /// tokens or cost applies. The reservation is made of it.
    pub(crate) fn clamp(&self) -> Option<u64> {
        self.held.clamp
    }

    /// The request's start in Unix milliseconds: the instant of its admission, or where the clock is behind
    /// the day that is open, one in that day; but none that is too far ahead to be believed.
    pub(crate) fn at_ms(&self) -> i64 {
        self.held.at_ms
    }

    /// What is set aside for it now, in tokens.
    pub(crate) fn reserved_tokens(&self) -> u64 {
        self.held.amount.tokens
    }

    /// What is set aside for it now, in billionths of a dollar.
    #[cfg(test)]
    pub(crate) fn reserved_nano_usd(&self) -> u64 {
        self.held.amount.nano_usd
    }

    /// The request was never sent and will have no row: everything is given back, the request too, as
    /// if it had not been admitted.
    pub(crate) fn revoke(mut self, now: Now) {
        self.close(Outcome::NeverSent { now });
    }

    /// What was left of the rates just after admission, for the answer's `x-ratelimit-*`.
    pub(crate) fn rate_limits(&self) -> RateLimits {
        self.held.rate_limits
    }

    fn close(&mut self, outcome: Outcome) {
        if !std::mem::replace(&mut self.closed, true) {
            self.live.close(&self.held, outcome);
        }
    }
}

impl Drop for Permit {
    /// Nobody said what was used, so the whole reservation counts, as it does in the ledger.
    fn drop(&mut self) {
        self.close(Outcome::Abandoned);
    }
}
