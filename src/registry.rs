//! What all workers share of the store: one immutable snapshot of the keys, swapped whole, and behind each
//! key the live state of its tenant, which every snapshot carries on from the one before. A new snapshot
//! is made of what has changed ([`update`]), and shares the rest with the one that it follows.

mod identified;
mod quotas;
mod update;
mod windows;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use jiff::tz::TimeZone;

use crate::admit::{Alerting, Balances, Settings, SlotGuard, TenantLimiter, Used, Windows};
use crate::clock::{Clock, Now, TrustedClock};
use crate::config::Config;
use crate::identify::{Digest, Keys};
use crate::registry::update::{UnreadableRows, Update};
use crate::registry::windows::{WindowChange, by_tenant, latest_ms, move_windows, sum};
use crate::store::{KeysVersion, Store, StoreError};
use crate::tenancy::{Limits, Tenant};

pub(crate) use crate::registry::identified::Identified;

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
    /// Of the current snapshot; raised once it is current.
    number: AtomicU64,
    /// Tenants and keys that can't be read, as of the current snapshot.
    unreadable: AtomicU64,
    settings: Settings,
    clock: Clock,
    trusted_clock: Arc<TrustedClock>,
    /// The quarter of an hour, since the epoch, in which days were opened last.
    quarter: AtomicI64,
    state: Mutex<State>,
}

/// What outlives a snapshot.
#[derive(Debug, Default)]
struct State {
    /// Of the store, as the current snapshot has it; `None`: it has to be read whole.
    version: Option<KeysVersion>,
    tenants: HashMap<Arc<str>, Live>,
    /// Tenants that were deleted. What one has used in this month counts if its name comes back.
    deleted: HashMap<Arc<str>, Live>,
    /// By id.
    keys: HashMap<Arc<str>, Known>,
    unreadable: UnreadableRows,
    /// What tenants are called that are not there, although the store has keys of theirs.
    missing: HashSet<Arc<str>>,
    /// Snapshots that were replaced. They are freed here, and not by the worker that looks last.
    replaced: Vec<Arc<Snapshot>>,
    /// Those of the last key: most keys have the same, and share them.
    limits: Arc<Limits>,
}

