//! What all workers share of the store: one immutable snapshot of the keys, swapped whole, and behind each
//! key the live state of its tenant, which every snapshot carries on from the one before. A new snapshot
//! is made of what has changed ([`update`]), and shares the rest with the one that it follows.

mod update;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use jiff::tz::TimeZone;

use crate::admit::{Alerting, Balances, Rebuilt, Settings, SlotGuard, TenantLive, Used, Windows};
use crate::clock::{Clock, Now};
use crate::config::Config;
use crate::gateway::snapshot::update::Update;
use crate::identify::{Digest, Keys};
use crate::ledger::store::{Balance, Store, StoreError};
use crate::tenancy::{Limits, Tenant};

/// Whom a key stands for.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) key_id: Arc<str>,
    pub(crate) tenant: Arc<str>,
    /// The models that it may use; `None`: all.
    pub(crate) models: Option<Box<[String]>>,
    pub(crate) clamp: bool,
    pub(crate) cut: bool,
    /// It has a quota of cost of its own.
    has_cost_quota: bool,
    /// Where its limits are kept.
    pub(crate) slot: Arc<SlotGuard>,
}

/// One consistent view of all keys. A reader takes what it needs out of it at once: who holds one holds
/// all keys of that version.
pub(crate) type Snapshot = Keys<Arc<Identity>>;

/// Makes the snapshots; the workers load the current one.
#[derive(Debug)]
pub(crate) struct Registry {
    current: ArcSwap<Snapshot>,
    settings: Settings,
    clock: Clock,
    state: Mutex<State>,
}

/// What outlives a snapshot.
#[derive(Debug, Default)]
struct State {
    /// Of the store, as the current snapshot has it; `None`: it has to be read whole.
    version: Option<i64>,
    tenants: HashMap<Arc<str>, Live>,
    /// Tenants that were deleted. What one has used in this month counts if its name comes back.
    deleted: HashMap<Arc<str>, Live>,
    /// By id.
    keys: HashMap<Arc<str>, Known>,
    /// Snapshots that were replaced. They are freed here, and not by the worker that looks last.
    replaced: Vec<Arc<Snapshot>>,
    /// Those of the last key: most keys have the same, and share them.
    limits: Arc<Limits>,
}

/// A tenant that this process knows.
#[derive(Clone, Debug)]
struct Live {
    live: Arc<TenantLive>,
    /// In which its windows are kept.
    zone: TimeZone,
}

/// A key as the current snapshot has it.
#[derive(Debug)]
struct Known {
    identity: Arc<Identity>,
    /// Under which it is found there.
    digests: Box<[Digest]>,
}

/// How much a refresh had to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refreshed {
    /// Everything was read, not only what has changed.
    pub(crate) is_whole: bool,
    pub(crate) tenants: usize,
    pub(crate) keys: usize,
    pub(crate) deleted: usize,
    /// Parts of the snapshot that were made anew.
    pub(crate) shards: usize,
}

impl Identity {
    /// A quota of cost holds for it, its own or its tenant's.
    pub(crate) fn has_cost_quota(&self) -> bool {
        self.has_cost_quota || self.slot.live().has_cost_quota()
    }
}

impl Registry {
    /// Loads keys and balances from the store, which has everything that the journal knew. What quotas have
    /// to tell goes to `alerting`.
    pub(crate) fn load(
        config: &Config,
        store: &Store,
        clock: Clock,
        alerting: Arc<Alerting>,
    ) -> Result<Self, StoreError> {
        let settings = Settings {
            rpm_burst: config.limits.rpm_burst,
            time_zone: config.limits.time_zone.clone(),
            alert_percent: config.limits.alert_percent.clone().into(),
            alerting,
        };
        let (current, state) = (ArcSwap::default(), Mutex::default());
        let registry = Self { current, settings, clock, state };
        registry.refresh(store)?;
        registry.load_balances(store)?;
        Ok(registry)
    }

