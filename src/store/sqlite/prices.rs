//! The table of price versions.

use rusqlite::Connection;

use crate::price::{Price, Prices, Rates};

use super::{PriceVersions, Sqlite, StoreError, from_sql, to_sql};

/// It takes the place of an entry that somebody has changed, and of no other: a version is its content.
const ADD: &str = "
INSERT OR REPLACE INTO price_versions
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)";

impl Sqlite {
    pub(super) fn record_prices(&mut self, prices: &Prices) -> Result<(), StoreError> {
        let known = self.price_versions()?;
        let is_new = |(_, price): &(&str, &Price)| known.rates(price.version).is_none();
        if !prices.iter().any(|entry| is_new(&entry)) {
            return Ok(());
        }
        let tx = self.write()?;
        for (model, price) in prices.iter().filter(is_new) {
            let mut add = tx.prepare_cached(ADD)?;
            add.raw_bind_parameter(1, to_sql(price.version.number()))?;
            add.raw_bind_parameter(2, model)?;
            add.raw_bind_parameter(3, price.from_ms)?;
            for (at, amount) in price.rates.amounts().into_iter().enumerate() {
                add.raw_bind_parameter(4 + at, to_sql(amount))?;
            }
            add.raw_execute()?;
        }
        Ok(tx.commit()?)
    }

    pub(super) fn price_versions(&self) -> Result<PriceVersions, StoreError> {
        read(&self.conn)
    }
}

pub(super) fn read(conn: &Connection) -> Result<PriceVersions, StoreError> {
    let mut all = conn.prepare_cached("SELECT * FROM price_versions")?;
    let mut rows = all.query([])?;
    let mut versions = PriceVersions::default();
    while let Some(row) = rows.next()? {
        let number = from_sql(row.get(0)?);
        let (model, from_ms) = (row.get::<_, String>(1)?, row.get(2)?);
        let mut amounts = [0; 12];
        for (at, amount) in amounts.iter_mut().enumerate() {
            *amount = from_sql(row.get(3 + at)?);
        }
        let price = Price::new(&model, from_ms, Rates::of_amounts(amounts));
        if price.version.number() == number {
            versions.rates.insert(price.version, price.rates);
        } else {
            versions.changed.push(format!("{number:012x} of `{model}`"));
        }
    }
    Ok(versions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::store::samples::store_with;

    #[test]
    fn prices_stay_for_good_and_a_changed_one_is_found_and_mended() {
        let (dir, mut store) = store_with(&[]);
        let mut prices = Prices::default();
        prices.add("m", i64::MIN, Rates::of_amounts(std::array::from_fn(|at| at as u64)));
        prices.add("m", 5, Rates { input: i64::MAX as u64, ..Rates::default() });
        store.record_prices(&prices).unwrap();
        let first = store.price_versions().unwrap();
        assert_eq!((first.rates.len(), first.changed.len()), (2, 0));
        for (_, price) in prices.iter() {
            assert_eq!(first.rates(price.version), Some(&price.rates));
        }
        // Again, and with another table: what is there stays.
        let mut other = Prices::default();
        other.add("m", 5, Rates::default());
        let mut store = Store::open(dir.path()).unwrap();
        store.record_prices(&prices).unwrap();
        store.record_prices(&other).unwrap();
        let all = store.price_versions().unwrap();
        assert_eq!((all.rates.len(), all.changed.len()), (3, 0));
        assert!(first.rates.keys().all(|version| all.rates(*version).is_some()));

        store.connection().execute("UPDATE price_versions SET output_pico_usd = 1", []).unwrap();
        let changed = store.price_versions().unwrap();
        assert_eq!((changed.rates.len(), changed.changed.len()), (0, 3));
        assert!(changed.changed[0].ends_with(" of `m`"), "{:?}", changed.changed);
        store.record_prices(&prices).unwrap();
        let mended = store.price_versions().unwrap();
        assert_eq!((mended.rates, mended.changed.len()), (first.rates, 1));
    }
}
