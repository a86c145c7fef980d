//! Whose a response is that an upstream keeps, and its items. All tenants share the upstream's account, so it would let any of
//! them go on from any whose id they have learned; here only its own tenant can.
//!
//! Known are the latest responses, as a hash of tenant and id: in memory, so that a request asks without
//! reading the store, and in the store for the next start, where a hash comes with the request's row. What a
//! crash leaves without its end was never complete for its client either, and is nobody's.
//!
//! Where too many are known, the tenant that has most of them loses its oldest: nobody pushes out the few of
//! another.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::config;
use crate::inspect::Named;
use crate::record::ResponseOwner;
use crate::refusal::Refusal;
use crate::registry::Identity;
use crate::store::{Store, StoreError};
use crate::tenancy::tenant_hash;

const SHARDS: usize = 16;
/// The part of all that is forgotten at once, so that shares are seldom counted.
const LOST_PART: usize = 64;

/// Shared by all workers; each lock is held for a look-up.
#[derive(Debug)]
pub(crate) struct Owners {
    shards: [Mutex<Shard>; SHARDS],
    /// In a shard.
    most: usize,
}

#[derive(Debug, Default)]
struct Shard {
    known: HashSet<u64>,
    /// The same by tenant, each with the oldest first.
    of_tenants: HashMap<Box<str>, VecDeque<u64>>,
}

impl Shard {
    fn take(&mut self, tenant: &str, owner: u64, most: usize) {
        if !self.known.insert(owner) {
            return;
        }
        match self.of_tenants.get_mut(tenant) {
            Some(own) => own.push_back(owner),
            None => drop(self.of_tenants.insert(tenant.into(), VecDeque::from([owner]))),
        }
        if self.known.len() > most {
            self.forget(self.known.len() - most + most / LOST_PART);
        }
    }

    /// Forgets `surplus`, the oldest of each tenant that has more than its share.
    fn forget(&mut self, mut surplus: usize) {
        let share = share(self.of_tenants.values(), self.known.len() - surplus);
        self.of_tenants.retain(|_, own| {
            let lost = own.len().saturating_sub(share).min(surplus);
            surplus -= lost;
            for owner in own.drain(..lost) {
                self.known.remove(&owner);
            }
            !own.is_empty()
        });
    }
}

/// What each may keep, so that they keep no more than `most` together: who has less leaves the rest to the others.
fn share<'a>(of_tenants: impl Iterator<Item = &'a VecDeque<u64>>, mut most: usize) -> usize {
    let mut counts: Vec<_> = of_tenants.map(VecDeque::len).collect();
    counts.sort_unstable();
    let mut others = counts.len();
    for count in counts {
        if count * others > most {
            return most / others;
        }
        most -= count;
        others -= 1;
    }
    usize::MAX
}

impl Owners {
    /// Remembers the latest `most`, about.
    pub(crate) fn new(most: usize) -> Self {
        Self { shards: Default::default(), most: most.div_ceil(SHARDS) }
    }

    /// With what the store knows.
    pub(crate) fn load(most: usize, store: &Store) -> Result<Self, StoreError> {
        let owners = Self::new(most);
        store.response_owners(&mut |tenant, owner| owners.take(tenant, owner))?;
        Ok(owners)
    }

    fn add(&self, tenant: &str, id: &str) -> ResponseOwner {
        let owner = owner(tenant, id);
        self.take(tenant, owner);
        owner
    }

    fn take(&self, tenant: &str, owner: ResponseOwner) {
        self.shard(owner).take(tenant, owner.0, self.most);
    }

    /// Remembers a response, and where it is kept if it could be elsewhere; what is returned is for the ledger.
    pub(crate) fn remember(
        &self,
        tenant: &str,
        id: &str,
        place: Option<&str>,
    ) -> impl Iterator<Item = ResponseOwner> + use<> {
        let at = place.map(|place| owner_at(tenant, id, place));
        at.iter().for_each(|owner| self.take(tenant, *owner));
        std::iter::once(self.add(tenant, id)).chain(at)
    }

    /// Whether anything that a request names is known as the tenant's.
    pub(crate) fn is_any(&self, tenant: &str, named: &Named) -> bool {
        named.ids().any(|id| self.has(tenant, id))
    }

    /// Whether it is known that what a request names is kept there.
    pub(crate) fn is_at(&self, tenant: &str, named: &Named, place: &str) -> bool {
        named.ids().any(|id| {
            let owner = owner_at(tenant, id, place);
            self.shard(owner).known.contains(&owner.0)
        })
    }

    fn has(&self, tenant: &str, id: &str) -> bool {
        let owner = owner(tenant, id);
        self.shard(owner).known.contains(&owner.0)
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
        if named.containers.iter().any(|id| !self.has(&identity.tenant, id)) {
            kinds.add(config::IdKind::Container);
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

/// The same at a place, which no id can be mistaken for: it ends with a byte that ids do not have.
fn owner_at(tenant: &str, id: &str, place: &str) -> ResponseOwner {
    owner(tenant, &format!("{id}\0{place}"))
}

/// Half of a hash's half: with a million known, one of 10¹³ that are made up would be taken for one of them.
fn owner(tenant: &str, id: &str) -> ResponseOwner {
    let hash = tenant_hash(tenant, id.as_bytes());
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
    fn the_latest_are_known_and_no_more_than_asked_for() {
        let owners = Owners::new(1_600);
        for number in 0..10_000 {
            owners.add("acme", &format!("resp_{number}"));
            let known = owners.shards.iter().map(|shard| {
                let shard = shard.lock().expect("nobody has panicked");
                let of_tenants = shard.of_tenants.values().map(VecDeque::len);
                assert_eq!(shard.known.len(), of_tenants.sum::<usize>());
                shard.known.len()
            });
            assert!(known.sum::<usize>() <= 1_600, "at {number}");
        }
        // The shards do not fill alike; half of what was asked for is known in all of them.
        assert!((9_200..10_000).all(|number| owners.has("acme", &format!("resp_{number}"))));
        assert!((0..5_000).all(|number| !owners.has("acme", &format!("resp_{number}"))));
    }

    #[test]
    fn a_tenant_that_makes_many_pushes_out_its_own() {
        let owners = Owners::new(1_600);
        let few = || (0..100).map(|number| format!("few_{number}"));
        for id in few() {
            owners.add("other", &id);
        }
        for number in 0..10_000 {
            owners.add("acme", &format!("resp_{number}"));
        }
        assert!(few().all(|id| owners.has("other", &id)));
        assert!((9_400..10_000).all(|number| owners.has("acme", &format!("resp_{number}"))));
    }

    #[test]
    fn where_each_has_one_only_some_are_forgotten_and_no_more_than_must_be() {
        let owners = Owners::new(1_600);
        for number in 0..3_200 {
            owners.add(&format!("tenant_{number}"), "resp_1");
        }
        let known = (0..3_200).filter(|number| owners.has(&format!("tenant_{number}"), "resp_1"));
        assert!((1_500..=1_600).contains(&known.count()));
        let tenants = |shard: &Mutex<Shard>| shard.lock().expect("no panic").of_tenants.len();
        assert!(
            owners.shards.iter().map(tenants).sum::<usize>() <= 1_600,
            "none is kept for nothing"
        );
    }
}
