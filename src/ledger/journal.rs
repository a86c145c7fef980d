//! The journal: what must not be lost is appended here, inline, by the worker that serves the
//! request, before anyone can see what it is about. A directory of segment files, one open per worker,
//! each written by exactly one [`Journal`] and read by the drain.
//!
//! A record is written with one positioned write at the segment's end. If that fails half way, the end
//! does not move, so the next record overwrites the debris and a reader never sees it: a disk that was
//! full works again as soon as there is room, without a restart. `kill -9` loses nothing that was
//! written, because the page cache outlives the process.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::ledger::codec;
use crate::ledger::lock::create_private_dir;
use crate::ledger::record::{Closed, Opened};

/// What every segment begins with: a name and the format's version.
pub(crate) const HEADER: [u8; 16] = *b"WEIRJRNL\x01\0\0\0\0\0\0\0";
/// Closes that could not be written and wait for the disk; past this the oldest is left to be
/// recovered from its `Opened` at the next start.
const MAX_LATE: usize = 4096;
const EXTENSION: &str = "wj";

/// A record could not be written; nothing of it will be read.
#[derive(Debug, thiserror::Error)]
#[error("the journal in `{path}` cannot be written: {source}")]
pub(crate) struct AppendError {
    path: PathBuf,
    source: io::Error,
}

/// All segments of one data directory. Shared by the writers, which add to it, and the drain, which
/// reads and removes.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    segment_bytes: u64,
    next: AtomicU64,
    segments: Mutex<BTreeMap<u64, Arc<Segment>>>,
    /// Tests make appends fail as a full disk would.
    full: AtomicBool,
}

/// One file.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) path: PathBuf,
    /// Every byte before this offset is whole records; the writer moves it after the write.
    published: AtomicU64,
    /// Nothing will be appended any more.
    sealed: AtomicBool,
}

/// The writing end: one per worker. Purposefully not `Clone`: a segment has one writer.
#[derive(Debug)]
pub(crate) struct Journal {
    directory: Arc<Directory>,
    current: Option<(File, Arc<Segment>)>,
    /// Reused for every record.
    buffer: Vec<u8>,
    late: VecDeque<Closed>,
}

impl Directory {
    /// Opens `<data>/journal`, making it if need be, and finds the segments of earlier runs, which
    /// nobody writes to any more.
    pub(crate) fn open(data: &Path, segment_bytes: u64) -> io::Result<Self> {
        let path = data.join("journal");
        create_private_dir(&path)?;
        let mut segments = BTreeMap::new();
        for entry in std::fs::read_dir(&path)? {
            let file = entry?.path();
            let Some(number) = number_of(&file) else { continue };
            let length = std::fs::metadata(&file)?.len();
            let segment = Segment {
                number,
                path: file,
                published: AtomicU64::new(length),
                sealed: AtomicBool::new(true),
            };
            segments.insert(number, Arc::new(segment));
        }
        let next = segments.last_key_value().map_or(1, |(number, _)| number + 1);
        Ok(Self {
            path,
            segment_bytes,
            next: AtomicU64::new(next),
            segments: Mutex::new(segments),
            full: AtomicBool::new(false),
        })
    }

    /// The segments in the order in which they were begun.
    pub(crate) fn segments(&self) -> Vec<Arc<Segment>> {
        self.lock().values().cloned().collect()
    }

    /// Removes a segment's file; its records are in the store.
    pub(crate) fn remove(&self, segment: &Segment) -> io::Result<()> {
        std::fs::remove_file(&segment.path)?;
        self.lock().remove(&segment.number);
        Ok(())
    }

