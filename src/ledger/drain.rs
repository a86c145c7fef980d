//! The drain carries records from the journal to the store: it joins each `Opened` with its `Closed`,
//! appends the rows in batches together with how far it has read, and removes segments whose every
//! request has ended and is stored. It owns no truth: whatever it holds can be read again, and the store
//! takes a row only once. While the store is away it waits, and the journal grows.

pub(crate) mod damage;
mod error;
mod unmatched_ends;
mod aging;
mod open_requests;
mod schedule;
mod progress;
mod reading;
mod segment_removal;
mod replay;
mod unreadable;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use self::error::{ReadError, Unread};
use self::open_requests::OpenRequests;
pub(crate) use self::progress::Progress;
use self::reading::{Cursor, Found};
pub(crate) use self::schedule::ROW_WAIT;
use self::schedule::Schedule;
use self::unmatched_ends::UnmatchedEnds;
use self::unreadable::PATIENCE;
use crate::journal::Directory;
use crate::journal::codec::{Names, Record};
use crate::journal::disk::{Disk, Os};
use crate::ledger::pacing::Pacing;
use crate::price::Prices;
use crate::record::{Closed, EventId, Opened, Row};
use crate::store::{Position, Store, StoreError};

pub use self::error::{DrainError, Unremoved};

/// Rows in one transaction.
const MAX_BATCH: usize = 4_000;
/// A pass with more rows is a rush, after which its memory is given back.
const RUSH_ROWS: usize = 256;
/// Bytes of a segment read at once; many times the longest record.
const READ_BYTES: usize = 256 * 1024;
/// By so much a segment's position has moved before it is written again beside workers: each costs a page
/// of the commit, and what stands behind it is only read once more, after a crash.
const POSITION_BYTES: u64 = 64 * 1024;

/// The reading end of the journal.
#[derive(Debug)]
pub(crate) struct Drain<D: Disk = Os> {
    directory: Arc<Directory<D>>,
    pub(crate) store: Store,
    /// What rows will name; a store that takes this one's place is told, too.
    prices: Prices,
    names: Names,
    /// By number; each record asks, and there are only a few.
    cursors: BTreeMap<u64, Cursor<D::File>>,
    /// Requests that are open, and in which segment.
    open: OpenRequests,
    held: UnmatchedEnds,
    /// Reused for every read; never shorter than it was.
    chunk: Vec<u8>,
    rows: Vec<Row>,
    progress: Progress,
    /// The first segment that the last pass could not read to its end.
    unread: Option<Unread>,
    /// What the last try to remove segments could not.
    unremoved: Option<Unremoved>,
    schedule: Schedule,
    /// When the pass is, since any one moment.
    now: Duration,
    /// How long what a segment's disk does not give back is tried again.
    patience: Duration,
    pub(crate) pacing: Pacing,
}

impl<D: Disk> Drain<D> {
    /// With [`Durability::Power`] the store has to sync its commits: what it has taken, the journal
    /// forgets.
    pub(crate) fn new(directory: Arc<Directory<D>>, mut store: Store) -> Result<Self, StoreError> {
        // A number can come again when its file's name did not survive a power cut: what the store
        // knows of the old file is not true of the new one.
        let numbers: Vec<_> = directory.segments().iter().map(|segment| segment.number).collect();
        store.begin_drain(&numbers)?;
        Ok(Self {
            directory,
            store,
            prices: Prices::default(),
            names: Names::default(),
            cursors: BTreeMap::new(),
            open: OpenRequests::default(),
            held: UnmatchedEnds::default(),
            chunk: Vec::new(),
            rows: Vec::new(),
            progress: Progress::default(),
            unread: None,
            unremoved: None,
            schedule: Schedule::new(ROW_WAIT),
            now: Duration::ZERO,
            patience: PATIENCE,
            pacing: Pacing::off(),
        })
    }

    /// The journal that this drain empties.
    pub(crate) fn directory(&self) -> Arc<Directory<D>> {
        self.directory.clone()
    }

