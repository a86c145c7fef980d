//! Admission as a whole: what each limit promises, and a long walk beside a plain model.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use jiff::tz::TimeZone;

use super::*;
use crate::clock::{Now, TrustedClock};
use crate::tenancy::Limits;

mod model;
mod alerts;
mod pending_permit;
mod quota_levels;

const MS: u64 = 1_000_000;

/// A tenant with one key at an instant.
struct World {
    alerting: Arc<Alerting>,
    live: Arc<TenantLimiter>,
    slot: KeySlot,
    now: Now,
}

impl World {
    fn new(key: Limits, tenant: Limits) -> Self {
        Self::at(TimeZone::UTC, "2026-05-10T12:00Z", key, tenant)
    }

    fn at(time_zone: TimeZone, time: &str, key: Limits, tenant: Limits) -> Self {
        let now = Now { unix_ms: ms(time), mono_ns: 5 };
        let settings = settings(None, time_zone, now);
        let alerting = settings.alerting.clone();
        let live = TenantLimiter::new("acme".into(), settings, now);
        live.set_tenant_limits(&tenant, now);
        let slot = live.key_slot("key_a");
        live.set_key_limits(slot, &key.into(), now);
        Self { alerting, live, slot, now }
    }

    fn admit(&self, prompt_tokens: u64, reserve_tokens: u64) -> Result<Permit, Denied> {
        self.live.admit(self.slot, ask(prompt_tokens, reserve_tokens), self.now)
    }

    /// The name of the limit that refuses.
    fn refused(&self, prompt_tokens: u64, reserve_tokens: u64) -> &'static str {
        self.admit(prompt_tokens, reserve_tokens).expect_err("no room was left").limit_name()
    }

    fn pass_ns(&mut self, ns: u64) {
        self.now.mono_ns += ns;
        self.now.unix_ms += i64::try_from(ns / MS).expect("a test's own time");
    }

    fn jump(&mut self, time: &str) {
        self.now.unix_ms = ms(time);
    }

    fn used(&self) -> (Used, Used) {
        let balances = self.live.balances(self.slot, self.now);
        let tenant = self.live.tenant_balances(self.now);
        assert_eq!(balances, tenant, "the only key is all of its tenant");
        (balances.daily, balances.monthly)
    }
}

/// What so many tokens cost in these tests, in billionths of a dollar.
fn cost(tokens: u64) -> u64 {
    3 * tokens
}

fn ask(prompt_tokens: u64, reserve_tokens: u64) -> Demand {
    let reserve_nano_usd = cost(reserve_tokens);
    Demand { prompt_tokens, reserve_tokens, reserve_nano_usd, clamp: None }
}

fn used(requests: u64, tokens: u64) -> Used {
    Used { requests, tokens, nano_usd: cost(tokens) }
}

fn totals(in_flight: u64, tokens: u64) -> Totals {
    Totals { in_flight, arriving: 0, reserved: Amount { tokens, nano_usd: cost(tokens) } }
}

fn settings(rpm_burst: Option<u32>, time_zone: TimeZone, now: Now) -> Settings {
    let (alert_percent, alerting) = ([80, 100].into(), Arc::default());
    let trusted_clock = TrustedClock::new(now.unix_ms, now).into();
    Settings { rpm_burst, time_zone, alert_percent, alerting, trusted_clock }
}

fn ms(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().expect("a test's own time").as_millisecond()
}

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).expect("a zone of the time zone database")
}

/// Each limit alone, with room for `room` requests of 10 tokens.
fn each_limit(room: u32) -> Vec<(&'static str, Limits)> {
    let (requests, tokens) = (u64::from(room), 10 * u64::from(room));
    let none = Limits::default;
    vec![
        ("requests", Limits { rpm: Some(room), ..none() }),
        ("tokens", Limits { tpm: Some(tokens), ..none() }),
        ("concurrency", Limits { concurrency: Some(room), ..none() }),
        ("daily-tokens", Limits { daily_tokens: Some(tokens), ..none() }),
        ("monthly-tokens", Limits { monthly_tokens: Some(tokens), ..none() }),
        ("daily-requests", Limits { daily_requests: Some(requests), ..none() }),
        ("monthly-requests", Limits { monthly_requests: Some(requests), ..none() }),
        ("daily-usd", Limits { daily_nano_usd: Some(cost(tokens)), ..none() }),
        ("monthly-usd", Limits { monthly_nano_usd: Some(cost(tokens)), ..none() }),
    ]
}

