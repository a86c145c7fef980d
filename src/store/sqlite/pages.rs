//! All requests, oldest first, a page at a time. No transaction is open while a page is written: a reader that
//! pauses (`weir export - | less`) would let the store's WAL grow for as long.
//!
//! The result is that of one moment all the same. What is stored later is told by its row id, and left out;
//! a row never changes; and when retention deletes rows that had still to be read, that is an error.

use std::ops::ControlFlow;

use rusqlite::{Connection, OptionalExtension, params};

use super::requests::{OLDEST, request_of};
use super::{HOUR_MS, Sqlite, StoreError};
use crate::clock::moment;
use crate::store::{Filter, Range, Request};
use crate::usage::End;

/// What is in memory at once; a row is 3 KiB at most.
const PAGE_ROWS: usize = 1_000;

const NEXT: &str = "SELECT started_at_ms FROM requests
    WHERE (started_at_ms, event_id) > (?1, ?2) AND rowid <= ?3
    ORDER BY started_at_ms, event_id LIMIT 1";

impl Sqlite {
    pub(super) fn requests_oldest_first(
        &self,
        filter: &Filter,
        end: Option<End>,
        each: &mut dyn FnMut(Request) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut pages = Pages::begin(self, filter, end)?;
        while let Some(page) = pages.next()? {
            if page.into_iter().try_for_each(&mut *each).is_break() {
                break;
            }
        }
        Ok(())
    }
}

struct Pages<'a> {
    store: &'a Sqlite,
    range: Range<'a>,
    end: Option<End>,
    /// Rows behind it came later.
    last_row_id: i64,
    /// From when on all rows were there.
    rows_from_ms: i64,
    /// Up to which moment and event id rows have been read.
    after: (i64, Vec<u8>),
    /// When the first row after that began; `None`: there is none.
    next_ms: Option<i64>,
}

impl<'a> Pages<'a> {
    fn begin(store: &'a Sqlite, filter: &'a Filter, end: Option<End>) -> Result<Self, StoreError> {
        let range = filter.range();
        let tx = store.read()?;
        let last_row_id = "SELECT coalesce(max(rowid), 0) FROM requests";
        let last_row_id = tx.query_row(last_row_id, [], |row| row.get(0))?;
        let rows_from_ms = store.rows_from_ms()?;
        let from_ms = match rows_from_ms {
            0 => range.from_ms,
            // What is older is being deleted.
            _ => range.from_ms.max(rows_from_ms),
        };
        let (after, next_ms) = ((from_ms, Vec::new()), None);
        let mut pages = Self { store, range, end, last_row_id, rows_from_ms, after, next_ms };
        pages.next_ms = pages.row_after(&tx)?;
        Ok(pages)
    }

    /// The next page: of one hour, in which none may pass the filter.
    fn next(&mut self) -> Result<Option<Vec<Request>>, StoreError> {
        let tx = self.store.read()?;
        let Some(at_ms) = self.next_ms.filter(|at_ms| *at_ms < self.range.until_ms) else {
            return Ok(None);
        };
        let rows_from_ms = self.store.rows_from_ms()?;
        if rows_from_ms > self.rows_from_ms.max(at_ms) {
            return Err(StoreError::RowsExpired { before: moment(rows_from_ms) });
        }
        let hour_end = at_ms.div_euclid(HOUR_MS).saturating_add(1).saturating_mul(HOUR_MS);
        let page = self.page(&tx, hour_end.min(self.range.until_ms))?;
        self.next_ms = self.row_after(&tx)?;
        Ok(Some(page))
    }

    fn page(&mut self, conn: &Connection, until_ms: i64) -> Result<Vec<Request>, StoreError> {
        let Range { key, tenant, model, .. } = self.range;
        let end = self.end.map(End::name);
        let mut statement = conn.prepare_cached(OLDEST)?;
        let (after_ms, after_id) = &self.after;
        let limit = PAGE_ROWS as i64;
        let (page, last) = {
            let bound = params![
                key,
                after_ms,
                until_ms,
                tenant,
                model,
                end,
                limit,
                after_id,
                self.last_row_id
            ];
            let (mut page, mut last) = (Vec::new(), None);
            let mut rows = statement.query(bound)?;
            while let Some(row) = rows.next()? {
                page.push(request_of(row)?);
                if page.len() == PAGE_ROWS {
                    last = Some((row.get(7)?, row.get(0)?));
                }
            }
            (page, last)
        };
        // A page that is not full was the hour's last.
        self.after = last.unwrap_or((until_ms, Vec::new()));
        Ok(page)
    }

    fn row_after(&self, conn: &Connection) -> Result<Option<i64>, StoreError> {
        let (after_ms, after_id) = &self.after;
        let mut statement = conn.prepare_cached(NEXT)?;
        let bound = params![after_ms, after_id, self.last_row_id];
        Ok(statement.query_row(bound, |row| row.get(0)).optional()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::store::samples::{Sample, store_with};
    use crate::store::tests::pages::sample;

    /// A reader that pauses while rows come: none of them is in the result, wherever in time they stand,
    /// and the WAL begins anew all the same.
    #[test]
    fn what_comes_meanwhile_is_left_out_and_the_wal_stays_small() {
        let first: Vec<_> = (0..3_000).map(|id| sample(id, id as i64 * 10_000)).collect();
        let (dir, store) = store_with(&first);
        let mut writer = Store::open(dir.path()).expect("opens");
        let batch = |from: u64| -> Vec<_> {
            let late = |n: u64| Sample {
                id: from + n,
                at_ms: (n as i64 * 29_999) % 30_000_000,
                ..Sample::default()
            };
            (0..1_000).map(|n| late(n).row()).collect()
        };
        let (mut seen, mut largest) = (0, 0);
        store
            .each_request::<StoreError>(&Filter::default(), None, |_| {
                if seen % 50 == 0 {
                    writer.append(&batch(10_000 + seen * 1_000), &[])?;
                    largest = largest.max(writer.log_bytes());
                }
                seen += 1;
                Ok(())
            })
            .expect("reads");
        assert_eq!(seen, 3_000);
        let rows = writer.balances(0, i64::MAX).expect("reads")[0].requests;
        assert_eq!(rows, 63_000);
        // Twice what makes a commit copy it to the store.
        assert!(largest < 16 << 20, "the WAL grew to {largest} bytes");
    }
}
