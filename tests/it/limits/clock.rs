//! Quotas and dates while the clock is wrong by years, and when it is right again.

use super::{ask, at, chat, confirmed, confirmed_ms, id_of, served, until};
use crate::harness::{Answer, Upstream, World, eventually, patiently};

/// 2026-06-03T18:00:00Z.
const EVENING_MS: i64 = 1_780_509_600_000;
const MINUTE_MS: u64 = 60_000;
const DAY_MS: i64 = 86_400_000;
/// Later than the machine's own clock will be in the lifetime of these tests.
const AHEAD_MS: i64 = EVENING_MS + 50 * 365 * DAY_MS;

fn assert_used_up(answer: &Answer, whole_again: &str) {
    assert_eq!((answer.status, &*answer.code()), (429, "insufficient_quota"));
    let message = answer.json()["error"]["message"].to_string();
    assert!(message.contains(whole_again), "{message}");
}

/// In UTC, as refusals say it.
fn midnight_after(unix_ms: i64) -> String {
    let midnight = jiff::Timestamp::from_millisecond((unix_ms / DAY_MS + 1) * DAY_MS);
    midnight.expect("in this century").to_string()
}

/// What all quotas count, as requests and tokens, has become this.
async fn counted(world: &World, expected: (u64, u64)) {
    let is_it = || (world.server().used_today() == expected).then_some(());
    eventually(&format!("{expected:?} are counted"), is_it).await;
}

/// The exit code of `weir verify`, how much it lists of what kind, and what it says.
fn verify(world: &World, more: &[&str]) -> (i32, Vec<String>, String) {
    let arguments = [&["verify", "--format", "json"], more].concat();
    let output = world.place.command(&arguments).output().expect("the program runs");
    let listed: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let kinds = listed.iter().map(|line| line["what"].as_str().expect("a text").to_owned());
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    (output.status.code().expect("it was not killed"), kinds.collect(), said)
}