#[test]
fn of_a_thousand_at_once_exactly_fifty_get_in() {
    for (name, limits) in each_limit(50) {
        for of_tenant in [false, true] {
            let (key, tenant) = match of_tenant {
                true => (Limits::default(), limits.clone()),
                false => (limits.clone(), Limits::default()),
            };
            let world = World::new(key, tenant);
            let other = world.live.key_slot("key_b");
            let gate = Barrier::new(8);
            let permits: Vec<Permit> = std::thread::scope(|scope| {
                let run = |thread: usize| {
                    let (world, gate) = (&world, &gate);
                    // A tenant's limit holds over all its keys together.
                    let slot = if of_tenant && thread % 2 == 1 { other } else { world.slot };
                    move || {
                        gate.wait();
                        let ask = ask(1, 10);
                        let all = (0..125).map(|_| world.live.admit(slot, ask, world.now));
                        all.filter_map(Result::ok).collect::<Vec<_>>()
                    }
                };
                let threads: Vec<_> = (0..8).map(|thread| scope.spawn(run(thread))).collect();
                threads.into_iter().flat_map(|one| one.join().expect("no panic")).collect()
            });
            assert_eq!(permits.len(), 50, "{name}, of the tenant: {of_tenant}");
            let expected = format!("{}-{name}", if of_tenant { "tenant" } else { "key" });
            assert_eq!(world.refused(1, 10), expected);
            assert_eq!(world.live.totals(), totals(50, 500));
            permits.into_iter().for_each(|permit| permit.settle(10, cost(10), world.now));
            assert_eq!(world.live.totals(), Totals::default(), "{name}");
        }
    }
}

#[test]
fn a_refusal_spends_nothing() {
    for (name, refusing) in each_limit(2) {
        // The key can afford anything; the tenant, asked last, refuses.
        let key = Limits { rpm: Some(100), tpm: Some(5000), ..Limits::default() };
        let mut world = World::new(key, refusing);
        let permits = [world.admit(1, 10).unwrap(), world.admit(1, 10).unwrap()];
        world.pass_ns(MS);
        let before = (world.live.totals(), world.used());
        let rate_limits = world.live.rate_limits(world.slot, world.now);
        for _ in 0..200 {
            let denied = world.admit(1, 10).unwrap_err();
            assert_eq!(denied.limit_name(), format!("tenant-{name}"));
            assert_eq!(denied.rate_limits(), rate_limits);
        }
        assert_eq!((world.live.totals(), world.used()), before, "{name}");
        assert_eq!(world.live.rate_limits(world.slot, world.now), rate_limits, "{name}");
        drop(permits);
    }
}

#[test]
fn every_end_of_a_request_is_booked_once() {
    let limits = Limits { rpm: Some(10), tpm: Some(1000), ..Limits::default() };
    // How it ends, then requests and tokens booked, and what is left of both rates.
    type End = fn(Permit, Now);
    let cases: [(&str, End, u64, u64, u64, u64); 5] = [
        ("used less", |permit, now| permit.settle(30, cost(30), now), 1, 30, 9, 970),
        ("used all", |permit, now| permit.settle(400, cost(400), now), 1, 400, 9, 600),
        ("used more", |permit, now| permit.settle(700, cost(700), now), 1, 700, 9, 300),
        ("never sent", |permit, now| permit.revoke(now), 0, 0, 10, 1000),
        ("dropped", |permit, _| drop(permit), 1, 400, 9, 600),
    ];
    for (name, end, requests, tokens, requests_left, tokens_left) in cases {
        let world = World::new(limits.clone(), Limits::default());
        let permit = world.admit(100, 400).unwrap();
        let at_admission = permit.rate_limits();
        assert_eq!(at_admission.requests.map(|level| level.remaining), Some(9));
        assert_eq!(at_admission.tokens.map(|level| level.remaining), Some(600));
        assert_eq!(at_admission.tokens.map(|level| level.reset), Some(Duration::from_secs(24)));
        assert_eq!(world.live.totals(), totals(1, 400));
        end(permit, world.now);
        assert_eq!(world.live.totals(), Totals::default(), "{name}");
        let booked = used(requests, tokens);
        assert_eq!(world.used(), (booked, booked), "{name}");
        let rate_limits = world.live.rate_limits(world.slot, world.now);
        assert_eq!(rate_limits.requests.unwrap().remaining, requests_left, "{name}");
        assert_eq!(rate_limits.tokens.unwrap().remaining, tokens_left, "{name}");
    }
}

