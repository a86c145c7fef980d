//! How a request is booked that was sent: where its numbers come from, and what its row says of it.

use super::*;
use crate::meter::Reading;
use crate::price::Rates;
use crate::usage::Usage;

/// What so many tokens read as.
fn usage(input: u64, output: u64) -> Usage {
    Usage { input, output, total: input + output, ..Usage::default() }
}

fn stated(input: u64, output: u64) -> Reading {
    Reading { usage: Some(usage(input, output)), output_text_bytes: 9, ..Reading::default() }
}

#[test]
fn numbers_come_from_the_best_that_was_read() {
    use UsageSource::{Estimated, None, Reported, Running};
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let is_final = |reading| Reading { is_final: true, ..reading };
    let is_start = |reading| Reading { is_start: true, ..reading };
    let silent = || Reading { output_text_bytes: 9, ..Reading::default() };
    let picture = || Reading { output_images: 2, ..silent() };
    let pending = |reading| Reading { is_pending: true, ..reading };
    let early = || Reading { is_early: true, ..stated(11, 1) };
    let some_prompts = || Reading { misses_prompts: true, ..early() };
    let some_choices = |input| Reading { misses_choices: true, ..stated(input, 1) };
    let heard_a_part = || {
        let usage = Usage { audio_ms: 1, ..usage(0, 0) };
        Reading { usage: Some(usage), ..silent() }
    };
    let listened = || {
        let usage = Usage { audio_ms: 1, ..usage(0, 0) };
        is_final(Reading { usage: Some(usage), ..silent() })
    };
    let cut = End::UpstreamTruncated;
    // The prompt is estimated at 5, nine bytes of text at 3, a picture at what it usually is.
    let pictures = 3 + 2 * 1_560;
    // Nine are reserved: four for the answer.
    for (reading, end, status, source, (input, output)) in [
        (is_final(stated(11, 13)), End::Complete, 200, Reported, (11, 13)),
        (is_final(stated(11, 13)), cut, 200, Reported, (11, 13)),
        // Nothing is said about nothing.
        (is_final(stated(0, 13)), End::Complete, 200, Reported, (5, 13)),
        (stated(0, 13), cut, 200, Running, (5, 13)),
        (stated(11, 13), End::Complete, 200, Reported, (11, 13)),
        (stated(11, 13), cut, 200, Running, (11, 13)),
        (stated(11, 0), End::Complete, 200, Reported, (11, 0)),
        // Zeros of who does not know.
        (is_final(stated(0, 0)), End::Complete, 200, Estimated, (5, 3)),
        (is_final(stated(11, 0)), End::Complete, 200, Estimated, (11, 3)),
        (listened(), End::Complete, 200, Reported, (0, 0)),
        // How long it was stands before its words.
        (listened(), cut, 200, Reported, (0, 0)),
        (heard_a_part(), cut, 200, Estimated, (5, 4)),
        // One prompt of several: the others are taken for what was reserved.
        (Reading { usage: Some(usage(2, 1)), ..some_prompts() }, cut, 200, Estimated, (5, 4)),
        (some_prompts(), cut, 200, Estimated, (11, 4)),
        (some_prompts(), End::Complete, 200, Reported, (11, 1)),
        // Some choices of too many, whole or not.
        (some_choices(11), cut, 200, Estimated, (11, 4)),
        (some_choices(11), End::Complete, 200, Estimated, (11, 4)),
        (is_final(some_choices(11)), End::Complete, 200, Estimated, (11, 4)),
        (is_start(stated(11, 1)), cut, 200, Estimated, (11, 4)),
        (is_start(stated(11, 5)), cut, 200, Estimated, (11, 5)),
        (stated(11, 0), cut, 200, Estimated, (11, 4)),
        (stated(0, 0), cut, 200, Estimated, (5, 4)),
        (silent(), cut, 200, Estimated, (5, 4)),
        (picture(), cut, 200, Estimated, (5, pictures)),
        (silent(), End::UpstreamError, 200, Estimated, (5, 3)),
        (pending(silent()), End::UpstreamTruncated, 200, Estimated, (5, 4)),
        (pending(is_final(stated(11, 0))), End::Complete, 200, Estimated, (11, 4)),
        (silent(), cut, 400, None, (0, 0)),
        (early(), cut, 200, Estimated, (11, 4)),
        (is_final(early()), cut, 200, Reported, (11, 1)),
        (early(), End::Complete, 200, Reported, (11, 1)),
        (silent(), End::UpstreamRejected, 408, Estimated, (5, 4)),
        (silent(), End::UpstreamRejected, 499, Estimated, (5, 4)),
        (silent(), End::UpstreamError, 504, Estimated, (5, 4)),
        (silent(), End::UpstreamError, 524, Estimated, (5, 4)),
        (silent(), End::UpstreamRejected, 429, None, (0, 0)),
        (silent(), End::UpstreamError, 503, None, (0, 0)),
        (silent(), End::Complete, 200, Estimated, (5, 3)),
        (picture(), End::Complete, 200, Estimated, (5, pictures)),
        (silent(), End::Complete, 399, Estimated, (5, 3)),
        (silent(), End::Complete, 400, None, (0, 0)),
        (is_final(stated(11, 13)), End::Complete, 400, Reported, (11, 13)),
    ] {
        let mut settlement = world.settlement(1);
        settlement.upstream_status = Some(status);
        let used = settlement.used(reading.clone(), end, false);
        let found = (used.source, used.usage.input, used.usage.output, used.usage.total);
        let wanted = (Some(source), input, output, input + output);
        assert_eq!(found, wanted, "{reading:?} {end:?} {status}");
        let of_nothing = reading.usage.is_some_and(|usage| match usage.output {
            0 => reading.is_final && !reading.is_pending && usage.audio_ms == 0,
            _ => usage.input == 0,
        });
        assert_eq!(used.flags.contains(Flags::USAGE_SUSPECT), of_nothing, "{reading:?}");
    }
}