#[tokio::test]
async fn a_clock_that_was_ahead_for_one_request_leaves_quotas_and_dates_as_they_should_be() {
    let upstream = Upstream::start().await;
    let (environment, hand) = at(EVENING_MS);
    let mut world = World::before(&upstream).environment(environment).start().await;
    let key = world.new_key(&["--daily-requests", "5"]).await;
    served(&world, &upstream, &key, &chat(50), 10).await;
    world.rows_eventually(1).await;
    hand.jump_to(AHEAD_MS);
    served(&world, &upstream, &key, &chat(50), 20).await;
    world.rows_eventually(2).await;
    hand.jump_to(EVENING_MS + 1);
    // Whether the windows are left before this one or after it.
    served(&world, &upstream, &key, &chat(50), 30).await;
    counted(&world, (2, 40)).await;
    for _ in 0..3 {
        served(&world, &upstream, &key, &chat(50), 10).await;
    }
    assert_used_up(&ask(&world, &key, &chat(50)).await, "2026-06-04T00:00:00Z");
    let dates: Vec<_> =
        world.rows_eventually(6).await.into_iter().map(|row| row.started_at).collect();
    assert!(dates[0].starts_with("2076-"), "{dates:?}");
    assert!(dates[1..5].iter().all(|date| date == "2026-06-03T18:00:00.001Z"), "{dates:?}");
    assert_eq!(dates[5], "2026-06-03T18:00:00.000Z");
    world.stop().await;
    world.start_again();
    assert_eq!(world.server().used_today(), (5, 70));
    assert_used_up(&ask(&world, &key, &chat(50)).await, "2026-06-04T00:00:00Z");
    // One that has not asked yet has the windows of today as well.
    let other = world.new_key(&["--tenant", "other", "--daily-requests", "1"]).await;
    served(&world, &upstream, &other, &chat(50), 10).await;
    assert_used_up(&ask(&world, &other, &chat(50)).await, "2026-06-04T00:00:00Z");
    world.rows_eventually(7).await;
    assert_eq!(verify(&world, &[]).1, ["future"]);
    let (code, _, said) = verify(&world, &["--redate"]);
    assert_eq!(code, 1, "nothing says that the clock is right");
    assert!(said.contains("--trust-clock"), "{said}");
    confirmed(&world, &hand).await;
    let (code, _, said) = verify(&world, &["--redate"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(verify(&world, &[]).1, [] as [&str; 0]);
    let rows = world.place.rows();
    let redated: Vec<_> = rows.iter().filter(|row| row.flags == ["redated"]).collect();
    assert_eq!(redated.len(), 1);
    assert_eq!(redated[0].started_at, "2026-06-03T18:00:00.000Z", "that of the row before it");
    world.stop().await;
    world.start_again();
    assert_eq!(world.server().used_today(), (7, 100));
    world.finish().await;
}

#[tokio::test]
async fn a_clock_that_was_ahead_at_the_months_end_leaves_the_next_month_whole() {
    const LAST_MINUTE_MS: i64 = EVENING_MS + 27 * DAY_MS + (6 * 60 - 1) * MINUTE_MS as i64;
    let upstream = Upstream::start().await;
    let (environment, hand) = at(LAST_MINUTE_MS);
    let mut world = World::before(&upstream).environment(environment).start().await;
    let key = world.new_key(&["--monthly-requests", "2"]).await;
    served(&world, &upstream, &key, &chat(50), 10).await;
    world.rows_eventually(1).await;
    hand.jump_to(AHEAD_MS);
    served(&world, &upstream, &key, &chat(50), 20).await;
    world.rows_eventually(2).await;
    hand.jump_to(LAST_MINUTE_MS);
    hand.advance_ms(2 * MINUTE_MS);
    served(&world, &upstream, &key, &chat(50), 30).await;
    counted(&world, (1, 30)).await;
    served(&world, &upstream, &key, &chat(50), 30).await;
    assert_used_up(&ask(&world, &key, &chat(50)).await, "2026-08-01T00:00:00Z");
    world.stop().await;
    world.start_again();
    assert_eq!(world.server().used_today(), (2, 60));
    assert_used_up(&ask(&world, &key, &chat(50)).await, "2026-08-01T00:00:00Z");
    world.finish().await;
}

#[tokio::test]
async fn a_row_of_the_future_in_the_ledger_freezes_no_quota_at_a_start() {
    let upstream = Upstream::start().await;
    let (environment, hand) = at(EVENING_MS);
    let mut world = World::before(&upstream).environment(environment).start().await;
    let key = world.new_key(&["--daily-requests", "1"]).await;
    eventually("a time is confirmed", || {
        hand.advance_ms(10 * MINUTE_MS);
        confirmed_ms(&world)
    })
    .await;
    let now_ms = confirmed_ms(&world).expect("it stays");
    served(&world, &upstream, &key, &chat(50), 10).await;
    // The last row that is stored is the one that is wrong.
    hand.jump_to(AHEAD_MS);
    served(&world, &upstream, &key, &chat(50), 20).await;
    world.rows_eventually(2).await;
    world.stop().await;
    hand.jump_to(now_ms);
    world.start_again();
    assert_eq!(world.server().used_today(), (1, 10));
    assert_used_up(&ask(&world, &key, &chat(50)).await, &midnight_after(now_ms));
    world.finish().await;
}

#[tokio::test]
async fn a_wrong_time_that_was_confirmed_is_set_back_by_a_command_under_a_running_server() {
    let upstream = Upstream::start().await;
    let (environment, hand) = at(EVENING_MS);
    let mut world = World::before(&upstream).environment(environment).start().await;
    let key = world.new_key(&["--daily-requests", "1"]).await;
    served(&world, &upstream, &key, &chat(50), 10).await;
    world.rows_eventually(1).await;
    hand.jump_to(AHEAD_MS);
    served(&world, &upstream, &key, &chat(50), 20).await;
    world.rows_eventually(2).await;
    eventually("the wrong time is confirmed", || {
        hand.advance_ms(10 * MINUTE_MS);
        confirmed_ms(&world).filter(|ms| *ms > AHEAD_MS)
    })
    .await;
    // Set back, and nobody can tell which of the two is right.
    hand.jump_to(EVENING_MS);
    assert_eq!(world.server().used_today(), (1, 20));
    // The machine's own clock, by which the command goes, is.
    let (code, kinds, said) = verify(&world, &["--redate"]);
    assert_eq!((code, kinds.len()), (1, 0));
    assert!(said.contains("--trust-clock"), "{said}");
    assert_eq!(verify(&world, &[]).1, ["clock"], "by what was confirmed the row is right");
    let (code, _, said) = verify(&world, &["--redate", "--trust-clock"]);
    assert_eq!(code, 0, "{said}");
    let now_ms = confirmed_ms(&world).expect("it was set");
    hand.jump_to(now_ms);
    // What was used in the day that was wrong has another date now, and memory keeps it till midnight.
    let midnight = midnight_after(now_ms);
    let asking = async { while !ask(&world, &key, &chat(50)).await.text().contains(&midnight) {} };
    patiently("the server follows", asking).await;
    world.stop().await;
    world.start_again();
    assert_eq!(world.server().used_today(), (0, 0));
    served(&world, &upstream, &key, &chat(50), 30).await;
    world.finish().await;
}

#[tokio::test]
async fn a_machine_that_slept_wakes_up_in_the_day_that_it_is() {
    let upstream = Upstream::start().await;
    let (environment, hand) = at(EVENING_MS);
    let mut world = World::before(&upstream).environment(environment).start().await;
    let key = world.new_key(&["--daily-requests", "1"]).await;
    served(&world, &upstream, &key, &chat(50), 10).await;
    assert_used_up(&ask(&world, &key, &chat(50)).await, "2026-06-04T00:00:00Z");
    hand.jump_to(EVENING_MS + 3 * DAY_MS);
    served(&world, &upstream, &key, &chat(50), 20).await;
    assert_used_up(&ask(&world, &key, &chat(50)).await, "2026-06-07T00:00:00Z");
    assert_eq!(world.rows_eventually(2).await[0].started_at, "2026-06-06T18:00:00.000Z");
    world.stop().await;
    world.start_again();
    assert_eq!(world.server().used_today(), (1, 20));
    world.finish().await;
}

#[tokio::test]
async fn a_clock_that_is_behind_holds_no_day_open_and_revives_no_key() {
    let upstream = Upstream::start().await;
    let (environment, hand) = at(EVENING_MS - 10 * MINUTE_MS as i64);
    let world = World::before(&upstream).environment(environment).start().await;
    confirmed(&world, &hand).await;
    let key = world.new_key(&["--daily-requests", "1"]).await;
    let ending = world.new_key(&[]).await;
    let store = rusqlite::Connection::open(world.place.data_dir().join("weir.sqlite"));
    // The command would not make a key that has ended by the machine's clock.
    let end = (EVENING_MS + DAY_MS, id_of(&world, &ending));
    let set =
        store.expect("the store").execute("UPDATE keys SET expires_at_ms = ?1 WHERE id = ?2", end);
    assert_eq!(set.expect("it is there"), 1);
    served(&world, &upstream, &key, &chat(50), 10).await;
    hand.jump_to(EVENING_MS - 40 * DAY_MS);
    assert_used_up(&ask(&world, &key, &chat(50)).await, "2026-06-04T00:00:00Z");
    // A day passes, and the clock stays 40 days behind.
    hand.advance_ms(DAY_MS as u64);
    counted(&world, (0, 0)).await;
    served(&world, &upstream, &key, &chat(50), 20).await;
    assert_used_up(&ask(&world, &key, &chat(50)).await, "2026-06-05T00:00:00Z");
    assert_eq!(world.rows_eventually(2).await[0].started_at, "2026-06-04T18:00:00.000Z");
    until(&world, &ending, "the key has ended", |answer| answer.status == 401).await;
    world.finish().await;
}

#[tokio::test]
async fn a_clock_that_was_ahead_at_the_first_start_is_believed_no_longer_than_it_is() {
    let upstream = Upstream::start().await;
    let (environment, hand) = at(AHEAD_MS);
    let mut world = World::before(&upstream).environment(environment).start().await;
    let key = world.new_key(&["--daily-requests", "2"]).await;
    // Right again before anything was confirmed, and before a request.
    hand.jump_to(EVENING_MS);
    served(&world, &upstream, &key, &chat(50), 10).await;
    assert_eq!(world.rows_eventually(1).await[0].started_at, "2026-06-03T18:00:00.000Z");
    // The row that is stored last is one of the future.
    hand.jump_to(AHEAD_MS);
    served(&world, &upstream, &key, &chat(50), 20).await;
    world.rows_eventually(2).await;
    world.stop().await;
    hand.jump_to(EVENING_MS + 1);
    world.start_again();
    assert_eq!((world.server().used_today(), confirmed_ms(&world)), ((1, 10), None));
    served(&world, &upstream, &key, &chat(50), 30).await;
    assert_used_up(&ask(&world, &key, &chat(50)).await, "2026-06-04T00:00:00Z");
    world.finish().await;
}