/// A tenant that this process knows.
#[derive(Clone, Debug)]
struct Live {
    live: Arc<TenantLimiter>,
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
        (clock, trusted_clock): (Clock, Arc<TrustedClock>),
        alerting: Arc<Alerting>,
    ) -> Result<Self, StoreError> {
        let settings = Settings {
            rpm_burst: config.limits.rpm_burst,
            time_zone: config.limits.time_zone.clone(),
            alert_percent: config.limits.alert_percent.clone().into(),
            alerting,
            trusted_clock: trusted_clock.clone(),
        };
        let (current, state) = (ArcSwap::default(), Mutex::default());
        let quarter = AtomicI64::new(i64::MIN);
        let (number, unreadable) = (AtomicU64::new(0), AtomicU64::new(0));
        let registry =
            Self { current, number, unreadable, settings, clock, trusted_clock, quarter, state };
        registry.refresh(store)?;
        registry.load_balances(store)?;
        Ok(registry)
    }

    /// The current snapshot. Not to be held across an await.
    pub(crate) fn current(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// How late it is, as far as that is believed, in Unix milliseconds.
    pub(crate) fn time_ms(&self, now: Now) -> i64 {
        self.trusted_clock.at(now)
    }

    /// The monotonic clock, in nanoseconds.
    pub(crate) fn mono_ns(&self) -> u64 {
        self.clock.mono_ns()
    }

    /// How many tenants and keys of the store can't be read.
    pub(crate) fn unreadable(&self) -> u64 {
        self.unreadable.load(Ordering::Relaxed)
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
        let start = Now { unix_ms: latest_ms(store, &self.trusted_clock, now)?, ..now };
        // Should this fail half-way, nobody knows what is missing: the next one reads everything.
        let mut known = state.version.take();
        let (snapshot, refreshed, version) = loop {
            let changes = store.changes(known)?;
            let mut update = Update::new(self, store, &mut state, now, start, changes.is_all());
            changes.each(&mut |change| update.take(change))?;
            if !update.needs_whole() {
                let (snapshot, refreshed) = update.finish();
                break (snapshot, refreshed, changes.version());
            }
            known = None;
        };
        let unreadable = state.unreadable.tenants.len() + state.unreadable.keys.len();
        self.unreadable.store(unreadable as u64, Ordering::Relaxed);
        state.replaced.push(self.current.swap(Arc::new(snapshot)));
        self.number.fetch_add(1, Ordering::Release);
        state.version = Some(version);
        Ok(refreshed)
    }

    /// The live state of a tenant, with the limits and in the zone that it has now. One that can't be read
    /// keeps those that it had.
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
                let live = TenantLimiter::new(tenant.name.clone(), settings, now);
                Live { live, zone: zone.clone() }
            })
        });
        if !tenant.unreadable.is_empty() {
            return Ok(());
        }
        known.live.set_tenant_limits(&tenant.limits, now);
        if known.zone != zone {
            self.move_to_zone(&known.live, &tenant.name, &zone, store)?;
            known.zone = zone;
        }
        Ok(())
    }

    /// The tenant's own zone, or the configured one.
    fn zone_of(&self, tenant: &Tenant) -> TimeZone {
        let own = tenant.time_zone.as_deref().and_then(|name| TimeZone::get(name).ok());
        own.unwrap_or_else(|| self.settings.time_zone.clone())
    }

    /// Moves a tenant's windows to another zone.
    fn move_to_zone(
        &self,
        live: &TenantLimiter,
        tenant: &str,
        zone: &TimeZone,
        store: &Store,
    ) -> Result<(), StoreError> {
        let time = (|| self.clock.now(), &*self.trusted_clock);
        move_windows(vec![WindowChange { tenant, live }], zone, store, time)
    }

    /// Where the clock is wrong, or was: leaves windows that lie too far ahead of the time that is
    /// believed, and opens those that it does not open. Cheap when it is right.
    pub(crate) fn follow_clock(&self, store: &Store) -> Result<(), StoreError> {
        let now = self.clock.now();
        if self.trusted_clock.is_overtaken(now) {
            self.leave_windows(store, now)?;
        }
        let time_ms = self.trusted_clock.at(now);
        if time_ms.saturating_sub(now.unix_ms) > BEHIND_MS {
            let quarter = time_ms.div_euclid(QUARTER_MS);
            if self.quarter.swap(quarter, Ordering::Relaxed) != quarter {
                let now = Now { unix_ms: time_ms, ..now };
                for live in self.tenants() {
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
        let furthest_ms = self.trusted_clock.take_furthest();
        let state = self.state();
        let until_ms = self.trusted_clock.until(now);
        let is_ahead = |one: &Live| one.live.windows(now).windows.day.start_ms > until_ms;
        // Those that were deleted as well: a name that comes back has used what it had.
        let all = state.tenants.iter().chain(&state.deleted);
        let zones = by_zone(all.filter(|(_, one)| is_ahead(one)));
        let tenants: usize = zones.iter().map(|(_, tenants)| tenants.len()).sum();
        for (zone, tenants) in zones {
            let moving = |(tenant, live)| WindowChange { tenant, live };
            let time = (|| self.clock.now(), &*self.trusted_clock);
            move_windows(tenants.into_iter().map(moving).collect(), zone, store, time)
                .inspect_err(|_| self.trusted_clock.opened(furthest_ms))?;
        }
        if tenants > 0 {
            tracing::error!(
                tenants,
                opened = %time(furthest_ms),
                now = %time(self.trusted_clock.at(now)),
                "the clock was ahead, and is back: quotas are those of the present day again; rows can \
                 be dated to the future: `weir verify` lists them, `weir verify --redate` mends them"
            );
        }
        Ok(())
    }

    /// Sets what was used before this process, in the windows that are open now.
    fn load_balances(&self, store: &Store) -> Result<(), StoreError> {
        let State { tenants, deleted, keys, .. } = &mut *self.state();
        let now_ms = latest_ms(store, &self.trusted_clock, self.clock.now())?;
        let here = &self.settings.time_zone;
        let mut zones = by_zone(tenants.iter());
        // Of tenants that are gone, too, something may be there: see `State::deleted`.
        if !zones.iter().any(|(zone, _)| *zone == here) {
            zones.push((here, Vec::new()));
        }
        // Few zones, many tenants: the ledger is read once for each zone, and one zone's balances are held
        // at once.
        for (zone, of_zone) in zones {
            let windows = Windows::at(zone, now_ms);
            let spans = [windows.day, windows.month];
            let spans = spans.map(|window| (window.start_ms, window.end_ms));
            let [mut daily, mut monthly] = store.balances_of(None, spans)?.map(by_tenant);
            for (name, live) in of_zone {
                let day = daily.remove(name).unwrap_or_default();
                let month = monthly.remove(name).unwrap_or_default();
                load(live, keys, windows, &day, &month);
            }
            if zone != here {
                continue;
            }
            monthly.retain(|name, _| !tenants.contains_key(&**name));
            for (name, month) in monthly {
                let day = daily.remove(&name).unwrap_or_default();
                let name: Arc<str> = name.into();
                let now = Now { unix_ms: now_ms, ..self.clock.now() };
                let live = TenantLimiter::new(name.clone(), self.settings.clone(), now);
                load(&live, keys, windows, &day, &month);
                deleted.insert(name, Live { live, zone: here.clone() });
            }
        }
        Ok(())
    }

    /// The live states, for tests and who stops a server: of tenants that were deleted, too.
    pub(crate) fn tenants(&self) -> Vec<Arc<TenantLimiter>> {
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

/// Tenants by the zone of their windows.
fn by_zone<'a>(
    tenants: impl Iterator<Item = (&'a Arc<str>, &'a Live)>,
) -> Vec<(&'a TimeZone, Vec<(&'a str, &'a TenantLimiter)>)> {
    let mut zones: Vec<(&TimeZone, Vec<(&str, &TenantLimiter)>)> = Vec::new();
    for (name, Live { live, zone }) in tenants {
        match zones.iter_mut().find(|(known, _)| *known == zone) {
            Some((_, of_zone)) => of_zone.push((name, live)),
            None => zones.push((zone, vec![(name, live)])),
        }
    }
    zones
}

fn time(unix_ms: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(unix_ms).unwrap_or(jiff::Timestamp::MAX)
}

/// What keys used that are deleted by now is only in the tenant's sum.
fn load(
    live: &TenantLimiter,
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
