//! Thresholds of quotas, as the control plane hears of them.

use super::*;

/// Scope, limit and percentage of what was told since the last time, with what is used of how much.
fn told(world: &World) -> Vec<(bool, &'static str, u8, u64, u64)> {
    let alerts = world.alerting.take().alerts;
    let mut told: Vec<_> = alerts
        .iter()
        .map(|one| (one.key_id.is_some(), one.limit.name(), one.percent, one.used, one.quota))
        .collect();
    told.sort_unstable();
    told
}

fn spend(world: &World, tokens: u64) {
    world.admit(1, tokens).expect("there is room").settle(tokens, cost(tokens), world.now);
}

#[test]
fn each_threshold_is_told_once_a_window_of_key_and_tenant() {
    let key = Limits { daily_tokens: Some(1_000), ..Limits::default() };
    let tenant = Limits { monthly_requests: Some(5), ..Limits::default() };
    let mut world = World::new(key, tenant);
    spend(&world, 799);
    assert_eq!(told(&world), []);
    spend(&world, 1);
    assert_eq!(told(&world), [(true, "key-daily-tokens", 80, 800, 1_000)]);
    spend(&world, 100);
    assert_eq!(told(&world), [], "it was told");
    spend(&world, 100);
    let all = (true, "key-daily-tokens", 100, 1_000, 1_000);
    assert_eq!(told(&world), [(false, "tenant-monthly-requests", 80, 4, 5), all]);
    world.jump("2026-05-11T12:00Z");
    spend(&world, 1_000);
    let window = Windows::at(&TimeZone::UTC, world.now.unix_ms);
    let alerts = world.alerting.take().alerts;
    assert_eq!(alerts.len(), 2, "a new day's quota, and the whole of the month's: {alerts:?}");
    for alert in &alerts {
        let is_monthly = alert.limit.kind.is_monthly();
        assert_eq!(alert.window, if is_monthly { window.month } else { window.day });
        assert_eq!(
            (alert.percent, alert.key_id.as_deref()),
            (100, (!is_monthly).then_some("key_a"))
        );
    }
}

/// A quota that is used up lets no request through that could tell it.
#[test]
fn a_quota_that_is_lowered_below_what_is_used_is_told_at_once() {
    let none = Limits::default;
    let key = Limits { daily_tokens: Some(1_000), ..none() };
    let mut world = World::new(key, none());
    // Before anybody has used something, however small it is.
    let set_key = |world: &World, tokens| {
        let limits = Limits { daily_tokens: Some(tokens), ..none() };
        world.live.set_key_limits(world.slot, &limits.into(), world.now);
    };
    let set_tenant = |world: &World, requests| {
        let limits = Limits { monthly_requests: Some(requests), ..none() };
        world.live.set_tenant_limits(&limits, world.now);
    };
    set_key(&world, 0);
    set_tenant(&world, 0);
    assert_eq!(told(&world), []);
    set_key(&world, 1_000);
    set_tenant(&world, 9);
    spend(&world, 500);
    assert_eq!(told(&world), []);
    set_key(&world, 600);
    set_tenant(&world, 1);
    let expected =
        [(false, "tenant-monthly-requests", 100, 1, 1), (true, "key-daily-tokens", 80, 500, 600)];
    assert_eq!(told(&world), expected);
    let over = [("key-daily-tokens", 1), ("tenant-monthly-requests", 1)];
    assert_eq!(super::over(&world.alerting, world.now), over);
    // The same once more is nothing new, a lower one is.
    set_key(&world, 600);
    set_tenant(&world, 1);
    assert_eq!(told(&world), []);
    set_key(&world, 400);
    assert_eq!(told(&world), [(true, "key-daily-tokens", 100, 500, 400)]);
    assert_eq!(super::over(&world.alerting, world.now), over);
    // Raised again, it is not told any more; and what was used yesterday is over.
    set_key(&world, 9_000);
    assert_eq!(super::over(&world.alerting, world.now), over[1..]);
    world.jump("2026-05-11T12:00Z");
    set_key(&world, 400);
    set_tenant(&world, 9);
    assert_eq!((told(&world), super::over(&world.alerting, world.now)), (vec![], vec![]));
}

#[test]
fn nobody_hears_of_a_tenant_that_was_deleted_until_its_name_comes_back() {
    let key = Limits { daily_tokens: Some(1_000), ..Limits::default() };
    let world = World::new(key, Limits::default());
    let over = || super::over(&world.alerting, world.now);
    spend(&world, 800);
    assert_eq!(over(), [("key-daily-tokens", 1)]);
    assert_eq!(told(&world).len(), 1);
    world.live.mute_alerts();
    assert_eq!(over(), []);
    // Requests on their way go on, and cross what they cross.
    spend(&world, 200);
    assert_eq!((told(&world), over()), (vec![], vec![]));
    world.live.set_tenant_limits(&Limits::default(), world.now);
    assert_eq!(over(), [("key-daily-tokens", 1)], "what was told is counted again");
}