    /// Makes every append fail as on a full disk, until told otherwise.
    pub(crate) fn pretend_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    fn begin(&self) -> io::Result<(File, Arc<Segment>)> {
        if self.full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.path.join(format!("{number:016}.{EXTENSION}"));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        if let Err(error) = file.write_all_at(&HEADER, 0) {
            // An empty segment means nothing; it must not be taken for one that lost its head.
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        let segment = Arc::new(Segment {
            number,
            path,
            published: AtomicU64::new(HEADER.len() as u64),
            sealed: AtomicBool::new(false),
        });
        self.lock().insert(number, segment.clone());
        Ok((file, segment))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Segment>>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Segment {
    /// How far the segment may be read.
    pub(crate) fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    /// Whether [`Segment::published`] is final; ask for this first.
    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    /// The name under which the store remembers how far it has read.
    pub(crate) fn name(&self) -> String {
        self.number.to_string()
    }
}

impl Journal {
    pub(crate) fn new(directory: Arc<Directory>) -> Self {
        Self { directory, current: None, buffer: Vec::with_capacity(1024), late: VecDeque::new() }
    }

    /// Writes that a request is about to go upstream; returns the bytes. On an error it must not go.
    pub(crate) fn open(&mut self, opened: &Opened) -> Result<u64, AppendError> {
        self.flush_late()?;
        self.buffer.clear();
        codec::encode_opened(opened, &mut self.buffer);
        self.append()
    }

    /// Writes how a request ended. On an error its end must not be shown to the client; the record is
    /// kept, marked as not released, and written as soon as the disk lets it.
    pub(crate) fn close(&mut self, closed: Closed) -> Result<u64, AppendError> {
        let result = self.flush_late().and_then(|_| {
            self.buffer.clear();
            codec::encode_closed(&closed, &mut self.buffer);
            self.append()
        });
        if result.is_err() {
            if self.late.len() == MAX_LATE {
                self.late.pop_front();
            }
            self.late.push_back(closed);
        }
        result
    }

    /// Tries again what could not be written, and returns how many that were. A client did not see
    /// these answers complete.
    pub(crate) fn flush_late(&mut self) -> Result<usize, AppendError> {
        let waiting = self.late.len();
        while let Some(closed) = self.late.front() {
            let mut unseen = closed.clone();
            if unseen.end == crate::usage::End::Complete {
                unseen.end = crate::usage::End::Crashed;
            }
            self.buffer.clear();
            codec::encode_closed(&unseen, &mut self.buffer);
            self.append()?;
            self.late.pop_front();
        }
        Ok(waiting)
    }

    /// Writes the buffer at the segment's end and then publishes it.
    fn append(&mut self) -> Result<u64, AppendError> {
        self.try_append()
            .map_err(|source| AppendError { path: self.directory.path.clone(), source })
    }

    fn try_append(&mut self) -> io::Result<u64> {
        let length = self.buffer.len() as u64;
        if let Some((_, segment)) = &self.current
            && segment.published.load(Ordering::Relaxed) + length > self.directory.segment_bytes
        {
            self.seal();
        }
        if self.current.is_none() {
            self.current = Some(self.directory.begin()?);
        }
        let (file, segment) = self.current.as_ref().expect("it was begun above");
        if self.directory.full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let end = segment.published.load(Ordering::Relaxed);
        file.write_all_at(&self.buffer, end)?;
        segment.published.store(end + length, Ordering::Release);
        Ok(length)
    }

    fn seal(&mut self) {
        if let Some((_, segment)) = self.current.take() {
            segment.sealed.store(true, Ordering::Release);
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // What is still late is recovered from its `Opened` at the next start.
        let _ = self.flush_late();
        self.seal();
    }
}

fn number_of(path: &Path) -> Option<u64> {
    if path.extension()?.to_str()? != EXTENSION {
        return None;
    }
    path.file_stem()?.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::codec::tests::{closed, opened};
    use crate::ledger::codec::{Names, Record, Step, decode};
    use crate::usage::End;

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
        let directory = Arc::new(Directory::open(dir.path(), 400).expect("opens"));
        let mut journal = Journal::new(directory.clone());
        for n in 0..20 {
            journal.open(&opened(n)).expect("writes");
            journal.close(closed(n)).expect("writes");
        }
        assert!(directory.segments().len() > 5);
        assert_eq!(read_all(&directory).len(), 40);
        drop(journal);
        assert!(directory.segments().iter().all(|segment| segment.is_sealed()));
        let again = Directory::open(dir.path(), 400).expect("opens");
        assert_eq!(read_all(&again).len(), 40);
        assert!(again.next.load(Ordering::Relaxed) > directory.segments().len() as u64);
    }

    #[test]
    fn a_full_disk_refuses_and_what_could_not_be_closed_is_written_later() {
        let dir = tempfile::tempdir().expect("a directory");
        let directory = Arc::new(Directory::open(dir.path(), 1 << 20).expect("opens"));
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
