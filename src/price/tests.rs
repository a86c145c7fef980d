//! The formula as a table, at its edges, and against a plain one.

use proptest::prelude::*;

use super::*;

/// Every rate a different power of ten, so that a sum shows what was charged how often.
const POWERS: Rates = Rates {
    input: 1_000,
    cached_input: 10_000,
    cache_write: 100_000,
    output: 1_000_000,
    reasoning: 10_000_000,
    image_input: 100_000_000,
    image_output: 1_000_000_000,
    audio_input: 10_000_000_000,
    audio_output: 100_000_000_000,
    per_request: 1_000_000_000,
    per_image: 10_000_000_000,
    per_second: 100_000_000_000,
};
/// The same without what is charged by the piece.
const TOKENS: Rates = Rates { per_request: 0, per_image: 0, per_second: 0, ..POWERS };

fn of(usage: &Usage) -> Billed<'_> {
    Billed { usage, source: UsageSource::Reported, images: 0 }
}

#[test]
fn every_class_is_charged_once_at_its_own_rate() {
    let none = Usage::default();
    for (usage, nano) in [
        (none, 0),
        (Usage { input: 7, ..none }, 7),
        (Usage { input: 7, cached: 3, ..none }, 34),
        (Usage { input: 7, cache_write: 3, ..none }, 304),
        (Usage { input: 7, image_input: 3, ..none }, 300_004),
        (Usage { input: 7, audio_input: 3, ..none }, 30_000_004),
        (
            Usage { input: 9, cached: 1, cache_write: 1, image_input: 1, audio_input: 1, ..none },
            10_100_115,
        ),
        (Usage { output: 7, ..none }, 7_000),
        (Usage { output: 7, reasoning: 3, ..none }, 34_000),
        (Usage { output: 7, image_output: 3, ..none }, 3_004_000),
        (Usage { output: 7, audio_output: 3, ..none }, 300_004_000),
        // Rejected predictions are output like any other; accepted ones and totals are not added.
        (Usage { output: 7, accepted_prediction: 9, rejected_prediction: 5, ..none }, 7_000),
        (Usage { total: 99, ..none }, 0),
        // A class that claims more than there is gets what is there, and the next one nothing.
        (Usage { input: 7, cached: 9, ..none }, 70),
        (Usage { input: 7, cached: 5, image_input: 7, ..none }, 200_050),
        (Usage { cached: 9, reasoning: 9, audio_output: 9, ..none }, 0),
        (Usage { output: 7, reasoning: 7, audio_output: 7, ..none }, 70_000),
    ] {
        assert_eq!(TOKENS.cost(&of(&usage)), nano, "{usage:?}");
    }
}

#[test]
fn requests_images_and_seconds_are_charged_by_the_piece() {
    let usage = Usage { input: 1, audio_ms: 1_500, ..Usage::default() };
    let billed = Billed { images: 2, ..of(&usage) };
    assert_eq!(POWERS.cost(&billed), 1 + 1_000_000_000 + 20_000_000_000 + 150_000_000_000);
    // What did not run costs nothing, not even the request.
    assert_eq!(POWERS.cost(&Billed { source: UsageSource::None, ..billed }), 0);
    let usage = Usage { input: 1, ..Usage::default() };
    for source in [UsageSource::Estimated, UsageSource::Running] {
        assert_eq!(POWERS.cost(&Billed { source, ..of(&usage) }), 1_000_000_001);
    }
}

#[test]
fn a_reservation_takes_every_token_for_the_dearest() {
    let all = 7 * 10_000_000 + 5 * 100_000_000;
    assert_eq!(TOKENS.reserve((7, 5), 9, 0), all);
    assert_eq!(POWERS.reserve((7, 5), 2, 0), all + 1_000_000_000 + 20_000_000_000);
    // What is reserved later has the request and its images already.
    assert_eq!(POWERS.reserve_more(5), 5 * 100_000_000);
    // Seconds of audio cost what they cost, and a row of nothing but the reservation costs as much as that.
    assert_eq!(TOKENS.reserve((7, 5), 9, 1_500), all + TOKENS.per_second * 3 / 2);
    let plain = Usage { input: 7, output: 5, audio_ms: 1_500, ..Usage::default() };
    for rates in [TOKENS, POWERS] {
        let row = rates.at_the_dearest(plain, true);
        let billed = Billed { images: 2, ..of(&row) };
        assert_eq!(rates.cost(&billed), rates.reserve((7, 5), 2, 1_500));
        let stated = rates.at_the_dearest(plain, false);
        assert_eq!(Usage { audio_output: 0, image_output: 0, reasoning: 0, ..stated }, plain);
    }
    assert_eq!(POWERS.dearest_output(), POWERS.audio_output);
}

#[test]
fn a_row_is_rounded_once_and_half_up() {
    for (pico, tokens, nano) in [
        (1, 499, 0),
        (1, 500, 1),
        (1, 1_499, 1),
        (1, 1_500, 2),
        (499, 1, 0),
        (500, 1, 1),
        // 0.15 USD per million: 150,000 pico-USD a token.
        (150_000, 1, 150),
    ] {
        let rates = Rates { input: pico, ..Rates::default() };
        let usage = Usage { input: tokens, ..Usage::default() };
        assert_eq!(rates.cost(&of(&usage)), nano, "{pico} × {tokens}");
    }
    // Two halves make one, because the sum is what is rounded.
    let rates = Rates { input: 300, output: 300, ..Rates::default() };
    let usage = Usage { input: 1, output: 1, ..Usage::default() };
    assert_eq!(rates.cost(&of(&usage)), 1);
    // Half a millisecond's worth of audio.
    let rates = Rates { per_second: 500, ..Rates::default() };
    assert_eq!(rates.cost(&of(&Usage { audio_ms: 1, ..Usage::default() })), 1);
}