#[test]
fn what_can_never_fit_is_too_large() {
    let none = Limits::default;
    // Key and tenant, prompt and reservation, then the limit named, its size and what is asked.
    let cases = [
        (Limits { tpm: Some(99), ..none() }, none(), 100, 200, "key-tokens", 99, 100),
        (none(), Limits { tpm: Some(99), ..none() }, 100, 200, "tenant-tokens", 99, 100),
        (
            Limits { daily_tokens: Some(199), ..none() },
            none(),
            1,
            200,
            "key-daily-tokens",
            199,
            200,
        ),
        (
            Limits { monthly_tokens: Some(80), ..none() },
            Limits { daily_tokens: Some(70), ..none() },
            100,
            200,
            "tenant-daily-tokens",
            70,
            200,
        ),
        (Limits { rpm: Some(0), ..none() }, none(), 1, 1, "key-requests", 0, 1),
        (Limits { concurrency: Some(0), ..none() }, none(), 1, 1, "key-concurrency", 0, 1),
        (
            Limits { monthly_requests: Some(0), ..none() },
            none(),
            1,
            1,
            "key-monthly-requests",
            0,
            1,
        ),
        (Limits { tpm: Some(0), ..none() }, none(), 0, 0, "key-tokens", 0, 1),
    ];
    for (key, tenant, prompt, reserve, name, size, most) in cases {
        let world = World::new(key, tenant);
        match world.admit(prompt, reserve).unwrap_err() {
            Denied::TooLarge { limit, allowed, asked, .. } => {
                assert_eq!((limit.name(), allowed, asked), (name, size, most));
            }
            other => panic!("{name}: {other}"),
        }
    }
    // An answer that may be larger than the whole rate reserves the whole rate.
    let world = World::new(Limits { tpm: Some(100), ..none() }, none());
    let permit = world.admit(100, 5000).expect("the prompt fits");
    assert_eq!(permit.rate_limits().tokens.unwrap().remaining, 0);
    permit.settle(150, cost(150), world.now);
    let rate_limits = world.live.rate_limits(world.slot, world.now).tokens.unwrap();
    assert_eq!((rate_limits.remaining, rate_limits.reset), (0, Duration::from_secs(90)));
}

#[test]
fn the_refusal_that_helps_most_is_named() {
    let limits = Limits {
        rpm: Some(1),
        tpm: Some(100),
        concurrency: Some(1),
        daily_requests: Some(2),
        monthly_requests: Some(2),
        ..Limits::default()
    };
    let mut world = World::new(limits.clone(), limits);
    let first = world.admit(50, 100).unwrap();
    assert_eq!(world.refused(1, 50), "key-concurrency");
    first.settle(130, cost(130), world.now);
    // A request comes in 60 s; 100 tokens with 30 of debt take 78 s, 10 with that debt 24 s.
    for (reserve, name, wait) in [(100, "key-tokens", 78), (10, "key-requests", 60)] {
        let denied = world.admit(1, reserve).unwrap_err();
        assert_eq!((denied.limit_name(), denied.retry_after_s()), (name, Some(wait)));
    }
    world.pass_ns(60_000 * MS);
    world.admit(1, 10).unwrap().settle(10, cost(10), world.now);
    // The rates would refuse as well, but the month is used up, and opens after the day.
    match world.admit(1, 10).unwrap_err() {
        Denied::Quota { limit, resets_at_ms, .. } => {
            assert_eq!(limit.name(), "key-monthly-requests");
            assert_eq!(resets_at_ms, ms("2026-06-01T00:00Z"));
        }
        other => panic!("{other}"),
    }
}

