//! A request whose body is on its way, as a value: it holds a place among those in flight, which becomes a
//! [`Permit`] in one step, or is given back however the request ends.

use std::sync::Arc;

use super::demand::{Demand, KeySlot};
use super::denied::Denied;
use super::permit::Permit;
use super::slot_guard::SlotGuard;
use super::tenant_limiter::TenantLimiter;
use crate::clock::Now;

/// Gives its place back when it is dropped. Purposefully not `Clone`, because that happens once.
#[derive(Debug)]
#[must_use = "it is dropped at once, and the request is not counted"]
pub(crate) struct PendingPermit {
    live: Arc<TenantLimiter>,
    slot: KeySlot,
    is_over: bool,
}

impl SlotGuard {
    /// Asks the limits of a request of which only the head is here: whether any request of this key would
    /// be refused now. Takes nothing but a place among those in flight.
    /// `is_short`: its body is small enough to be read for the sake of a true answer.
    pub(crate) fn arrive(&self, is_short: bool, now: Now) -> Result<PendingPermit, Denied> {
        self.live().arrive(self.slot(), is_short, now)?;
        Ok(PendingPermit { live: self.live().clone(), slot: self.slot(), is_over: false })
    }
}

impl PendingPermit {
    /// Admits the request now that it is all here, as `key`, which is somebody else's place only where
    /// keys have changed on the way. It is counted once at any time.
    pub(crate) fn admit(
        mut self,
        key: &SlotGuard,
        ask: Demand,
        now: Now,
    ) -> Result<Permit, Denied> {
        if !Arc::ptr_eq(&self.live, key.live()) || self.slot != key.slot() {
            drop(self);
            return key.admit(ask, now);
        }
        self.is_over = true;
        self.live.admit_arrived(self.slot, ask, now)
    }
}

impl Drop for PendingPermit {
    fn drop(&mut self) {
        if !self.is_over {
            self.live.abandon(self.slot);
        }
    }
}
