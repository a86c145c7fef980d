//! The drain carries records from the journal to the store: it joins each `Opened` with its `Closed`,
//! appends the rows in batches together with how far it has read, and removes segments whose every
//! request has ended and is stored. It owns no truth: whatever it holds can be read again, and the store
//! takes a row only once. While the store is away it waits, and the journal grows.

pub(in crate::ledger) mod damage;
mod error;
mod open;
mod progress;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use self::error::ReadError;
use self::open::OpenRequests;
pub(crate) use self::progress::Progress;
use crate::config::Durability;
use crate::ledger::breath::Breath;
use crate::ledger::codec::{self, Names, Record, Step};
use crate::ledger::journal::disk::{Disk, DiskFile, Os};
use crate::ledger::journal::{Directory, HEADER, Segment};
use crate::ledger::record::{Closed, Row};
use crate::ledger::store::{Position, Store, StoreError};
use crate::price::Prices;

pub use self::error::DrainError;

/// Rows in one transaction.
const MAX_BATCH: usize = 4_000;
/// A pass with more rows is a rush, after which its memory is given back.
const RUSH_ROWS: usize = 256;
/// Bytes of a segment read at once; many times the longest record.
const READ_BYTES: usize = 256 * 1024;

/// The reading end of the journal.
#[derive(Debug)]
pub(crate) struct Drain<D: Disk = Os> {
    directory: Arc<Directory<D>>,
    pub(in crate::ledger) store: Store,
    /// What rows will name; a store that takes this one's place is told, too.
    prices: Prices,
    names: Names,
    /// By number; each record asks, and there are only a few.
    cursors: BTreeMap<u64, Cursor<D::File>>,
    /// Requests that are open, and in which segment.
    open: OpenRequests,
    /// Reused for every read; never shorter than it was.
    chunk: Vec<u8>,
    rows: Vec<Row>,
    progress: Progress,
    pub(crate) breath: Breath,
}

/// How far one segment has been read.
#[derive(Debug)]
struct Cursor<F> {
    file: F,
    read: u64,
    /// Up to here the store has what was read.
    settled: u64,
    /// Before this offset an earlier run has stored every `Closed`.
    stored: u64,
    /// Requests opened in this segment that have not ended.
    open: usize,
    /// When the first of its requests began, in milliseconds since the epoch.
    oldest_ms: Option<i64>,
    /// Where the bytes began that are no record, while no record has been found after them.
    damaged_from: Option<u64>,
    is_damaged: bool,
}

impl<D: Disk> Drain<D> {
    /// With [`Durability::Power`] the store has to sync its commits: what it has taken, the journal
    /// forgets.
    pub(crate) fn new(directory: Arc<Directory<D>>, store: Store) -> Result<Self, StoreError> {
        // A number can come again when its file's name did not survive a power cut: what the store
        // knows of the old file is not true of the new one.
        let names: Vec<_> = directory.segments().iter().map(|segment| segment.name()).collect();
        store.forget_segments_but(&names)?;
        Ok(Self {
            directory,
            store,
            prices: Prices::default(),
            names: Names::default(),
            cursors: BTreeMap::new(),
            open: OpenRequests::default(),
            chunk: Vec::new(),
            rows: Vec::new(),
            progress: Progress::default(),
            breath: Breath::none(),
        })
    }

    /// Writes down the prices that rows will name, before any of them does, in this store and in any
    /// that takes its place.
    pub(crate) fn record_prices(&mut self, prices: &Prices) -> Result<(), StoreError> {
        self.store.record_prices(prices)?;
        self.prices.clone_from(prices);
        Ok(())
    }

    /// Carries over everything that is published now, oldest segment first: a `Closed` can stand in a
    /// later segment than its `Opened`, never in an earlier one.
    pub(crate) fn pass(&mut self) -> Result<Progress, DrainError> {
        self.progress = Progress::default();
        self.follow_store()?;
        // What the store would not take last time goes first, so that no more than a batch ever waits.
        self.store_rows()?;
        for segment in self.directory.segments() {
            self.read(&segment).map_err(|error| match error {
                ReadError::Io(source) => DrainError::Read { path: segment.path.clone(), source },
                ReadError::Store(error) => DrainError::Store(error),
            })?;
        }
        self.store_rows()?;
        if self.progress.rows <= RUSH_ROWS as u64 && self.rows.capacity() > RUSH_ROWS {
            self.rows.shrink_to(RUSH_ROWS);
            self.store.shrink();
        }
        self.remove_finished()?;
        Ok(self.progress)
    }

