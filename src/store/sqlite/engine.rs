//! [`Sqlite`] as an [`Engine`]: what the program asks for, and which file answers it. SQLite's errors name no file;
//! they get the database's name here.

mod tenancy;

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use crate::price::Prices;
use crate::record::{EventId, ResponseOwner, Row};
use crate::store::{Audit, Engine, Filter, Ingest, Reports, Request, Upkeep};
use crate::usage::End;

use super::{
    Addend, Balance, Changed, CopyError, Difference, Differing, DifferingDay, Future, Misdated,
    Position, PriceVersions, Range, Reading, Recost, Schema, Snapshot, Sqlite, StoreError,
};

impl Sqlite {
    /// A result whose error says of which file it is.
    fn at<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        result.map_err(|error| error.at(&self.path))
    }
}

impl Snapshot for Reading<'_> {}

impl Ingest for Sqlite {
    fn begin_drain(&mut self, segments: &[u64]) -> Result<(), StoreError> {
        let begun = self.watch_content();
        let begun = begun.and_then(|()| self.forget_segments_but(segments));
        let begun = begun.and_then(|()| self.checkpoint_by_hand());
        self.at(begun)
    }

    fn append_stepwise(
        &mut self,
        rows: &[Row],
        positions: &[Position],
        step: &mut dyn FnMut(),
    ) -> Result<usize, StoreError> {
        let result = Sqlite::append_stepwise(self, rows, positions, step);
        self.at(result)
    }

    fn positions(&self) -> Result<Vec<Position>, StoreError> {
        self.at(Sqlite::positions(self))
    }

    fn position(&self, segment: &str) -> Result<u64, StoreError> {
        self.at(Sqlite::position(self, segment))
    }

    fn has_row(&self, event_id: EventId) -> Result<bool, StoreError> {
        self.at(Sqlite::has_row(self, event_id))
    }

    fn forget_segments(&mut self, numbers: &[u64]) -> Result<(), StoreError> {
        let result = Sqlite::forget_segments(self, numbers);
        self.at(result)
    }

    fn maintain(&mut self) -> Result<(), StoreError> {
        let copied = self.checkpoint();
        self.at(copied)
    }

    fn release_memory(&self) {
        self.shrink();
    }

    fn record_prices(&mut self, prices: &Prices) -> Result<(), StoreError> {
        let result = Sqlite::record_prices(self, prices);
        self.at(result)
    }

    fn price_versions(&self) -> Result<PriceVersions, StoreError> {
        self.at(Sqlite::price_versions(self))
    }

    fn keep_response_owners(&mut self, most: usize) {
        self.most_owners = most;
    }

    fn response_owners(&self, take: &mut dyn FnMut(&str, ResponseOwner)) -> Result<(), StoreError> {
        self.at(Sqlite::response_owners(self, take))
    }
}

impl Reports for Sqlite {
    fn request(&self, id: EventId) -> Result<Option<Request>, StoreError> {
        self.at(Sqlite::request(self, id))
    }

    fn requests(
        &self,
        filter: &Filter,
        end: Option<End>,
        limit: u32,
    ) -> Result<Vec<Request>, StoreError> {
        self.at(Sqlite::requests(self, filter, end, limit))
    }

    fn requests_oldest_first(
        &self,
        filter: &Filter,
        end: Option<End>,
        each: &mut dyn FnMut(Request) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.at(Sqlite::requests_oldest_first(self, filter, end, each))
    }

    fn addends(
        &self,
        range: &Range<'_>,
        cut: &dyn Fn(i64) -> bool,
        each: &mut dyn FnMut(Addend<'_>),
    ) -> Result<(), StoreError> {
        self.at(Sqlite::addends(self, range, cut, each))
    }

    fn balances_in(
        &self,
        tenant: Option<&str>,
        spans: &[(i64, i64)],
    ) -> Result<Vec<Vec<Balance>>, StoreError> {
        self.at(Sqlite::balances_in(self, tenant, spans))
    }
}

impl Audit for Sqlite {
    fn next_hour(&self, hour: i64) -> Result<Option<i64>, StoreError> {
        self.at(Sqlite::next_hour(self, hour))
    }

    fn differing(&self, hour: i64) -> Result<(Vec<Differing>, u64), StoreError> {
        self.at(Sqlite::differing(self, hour))
    }

    fn rebuild_hour(&mut self, hour: i64) -> Result<(), StoreError> {
        let result = Sqlite::rebuild_hour(self, hour);
        self.at(result)
    }

    fn next_day(&self, day: i64) -> Result<Option<i64>, StoreError> {
        self.at(Sqlite::next_day(self, day))
    }

