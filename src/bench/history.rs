//! A store with as many requests, keys and days as `benches/ledger.rs` asks for, and what is asked of it:
//! reports, the balances that a start reads, and whether the books are right.

use std::path::Path;

use jiff::tz::TimeZone;

use super::{MODEL, Rows, Storing};
use crate::admit::Windows;
use crate::config::{Data, Durability};
use crate::ledger::pacing::Pacing;
use crate::ledger::report::{Group, usage};
use crate::ledger::verify::{Mend, Window, verify};
use crate::price::{Prices, Rates, Schedule};
use crate::store::Filter;
use crate::store::{Store, StoreError};

const BEGIN_MS: i64 = 1_767_225_600_000;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
const MODELS: [&str; 3] = [MODEL, "gpt-5.4-mini", "claude-sonnet-5"];
/// Of each tenant.
const TENANT_KEYS: u64 = 10;
/// As the drain does them.
const FOLDED_AT_ONCE: usize = 16_000;
const EXPIRED_AT_ONCE: usize = 4_000;

/// A store that fills with requests, spread evenly over their days, keys and models.
pub struct History {
    storing: Storing,
    /// What each request is charged by.
    price: Schedule,
    total: u64,
    keys: u64,
    days: i64,
}

impl History {
    /// Of `total` requests of `keys` keys in `days` days from the first of January 2026.
    pub fn new(dir: &Path, total: u64, keys: u64, days: u32) -> Self {
        let mut storing = Storing::new(dir);
        let mut prices = Prices::default();
        let rates = Rates { input: 2_500_000, output: 15_000_000, ..Rates::default() };
        prices.add(MODEL, i64::MIN, rates);
        storing.store.record_prices(&prices).expect("the disk has room");
        Self { storing, price: prices.of(MODEL), total, keys, days: days.into() }
    }

    /// The next rows, by when they began. Any key and model may follow any other.
    pub fn rows(&mut self, count: usize) -> Rows {
        let first = self.storing.next;
        let mut rows = self.storing.rows(count);
        let all_ms = (self.days * DAY_MS).unsigned_abs();
        let price = self.price.at(BEGIN_MS).expect("it holds since ever");
        for (row, number) in rows.0.iter_mut().zip(first..) {
            let number = u64::try_from(number).expect("nobody makes so many");
            let at_ms = u128::from(number) * u128::from(all_ms) / u128::from(self.total);
            row.opened.started_at_ms = BEGIN_MS + i64::try_from(at_ms).expect("in these days");
            let mixed = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % (self.keys * 3);
            let key = mixed / 3;
            row.opened.key_id = format!("key_{key:016}").into();
            row.opened.tenant = format!("tenant-{}", key / TENANT_KEYS).into();
            row.opened.price_version = Some(price.version);
            row.closed.cost_nano_usd = Some(price.rates.cost(&row.closed.billed()));
            row.opened.model = MODELS[usize::try_from(mixed % 3).expect("one of three")].into();
        }
        rows
    }

    /// See [`Storing::append`].
    pub fn append(&mut self, rows: &Rows) -> usize {
        self.storing.append(rows)
    }

    /// Folds the roll-ups of all hours but the last, with rests as the drain does; returns how many those were.
    pub fn fold(&mut self) -> usize {
        let before = (BEGIN_MS + self.days * DAY_MS) / HOUR_MS - 1;
        let (store, mut pacing) = (&mut self.storing.store, Pacing::on());
        all(|| store.fold(before, FOLDED_AT_ONCE, &mut || pacing.pause_if_due()))
    }

    /// Deletes the rows of the first half of the days, likewise; returns how many those were.
    pub fn expire(&mut self) -> usize {
        let before_ms = BEGIN_MS + self.days * DAY_MS / 2;
        let (store, mut pacing) = (&mut self.storing.store, Pacing::on());
        all(|| store.expire(before_ms, EXPIRED_AT_ONCE, &mut || pacing.pause_if_due()))
    }

    /// What one key used in the 30 days from a day on, day by day in `zone` and model by model, on a
    /// connection of its own as a report has it; requests and tokens.
    pub fn month_of(&self, dir: &Path, key: u64, from_day: i64, zone: &str) -> (u64, u64) {
        let store = Store::open_existing(dir).expect("it was made");
        let since_ms = BEGIN_MS + from_day * DAY_MS;
        let filter = Filter {
            key: Some(format!("key_{:016}", key % self.keys)),
            since_ms: Some(since_ms),
            until_ms: Some(since_ms + 30 * DAY_MS),
            ..Filter::default()
        };
        let by = [Group::Day, Group::Model];
        let lines = usage(&store, &filter, &by, &zone_of(zone)).expect("a whole store");
        lines.iter().fold((0, 0), |(requests, tokens), line| {
            (requests + line.sums.requests, tokens + line.sums.usage.total)
        })
    }

    /// What a start at the end of the last day reads: the balances of all keys, or of one tenant's as when
    /// its zone changes, of that day and month in `zone`. How many keys have any, and their requests.
    pub fn balances(&self, dir: &Path, zone: &str, tenant: Option<u64>) -> (usize, u64) {
        let store = Store::open_existing(dir).expect("it was made");
        let spans = self.windows(zone).map(|window| (window.from_ms, window.until_ms));
        let tenant = tenant.map(|number| format!("tenant-{number}"));
        let balances = store.balances_of(tenant.as_deref(), spans);
        let [_, month] = balances.expect("a whole store");
        (month.len(), month.iter().map(|balance| balance.requests).sum())
    }

    /// Verifies the books at the end of the last day; how many numbers differ.
    pub fn verify(&self, dir: &Path) -> u64 {
        let data = Data {
            dir: dir.to_owned(),
            durability: Durability::Crash,
            segment_bytes: 64 << 20,
            keep_rows: None,
            response_owners: 1_000,
        };
        let report =
            verify(&data, &self.windows("UTC"), self.last_ms(), Mend::default(), &mut |_, _| ());
        report.expect("a whole store").differences.values().sum()
    }

    fn last_ms(&self) -> i64 {
        BEGIN_MS + self.days * DAY_MS - 1
    }

    /// Day and month of the last moment.
    fn windows(&self, zone: &str) -> [Window; 2] {
        let Windows { day, month } = Windows::at(&zone_of(zone), self.last_ms());
        [("this day", day), ("this month", month)].map(|(name, window)| Window {
            name,
            from_ms: window.start_ms,
            until_ms: window.end_ms,
        })
    }
}

/// Does batch after batch, until one finds nothing; how much all of them found.
fn all(mut batch: impl FnMut() -> Result<usize, StoreError>) -> usize {
    let mut count = 0;
    loop {
        match batch().expect("the disk has room") {
            0 => return count,
            found => count += found,
        }
    }
}

fn zone_of(name: &str) -> TimeZone {
    TimeZone::get(name).expect("a zone that every machine knows")
}
