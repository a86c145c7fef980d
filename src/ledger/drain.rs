//! The drain carries records from the journal to the store: it joins each `Opened` with its `Closed`,
//! appends the rows in batches together with how far it has read, and removes segments whose every
//! request has ended and is stored. It owns no truth: whatever it holds can be read again, and the store
//! takes a row only once. While the store is away it waits, and the journal grows.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::ledger::codec::{self, Names, Record, Step};
use crate::ledger::journal::{Directory, HEADER, Segment};
use crate::ledger::record::{Closed, EventId, Opened, Row};
use crate::ledger::store::{Position, Store, StoreError};
use crate::price::Prices;

/// Rows in one transaction.
const MAX_BATCH: usize = 4_000;
/// Bytes of a segment read at once; many times the longest record.
const READ_BYTES: usize = 256 * 1024;

/// What kept records from the store. None is lost: they stay in the journal.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    #[error("journal segment {number}: {source}")]
    Journal { number: u64, source: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What one pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Rows that were new to the store.
    pub(crate) rows: u64,
    /// Bytes that were not records and had to be passed over.
    pub(crate) damaged_bytes: u64,
}

/// The reading end of the journal.
#[derive(Debug)]
pub(crate) struct Drain {
    directory: Arc<Directory>,
    store: Store,
    names: Names,
    /// By number; each record asks, and there are only a few.
    cursors: BTreeMap<u64, Cursor>,
    /// Requests that are open, and in which segment.
    open: HashMap<EventId, (u64, Opened), BuildHasherDefault<IdHasher>>,
    /// Reused for every read; never shorter than it was.
    chunk: Vec<u8>,
    rows: Vec<Row>,
    progress: Progress,
}

/// Hashes event ids by their random half. Their other half is the time, and we made them ourselves:
/// nobody can choose ids that collide.
#[derive(Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(random) = bytes.last_chunk() {
            self.0 ^= u64::from_le_bytes(*random);
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        // The map looks at the highest bits, of which two are the same in all UUIDs.
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// How far one segment has been read.
#[derive(Debug)]
struct Cursor {
    file: File,
    read: u64,
    /// Before this offset an earlier run has stored every `Closed`.
    stored: u64,
    /// Requests opened in this segment that have not ended.
    open: usize,
}

impl Drain {
    pub(crate) fn new(directory: Arc<Directory>, store: Store) -> Self {
        Self {
            directory,
            store,
            names: Names::default(),
            cursors: BTreeMap::new(),
            open: HashMap::default(),
            chunk: Vec::new(),
            rows: Vec::new(),
            progress: Progress::default(),
        }
    }

    /// Writes down the prices that rows will name, before any of them does.
    pub(crate) fn record_prices(&mut self, prices: &Prices) -> Result<(), StoreError> {
        self.store.record_prices(prices)
    }

    /// Carries over everything that is published now, oldest segment first: a `Closed` can stand in a
    /// later segment than its `Opened`, never in an earlier one.
    pub(crate) fn pass(&mut self) -> Result<Progress, DrainError> {
        self.progress = Progress::default();
        // What the store would not take last time goes first, so that no more than a batch ever waits.
        self.store_rows()?;
        for segment in self.directory.segments() {
            self.read(&segment).map_err(|error| match error {
                ReadError::Io(source) => DrainError::Journal { number: segment.number, source },
                ReadError::Store(error) => DrainError::Store(error),
            })?;
        }
        self.store_rows()?;
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
        total.rows += self.progress.rows;
        Ok(total)
    }

    /// Published bytes that have not been read.
    pub(crate) fn lag_bytes(&self) -> u64 {
        let read = |number| self.cursors.get(&number).map_or(HEADER.len() as u64, |c| c.read);
        let segments = self.directory.segments();
        segments.iter().map(|s| s.published().saturating_sub(read(s.number))).sum()
    }

