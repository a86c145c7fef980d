//! The journal: what must not be lost is appended here by the worker that serves the request, before
//! anyone can see what it is about. A directory of segment files, one open per worker, each written by
//! exactly one [`Journal`] and read by the drain.
//!
//! Records are taken down in a batch (`journal/batch.rs`), and [`Journal::commit`] writes it with one
//! positioned write at the segment's end. What depends on a record waits for its [`Receipt`]. If the write
//! fails half way, the end does not move, and what was written is cut off again: a reader never sees it,
//! and a disk that was full works again as soon as there is room, without a restart. `kill -9` loses
//! nothing that was written, because the page cache outlives the process.
//!
//! With [`Durability::Power`] a record counts once it is synced, not once it is written
//! (`journal/power.rs`, `journal/sync.rs`).

pub(crate) mod codec;
pub(crate) mod disk;
mod error;
mod segment;
mod directory;
mod receipt;
mod batch;
mod stall;
mod sync;
mod power;
pub(crate) mod background;
#[cfg(test)]
pub(crate) mod simulated_disk;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use self::batch::Batch;
use self::directory::Current;
use self::disk::{Disk, DiskFile, Os};
use self::power::{Power, unseen};
use self::receipt::SyncPoint;
use crate::config::Durability;
use crate::record::{Closed, Opened};
use crate::supervisor::Supervisor;

pub(crate) use self::directory::Directory;
pub(crate) use self::directory::number_of;
pub(crate) use self::error::AppendError;
pub(crate) use self::receipt::Receipt;
#[cfg(test)]
use self::segment::FIXED;
pub(crate) use self::segment::{Format, HEADER, Segment, position_name};

/// Closes that could not be written and wait for the disk; past this the oldest is left to be
/// recovered from its `Opened` at the next start.
const MAX_LATE: usize = 4096;
/// A segment that is older is closed, however short, so that it can go once it is drained.
const MAX_AGE: Duration = Duration::from_secs(3600);
/// Bytes that there has to be room for before new requests are invited again: a large batch.
const ROOM: usize = 64 * 1024;

/// What [`Journal::commit`] wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

/// The writing end: one per worker. Purposefully not `Clone`: a segment has one writer.
#[derive(Debug)]
pub(crate) struct Journal<D: Disk = Os> {
    directory: Arc<Directory<D>>,
    current: Option<Current<D::File>>,
    batch: Batch,
    /// Reused for every write.
    buffer: Vec<u8>,
    late: VecDeque<Closed>,
    /// With [`Durability::Power`] only.
    power: Option<Power<D>>,
    /// The newest segment that [`Journal::rotate`] has seen, and when, on the monotonic clock.
    seen: (u64, u64),
}

impl<D: Disk> Journal<D> {
    /// One whose sync thread nobody misses.
    pub(crate) fn new(directory: Arc<Directory<D>>) -> Self {
        Self::supervised(directory, Supervisor::default())
    }

    pub(crate) fn supervised(directory: Arc<Directory<D>>, supervisor: Supervisor) -> Self {
        let power = match directory.durability() {
            Durability::Crash => None,
            Durability::Power => Some(Power::new(directory.clone(), supervisor)),
        };
        let (buffer, late) = (Vec::with_capacity(1024), VecDeque::new());
        Self {
            directory,
            current: None,
            batch: Batch::default(),
            buffer,
            late,
            power,
            seen: (0, 0),
        }
    }

    /// Takes down that a request is about to go upstream, which it may once the receipt is ready.
    /// Nothing waits for its sync: before an answer is released, its `Closed` is synced, and this
    /// with it.
    pub(crate) fn open(&mut self, opened: &Opened) -> Receipt {
        match self.check_syncs() {
            Ok(()) => self.batch.open(opened),
            Err(error) => Receipt::refused(error),
        }
    }

    /// Takes down how a request ended. The client may see the end once the receipt is ready, and not
    /// if that is an error; then the record is kept, marked as not released, and written as soon as the
    /// disk lets it.
    pub(crate) fn close(&mut self, closed: &Closed) -> Receipt {
        self.batch.close(closed)
    }

    /// Takes back the [`Journal::open`] that a receipt is of, as if it had never been; false if that has
    /// been written, or could not be.
    pub(crate) fn withdraw(&mut self, receipt: Receipt) -> bool {
        self.batch.withdraw(receipt)
    }

    /// Bytes that wait for [`Journal::commit`].
    pub(crate) fn staged_bytes(&self) -> usize {
        self.batch.length()
    }

