//! The journal: what must not be lost is appended here, inline, by the worker that serves the
//! request, before anyone can see what it is about. A directory of segment files, one open per worker,
//! each written by exactly one [`Journal`] and read by the drain.
//!
//! A record is written with one positioned write at the segment's end. If that fails half way, the end
//! does not move, so the next record overwrites the debris and a reader never sees it: a disk that was
//! full works again as soon as there is room, without a restart. `kill -9` loses nothing that was
//! written, because the page cache outlives the process.
//!
//! With [`Durability::Power`] a record counts once it is synced, not once it is written
//! (`journal/sync.rs`). A sync that failed is not tried again on the same segment, because the kernel may
//! have dropped what it could not write. What was not synced is written once more, to a new segment.

pub(crate) mod disk;
mod segment;
mod directory;
mod sync;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::directory::Current;
use self::disk::{Disk, DiskFile, Os};
use self::sync::{Failed, Group, Syncer};
use crate::config::Durability;
use crate::ledger::codec::{self, Names, Record, Step};
use crate::ledger::record::{Closed, Opened};
use crate::usage::End;

pub(crate) use self::directory::Directory;
pub(in crate::ledger) use self::directory::number_of;
pub(crate) use self::segment::{HEADER, Segment};
pub(crate) use self::sync::Receipt;

/// Closes that could not be written and wait for the disk; past this the oldest is left to be
/// recovered from its `Opened` at the next start.
const MAX_LATE: usize = 4096;
/// A segment that is older is closed, however short, so that it can go once it is drained.
const MAX_AGE: Duration = Duration::from_secs(3600);
/// Bytes that there has to be room for before new requests are invited again: some records.
const ROOM: usize = 4096;

/// A record could not be written, or not so that it survives what it has to.
#[derive(Debug, thiserror::Error)]
#[error("the journal in `{path}` cannot be {done}: {source}")]
pub(crate) struct AppendError {
    path: PathBuf,
    done: &'static str,
    source: io::Error,
}

impl AppendError {
    fn not_written(path: &Path, source: io::Error) -> Self {
        Self { path: path.to_owned(), done: "written", source }
    }

    fn not_synced(path: &Path) -> Self {
        let source = io::Error::other("a sync failed");
        Self { path: path.to_owned(), done: "synced", source }
    }
}

/// The writing end: one per worker. Purposefully not `Clone`: a segment has one writer.
#[derive(Debug)]
pub(crate) struct Journal<D: Disk = Os> {
    directory: Arc<Directory<D>>,
    current: Option<Current<D::File>>,
    /// Reused for every record.
    buffer: Vec<u8>,
    late: VecDeque<Closed>,
    /// With [`Durability::Power`] only.
    power: Option<Power<D>>,
    /// The newest segment that [`Journal::rotate`] has seen, and when, on the monotonic clock.
    seen: (u64, u64),
}

/// What has to be known of records that are not synced.
#[derive(Debug)]
struct Power<D: Disk> {
    group: Arc<Group<D>>,
    /// Started with the first segment, unless a test does the rounds itself.
    syncer: Option<Syncer>,
    is_manual: bool,
    /// Oldest first. At most two per request in flight, and those of the round before.
    unsynced: VecDeque<Unsynced>,
    /// After a failed sync: new requests are refused until this record is synced.
    proof: Option<(Arc<Segment>, u64)>,
    /// They are kept until then: there is no other copy.
    failed: Vec<Failed<D::File>>,
}

#[derive(Debug)]
struct Unsynced {
    record: Box<[u8]>,
    /// Where it ends; `None`: it has to be written once more.
    at: Option<(Arc<Segment>, u64)>,
}

impl<D: Disk> Journal<D> {
    pub(crate) fn new(directory: Arc<Directory<D>>) -> Self {
        let power = match directory.durability() {
            Durability::Crash => None,
            Durability::Power => Some(Power {
                group: Arc::new(Group::new(directory.clone())),
                syncer: None,
                is_manual: false,
                unsynced: VecDeque::new(),
                proof: None,
                failed: Vec::new(),
            }),
        };
        let (buffer, late) = (Vec::with_capacity(1024), VecDeque::new());
        Self { directory, current: None, buffer, late, power, seen: (0, 0) }
    }

