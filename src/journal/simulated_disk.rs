//! A file system in memory, for tests: it forgets in a power cut what was not synced, fails when it is told
//! to, loses blocks, counts what is open, and lets others get on in the middle of a read or a sync.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::disk::{Disk, DiskFile};

/// What a disk writes whole or not at all; small, so that a record is torn in many ways.
const SECTOR: usize = 64;
/// What Linux says of a block that it cannot read.
const EIO: i32 = 5;

/// A xorshift generator: small, and the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    pub(crate) fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// The file system; clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Simulated(Arc<Mutex<Files>>);

#[derive(Debug, Default)]
pub(crate) struct Files {
    by_name: BTreeMap<PathBuf, Arc<Mutex<Bytes>>>,
    /// As the disk has it.
    durable_names: BTreeMap<PathBuf, Arc<Mutex<Bytes>>>,
    pub(crate) fails_next_write: bool,
    pub(crate) fails_next_sync: bool,
    /// Cannot be opened, for a reason by its number.
    unopenable: BTreeMap<PathBuf, i32>,
    /// Nothing can be removed or renamed, for a reason by its number.
    pub(crate) frozen: Option<i32>,
    open: Arc<Open>,
    meanwhile: Arc<Mutex<Meanwhile>>,
}

/// Files that are open, now and at most.
#[derive(Debug, Default)]
struct Open {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// What other threads get done while this one reads or syncs; of one of these, no other begins.
#[derive(Default)]
pub(crate) struct Meanwhile {
    pub(crate) read: Option<Other>,
    pub(crate) sync: Option<Other>,
}

pub(crate) type Other = Box<dyn FnMut() + Send>;

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meanwhile").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Bytes {
    written: Vec<u8>,
    durable: Vec<u8>,
    /// Cannot be read.
    lost: Range<usize>,
}

#[derive(Debug)]
pub(crate) struct SimulatedFile {
    files: Arc<Mutex<Files>>,
    bytes: Arc<Mutex<Bytes>>,
    open: Arc<Open>,
}

impl SimulatedFile {
    fn new(files: Arc<Mutex<Files>>, bytes: Arc<Mutex<Bytes>>) -> Self {
        let open = files.lock().unwrap().open.clone();
        let now = open.now.fetch_add(1, Ordering::SeqCst) + 1;
        open.most.fetch_max(now, Ordering::SeqCst);
        Self { files, bytes, open }
    }

    fn meanwhile(&self, which: impl FnOnce(&mut Meanwhile) -> &mut Option<Other>) {
        let meanwhile = self.files.lock().unwrap().meanwhile.clone();
        if let Ok(mut meanwhile) = meanwhile.try_lock()
            && let Some(other) = which(&mut meanwhile)
        {
            other();
        }
    }
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        self.open.now.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Simulated {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap()
    }

    /// From here on others get on as well; by default nobody does.
    pub(crate) fn set_meanwhile(&self, others: Meanwhile) {
        let meanwhile = self.lock().meanwhile.clone();
        *meanwhile.lock().unwrap() = others;
    }

    /// These bytes of a file cannot be read any more.
    pub(crate) fn lose(&self, path: &Path, lost: Range<usize>) {
        self.lock().by_name[path].lock().unwrap().lost = lost;
    }

    /// Opening this file fails by the error of this number, or works again.
    pub(crate) fn keep_shut(&self, path: &Path, error: Option<i32>) {
        let mut files = self.lock();
        files.unopenable.remove(path);
        files.unopenable.extend(error.map(|error| (path.to_owned(), error)));
    }

    fn require_thawed(&self) -> io::Result<()> {
        self.lock().frozen.map_or(Ok(()), |error| Err(io::Error::from_raw_os_error(error)))
    }

    /// Whether a power cut would leave all of a file.
    pub(crate) fn is_durable(&self, path: &Path) -> bool {
        let files = self.lock();
        let Some(bytes) = files.durable_names.get(path) else { return false };
        let bytes = bytes.lock().unwrap();
        bytes.durable == bytes.written
    }

    /// The files there are, by name.
    pub(crate) fn names(&self) -> Vec<PathBuf> {
        self.lock().by_name.keys().cloned().collect()
    }

    /// How many files were open at once, at most.
    pub(crate) fn most_open(&self) -> usize {
        self.lock().open.most.load(Ordering::SeqCst)
    }

