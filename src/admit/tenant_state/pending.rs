//! Requests whose body is on its way. Their clients take as long as they like, so they have a place among
//! those in flight from their head on; and where any request would be refused now, none of the body is read.

use super::{Reservation, TenantState, Want, keep_longer};
use crate::admit::demand::{Demand, KeySlot};
use crate::admit::denied::{Denied, Kind, Limit, Scope};
use crate::clock::Now;

/// Of a request that is not here yet nothing is known but that it asks for something.
const LEAST: Want = Want { prompt: 1, reserve: 1, nano_usd: 0 };

impl TenantState {
    /// Gives a place to a request whose body is still to come, unless any would be refused now.
    /// Where tokens are limited, how long to wait is only known of the whole request: one that `is_short` is
    /// read for that.
    pub(in crate::admit) fn arrive(
        &mut self,
        slot: KeySlot,
        is_short: bool,
        now: Now,
    ) -> Result<(), Denied> {
        let windows = self.advance(now);
        self.catch_up(slot);
        self.open(slot, now.mono_ns);
        self.keys[slot].enter(&windows);
        self.tenant.enter(&windows);
        self.check_quotas(slot, LEAST, now)?;
        let has_token_rate = self.keys[slot].has_token_rate() || self.tenant.has_token_rate();
        if !(is_short && has_token_rate) {
            self.check_rates(slot, now)?;
        }
        self.keys[slot].arrive();
        self.tenant.arrive();
        self.totals.arriving += 1;
        Ok(())
    }

    /// The rates, of which nothing is taken.
    fn check_rates(&mut self, slot: KeySlot, now: Now) -> Result<(), Denied> {
        let mut longest = None;
        let both = [(Scope::Key, &mut self.keys[slot]), (Scope::Tenant, &mut self.tenant)];
        for (scope, account) in both {
            if let Some(wait) = account.request_wait(now.mono_ns) {
                keep_longer(&mut longest, Limit { scope, kind: Kind::Requests }, wait);
            }
            if let Some(wait) = account.token_wait(LEAST, now.mono_ns) {
                keep_longer(&mut longest, Limit { scope, kind: Kind::Tokens }, wait);
            }
        }
        let Some((limit, wait)) = longest else { return Ok(()) };
        Err(Denied::Rate { limit, wait, rate_limits: self.rate_limits(slot, now) })
    }

    /// The body is here: the place becomes a reservation, or is given back with the refusal.
    pub(in crate::admit) fn reserve_arrived(
        &mut self,
        slot: KeySlot,
        ask: Demand,
        now: Now,
    ) -> Result<Reservation, Denied> {
        self.give_place_back(slot);
        self.reserve(slot, ask, now)
    }

    /// The body will never be here.
    pub(in crate::admit) fn abandon(&mut self, slot: KeySlot) {
        self.give_place_back(slot);
        if self.keys.is_done(slot) {
            self.free(slot);
        }
    }

    fn give_place_back(&mut self, slot: KeySlot) {
        self.keys[slot].arrived();
        self.tenant.arrived();
        self.totals.arriving = self.totals.arriving.saturating_sub(1);
    }
}