#[test]
fn quotas_open_when_their_window_does() {
    let daily = || Limits { daily_tokens: Some(100), ..Limits::default() };
    let monthly = || Limits { monthly_tokens: Some(100), ..Limits::default() };
    // The zone, a time in the window, and the instant when the next one begins.
    let cases = [
        ("UTC", daily(), "2026-05-10T12:00Z", "2026-05-11T00:00Z"),
        ("Asia/Kolkata", daily(), "2026-05-10T12:00Z", "2026-05-10T18:30Z"),
        ("Europe/Berlin", daily(), "2026-03-29T12:00Z", "2026-03-29T22:00Z"),
        ("Europe/Berlin", daily(), "2026-10-24T22:30Z", "2026-10-25T23:00Z"),
        ("UTC", monthly(), "2028-02-01T00:00Z", "2028-03-01T00:00Z"),
        ("Europe/Berlin", monthly(), "2026-03-10T00:00Z", "2026-03-31T22:00Z"),
        ("Asia/Kolkata", monthly(), "2026-12-31T18:29Z", "2026-12-31T18:30Z"),
    ];
    for (name, limits, within, opens) in cases {
        let mut world = World::at(zone(name), within, limits, Limits::default());
        world.admit(1, 60).unwrap().settle(60, cost(60), world.now);
        world.now.unix_ms = ms(opens) - 1;
        match world.admit(1, 60).unwrap_err() {
            Denied::Quota { resets_at_ms, .. } => assert_eq!(resets_at_ms, ms(opens), "{within}"),
            other => panic!("{within}: {other}"),
        }
        world.now.unix_ms = ms(opens);
        world.admit(1, 60).expect("a new window has begun").settle(60, cost(60), world.now);
    }
}

#[test]
fn a_clock_set_back_reopens_no_quota() {
    let limits = Limits { daily_requests: Some(1), monthly_requests: Some(9), ..Limits::default() };
    let mut world = World::at(TimeZone::UTC, "2026-05-31T23:59Z", limits, Limits::default());
    world.admit(1, 1).unwrap().settle(1, cost(1), world.now);
    world.jump("2026-06-01T00:00Z");
    world.admit(1, 1).unwrap().settle(1, cost(1), world.now);
    world.jump("2026-05-31T12:00Z");
    assert_eq!(world.refused(1, 1), "key-daily-requests");
    world.jump("2026-06-01T23:59Z");
    assert_eq!(world.refused(1, 1), "key-daily-requests");
    let one = used(1, 1);
    assert_eq!(world.used(), (one, one));
}

#[test]
fn a_permit_belongs_to_the_window_of_its_start() {
    let limits = Limits { daily_tokens: Some(100), ..Limits::default() };
    let mut world = World::at(TimeZone::UTC, "2026-05-10T23:59Z", limits, Limits::default());
    let old =
        [world.admit(1, 30).unwrap(), world.admit(1, 30).unwrap(), world.admit(1, 40).unwrap()];
    world.jump("2026-05-11T00:00Z");
    let new = world.admit(1, 100).expect("the new day owes nothing to the old one");
    assert_eq!(world.live.totals(), totals(4, 200));
    let [settled, revoked, dropped] = old;
    settled.settle(80, cost(80), world.now);
    revoked.revoke(world.now);
    drop(dropped);
    let (daily, monthly) = world.used();
    assert_eq!(daily, used(1, 0));
    assert_eq!(monthly, used(3, 120));
    assert_eq!(world.refused(1, 1), "key-daily-tokens");
    new.settle(99, cost(99), world.now);
    world.admit(1, 1).unwrap().settle(1, cost(1), world.now);
    assert_eq!(world.live.totals(), Totals::default());
}

#[test]
fn balances_of_the_ledger_count_from_the_start() {
    let limits = Limits { daily_tokens: Some(100), monthly_requests: Some(9), ..Limits::default() };
    let mut world = World::new(limits.clone(), limits);
    let windows = Windows::at(&TimeZone::UTC, world.now.unix_ms);
    let some = Balances { windows, daily: used(2, 60), monthly: used(7, 900) };
    world.live.load_balances(world.slot, &some);
    world.live.load_tenant_balances(&Balances { daily: used(3, 95), ..some });
    assert_eq!(world.refused(1, 10), "tenant-daily-tokens");
    assert_eq!(world.refused(1, 41), "key-daily-tokens");
    world.admit(1, 5).unwrap().settle(5, cost(5), world.now);
    world.jump("2026-05-11T12:00Z");
    world.admit(1, 5).unwrap().settle(5, cost(5), world.now);
    assert_eq!(world.refused(1, 5), "key-monthly-requests");
    // What was true yesterday is not loaded into today.
    world.live.load_balances(world.slot, &some);
    assert_eq!(world.live.balances(world.slot, world.now).daily, used(1, 5));
}

