//! Bytes of request bodies in flight: of all together, and of each tenant. Whoever holds bytes counts them,
//! and takes them off again when they are dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::refusal::Refusal;

/// How many bytes may be held.
#[derive(Clone, Debug)]
pub(crate) struct InFlightLimits {
    /// Of all tenants, over all workers.
    pub(crate) max_bytes: u64,
    /// Of one tenant: what it sends slowly, or compressed, leaves room for the others.
    pub(crate) max_tenant_bytes: u64,
    /// What all hold now.
    pub(crate) inflight: Arc<AtomicU64>,
}

/// Bytes counted as in flight; dropping it takes them off again.
#[derive(Debug)]
pub(crate) struct InFlightBytes {
    bytes: u64,
    tenant: Arc<AtomicU64>,
    all: Arc<AtomicU64>,
}

impl InFlightBytes {
    /// Nothing yet, of a tenant that holds `tenant` in all.
    pub(crate) fn new(room: &InFlightLimits, tenant: &Arc<AtomicU64>) -> Self {
        Self { bytes: 0, tenant: tenant.clone(), all: room.inflight.clone() }
    }

    #[cfg(test)]
    pub(crate) fn nothing() -> Self {
        Self { bytes: 0, tenant: Arc::default(), all: Arc::default() }
    }

    /// Nothing yet, of the same tenant, to be dropped at another time.
    pub(super) fn another(&self) -> Self {
        Self { bytes: 0, tenant: self.tenant.clone(), all: self.all.clone() }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Counts `more` bytes, or refuses when that is more than may be held at once.
    pub(super) fn add(&mut self, more: u64, room: &InFlightLimits) -> Result<(), Refusal> {
        self.bytes += more;
        let all = self.all.fetch_add(more, Ordering::Relaxed) + more;
        let tenant = self.tenant.fetch_add(more, Ordering::Relaxed) + more;
        if all > room.max_bytes {
            return Err(Refusal::overloaded(
                "Too many request bytes are in flight; try again soon.",
            ));
        }
        if tenant > room.max_tenant_bytes {
            return Err(Refusal::tenant_body_bytes());
        }
        Ok(())
    }
}

impl Drop for InFlightBytes {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
        self.tenant.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_leaves_room_for_the_others() {
        let room =
            InFlightLimits { max_bytes: 100, max_tenant_bytes: 60, inflight: Arc::default() };
        let [one, other] = [Arc::default(), Arc::default()];
        let mut first = InFlightBytes::new(&room, &one);
        first.add(40, &room).expect("there is room");
        let mut second = first.another();
        assert_eq!(second.add(21, &room), Err(Refusal::tenant_body_bytes()));
        drop(second);
        let mut third = InFlightBytes::new(&room, &other);
        third.add(60, &room).expect("of another tenant's share");
        first.add(1, &room).expect_err("all of it is taken");
        drop((first, third));
        assert_eq!([room.inflight, one, other].map(|count| count.load(Ordering::Relaxed)), [0; 3]);
    }
}
