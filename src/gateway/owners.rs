//! Whose a response is that an upstream keeps, and its items. All tenants share the upstream's account, so it would let any of
//! them go on from any whose id they have learned; here only its own tenant can.
//!
//! Known are the latest responses, as a hash of tenant and id: in memory, so that a request asks without
//! reading the store, and in the store for the next start, where a hash comes with the request's row. What a
//! crash leaves without its end was never complete for its client either, and is nobody's.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::config;
use crate::gateway::snapshot::Identity;
use crate::inspect::Named;
use crate::ledger::record::ResponseOwner;
use crate::ledger::store::{Store, StoreError};
use crate::refusal::Refusal;
use crate::tenancy::set_apart;

const SHARDS: usize = 16;

/// Shared by all workers; each lock is held for a look-up.
#[derive(Debug)]
pub(crate) struct Owners {
    shards: [Mutex<Shard>; SHARDS],
    /// In each half of a shard.
    most: usize,
}

/// When the younger half is full, it becomes the older one, which is forgotten: nothing has to be known of
/// the age of each.
#[derive(Debug, Default)]
struct Shard {
    younger: HashSet<u64>,
    older: HashSet<u64>,
}

impl Owners {
    /// Remembers at least the latest `most`, about.
    pub(crate) fn new(most: usize) -> Self {
        Self { shards: Default::default(), most: most.div_ceil(SHARDS) }
    }

    /// With what the store knows.
    pub(crate) fn load(most: usize, store: &Store) -> Result<Self, StoreError> {
        let owners = Self::new(most);
        store.response_owners(|owner| owners.take(owner))?;
        Ok(owners)
    }

    /// Remembers a response; what is returned is for the ledger.
    pub(crate) fn add(&self, tenant: &str, id: &str) -> ResponseOwner {
        let owner = owner(tenant, id);
        self.take(owner);
        owner
    }

    fn take(&self, owner: ResponseOwner) {
        let mut shard = self.shard(owner);
        if shard.younger.len() >= self.most {
            shard.older = std::mem::take(&mut shard.younger);
        }
        shard.younger.insert(owner.0);
    }

    fn has(&self, tenant: &str, id: &str) -> bool {
        let owner = owner(tenant, id);
        let shard = self.shard(owner);
        shard.younger.contains(&owner.0) || shard.older.contains(&owner.0)
    }

    fn shard(&self, owner: ResponseOwner) -> std::sync::MutexGuard<'_, Shard> {
        let shard = &self.shards[owner.0 as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request may name what it names.
    pub(crate) fn check(
        &self,
        named: &Named,
        identity: &Identity,
        upstream: &config::Upstream,
    ) -> Result<(), Refusal> {
        if !upstream.separate_tenants {
            return Ok(());
        }
        let mut kinds = named.kinds;
        if named.items.iter().any(|id| !self.has(&identity.tenant, id)) {
            kinds.add(config::IdKind::ItemReference);
        }
        if let Some(kind) = kinds.first_beyond(upstream.allow_ids) {
            return Err(Refusal::id_not_allowed(kind));
        }
        match &named.previous_response {
            Some(_) if upstream.allow_ids.has(config::IdKind::PreviousResponse) => Ok(()),
            Some(id) if !self.has(&identity.tenant, id) => {
                Err(Refusal::previous_response_not_found(id))
            }
            _ => Ok(()),
        }
    }
}

/// Half of a hash's half: with a million known, one of 10¹³ that are made up would be taken for one of them.
fn owner(tenant: &str, id: &str) -> ResponseOwner {
    let hash = set_apart(tenant, id.as_bytes());
    ResponseOwner(u64::from_le_bytes(*hash.first_chunk().expect("a hash has 32 bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_its_own_tenants_and_both_have_those_that_both_were_given() {
        let owners = Owners::new(1_000);
        owners.add("acme", "resp_1");
        owners.add("other", "resp_2");
        owners.add("acme", "resp_3");
        owners.add("other", "resp_3");
        for (tenant, id, is_theirs) in [
            ("acme", "resp_1", true),
            ("other", "resp_1", false),
            ("acme", "resp_2", false),
            ("other", "resp_2", true),
            ("acme", "resp_3", true),
            ("other", "resp_3", true),
            ("acm", "eresp_1", false),
            ("acme", "resp_", false),
            ("acme", "", false),
        ] {
            assert_eq!(owners.has(tenant, id), is_theirs, "{tenant} {id}");
        }
    }

    #[test]
    fn the_latest_are_known_and_no_more_than_twice_as_many() {
        let owners = Owners::new(1_600);
        for number in 0..10_000 {
            owners.add("acme", &format!("resp_{number}"));
            let known = owners.shards.iter().map(|shard| {
                let shard = shard.lock().expect("nobody has panicked");
                shard.younger.len() + shard.older.len()
            });
            assert!(known.sum::<usize>() <= 3_200, "at {number}");
        }
        // The shards do not fill alike; half of what was asked for is known in all of them.
        assert!((9_200..10_000).all(|number| owners.has("acme", &format!("resp_{number}"))));
        assert!((0..5_000).all(|number| !owners.has("acme", &format!("resp_{number}"))));
    }
}