#[test]
fn limits_change_under_requests_in_flight() {
    let world = World::new(Limits::default(), Limits::default());
    let set = |limits: Limits| world.live.set_key_limits(world.slot, &limits.into(), world.now);
    let unlimited = world.admit(10, 500).unwrap();
    assert_eq!(unlimited.rate_limits(), RateLimits::default());
    set(Limits { rpm: Some(5), tpm: Some(100), concurrency: Some(1), ..Limits::default() });
    assert_eq!(world.refused(1, 1), "key-concurrency");
    unlimited.settle(400, cost(400), world.now);
    let limited = world.admit(1, 100).unwrap();
    // Lifted and set again: the old reservation has nothing to give to the new bucket.
    set(Limits::default());
    set(Limits { rpm: Some(5), tpm: Some(100), ..Limits::default() });
    world.admit(1, 60).unwrap().settle(60, cost(60), world.now);
    limited.revoke(world.now);
    let rate_limits = world.live.rate_limits(world.slot, world.now);
    assert_eq!(rate_limits.tokens.map(|level| level.remaining), Some(40));
    assert_eq!(rate_limits.requests.map(|level| level.remaining), Some(4));
    assert_eq!(world.live.totals(), Totals::default());
    // Balances were kept all along, so a quota that is set now counts them.
    set(Limits { daily_tokens: Some(460), ..Limits::default() });
    assert_eq!(world.refused(1, 1), "key-daily-tokens");
}

/// Two tenants that share what they tell, each with a key that may use 100 tokens a day.
fn alerting_pair() -> (Arc<Alerting>, [SlotGuard; 2], Now) {
    let now = Now { unix_ms: ms("2026-05-10T12:00Z"), mono_ns: 5 };
    let settings = settings(None, TimeZone::UTC, now);
    let alerting = settings.alerting.clone();
    let limits = Arc::new(Limits { daily_tokens: Some(100), ..Limits::default() });
    let tenants = ["acme", "beta"].map(|name| {
        let live = TenantLimiter::new(name.into(), settings.clone(), now);
        SlotGuard::new(&live, &format!("key_of_{name}").into(), &limits)
    });
    (alerting, tenants, now)
}

fn spend(slot: &SlotGuard, tokens: u64, now: Now) {
    slot.admit(ask(1, tokens), now).expect("there is room").settle(tokens, 0, now);
}

fn over(alerting: &Alerting, now: Now) -> Vec<(&'static str, u64)> {
    let over = alerting.over(now.unix_ms).filter(|(_, count)| *count > 0);
    over.map(|(limit, count)| (limit.name(), count)).collect()
}

#[test]
fn all_tenants_tell_in_one_list_whose_quota_it_is() {
    let (alerting, [acme, beta], now) = alerting_pair();
    let none = Limits { monthly_requests: Some(1), ..Limits::default() };
    beta.live().set_tenant_limits(&none, now);
    spend(&acme, 80, now);
    spend(&beta, 79, now);
    let Waiting { alerts, dropped } = alerting.take();
    let told = |alert: &Alert| {
        (alert.tenant.to_string(), alert.key_id.as_deref().map(str::to_owned), alert.percent)
    };
    let expected =
        [("acme".to_owned(), Some("key_of_acme".to_owned()), 80), ("beta".to_owned(), None, 100)];
    assert_eq!(alerts.iter().map(told).collect::<Vec<_>>(), expected);
    assert_eq!((dropped, alerting.take().alerts.len()), (0, 0));
    assert_eq!(over(&alerting, now), [("key-daily-tokens", 1), ("tenant-monthly-requests", 1)]);
}

