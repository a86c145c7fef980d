//! Reading segments: what is published, however it is damaged, record by record.

use std::sync::Arc;

use super::error::ReadError;
use super::{Drain, READ_BYTES, damage, unreadable};
use crate::ledger::codec::{self, Step};
use crate::ledger::journal::disk::Disk;
use crate::ledger::journal::{HEADER, Segment};

/// How far one segment has been read.
#[derive(Debug)]
pub(super) struct Cursor<F> {
    /// Open while there may be more to read.
    pub(super) file: Option<F>,
    pub(super) read: u64,
    /// The position that the store has of it.
    pub(super) positioned: u64,
    /// Before this offset an earlier run has stored every `Closed`.
    pub(super) stored: u64,
    /// Requests opened in this segment that have not ended.
    pub(super) open: usize,
    /// When the first of its requests began, in milliseconds since the epoch.
    pub(super) oldest_ms: Option<i64>,
    /// When the last of them began.
    pub(super) newest_ms: Option<i64>,
    /// Where the bytes began that are no record, while no record has been found after them.
    damaged_from: Option<u64>,
    pub(super) is_damaged: bool,
}

/// A segment as a pass found it.
pub(super) struct Found {
    pub(super) segment: Arc<Segment>,
    pub(super) is_sealed: bool,
    pub(super) published: u64,
}

impl<D: Disk> Drain<D> {
    /// Reads one segment up to where it was published.
    pub(super) fn read(&mut self, found: &Found) -> Result<(), ReadError> {
        let Found { segment, is_sealed, published } = found;
        if !self.cursors.contains_key(&segment.number) {
            let cursor = self.open_segment(segment, *published)?;
            self.cursors.insert(segment.number, cursor);
        }
        let mut buffer = std::mem::take(&mut self.chunk);
        let result = self.read_up_to(*published, segment.number, &mut buffer);
        self.chunk = buffer;
        if *is_sealed && result.is_ok() {
            // However many segments wait for the store or for an end, they need no descriptors.
            self.cursor(segment.number).file = None;
        }
        result
    }

    pub(super) fn cursor(&mut self, number: u64) -> &mut Cursor<D::File> {
        self.cursors.get_mut(&number).expect("a segment that is read has one")
    }

    fn read_up_to(
        &mut self,
        published: u64,
        number: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        loop {
            let cursor = self.cursor(number);
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
            let lost = match &cursor.file {
                Some(file) => unreadable::read(file, chunk, at)?,
                None => unreadable::none(chunk),
            };
            self.tell_lost(number, at, lost);
            let is_last = at + length as u64 == published;
            let used = self.take_records(number, chunk, at, is_last)?;
            self.cursor(number).read = at + used as u64;
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
                    let cursor = self.cursor(number);
                    let damaged_from = cursor.damaged_from.get_or_insert(at + used as u64);
                    let is_new = *damaged_from == at + used as u64;
                    used += if is_new { damage::first_step(&chunk[used..]) } else { 1 };
                }
            }
        }
        if is_last {
            let torn_from = self.cursor(number).damaged_from.take();
            self.progress.torn_bytes += torn_from.map_or(0, |from| at + used as u64 - from);
        }
        Ok(used)
    }

    /// A record was found: what stands before it since `damaged_from` is not the torn tail of a crash.
    fn end_damage(&mut self, number: u64, end: u64) {
        let cursor = self.cursor(number);
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

    fn open_segment(
        &mut self,
        segment: &Segment,
        published: u64,
    ) -> Result<Cursor<D::File>, ReadError> {
        // An earlier drain's word of another store.
        segment.settle(HEADER.len() as u64);
        let file = match self.directory.file(segment) {
            Err(error) if unreadable::is_lost(&error) => None,
            file => Some(file?),
        };
        let stored = self.store.position(&segment.name())?;
        let mut cursor = Cursor {
            file,
            read: HEADER.len() as u64,
            positioned: stored,
            stored,
            open: 0,
            oldest_ms: None,
            newest_ms: None,
            damaged_from: None,
            is_damaged: false,
        };
        if published >= HEADER.len() as u64 {
            self.check_header(segment, &mut cursor)?;
        }
        Ok(cursor)
    }

    fn check_header(
        &mut self,
        segment: &Segment,
        cursor: &mut Cursor<D::File>,
    ) -> Result<(), ReadError> {
        let mut header = [0; HEADER.len()];
        if let Some(file) = &cursor.file {
            unreadable::read(file, &mut header, 0)?;
        }
        damage::check_version(&header)?;
        if header != HEADER {
            cursor.is_damaged = true;
            self.progress.damaged_bytes += HEADER.len() as u64;
            tracing::warn!(segment = segment.number, offset = 0, "a damaged journal header");
        }
        Ok(())
    }

    /// Bytes from `at` on that the disk does not give back: what stood there is passed over like damage.
    fn tell_lost(&mut self, number: u64, at: u64, lost: usize) {
        let cursor = self.cursor(number);
        if lost > 0 && !std::mem::replace(&mut cursor.is_damaged, true) {
            tracing::error!(
                segment = number,
                offset = at,
                "the journal's disk does not give back what stands here or behind it; it is passed over, \
                 and the segment will be kept as *.damaged"
            );
        }
    }
}
