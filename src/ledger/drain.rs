//! The drain carries records from the journal to the store: it joins each `Opened` with its `Closed`,
//! appends the rows in batches together with how far it has read, and removes segments whose every
//! request has ended and is stored. It owns no truth: whatever it holds can be read again, and the store
//! takes a row only once. While the store is away it waits, and the journal grows.

pub(in crate::ledger) mod damage;
mod error;
mod open;
mod progress;
mod old;

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
    /// When the last of them began.
    newest_ms: Option<i64>,
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

    /// When somebody removed or replaced a file of the store, what is written to the old one is lost. The
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
        tracing::error!(
            "files of the store were removed or replaced; the journal is read into what is there now"
        );
        *self = again;
        Ok(())
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
                cursor.newest_ms = cursor.newest_ms.max(Some(opened.started_at_ms));
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
            newest_ms: None,
            damaged_from: None,
            is_damaged,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::codec::tests::{closed, opened};
    use crate::ledger::journal::Journal;
    use crate::ledger::record::Opened;
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
            Arc::new(
                Directory::open(self.dir.path(), self.segment_bytes, Durability::Crash)
                    .expect("opens"),
            )
        }

        fn drain(&self, directory: &Arc<Directory>) -> Drain {
            let store = Store::open(self.dir.path()).expect("opens");
            Drain::new(directory.clone(), store).expect("begins")
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
            journal.open_now(&opened(n)).expect("writes");
        }
        assert_eq!(drain.pass().expect("passes").rows, 0);
        let open = directory.segments().len();
        for n in 0..29 {
            journal.close_now(&closed(n)).expect("writes");
        }
        assert!(drain.lag_bytes() > 0);
        assert_eq!(drain.pass().expect("passes"), Progress { rows: 29, ..Progress::default() });
        assert_eq!(drain.lag_bytes(), 0);
        // The segment with the request that is still open stays, and so does the one being written.
        assert!(directory.segments().len() <= 3 && open >= 10);
        journal.close_now(&closed(29)).expect("writes");
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
            journal.open_now(&opened(n)).expect("writes");
        }
        journal.close_now(&closed(0)).expect("writes");
        // An earlier run has stored a part; its process then died with the segment in place.
        fixture.drain(&directory).pass().expect("passes");
        journal.close_now(&closed(1)).expect("writes");
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
            journal.open_now(&Opened { price_version, ..opened(n) }).expect("writes");
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
        journal.open_now(&opened(1)).expect("writes");
        let whole = std::fs::read(&directory.segments()[0].path).expect("reads").len();
        journal.close_now(&closed(1)).expect("writes");
        let bytes = std::fs::read(&directory.segments()[0].path).expect("reads");
        let path = directory.segments()[0].path.clone();
        drop(journal);
        for cut in whole..bytes.len() {
            let fixture = Fixture::new(1 << 20);
            let target = fixture.dir.path().join("journal").join(path.file_name().expect("a name"));
            std::fs::create_dir_all(target.parent().expect("a directory")).expect("makes");
            std::fs::write(target, &bytes[..cut]).expect("writes");
            let progress = fixture.drain(&fixture.directory()).replay().expect("replays");
            assert_eq!(progress.torn_bytes, (cut - whole) as u64);
            assert_eq!(progress.damaged_bytes, 0);
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

    /// Requests 0 to 4, one after the other, and where each record ends.
    fn five(fixture: &Fixture) -> (std::path::PathBuf, Vec<u8>, Vec<usize>) {
        let directory = fixture.directory();
        let mut journal = Journal::new(directory.clone());
        let mut ends = Vec::new();
        let published = || directory.segments()[0].published() as usize;
        for n in 0..5 {
            journal.open_now(&opened(n)).expect("writes");
            ends.push(published());
            journal.close_now(&closed(n)).expect("writes");
            ends.push(published());
        }
        let path = directory.segments()[0].path.clone();
        let bytes = std::fs::read(&path).expect("reads");
        std::mem::forget(journal);
        (path, bytes, ends)
    }

    #[test]
    fn a_damaged_record_in_the_middle_costs_only_itself_and_is_told() {
        let sample = Fixture::new(1 << 20);
        let (_, bytes, ends) = five(&sample);
        // Which record is damaged, at which of its bytes; then how many are complete and crashed, and
        // how many ends have lost their beginning.
        for (record, complete, crashed, orphans) in [(4, 4, 0, 1), (5, 4, 1, 0)] {
            let begin = ends[record - 1];
            for at in [0, 1, 2, 3, 4, 9, 30] {
                for change in [0x01, 0x80, 0xff] {
                    let fixture = Fixture::new(1 << 20);
                    let (path, ..) = five(&fixture);
                    let mut damaged = bytes.clone();
                    damaged[begin + at] ^= change;
                    std::fs::write(&path, &damaged).expect("writes");
                    let directory = fixture.directory();
                    let progress = fixture.drain(&directory).replay().expect("replays");
                    let length = (ends[record] - begin) as u64;
                    assert_eq!((progress.damaged_bytes, progress.torn_bytes), (length, 0), "{at}");
                    assert_eq!(progress.orphans, orphans, "{record} {at}");
                    let ends = [(End::Complete, complete), (End::Crashed, crashed)];
                    let ends: Vec<_> = ends.into_iter().filter(|(_, count)| *count > 0).collect();
                    assert_eq!(fixture.ends(), ends, "{record} {at}");
                    assert!(directory.segments().is_empty() && !path.exists());
                    let kept = std::fs::read(path.with_extension("wj.damaged")).expect("kept");
                    assert_eq!(kept, damaged);
                }
            }
        }
    }

    #[test]
    fn a_hole_of_any_size_loses_what_it_covers_and_a_lost_header_nothing() {
        let sample = Fixture::new(1 << 20);
        let (_, bytes, ends) = five(&sample);
        for (from, until) in [(ends[1] + 5, ends[4] + 7), (ends[0], ends[6]), (3, ends[2] + 1)] {
            let fixture = Fixture::new(1 << 20);
            let (path, ..) = five(&fixture);
            let mut damaged = bytes.clone();
            damaged[from..until].fill(0);
            std::fs::write(&path, &damaged).expect("writes");
            let progress = fixture.drain(&fixture.directory()).replay().expect("replays");
            assert!(progress.damaged_bytes > 0 && progress.torn_bytes == 0, "{progress:?}");
            let whole = ends.windows(4).skip(1).step_by(2);
            let whole = whole.filter(|at| at[0] >= until || at[2] <= from).count();
            let found = fixture.ends();
            assert!(found.iter().any(|(end, count)| *end == End::Complete && *count >= whole));
        }
        let fixture = Fixture::new(1 << 20);
        let (path, mut bytes, _) = five(&fixture);
        bytes[..16].fill(0);
        std::fs::write(&path, &bytes).expect("writes");
        let progress = fixture.drain(&fixture.directory()).replay().expect("replays");
        assert_eq!((progress.rows, progress.damaged_bytes), (5, 16));
    }

    #[test]
    fn a_number_that_comes_again_is_a_new_segment() {
        let fixture = Fixture::new(1 << 20);
        let mut store = Store::open(fixture.dir.path()).expect("opens");
        // As a power cut leaves it: the store knows the segment, the disk does not.
        store.append(&[], &[Position { segment: "1".to_owned(), offset: 5_000 }]).expect("sets");
        let directory = fixture.directory();
        let mut drain = fixture.drain(&directory);
        let mut journal = Journal::new(directory);
        journal.open_now(&opened(1)).expect("writes");
        journal.close_now(&closed(1)).expect("writes");
        assert_eq!(drain.pass().expect("passes").rows, 1);
    }

    #[test]
    fn a_store_that_fails_loses_nothing_and_is_followed_when_it_works_again() {
        type Break = fn(&Store) -> rusqlite::Result<()>;
        let cases: [(&str, Break, Break, &str); 3] = [
            (
                "read-only",
                |store| store.connection().pragma_update(None, "query_only", true),
                |store| store.connection().pragma_update(None, "query_only", false),
                "readonly",
            ),
            (
                "full",
                |store| {
                    let sql = "CREATE TEMP TRIGGER full BEFORE INSERT ON requests
                        BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END";
                    store.connection().execute_batch(sql)
                },
                |store| store.connection().execute_batch("DROP TRIGGER full"),
                "full",
            ),
            (
                "without its table",
                |store| store.connection().execute_batch("ALTER TABLE requests RENAME TO gone"),
                |store| store.connection().execute_batch("ALTER TABLE gone RENAME TO requests"),
                "no such table",
            ),
        ];
        for (what, break_it, mend, error) in cases {
            let fixture = Fixture::new(300);
            let directory = fixture.directory();
            let mut drain = fixture.drain(&directory);
            let mut journal = Journal::new(directory.clone());
            break_it(&drain.store).expect(what);
            for n in 0..20 {
                journal.open_now(&opened(n)).expect("the journal takes it");
                journal.close_now(&closed(n)).expect("the journal takes it");
                let found = drain.pass().expect_err(what).to_string();
                assert!(found.contains(error), "{what}: {found}");
                assert!(drain.lag_bytes() > 0, "{what}: read is not stored");
            }
            assert!(directory.segments().len() > 5, "nothing was removed");
            mend(&drain.store).expect(what);
            assert_eq!(drain.pass().expect(what).rows, 20);
            assert_eq!(fixture.ends(), [(End::Complete, 20)], "{what}");
        }
    }

    #[test]
    fn a_locked_store_is_waited_for() {
        let fixture = Fixture::new(1 << 20);
        let directory = fixture.directory();
        let mut drain = fixture.drain(&directory);
        drain.store.connection().busy_timeout(std::time::Duration::ZERO).expect("sets");
        let mut journal = Journal::new(directory);
        journal.open_now(&opened(1)).expect("writes");
        journal.close_now(&closed(1)).expect("writes");
        let other = Store::open(fixture.dir.path()).expect("opens");
        other.connection().execute_batch("BEGIN IMMEDIATE").expect("locks");
        assert!(drain.pass().expect_err("locked").to_string().contains("locked"));
        other.connection().execute_batch("COMMIT").expect("unlocks");
        assert_eq!(drain.pass().expect("free").rows, 1);
    }

    #[test]
    fn a_store_that_was_removed_or_replaced_is_noticed_before_anything_is_forgotten() {
        let fixture = Fixture::new(300);
        let directory = fixture.directory();
        let mut drain = fixture.drain(&directory);
        let mut journal = Journal::new(directory.clone());
        for n in 0..5 {
            journal.open_now(&opened(n)).expect("writes");
        }
        let backup = fixture.dir.path().join("backup");
        std::fs::create_dir(&backup).expect("makes");
        drop(Store::open(&backup).expect("a store"));
        for n in 0..4 {
            journal.close_now(&closed(n)).expect("writes");
        }
        let file = |dir: &std::path::Path, end: &str| dir.join(format!("weir.sqlite{end}"));
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(file(fixture.dir.path(), end));
        }
        let segments = directory.segments().len();
        for _ in 0..2 {
            let error = drain.pass().expect_err("gone").to_string();
            assert!(error.contains("is gone") && error.contains("backup"), "{error}");
        }
        assert!(!file(fixture.dir.path(), "").exists(), "no empty store hides it");
        assert_eq!(directory.segments().len(), segments);
        std::fs::rename(file(&backup, ""), file(fixture.dir.path(), "")).expect("restores");
        assert_eq!(drain.pass().expect("follows").rows, 4);
        journal.close_now(&closed(4)).expect("writes");
        assert_eq!(drain.pass().expect("passes").rows, 1);
        assert_eq!(fixture.ends(), [(End::Complete, 5)]);
    }

    #[test]
    fn a_store_that_takes_anothers_place_knows_the_prices_in_force() {
        let fixture = Fixture::new(1 << 20);
        let directory = fixture.directory();
        let backup = fixture.dir.path().join("backup");
        std::fs::create_dir(&backup).expect("makes");
        drop(Store::open(&backup).expect("a store from before the price"));
        let mut prices = Prices::default();
        prices.add("m", 0, Rates { input: 1_000, output: 10_000, ..Rates::default() });
        let price = *prices.of("m").at(0).expect("is in force");
        let mut drain = fixture.drain(&directory);
        drain.record_prices(&prices).expect("stores");
        let file = |dir: &std::path::Path, end: &str| dir.join(format!("weir.sqlite{end}"));
        for end in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(file(fixture.dir.path(), end));
        }
        std::fs::rename(file(&backup, ""), file(fixture.dir.path(), "")).expect("restores");
        let mut journal = Journal::new(directory);
        let open = Opened { price_version: Some(price.version), ..opened(1) };
        journal.open_now(&open).expect("writes");
        let mut closed = closed(1);
        closed.cost_nano_usd = Some(price.rates.cost(&closed.billed()));
        journal.close_now(&closed).expect("writes");
        assert_eq!(drain.pass().expect("follows").rows, 1);
        let store = Store::open(fixture.dir.path()).expect("opens");
        assert_eq!(store.price_versions().expect("reads").rates(price.version), Some(&price.rates));
        let recost = store.recost(i64::MIN, i64::MAX, |one| panic!("{one:?}")).expect("reads");
        assert_eq!((recost.rows, recost.unpriced), (1, 0));
    }

    #[test]
    fn a_row_is_kept_while_the_journal_has_it_and_never_comes_back() {
        let fixture = Fixture::new(1 << 20);
        let directory = fixture.directory();
        let mut drain = fixture.drain(&directory);
        let mut journal = Journal::new(directory.clone());
        journal.open_now(&opened(1)).expect("writes");
        journal.close_now(&closed(1)).expect("writes");
        journal.open_now(&opened(2)).expect("writes");
        assert_eq!(drain.pass().expect("passes").rows, 1);
        assert_eq!(drain.expire(i64::MAX, i64::MAX).expect("looks"), 0, "its segment is there");
        journal.close_now(&closed(2)).expect("writes");
        drop(journal);
        drain.pass().expect("passes");
        assert!(directory.segments().is_empty());
        assert_eq!(drain.expire(i64::MAX, i64::MAX).expect("deletes"), 2);
        assert!(fixture.ends().is_empty());
        let store = Store::open(fixture.dir.path()).expect("opens");
        let requests = || store.balances(0, i64::MAX).expect("reads")[0].requests;
        assert_eq!(requests(), 2, "the sums stay");
    }

    #[test]
    fn nothing_is_deleted_while_the_journal_has_what_no_clock_can_be_right_about() {
        let fixture = Fixture::new(1 << 20);
        let directory = fixture.directory();
        let mut drain = fixture.drain(&directory);
        let mut journal = Journal::new(directory.clone());
        let late = Opened { started_at_ms: opened(2).started_at_ms + 1_000, ..opened(2) };
        journal.open_now(&late).expect("writes");
        drain.pass().expect("passes");
        let old = opened(1).started_at_ms - 10 * 3_600_000;
        let row = Row { opened: Opened { started_at_ms: old, ..opened(1) }, closed: closed(1) };
        drain.store.append(&[row], &[]).expect("stores");
        assert_eq!(drain.expire(i64::MAX, late.started_at_ms - 1).expect("looks"), 0);
        assert_eq!(drain.expire(i64::MAX, late.started_at_ms).expect("deletes"), 1);
    }

    #[test]
    fn a_short_segment_goes_when_it_is_an_hour_old() {
        let fixture = Fixture::new(1 << 20);
        let directory = fixture.directory();
        let mut drain = fixture.drain(&directory);
        let mut journal = Journal::new(directory.clone());
        journal.open_now(&opened(1)).expect("writes");
        journal.close_now(&closed(1)).expect("writes");
        const HOUR_NS: u64 = 3_600_000_000_000;
        for (mono_ns, left) in [(7, 1), (HOUR_NS, 1), (HOUR_NS + 7, 0), (HOUR_NS + 8, 0)] {
            journal.rotate(mono_ns);
            drain.pass().expect("passes");
            assert_eq!(directory.segments().len(), left, "{mono_ns}");
        }
    }
}