#[test]
fn what_finds_no_place_in_the_list_is_counted() {
    let (alerting, _, now) = alerting_pair();
    let window = Windows::at(&TimeZone::UTC, now.unix_ms).day;
    let limit = Limit { scope: Scope::Key, kind: Kind::DailyTokens };
    for _ in 0..alert::ALERTS_MAX + 3 {
        let tenant = "acme".into();
        alerting.push(Alert {
            limit,
            tenant,
            key_id: None,
            percent: 80,
            used: 8,
            quota: 10,
            window,
        });
    }
    let Waiting { alerts, dropped } = alerting.take();
    assert_eq!((alerts.len(), dropped), (alert::ALERTS_MAX, 3));
    assert_eq!(alerting.take().dropped, 0);
}

#[test]
fn who_is_above_a_threshold_is_until_its_window_ends() {
    let (alerting, [acme, beta], mut now) = alerting_pair();
    let live = beta.live();
    spend(&acme, 90, now);
    spend(&beta, 90, now);
    assert_eq!(over(&alerting, now), [("key-daily-tokens", 2)]);
    // A raised quota is not as used up, and a deleted key has none.
    let more = Arc::new(Limits { daily_tokens: Some(1_000), ..Limits::default() });
    live.set_key_limits(beta.slot(), &more, now);
    assert_eq!(over(&alerting, now), [("key-daily-tokens", 1)]);
    spend(&beta, 800, now);
    assert_eq!(over(&alerting, now), [("key-daily-tokens", 2)]);
    let of_acme = acme.live().clone();
    drop(acme);
    assert_eq!(over(&alerting, now), [("key-daily-tokens", 1)]);
    // Another zone has another day; what was used counts in it. Here nobody asks in between.
    let zone = zone("Asia/Kolkata");
    let (old, new) = (live.windows(now), Windows::at(&zone, now.unix_ms));
    assert!(live.move_windows(zone, old, new, |_| Rebuilt::default(), || ()));
    now.unix_ms = new.day.end_ms - 1;
    assert_eq!(over(&alerting, now), [("key-daily-tokens", 1)]);
    drop(of_acme);
    now.unix_ms += 1;
    assert_eq!(over(&alerting, now), []);
    // With an old clock the day comes back that nobody has left, and none that somebody has.
    now.unix_ms -= 1;
    assert_eq!(over(&alerting, now), [("key-daily-tokens", 1)]);
    now.unix_ms += 1;
    live.windows(now);
    now.unix_ms -= 1;
    assert_eq!(over(&alerting, now), []);
}

#[test]
fn after_a_clock_that_was_ahead_only_the_later_window_counts() {
    let (alerting, [acme, _], mut now) = alerting_pair();
    spend(&acme, 90, now);
    assert_eq!(over(&alerting, now), [("key-daily-tokens", 1)]);
    let today_ms = now.unix_ms;
    now.unix_ms = ms("2026-05-11T12:00Z");
    spend(&acme, 95, now);
    // Nobody has looked while the clock was ahead.
    now.unix_ms = today_ms;
    assert_eq!(over(&alerting, now), [("key-daily-tokens", 1)]);
}

#[test]
fn a_clock_that_was_ahead_by_years_takes_nobody_off_the_gauge() {
    let (alerting, [acme, idle], mut now) = alerting_pair();
    spend(&acme, 90, now);
    spend(&idle, 90, now);
    assert_eq!(over(&alerting, now), [("key-daily-tokens", 2)]);
    let today_ms = now.unix_ms;
    now.unix_ms = ms("2031-05-10T12:00Z");
    spend(&acme, 95, now);
    assert_eq!(over(&alerting, now), [("key-daily-tokens", 1)]);
    now.unix_ms = today_ms;
    let old = acme.live().windows(now);
    let new = Windows::at(&TimeZone::UTC, today_ms);
    let rebuilt = Rebuilt {
        old_daily: used(1, 95),
        old_monthly: used(1, 95),
        daily: used(1, 90),
        monthly: used(1, 90),
    };
    assert!(acme.live().move_windows(TimeZone::UTC, old, new, move |_| rebuilt, || ()));
    assert_eq!(over(&alerting, now), [("key-daily-tokens", 2)]);
    now.unix_ms = new.day.end_ms;
    assert_eq!(over(&alerting, now), []);
}