    /// Writes down the prices that rows will name, before any of them does, in this store and in any
    /// that takes its place.
    pub(crate) fn record_prices(&mut self, prices: &Prices) -> Result<(), StoreError> {
        self.store.record_prices(prices)?;
        self.prices.clone_from(prices);
        Ok(())
    }

    /// Beside workers, few rows wait for others for so long.
    pub(crate) fn set_row_wait(&mut self, row_wait: Duration) {
        self.schedule = Schedule::new(row_wait);
    }

    /// Carries over everything that is published now, and removes what is done with.
    pub(crate) fn pass(&mut self) -> Result<Progress, DrainError> {
        self.read_published()?;
        self.store_rows(1)?;
        self.end_rush();
        self.remove_finished()?;
        Ok(self.progress)
    }

    /// The same beside workers, at `now` since any one moment: what may wait for a better one does.
    pub(crate) fn pass_at(&mut self, now: Duration) -> Result<Progress, DrainError> {
        self.now = now;
        self.read_published()?;
        if self.schedule.stores(self.rows.len(), now) {
            self.store_rows(POSITION_BYTES)?;
        }
        self.end_rush();
        if self.schedule.removes(now) {
            self.remove_finished()?;
            self.schedule.has_removed(self.unremoved.is_none());
        }
        Ok(self.progress)
    }

    /// How long after `now` the next [`Drain::pass_at`] is due.
    pub(crate) fn rest(&self, now: Duration) -> Duration {
        self.schedule.rest(now)
    }

    /// Reads what is published now, oldest segment first: a `Closed` can stand in a later segment than its
    /// `Opened`, never in an earlier one.
    fn read_published(&mut self) -> Result<(), DrainError> {
        self.progress = Progress::default();
        self.follow_store()?;
        if self.rows.len() >= MAX_BATCH {
            // The store would not take them last time; no more than a batch ever waits.
            self.store_rows(1)?;
        }
        self.unread = None;
        for found in self.published() {
            match self.read(&found) {
                Ok(()) => self.cursor(found.segment.number).failing = None,
                Err(ReadError::Store(error)) => return Err(error.into()),
                Err(ReadError::Io(source)) => {
                    self.set_back(&found, &source);
                    self.progress.unread += 1;
                    let path = found.segment.path.clone();
                    self.unread.get_or_insert(Unread { path, source });
                }
            }
        }
        self.end_held()?;
        Ok(())
    }

    /// How far each segment may be read in this pass, all before any is read, and the newest first: what is
    /// published of a segment is only ever more. So whatever has an end that is in here has its beginning
    /// in here as well, though others publish meanwhile.
    fn published(&self) -> Vec<Found> {
        let newest_first = self.directory.segments().into_iter().rev();
        let mut found: Vec<_> = newest_first
            .map(|segment| {
                let is_sealed = segment.is_sealed();
                let published = segment.published();
                Found { segment, is_sealed, published }
            })
            .collect();
        found.reverse();
        found
    }

    /// When somebody removed or replaced a file of the store, what is written to the old one is lost. The
    /// journal then stays as it is until there is a store again, and is read from its beginning.
    fn follow_store(&mut self) -> Result<(), StoreError> {
        if !self.store.is_replaced()? {
            return Ok(());
        }
        let store = self.store.reopen()?;
        let mut again = Self::new(self.directory.clone(), store)?;
        // A backup may be older than the prices in force.
        again.record_prices(&self.prices)?;
        again.pacing = std::mem::take(&mut self.pacing);
        std::mem::swap(&mut again.schedule, &mut self.schedule);
        (again.now, again.patience) = (self.now, self.patience);
        tracing::error!(
            "files of the store, or its content, were removed or replaced; the journal is read into what is there now"
        );
        *self = again;
        Ok(())
    }