    /// Writes what was taken down, all of it or nothing.
    pub(crate) fn commit(&mut self) -> Result<Committed, AppendError> {
        let records = self.batch.records();
        if records == 0 {
            return Ok(Committed::default());
        }
        let written = self.flush_late().and_then(|_| {
            self.buffer.clear();
            self.batch.write_to(&mut self.buffer);
            self.append()
        });
        if written.is_err() {
            for closed in self.batch.closed() {
                if self.late.len() == MAX_LATE {
                    self.late.pop_front();
                }
                self.late.push_back(closed);
            }
        }
        let to_sync = written.as_ref().ok().and_then(|_| self.to_sync());
        self.batch.end(written.clone().map(|_| to_sync));
        written.map(|bytes| Committed { records, bytes })
    }

    /// Tries again what could not be written or synced, and returns how many that were. A client did
    /// not see these answers complete.
    pub(crate) fn flush_late(&mut self) -> Result<usize, AppendError> {
        if self.power.is_some() {
            self.write_again()?;
        }
        let waiting = self.late.len();
        while let Some(closed) = self.late.front() {
            self.buffer.clear();
            codec::encode_closed(&unseen(closed.clone()), &mut self.buffer);
            self.append()?;
            self.late.pop_front();
        }
        Ok(waiting)
    }

    /// Whether a record could be written now. After a failure nobody may ask for one: whoever routes by
    /// readiness sends no request. So bytes of nothing are written after the last record, and taken back;
    /// if a crash comes between the two, they are a torn tail.
    pub(crate) fn has_room(&mut self) -> bool {
        self.is_synced() && self.try_room().is_ok()
    }

    fn try_room(&mut self) -> io::Result<()> {
        if self.current.is_none() {
            self.begin()?;
        }
        let current = self.current.as_ref().expect("it was begun above");
        self.directory.check_full()?;
        let written = current.file.write_all_at(&[0; ROOM], current.end);
        // Also what was written of it before the disk was full.
        written.and(current.file.cut(current.end))
    }

    /// Closes a segment that has been written to for an hour; to be called now and then.
    pub(crate) fn rotate(&mut self, mono_ns: u64) {
        let Some(current) = &self.current else { return };
        let (number, since_ns) = self.seen;
        if number != current.segment.number {
            self.seen = (current.segment.number, mono_ns);
        } else if u128::from(mono_ns.saturating_sub(since_ns)) >= MAX_AGE.as_nanos() {
            self.seal();
        }
    }

    /// In `power` mode: what was written last, as something to wait for.
    fn to_sync(&self) -> Option<SyncPoint> {
        let (Some(power), Some(current)) = (&self.power, &self.current) else { return None };
        Some(power.to_sync(current, self.batch.has_closed()))
    }

    /// Whether syncs can be relied on, where they are waited for: none has failed since the last that
    /// succeeded, and none hangs.
    pub(crate) fn is_synced(&self) -> bool {
        self.power.as_ref().is_none_or(|power| power.is_proven() && !power.is_stalled())
    }

    /// Whether a sync hangs.
    pub(crate) fn is_stalled(&self) -> bool {
        self.power.as_ref().is_some_and(Power::is_stalled)
    }

    /// An error as long as it is not [`Journal::is_synced`].
    pub(crate) fn check_syncs(&mut self) -> Result<(), AppendError> {
        self.write_again()?;
        match &self.power {
            Some(power) if power.is_stalled() => Err(AppendError::stalled(&self.directory.path)),
            Some(power) if !power.is_proven() => Err(AppendError::not_synced(&self.directory.path)),
            _ => Ok(()),
        }
    }

    /// Looks whether syncs return; to be called now and then.
    pub(crate) fn look_for_stall(&mut self, mono_ns: u64) {
        if let Some(power) = &mut self.power {
            power.look_for_stall(mono_ns);
        }
    }

    /// Writes the buffer at the segment's end; in `crash` mode that publishes it.
    fn append(&mut self) -> Result<u64, AppendError> {
        let written = self.try_append();
        written.map_err(|source| AppendError::not_written(&self.directory.path, source))
    }

    fn try_append(&mut self) -> io::Result<u64> {
        let length = self.buffer.len() as u64;
        if let Some(current) = &self.current
            && (current.end + length > self.directory.segment_bytes
                || current.segment.is_doubtful())
        {
            self.seal();
        }
        if self.current.is_none() {
            self.begin()?;
        }
        let current = self.current.as_mut().expect("it was begun above");
        self.directory.check_full()?;
        if let Err(error) = current.file.write_all_at(&self.buffer, current.end) {
            // Whole records may stand there, which have been refused and must not be found later.
            let _ = current.file.cut(current.end);
            return Err(error);
        }
        if let Some(power) = &mut self.power {
            power.wrote(&current.segment, current.end, &self.buffer);
        }
        current.end += length;
        if self.power.is_none() {
            current.segment.publish(current.end);
        }
        Ok(length)
    }

