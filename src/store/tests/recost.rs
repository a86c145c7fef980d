//! Costs computed again.

use proptest::prelude::*;

use super::super::samples::{HOUR_MS, Sample, store_with};
use super::super::{Range, Store, Sums};
use crate::price::{Prices, Rates};
use crate::record::Row;
use crate::usage::{Usage, UsageSource};

pub(in crate::store) const MODELS: [&str; 3] = ["m", "n", "free"];

/// Two models, one of them with two prices in turn; the third has none.
fn prices(amounts: [[u64; 12]; 3]) -> Prices {
    let mut prices = Prices::default();
    let [always, first, second] = amounts.map(Rates::of_amounts);
    prices.add("m", i64::MIN, always);
    prices.add("n", 0, first);
    prices.add("n", 2 * HOUR_MS, second);
    prices
}

/// A row as the gateway would close it.
pub(in crate::store) fn row(
    prices: &Prices,
    id: u64,
    counts: [u64; 12],
    source: UsageSource,
) -> Row {
    let model = MODELS[id as usize % MODELS.len()];
    let at_ms = id as i64 * HOUR_MS / 7;
    let price = prices.of(model).at(at_ms).copied();
    let [input, cached, cache_write, output, reasoning, audio_input, rest @ ..] = counts;
    let [audio_output, image_input, image_output, audio_ms, output_images, reported] = rest;
    let usage = Usage {
        input,
        cached,
        cache_write,
        output,
        reasoning,
        audio_input,
        audio_output,
        image_input,
        image_output,
        audio_ms,
        reported_cost_nano_usd: Some(reported),
        ..Usage::default()
    };
    let version = price.map(|price| price.version);
    let sample = Sample { id, at_ms, model, source, usage, price: version, ..Sample::default() };
    let mut row = sample.row();
    row.closed.output_images = output_images;
    row.closed.cost_nano_usd = price.map(|price| price.rates.cost(&row.closed.billed()));
    row
}

fn stored_sums(store: &Store) -> Sums {
    let mut sums = Sums::default();
    let all = Range { from_ms: i64::MIN, until_ms: i64::MAX, key: None, tenant: None, model: None };
    store.addends(&all, &|_| false, &mut |addend| sums.add(&addend.sums)).unwrap();
    sums
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_computed_again_is_what_is_stored(
        amounts in prop::array::uniform3(prop::array::uniform12(0..1_u64 << 32)),
        rows in prop::collection::vec(
            (prop::array::uniform12(0..1_u64 << 20), 0..4_usize), 1..40
        ),
    ) {
        let prices = prices(amounts);
        let (_dir, mut store) = store_with(&[]);
        store.record_prices(&prices).unwrap();
        let rows: Vec<_> = (0..).zip(rows).map(|(id, (counts, source))| {
            row(&prices, id, counts, UsageSource::ALL[source])
        }).collect();
        store.append(&rows, &[]).unwrap();
        let recost = store.recost(i64::MIN, i64::MAX, &mut |one| panic!("{one:?}")).unwrap();
        let sums = stored_sums(&store);
        prop_assert_eq!(recost.rows, rows.len() as u64);
        prop_assert_eq!(recost.rows, sums.requests);
        prop_assert_eq!(recost.unpriced, sums.unpriced_requests);
        prop_assert_eq!(recost.stored_nano_usd, recost.nano_usd);
        let rolled_up = sums.cost_nano_usd.map_or(0, |cost| cost.cast_unsigned().into());
        prop_assert_eq!(recost.nano_usd, rolled_up);
        let balances = store.balances(i64::MIN, i64::MAX).unwrap();
        let balances: u128 = balances.iter().map(|one| u128::from(one.nano_usd)).sum();
        prop_assert_eq!(balances, rolled_up);
        let half = rows.len() as i64 * HOUR_MS / 14;
        let early = store.recost(i64::MIN, half, &mut |_| ()).unwrap();
        let late = store.recost(half, i64::MAX, &mut |_| ()).unwrap();
        prop_assert_eq!(early.nano_usd + late.nano_usd, recost.nano_usd);
    }
}
