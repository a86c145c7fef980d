//! What all workers share of the configuration and the store: one immutable snapshot of keys and models,
//! swapped whole, and behind each key the live state of its tenant, which every snapshot carries on from
//! the one before.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use jiff::tz::TimeZone;

use super::windows::{Moving, by_tenant, latest_ms, move_windows, sum};
use crate::admit::{Alert, Balances, KeySlot, Limit, Settings, TenantLive, Used, Windows};
use crate::clock::{Believed, Clock, Now};
use crate::config::Config;
use crate::identify::{Entry, Keys};
use crate::ledger::store::{Store, StoreError};
use crate::route::Routes;
use crate::tenancy::{Key, Tenant};

/// A clock that is this far behind the time that is believed opens no days.
const BEHIND_MS: i64 = 60_000;
/// Then they are opened at the quarters of an hour: in every zone, days begin at one.
const QUARTER_MS: i64 = 15 * 60_000;

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
    believed: Arc<Believed>,
    /// The quarter of an hour, since the epoch, in which days were opened last.
    quarter: AtomicI64,
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
        (clock, believed): (Clock, Arc<Believed>),
    ) -> Result<Self, StoreError> {
        let settings = Settings {
            rpm_burst: config.limits.rpm_burst,
            time_zone: config.limits.time_zone.clone(),
            alert_percent: config.limits.alert_percent.clone().into(),
            believed: believed.clone(),
        };
        let empty = Snapshot { keys: Keys::new([]), routes: routes.clone() };
        let registry = Self {
            current: ArcSwap::from_pointee(empty),
            routes,
            settings,
            clock,
            believed,
            quarter: AtomicI64::new(i64::MIN),
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

    /// How late it is, as far as that is believed, in Unix milliseconds.
    pub(crate) fn time_ms(&self, now: Now) -> i64 {
        self.believed.at(now)
    }

    /// The store is another one, whose versions say nothing about the last one's.
    pub(crate) fn forget_version(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).version = i64::MIN;
    }

    /// Follows what the CLI changed in the store. Cheap when nothing did.
    pub(crate) fn refresh(&self, store: &Store) -> Result<bool, StoreError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if store.keys_version()? == state.version {
            return Ok(false);
        }
        let book = store.book()?;
        let now = self.clock.now();
        let start = Now { unix_ms: latest_ms(store, &self.believed, now)?, ..now };
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

    /// Moves a tenant's windows to another zone.
    fn move_to_zone(
        &self,
        live: &TenantLive,
        tenant: &str,
        zone: &TimeZone,
        store: &Store,
    ) -> Result<(), StoreError> {
        let time = (|| self.clock.now(), &*self.believed);
        move_windows(vec![Moving { tenant, live }], zone, store, time)
    }

    /// Where the clock is wrong, or was: leaves windows that lie too far ahead of the time that is
    /// believed, and opens those that it does not open. Cheap when it is right.
    pub(crate) fn follow_clock(&self, store: &Store) -> Result<(), StoreError> {
        let now = self.clock.now();
        if self.believed.is_overtaken(now) {
            self.leave_windows(store, now)?;
        }
        let time_ms = self.believed.at(now);
        if time_ms.saturating_sub(now.unix_ms) > BEHIND_MS {
            let quarter = time_ms.div_euclid(QUARTER_MS);
            if self.quarter.swap(quarter, Ordering::Relaxed) != quarter {
                let now = Now { unix_ms: time_ms, ..now };
                for (_, live) in self.tenants() {
                    live.windows(now);
                }
            }
        }
        Ok(())
    }

    /// Leaves the windows that a clock opened which was ahead, for those that are believed.
    #[cold]
    fn leave_windows(&self, store: &Store, now: Now) -> Result<(), StoreError> {
        // What opens from here on is noted again.
        let furthest_ms = self.believed.take_furthest();
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut zones: Vec<(&TimeZone, Vec<Moving<'_>>)> = Vec::new();
        for (tenant, Live { live, zone, .. }) in &state.tenants {
            if live.windows(now).windows.day.start_ms <= self.believed.until(now) {
                continue;
            }
            let moving = Moving { tenant, live };
            match zones.iter_mut().find(|(known, _)| *known == zone) {
                Some((_, tenants)) => tenants.push(moving),
                None => zones.push((zone, vec![moving])),
            }
        }
        let tenants: usize = zones.iter().map(|(_, tenants)| tenants.len()).sum();
        for (zone, tenants) in zones {
            let time = (|| self.clock.now(), &*self.believed);
            move_windows(tenants, zone, store, time)
                .inspect_err(|_| self.believed.opened(furthest_ms))?;
        }
        if tenants > 0 {
            tracing::error!(
                tenants,
                opened = %time(furthest_ms),
                now = %time(self.believed.at(now)),
                "the clock was ahead, and is back: quotas are those of the present day again; rows can \
                 be dated to the future: `weir verify` lists them, `weir verify --redate` mends them"
            );
        }
        Ok(())
    }

    /// Sets what was used before this process, in the windows that are open now.
    fn load_balances(&self, store: &Store) -> Result<(), StoreError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = latest_ms(store, &self.believed, self.clock.now())?;
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

fn time(unix_ms: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(unix_ms).unwrap_or(jiff::Timestamp::MAX)
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
