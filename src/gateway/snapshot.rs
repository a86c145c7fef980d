//! What all workers share of the configuration and the store: one immutable snapshot of keys and models,
//! swapped whole, and behind each key the live state of its tenant, which every snapshot carries on from
//! the one before.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use jiff::tz::TimeZone;

use crate::admit::{Alert, Balances, KeySlot, Limit, Rebuilt, Settings, TenantLive, Used, Windows};
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
    pub(crate) clamp: bool,
    pub(crate) cut: bool,
    /// A quota of cost holds for it, its own or its tenant's.
    pub(crate) has_cost_quota: bool,
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
    tenants: HashMap<Arc<str>, Live>,
}

/// A tenant that this process knows.
#[derive(Clone, Debug)]
struct Live {
    live: Arc<TenantLive>,
    /// In which its windows are kept.
    zone: TimeZone,
    has_cost_quota: bool,
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
            alert_percent: config.limits.alert_percent.clone().into(),
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
        let start = Now { unix_ms: latest_ms(store, now)?, ..now };
        for tenant in &book.tenants {
            self.live(&mut state, tenant, store, start)?;
        }
        let entries = book.keys.iter().flat_map(|key| entries(key, &state, now));
        let snapshot = Snapshot { keys: Keys::new(entries), routes: self.routes.clone() };
        self.current.store(Arc::new(snapshot));
        state.version = book.version;
        Ok(true)
    }

    fn live(
        &self,
        state: &mut State,
        tenant: &Tenant,
        store: &Store,
        now: Now,
    ) -> Result<(), StoreError> {
        let zone = self.zone_of(tenant);
        let known = state.tenants.entry(tenant.name.clone()).or_insert_with(|| {
            let settings = Settings { time_zone: zone.clone(), ..self.settings.clone() };
            let live = TenantLive::new(settings, now);
            Live { live, zone: zone.clone(), has_cost_quota: false }
        });
        known.has_cost_quota = tenant.limits.has_cost_quota();
        known.live.set_tenant_limits(&tenant.limits, now);
        if known.zone != zone {
            self.move_to_zone(&known.live, &tenant.name, &zone, store)?;
            known.zone = zone;
        }
        Ok(())
    }

    /// The tenant's own zone. One that this machine does not know is told, and the default taken.
    fn zone_of(&self, tenant: &Tenant) -> TimeZone {
        let Some(name) = tenant.time_zone.as_deref() else {
            return self.settings.time_zone.clone();
        };
        TimeZone::get(name).unwrap_or_else(|_| {
            tracing::error!(
                tenant = %tenant.name,
                time_zone = name,
                "the tenant's time zone is not known here; the configured one is used"
            );
            self.settings.time_zone.clone()
        })
    }

    /// Moves a tenant's windows to another zone, with what the ledger knows of the new ones.
    fn move_to_zone(
        &self,
        live: &TenantLive,
        tenant: &str,
        zone: &TimeZone,
        store: &Store,
    ) -> Result<(), StoreError> {
        loop {
            let now = self.clock.now();
            let old = live.windows(now);
            // A clock that was set back leads to no day before the one that is open.
            let new = Windows::at(zone, latest_ms(store, now)?.max(old.day.start_ms));
            let spans = [old.day, old.month, new.day, new.month];
            let spans = spans.map(|window| (window.start_ms, window.end_ms));
            let sums = store.balances_of(Some(tenant), spans)?.map(by_key);
            let of = |key_id: Option<&str>| {
                let [old_daily, old_monthly, daily, monthly] =
                    sums.each_ref().map(|keys| match key_id {
                        Some(key_id) => keys.get(key_id).copied().unwrap_or_default(),
                        None => sum(keys),
                    });
                Rebuilt { old_daily, old_monthly, daily, monthly }
            };
            // Only where a day has ended just now it has to be done again.
            if live.set_time_zone(zone.clone(), old, new, of) {
                return Ok(());
            }
        }
    }

    /// Sets what was used before this process, in the windows that are open now.
    fn load_balances(&self, store: &Store) -> Result<(), StoreError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = latest_ms(store, self.clock.now())?;
        // Few zones, many tenants: the ledger is read once for each zone, and one zone's balances are held
        // at once.
        let mut zones: Vec<(&TimeZone, Vec<(&str, &TenantLive)>)> = Vec::new();
        for (name, Live { live, zone, .. }) in &state.tenants {
            match zones.iter_mut().find(|(known, _)| *known == zone) {
                Some((_, tenants)) => tenants.push((name, live)),
                None => zones.push((zone, vec![(name, live)])),
            }
        }
        for (zone, tenants) in zones {
            let windows = Windows::at(zone, now_ms);
            let spans = [windows.day, windows.month];
            let spans = spans.map(|window| (window.start_ms, window.end_ms));
            let [mut daily, mut monthly] = store.balances_of(None, spans)?.map(by_tenant);
            for (name, live) in tenants {
                let day = daily.remove(name).unwrap_or_default();
                let month = monthly.remove(name).unwrap_or_default();
                load(live, windows, &day, &month);
            }
        }
        Ok(())
    }

    /// What the tenants' quotas have to tell since the last time.
    pub(crate) fn take_alerts(&self) -> Vec<(Arc<str>, Alert)> {
        let tenants = self.tenants();
        let alerts = tenants.iter().flat_map(|(name, live)| {
            let alerts = live.take_alerts().into_iter();
            alerts.map(|alert| (name.clone(), alert))
        });
        alerts.collect()
    }

    /// Every quota of which a threshold is crossed now.
    pub(crate) fn quotas_over(&self) -> Vec<Limit> {
        let now = self.clock.now();
        let mut over = Vec::new();
        self.tenants().iter().for_each(|(_, live)| live.each_over(now, |limit| over.push(limit)));
        over
    }

    /// The live states, for metrics and tests.
    pub(crate) fn tenants(&self) -> Vec<(Arc<str>, Arc<TenantLive>)> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.tenants.iter().map(|(name, known)| (name.clone(), known.live.clone())).collect()
    }
}

