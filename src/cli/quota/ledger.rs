//! Quotas as the ledger has them: what was used in the day and the month that run, by the clock of this machine.

use std::collections::HashMap;

use jiff::tz::TimeZone;

use crate::admin::{Quota, Wanted};
use crate::admit::Windows;
use crate::config::Config;
use crate::store::{Balance, Store, StoreError};
use crate::tenancy::{Key, Limits, Tenant};

/// What was used in a window: requests, tokens and billionths of a dollar.
type Used = [u64; 3];

/// What one tenant has used in the windows of its zone.
struct Balances {
    windows: Windows,
    /// Of the day and of the month, by key.
    by_key: [HashMap<String, Used>; 2],
}

/// The quotas that are set; of a key its own and its tenant's.
pub(super) fn quotas(
    store: &Store,
    wanted: &Wanted,
    config: &Config,
    now_ms: i64,
) -> Result<Vec<Quota>, StoreError> {
    let mut keys = store.keys()?;
    keys.retain(|key| wanted.key.as_deref().is_none_or(|id| *id == *key.id));
    // Once for all tenants: there may be many of both.
    let mut keys_of: HashMap<&str, Vec<&Key>> = HashMap::new();
    for key in &keys {
        keys_of.entry(&*key.tenant).or_default().push(key);
    }
    let is_wanted = |name: &str| {
        wanted.tenant.as_deref().is_none_or(|tenant| tenant == name)
            && (wanted.key.is_none() || keys_of.contains_key(name))
    };
    let mut quotas = Vec::new();
    // Few zones, many tenants: the ledger is read once for each zone.
    for (zone, tenants) in by_zone(store.tenants()?, config) {
        let tenants: Vec<_> = tenants.iter().filter(|tenant| is_wanted(&tenant.name)).collect();
        let windows = Windows::at(&zone, now_ms);
        let spans = [windows.day, windows.month].map(|window| (window.start_ms, window.end_ms));
        let one = match *tenants {
            [] => continue,
            [one] => Some(&*one.name),
            _ => None,
        };
        let [mut day, mut month] = store.balances_of(one, spans)?.map(by_tenant);
        for tenant in tenants {
            let of = |all: &mut HashMap<_, _>| all.remove(&*tenant.name).unwrap_or_default();
            let balances = Balances { windows, by_key: [of(&mut day), of(&mut month)] };
            quotas.extend(balances.quotas(&tenant.name, None, &tenant.limits));
            for Key { id, limits, .. } in keys_of.get(&*tenant.name).into_iter().flatten() {
                quotas.extend(balances.quotas(&tenant.name, Some(id), limits));
            }
        }
    }
    Ok(quotas)
}

fn by_zone(tenants: Vec<Tenant>, config: &Config) -> Vec<(TimeZone, Vec<Tenant>)> {
    let mut zones: Vec<(TimeZone, Vec<Tenant>)> = Vec::new();
    for tenant in tenants {
        let own = tenant.time_zone.as_deref().and_then(|name| TimeZone::get(name).ok());
        let zone = own.unwrap_or_else(|| config.limits.time_zone.clone());
        match zones.iter_mut().find(|(known, _)| *known == zone) {
            Some((_, of_zone)) => of_zone.push(tenant),
            None => zones.push((zone, vec![tenant])),
        }
    }
    zones
}

fn by_tenant(balances: Vec<Balance>) -> HashMap<String, HashMap<String, Used>> {
    let mut all: HashMap<String, HashMap<String, Used>> = HashMap::new();
    for Balance { tenant, key_id, requests, total_tokens, nano_usd } in balances {
        all.entry(tenant).or_default().insert(key_id, [requests, total_tokens, nano_usd]);
    }
    all
}

impl Balances {
    fn quotas(&self, tenant: &str, key: Option<&str>, limits: &Limits) -> Vec<Quota> {
        let scope = if key.is_some() { "key" } else { "tenant" };
        let [day, month] = self.by_key.each_ref().map(|by_key| match key {
            Some(id) => by_key.get(id).copied().unwrap_or_default(),
            None => sum(by_key.values()),
        });
        let ends = [self.windows.day.end_ms, self.windows.month.end_ms];
        let all = [
            ("daily-requests", day[0], limits.daily_requests, ends[0]),
            ("daily-tokens", day[1], limits.daily_tokens, ends[0]),
            ("daily-usd", day[2], limits.daily_nano_usd, ends[0]),
            ("monthly-requests", month[0], limits.monthly_requests, ends[1]),
            ("monthly-tokens", month[1], limits.monthly_tokens, ends[1]),
            ("monthly-usd", month[2], limits.monthly_nano_usd, ends[1]),
        ];
        let quota = |(name, used, limit, resets_at_ms): (&str, u64, Option<u64>, i64)| {
            let (tenant, key) = (tenant.to_owned(), key.map(str::to_owned));
            let quota = format!("{scope}-{name}");
            Some(Quota { tenant, key, quota, used, reserved: None, limit: limit?, resets_at_ms })
        };
        all.into_iter().filter_map(quota).collect()
    }
}

fn sum<'a>(all: impl Iterator<Item = &'a Used>) -> Used {
    all.fold(Used::default(), |sum, one| std::array::from_fn(|at| sum[at].saturating_add(one[at])))
}