/// What nobody stated is booked by the upstream's policy, and the row says so where it is the reservation.
#[test]
fn what_was_never_stated_is_booked_by_the_policy() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let seen = |bytes| Reading { output_text_bytes: bytes, ..Reading::default() };
    let pending = Reading { is_pending: true, ..seen(9) };
    let blind = Reading { is_blind: true, ..seen(0) };
    let empty = Reading { is_no_answer: true, ..seen(0) };
    let broken_off = Reading { breaks_off: true, ..seen(9) };
    let foreign = |bytes| Reading { unread_bytes: bytes, is_unread: true, ..seen(0) };
    let (reserved, by_sight) = (Unstated::Reserved, Unstated::Seen);
    // The policy, what was read, whether it is the whole answer, the output, whether it was reserved.
    for (policy, reading, is_whole, output, is_reserved) in [
        (reserved, seen(9), false, 4, true),
        (reserved, seen(0), false, 4, true),
        (reserved, seen(9), true, 3, false),
        (reserved, seen(100), false, 25, false),
        (reserved, broken_off.clone(), true, 4, true),
        (by_sight, broken_off, true, 3, false),
        (reserved, pending.clone(), true, 4, true),
        (reserved, blind.clone(), true, 4, true),
        (reserved, empty.clone(), true, 4, true),
        (reserved, foreign(9), true, 4, true),
        (reserved, foreign(100), true, 25, false),
        (by_sight, empty, true, 0, false),
        (by_sight, foreign(9), true, 3, false),
        (by_sight, seen(9), false, 3, false),
        (by_sight, seen(0), false, 0, false),
        (by_sight, blind, true, 0, false),
        // It works on whether or not anybody is connected.
        (by_sight, pending, true, 4, true),
    ] {
        let mut settlement = world.settlement(1);
        settlement.unstated = policy;
        settlement.upstream_status = Some(200);
        let used = settlement.used(reading.clone(), End::ClientClosed, is_whole);
        assert_eq!((used.usage.input, used.usage.output), (5, output), "{policy:?} {reading:?}");
        assert_eq!(used.usage.total, 5 + output);
        assert_eq!(used.flags.contains(Flags::RESERVED), is_reserved, "{policy:?} {reading:?}");
    }
}

/// A request that had the usage option taken out of it is not metered by what was seen, unless it was sent
/// like that from the first.
#[test]
fn a_refused_option_is_no_way_to_be_metered_by_bytes() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let silent = Reading { output_text_bytes: 9, ..Reading::default() };
    for (attempts, is_refused, reading, output) in [
        (2, true, silent.clone(), 4),
        (2, true, stated(5, 1), 1),
        (2, false, silent.clone(), 3),
        (1, true, silent.clone(), 3),
    ] {
        let mut settlement = world.settlement(1);
        settlement.attempts = attempts;
        settlement.upstream_status = Some(200);
        if is_refused {
            settlement.flags.set(Flags::USAGE_OPTION_REFUSED);
        }
        let used = settlement.used(reading, End::Complete, true);
        assert_eq!(used.usage.output, output, "{attempts} {is_refused}");
        assert_eq!(used.flags.contains(Flags::RESERVED), output == 4, "{attempts} {is_refused}");
    }
}