    fn take(&mut self, number: u64, record: Record, end: u64) -> Result<(), ReadError> {
        let cursor = self.cursors.get_mut(&number).expect("a segment that is read has one");
        match record {
            Record::Opened(opened) => {
                cursor.open += 1;
                let event_id = opened.event_id;
                let oldest_ms = cursor.oldest_ms.unwrap_or(i64::MAX);
                cursor.oldest_ms = Some(oldest_ms.min(opened.started_at_ms));
                cursor.newest_ms = cursor.newest_ms.max(Some(opened.started_at_ms));
                let before = self.open.insert(opened.event_id, (number, opened));
                // Written once more after a failed sync.
                if let Some(cursor) = before.and_then(|(origin, _)| self.cursors.get_mut(&origin)) {
                    cursor.open -= 1;
                }
                if let Some(closed) = self.held.take(event_id) {
                    return self.join(number, closed, end);
                }
            }
            Record::Closed(closed) => {
                let is_stored = end <= cursor.stored;
                let is_open = self.open.contains_key(&closed.event_id);
                match (is_open, is_stored) {
                    (true, true) => drop(self.end(closed.event_id)),
                    (true, false) => self.join(number, closed, end)?,
                    (false, true) => {}
                    (false, false) if self.is_unread_up_to(number) => self.hold(number, closed),
                    (false, false) => self.orphan(number, &closed)?,
                }
            }
        }
        Ok(())
    }

    /// A request is not open any more.
    fn end(&mut self, event_id: EventId) -> Option<Opened> {
        let (origin, opened) = self.open.remove(&event_id)?;
        if let Some(cursor) = self.cursors.get_mut(&origin) {
            cursor.open -= 1;
        }
        Some(opened)
    }

    /// Makes a row of a request whose two records have been read, the later of which ends at `end`.
    fn join(&mut self, number: u64, closed: Closed, end: u64) -> Result<(), ReadError> {
        let opened = self.end(closed.event_id).expect("it is open");
        self.rows.push(Row { opened, closed });
        if self.rows.len() >= MAX_BATCH {
            self.cursor(number).read = end;
            self.store_rows(POSITION_BYTES)?;
        }
        Ok(())
    }

    /// A request whose beginning is missing: it is in the store, and its segment gone, or was damaged.
    fn orphan(&mut self, number: u64, closed: &Closed) -> Result<(), StoreError> {
        self.store_rows(1)?;
        if !self.store.has_row(closed.event_id)? {
            self.progress.orphans += 1;
            tracing::warn!(
                segment = number,
                event_id = %closed.event_id,
                end = closed.end.name(),
                total_tokens = closed.usage.total,
                "the journal has the end of a request but not its beginning: it is in no report"
            );
        }
        Ok(())
    }

    /// Stores what has been joined, with how far every segment has been read, where that has moved by
    /// `moved` bytes.
    fn store_rows(&mut self, moved: u64) -> Result<(), StoreError> {
        if !self.rows.is_empty() {
            self.append_rows(moved)?;
        }
        for segment in self.directory.segments() {
            if let Some(cursor) = self.cursors.get(&segment.number) {
                segment.settle(cursor.read);
            }
        }
        Ok(())
    }

    fn append_rows(&mut self, moved: u64) -> Result<(), StoreError> {
        // Before a position, every end is stored.
        let has_moved =
            |cursor: &Cursor<_>| cursor.held == 0 && cursor.read >= cursor.positioned + moved;
        let moved = self.cursors.values().filter(|cursor| has_moved(cursor));
        let position = |cursor: &Cursor<_>| {
            Some(Position { segment: cursor.name.clone()?, offset: cursor.read })
        };
        let positions: Vec<Position> = moved.filter_map(position).collect();
        let new = self
            .store
            .append_stepwise(&self.rows, &positions, &mut || self.pacing.pause_if_due())?;
        self.cursors.values_mut().filter(|cursor| has_moved(cursor)).for_each(|cursor| {
            cursor.positioned = cursor.read;
        });
        self.progress.rows += new as u64;
        self.rows.clear();
        self.let_go();
        self.schedule.stored();
        self.store.maintain()
    }

    /// Gives memory back that only a rush needed.
    fn end_rush(&mut self) {
        let is_over = self.progress.rows.max(self.rows.len() as u64) <= RUSH_ROWS as u64;
        if is_over && self.rows.capacity() > RUSH_ROWS {
            self.rows.shrink_to(RUSH_ROWS);
            self.store.release_memory();
        }
    }
}

#[cfg(test)]
mod tests;
