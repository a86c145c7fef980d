//! Which days and months are open, by all that is known of the time: at the start, when a tenant's zone
//! changes, and when the clock turns out to have been wrong.

use std::collections::HashMap;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::admit::{OpenWindows, Rebuilt, TenantLimiter, Used, Windows};
use crate::clock::{Now, TrustedClock};
use crate::store::{Balance, Store, StoreError};

/// Where windows begin to be counted, in Unix milliseconds. A clock that is behind the newest row was
/// set back: what that row's day has used is still used when the clock is right again. A row that is too
/// far ahead of the time that is believed says nothing.
pub(super) fn latest_ms(
    store: &Store,
    trusted_clock: &TrustedClock,
    now: Now,
) -> Result<i64, StoreError> {
    let time_ms = trusted_clock.at(now);
    let newest_ms = store.newest_ms(trusted_clock.until(now))?;
    let latest_ms = newest_ms.map_or(time_ms, |newest_ms| newest_ms.max(time_ms));
    trusted_clock.opened(latest_ms);
    Ok(latest_ms)
}

/// How long requests have the lock for themselves while a tenant's keys follow to other windows, some at a
/// time: whoever waits for it is awake by then.
const TURN: Duration = Duration::from_micros(50);

/// A tenant whose windows are to move.
pub(super) struct WindowChange<'a> {
    pub(super) tenant: &'a str,
    pub(super) live: &'a TenantLimiter,
}

/// Moves windows of one zone to those that are believed, in a zone that may be another one, with what the
/// ledger knows of them and what memory knows beyond it. Asks for the time again and again.
pub(super) fn move_windows(
    mut tenants: Vec<WindowChange<'_>>,
    zone: &TimeZone,
    store: &Store,
    (now, trusted_clock): (impl Fn() -> Now, &TrustedClock),
) -> Result<(), StoreError> {
    while let Some(first) = tenants.first() {
        let now = now();
        // The ledger is read once for all whose windows are the same, as they nearly always are.
        let windows = first.live.windows(now).windows;
        let is_among = |moving: &mut WindowChange<'_>| moving.live.windows(now).windows == windows;
        let group: Vec<_> = tenants.extract_if(.., is_among).collect();
        // A day that has ended just now makes that it has to be done again.
        tenants.extend(move_group(group, windows, zone, store, (now, trusted_clock))?);
    }
    Ok(())
}

/// Returns those whose windows were not `old` any more.
fn move_group<'a>(
    group: Vec<WindowChange<'a>>,
    old: Windows,
    zone: &TimeZone,
    store: &Store,
    (now, trusted_clock): (Now, &TrustedClock),
) -> Result<Vec<WindowChange<'a>>, StoreError> {
    let mut latest_ms = latest_ms(store, trusted_clock, now)?;
    if old.day.start_ms <= trusted_clock.until(now) {
        // A clock that was set back leads to no day before the one that is open.
        latest_ms = latest_ms.max(old.day.start_ms);
    }
    let new = Windows::at(zone, latest_ms);
    let doubted: Vec<_> = group.iter().map(|one| one.live.windows(now).doubted_ms).collect();
    // Requests that memory counts in the old windows, and the ledger in the new ones.
    let doubted_from = doubted.iter().flatten().min().map_or(new.day.end_ms, |from_ms| *from_ms);
    let [day, month, new_day, new_month] =
        [old.day, old.month, new.day, new.month].map(|window| (window.start_ms, window.end_ms));
    let spans = [day, month, new_day, new_month, (doubted_from, new.day.end_ms)];
    let only = group.first().filter(|_| group.len() == 1).map(|one| one.tenant);
    let mut sums = store.balances_of(only, spans)?.map(by_tenant);
    let mut others = Vec::new();
    for (moving, doubted_ms) in group.into_iter().zip(doubted) {
        let keys = sums.each_mut().map(|all| all.remove(moving.tenant).unwrap_or_default());
        let whole = rebuilt(keys.each_ref().map(sum));
        let of = move |key_id: Option<&str>| match key_id {
            Some(key_id) => {
                let of_key = |keys: &OfKeys| keys.get(key_id).copied().unwrap_or_default();
                rebuilt(keys.each_ref().map(of_key))
            }
            None => whole,
        };
        let old = OpenWindows { windows: old, doubted_ms };
        let others_turn = || std::thread::park_timeout(TURN);
        if !moving.live.move_windows(zone.clone(), old, new, of, others_turn) {
            others.push(moving);
        }
    }
    Ok(others)
}

/// Of what the ledger has: the old day and month, the new ones, and what the old ones count besides.
fn rebuilt([old_daily, old_monthly, daily, monthly, doubted]: [Used; 5]) -> Rebuilt {
    let (old_daily, old_monthly) = (old_daily.plus(doubted), old_monthly.plus(doubted));
    Rebuilt { old_daily, old_monthly, daily, monthly }
}

/// The used amount of each key.
type OfKeys = HashMap<String, Used>;
/// The same by tenant.
pub(super) type ByTenant = HashMap<String, OfKeys>;

pub(super) fn by_tenant(balances: Vec<Balance>) -> ByTenant {
    let mut tenants = ByTenant::new();
    for balance in balances {
        let Balance { requests, total_tokens: tokens, nano_usd, .. } = balance;
        let used = Used { requests, tokens, nano_usd };
        tenants.entry(balance.tenant).or_default().insert(balance.key_id, used);
    }
    tenants
}

pub(super) fn sum(keys: &OfKeys) -> Used {
    keys.values().fold(Used::default(), |sum, used| sum.plus(*used))
}