#[test]
fn extremes_stop_at_the_largest_cost() {
    let rates = Rates::of_amounts([u64::MAX; 12]);
    let huge = Usage { input: u64::MAX, output: u64::MAX, ..Usage::default() };
    let all = Usage { audio_ms: u64::MAX, ..huge };
    let billed = Billed { images: u64::MAX, ..of(&all) };
    assert_eq!(rates.cost(&billed), COST_MAX);
    assert_eq!(rates.reserve((u64::MAX, u64::MAX), u64::MAX, u64::MAX), COST_MAX);
    let split = Usage { cached: u64::MAX, reasoning: u64::MAX, ..huge };
    assert_eq!(rates.cost(&of(&split)), COST_MAX);
    let rates = Rates { input: 1, ..Rates::default() };
    assert_eq!(rates.cost(&of(&huge)), u64::MAX / 1_000 + 1);
}

#[test]
fn the_price_in_force_is_the_latest_that_has_begun() {
    let mut prices = Prices::default();
    let rates = |input| Rates { input, ..Rates::default() };
    assert!(prices.add("m", 200, rates(2)));
    assert!(prices.add("m", 100, rates(1)));
    assert!(prices.add("other", i64::MIN, rates(9)));
    assert!(!prices.add("m", 200, rates(3)), "one from 200 is there");
    let at = |model: &str, at_ms| prices.of(model).at(at_ms).map(|price| price.rates.input);
    for (at_ms, input) in [
        (i64::MIN, None),
        (99, None),
        (100, Some(1)),
        (199, Some(1)),
        (200, Some(2)),
        (i64::MAX, Some(2)),
    ] {
        assert_eq!(at("m", at_ms), input, "{at_ms}");
    }
    assert_eq!(at("other", i64::MIN), Some(9));
    assert_eq!(at("unknown", 0), None);
    assert_eq!(prices.iter().count(), 3);
}

#[test]
fn a_version_is_the_content_and_stays_the_same() {
    let price = Price::new("m", 1, POWERS);
    // Written down, because rows that were stored name it.
    assert_eq!(price.version.to_string(), "f28937837bee");
    assert_eq!(PriceVersion::from_number(price.version.number()), Some(price.version));
    let mut others = vec![Price::new("n", 1, POWERS), Price::new("m", 2, POWERS)];
    for place in 0..12 {
        let mut amounts = POWERS.amounts();
        amounts[place] += 1;
        others.push(Price::new("m", 1, Rates::of_amounts(amounts)));
    }
    for other in others {
        assert_ne!(other.version, price.version, "{other:?}");
    }
    assert_eq!(Rates::of_amounts(POWERS.amounts()), POWERS);
    for number in [0, 1 << 48, u64::MAX] {
        assert_eq!(PriceVersion::from_number(number), None);
    }
}

/// Counts of all sizes.
fn count() -> impl Strategy<Value = u64> {
    prop_oneof![0..10_u64, 0..100_000_u64, any::<u64>()]
}

prop_compose! {
    fn usage()(
        input in count(), cached in count(), cache_write in count(), output in count(),
        reasoning in count(), audio_input in count(), audio_output in count(),
        image_input in count(), image_output in count(), audio_ms in count(),
    ) -> Usage {
        Usage {
            input, cached, cache_write, output, reasoning, audio_input, audio_output, image_input,
            image_output, audio_ms, ..Usage::default()
        }
    }
}

proptest! {
    /// Whatever an upstream states, the cost lies between all tokens at the cheapest and all at the
    /// dearest rate: nothing is charged twice, nothing is left out, and a reservation holds.
    #[test]
    fn a_cost_is_within_what_its_totals_can_cost(
        usage in usage(),
        amounts in prop::array::uniform12(0..1_u64 << 40),
        images in 0..1_000_u64,
    ) {
        let rates = Rates::of_amounts(amounts);
        let billed = Billed { images, ..of(&usage) };
        let cost = rates.cost(&billed);
        let most = rates.reserve((usage.input, usage.output), images, usage.audio_ms);
        prop_assert!(cost <= most);
        let cheapest = |rates: &[u64]| rates.iter().copied().min().unwrap_or(0);
        let [i, c, w, o, r, ii, io, ai, ao, ..] = amounts;
        let least = Rates {
            input: cheapest(&[i, c, w, ii, ai]),
            output: cheapest(&[o, r, io, ao]),
            per_request: rates.per_request,
            per_image: rates.per_image,
            ..Rates::default()
        };
        let totals = Usage { input: usage.input, output: usage.output, ..Usage::default() };
        let least = least.cost(&Billed { usage: &totals, ..billed });
        prop_assert!(cost >= least);
    }

    /// With one rate for all, the classes make no difference.
    #[test]
    fn classes_of_the_same_rate_change_nothing(usage in usage(), rate in 0..1_u64 << 40) {
        let rates = Rates::of_amounts([rate; 12]);
        let rates = Rates { per_request: 0, per_image: 0, per_second: 0, ..rates };
        let totals = Usage { input: usage.input, output: usage.output, ..Usage::default() };
        prop_assert_eq!(rates.cost(&of(&usage)), rates.cost(&of(&totals)));
    }
}