    /// Makes what has been written survive a power cut as well.
    pub(crate) fn sync(&self) -> io::Result<()> {
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

    /// Takes the whole records of a chunk; returns how many bytes they were. A damaged place ends the
    /// segment: after it, nothing says where a record begins.
    fn take_records(
        &mut self,
        number: u64,
        chunk: &[u8],
        at: u64,
        is_last: bool,
    ) -> Result<usize, ReadError> {
        let mut used = 0;
        loop {
            match codec::decode(&chunk[used..], &mut self.names) {
                Step::Record(record, length) => {
                    used += length;
                    self.take(number, record, at + used as u64)?;
                }
                Step::Partial if !is_last => return Ok(used),
                Step::Partial | Step::Damaged => {
                    self.progress.damaged_bytes += (chunk.len() - used) as u64;
                    return Ok(chunk.len());
                }
            }
        }
    }

    fn take(&mut self, number: u64, record: Record, end: u64) -> Result<(), ReadError> {
        let cursor = self.cursors.get_mut(&number).expect("only a read segment has records");
        match record {
            Record::Opened(opened) => {
                cursor.open += 1;
                self.open.insert(opened.event_id, (number, opened));
            }
            Record::Closed(closed) => {
                let is_stored = end <= cursor.stored;
                let Some((origin, opened)) = self.open.remove(&closed.event_id) else {
                    return Ok(());
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

    /// Stores what has been joined, with how far every segment has been read.
    fn store_rows(&mut self) -> Result<(), StoreError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let positions: Vec<Position> = self
            .cursors
            .iter()
            .map(|(number, cursor)| Position { segment: number.to_string(), offset: cursor.read })
            .collect();
        self.progress.rows += self.store.append(&self.rows, &positions)? as u64;
        self.rows.clear();
        Ok(())
    }

    /// Removes segments that nobody will write to and whose requests are all stored.
    fn remove_finished(&mut self) -> Result<(), DrainError> {
        for segment in self.directory.segments() {
            let is_sealed = segment.is_sealed();
            let Some(cursor) = self.cursors.get(&segment.number) else { continue };
            if is_sealed && cursor.open == 0 && cursor.read >= segment.published() {
                // The position goes first: left behind, it would be taken for that of a later segment
                // with the same number. Without it, a segment that stays is only read once more.
                self.store.forget_segment(&segment.name())?;
                self.directory
                    .remove(&segment)
                    .map_err(|source| DrainError::Journal { number: segment.number, source })?;
                self.cursors.remove(&segment.number);
            }
        }
        Ok(())
    }

    fn open_segment(&self, segment: &Segment) -> Result<Cursor, ReadError> {
        let file = File::open(&segment.path)?;
        let mut header = [0; HEADER.len()];
        if segment.published() >= HEADER.len() as u64 {
            file.read_exact_at(&mut header, 0)?;
            if header != HEADER {
                let reason = "not a journal segment of this version; move it away or use the \
                              version that wrote it";
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason).into());
            }
        }
        let name = segment.name();
        let stored = self.store.positions()?.into_iter().find(|p| p.segment == name);
        let stored = stored.map_or(0, |position| position.offset);
        Ok(Cursor { file, read: HEADER.len() as u64, stored, open: 0 })
    }
}

/// Either side of a pass can fail.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::codec::tests::{closed, opened};
    use crate::ledger::journal::Journal;
    use crate::ledger::report::{Filter, requests};
    use crate::price::Rates;
    use crate::usage::End;

    struct Fixture {
        dir: tempfile::TempDir,
        segment_bytes: u64,
    }

    impl Fixture {
        fn new(segment_bytes: u64) -> Self {
            Self { dir: tempfile::tempdir().expect("a directory"), segment_bytes }
        }

        fn directory(&self) -> Arc<Directory> {
            Arc::new(Directory::open(self.dir.path(), self.segment_bytes).expect("opens"))
        }

        fn drain(&self, directory: &Arc<Directory>) -> Drain {
            Drain::new(directory.clone(), Store::open(self.dir.path()).expect("opens"))
        }

        /// The ends of all rows, by how often each stands there.
        fn ends(&self) -> Vec<(End, usize)> {
            let store = Store::open(self.dir.path()).expect("opens");
            let rows = requests(&store, &Filter::default(), None, 1000).expect("reads");
            let count = |end: End| (end, rows.iter().filter(|row| row.end == end.name()).count());
            End::ALL.into_iter().map(count).filter(|(_, count)| *count > 0).collect()
        }
    }

    #[test]
    fn rows_are_joined_across_segments_and_finished_segments_go() {
        let fixture = Fixture::new(300);
        let directory = fixture.directory();
        let mut drain = fixture.drain(&directory);
        let mut journal = Journal::new(directory.clone());
        for n in 0..30 {
            journal.open(&opened(n)).expect("writes");
        }
        assert_eq!(drain.pass().expect("passes").rows, 0);
        let open = directory.segments().len();
        for n in 0..29 {
            journal.close(closed(n)).expect("writes");
        }
        assert!(drain.lag_bytes() > 0);
        assert_eq!(drain.pass().expect("passes"), Progress { rows: 29, damaged_bytes: 0 });
        assert_eq!(drain.lag_bytes(), 0);
        // The segment with the request that is still open stays, and so does the one being written.
        assert!(directory.segments().len() <= 3 && open >= 10);
        journal.close(closed(29)).expect("writes");
        drop(journal);
        assert_eq!(drain.pass().expect("passes").rows, 1);
        assert!(directory.segments().is_empty());
        assert_eq!(fixture.ends(), [(End::Complete, 30)]);
    }

    #[test]
    fn what_was_open_in_a_crash_becomes_a_row_once_however_often_it_is_replayed() {
        let fixture = Fixture::new(1 << 20);
        let directory = fixture.directory();
        let mut journal = Journal::new(directory.clone());
        for n in 0..5 {
            journal.open(&opened(n)).expect("writes");
        }
        journal.close(closed(0)).expect("writes");
        // An earlier run has stored a part; its process then died with the segment in place.
        fixture.drain(&directory).pass().expect("passes");
        journal.close(closed(1)).expect("writes");
        let copy = std::fs::read(&directory.segments()[0].path).expect("reads");
        let path = directory.segments()[0].path.clone();
        std::mem::forget(journal);
        for _ in 0..3 {
            std::fs::write(&path, &copy).expect("writes");
            let directory = fixture.directory();
            fixture.drain(&directory).replay().expect("replays");
            assert!(directory.segments().is_empty());
            assert_eq!(fixture.ends(), [(End::Complete, 2), (End::Crashed, 3)]);
        }
    }

    #[test]
    fn a_crashed_request_is_charged_by_its_price_or_has_none() {
        let fixture = Fixture::new(1 << 20);
        let directory = fixture.directory();
        let mut prices = Prices::default();
        prices.add("m", 0, Rates { input: 1_000, output: 10_000, ..Rates::default() });
        let known = prices.of("m").at(0).map(|price| price.version);
        let mut drain = fixture.drain(&directory);
        drain.record_prices(&prices).expect("stores");
        let mut journal = Journal::new(directory.clone());
        let unknown = opened(1).price_version;
        for (n, price_version) in [(0, None), (1, unknown), (2, known)] {
            journal.open(&Opened { price_version, ..opened(n) }).expect("writes");
        }
        std::mem::forget(journal);
        fixture.drain(&fixture.directory()).replay().expect("replays");
        let store = Store::open(fixture.dir.path()).expect("opens");
        let rows = requests(&store, &Filter::default(), None, 9).expect("reads");
        let costs: Vec<_> = rows.iter().map(|row| row.cost_usd.as_deref()).collect();
        // 8 tokens of prompt, and 1,024 for the answer; the newest first.
        assert_eq!(costs, [Some("0.000010248"), None, None]);
        assert_eq!(rows[0].price_version, known.map(|version| version.to_string()));
        assert_eq!((&rows[1].price_version, &rows[2].price_version), (&None, &None));
        let recost = store.recost(i64::MIN, i64::MAX, |one| panic!("{one:?}")).expect("reads");
        assert_eq!((recost.rows, recost.unpriced, recost.nano_usd), (3, 2, 10_248));
    }

    #[test]
    fn a_torn_tail_is_cut_and_what_stands_before_it_counts() {
        let fixture = Fixture::new(1 << 20);
        let directory = fixture.directory();
        let mut journal = Journal::new(directory.clone());
        journal.open(&opened(1)).expect("writes");
        let whole = std::fs::read(&directory.segments()[0].path).expect("reads").len();
        journal.close(closed(1)).expect("writes");
        let bytes = std::fs::read(&directory.segments()[0].path).expect("reads");
        let path = directory.segments()[0].path.clone();
        drop(journal);
        for cut in whole..bytes.len() {
            let fixture = Fixture::new(1 << 20);
            let target = fixture.dir.path().join("journal").join(path.file_name().expect("a name"));
            std::fs::create_dir_all(target.parent().expect("a directory")).expect("makes");
            std::fs::write(target, &bytes[..cut]).expect("writes");
            let progress = fixture.drain(&fixture.directory()).replay().expect("replays");
            assert_eq!(progress.damaged_bytes, (cut - whole) as u64);
            assert_eq!(fixture.ends(), [(End::Crashed, 1)], "cut at {cut}");
        }
    }

    #[test]
    fn a_segment_of_another_version_stops_the_start_and_is_left_alone() {
        let fixture = Fixture::new(1 << 20);
        let path = fixture.dir.path().join("journal").join("0000000000000001.wj");
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("makes");
        std::fs::write(&path, b"WEIRJRNL\x02\0\0\0\0\0\0\0later").expect("writes");
        let error = fixture.drain(&fixture.directory()).replay().expect_err("refused");
        assert!(error.to_string().contains("of this version"), "{error}");
        assert!(path.exists());
    }
}
