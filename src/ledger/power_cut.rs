//! The journal on a file system that forgets, in a power cut, what was not synced: thousands of runs, each
//! cut at a random moment. A test of the whole path from record to row, by a seed that repeats it.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use super::codec::tests::{closed, opened};
use super::drain::Drain;
use super::journal::disk::{Disk, DiskFile};
use super::journal::{Directory, Journal, Receipt};
use super::record::{Closed, EventId, Opened};
use super::report::{Filter, requests};
use super::store::Store;
use crate::config::Durability;

/// What a disk writes whole or not at all; small, so that a record is torn in many ways.
const SECTOR: usize = 64;
const RESERVED: u64 = 1_000_000;
/// Runs per mode; `WEIR_SEEDS` asks for more.
const SEEDS: u64 = 500;

/// A xorshift generator: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// The file system; clones are the same one.
#[derive(Clone, Debug, Default)]
struct Simulated(Arc<Mutex<Files>>);

#[derive(Debug, Default)]
struct Files {
    by_name: BTreeMap<PathBuf, Arc<Mutex<Bytes>>>,
    /// As the disk has it.
    durable_names: BTreeMap<PathBuf, Arc<Mutex<Bytes>>>,
    fails_next_write: bool,
    fails_next_sync: bool,
}

#[derive(Debug, Default)]
struct Bytes {
    written: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Debug)]
struct SimulatedFile {
    files: Arc<Mutex<Files>>,
    bytes: Arc<Mutex<Bytes>>,
}

impl Simulated {
    fn lock(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap()
    }

    /// What is left when the power is back: of what was not synced, any part.
    fn after_power_cut(&self, random: &mut Random) -> Self {
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
                Arc::new(Mutex::new(Bytes { durable: written.clone(), written })),
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
        Ok(SimulatedFile { files: self.0.clone(), bytes })
    }

