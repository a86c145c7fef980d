//! Admission under a scheduler that tries out how threads interleave: permits that are made on one
//! thread and end on another, while limits and the time zone change.
#![cfg(feature = "shuttle")]

use std::sync::Arc;

use jiff::tz::TimeZone;
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::thread;

use super::{Demand, KeySlot, Permit, Rebuilt, Settings, TenantLimiter, Windows};
use crate::clock::{Now, TrustedClock};
use crate::tenancy::Limits;

const NOW: Now = Now { unix_ms: 1_780_470_861_000, mono_ns: 5 };
/// Room for so many requests of ten tokens.
const ROOM: u64 = 3;

fn tenant() -> (Arc<TenantLimiter>, [KeySlot; 2]) {
    let alert_percent = [80, 100].into();
    let (time_zone, trusted_clock) = (TimeZone::UTC, TrustedClock::new(NOW.unix_ms, NOW).into());
    let alerting = Arc::default();
    let settings = Settings { rpm_burst: None, time_zone, alert_percent, alerting, trusted_clock };
    let live = TenantLimiter::new("acme".into(), settings, NOW);
    let limits = Limits { daily_tokens: Some(10 * ROOM), ..Limits::default() };
    live.set_tenant_limits(&limits, NOW);
    let slots = ["key_a", "key_b"].map(|key_id| live.key_slot(key_id));
    (live, slots)
}

fn admit(live: &Arc<TenantLimiter>, slot: KeySlot) -> Option<Permit> {
    let ask = Demand { prompt_tokens: 1, reserve_tokens: 10, reserve_nano_usd: 7, clamp: None };
    live.admit(slot, ask, NOW).ok()
}

/// Wherever the threads pass each other: what is reserved and used never exceeds the quota, nothing is
/// outstanding in the end, and the balance is what was used.
fn quotas_hold() {
    let (live, slots) = tenant();
    let booked = Arc::new(AtomicU64::new(0));
    let threads = (0..4).map(|number| {
        let (live, booked, slot) = (live.clone(), booked.clone(), slots[number % 2]);
        thread::spawn(move || {
            for round in 0..2 {
                let Some(mut permit) = admit(&live, slot) else { continue };
                assert!(live.totals().reserved_tokens() <= 10 * ROOM);
                let more = if permit.extend(5, 3, NOW) { 5 } else { 0 };
                // It ends on another thread.
                let end = thread::spawn(move || match (number + round) % 3 {
                    0 => {
                        permit.settle(4, 2, NOW);
                        4
                    }
                    1 => {
                        permit.revoke(NOW);
                        0
                    }
                    _ => {
                        drop(permit);
                        10 + more
                    }
                });
                booked.fetch_add(end.join().expect("no panic"), Ordering::SeqCst);
            }
        })
    });
    let threads: Vec<_> = threads.collect();
    let limits = Limits { daily_tokens: Some(1_000), ..Limits::default() };
    live.set_key_limits(slots[0], &limits.into(), NOW);
    threads.into_iter().for_each(|one| one.join().expect("no panic"));
    assert_eq!((live.totals().in_flight, live.totals().reserved_tokens()), (0, 0));
    let used = live.tenant_balances(NOW).daily.tokens;
    assert_eq!(used, booked.load(Ordering::SeqCst));
    assert!(used <= 10 * ROOM, "{used}");
}

/// A zone that changes in the middle loses nothing that the ledger does not have.
fn a_zone_change_loses_nothing() {
    let (live, slots) = tenant();
    let threads = slots.map(|slot| {
        let live = live.clone();
        thread::spawn(move || {
            let permit = admit(&live, slot).expect("there is room");
            permit.settle(10, 7, NOW);
        })
    });
    let zone = TimeZone::fixed(jiff::tz::offset(2));
    let (old, new) = (live.windows(NOW), Windows::at(&zone, NOW.unix_ms));
    assert!(live.move_windows(zone, old, new, |_| Rebuilt::default(), || ()));
    threads.into_iter().for_each(|one| one.join().expect("no panic"));
    let used = live.tenant_balances(NOW).daily;
    assert_eq!((used.requests, used.tokens, used.nano_usd), (2, 20, 14));
    assert_eq!((live.totals().in_flight, live.totals().reserved_tokens()), (0, 0));
}

#[test]
fn however_threads_interleave() {
    for check in [quotas_hold, a_zone_change_loses_nothing] {
        shuttle::check_random(check, 5_000);
        shuttle::check_pct(check, 5_000, 3);
    }
}