#[test]
fn a_key_that_has_not_asked_has_used_what_the_ledger_says_of_another_zone() {
    let limits = Arc::new(Limits { daily_tokens: Some(100), ..Limits::default() });
    let world = World::new(Limits::default(), Limits::default());
    let idle = SlotGuard::new(&world.live, &"key_idle".into(), &limits);
    let zone = zone("Pacific/Kiritimati");
    let (old, new) = (world.live.windows(world.now), Windows::at(&zone, world.now.unix_ms));
    let before = Rebuilt { daily: used(1, 95), monthly: used(1, 95), ..Rebuilt::default() };
    let ledger = move |key_id: Option<&str>| match key_id {
        Some("key_idle") | None => before,
        Some(_) => Rebuilt::default(),
    };
    assert!(world.live.move_windows(zone, old, new, ledger, || ()));
    assert_eq!(world.live.slots(), (2, 1));
    let denied = idle.admit(ask(1, 10), world.now).expect_err("5 are left");
    assert_eq!(denied.limit_name(), "key-daily-tokens");
}

/// Nobody waits for all of them, and none of them has more than its quota on the way.
#[test]
fn keys_follow_to_other_windows_some_at_a_time_and_first_whoever_asks() {
    let limits = Arc::new(Limits { daily_requests: Some(3), ..Limits::default() });
    let world = World::new(Limits::default(), Limits::default());
    let World { live, alerting, now, .. } = &world;
    let take = |number| SlotGuard::new(live, &format!("key_{number}").into(), &limits);
    let mut keys: Vec<_> = (0..200).map(take).collect();
    let admit =
        |key: &SlotGuard| key.admit(ask(1, 1), *now).map(|permit| permit.settle(1, 0, *now));
    keys.iter().for_each(|key| admit(key).expect("the first of three"));
    let running = keys[150].admit(ask(1, 1), *now).expect("the second of three");
    let _ = alerting.take();
    // Each has used one that the ledger knows, and in the new day another one before.
    let zone = zone("Pacific/Kiritimati");
    let (old, new) = (live.windows(*now), Windows::at(&zone, now.unix_ms));
    let of = |count| Rebuilt {
        old_daily: used(count, count),
        old_monthly: used(count, count),
        daily: used(2 * count, 2 * count),
        monthly: used(2 * count, 2 * count),
    };
    let ledger = move |key_id: Option<&str>| match key_id {
        None => of(200),
        Some("key_a") => Rebuilt::default(),
        Some(_) => of(1),
    };
    let (mut turns, mut running) = (0, Some(running));
    let turn = || {
        turns += 1;
        // First and last in the order of the walk: all have one left, whoever has followed.
        for at in [turns, 199 - turns] {
            admit(&keys[at]).expect("the third of three");
            assert_eq!(admit(&keys[at]).unwrap_err().limit_name(), "key-daily-requests", "{at}");
        }
        // What ends on the way, or goes, does so in the new windows.
        if let Some(permit) = running.take() {
            permit.settle(1, 0, *now);
            assert!(admit(&keys[150]).is_err(), "two in the ledger, and one in flight");
            drop(keys.pop());
        }
    };
    assert!(live.move_windows(zone, old, new, ledger, turn));
    assert_eq!((turns, keys.len()), (3, 199));
    for (at, key) in keys.iter().enumerate() {
        let has_asked = (1..=3).contains(&at) || (196..=198).contains(&at) || at == 150;
        assert_eq!(admit(key).is_err(), has_asked, "{at}");
        assert!(admit(key).is_err(), "{at}");
    }
    assert_eq!(over(alerting, *now), [("key-daily-requests", 199)]);
}

