//! Reading segments: what is published, however it is damaged, record by record.

use std::io;
use std::sync::Arc;

use super::error::ReadError;
use super::unreadable::{Failing, Lost};
use super::{Drain, READ_BYTES, damage, unreadable};
use crate::journal::codec::{self, Step};
use crate::journal::disk::Disk;
use crate::journal::{Format, HEADER, Segment, position_name};

/// How far one segment has been read.
#[derive(Debug)]
pub(super) struct Cursor<F> {
    /// Open while there may be more to read.
    file: Option<F>,
    /// Its header has been read.
    is_begun: bool,
    /// What the store's position of it is called; none where the header does not say.
    pub(super) name: Option<String>,
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
    /// Ends of requests in this segment whose beginning may be in one that cannot be read now.
    pub(super) held: usize,
    /// Something that is published cannot be read.
    pub(super) failing: Option<Failing>,
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

impl<F> Cursor<F> {
    /// One that has read nothing yet.
    fn new() -> Self {
        Self {
            file: None,
            is_begun: false,
            name: None,
            read: HEADER.len() as u64,
            positioned: 0,
            stored: 0,
            open: 0,
            oldest_ms: None,
            newest_ms: None,
            held: 0,
            failing: None,
            damaged_from: None,
            is_damaged: false,
        }
    }
}

impl<D: Disk> Drain<D> {
    /// Reads one segment up to where it was published.
    pub(super) fn read(&mut self, found: &Found) -> Result<(), ReadError> {
        let Found { segment, is_sealed, published } = found;
        self.cursors.entry(segment.number).or_insert_with(|| {
            // An earlier drain's word of another store.
            segment.settle(HEADER.len() as u64);
            Cursor::new()
        });
        let mut buffer = std::mem::take(&mut self.chunk);
        let result = self.read_up_to(*published, segment, &mut buffer);
        self.chunk = buffer;
        if *is_sealed {
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
        segment: &Segment,
        buffer: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        let number = segment.number;
        let mut given_up = self.given_up(number);
        self.begin(segment, published, given_up)?;
        loop {
            let at = self.cursor(number).read;
            // What has been tried for long enough, and then what has not.
            let until = if at < given_up { given_up } else { published };
            let length = usize::try_from(until.saturating_sub(at)).unwrap_or(usize::MAX);
            if length == 0 {
                return Ok(());
            }
            let length = length.min(READ_BYTES);
            if buffer.len() < length {
                buffer.resize(length, 0);
            }
            let (mut chunk, end) = (&mut buffer[..length], at + length as u64);
            let mut lost = self.read_chunk(segment, chunk, at)?;
            if let Some(lost) = lost.take_if(|_| end <= given_up) {
                self.tell_lost(number, at + lost.before as u64, &lost.error);
            }
            if let Some(lost) = &lost {
                chunk = &mut chunk[..lost.before];
            }
            let is_last = end == published && lost.is_none();
            let used = self.take_records(number, chunk, at, is_last)?;
            self.cursor(number).read = at + used as u64;
            if let Some(lost) = lost {
                return Err(lost.error.into());
            }
            if end >= given_up {
                given_up = 0;
            }
        }
    }

    /// Up to where what cannot be read of a segment has been tried for long enough.
    fn given_up(&mut self, number: u64) -> u64 {
        let (now, patience) = (self.now, self.patience);
        let failing = self.cursor(number).failing;
        failing.filter(|failing| failing.is_over(now, patience)).map_or(0, |failing| failing.end)
    }

    /// Fills a chunk that begins `at`, and says what of it could not be read.
    fn read_chunk(
        &mut self,
        segment: &Segment,
        chunk: &mut [u8],
        at: u64,
    ) -> io::Result<Option<Lost>> {
        let opened = self.cursor(segment.number).file.take();
        let file = match opened.map_or_else(|| self.directory.file(segment), Ok) {
            Err(error) if unreadable::is_lost(&error) => {
                return Ok(Some(unreadable::none(chunk, error)));
            }
            file => file?,
        };
        let lost = unreadable::read(&file, chunk, at);
        self.cursor(segment.number).file = Some(file);
        lost
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
                    self.pacing.pause_if_due();
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

    /// Reads the header, before anything else of a segment.
    fn begin(&mut self, segment: &Segment, published: u64, given_up: u64) -> Result<(), ReadError> {
        let end = HEADER.len() as u64;
        if self.cursor(segment.number).is_begun || published < end {
            return Ok(());
        }
        let mut header = [0; HEADER.len()];
        if let Some(lost) = self.read_chunk(segment, &mut header, 0)? {
            if given_up < end {
                return Err(lost.error.into());
            }
            self.tell_lost(segment.number, 0, &lost.error);
        }
        damage::check_version(&header)?;
        if Format::of(&header) == Format::Known {
            let name = position_name(segment.number, &header);
            let stored = self.store.position(&name)?;
            let cursor = self.cursor(segment.number);
            (cursor.positioned, cursor.stored, cursor.name) = (stored, stored, Some(name));
        } else {
            self.cursor(segment.number).is_damaged = true;
            self.progress.damaged_bytes += end;
            tracing::warn!(segment = segment.number, offset = 0, "a damaged journal header");
        }
        self.cursor(segment.number).is_begun = true;
        Ok(())
    }

    /// A segment could not be read to its end; it is tried again in the next pass.
    pub(super) fn set_back(&mut self, found: &Found, error: &io::Error) {
        let (now, patience) = (self.now, self.patience);
        let cursor = self.cursor(found.segment.number);
        // What had been tried for long enough was passed over: this stands behind it.
        let is_other =
            |failing: &Failing| unreadable::is_lost(error) && failing.is_over(now, patience);
        let before = cursor.failing.filter(|failing| !is_other(failing));
        cursor.failing = before.or(Some(Failing { since: now, end: found.published }));
        if before.is_none() {
            tracing::error!(
                segment = %found.segment.path.display(), %error,
                "a segment of the journal cannot be read; the others are, and this one is tried again, but \
                 what a disk does not give back only for a minute"
            );
        }
    }

    /// Bytes from `at` on that the disk does not give back: what stood there is passed over like damage.
    fn tell_lost(&mut self, number: u64, at: u64, error: &io::Error) {
        let cursor = self.cursor(number);
        if !std::mem::replace(&mut cursor.is_damaged, true) {
            tracing::error!(
                segment = number,
                offset = at,
                %error,
                "the journal's disk has not given back for a minute what stands here or behind it; it is \
                 passed over, and what there is of the segment will be kept as *.damaged"
            );
        }
    }
}
