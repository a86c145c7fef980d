//! The journal's segments: where they are, which there are, and beginning and removing them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::disk::{Disk, DiskFile, Os};
use super::segment::{HEADER, Segment, new_header};
use crate::config::Durability;

const EXTENSION: &str = "wj";
/// Added to the name of a segment that was damaged: it is kept for a person to look at.
const DAMAGED: &str = "damaged";

/// All segments of one data directory. Shared by the writers, which add to it, and the drain, which
/// reads and removes.
#[derive(Debug)]
pub(crate) struct Directory<D: Disk = Os> {
    disk: D,
    pub(super) path: PathBuf,
    pub(super) segment_bytes: u64,
    durability: Durability,
    pub(super) next: AtomicU64,
    segments: Mutex<BTreeMap<u64, Arc<Segment>>>,
    /// Appends fail: tests pretend that the disk is full, or the directory is no longer ours.
    full: AtomicBool,
    given_up: AtomicBool,
    /// And syncs as a broken one would.
    broken: AtomicBool,
    /// Or hang as one that has lost its network would.
    stuck: Mutex<bool>,
    moves: Condvar,
}

/// The segment being written.
#[derive(Debug)]
pub(super) struct Current<F> {
    pub(super) file: Arc<F>,
    pub(super) segment: Arc<Segment>,
    /// Where the next record goes.
    pub(super) end: u64,
}

impl Directory {
    /// Opens `<data>/journal`, making it if need be, and finds the segments of earlier runs, which
    /// nobody writes to any more.
    pub(crate) fn open(
        data: &Path,
        segment_bytes: u64,
        durability: Durability,
    ) -> io::Result<Self> {
        Self::on(Os, data, segment_bytes, durability)
    }
}

impl<D: Disk> Directory<D> {
    pub(crate) fn on(
        disk: D,
        data: &Path,
        segment_bytes: u64,
        durability: Durability,
    ) -> io::Result<Self> {
        let path = data.join("journal");
        disk.make_dir(&path)?;
        let mut segments = BTreeMap::new();
        let mut last = 0;
        for (file, length) in disk.list(&path)? {
            let leading = leading_number(&file).unwrap_or(0);
            if leading > MAX_NUMBER {
                return Err(not_ours(&file));
            }
            last = last.max(leading);
            let Some(number) = number_of(&file) else { continue };
            segments.insert(number, Arc::new(Segment::found(number, file, length)));
        }
        // Also of those that are kept for somebody to look at: a number names one segment.
        let next = last + 1;
        Ok(Self {
            disk,
            path,
            segment_bytes,
            durability,
            next: AtomicU64::new(next),
            segments: Mutex::new(segments),
            full: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            stuck: Mutex::new(false),
            moves: Condvar::new(),
        })
    }

    /// What a record has to survive before it counts.
    pub(crate) fn durability(&self) -> Durability {
        self.durability
    }

    /// The segments in the order in which they were begun.
    pub(crate) fn segments(&self) -> Vec<Arc<Segment>> {
        self.lock().values().cloned().collect()
    }

    /// Published bytes that the store does not have.
    pub(crate) fn lag_bytes(&self) -> u64 {
        self.lock().values().map(|segment| segment.lag()).sum()
    }

    pub(crate) fn file(&self, segment: &Segment) -> io::Result<D::File> {
        self.disk.open(&segment.path)
    }

    /// Removes a segment's file; its records are in the store. One that was damaged is kept under
    /// another name, which nobody reads.
    pub(crate) fn remove(&self, segment: &Segment, is_damaged: bool) -> io::Result<()> {
        let removed = match is_damaged {
            true => self.disk.rename(&segment.path, &self.name_to_keep(&segment.path)?),
            false => self.disk.remove(&segment.path),
        };
        match removed {
            // Somebody was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
        self.lock().remove(&segment.number);
        Ok(())
    }

    /// Makes every append fail for good: another process has the directory.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::SeqCst);
        self.full.store(true, Ordering::SeqCst);
    }

    /// A name that no file has: renaming to one that is there would replace it.
    fn name_to_keep(&self, segment: &Path) -> io::Result<PathBuf> {
        let taken: Vec<_> = self.disk.list(&self.path)?.into_iter().map(|(path, _)| path).collect();
        let first = format!("{EXTENSION}.{DAMAGED}");
        let further = (2..).map(|n| format!("{EXTENSION}.{DAMAGED}.{n}"));
        let names = std::iter::once(first).chain(further).map(|end| segment.with_extension(end));
        let mut free = names.filter(|name| !taken.contains(name));
        Ok(free.next().expect("there are more numbers than files"))
    }

    /// Makes every append fail as on a full disk, until told otherwise.
    pub(crate) fn pretend_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    /// Makes every sync fail, until told otherwise.
    pub(crate) fn pretend_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
    }

    /// Makes every sync hang, until told otherwise.
    pub(crate) fn pretend_stuck(&self, stuck: bool) {
        *self.stuck.lock().unwrap_or_else(PoisonError::into_inner) = stuck;
        self.moves.notify_all();
    }

    pub(super) fn check_full(&self) -> io::Result<()> {
        match self.full.load(Ordering::Relaxed) {
            true if self.given_up.load(Ordering::Relaxed) => {
                Err(io::Error::other("another process has taken the data directory"))
            }
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }

    pub(super) fn check_broken(&self) -> io::Result<()> {
        let stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.moves.wait_while(stuck, |stuck| *stuck));
        match self.broken.load(Ordering::Relaxed) {
            true => Err(io::Error::other("the disk is broken")),
            false => Ok(()),
        }
    }

    /// Makes the names of new segments survive a power cut.
    pub(super) fn sync_names(&self) -> io::Result<()> {
        self.disk.sync_dir(&self.path)
    }

    pub(super) fn begin(&self) -> io::Result<Current<D::File>> {
        self.check_full()?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.path.join(format!("{number:016}.{EXTENSION}"));
        let header = new_header()?;
        let file = self.disk.create(&path)?;
        if let Err(error) = file.write_all_at(&header, 0) {
            // An empty segment means nothing; it must not be taken for one that lost its head.
            let _ = self.disk.remove(&path);
            return Err(error);
        }
        let segment = Arc::new(Segment::begun(number, path));
        self.lock().insert(number, segment.clone());
        Ok(Current { file: Arc::new(file), segment, end: HEADER.len() as u64 })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Segment>>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number that a file's name begins with: of a segment, or of what is kept of one.
/// No journal has come to a larger number: behind it there would soon be none left.
const MAX_NUMBER: u64 = u64::MAX / 2;

fn not_ours(file: &Path) -> io::Error {
    let reason = format!("{} has a number that no segment comes to: move it away", file.display());
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

fn leading_number(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.split('.').next()?.parse().ok()
}

/// Which segment a file is; `None` for other files.
pub(crate) fn number_of(path: &Path) -> Option<u64> {
    if path.extension()?.to_str()? != EXTENSION {
        return None;
    }
    path.file_stem()?.to_str()?.parse().ok()
}