/// What the request tells of its use counts where the answer shows nothing of it.
#[test]
fn what_an_answer_does_not_show_is_told_by_its_request() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let mut settlement = world.settlement(1);
    let picture_tokens = 272;
    settlement.media = RequestedMedia {
        audio_tokens: 2,
        audio_ms: 1_500,
        speech_tokens: 6,
        pictures: 3,
        picture_tokens,
    };
    let rates = Rates { per_second: 7, image_output: 9, ..Rates::default() };
    settlement.price = Some(Price::new("gpt-5.4", 0, rates));
    let used = |reading, is_whole| settlement.used(reading, End::ClientClosed, is_whole);
    let spoken = used(Reading::default(), true);
    let found = (spoken.usage.audio_input, spoken.usage.audio_ms, spoken.usage.audio_output);
    assert_eq!((found, spoken.usage.output), ((2, 1_500, 6), 6));
    let painted = used(Reading { output_images: 2, ..Reading::default() }, true);
    assert_eq!((painted.usage.output, painted.images), (544, 2));
    // By policy as many as were asked for, also where one had more tokens than were reserved for all.
    let left = used(Reading { output_images: 1, ..Reading::default() }, false);
    assert_eq!((left.usage.output, left.images), (272, 3));
    assert!(left.flags.contains(Flags::RESERVED));
    // Of the reservation nobody knows what it was for: it costs what was reserved.
    settlement.media = RequestedMedia { pictures: 3, ..RequestedMedia::default() };
    let used = settlement.unanswered();
    assert_eq!((used.usage.output, used.usage.image_output, used.images), (4, 4, 3));
}

#[test]
fn remarks_on_the_numbers_are_those_of_the_reading() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let flags = |reading| world.settlement(1).used(reading, End::Complete, true).flags;
    let one = |flag| {
        let mut flags = Flags::default();
        flags.set(flag);
        flags
    };
    let both = |flag, other| {
        let mut flags = one(flag);
        flags.set(other);
        flags
    };
    let all = stated(11, 13);
    assert_eq!(flags(all.clone()), Flags::default());
    assert_eq!(flags(Reading { suspect: true, ..all.clone() }), one(Flags::USAGE_SUSPECT));
    assert_eq!(flags(Reading { is_blind: true, ..all.clone() }), one(Flags::ENCODED));
    let differs = Reading { total_differs: true, ..all.clone() };
    assert_eq!(flags(differs), one(Flags::TOTAL_DIFFERS));
    assert_eq!(flags(Reading { is_unread: true, ..all.clone() }), one(Flags::UNREAD));
    // Whether there was no answer, an upstream says that was asked and had success.
    let empty = Reading { is_no_answer: true, ..Reading::default() };
    for (status, end, flag) in [
        (200, End::Complete, both(Flags::NO_ANSWER, Flags::RESERVED)),
        (204, End::Complete, both(Flags::NO_ANSWER, Flags::RESERVED)),
        (200, End::ClientClosed, one(Flags::RESERVED)),
        (429, End::Complete, Flags::default()),
    ] {
        let mut settlement = world.settlement(1);
        settlement.upstream_status = Some(status);
        assert_eq!(
            settlement.used(empty.clone(), end, end == End::Complete).flags,
            flag,
            "{status} {end:?}"
        );
    }
}

#[tokio::test]
async fn a_row_says_how_long_it_took_and_why_it_ended() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    for (n, is_stalled, end) in [
        (1, false, End::Complete),
        (2, true, End::Complete),
        (3, false, End::ClientClosed),
        (4, true, End::ClientClosed),
    ] {
        let mut settlement = world.settlement(n);
        world.worker.commit();
        settlement.opened().await.expect("it is written");
        world.hand.advance_ms(120);
        settlement.first_byte();
        world.hand.advance_ms(380);
        // The first of its bytes is.
        settlement.first_byte();
        world.client.is_stalled.set(is_stalled);
        let used = settlement.used(stated(11, 13), end, false);
        let receipt = settlement.settle(end, used);
        world.worker.commit();
        receipt.await.expect("it is written");
    }
    assert_eq!(world.counted(), (0, 0, 4));
    let mut rows = world.rows(dir.path());
    rows.sort_by(|one, other| one.event_id.cmp(&other.event_id));
    let found: Vec<_> = rows.iter().map(|row| (&*row.end, row.flags.len())).collect();
    let (complete, left) = ("complete", "client_closed");
    assert_eq!(found, [(complete, 0), (complete, 0), (left, 0), (left, 1)]);
    for row in rows {
        assert_eq!((row.ttfb_ms, row.duration_ms, row.total_tokens), (Some(120), 500, 24));
    }
}

/// Only an answer that is whole, and whose length was stated, says how long answers are.
#[test]
fn lengths_are_learned_of_whole_answers_that_state_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let usual = |reading: Reading, end, n| {
        let learned = Arc::new(Learned::default());
        for _ in 0..1_000 {
            let mut settlement = world.settlement(1);
            settlement.learn(Some(learned.clone()), n);
            let used = settlement.used(reading.clone(), end, false);
            drop(settlement.settle(end, used));
            world.worker.commit();
        }
        learned.usual()
    };
    let one = usual(stated(11, 100), End::Complete, 1).expect("enough were counted");
    assert!((100..125).contains(&one), "{one}");
    let each = usual(stated(11, 100), End::Complete, 4).expect("enough were counted");
    assert!((25..32).contains(&each), "{each}");
    assert_eq!(usual(stated(11, 100), End::UpstreamTruncated, 1), None);
    assert_eq!(usual(Reading::default(), End::Complete, 1), None);
}
