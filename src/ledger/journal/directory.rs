//! The journal's segments: where they are, which there are, and beginning and removing them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::disk::{Disk, DiskFile, Os};
use super::segment::{HEADER, Segment};
use crate::config::Durability;

const EXTENSION: &str = "wj";
/// Added to the name of a segment that was damaged: it is kept for a person to look at.
const DAMAGED: &str = "wj.damaged";

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
        for (file, length) in disk.list(&path)? {
            let Some(number) = number_of(&file) else { continue };
            segments.insert(number, Arc::new(Segment::found(number, file, length)));
        }
        let next = segments.last_key_value().map_or(1, |(number, _)| number + 1);
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

    pub(crate) fn file(&self, segment: &Segment) -> io::Result<D::File> {
        self.disk.open(&segment.path)
    }

    /// Removes a segment's file; its records are in the store. One that was damaged is kept under
    /// another name, which nobody reads.
    pub(crate) fn remove(&self, segment: &Segment, is_damaged: bool) -> io::Result<()> {
        if is_damaged {
            self.disk.rename(&segment.path, &segment.path.with_extension(DAMAGED))?;
        } else {
            self.disk.remove(&segment.path)?;
        }
        self.lock().remove(&segment.number);
        Ok(())
    }

    /// Makes every append fail for good: another process has the directory.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::SeqCst);
        self.full.store(true, Ordering::SeqCst);
    }

    /// Makes every append fail as on a full disk, until told otherwise.
    pub(crate) fn pretend_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    /// Makes every sync fail, until told otherwise.
    pub(crate) fn pretend_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
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
        let file = self.disk.create(&path)?;
        if let Err(error) = file.write_all_at(&HEADER, 0) {
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

/// Which segment a file is; `None` for other files.
pub(in crate::ledger) fn number_of(path: &Path) -> Option<u64> {
    if path.extension()?.to_str()? != EXTENSION {
        return None;
    }
    path.file_stem()?.to_str()?.parse().ok()
}
