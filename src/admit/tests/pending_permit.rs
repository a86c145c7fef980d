//! Requests whose body is on its way.

use super::*;

/// A key with these limits, held as the keys hold it.
fn key(world: &World, limits: Limits) -> SlotGuard {
    SlotGuard::new(&world.live, &"key_b".into(), &limits.into())
}

fn counted(world: &World) -> (u64, u64) {
    let totals = world.live.totals();
    (totals.arriving, totals.in_flight)
}

#[test]
fn a_request_has_its_place_from_its_head_on_and_only_one() {
    let one = Limits { concurrency: Some(1), ..Limits::default() };
    for (of_key, of_tenant) in [(one.clone(), Limits::default()), (Limits::default(), one)] {
        let world = World::new(Limits::default(), of_tenant);
        let key = key(&world, of_key);
        let first = key.arrive(false, world.now).expect("nobody is there");
        let second = key.arrive(false, world.now).expect_err("it is taken").limit();
        assert_eq!(second.kind, Kind::Concurrency);
        assert_eq!(counted(&world), (1, 0));
        drop(first);
        let again = key.arrive(false, world.now).expect("it was given back");
        let permit = again.admit(&key, ask(1, 2), world.now).expect("its own place");
        assert_eq!(counted(&world), (0, 1));
        key.arrive(false, world.now).expect_err("it is taken by the permit");
        permit.settle(1, 0, world.now);
        assert_eq!(counted(&world), (0, 0));
    }
}

#[test]
fn what_would_refuse_any_request_does_so_by_the_head_and_takes_nothing() {
    let none = Limits::default();
    for (limits, used, name) in [
        (Limits { rpm: Some(1), ..none.clone() }, 1, "key-requests"),
        (Limits { tpm: Some(10), ..none.clone() }, 10, "key-tokens"),
        (Limits { daily_requests: Some(1), ..none.clone() }, 1, "key-daily-requests"),
        (Limits { monthly_tokens: Some(10), ..none.clone() }, 10, "key-monthly-tokens"),
        (Limits { daily_tokens: Some(0), ..none.clone() }, 0, "key-daily-tokens"),
    ] {
        let world = World::new(none.clone(), none.clone());
        let key = key(&world, limits);
        if used > 0 {
            // Any number of looks leaves everything where it was.
            (0..3).for_each(|_| drop(key.arrive(false, world.now).expect("there is room")));
            let arriving = key.arrive(false, world.now).expect("there is room");
            let permit = arriving.admit(&key, ask(1, used), world.now).expect("there is room");
            permit.settle(used, 0, world.now);
        }
        let before = key.rate_limits(world.now);
        let denied = key.arrive(false, world.now).expect_err("there is no room");
        assert_eq!((denied.limit_name(), denied.rate_limits()), (name, before));
        assert_eq!(counted(&world), (0, 0));
    }
}

#[test]
fn who_is_refused_in_the_end_has_no_place_any_more() {
    let world = World::new(Limits::default(), Limits::default());
    let key = key(&world, Limits { daily_tokens: Some(5), ..Limits::default() });
    let arriving = key.arrive(false, world.now).expect("there is room");
    arriving.admit(&key, ask(1, 6), world.now).expect_err("more than the quota");
    assert_eq!(counted(&world), (0, 0));
}

#[test]
fn a_key_that_goes_meanwhile_keeps_the_place_until_the_request_ends() {
    let world = World::new(Limits::default(), Limits::default());
    let (old, new) = (key(&world, Limits::default()), key(&world, Limits::default()));
    let [stays, goes] = [(); 2].map(|()| old.arrive(false, world.now).expect("no limits"));
    let before = world.live.slots().0;
    drop(old);
    assert_eq!(world.live.slots().0, before, "its slot is not given to another key");
    drop(goes);
    assert_eq!(world.live.slots().0, before);
    let permit = stays.admit(&new, ask(1, 2), world.now).expect("no limits");
    assert_eq!((counted(&world), world.live.slots().0), ((0, 1), before - 1));
    permit.settle(1, 0, world.now);
}

/// How long to wait for tokens nobody knows who has not seen the request.
#[test]
fn a_short_request_is_read_before_a_rate_of_tokens_refuses_it() {
    let limits = Limits { tpm: Some(60), rpm: Some(1), ..Limits::default() };
    let world = World::new(Limits::default(), Limits::default());
    let key = key(&world, limits);
    let first = key.arrive(true, world.now).expect("there is room");
    first.admit(&key, ask(1, 60), world.now).expect("there is room").settle(60, 0, world.now);
    key.arrive(false, world.now).expect_err("whatever it is, it is refused");
    let second = key.arrive(true, world.now).expect("it is read");
    let denied = second.admit(&key, ask(1, 60), world.now).expect_err("there is no room");
    let Denied::Rate { wait, .. } = denied else { panic!("a rate: {denied:?}") };
    assert_eq!(wait.as_secs(), 60, "all that it asks for");
}
