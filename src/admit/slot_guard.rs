//! A key's slot, held by whoever may still ask for the key: the current keys, and requests that were
//! identified before it was deleted. Its requests in flight hold the slot by themselves.

use std::sync::Arc;

use super::demand::{Demand, KeySlot};
use super::denied::{Denied, RateLimits};
use super::permit::Permit;
use super::tenant_limiter::TenantLimiter;
use crate::clock::Now;
use crate::tenancy::Limits;

/// Gives the slot back when it is dropped. Purposefully not `Clone`, because that happens once.
#[derive(Debug)]
pub(crate) struct SlotGuard {
    live: Arc<TenantLimiter>,
    slot: KeySlot,
}

impl SlotGuard {
    /// A slot for a key with these limits and no past.
    pub(crate) fn new(live: &Arc<TenantLimiter>, key_id: &Arc<str>, limits: &Arc<Limits>) -> Self {
        let slot = live.take_slot(key_id.clone(), limits.clone());
        Self { live: live.clone(), slot }
    }

    /// Its tenant.
    pub(crate) fn live(&self) -> &Arc<TenantLimiter> {
        &self.live
    }

    /// For what the tenant has to be told of the key.
    pub(crate) fn slot(&self) -> KeySlot {
        self.slot
    }

    /// See [`TenantLimiter::admit`].
    pub(crate) fn admit(&self, ask: Demand, now: Now) -> Result<Permit, Denied> {
        self.live.admit(self.slot, ask, now)
    }

    /// See [`TenantLimiter::rate_limits`].
    pub(crate) fn rate_limits(&self, now: Now) -> RateLimits {
        self.live.rate_limits(self.slot, now)
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        self.live.leave(self.slot);
    }
}