    /// At start, when nobody writes: what is open then was cut off by a crash, and becomes a row.
    pub(crate) fn replay(&mut self) -> Result<Progress, DrainError> {
        self.pass()?;
        let mut total = self.progress;
        let crashed = std::mem::take(&mut self.open);
        let prices = self.store.price_versions()?;
        for (segment, mut opened) in crashed.into_values() {
            if let Some(cursor) = self.cursors.get_mut(&segment) {
                cursor.open -= 1;
            }
            let mut closed = Closed::crashed(&opened);
            prices.charge(&mut opened, &mut closed);
            self.rows.push(Row { opened, closed });
        }
        self.progress = Progress::default();
        self.store_rows()?;
        self.remove_finished()?;
        total.add(self.progress);
        Ok(total)
    }

    /// When somebody removed or replaced the store's file, what is written to the old one is lost. The
    /// journal then stays as it is until there is a store again, and is read from its beginning.
    fn follow_store(&mut self) -> Result<(), StoreError> {
        if self.store.is_in_place() {
            return Ok(());
        }
        let store = self.store.reopen()?;
        let mut again = Self::new(self.directory.clone(), store)?;
        // A backup may be older than the prices in force.
        again.record_prices(&self.prices)?;
        again.breath = std::mem::take(&mut self.breath);
        tracing::warn!("the store's file was replaced; the journal is read into the new one");
        *self = again;
        Ok(())
    }

    /// Deletes a batch of rows that began before `before_ms` (milliseconds since the epoch), and says
    /// how many those were. Their roll-ups stay. What the journal still has is kept in the store as
    /// well: read again, it would come back, and count twice.
    pub(crate) fn expire(&mut self, before_ms: i64) -> Result<usize, StoreError> {
        let oldest_ms = self.cursors.values().filter_map(|cursor| cursor.oldest_ms).min();
        self.store.expire(before_ms.min(oldest_ms.unwrap_or(i64::MAX)), MAX_BATCH)
    }

    /// Published bytes that the store does not have.
    pub(crate) fn lag_bytes(&self) -> u64 {
        let settled = |number| self.cursors.get(&number).map_or(HEADER.len() as u64, |c| c.settled);
        let segments = self.directory.segments();
        segments.iter().map(|s| s.published().saturating_sub(settled(s.number))).sum()
    }

    /// Makes what has been written survive a power cut as well, as far as nobody waits for it.
    pub(crate) fn sync(&self) -> io::Result<()> {
        if self.directory.durability() == Durability::Power {
            return Ok(());
        }
        self.cursors.values().try_for_each(|cursor| cursor.file.sync_data())
    }

    /// Reads one segment up to where it is published.
    fn read(&mut self, segment: &Segment) -> Result<(), ReadError> {
        let published = segment.published();
        if !self.cursors.contains_key(&segment.number) {
            let cursor = self.open_segment(segment)?;
            self.cursors.insert(segment.number, cursor);
        }
        let mut buffer = std::mem::take(&mut self.chunk);
        let result = self.read_up_to(published, segment.number, &mut buffer);
        self.chunk = buffer;
        result
    }

    fn read_up_to(
        &mut self,
        published: u64,
        number: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        loop {
            let cursor = self.cursors.get(&number).expect("only an open segment is read");
            let at = cursor.read;
            let length = usize::try_from(published.saturating_sub(at)).unwrap_or(usize::MAX);
            if length == 0 {
                return Ok(());
            }
            let length = length.min(READ_BYTES);
            if buffer.len() < length {
                buffer.resize(length, 0);
            }
            let chunk = &mut buffer[..length];
            cursor.file.read_exact_at(chunk, at)?;
            let is_last = at + length as u64 == published;
            let used = self.take_records(number, chunk, at, is_last)?;
            let cursor = self.cursors.get_mut(&number).expect("as above");
            cursor.read = at + used as u64;
        }
    }

    /// Takes the whole records of a chunk that begins `at`; returns how many bytes are done with.
    fn take_records(
        &mut self,
        number: u64,
        chunk: &[u8],
        at: u64,
        is_last: bool,
    ) -> Result<usize, ReadError> {
        let mut used = 0;
        while used < chunk.len() {
            match codec::decode(&chunk[used..], &mut self.names) {
                Step::Record(record, length) => {
                    self.end_damage(number, at + used as u64);
                    used += length;
                    self.take(number, record, at + used as u64)?;
                    self.breath.step();
                }
                Step::Partial if !is_last => return Ok(used),
                Step::Partial | Step::Damaged => {
                    let cursor = self.cursors.get_mut(&number).expect("a read segment");
                    let damaged_from = cursor.damaged_from.get_or_insert(at + used as u64);
                    let is_new = *damaged_from == at + used as u64;
                    used += if is_new { damage::first_step(&chunk[used..]) } else { 1 };
                }
            }
        }
        if is_last {
            let cursor = self.cursors.get_mut(&number).expect("a read segment");
            let torn_from = cursor.damaged_from.take();
            self.progress.torn_bytes += torn_from.map_or(0, |from| at + used as u64 - from);
        }
        Ok(used)
    }