    fn open(&self, path: &Path) -> io::Result<SimulatedFile> {
        let bytes = self.lock().by_name.get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(SimulatedFile { files: self.0.clone(), bytes })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let bytes = self.lock().by_name.remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.lock().by_name.insert(to.to_owned(), bytes);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
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
        let (at, file) = (at as usize, self.bytes.lock().unwrap());
        let found = file.written.get(at..at + bytes.len());
        bytes.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    /// One that fails drops what it could not write, and the next one says yes: as Linux does it.
    fn sync_data(&self) -> io::Result<()> {
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

/// One run: what was asked of the journal, and what it promised.
struct Run {
    random: Random,
    seed: u64,
    disk: Simulated,
    journal: Journal<Simulated>,
    drain: Drain<Simulated>,
    /// Taken down and not known to be written.
    opening: Vec<(u32, Receipt)>,
    open: Vec<u32>,
    next: u32,
    sent: Vec<u32>,
    /// Their clients went away before that.
    withdrawn: Vec<u32>,
    /// They could not be written.
    refused: Vec<u32>,
    /// No sync has failed.
    is_sound: bool,
    waiting: Vec<(u32, Receipt)>,
    /// What clients saw complete.
    released: Vec<u32>,
}

fn id(seed: u64, n: u32) -> EventId {
    let mut id = EventId([7; 16]);
    id.0[..8].copy_from_slice(&seed.to_be_bytes());
    id.0[12..].copy_from_slice(&n.to_be_bytes());
    id
}

/// Each run has an hour of its own in the store that all share.
fn hour_of(seed: u64) -> i64 {
    seed as i64 * 3_600_000
}

fn begun(seed: u64, n: u32) -> Opened {
    let started_at_ms = hour_of(seed);
    Opened { event_id: id(seed, n), started_at_ms, reserved_tokens: RESERVED, ..opened(1) }
}

/// Texts of all lengths, so that records begin anywhere in a sector.
fn ended(seed: u64, n: u32) -> Closed {
    let raw = "x".repeat((seed as usize + n as usize * 37) % 300);
    let mut closed = Closed { event_id: id(seed, n), raw_usage: Some(raw.into()), ..closed(1) };
    closed.usage.total = u64::from(n);
    closed
}

impl Run {
    fn new(seed: u64, durability: Durability, dir: &Path) -> Self {
        let disk = Simulated::default();
        let directory = directory(&disk, durability);
        let store = Store::open(dir).unwrap();
        Self {
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            seed,
            disk,
            journal: Journal::by_hand(directory.clone()),
            drain: Drain::new(directory, store).unwrap(),
            opening: Vec::new(),
            open: Vec::new(),
            next: 0,
            withdrawn: Vec::new(),
            refused: Vec::new(),
            is_sound: true,
            sent: Vec::new(),
            waiting: Vec::new(),
            released: Vec::new(),
        }
    }

    fn step(&mut self) {
        match self.random.below(16) {
            0..6 => {
                let n = self.next;
                self.next += 1;
                self.opening.push((n, self.journal.open(&begun(self.seed, n))));
            }
            6..12 if !self.open.is_empty() => {
                let at = self.random.below(self.open.len() as u64) as usize;
                let n = self.open.swap_remove(at);
                self.waiting.push((n, self.journal.close(&ended(self.seed, n))));
            }
            12 => self.journal.round(),
            13 => drop(self.drain.pass().unwrap()),
            14 if self.seed.is_multiple_of(2) && self.random.one_in(4) => {
                self.is_sound = false;
                self.disk.lock().fails_next_sync = true;
            }
            15 if self.random.one_in(4) => self.disk.lock().fails_next_write = true,
            _ => {}
        }
        // A batch is of one record or of several.
        if self.random.one_in(2) {
            let _ = self.journal.commit();
        } else if self.random.one_in(4) {
            self.withdraw();
        }
        self.send();
        self.release();
    }

    /// Lets requests go upstream that may go.
    fn send(&mut self) {
        for (n, mut receipt) in std::mem::take(&mut self.opening) {
            match receipt.result() {
                Some(Ok(())) => {
                    self.open.push(n);
                    self.sent.push(n);
                }
                Some(Err(_)) => self.refused.push(n),
                None => self.opening.push((n, receipt)),
            }
        }
    }

    /// A client goes away before its request is written down.
    fn withdraw(&mut self) {
        if let Some((n, mut receipt)) = self.opening.pop() {
            let is_staged = receipt.result().is_none();
            assert_eq!(self.journal.withdraw(id(self.seed, n)), is_staged);
            self.withdrawn.extend(is_staged.then_some(n));
        }
    }

    /// Lets clients see what may be seen.
    fn release(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let released = &mut self.released;
        self.waiting.retain_mut(|(n, receipt)| {
            let polled = Pin::new(receipt).poll(&mut cx);
            if matches!(polled, Poll::Ready(Ok(()))) {
                released.push(*n);
            }
            polled.is_pending()
        });
    }
}

fn directory(disk: &Simulated, durability: Durability) -> Arc<Directory<Simulated>> {
    Arc::new(Directory::on(disk.clone(), Path::new("data"), 2_000, durability).unwrap())
}

/// What ends a run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    PowerCut,
    Kill,
}

/// Runs one seed, and says how many answers were released and how many bytes were damaged.
fn survive(seed: u64, durability: Durability, fate: Fate, dir: &Path) -> (usize, u64) {
    let mut run = Run::new(seed, durability, dir);
    for _ in 0..20 + run.random.below(100) {
        run.step();
    }
    let Run {
        mut random, disk, journal, drain, released, sent, withdrawn, refused, is_sound, ..
    } = run;
    // Nothing more is written: a dead process has no last words.
    drop(drain);
    std::mem::forget(journal);
    let mut disk = disk;
    let mut damaged_bytes = 0;
    // The second time, what the first has removed may be back.
    for time in 0..2 {
        if fate == Fate::PowerCut {
            disk = disk.after_power_cut(&mut random);
        }
        let directory = directory(&disk, durability);
        let mut drain = Drain::new(directory.clone(), Store::open(dir).unwrap()).unwrap();
        let progress = drain.replay().unwrap_or_else(|e| panic!("seed {seed}, {time}: {e}"));
        damaged_bytes += progress.damaged_bytes;
        assert!(directory.segments().is_empty(), "seed {seed}: every segment is done with");
    }
    let rows = rows(seed, dir);
    for row in &rows {
        row.assert_true(seed);
    }
    for n in &withdrawn {
        assert!(rows.iter().all(|row| row.n != *n), "seed {seed}: {n} was withdrawn");
    }
    for n in refused.iter().filter(|_| fate == Fate::Kill) {
        assert!(rows.iter().all(|row| row.n != *n), "seed {seed}: {n} was refused");
    }
    let is_whole = durability == Durability::Power || fate == Fate::Kill;
    for n in released.iter().filter(|_| is_whole) {
        let complete = |row: &&Row| row.n == *n && row.end == "complete";
        assert_eq!(rows.iter().filter(complete).count(), 1, "seed {seed}: {n} was released");
    }
    for n in sent.iter().filter(|_| fate == Fate::Kill && is_sound) {
        assert_eq!(rows.iter().filter(|row| row.n == *n).count(), 1, "seed {seed}: {n} was sent");
    }
    (released.len(), damaged_bytes)
}

struct Row {
    n: u32,
    end: String,
    total: u64,
    raw: Option<String>,
}

fn rows(seed: u64, dir: &Path) -> Vec<Row> {
    let store = Store::open(dir).unwrap();
    let hour = hour_of(seed);
    let filter = Filter { since_ms: Some(hour), until_ms: Some(hour + 1), ..Filter::default() };
    let rows = requests(&store, &filter, None, 10_000).unwrap();
    let row = |row: super::report::Request| {
        let id: uuid::Uuid = row.event_id.parse().unwrap();
        let n = u32::from_be_bytes(*id.as_bytes().last_chunk().unwrap());
        let raw = row.raw_usage.map(|raw| serde_json::from_str(raw.get()).unwrap());
        Row { n, end: row.end, total: row.total_tokens, raw }
    };
    rows.into_iter().map(row).collect()
}

impl Row {
    /// It says what was written, or that the request crashed, and nothing else.
    fn assert_true(&self, seed: u64) {
        let closed = ended(seed, self.n);
        let is_written =
            self.total == closed.usage.total && self.raw.as_deref() == closed.raw_usage.as_deref();
        let is_recovered = self.total == RESERVED && self.raw.is_none();
        match &*self.end {
            "complete" => assert!(is_written, "seed {seed}: {} was misread", self.n),
            "crashed" => assert!(is_written || is_recovered, "seed {seed}: {} was misread", self.n),
            end => panic!("seed {seed}: nobody wrote {end}"),
        }
    }
}

fn seeds() -> u64 {
    let asked = std::env::var("WEIR_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    asked.unwrap_or(SEEDS)
}

fn survive_all(durability: Durability, fate: Fate) -> (usize, u64) {
    let dir = tempfile::tempdir().unwrap();
    // The last connection that is closed copies the WAL to the file, which takes a sync.
    let _held = Store::open(dir.path()).unwrap();
    let runs = (1..=seeds()).map(|seed| survive(seed, durability, fate, dir.path()));
    runs.fold((0, 0), |sum, run| (sum.0 + run.0, sum.1 + run.1))
}

#[test]
fn in_power_mode_a_power_cut_loses_nothing_that_was_released() {
    let (released, _) = survive_all(Durability::Power, Fate::PowerCut);
    assert!(released as u64 > 5 * seeds(), "only {released} were released");
}

#[test]
fn in_crash_mode_a_power_cut_corrupts_nothing_and_refuses_no_start() {
    let (_, damaged_bytes) = survive_all(Durability::Crash, Fate::PowerCut);
    assert!(damaged_bytes > 5 * seeds(), "the test damaged only {damaged_bytes} bytes");
}

#[test]
fn in_both_modes_a_killed_process_loses_nothing_that_was_released() {
    for durability in [Durability::Crash, Durability::Power] {
        let (released, _) = survive_all(durability, Fate::Kill);
        assert!(released as u64 > 5 * seeds(), "only {released} were released");
    }
}
