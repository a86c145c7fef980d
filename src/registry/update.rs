//! The way from one snapshot of the keys to the next: each change of the store is taken in turn, and costs
//! what it is, not what there is.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::admit::{SlotGuard, TenantLimiter};
use crate::clock::Now;
use crate::identify::{Digest, Entry, KeysEdit};
use crate::registry::{Identity, Known, Refreshed, Registry, Snapshot, State};
use crate::store::{Change, Store, StoreError};
use crate::tenancy::{Key, Tenant, Unreadable};

/// A snapshot that is being made.
pub(super) struct Update<'r> {
    registry: &'r Registry,
    store: &'r Store,
    state: &'r mut State,
    now: Now,
    /// The same by the time that is believed, and no earlier than the newest row: windows open by it.
    start: Now,
    edit: KeysEdit<Arc<Identity>>,
    /// Tenants are gone, and with them whatever key is still theirs.
    has_lost_tenants: bool,
    /// Where everything is read: what there is.
    whole: Option<Whole>,
    /// What a tenant has become changes what all its keys are.
    needs_whole: bool,
    /// What is told once all went well.
    told: Told,
    refreshed: Refreshed,
}

/// What a person has to mend in the store.
#[derive(Default)]
struct Told {
    tenants: Vec<(Arc<str>, Vec<Unreadable>)>,
    keys: Vec<(Arc<str>, Vec<Unreadable>)>,
    /// By tenant how many keys it has left behind, and one of them.
    orphans: BTreeMap<Arc<str>, (usize, Arc<str>)>,
}

/// Whose rows have a value that can't be read, by name and by id.
#[derive(Debug, Default)]
pub(super) struct UnreadableRows {
    pub(super) tenants: HashSet<Arc<str>>,
    pub(super) keys: HashSet<Arc<str>>,
}

#[derive(Default)]
struct Whole {
    tenants: HashSet<Arc<str>>,
    keys: HashMap<Arc<str>, Known>,
}

impl<'r> Update<'r> {
    /// `is_whole`: the changes are all there is, and what they do not name is gone.
    pub(super) fn new(
        registry: &'r Registry,
        store: &'r Store,
        state: &'r mut State,
        now: Now,
        start: Now,
        is_whole: bool,
    ) -> Self {
        let (edit, whole) = match is_whole {
            true => (Snapshot::default().edit(), Some(Whole::default())),
            false => (registry.current().edit(), None),
        };
        if is_whole {
            (state.unreadable, state.missing) = Default::default();
        }
        let refreshed = Refreshed { is_whole, ..Refreshed::default() };
        let (has_lost_tenants, needs_whole) = (false, false);
        let told = Told::default();
        Self {
            registry,
            store,
            state,
            now,
            start,
            edit,
            has_lost_tenants,
            whole,
            needs_whole,
            told,
            refreshed,
        }
    }

    /// Whether everything has to be read instead.
    pub(super) fn needs_whole(&self) -> bool {
        self.needs_whole && self.whole.is_none()
    }

    pub(super) fn take(&mut self, change: Change) -> Result<(), StoreError> {
        match change {
            Change::KeyDeleted(id) => {
                self.state.unreadable.keys.remove(&id);
                self.key_deleted(&id);
            }
            Change::TenantDeleted(name) => self.tenant_deleted(&name),
            Change::Tenant(tenant) => self.tenant(tenant)?,
            Change::Key(key) => self.key(key),
        }
        Ok(())
    }

    /// The snapshot, and what it took.
    pub(super) fn finish(mut self) -> (Snapshot, Refreshed) {
        if let Some(Whole { tenants, keys }) = self.whole.take() {
            let gone = self.state.tenants.keys().filter(|name| !tenants.contains(*name));
            for name in gone.cloned().collect::<Vec<_>>() {
                self.tenant_deleted(&name);
            }
            self.state.keys = keys;
        }
        if self.has_lost_tenants {
            self.forget_orphans();
        }
        if self.refreshed.deleted > 0 && !self.registry.trusted_clock.is_ahead(self.now) {
            // Those go by the way whose month has ended, by a clock that cannot be wrong by years.
            let now = self.now;
            let has_used = |live: &TenantLimiter| live.tenant_balances(now).monthly.requests > 0;
            // Whoever holds one may still use it.
            let is_held = |live: &Arc<TenantLimiter>| Arc::strong_count(live) > 1;
            let is_kept = |live: &Arc<TenantLimiter>| is_held(live) || has_used(live);
            self.state.deleted.retain(|_, tenant| is_kept(&tenant.live));
        }
        self.told.tell();
        self.refreshed.shards = self.edit.copied();
        (self.edit.finish(), self.refreshed)
    }

    fn tenant(&mut self, tenant: Tenant) -> Result<(), StoreError> {
        self.refreshed.tenants += 1;
        let State { unreadable, missing, .. } = &mut *self.state;
        let was_unreadable = unreadable.tenants.remove(&tenant.name);
        let is_unreadable = !tenant.unreadable.is_empty();
        // Its keys have not changed, but open something again, or nothing any more.
        self.needs_whole |= missing.remove(&tenant.name) || was_unreadable != is_unreadable;
        if is_unreadable {
            unreadable.tenants.insert(tenant.name.clone());
            self.told.tenants.push((tenant.name.clone(), tenant.unreadable.clone()));
        }
        self.registry.live(self.state, &tenant, self.store, self.start)?;
        if let Some(whole) = &mut self.whole {
            whole.tenants.insert(tenant.name);
        }
        Ok(())
    }

