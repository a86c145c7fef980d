//! What a change costs among many keys, and that following changes leads where reading everything does.

use std::collections::BTreeMap;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use tempfile::TempDir;

use super::*;
use crate::admit::Demand;
use crate::clock::ManualClock;
use crate::config::Secrets;
use crate::identify::key_text::KeyText;
use crate::identify::{Bearing, Unidentified};
use crate::store::NewKey;
use crate::store::samples::{Sample, new_key, store_with};
use crate::telemetry::log::tests::logged;

const AT_MS: i64 = 1_780_470_861_000;
const MANY: u64 = 20_000;

struct World {
    store: Store,
    registry: Registry,
    clock: Clock,
    hand: Arc<ManualClock>,
    config: Config,
    _dir: TempDir,
}

impl World {
    fn new(samples: &[Sample<'_>], prepare: impl FnOnce(&mut Store)) -> Self {
        let (dir, mut store) = store_with(samples);
        prepare(&mut store);
        let config = Config::from_toml("", Secrets::Optional).expect("the defaults");
        let (clock, hand) = Clock::manual(AT_MS);
        let registry = start(&config, &store, &clock);
        Self { store, registry, clock, hand, config, _dir: dir }
    }

    /// What a start would make of the store.
    fn started(&self) -> Registry {
        start(&self.config, &self.store, &self.clock)
    }

    fn refresh(&self) -> Refreshed {
        self.registry.refresh(&self.store).expect("the store is whole")
    }

    /// Whom the current snapshot has for a key of [`new_key`].
    fn identity(&self, number: u64) -> Option<Arc<Identity>> {
        self.registry.state().keys.get(&*format!("key_{number}")).map(|key| key.identity.clone())
    }

    /// What everybody can see of the keys, by digest.
    fn seen(registry: &Registry) -> BTreeMap<Digest, String> {
        let state = registry.state();
        let digests = state.keys.values().flat_map(|key| key.digests.iter());
        let current = registry.current();
        let show = |digest: &Digest| {
            let entry = current.get(digest).expect("every digest that is known is found");
            let Identity { key_id, tenant, models, clamp, cut, slot, .. } = &*entry.identity;
            let rate_limits = slot.rate_limits(registry.clock.now());
            let (ends, revoked) = (entry.expires_at_ms, entry.is_revoked);
            let cost = entry.identity.has_cost_quota();
            format!(
                "{key_id} {tenant} {models:?} {clamp} {cut} {rate_limits:?} {ends:?} {revoked} {cost}"
            )
        };
        let seen: BTreeMap<_, _> = digests.map(|digest| (*digest, show(digest))).collect();
        assert_eq!(current.len(), seen.len(), "no secret is found that is not known");
        seen
    }

    /// The same as a start would have it.
    fn assert_like_a_start(&self) {
        let fresh = self.started();
        assert_eq!(Self::seen(&self.registry), Self::seen(&fresh));
        let names = |registry: &Registry| {
            let mut names: Vec<_> = registry.state().tenants.keys().cloned().collect();
            names.sort();
            names
        };
        assert_eq!(names(&self.registry), names(&fresh));
    }
}

fn start(config: &Config, store: &Store, clock: &Clock) -> Registry {
    let trusted_clock = Arc::new(TrustedClock::new(AT_MS, clock.now()));
    Registry::load(config, store, (clock.clone(), trusted_clock), Arc::default())
        .expect("a whole store")
}

fn ask() -> Demand {
    Demand { prompt_tokens: 5, reserve_tokens: 10, reserve_nano_usd: 0, clamp: None }
}

#[test]
fn a_change_among_many_keys_costs_what_changed() {
    let world = World::new(&[], |store| {
        let of = |number: u64| new_key(number, &format!("tenant_{}", number % 1_000));
        store.create_keys(&(0..MANY).map(of).collect::<Vec<_>>(), 5).unwrap();
    });
    let World { registry, .. } = &world;
    let mut store = Store::open(world._dir.path()).unwrap();
    assert_eq!(world.refresh(), Refreshed::default());
    type Step = fn(&mut Store);
    let one = Refreshed { keys: 1, shards: 1, ..Refreshed::default() };
    let steps: [(Step, Refreshed); 7] = [
        (|store| drop(store.set_key("key_7", |key| key.limits.rpm = Some(3))), one),
        (|store| drop(store.revoke_key("key_8", 9)), one),
        (|store| drop(store.create_key(&new_key(MANY, "tenant_1"), 9)), one),
        (
            // A tenant's limits are not its keys': none of them is touched.
            |store| drop(store.set_tenant("tenant_1", |one| one.limits.daily_nano_usd = Some(1))),
            Refreshed { tenants: 1, ..Refreshed::default() },
        ),
        (
            |store| drop(store.delete_key("key_8", false, 9)),
            Refreshed { deleted: 1, shards: 1, ..Refreshed::default() },
        ),
        (
            |store| drop(store.delete_tenant("tenant_999", true, 9)),
            Refreshed { deleted: 21, shards: 20, ..Refreshed::default() },
        ),
        (|_| (), Refreshed::default()),
    ];
    for (step, expected) in steps {
        step(&mut store);
        let refreshed = world.refresh();
        // Two secrets may lie in one part.
        assert!(refreshed.shards <= expected.shards, "{refreshed:?}");
        assert_eq!(Refreshed { shards: expected.shards, ..refreshed }, expected);
    }
    assert!(world.identity(1).unwrap().has_cost_quota(), "a key hears of its tenant's quota");
    world.assert_like_a_start();
    // An idle key has a place and no account, until it first asks.
    let tenant = world.identity(2).unwrap().slot.live().clone();
    assert_eq!(tenant.slots(), (20, 20), "the comparison has asked all of them");
    let fresh = world.started();
    let slots = fresh.tenants().iter().map(|tenant| tenant.slots()).collect::<Vec<_>>();
    let (kept, opened) = slots.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert_eq!((kept as u64, opened), (MANY - 20, 0));
    assert_eq!(registry.held(), 0);
}

#[test]
fn a_failure_half_way_is_made_good_by_reading_everything() {
    let mut world = World::new(&[], |store| {
        store
            .create_keys(&(0..50).map(|number| new_key(number, "acme")).collect::<Vec<_>>(), 5)
            .unwrap();
    });
    let before = world.identity(3).unwrap();
    let permit = before.slot.admit(ask(), world.clock.now()).unwrap();
    world.store.set_key("key_3", |key| key.cut = true).unwrap();
    world.store.rotate_key("key_4", &new_key(90, "").secret, 6, 6).unwrap();
    world.store.delete_key("key_5", true, 6).unwrap();
    let connection = rusqlite::Connection::open(world._dir.path().join("weir.sqlite")).unwrap();
    connection.execute("ALTER TABLE secrets RENAME TO lost", []).unwrap();
    for _ in 0..2 {
        assert!(world.registry.refresh(&world.store).is_err());
        let current = world.registry.current();
        assert!(current.get(&new_key(5, "").secret.digest).is_some(), "the known ones go on");
    }
    connection.execute("ALTER TABLE lost RENAME TO secrets", []).unwrap();
    let refreshed = world.refresh();
    assert_eq!((refreshed.is_whole, refreshed.keys), (true, 49));
    world.assert_like_a_start();
    // Nobody's account was lost on the way.
    permit.settle(7, 0, world.clock.now());
    let after = world.identity(3).unwrap();
    assert!(after.cut && Arc::ptr_eq(&after.slot, &before.slot));
    world.store.set_key("key_3", |key| key.limits.daily_tokens = Some(16)).unwrap();
    assert_eq!(world.refresh().keys, 1);
    let denied = world.identity(3).unwrap().slot.admit(ask(), world.clock.now()).unwrap_err();
    assert_eq!(denied.limit_name(), "key-daily-tokens");
}

#[test]
fn a_replaced_snapshot_is_freed_once_nobody_looks_at_it() {
    let mut world = World::new(&[], |store| {
        store.create_keys(&[new_key(1, "acme")], 5).unwrap();
    });
    let reader = world.registry.current();
    let weak = Arc::downgrade(&*reader);
    world.store.set_key("key_1", |key| key.cut = true).unwrap();
    world.refresh();
    assert_eq!(world.registry.held(), 1);
    assert_eq!(world.refresh(), Refreshed::default());
    assert!(weak.upgrade().is_some());
    drop(reader);
    assert!(weak.upgrade().is_some(), "it is not freed by whoever looked");
    assert_eq!(world.registry.held(), 0);
    world.refresh();
    assert!(weak.upgrade().is_none());
}

#[test]
fn a_deleted_key_is_nobody_and_its_slot_waits_for_its_requests() {
    let text = KeyText::of_number(1);
    let mut secret = new_key(1, "").secret;
    secret.digest = text.digest();
    let mut world = World::new(&[], |store| {
        store.create_key(&NewKey { secret, ..new_key(1, "acme") }, 5).unwrap();
    });
    let value = HeaderValue::from_str(&format!("Bearer {}", text.reveal())).unwrap();
    let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
    let identify = |world: &World| {
        let current = world.registry.current();
        let found = current.identify(&headers, Bearing::Bearer, || AT_MS).cloned();
        found.map(|identity: Arc<Identity>| identity)
    };
    // One request was identified, and another admitted as well, when the key is deleted.
    let identified = identify(&world).expect("it is there");
    let now = world.clock.now();
    let permit = identified.slot.admit(ask(), now).expect("no limits");
    world.store.delete_key("key_1", true, 9).unwrap();
    assert_eq!(world.refresh().deleted, 1);
    assert_eq!(identify(&world).unwrap_err(), Unidentified::Unknown);
    world.refresh();
    let tenant = identified.slot.live().clone();
    assert_eq!(tenant.slots(), (1, 1));
    let late = identified.slot.admit(ask(), now).expect("it was let in before");
    drop(identified);
    world.store.create_key(&new_key(2, "acme"), 10).unwrap();
    world.refresh();
    assert_eq!(tenant.slots(), (2, 1), "a new key gets no slot that is in use");
    permit.settle(7, 0, now);
    assert_eq!(tenant.slots(), (2, 1));
    late.settle(8, 0, now);
    assert_eq!(tenant.slots(), (1, 0));
    world.store.create_key(&new_key(3, "acme"), 11).unwrap();
    world.refresh();
    let (second, third) = (world.identity(2).unwrap(), world.identity(3).unwrap());
    assert_ne!(second.slot.slot(), third.slot.slot());
    assert_eq!(third.slot.slot().index(), 0, "the slot is used again");
    let fresh = tenant.balances(third.slot.slot(), now).daily;
    assert_eq!(fresh, Used::default());
    let used = tenant.tenant_balances(now).daily;
    assert_eq!((used.requests, used.tokens), (2, 15), "the tenant's count goes on");
}

#[test]
fn whoever_was_identified_is_asked_again_once_keys_change_or_end() {
    let text = KeyText::of_number(1);
    let mut secret = new_key(1, "").secret;
    secret.digest = text.digest();
    let mut world = World::new(&[], |store| {
        let new = NewKey { secret, expires_at_ms: Some(AT_MS + 50), ..new_key(1, "acme") };
        store.create_key(&new, 5).unwrap();
    });
    let value = HeaderValue::from_str(&format!("Bearer {}", text.reveal())).unwrap();
    let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
    let identify =
        |world: &World| world.registry.identify(&headers, Bearing::Bearer, world.clock.now());
    let is_still =
        |world: &World, one: &Identified| world.registry.is_still(one, world.clock.now());
    let first = identify(&world).unwrap();
    world.refresh();
    assert!(is_still(&world, &first), "nothing has changed");
    world.store.set_key("key_1", |key| key.cut = true).unwrap();
    world.refresh();
    assert!(!is_still(&world, &first));
    let second = identify(&world).unwrap();
    assert!(second.identity.cut && is_still(&world, &second));
    world.hand.jump_to(AT_MS + 50);
    assert!(!is_still(&world, &second));
    assert_eq!(identify(&world).unwrap_err(), Unidentified::Expired);
    world.store.revoke_key("key_1", 9).unwrap();
    world.refresh();
    assert_eq!(identify(&world).unwrap_err(), Unidentified::Revoked);
}

#[test]
fn a_tenant_that_is_deleted_holds_those_on_their_way_to_its_limits() {
    let mut world = World::new(&[], |store| {
        let limits = Limits { monthly_requests: Some(1), ..Limits::default() };
        store.create_tenant("acme", &limits, None, 5).unwrap();
        store.create_key(&new_key(1, "acme"), 5).unwrap();
    });
    let identified = world.identity(1).unwrap();
    world.store.delete_tenant("acme", true, 9).unwrap();
    world.refresh();
    let permit = identified.slot.admit(ask(), world.clock.now()).expect("one may");
    assert!(identified.slot.admit(ask(), world.clock.now()).is_err(), "no limit was lifted");
    // The name comes back, and is the same tenant, although nothing of it has ended.
    let limits = Limits { monthly_requests: Some(1), ..Limits::default() };
    world.store.create_tenant("acme", &limits, None, 10).unwrap();
    world.store.create_key(&new_key(2, "acme"), 10).unwrap();
    world.refresh();
    let again = world.identity(2).unwrap();
    assert!(Arc::ptr_eq(again.slot.live(), identified.slot.live()));
    assert!(again.slot.admit(ask(), world.clock.now()).is_err());
    permit.settle(5, 0, world.clock.now());
}

#[test]
fn a_key_whose_tenant_is_gone_is_nobody() {
    for statement in [
        "DELETE FROM tenants WHERE name = 'acme'",
        "UPDATE tenants SET name = 'other' WHERE name = 'acme'",
    ] {
        let mut world = World::new(&[], |store| {
            store.create_keys(&[new_key(1, "acme"), new_key(2, "beta")], 5).unwrap();
        });
        let connection = rusqlite::Connection::open(world._dir.path().join("weir.sqlite")).unwrap();
        connection.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        connection.execute(statement, []).unwrap();
        world.refresh();
        assert!(!is_found(&world, 1) && is_found(&world, 2), "{statement}");
        // As a start has it, and as long as the key only changes.
        world.assert_like_a_start();
        world.store.set_key("key_1", |key| key.cut = true).unwrap();
        world.refresh();
        assert!(!is_found(&world, 1));
        // As after a refresh that failed half-way.
        world.registry.state().version = None;
        world.refresh();
        assert!(!is_found(&world, 1));
    }
}

/// Who is found by the secret of a key of [`new_key`].
fn is_found(world: &World, number: u64) -> bool {
    world.registry.current().get(&new_key(number, "").secret.digest).is_some()
}

#[test]
fn what_cannot_be_read_is_refused_until_it_is_mended_and_everything_else_is_followed() {
    type Mend = fn(&mut Store);
    let set_key: Mend = |store| {
        let mend = |key: &mut crate::tenancy::Key| {
            (key.limits.rpm, key.models) = (None, None);
        };
        drop(store.set_key("key_1", mend));
    };
    let set_tenant: Mend = |store| {
        let mend = |tenant: &mut Tenant| {
            (tenant.limits.concurrency, tenant.time_zone) = (None, None);
        };
        drop(store.set_tenant("acme", mend));
    };
    // What is wrong, which of three keys are refused by that, and what mends it.
    let cases: [(&str, [bool; 3], Mend); 4] = [
        ("UPDATE keys SET rpm = -1 WHERE id = 'key_1'", [true, false, false], set_key),
        ("UPDATE keys SET models = '[' WHERE id = 'key_1'", [true, false, false], set_key),
        (
            "UPDATE tenants SET concurrency = 5000000000 WHERE name = 'acme'",
            [true, true, false],
            set_tenant,
        ),
        (
            "UPDATE tenants SET time_zone = 'Mars' WHERE name = 'acme'",
            [true, true, false],
            set_tenant,
        ),
    ];
    for (damage, refused, mend) in cases {
        let mut world = World::new(&[], |store| {
            let limits = Limits { daily_requests: Some(2), ..Limits::default() };
            let first = NewKey { limits, ..new_key(1, "acme") };
            store.create_keys(&[first, new_key(2, "acme"), new_key(3, "beta")], 5).unwrap();
        });
        let admit = |world: &World| {
            let slot = world.identity(1).expect("it has its place").slot.clone();
            slot.admit(ask(), world.clock.now())
                .map(|permit| permit.settle(7, 0, world.clock.now()))
        };
        admit(&world).expect("one of two");
        let connection = rusqlite::Connection::open(world._dir.path().join("weir.sqlite")).unwrap();
        connection.execute(damage, []).unwrap();
        world.store.set_key("key_3", |key| key.cut = true).unwrap();
        let said = logged(|| assert!(world.refresh().keys > 0));
        assert_eq!(said.matches("cannot be read").count(), 1, "once, and by name: {said}");
        assert!(said.contains("key_1") != said.contains("acme"), "{said}");
        assert!(!said.contains("Mars") && !said.contains("5000000000"), "never the value: {said}");
        let is_refused = |world: &World| [1, 2, 3].map(|number| !is_found(world, number));
        assert_eq!((is_refused(&world), world.registry.unreadable()), (refused, 1), "{damage}");
        assert!(world.identity(3).unwrap().cut, "the others are followed: {damage}");
        // Others of the tenant, and the key itself, change as they like: it stays refused.
        world.store.set_key("key_1", |key| key.name = "ci".to_owned()).unwrap();
        world.store.set_key("key_2", |key| key.cut = true).unwrap();
        assert!(!world.refresh().is_whole);
        assert_eq!((is_refused(&world), world.registry.unreadable()), (refused, 1), "{damage}");
        world.assert_like_a_start();
        assert_eq!(world.started().unreadable(), 1, "a start succeeds: {damage}");

        mend(&mut world.store);
        world.refresh();
        assert_eq!((is_refused(&world), world.registry.unreadable()), ([false; 3], 0), "{damage}");
        world.assert_like_a_start();
        // What it had used is not forgotten.
        admit(&world).expect("the second of two");
        assert_eq!(admit(&world).unwrap_err().limit_name(), "key-daily-requests", "{damage}");

        connection.execute(damage, []).unwrap();
        world.refresh();
        assert_eq!(world.registry.unreadable(), 1);
        world.store.delete_tenant("acme", true, 9).unwrap();
        world.refresh();
        assert_eq!(world.registry.unreadable(), 0, "{damage}");
    }
}

#[test]
fn a_tenant_that_is_made_takes_in_the_keys_that_were_without_one() {
    let mut world = World::new(&[], |store| {
        store
            .create_keys(&(1..4).map(|number| new_key(number, "acme")).collect::<Vec<_>>(), 5)
            .unwrap();
    });
    let connection = rusqlite::Connection::open(world._dir.path().join("weir.sqlite")).unwrap();
    connection.execute_batch("PRAGMA foreign_keys = OFF; DELETE FROM tenants").unwrap();
    world.refresh();
    assert!([1, 2, 3].iter().all(|number| !is_found(&world, *number)));
    world.store.create_tenant("acme", &Limits::default(), None, 9).unwrap();
    assert!(world.refresh().is_whole);
    assert!([1, 2, 3].iter().all(|number| is_found(&world, *number)));
    world.store.set_tenant("acme", |tenant| tenant.limits.rpm = Some(3)).unwrap();
    assert!(!world.refresh().is_whole, "once is enough");
}

#[test]
fn a_tenant_whose_name_comes_back_has_used_what_it_had() {
    let row = Sample { at_ms: AT_MS - 1, key: "key_1", ..Sample::default() };
    let mut world = World::new(&[row], |store| {
        store.create_keys(&[new_key(1, "acme")], 5).unwrap();
    });
    let used = |world: &World, name: &str| {
        let state = world.registry.state();
        let now = world.clock.now();
        state.tenants.get(name).map(|tenant| tenant.live.tenant_balances(now).monthly.requests)
    };
    assert_eq!(used(&world, "acme"), Some(1));
    let identity = world.identity(1).unwrap();
    let permit = identity.slot.admit(ask(), world.clock.now()).unwrap();
    world.store.delete_tenant("acme", true, 9).unwrap();
    assert_eq!(world.refresh().deleted, 2);
    assert_eq!(used(&world, "acme"), None);
    // It ends while the tenant is gone.
    permit.settle(5, 0, world.clock.now());
    let again = |world: &mut World| {
        let limits = Limits { monthly_requests: Some(2), ..Limits::default() };
        world.store.create_tenant("acme", &limits, None, 10).unwrap();
        world.store.create_key(&new_key(2, "acme"), 10).unwrap();
        world.refresh();
    };
    again(&mut world);
    assert_eq!(used(&world, "acme"), Some(2));
    let slot = world.identity(2).unwrap().slot.clone();
    let denied = slot.admit(ask(), world.clock.now()).unwrap_err();
    assert_eq!(denied.limit_name(), "tenant-monthly-requests");
    // After a start in between, too, as far as the ledger knows.
    drop((slot, identity));
    world.store.delete_tenant("acme", true, 11).unwrap();
    world.registry = world.started();
    assert_eq!(used(&world, "acme"), None);
    again(&mut world);
    assert_eq!(used(&world, "acme"), Some(1));
    // A name that has used nothing leaves nothing behind.
    world.store.create_tenant("idle", &Limits::default(), None, 12).unwrap();
    world.refresh();
    world.store.delete_tenant("idle", false, 12).unwrap();
    world.refresh();
    assert!(world.registry.state().deleted.is_empty());
}

#[test]
fn a_clock_that_was_ahead_leaves_what_deleted_tenants_have_used() {
    let used = Sample { at_ms: AT_MS - 1, key: "key_1", ..Sample::default() };
    let mut world = World::new(&[used], |store| {
        store.create_keys(&[new_key(1, "acme"), new_key(2, "beta")], 5).unwrap();
    });
    let requests = |world: &World| {
        let state = world.registry.state();
        let acme = state.tenants.get("acme").or(state.deleted.get("acme")).expect("it has used");
        acme.live.tenant_balances(world.clock.now()).monthly.requests
    };
    assert_eq!(requests(&world), 1);
    world.store.delete_tenant("acme", true, 9).unwrap();
    world.refresh();
    // While the clock is ahead, somebody looks at the deleted tenant, and another one is deleted.
    world.hand.jump_to(AT_MS + 5 * 365 * 24 * 3_600_000);
    assert_eq!(requests(&world), 0);
    world.store.delete_tenant("beta", true, 9).unwrap();
    assert_eq!(world.refresh().deleted, 2);
    world.hand.jump_to(AT_MS);
    world.registry.follow_clock(&world.store).unwrap();
    assert_eq!(requests(&world), 1);
    world.store.create_tenant("acme", &Limits::default(), None, 10).unwrap();
    world.refresh();
    assert_eq!(requests(&world), 1);
}

#[test]
fn another_store_in_this_ones_place_is_read_whole() {
    let mut world = World::new(&[], |store| {
        store.create_keys(&[new_key(1, "acme"), new_key(2, "acme")], 5).unwrap();
    });
    // As many changes have been made to it, and what it has is not the same.
    let (_dir, mut other) = store_with(&[]);
    other.create_keys(&[new_key(3, "beta"), new_key(2, "beta")], 5).unwrap();
    assert_ne!(other.keys_version().unwrap(), world.store.keys_version().unwrap());
    world.store = other;
    assert!(world.refresh().is_whole);
    assert!(world.identity(1).is_none());
    world.assert_like_a_start();
}

#[test]
fn tenants_of_all_zones_begin_with_what_the_ledger_has_of_theirs() {
    // At 07:14 UTC on the third: in Kiritimati the day began at 10:00 UTC the day before.
    let row = |id, tenant, key, hours: i64| Sample {
        id,
        tenant,
        key,
        at_ms: AT_MS - hours * 3_600_000,
        ..Sample::default()
    };
    let rows = [
        row(1, "acme", "key_1", 8),
        row(2, "acme", "key_1", 1),
        row(3, "far", "key_2", 8),
        row(4, "far", "key_2", 25),
        row(5, "gone", "key_9", 8),
        row(6, "gone", "key_9", 1),
    ];
    for configured in ["UTC", "Pacific/Kiritimati"] {
        let (_dir, mut store) = store_with(&rows);
        store.create_tenant("far", &Limits::default(), Some("Pacific/Kiritimati"), 5).unwrap();
        store.create_tenant("acme", &Limits::default(), Some("UTC"), 5).unwrap();
        store.create_keys(&[new_key(1, "acme"), new_key(2, "far")], 5).unwrap();
        let config = format!("[limits]\ntime_zone = {configured:?}\n");
        let config = Config::from_toml(&config, Secrets::Optional).expect("a zone");
        let (clock, _) = Clock::manual(AT_MS);
        let registry = start(&config, &store, &clock);
        let state = registry.state();
        let used = |tenants: &HashMap<Arc<str>, Live>, name: &str| {
            let balances = tenants[name].live.tenant_balances(clock.now());
            (balances.daily.requests, balances.monthly.requests)
        };
        assert_eq!(used(&state.tenants, "acme"), (1, 2), "{configured}");
        assert_eq!(used(&state.tenants, "far"), (1, 2), "{configured}");
        let daily = if configured == "UTC" { 1 } else { 2 };
        assert_eq!(used(&state.deleted, "gone"), (daily, 2), "{configured}");
        assert_eq!((state.tenants.len(), state.deleted.len()), (2, 1));
    }
}

#[test]
fn no_key_has_a_text_of_its_own_that_it_could_share() {
    let world = World::new(&[], |store| {
        let limits = Limits { rpm: Some(60), ..Limits::default() };
        let of = |number| NewKey { limits: limits.clone(), ..new_key(number, "acme") };
        store.create_keys(&(0..10).map(of).collect::<Vec<_>>(), 5).unwrap();
    });
    let [one, two] = [1, 2].map(|number| world.identity(number).unwrap());
    assert!(Arc::ptr_eq(&one.tenant, &two.tenant));
    let state = world.registry.state();
    let (id, _) = state.keys.get_key_value("key_1").unwrap();
    assert!(Arc::ptr_eq(id, &one.key_id));
    // Ten keys, the last ones' and the registry's own.
    assert_eq!(Arc::strong_count(&state.limits), 11);
}