    /// A record was found: what stands before it since `damaged_from` is not the torn tail of a crash.
    fn end_damage(&mut self, number: u64, end: u64) {
        let cursor = self.cursors.get_mut(&number).expect("only a read segment has records");
        let Some(from) = cursor.damaged_from.take() else { return };
        cursor.is_damaged = true;
        self.progress.damaged_bytes += end - from;
        tracing::warn!(
            segment = number,
            offset = from,
            bytes = end - from,
            "damaged records in the journal were passed over; the segment will be kept as *.damaged"
        );
    }

    fn take(&mut self, number: u64, record: Record, end: u64) -> Result<(), ReadError> {
        let cursor = self.cursors.get_mut(&number).expect("only a read segment has records");
        match record {
            Record::Opened(opened) => {
                cursor.open += 1;
                let oldest_ms = cursor.oldest_ms.unwrap_or(i64::MAX);
                cursor.oldest_ms = Some(oldest_ms.min(opened.started_at_ms));
                let before = self.open.insert(opened.event_id, (number, opened));
                // Written once more after a failed sync.
                if let Some(cursor) = before.and_then(|(origin, _)| self.cursors.get_mut(&origin)) {
                    cursor.open -= 1;
                }
            }
            Record::Closed(closed) => {
                let is_stored = end <= cursor.stored;
                let Some((origin, opened)) = self.open.remove(&closed.event_id) else {
                    return if is_stored { Ok(()) } else { Ok(self.orphan(number, &closed)?) };
                };
                if let Some(cursor) = self.cursors.get_mut(&origin) {
                    cursor.open -= 1;
                }
                if !is_stored {
                    self.rows.push(Row { opened, closed });
                }
                if self.rows.len() >= MAX_BATCH {
                    self.cursors.get_mut(&number).expect("as above").read = end;
                    self.store_rows()?;
                }
            }
        }
        Ok(())
    }

    /// A request whose beginning is missing: it is in the store, and its segment gone, or was damaged.
    fn orphan(&mut self, number: u64, closed: &Closed) -> Result<(), StoreError> {
        self.store_rows()?;
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

    /// Stores what has been joined, with how far every segment has been read.
    fn store_rows(&mut self) -> Result<(), StoreError> {
        if !self.rows.is_empty() {
            self.append_rows()?;
        }
        self.cursors.values_mut().for_each(|cursor| cursor.settled = cursor.read);
        Ok(())
    }

    fn append_rows(&mut self) -> Result<(), StoreError> {
        let positions: Vec<Position> = self
            .cursors
            .iter()
            .map(|(number, cursor)| Position { segment: number.to_string(), offset: cursor.read })
            .collect();
        self.progress.rows +=
            self.store.append_stepwise(&self.rows, &positions, || self.breath.step())? as u64;
        self.rows.clear();
        Ok(())
    }

    /// Removes segments that nobody will write to and whose requests are all stored.
    fn remove_finished(&mut self) -> Result<(), DrainError> {
        if !self.store.is_in_place() {
            return Ok(());
        }
        for segment in self.directory.segments() {
            let is_sealed = segment.is_sealed() && segment.is_complete();
            let Some(cursor) = self.cursors.get(&segment.number) else { continue };
            if is_sealed && cursor.open == 0 && cursor.read >= segment.published() {
                // The position goes first: left behind, it would be taken for that of a later segment
                // with the same number. Without it, a segment that stays is only read once more.
                self.store.forget_segment(&segment.name())?;
                let is_damaged = cursor.is_damaged;
                self.directory
                    .remove(&segment, is_damaged)
                    .map_err(|source| DrainError::Remove { path: segment.path.clone(), source })?;
                self.cursors.remove(&segment.number);
            }
        }
        Ok(())
    }

    fn open_segment(&mut self, segment: &Segment) -> Result<Cursor<D::File>, ReadError> {
        let file = self.directory.file(segment)?;
        let mut header = [0; HEADER.len()];
        let mut is_damaged = false;
        if segment.published() >= HEADER.len() as u64 {
            file.read_exact_at(&mut header, 0)?;
            damage::check_version(&header)?;
            if header != HEADER {
                is_damaged = true;
                self.progress.damaged_bytes += HEADER.len() as u64;
                tracing::warn!(segment = segment.number, offset = 0, "a damaged journal header");
            }
        }
        let name = segment.name();
        let stored = self.store.positions()?.into_iter().find(|p| p.segment == name);
        let stored = stored.map_or(0, |position| position.offset);
        Ok(Cursor {
            file,
            read: HEADER.len() as u64,
            settled: HEADER.len() as u64,
            stored,
            open: 0,
            oldest_ms: None,
            damaged_from: None,
            is_damaged,
        })
    }
}

#[cfg(test)]
mod tests;
