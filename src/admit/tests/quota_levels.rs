//! How full quotas are, as an operator asks for them.

use super::*;

#[test]
fn a_quota_shows_what_is_used_and_what_is_reserved() {
    let of_key =
        Limits { daily_tokens: Some(100), monthly_nano_usd: Some(900), ..Limits::default() };
    let of_tenant = Limits { daily_requests: Some(7), ..Limits::default() };
    let mut world = World::new(of_key, of_tenant);
    let levels = |world: &World, slot| {
        let levels = world.live.quota_levels(slot, world.now).into_iter();
        levels.map(|one| (one.name, one.used, one.reserved, one.limit)).collect::<Vec<_>>()
    };
    let key = Some(world.slot);
    let idle = [("key-daily-tokens", 0, 0, 100), ("key-monthly-usd", 0, 0, 900)];
    assert_eq!(levels(&world, key), idle);
    assert_eq!(world.live.slots(), (1, 0), "nothing is opened for whoever asks");
    let permit = world.admit(10, 30).unwrap();
    let running = [("key-daily-tokens", 0, 30, 100), ("key-monthly-usd", 0, 90, 900)];
    assert_eq!(levels(&world, key), running);
    assert_eq!(levels(&world, None), [("tenant-daily-requests", 1, 0, 7)]);
    permit.settle(20, 60, world.now);
    let settled = [("key-daily-tokens", 20, 0, 100), ("key-monthly-usd", 60, 0, 900)];
    assert_eq!(levels(&world, key), settled);
    let ends = world.live.quota_levels(key, world.now).into_iter().map(|one| one.resets_at_ms);
    assert_eq!(ends.collect::<Vec<_>>(), [ms("2026-05-11T00:00Z"), ms("2026-06-01T00:00Z")]);
    // The day has ended, the month has not.
    world.jump("2026-05-11T00:00Z");
    let next_day = [("key-daily-tokens", 0, 0, 100), ("key-monthly-usd", 60, 0, 900)];
    assert_eq!(levels(&world, key), next_day);
}