    fn begin(&mut self) -> io::Result<()> {
        if let Some(power) = &mut self.power {
            power.start()?;
        }
        let current = self.directory.begin()?;
        if let Some(power) = &self.power {
            power.begin(&current);
        }
        self.current = Some(current);
        Ok(())
    }

    /// After a failed sync, writes what it left unsynced once more, all of it: a `Closed` is worth
    /// nothing without its `Opened`.
    fn write_again(&mut self) -> Result<(), AppendError> {
        let Some(power) = &mut self.power else { return Ok(()) };
        if power.catch_up() {
            self.current = None;
        }
        let mut is_again = false;
        loop {
            let Some(power) = &mut self.power else { return Ok(()) };
            self.buffer.clear();
            if !power.next_again(&mut self.buffer) {
                break;
            }
            self.append()?;
            self.power.as_mut().expect("it was there above").written_again();
            is_again = true;
        }
        if let (true, Some(power), Some(current)) = (is_again, &mut self.power, &self.current) {
            power.prove(current);
        }
        Ok(())
    }

    fn seal(&mut self) {
        let Some(current) = self.current.take() else { return };
        match &self.power {
            None => current.segment.seal(),
            Some(power) => power.seal(),
        }
    }
}

#[cfg(test)]
impl<D: Disk> Journal<D> {
    /// Has no sync thread; [`Journal::round`] does what it would.
    pub(crate) fn by_hand(directory: Arc<Directory<D>>) -> Self {
        let mut journal = Self::new(directory);
        if let Some(power) = &mut journal.power {
            power.by_hand();
        }
        journal
    }

    pub(crate) fn round(&self) {
        if let Some(power) = &self.power {
            power.group().round();
        }
    }

    /// [`Journal::round`], for somebody else to call.
    pub(crate) fn rounds(&self) -> impl Fn() + Send + use<D> {
        let group = self.power.as_ref().map(|power| power.group().clone());
        move || {
            if let Some(group) = &group {
                group.round();
            }
        }
    }

    /// [`Journal::open`], written by itself.
    pub(crate) fn open_now(&mut self, opened: &Opened) -> Result<(), AppendError> {
        let mut receipt = self.open(opened);
        let _ = self.commit();
        receipt.result().expect("it was written, or could not be")
    }

    /// [`Journal::close`], written by itself.
    pub(crate) fn close_now(&mut self, closed: &Closed) -> Result<(), AppendError> {
        drop(self.close(closed));
        self.commit().map(drop)
    }
}

