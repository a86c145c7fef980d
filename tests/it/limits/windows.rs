//! Days and months as tenants have them: their time zones, the changes of these, and what is told when a
//! quota is nearly used up.

use super::{ask, at, chat, confirmed, open, served, whole};
use crate::harness::{Answer, Client, Upstream, World, patiently, request};

/// 2026-06-03T18:00:00Z, half past eleven at night in Kolkata.
const EVENING_MS: i64 = 1_780_509_600_000;
const MINUTE_MS: u64 = 60_000;

fn assert_used_up(answer: &Answer, limit: &str, whole_again: &str) {
    assert_eq!((answer.status, &*answer.code()), (429, "insufficient_quota"));
    assert_eq!(answer.header("x-weir-limit"), Some(limit));
    let message = answer.json()["error"]["message"].to_string();
    assert!(message.contains(whole_again), "{message}");
}

/// Asks until the refusal names this time.
async fn until_whole_again_at(world: &World, key: &str, time: &str) {
    let asking = async { while !ask(world, key, &chat(500)).await.text().contains(time) {} };
    patiently(time, asking).await;
}

#[tokio::test]
async fn a_tenants_day_begins_in_its_zone() {
    let upstream = Upstream::start().await;
    let (environment, hand) = at(EVENING_MS);
    let mut world = World::before(&upstream).environment(environment).start().await;
    world.place.weir(&["tenant", "create", "kolkata", "--time-zone", "Asia/Kolkata"]);
    let key = world.new_key(&["--tenant", "kolkata", "--daily-tokens", "1000"]).await;
    let month = world.new_key(&["--tenant", "kolkata", "--monthly-requests", "1"]).await;
    served(&world, &upstream, &key, &chat(900), 900).await;
    served(&world, &upstream, &month, &chat(9), 2).await;
    assert_used_up(
        &ask(&world, &key, &chat(500)).await,
        "key-daily-tokens",
        "2026-06-03T18:30:00Z",
    );
    assert_used_up(
        &ask(&world, &month, &chat(9)).await,
        "key-monthly-requests",
        "2026-06-30T18:30:00Z",
    );
    // The hour from 18:00 to 19:00 lies in two of its days: the ledger's rows tell them apart.
    hand.advance_ms(30 * MINUTE_MS);
    served(&world, &upstream, &key, &chat(500), 300).await;
    world.settled().await;
    world.stop().await;
    world.start_again();
    served(&world, &upstream, &key, &chat(600), 600).await;
    assert_used_up(
        &ask(&world, &key, &chat(500)).await,
        "key-daily-tokens",
        "2026-06-04T18:30:00Z",
    );
    assert_eq!(ask(&world, &month, &chat(9)).await.status, 429, "the month goes on");
    world.finish().await;
}

#[tokio::test]
async fn a_zone_changes_under_a_running_server() {
    let upstream = Upstream::start().await;
    let (environment, hand) = at(EVENING_MS);
    let world = World::before(&upstream).environment(environment).start().await;
    let key = world.new_key(&["--daily-tokens", "1000"]).await;
    served(&world, &upstream, &key, &chat(600), 600).await;
    assert_used_up(
        &ask(&world, &key, &chat(500)).await,
        "key-daily-tokens",
        "2026-06-04T00:00:00Z",
    );
    // In Kolkata the day began at half past six in the evening of the day before.
    world.place.weir(&["tenant", "set", "acme", "--time-zone", "Asia/Kolkata"]);
    until_whole_again_at(&world, &key, "2026-06-03T18:30:00Z").await;
    served(&world, &upstream, &key, &chat(200), 100).await;
    // A reservation is held across the change, and is settled in the day in which it began.
    let mut running = open(&world, &key, &chat(150)).await;
    let (mut call, received) = upstream.call().await;
    hand.advance_ms(40 * MINUTE_MS);
    served(&world, &upstream, &key, &chat(900), 800).await;
    // What ended before the day that is left is known from the ledger only.
    world.rows_eventually(3).await;
    world.place.weir(&["tenant", "set", "acme", "--time-zone", "none"]);
    // All of it counts in the day of UTC: 600, 100 and 800, and what is running.
    until_whole_again_at(&world, &key, "2026-06-04T00:00:00Z").await;
    whole(&mut call, &received, 50).await;
    assert_eq!(running.answer().await.status, 200);
    world.settled().await;
    assert_eq!(world.server().used_today(), (4, 1550));
    assert_used_up(&ask(&world, &key, &chat(9)).await, "key-daily-tokens", "2026-06-04T00:00:00Z");
    // And in the day of Kolkata that began ten minutes ago, only the 800.
    world.place.weir(&["tenant", "set", "acme", "--time-zone", "Asia/Kolkata"]);
    until_whole_again_at(&world, &key, "2026-06-04T18:30:00Z").await;
    served(&world, &upstream, &key, &chat(150), 2).await;
    world.finish().await;
}

