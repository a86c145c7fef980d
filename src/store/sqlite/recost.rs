//! Computing the cost of stored rows again, from nothing but the rows and the prices that they name.

use rusqlite::params;

use crate::price::{Billed, PriceVersion};
use crate::record::EventId;
use crate::usage::UsageSource;

use super::sums::usage_at;
use super::{Difference, Recost, Sqlite, StoreError, from_sql};

const ROWS: &str = "SELECT event_id, usage_source, output_images, audio_ms, price_version,
        cost_nano_usd, input_tokens, cached_tokens, cache_write_tokens, output_tokens,
        reasoning_tokens, audio_input_tokens, audio_output_tokens, image_input_tokens,
        image_output_tokens, accepted_prediction_tokens, rejected_prediction_tokens, total_tokens,
        tenant, key_id, model
    FROM requests WHERE started_at_ms >= ?1 AND started_at_ms < ?2";

impl Sqlite {
    pub(super) fn recost(
        &self,
        from_ms: i64,
        until_ms: i64,
        each: &mut dyn FnMut(Difference),
    ) -> Result<Recost, StoreError> {
        let _snapshot = self.read()?;
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
    use super::*;
    use crate::price::{Prices, Rates};
    use crate::store::samples::store_with;
    use crate::store::tests::recost::row;

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
            store.connection().execute(&change, []).unwrap();
            let mut found = Vec::new();
            let recost = store.recost(i64::MIN, i64::MAX, &mut |one| found.push(one)).unwrap();
            assert_eq!((recost.rows, found.len()), (2, 1), "{change}");
            assert_eq!(found[0].event_id, rows[1].opened.event_id);
            assert_eq!((found[0].stored, found[0].computed), (stored, computed), "{change}");
        }
    }
}
