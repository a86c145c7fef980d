//! Whether what is derived is what it was derived from, and mending it: roll-ups and rows by the hour, the sums of
//! days, what rows cost, and rows with a date that cannot be.

use crate::record::{EventId, Row};

use super::{Balance, Counts, StoreError, Sums};

/// Whose roll-up it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner {
    pub key_id: String,
    pub model: String,
    pub tenant: String,
}

/// A roll-up that differs: as it is stored, and as its rows make it. `None`: there is none.
#[derive(Clone, Debug)]
pub(crate) struct Differing {
    pub owner: Owner,
    pub stored: Option<Sums>,
    pub recomputed: Option<Sums>,
}

/// A day's sum that differs: as it is stored, and as the folded roll-ups make it. `None`: there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DifferingDay {
    pub tenant: String,
    pub key_id: String,
    pub stored: Option<Counts>,
    pub recomputed: Option<Counts>,
}

/// A column of a row that is not what the row's record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Changed {
    pub field: String,
    pub stored: String,
    pub recorded: String,
}

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

/// A row of the future, and the date that it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Misdated {
    pub event_id: EventId,
    pub tenant: String,
    pub key_id: String,
    pub model: String,
    /// Both in milliseconds since the epoch.
    pub started_at_ms: i64,
    pub redated_ms: i64,
}

/// The side of the store that computes again what is stored. Hours and days are since the epoch, in UTC, moments
/// milliseconds since then.
pub(crate) trait Audit {
    /// The first hour from `hour` on that has rows or roll-ups.
    fn next_hour(&self, hour: i64) -> Result<Option<i64>, StoreError>;

    /// The roll-ups of an hour that are not what its rows add up to, and how many rows those are.
    fn differing(&self, hour: i64) -> Result<(Vec<Differing>, u64), StoreError>;

    /// Makes an hour's roll-ups what its rows add up to, and the sums of its day what the roll-ups do.
    /// An hour whose rows have become too old meanwhile stays as it is: its roll-ups are all that is left of
    /// them.
    fn rebuild_hour(&mut self, hour: i64) -> Result<(), StoreError>;

    /// The first day from `day` on that has sums, or folded roll-ups.
    fn next_day(&self, day: i64) -> Result<Option<i64>, StoreError>;

    /// The sums of a day that are not what its folded roll-ups add up to.
    fn differing_day(&self, day: i64) -> Result<Vec<DifferingDay>, StoreError>;

    /// Makes a day's sums what its folded roll-ups add up to.
    fn rebuild_day(&mut self, day: i64) -> Result<(), StoreError>;

    /// What [`Reports::balances_in`](super::Reports::balances_in) would say of one span if there were no sums but
    /// only rows.
    fn balances_of_rows(&self, from_ms: i64, until_ms: i64) -> Result<Vec<Balance>, StoreError>;

    /// Compares a request's row with its record, column by column. `None`: there is no row. One that was
    /// redated has another date than its record.
    fn changed(&self, row: &Row) -> Result<Option<Vec<Changed>>, StoreError>;

    /// Computes the cost of all requests that began in `from_ms..until_ms` again, and hands `each` those that say
    /// another.
    fn recost(
        &self,
        from_ms: i64,
        until_ms: i64,
        each: &mut dyn FnMut(Difference),
    ) -> Result<Recost, StoreError>;

    /// Hands `each` the rows of requests that began after `until_ms`, in the order in which they were
    /// stored, at most `limit`, with the dates that [`Self::redate`] would give them.
    fn misdated(
        &self,
        until_ms: i64,
        now_ms: i64,
        limit: usize,
        each: &mut dyn FnMut(Misdated),
    ) -> Result<(), StoreError>;

    /// Gives the rows of requests that began after `until_ms` a date that can be: that of the clock which
    /// made their id, if it is not too late, too; else that of the row stored before them, or without
    /// one `now_ms`. A row keeps a flag that says so. Returns how many rows these were.
    fn redate(&mut self, until_ms: i64, now_ms: i64) -> Result<u64, StoreError>;
}

impl Recost {
    pub(crate) fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.unpriced += other.unpriced;
        self.stored_nano_usd += other.stored_nano_usd;
        self.nano_usd += other.nano_usd;
    }
}