async fn metrics(world: &World) -> String {
    let mut client = Client::connect(world.server().admin_address()).await;
    client.send(request("GET", "/metrics", "none", "", "").as_bytes()).await;
    client.answer().await.text().to_owned()
}

#[tokio::test]
async fn a_crossed_threshold_is_counted_once() {
    let upstream = Upstream::start().await;
    let (environment, _hand) = at(EVENING_MS);
    let mut world = World::before(&upstream).environment(environment).start().await;
    let key = world.new_key(&["--daily-tokens", "1000", "--monthly-requests", "3"]).await;
    let until = async |world: &World, line: &str| {
        let asking = async {
            while !metrics(world).await.lines().any(|one| one == line) {
                tokio::task::yield_now().await;
            }
        };
        patiently(line, asking).await;
    };
    served(&world, &upstream, &key, &chat(700), 700).await;
    served(&world, &upstream, &key, &chat(100), 100).await;
    until(&world, "weir_quota_alerts_total{limit=\"key-daily-tokens\"} 1").await;
    served(&world, &upstream, &key, &chat(10), 500).await;
    until(&world, "weir_quota_alerts_total{limit=\"key-daily-tokens\"} 2").await;
    until(&world, "weir_quota_alerts_total{limit=\"key-monthly-requests\"} 1").await;
    until(&world, "weir_quotas_alerting{limit=\"key-daily-tokens\"} 1.0").await;
    until(&world, "weir_quotas_alerting{limit=\"tenant-daily-tokens\"} 0.0").await;
    world.settled().await;
    world.stop().await;
    world.start_again();
    until(&world, "weir_quotas_alerting{limit=\"key-daily-tokens\"} 1.0").await;
    let again = metrics(&world).await;
    assert!(again.contains("weir_quota_alerts_total{limit=\"key-daily-tokens\"} 0"), "{again}");
    world.finish().await;
}

#[tokio::test]
async fn a_start_with_an_old_clock_reopens_nothing() {
    const DAY_MS: i64 = 86_400_000;
    let upstream = Upstream::start().await;
    let (environment, hand) = at(EVENING_MS);
    let mut world = World::before(&upstream).environment(environment).start().await;
    let key = world.new_key(&["--daily-tokens", "1000"]).await;
    confirmed(&world, &hand).await;
    hand.advance_ms(50 * MINUTE_MS);
    served(&world, &upstream, &key, &chat(900), 900).await;
    world.settled().await;
    world.stop().await;
    hand.jump_to(EVENING_MS - 3 * DAY_MS);
    world.start_again();
    let used_up = async |time| {
        assert_used_up(&ask(&world, &key, &chat(500)).await, "key-daily-tokens", time);
        assert_eq!(world.server().used_today(), (1, 900));
    };
    used_up("2026-06-04T00:00:00Z").await;
    // Nor does another zone, in which that row began later than the day that is open.
    world.place.weir(&["tenant", "set", "acme", "--time-zone", "Asia/Kolkata"]);
    until_whole_again_at(&world, &key, "2026-06-04T18:30:00Z").await;
    hand.jump_to(EVENING_MS + 2 * 60 * MINUTE_MS as i64);
    used_up("2026-06-04T18:30:00Z").await;
    hand.jump_to(EVENING_MS + DAY_MS + 30 * MINUTE_MS as i64);
    served(&world, &upstream, &key, &chat(900), 900).await;
    world.finish().await;
}

#[tokio::test]
async fn memory_and_ledger_count_one_day_while_the_clock_is_behind() {
    let upstream = Upstream::start().await;
    let (environment, hand) = at(EVENING_MS - 10 * MINUTE_MS as i64);
    let mut world = World::before(&upstream).environment(environment).start().await;
    confirmed(&world, &hand).await;
    let key = world.new_key(&["--daily-tokens", "1000"]).await;
    served(&world, &upstream, &key, &chat(400), 400).await;
    hand.jump_to(EVENING_MS - 40 * 86_400_000);
    served(&world, &upstream, &key, &chat(500), 500).await;
    world.settled().await;
    assert_eq!(world.server().used_today(), (2, 900));
    let rows = world.rows_eventually(2).await;
    assert_eq!(
        rows[0].started_at, "2026-06-03T18:00:00.000Z",
        "by what has passed since it was confirmed"
    );
    hand.jump_to(EVENING_MS);
    world.stop().await;
    world.start_again();
    assert_eq!(world.server().used_today(), (2, 900));
    assert_used_up(
        &ask(&world, &key, &chat(500)).await,
        "key-daily-tokens",
        "2026-06-04T00:00:00Z",
    );
    assert_eq!(world.place.weir(&["verify", "--format", "json"]).trim(), "[]");
    world.finish().await;
}