    /// The current snapshot. Not to be held across an await.
    pub(crate) fn current(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// Follows what the CLI changed in the store. Costs what has changed: next to nothing when nothing did.
    pub(crate) fn refresh(&self, store: &Store) -> Result<Refreshed, StoreError> {
        let mut state = self.state();
        // Whoever looked into one of them has done so by now.
        state.replaced.retain(|old| Arc::strong_count(old) > 1);
        if state.version == Some(store.keys_version()?) {
            return Ok(Refreshed::default());
        }
        let now = self.clock.now();
        let start = Now { unix_ms: latest_ms(store, now)?, ..now };
        // Should this fail half-way, nobody knows what is missing: the next one reads everything.
        let changes = store.changes(state.version.take())?;
        let version = changes.version;
        let mut update = Update::new(self, store, &mut state, now, start, changes.is_all());
        changes.each(|change| update.take(change))?;
        let (snapshot, refreshed) = update.finish();
        state.replaced.push(self.current.swap(Arc::new(snapshot)));
        state.version = Some(version);
        Ok(refreshed)
    }

    /// The live state of a tenant, with the limits and in the zone that it has now.
    fn live(
        &self,
        state: &mut State,
        tenant: &Tenant,
        store: &Store,
        now: Now,
    ) -> Result<(), StoreError> {
        let zone = self.zone_of(tenant);
        let State { tenants, deleted, .. } = state;
        let known = tenants.entry(tenant.name.clone()).or_insert_with(|| {
            deleted.remove(&tenant.name).unwrap_or_else(|| {
                let settings = Settings { time_zone: zone.clone(), ..self.settings.clone() };
                let live = TenantLive::new(tenant.name.clone(), settings, now);
                Live { live, zone: zone.clone() }
            })
        });
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
        let state = &mut *self.state();
        let now_ms = latest_ms(store, self.clock.now())?;
        // Few zones, many tenants: the ledger is read once for each zone.
        let mut zones: Vec<(TimeZone, Windows, [ByTenant; 2])> = Vec::new();
        let here = self.settings.time_zone.clone();
        let all = state.tenants.values().map(|tenant| &tenant.zone).chain([&here]);
        for zone in all {
            if !zones.iter().any(|(known, ..)| known == zone) {
                let windows = Windows::at(zone, now_ms);
                let spans = [windows.day, windows.month];
                let spans = spans.map(|window| (window.start_ms, window.end_ms));
                let sums = store.balances_of(None, spans)?.map(by_tenant);
                zones.push((zone.clone(), windows, sums));
            }
        }
        let used_in = |zone: &TimeZone| {
            let found = zones.iter().find(|(known, ..)| known == zone);
            found.expect("every tenant's zone was read")
        };
        let none = HashMap::new();
        for (name, Live { live, zone }) in &state.tenants {
            let (_, windows, [daily, monthly]) = used_in(zone);
            let day = daily.get(&**name).unwrap_or(&none);
            let month = monthly.get(&**name).unwrap_or(&none);
            load(live, &state.keys, *windows, day, month);
        }
        // Tenants that are gone: see `State::deleted`.
        let (_, windows, [daily, monthly]) = used_in(&here);
        for (name, month) in monthly {
            if !state.tenants.contains_key(&**name) {
                let name: Arc<str> = name.as_str().into();
                let now = Now { unix_ms: now_ms, ..self.clock.now() };
                let live = TenantLive::new(name.clone(), self.settings.clone(), now);
                let day = daily.get(&*name).unwrap_or(&none);
                load(&live, &state.keys, *windows, day, month);
                state.deleted.insert(name, Live { live, zone: here.clone() });
            }
        }
        Ok(())
    }

    /// The live states, for tests and who stops a server: of tenants that were deleted, too.
    pub(crate) fn tenants(&self) -> Vec<Arc<TenantLive>> {
        let state = self.state();
        let all = state.tenants.values().chain(state.deleted.values());
        all.map(|known| known.live.clone()).collect()
    }

    /// Replaced snapshots that somebody still holds.
    pub(crate) fn held(&self) -> usize {
        let held = |old: &&Arc<Snapshot>| Arc::strong_count(old) > 1;
        self.state().replaced.iter().filter(held).count()
    }

    /// Lets no refresh begin or end until it is dropped.
    pub(crate) fn hold(&self) -> impl Sized + '_ {
        self.state()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where windows begin to be counted, in Unix milliseconds. A clock that is behind the newest row was
/// set back: what that row's day has used is still used when the clock is right again.
fn latest_ms(store: &Store, now: Now) -> Result<i64, StoreError> {
    Ok(store.newest_ms()?.map_or(now.unix_ms, |newest_ms| newest_ms.max(now.unix_ms)))
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

/// What keys used that are deleted by now is only in the tenant's sum.
fn load(
    live: &TenantLive,
    keys: &HashMap<Arc<str>, Known>,
    windows: Windows,
    day: &HashMap<String, Used>,
    month: &HashMap<String, Used>,
) {
    for key_id in month.keys().chain(day.keys()) {
        let Some(known) = keys.get(&**key_id) else { continue };
        let daily = day.get(key_id).copied().unwrap_or_default();
        let monthly = month.get(key_id).copied().unwrap_or_default();
        let balances = Balances { windows, daily, monthly };
        live.load_balances(known.identity.slot.slot(), &balances);
    }
    live.load_tenant_balances(&Balances { windows, daily: sum(day), monthly: sum(month) });
}

fn sum(keys: &HashMap<String, Used>) -> Used {
    keys.values().fold(Used::default(), |sum, used| sum.plus(*used))
}