    /// What is left when the power is back: of what was not synced, any part.
    pub(crate) fn after_power_cut(&self, random: &mut Random) -> Self {
        let files = self.lock();
        let names = files.by_name.keys().chain(files.durable_names.keys());
        let mut left = BTreeMap::new();
        for name in names {
            let is_synced =
                files.by_name.contains_key(name) && files.durable_names.contains_key(name);
            if left.contains_key(name) || (!is_synced && random.one_in(2)) {
                continue;
            }
            let bytes = files.by_name.get(name).or(files.durable_names.get(name)).unwrap();
            let bytes = bytes.lock().unwrap();
            let written = mixed(&bytes, random);
            left.insert(
                name.clone(),
                Arc::new(Mutex::new(Bytes { durable: written.clone(), written, lost: 0..0 })),
            );
        }
        let durable_names = left.clone();
        Self(Arc::new(Mutex::new(Files { by_name: left, durable_names, ..Files::default() })))
    }
}

/// Sector by sector the old or the new, and a length between the two.
fn mixed(bytes: &Bytes, random: &mut Random) -> Vec<u8> {
    let (old, new) = (&bytes.durable, &bytes.written);
    let grown = new.len().saturating_sub(old.len()) as u64;
    let mut mixed = new[..old.len().min(new.len()) + random.below(grown + 1) as usize].to_vec();
    for (at, sector) in mixed.chunks_mut(SECTOR).enumerate() {
        if random.one_in(3) {
            for (byte, place) in sector.iter_mut().zip(at * SECTOR..) {
                *byte = old.get(place).copied().unwrap_or(0);
            }
        }
    }
    mixed
}

impl Disk for Simulated {
    type File = SimulatedFile;

    fn make_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
        let length = |bytes: &Arc<Mutex<Bytes>>| bytes.lock().unwrap().written.len() as u64;
        Ok(self.lock().by_name.iter().map(|(name, bytes)| (name.clone(), length(bytes))).collect())
    }

    fn create(&self, path: &Path) -> io::Result<SimulatedFile> {
        let bytes: Arc<Mutex<Bytes>> = Arc::default();
        assert!(self.lock().by_name.insert(path.to_owned(), bytes.clone()).is_none(), "{path:?}");
        Ok(SimulatedFile::new(self.0.clone(), bytes))
    }

    fn open(&self, path: &Path) -> io::Result<SimulatedFile> {
        if let Some(error) = self.lock().unopenable.get(path) {
            return Err(io::Error::from_raw_os_error(*error));
        }
        let bytes = self.lock().by_name.get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(SimulatedFile::new(self.0.clone(), bytes))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.require_thawed()?;
        let bytes = self.lock().by_name.remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.lock().by_name.insert(to.to_owned(), bytes);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.require_thawed()?;
        self.lock().by_name.remove(path).map(|_| ()).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut files = self.lock();
        files.durable_names = files.by_name.clone();
        Ok(())
    }
}

impl DiskFile for SimulatedFile {
    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let fails = std::mem::take(&mut self.files.lock().unwrap().fails_next_write);
        // A write that fails may have written a part.
        let bytes = if fails { &bytes[..bytes.len() / 2] } else { bytes };
        let (at, mut file) = (at as usize, self.bytes.lock().unwrap());
        let length = file.written.len().max(at + bytes.len());
        file.written.resize(length, 0);
        file.written[at..at + bytes.len()].copy_from_slice(bytes);
        if fails { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.meanwhile(|others| &mut others.read);
        let (at, file) = (at as usize, self.bytes.lock().unwrap());
        if at < file.lost.end && file.lost.start < at + bytes.len() {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let found = file.written.get(at..at + bytes.len());
        bytes.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    /// One that fails drops what it could not write, and the next one says yes: as Linux does it.
    fn sync_data(&self) -> io::Result<()> {
        self.meanwhile(|others| &mut others.sync);
        let fails = std::mem::take(&mut self.files.lock().unwrap().fails_next_sync);
        let mut file = self.bytes.lock().unwrap();
        if fails {
            let durable = file.durable.clone();
            let length = file.written.len();
            file.written = durable;
            file.written.resize(length, 0);
            return Err(io::Error::other("the disk is broken"));
        }
        file.durable = file.written.clone();
        Ok(())
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.bytes.lock().unwrap().written.truncate(length as usize);
        Ok(())
    }
}
