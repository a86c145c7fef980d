//! What all workers share of the configuration and the store: one immutable snapshot of keys and models,
//! swapped whole, and behind each key the live state of its tenant, which every snapshot carries on from
//! the one before.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::admit::{Balances, KeySlot, Settings, TenantLive, Used, Windows};
use crate::clock::{Clock, Now};
use crate::config::Config;
use crate::identify::{Entry, Keys};
use crate::ledger::store::{Balance, Store, StoreError};
use crate::route::Routes;
use crate::tenancy::{Key, Tenant};

/// Whom a key stands for.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) key_id: Arc<str>,
    pub(crate) tenant: Arc<str>,
    /// The models that it may use; `None`: all.
    pub(crate) models: Option<Vec<String>>,
    pub(crate) live: Arc<TenantLive>,
    pub(crate) slot: KeySlot,
}

/// One consistent view.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) keys: Keys<Arc<Identity>>,
    pub(crate) routes: Arc<Routes>,
}

/// Makes the snapshots; the workers load the current one.
#[derive(Debug)]
pub(crate) struct Registry {
    current: ArcSwap<Snapshot>,
    routes: Arc<Routes>,
    settings: Settings,
    clock: Clock,
    state: Mutex<State>,
}

/// What outlives a snapshot.
#[derive(Debug, Default)]
struct State {
    version: i64,
    tenants: HashMap<Arc<str>, Arc<TenantLive>>,
}

impl Registry {
    /// Loads keys and balances from the store, which has everything that the journal knew.
    pub(crate) fn load(
        config: &Config,
        routes: Arc<Routes>,
        store: &Store,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let settings = Settings {
            rpm_burst: config.limits.rpm_burst,
            time_zone: config.limits.time_zone.clone(),
        };
        let empty = Snapshot { keys: Keys::new([]), routes: routes.clone() };
        let registry = Self {
            current: ArcSwap::from_pointee(empty),
            routes,
            settings,
            clock,
            state: Mutex::default(),
        };
        registry.refresh(store)?;
        registry.load_balances(store)?;
        Ok(registry)
    }

    /// The current snapshot.
    pub(crate) fn current(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// Follows what the CLI changed in the store. Cheap when nothing did.
    pub(crate) fn refresh(&self, store: &Store) -> Result<bool, StoreError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if store.keys_version()? == state.version {
            return Ok(false);
        }
        let book = store.book()?;
        let now = self.clock.now();
        for tenant in &book.tenants {
            self.live(&mut state, tenant, now);
        }
        let entries = book.keys.iter().flat_map(|key| entries(key, &state, now));
        let snapshot = Snapshot { keys: Keys::new(entries), routes: self.routes.clone() };
        self.current.store(Arc::new(snapshot));
        state.version = book.version;
        Ok(true)
    }

    fn live(&self, state: &mut State, tenant: &Tenant, now: Now) {
        let live = state
            .tenants
            .entry(tenant.name.clone())
            .or_insert_with(|| TenantLive::new(self.settings.clone(), now));
        live.set_tenant_limits(&tenant.limits, now);
    }

    /// Sets what was used before this process, in the windows that are open now.
    fn load_balances(&self, store: &Store) -> Result<(), StoreError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let windows = Windows::at(&self.settings.time_zone, self.clock.now().unix_ms);
        let daily = by_tenant(store.balances(windows.day.start_ms, windows.day.end_ms)?);
        let monthly = by_tenant(store.balances(windows.month.start_ms, windows.month.end_ms)?);
        for (name, live) in &state.tenants {
            let none = HashMap::new();
            let day = daily.get(&**name).unwrap_or(&none);
            let month = monthly.get(&**name).unwrap_or(&none);
            for key_id in month.keys().chain(day.keys()) {
                let daily = day.get(key_id).copied().unwrap_or_default();
                let monthly = month.get(key_id).copied().unwrap_or_default();
                let slot = live.key_slot(key_id);
                live.load_balances(slot, &Balances { windows, daily, monthly });
            }
            let balances = Balances { windows, daily: sum(day), monthly: sum(month) };
            live.load_tenant_balances(&balances);
        }
        Ok(())
    }

    /// The live states, for metrics and tests.
    pub(crate) fn tenants(&self) -> Vec<(Arc<str>, Arc<TenantLive>)> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.tenants.iter().map(|(name, live)| (name.clone(), live.clone())).collect()
    }
}

/// One entry for each secret of a key.
fn entries(
    key: &Key,
    state: &State,
    now: Now,
) -> impl Iterator<Item = ([u8; 32], Entry<Arc<Identity>>)> {
    let live = state.tenants.get(&key.tenant).cloned();
    let identity = live.map(|live| {
        let slot = live.key_slot(&key.id);
        live.set_key_limits(slot, &key.limits, now);
        Arc::new(Identity {
            key_id: key.id.clone(),
            tenant: key.tenant.clone(),
            models: key.models.clone(),
            live,
            slot,
        })
    });
    let is_revoked = key.revoked_at_ms.is_some();
    identity.into_iter().flat_map(move |identity| {
        key.secrets.iter().map(move |secret| {
            let ends = [key.expires_at_ms, secret.expires_at_ms];
            let expires_at_ms = ends.into_iter().flatten().min();
            (secret.digest, Entry { identity: identity.clone(), is_revoked, expires_at_ms })
        })
    })
}

/// The used amounts of each key, by tenant.
fn by_tenant(balances: Vec<Balance>) -> HashMap<String, HashMap<String, Used>> {
    let mut tenants: HashMap<String, HashMap<String, Used>> = HashMap::new();
    for balance in balances {
        let used = Used { requests: balance.requests, tokens: balance.total_tokens };
        tenants.entry(balance.tenant).or_default().insert(balance.key_id, used);
    }
    tenants
}

fn sum(keys: &HashMap<String, Used>) -> Used {
    keys.values().fold(Used::default(), |sum, used| Used {
        requests: sum.requests.saturating_add(used.requests),
        tokens: sum.tokens.saturating_add(used.tokens),
    })
}