/// Where windows begin to be counted, in Unix milliseconds. A clock that is behind the newest row was
/// set back: what that row's day has used is still used when the clock is right again.
fn latest_ms(store: &Store, now: Now) -> Result<i64, StoreError> {
    Ok(store.newest_ms()?.map_or(now.unix_ms, |newest_ms| newest_ms.max(now.unix_ms)))
}

/// One entry for each secret of a key.
fn entries(
    key: &Key,
    state: &State,
    now: Now,
) -> impl Iterator<Item = ([u8; 32], Entry<Arc<Identity>>)> {
    let identity = state.tenants.get(&key.tenant).map(|tenant| {
        let live = tenant.live.clone();
        let slot = live.key_slot(&key.id);
        live.set_key_limits(slot, &key.limits, now);
        Arc::new(Identity {
            key_id: key.id.clone(),
            tenant: key.tenant.clone(),
            models: key.models.clone(),
            clamp: key.clamp,
            cut: key.cut,
            has_cost_quota: key.limits.has_cost_quota() || tenant.has_cost_quota,
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
type ByTenant = HashMap<String, HashMap<String, Used>>;

fn by_tenant(balances: Vec<Balance>) -> ByTenant {
    let mut tenants = ByTenant::new();
    for balance in balances {
        let used = used(&balance);
        tenants.entry(balance.tenant).or_default().insert(balance.key_id, used);
    }
    tenants
}

/// The used amounts of each key of one tenant.
fn by_key(balances: Vec<Balance>) -> HashMap<String, Used> {
    let one = |balance: Balance| (used(&balance), balance.key_id);
    balances.into_iter().map(one).map(|(used, key_id)| (key_id, used)).collect()
}

fn used(balance: &Balance) -> Used {
    Used { requests: balance.requests, tokens: balance.total_tokens, nano_usd: balance.nano_usd }
}

fn load(
    live: &TenantLive,
    windows: Windows,
    day: &HashMap<String, Used>,
    month: &HashMap<String, Used>,
) {
    for key_id in month.keys().chain(day.keys()) {
        let daily = day.get(key_id).copied().unwrap_or_default();
        let monthly = month.get(key_id).copied().unwrap_or_default();
        let slot = live.key_slot(key_id);
        live.load_balances(slot, &Balances { windows, daily, monthly });
    }
    live.load_tenant_balances(&Balances { windows, daily: sum(day), monthly: sum(month) });
}

fn sum(keys: &HashMap<String, Used>) -> Used {
    keys.values().fold(Used::default(), |sum, used| sum.plus(*used))
}