    fn differing_day(&self, day: i64) -> Result<Vec<DifferingDay>, StoreError> {
        self.at(Sqlite::differing_day(self, day))
    }

    fn rebuild_day(&mut self, day: i64) -> Result<(), StoreError> {
        let result = Sqlite::rebuild_day(self, day);
        self.at(result)
    }

    fn balances_of_rows(&self, from_ms: i64, until_ms: i64) -> Result<Vec<Balance>, StoreError> {
        self.at(Sqlite::balances_of_rows(self, from_ms, until_ms))
    }

    fn changed(&self, row: &Row) -> Result<Option<Vec<Changed>>, StoreError> {
        self.at(Sqlite::changed(self, row))
    }

    fn recost(
        &self,
        from_ms: i64,
        until_ms: i64,
        each: &mut dyn FnMut(Difference),
    ) -> Result<Recost, StoreError> {
        self.at(Sqlite::recost(self, from_ms, until_ms, each))
    }

    fn misdated(
        &self,
        until_ms: i64,
        now_ms: i64,
        limit: usize,
        each: &mut dyn FnMut(Misdated),
    ) -> Result<(), StoreError> {
        self.at(Sqlite::misdated(self, until_ms, now_ms, limit, each))
    }

    fn redate(&mut self, until_ms: i64, now_ms: i64) -> Result<u64, StoreError> {
        let result = Sqlite::redate(self, until_ms, now_ms);
        self.at(result)
    }
}

impl Upkeep for Sqlite {
    fn fold(
        &mut self,
        before: i64,
        limit: usize,
        step: &mut dyn FnMut(),
    ) -> Result<usize, StoreError> {
        let result = Sqlite::fold(self, before, limit, step);
        self.at(result)
    }

    fn expire(
        &mut self,
        before_ms: i64,
        limit: usize,
        step: &mut dyn FnMut(),
    ) -> Result<usize, StoreError> {
        let result = Sqlite::expire(self, before_ms, limit, step);
        self.at(result)
    }

    fn rows_from_ms(&self) -> Result<i64, StoreError> {
        self.at(Sqlite::rows_from_ms(self))
    }

    fn confirmed_ms(&self) -> Result<Option<i64>, StoreError> {
        self.at(Sqlite::confirmed_ms(self))
    }

    fn confirm(&mut self, before: Option<i64>, time_ms: i64) -> Result<bool, StoreError> {
        let result = Sqlite::confirm(self, before, time_ms);
        self.at(result)
    }

    fn witnessed_ms(&self, steady_ms: i64) -> Result<Option<i64>, StoreError> {
        self.at(Sqlite::witnessed_ms(self, steady_ms))
    }

    fn newest_ms(&self, until_ms: i64) -> Result<Option<i64>, StoreError> {
        self.at(Sqlite::newest_ms(self, until_ms))
    }

    fn future(&self, until_ms: i64) -> Result<Option<Future>, StoreError> {
        self.at(Sqlite::future(self, until_ms))
    }

    fn log_bytes(&self) -> u64 {
        self.wal_bytes()
    }

    fn copy_to(
        &self,
        path: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Vec<String>, CopyError> {
        Sqlite::copy_to(self, path, progress).map_err(|error| match error {
            CopyError::Store(error) => CopyError::Store(error.at(&self.path)),
            written => written,
        })
    }
}

impl Engine for Sqlite {
    fn another(&self) -> Result<Box<dyn Engine>, StoreError> {
        Ok(Box::new(self.open_sibling(Schema::Refuse)?))
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, StoreError> {
        self.at(self.read().map(|tx| Box::new(tx) as Box<dyn Snapshot>))
    }

    fn sync_commits(&mut self) -> Result<(), StoreError> {
        let result = Sqlite::sync_commits(self);
        self.at(result)
    }

    fn await_change(&mut self, tell: &mut dyn FnMut(Duration)) -> Result<(), StoreError> {
        let result = Sqlite::await_change(self, tell);
        self.at(result)
    }

    fn is_in_place(&self) -> bool {
        Sqlite::is_in_place(self)
    }

    fn is_replaced(&mut self) -> Result<bool, StoreError> {
        let is_replaced = if self.is_in_place() { self.is_rewritten() } else { Ok(true) };
        self.at(is_replaced)
    }

    fn reopen(&mut self) -> Result<Box<dyn Engine>, StoreError> {
        let store = Sqlite::reopen(self);
        Ok(Box::new(self.at(store)?))
    }

    fn is_file(&self, path: &Path) -> bool {
        self.files.have(path)
    }

    #[cfg(test)]
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    #[cfg(test)]
    fn as_any_mut(&mut self) -> &mut dyn std::any::Any {
        self
    }
}