impl<D: Disk> Drop for Journal<D> {
    fn drop(&mut self) {
        // What is late then is recovered from its `Opened` at the next start.
        let _ = self.commit();
        let _ = self.flush_late();
        self.seal();
        if let Some(power) = &mut self.power {
            power.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::journal::codec::tests::{closed, opened};
    use crate::journal::codec::{Names, Record, Step, decode};
    use crate::usage::End;

    /// A journal that is kept for as long as its place is.
    fn empty() -> (tempfile::TempDir, Arc<Directory>, Journal) {
        let dir = tempfile::tempdir().expect("a directory");
        let directory = Directory::open(dir.path(), 1 << 20, Durability::Crash).expect("opens");
        let directory = Arc::new(directory);
        (dir, directory.clone(), Journal::new(directory))
    }

    fn read_all(directory: &Directory) -> Vec<Record> {
        let mut records = Vec::new();
        for segment in directory.segments() {
            let bytes = std::fs::read(&segment.path).expect("the segment is there");
            let bytes = &bytes[..usize::try_from(segment.published()).expect("small")];
            assert_eq!(bytes[..FIXED], HEADER[..FIXED]);
            let mut rest = &bytes[16..];
            while !rest.is_empty() {
                let Step::Record(record, length) = decode(rest, &mut Names::default()) else {
                    panic!("published bytes are whole records")
                };
                records.push(record);
                rest = &rest[length..];
            }
        }
        records
    }

    #[test]
    fn segments_rotate_and_keep_every_record() {
        let dir = tempfile::tempdir().expect("a directory");
        let directory =
            Arc::new(Directory::open(dir.path(), 400, Durability::Crash).expect("opens"));
        let mut journal = Journal::new(directory.clone());
        for n in 0..20 {
            journal.open_now(&opened(n)).expect("writes");
            journal.close_now(&closed(n)).expect("writes");
        }
        assert!(directory.segments().len() > 5);
        assert_eq!(read_all(&directory).len(), 40);
        drop(journal);
        assert!(directory.segments().iter().all(|segment| segment.is_sealed()));
        let again = Directory::open(dir.path(), 400, Durability::Crash).expect("opens");
        assert_eq!(read_all(&again).len(), 40);
        assert!(again.next.load(Ordering::Relaxed) > directory.segments().len() as u64);
    }

    #[test]
    fn room_is_found_without_leaving_a_trace() {
        let (_dir, directory, mut journal) = empty();
        assert!(journal.has_room(), "of a segment that it begins");
        journal.open_now(&opened(1)).expect("writes");
        directory.pretend_full(true);
        assert!(!journal.has_room());
        directory.pretend_full(false);
        assert!(journal.has_room());
        let segments = directory.segments();
        let length = std::fs::metadata(&segments[0].path).expect("it is there").len();
        assert_eq!((segments.len(), length), (1, segments[0].published()));
        journal.close_now(&closed(1)).expect("writes");
        assert_eq!(read_all(&directory), [Record::Opened(opened(1)), Record::Closed(closed(1))]);
    }

    #[test]
    fn a_full_disk_refuses_and_what_could_not_be_closed_is_written_later() {
        let (_dir, directory, mut journal) = empty();
        journal.open_now(&opened(1)).expect("writes");
        directory.pretend_full(true);
        journal.open_now(&opened(2)).expect_err("refused");
        journal.close_now(&closed(1)).expect_err("refused");
        directory.pretend_full(false);
        journal.open_now(&opened(3)).expect("there is room again");
        let mut unseen = closed(1);
        unseen.end = End::Crashed;
        assert_eq!(
            read_all(&directory),
            [Record::Opened(opened(1)), Record::Closed(unseen), Record::Opened(opened(3))]
        );
    }

    #[test]
    fn a_batch_is_one_write_and_each_of_its_records_has_a_receipt() {
        let (_dir, directory, mut journal) = empty();
        journal.open_now(&opened(1)).expect("writes");
        let before = directory.segments()[0].published();
        let mut receipts = [journal.open(&opened(2)), journal.close(&closed(1))];
        let withdrawn = journal.open(&opened(3));
        let early = journal.open(&opened(5));
        let last = journal.open(&opened(4));
        assert!(receipts.iter_mut().all(|receipt| receipt.result().is_none()));
        assert_eq!(directory.segments()[0].published(), before, "nothing is written yet");
        assert!(journal.withdraw(early) && journal.withdraw(withdrawn));
        let written = journal.open(&opened(6));
        let Committed { records, bytes } = journal.commit().expect("writes");
        assert_eq!((records, before + bytes), (4, directory.segments()[0].published()));
        assert!(!journal.withdraw(written), "it is written");
        for mut receipt in receipts.into_iter().chain([last]) {
            assert!(matches!(receipt.result(), Some(Ok(()))));
        }
        let found = [
            Record::Opened(opened(1)),
            Record::Opened(opened(2)),
            Record::Closed(closed(1)),
            Record::Opened(opened(4)),
            Record::Opened(opened(6)),
        ];
        assert_eq!(read_all(&directory), found);
        assert_eq!(journal.commit().expect("there is nothing to write"), Committed::default());
    }

    #[test]
    fn a_batch_that_is_not_written_refuses_what_it_opens_and_keeps_what_it_closes() {
        let (_dir, directory, mut journal) = empty();
        for n in 1..3 {
            journal.open_now(&opened(n)).expect("writes");
        }
        directory.pretend_full(true);
        let receipts =
            [journal.close(&closed(1)), journal.open(&opened(3)), journal.close(&closed(2))];
        let refused = journal.open(&opened(5));
        journal.commit().expect_err("the disk is full");
        for mut receipt in receipts {
            assert!(matches!(receipt.result(), Some(Err(AppendError::NotWritten { .. }))));
        }
        assert!(!journal.withdraw(refused));
        directory.pretend_full(false);
        journal.open_now(&opened(4)).expect("there is room again");
        let crashed = |n| Record::Closed(Closed { end: End::Crashed, ..closed(n) });
        let opened = |n| Record::Opened(opened(n));
        let found = [opened(1), opened(2), crashed(1), crashed(2), opened(4)];
        assert_eq!(read_all(&directory), found);
    }

    #[test]
    fn a_file_whose_number_leaves_none_is_refused_by_its_name() {
        for (number, is_ours) in
            [(u64::MAX, false), (u64::MAX / 2 + 1, false), (u64::MAX / 2, true)]
        {
            let dir = tempfile::tempdir().expect("a directory");
            let name = format!("{number:020}.wj");
            std::fs::create_dir(dir.path().join("journal")).expect("makes");
            std::fs::write(dir.path().join("journal").join(&name), HEADER).expect("writes");
            match Directory::open(dir.path(), 400, Durability::Crash) {
                Ok(_) => assert!(is_ours, "{number}"),
                Err(error) => assert!(!is_ours && error.to_string().contains(&name), "{error}"),
            }
        }
    }
}