    /// Writes that a request is about to go upstream; returns the bytes. On an error it must not go.
    /// Nothing waits for its sync: before an answer is released, its `Closed` is synced, and this
    /// with it.
    pub(crate) fn open(&mut self, opened: &Opened) -> Result<u64, AppendError> {
        self.flush_late()?;
        if self.power.as_ref().is_some_and(|power| power.proof.is_some()) {
            return Err(AppendError::not_synced(&self.directory.path));
        }
        self.buffer.clear();
        codec::encode_opened(opened, &mut self.buffer);
        self.append()
    }

    /// Writes how a request ended; returns the bytes, and what to wait for before the client may see
    /// the end. On an error it must not see it; the record is kept, marked as not released, and
    /// written as soon as the disk lets it.
    pub(crate) fn close(&mut self, closed: Closed) -> Result<(u64, Receipt), AppendError> {
        let result = self.flush_late().and_then(|_| {
            self.buffer.clear();
            codec::encode_closed(&closed, &mut self.buffer);
            self.append()
        });
        match result {
            Ok(bytes) => Ok((bytes, self.receipt())),
            Err(error) => {
                if self.late.len() == MAX_LATE {
                    self.late.pop_front();
                }
                self.late.push_back(closed);
                Err(error)
            }
        }
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
        let is_proven = self.power.as_ref().is_none_or(|power| power.proof.is_none());
        is_proven && self.try_room().is_ok()
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

    /// Has no sync thread; [`Journal::round`] does what it would.
    #[cfg(test)]
    pub(crate) fn by_hand(directory: Arc<Directory<D>>) -> Self {
        let mut journal = Self::new(directory);
        if let Some(power) = &mut journal.power {
            power.is_manual = true;
        }
        journal
    }

    #[cfg(test)]
    pub(crate) fn round(&self) {
        if let Some(power) = &self.power {
            power.group.round();
        }
    }

    /// What was written last, as something to wait for.
    fn receipt(&self) -> Receipt {
        match (&self.power, &self.current) {
            (Some(power), Some(current)) => {
                power.group.ask();
                let waiters = power.group.waiters().clone();
                Receipt::for_sync(waiters, current.segment.clone(), current.end)
            }
            _ => Receipt::ready(),
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
            && current.end + length > self.directory.segment_bytes
        {
            self.seal();
        }
        if self.current.is_none() {
            self.begin()?;
        }
        let current = self.current.as_mut().expect("it was begun above");
        self.directory.check_full()?;
        current.file.write_all_at(&self.buffer, current.end)?;
        current.end += length;
        match &mut self.power {
            None => current.segment.publish(current.end),
            Some(power) => {
                current.segment.wrote(current.end);
                let at = Some((current.segment.clone(), current.end));
                power.unsynced.push_back(Unsynced { record: self.buffer.as_slice().into(), at });
            }
        }
        Ok(length)
    }

    fn begin(&mut self) -> io::Result<()> {
        if let Some(power) = &mut self.power
            && power.syncer.is_none()
            && !power.is_manual
        {
            power.syncer = Some(power.group.start()?);
        }
        let current = self.directory.begin()?;
        if let Some(power) = &self.power {
            power.group.begin(current.file.clone(), current.segment.clone());
        }
        self.current = Some(current);
        Ok(())
    }

    /// Forgets records that are synced by now. After a failed sync, writes those that are not once
    /// more, all of them: a `Closed` is worth nothing without its `Opened`.
    fn write_again(&mut self) -> Result<(), AppendError> {
        let Some(power) = &mut self.power else { return Ok(()) };
        let is_synced = |at: &(Arc<Segment>, u64)| at.0.published() >= at.1;
        while power.unsynced.front().is_some_and(|one| one.at.as_ref().is_some_and(is_synced)) {
            power.unsynced.pop_front();
        }
        let failed = power.group.take_failed();
        if !failed.is_empty() {
            power.failed.extend(failed);
            self.current = None;
            power.unsynced.iter_mut().for_each(|one| one.at = None);
        } else if power.proof.as_ref().is_some_and(is_synced) {
            power.proof = None;
            for Failed { file, segment } in power.failed.drain(..) {
                // Written again, it need not be read at the next start. If this fails it is read twice,
                // and the first counts.
                let _ = file.cut(segment.published());
                segment.supersede();
            }
        }
        if power.unsynced.front().is_none_or(|one| one.at.is_some()) {
            return Ok(());
        }
        for _ in 0..power.unsynced.len() {
            let power = self.power.as_mut().expect("it was there above");
            let Some(one) = power.unsynced.front() else { break };
            if one.at.is_some() {
                break;
            }
            self.buffer.clear();
            encode_unseen(&one.record, &mut self.buffer);
            self.append()?;
            self.power.as_mut().expect("as above").unsynced.pop_front();
        }
        let (Some(power), Some(current)) = (&mut self.power, &self.current) else { return Ok(()) };
        power.proof = Some((current.segment.clone(), current.end));
        power.group.ask();
        Ok(())
    }

    fn seal(&mut self) {
        let Some(current) = self.current.take() else { return };
        match &self.power {
            None => current.segment.seal(),
            // It is sealed once its last records are published.
            Some(power) => power.group.seal(),
        }
    }
}

impl<D: Disk> Drop for Journal<D> {
    fn drop(&mut self) {
        // What is still late is recovered from its `Opened` at the next start.
        let _ = self.flush_late();
        self.seal();
        if let Some(power) = &mut self.power
            && let Some(syncer) = power.syncer.take()
        {
            syncer.end(&power.group);
        }
    }
}

/// A record whose answer was not released.
fn unseen(mut closed: Closed) -> Closed {
    if closed.end == End::Complete {
        closed.end = End::Crashed;
    }
    closed
}

/// The record again, as its answer was not released.
fn encode_unseen(record: &[u8], out: &mut Vec<u8>) {
    match codec::decode(record, &mut Names::default()) {
        Step::Record(Record::Closed(closed), _) => codec::encode_closed(&unseen(closed), out),
        _ => out.extend_from_slice(record),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::ledger::codec::decode;
    use crate::ledger::codec::tests::{closed, opened};

    fn read_all(directory: &Directory) -> Vec<Record> {
        let mut records = Vec::new();
        for segment in directory.segments() {
            let bytes = std::fs::read(&segment.path).expect("the segment is there");
            let bytes = &bytes[..usize::try_from(segment.published()).expect("small")];
            assert_eq!(bytes[..16], HEADER);
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
            journal.open(&opened(n)).expect("writes");
            let _ = journal.close(closed(n)).expect("writes");
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
        let dir = tempfile::tempdir().expect("a directory");
        let directory =
            Arc::new(Directory::open(dir.path(), 1 << 20, Durability::Crash).expect("opens"));
        let mut journal = Journal::new(directory.clone());
        assert!(journal.has_room(), "of a segment that it begins");
        journal.open(&opened(1)).expect("writes");
        directory.pretend_full(true);
        assert!(!journal.has_room());
        directory.pretend_full(false);
        assert!(journal.has_room());
        let segments = directory.segments();
        let length = std::fs::metadata(&segments[0].path).expect("it is there").len();
        assert_eq!((segments.len(), length), (1, segments[0].published()));
        let _ = journal.close(closed(1)).expect("writes");
        assert_eq!(read_all(&directory), [Record::Opened(opened(1)), Record::Closed(closed(1))]);
    }

    #[test]
    fn a_full_disk_refuses_and_what_could_not_be_closed_is_written_later() {
        let dir = tempfile::tempdir().expect("a directory");
        let directory =
            Arc::new(Directory::open(dir.path(), 1 << 20, Durability::Crash).expect("opens"));
        let mut journal = Journal::new(directory.clone());
        journal.open(&opened(1)).expect("writes");
        directory.pretend_full(true);
        journal.open(&opened(2)).expect_err("refused");
        journal.close(closed(1)).expect_err("refused");
        directory.pretend_full(false);
        journal.open(&opened(3)).expect("there is room again");
        let mut unseen = closed(1);
        unseen.end = End::Crashed;
        assert_eq!(
            read_all(&directory),
            [Record::Opened(opened(1)), Record::Closed(unseen), Record::Opened(opened(3))]
        );
    }
}