    /// Its keys were deleted before it, by everybody who lets the store see to that.
    fn tenant_deleted(&mut self, name: &str) {
        self.state.unreadable.tenants.remove(name);
        let Some((name, tenant)) = self.state.tenants.remove_entry(name) else { return };
        self.refreshed.deleted += 1;
        self.has_lost_tenants = true;
        // Requests that are on their way are still held to its limits.
        tenant.live.mute_alerts();
        self.state.deleted.insert(name, tenant);
    }

    /// One that can't be read, or whose tenant can't, keeps its place and its limits, so that what it has used
    /// is not forgotten; but nothing opens it.
    fn key(&mut self, key: Key) {
        let is_unreadable = !key.unreadable.is_empty();
        self.state.unreadable.keys.remove(&key.id);
        if is_unreadable {
            self.state.unreadable.keys.insert(key.id.clone());
            self.told.keys.push((key.id.clone(), key.unreadable.clone()));
        }
        // The store holds a key to a tenant, but not for whoever writes to it without foreign keys.
        let Some((tenant, live)) = self.state.tenants.get_key_value(&key.tenant) else {
            return self.orphan(&key.id, &key.tenant);
        };
        let is_shut = is_unreadable || self.state.unreadable.tenants.contains(tenant);
        self.refreshed.keys += 1;
        if *self.state.limits != key.limits {
            self.state.limits = Arc::new(key.limits);
        }
        let limits = &self.state.limits;
        let known = self.state.keys.get(&key.id);
        let id = known.map_or(key.id, |known| known.identity.key_id.clone());
        // One that was given to another tenant begins there without a past.
        let slot = known.map(|known| &known.identity.slot);
        let slot = match slot.filter(|slot| Arc::ptr_eq(slot.live(), &live.live)) {
            Some(slot) if is_unreadable => slot.clone(),
            Some(slot) => {
                slot.live().set_key_limits(slot.slot(), limits, self.start);
                slot.clone()
            }
            None => Arc::new(SlotGuard::new(&live.live, &id, limits)),
        };
        let identity = Arc::new(Identity {
            key_id: id.clone(),
            tenant: tenant.clone(),
            models: key.models.map(Vec::into_boxed_slice),
            clamp: key.clamp,
            cut: key.cut,
            has_cost_quota: limits.has_cost_quota(),
            slot,
        });
        self.forget(&id);
        let secrets =
            if is_shut || key.suspended_at_ms.is_some() { Vec::new() } else { key.secrets };
        let digests = secrets.iter().map(|secret| secret.digest).collect();
        for secret in secrets {
            let ends = [key.expires_at_ms, secret.expires_at_ms];
            let expires_at_ms = ends.into_iter().flatten().min();
            let is_revoked = key.revoked_at_ms.is_some();
            let entry = Entry { identity: identity.clone(), is_revoked, expires_at_ms };
            self.edit.insert(secret.digest, entry);
        }
        let known = Known { identity, digests };
        match &mut self.whole {
            Some(whole) => whole.keys.insert(id, known),
            None => self.state.keys.insert(id, known),
        };
    }

    fn key_deleted(&mut self, id: &str) {
        self.forget(id);
        if self.state.keys.remove(id).is_some() {
            self.refreshed.deleted += 1;
        }
    }

    /// Without a tenant there are no limits to hold a key to: it is nobody's, until the tenant is made.
    fn orphan(&mut self, id: &Arc<str>, tenant: &Arc<str>) {
        let (count, _) = self.told.orphans.entry(tenant.clone()).or_insert_with(|| (0, id.clone()));
        *count += 1;
        self.state.missing.insert(tenant.clone());
        self.key_deleted(id);
    }

    /// Keys that their tenant has left behind. All are looked at, for tenants seldom go.
    fn forget_orphans(&mut self) {
        let State { tenants, keys, .. } = &*self.state;
        let is_orphan = |identity: &Identity| {
            let tenant = tenants.get(&identity.tenant);
            !tenant.is_some_and(|tenant| Arc::ptr_eq(&tenant.live, identity.slot.live()))
        };
        let orphans = keys.values().map(|known| &known.identity).filter(|one| is_orphan(one));
        for orphan in orphans.cloned().collect::<Vec<_>>() {
            self.orphan(&orphan.key_id, &orphan.tenant);
        }
    }

    /// Takes the secrets of a key out, as far as they are still its own.
    fn forget(&mut self, id: &str) {
        let digests: &[Digest] = match self.state.keys.get(id) {
            Some(known) if self.whole.is_none() => &known.digests,
            _ => return,
        };
        for digest in digests {
            self.edit.remove(digest, |identity| *identity.key_id == *id);
        }
    }
}

impl Told {
    /// A line for each, however many keys it is about.
    fn tell(&self) {
        for (tenant, unreadable) in &self.tenants {
            tracing::error!(
                %tenant,
                unreadable = %list(unreadable),
                "the store has a tenant that cannot be read: all its keys are refused; `weir tenant list` \
                 says what mends it"
            );
        }
        for (key, unreadable) in &self.keys {
            tracing::error!(
                %key,
                unreadable = %list(unreadable),
                "the store has a key that cannot be read: it is refused; `weir key list` says what mends it"
            );
        }
        for (tenant, (keys, first)) in &self.orphans {
            tracing::error!(
                %tenant,
                keys,
                %first,
                "the store has keys without their tenant: they are refused until `weir tenant create` \
                 makes the tenant, or `weir key delete` deletes them"
            );
        }
    }
}

fn list(unreadable: &[Unreadable]) -> String {
    unreadable.iter().map(Unreadable::to_string).collect::<Vec<_>>().join(", ")
}