#[test]
fn an_account_is_opened_by_the_first_who_asks() {
    let world = World::new(Limits::default(), Limits::default());
    let limits = Arc::new(Limits { rpm: Some(7), ..Limits::default() });
    let idle: Vec<_> = (0..1_000)
        .map(|number| SlotGuard::new(&world.live, &format!("key_{number}").into(), &limits))
        .collect();
    assert_eq!(world.live.slots(), (1_001, 0));
    let limited = idle[3].rate_limits(world.now).requests.expect("a rate");
    assert_eq!((limited.limit, limited.remaining), (7, 7));
    let fewer = Arc::new(Limits { rpm: Some(5), ..Limits::default() });
    world.live.set_key_limits(idle[4].slot(), &fewer, world.now);
    let permit = idle[4].admit(ask(1, 1), world.now).expect("there is room");
    assert_eq!(permit.rate_limits().requests.map(|level| level.remaining), Some(4));
    assert_eq!(world.live.slots(), (1_001, 2));
    drop(idle);
    assert_eq!(world.live.slots(), (2, 1), "one is in flight");
    permit.settle(1, 0, world.now);
    assert_eq!(world.live.slots(), (1, 0));
    assert_eq!(world.live.totals(), Totals::default());
}

#[test]
fn windows_of_a_clock_that_was_ahead_date_nothing_and_are_left_with_what_they_count() {
    let five = Limits { daily_requests: Some(5), ..Limits::default() };
    let mut world = World::new(five, Limits::default());
    let today = world.now.unix_ms;
    let before = world.admit(1, 10).expect("it has room");
    before.settle(10, 0, world.now);
    world.jump("2031-05-10T12:00Z");
    let ahead = world.admit(1, 10).expect("another day");
    assert_eq!(ahead.at_ms(), world.now.unix_ms);
    world.now.unix_ms = today;
    let [settled, running, undone] = [0; 3].map(|_| world.admit(1, 10).expect("it has room"));
    assert_eq!(settled.at_ms(), today, "the clock dates it, not the window");
    settled.settle(10, 0, world.now);
    ahead.settle(10, 0, world.now);
    // Of today the ledger has one request from before, and one of those since.
    let old = world.live.windows(world.now);
    assert_eq!(old.doubted_ms, Some(today));
    let new = Windows::at(&TimeZone::UTC, today);
    let used = |requests, tokens| Used { requests, tokens, nano_usd: 0 };
    let rebuilt = Rebuilt {
        old_daily: used(2, 20),
        old_monthly: used(2, 20),
        daily: used(2, 20),
        monthly: used(2, 20),
    };
    assert!(world.live.move_windows(TimeZone::UTC, old, new, move |_| rebuilt, || ()));
    // One before, and three since: the one of 2031 is in the ledger, too, and not of today.
    assert_eq!(world.used(), (used(4, 20), used(4, 20)));
    assert_eq!(world.live.windows(world.now), OpenWindows { windows: new, doubted_ms: None });
    undone.revoke(world.now);
    running.settle(30, 0, world.now);
    assert_eq!(world.used(), (used(3, 50), used(3, 50)));
    let _fourth = world.admit(1, 10).expect("it has room");
    let _fifth = world.admit(1, 10).expect("it has room");
    assert_eq!(world.refused(1, 10), "key-daily-requests");
}

#[test]
fn a_clock_that_falls_behind_dates_requests_by_what_has_passed() {
    let mut world = World::new(Limits::default(), Limits::default());
    let noon = world.now.unix_ms;
    world.jump("2026-01-01T00:00Z");
    world.pass_ns(1_000 * MS);
    assert_eq!(world.admit(1, 10).expect("no limits").at_ms(), noon + 1_000);
    world.jump("2026-05-11T12:00Z");
    let tomorrow = Windows::at(&TimeZone::UTC, world.now.unix_ms).day.start_ms;
    assert_eq!(world.admit(1, 10).expect("no limits").at_ms(), world.now.unix_ms);
    // The day that is open is not too far ahead to be believed.
    world.jump("2026-05-10T12:00Z");
    assert_eq!(world.admit(1, 10).expect("no limits").at_ms(), tomorrow);
    assert_eq!(world.live.windows(world.now).doubted_ms, None);
}

/// The ledger dates a request by this, so that memory and ledger count it in the same window.
#[test]
fn a_request_is_of_the_day_that_it_is_counted_in() {
    let mut world = World::new(Limits::default(), Limits::default());
    assert_eq!(world.admit(1, 1).expect("no limits").at_ms(), ms("2026-05-10T12:00Z"));
    // A clock that was set back: the day stays open, and time goes on in it.
    world.jump("2026-05-09T12:00Z");
    assert_eq!(world.admit(1, 1).expect("no limits").at_ms(), ms("2026-05-10T12:00Z"));
}
