//! Computing the cost of stored rows again, from nothing but the rows and the prices that they name.

use rusqlite::params;

use crate::price::{Billed, PriceVersion};
use crate::record::EventId;
use crate::usage::UsageSource;

use super::sums::usage_at;
use super::{Store, StoreError, from_sql};

/// What a span of rows costs, as they say and as it is computed again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recost {
    pub rows: u64,
    /// Rows without a price.
    pub unpriced: u64,
    /// The sum of what the rows say, in nano-USD.
    pub stored_nano_usd: u128,
    /// The sum of what they should say.
    pub nano_usd: u128,
}

impl Recost {
    pub(crate) fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.unpriced += other.unpriced;
        self.stored_nano_usd += other.stored_nano_usd;
        self.nano_usd += other.nano_usd;
    }
}

/// A row that does not cost what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub event_id: EventId,
    pub tenant: String,
    pub key_id: String,
    pub model: String,
    /// In nano-USD, as is the next.
    pub stored: Option<u64>,
    /// `None`: it names no price, or one that is not in the store.
    pub computed: Option<u64>,
}

const ROWS: &str = "SELECT event_id, usage_source, output_images, audio_ms, price_version,
        cost_nano_usd, input_tokens, cached_tokens, cache_write_tokens, output_tokens,
        reasoning_tokens, audio_input_tokens, audio_output_tokens, image_input_tokens,
        image_output_tokens, accepted_prediction_tokens, rejected_prediction_tokens, total_tokens,
        tenant, key_id, model
    FROM requests WHERE started_at_ms >= ?1 AND started_at_ms < ?2";

impl Store {
    /// Computes the cost of all requests that began in `from_ms..until_ms` (milliseconds since the
    /// epoch) again, and hands `each` those that say another.
    pub(crate) fn recost(
        &self,
        from_ms: i64,
        until_ms: i64,
        mut each: impl FnMut(Difference),
    ) -> Result<Recost, StoreError> {
        let _snapshot = self.snapshot()?;
        let versions = self.price_versions()?;
        let mut statement = self.conn.prepare_cached(ROWS)?;
        let mut rows = statement.query(params![from_ms, until_ms])?;
        let mut sums = Recost::default();
        while let Some(row) = rows.next()? {
            let source = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
            let mut usage = usage_at(row, 6)?;
            usage.audio_ms = from_sql(row.get(3)?);
            let billed = Billed {
                usage: &usage,
                // What is no source of ours is charged like a stated one, so that it shows.
                source: UsageSource::from_name(source).unwrap_or(UsageSource::Reported),
                images: from_sql(row.get(2)?),
            };
            let version = row.get::<_, Option<i64>>(4)?.map(from_sql);
            let rates = version
                .and_then(PriceVersion::from_number)
                .and_then(|version| versions.rates(version));
            let computed = rates.map(|rates| rates.cost(&billed));
            let stored = row.get::<_, Option<i64>>(5)?.map(from_sql);
            sums.rows += 1;
            sums.unpriced += u64::from(version.is_none());
            sums.stored_nano_usd += u128::from(stored.unwrap_or(0));
            sums.nano_usd += u128::from(computed.unwrap_or(0));
            if stored != computed || version.is_some() != rates.is_some() {
                each(Difference {
                    event_id: EventId(row.get(0)?),
                    tenant: row.get(18)?,
                    key_id: row.get(19)?,
                    model: row.get(20)?,
                    stored,
                    computed,
                });
            }
        }
        Ok(sums)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::samples::{HOUR_MS, Sample, store_with};
    use super::super::{Range, Sums};
    use super::*;
    use crate::price::{Prices, Rates};
    use crate::record::Row;
    use crate::usage::Usage;

    const MODELS: [&str; 3] = ["m", "n", "free"];

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
    fn row(prices: &Prices, id: u64, counts: [u64; 12], source: UsageSource) -> Row {
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
        let sample =
            Sample { id, at_ms, model, source, usage, price: version, ..Sample::default() };
        let mut row = sample.row();
        row.closed.output_images = output_images;
        row.closed.cost_nano_usd = price.map(|price| price.rates.cost(&row.closed.billed()));
        row
    }

    fn stored_sums(store: &Store) -> Sums {
        let mut sums = Sums::default();
        let all =
            Range { from_ms: i64::MIN, until_ms: i64::MAX, key: None, tenant: None, model: None };
        store.addends(&all, |_| false, |addend| sums.add(&addend.sums)).unwrap();
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
            let recost = store.recost(i64::MIN, i64::MAX, |one| panic!("{one:?}")).unwrap();
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
            let early = store.recost(i64::MIN, half, |_| ()).unwrap();
            let late = store.recost(half, i64::MAX, |_| ()).unwrap();
            prop_assert_eq!(early.nano_usd + late.nano_usd, recost.nano_usd);
        }
    }

    #[test]
    fn a_row_that_says_another_cost_is_found() {
        for (change, stored, computed) in [
            ("cost_nano_usd = 4", Some(4), Some(3)),
            ("cost_nano_usd = NULL", None, Some(3)),
            ("input_tokens = 4", Some(3), Some(4)),
            ("price_version = NULL", Some(3), None),
            ("price_version = 77", Some(3), None),
            ("price_version = 77, cost_nano_usd = NULL", None, None),
            ("usage_source = 'none'", Some(3), Some(0)),
        ] {
            let mut prices = Prices::default();
            prices.add("m", 0, Rates { input: 1_000, ..Rates::default() });
            let (_dir, mut store) = store_with(&[]);
            store.record_prices(&prices).unwrap();
            let mut counts = [0; 12];
            counts[0] = 3;
            let rows = [0, 3].map(|id| row(&prices, id, counts, UsageSource::Reported));
            store.append(&rows, &[]).unwrap();
            let change = format!("UPDATE requests SET {change} WHERE started_at_ms > 0");
            store.conn.execute(&change, []).unwrap();
            let mut found = Vec::new();
            let recost = store.recost(i64::MIN, i64::MAX, |one| found.push(one)).unwrap();
            assert_eq!((recost.rows, found.len()), (2, 1), "{change}");
            assert_eq!(found[0].event_id, rows[1].opened.event_id);
            assert_eq!((found[0].stored, found[0].computed), (stored, computed), "{change}");
        }
    }
}
