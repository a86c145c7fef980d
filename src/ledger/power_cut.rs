//! The journal on a file system that forgets, in a power cut, what was not synced, and a store that does the
//! same: thousands of runs, each cut at a random moment, while syncs and the drain get in each other's way.
//! A test of the whole path from record to row, by a seed that repeats it.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::codec::tests::{closed, opened};
use super::drain::Drain;
use super::journal::background::Background;
use super::journal::{Directory, Journal, Receipt};
use super::record::{Closed, EventId, Opened};
use super::report::{Filter, requests};
use super::simulated_disk::{Meanwhile, Other, Random, Simulated};
use super::store::{FILE_NAME, Store, synced_commits};
use crate::config::Durability;

const RESERVED: u64 = 1_000_000;
/// Runs per mode; `WEIR_SEEDS` asks for more.
const SEEDS: u64 = 500;

/// One run: what was asked of the journal, and what it promised.
struct Run {
    random: Random,
    seed: u64,
    disk: Simulated,
    journal: Journal<Simulated>,
    background: Background<Simulated>,
    drain: Arc<Mutex<Drain<Simulated>>>,
    time: Arc<Time>,
    durability: Durability,
    /// The store as it was when a commit was synced last.
    durable_store: Option<PathBuf>,
    dir: PathBuf,
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
    /// So many of them had been released before the last background sync.
    settled: usize,
}

/// The time of a run's passes, which are as the server's.
#[derive(Default)]
struct Time(AtomicU64);

impl Time {
    fn after(&self, ms: u64) -> Duration {
        Duration::from_millis(self.0.fetch_add(ms, Ordering::SeqCst) + ms)
    }
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
        let journal = Journal::by_hand(directory.clone());
        let background = Background::new(directory.clone());
        let drain = Arc::new(Mutex::new(Drain::new(directory, store).unwrap()));
        let time = Arc::new(Time::default());
        let others = match durability {
            Durability::Crash => Meanwhile::default(),
            Durability::Power => meanwhile(seed, &journal, &drain, &time),
        };
        disk.set_meanwhile(others);
        Self {
            random: Random::new(seed),
            seed,
            disk,
            journal,
            background,
            drain,
            time,
            durability,
            durable_store: None,
            dir: dir.to_owned(),
            opening: Vec::new(),
            open: Vec::new(),
            next: 0,
            withdrawn: Vec::new(),
            refused: Vec::new(),
            is_sound: true,
            sent: Vec::new(),
            waiting: Vec::new(),
            released: Vec::new(),
            settled: 0,
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
            12 => self.sync(),
            13 => self.pass(),
            14 if self.can_fail() && self.random.one_in(4) => {
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

    fn sync(&mut self) {
        self.journal.round();
        if self.durability == Durability::Crash {
            let released = self.released.len();
            self.background.round().unwrap();
            self.settled = released;
        }
    }

    /// Only where somebody waits for syncs, the journal has to deal with one that fails.
    fn can_fail(&self) -> bool {
        self.durability == Durability::Power && self.seed.is_multiple_of(2)
    }

    fn pass(&mut self) {
        let before = synced_commits();
        let now = self.time.after(self.random.below(2_000));
        self.drain.lock().unwrap().pass_at(now).unwrap();
        if self.durability == Durability::Crash && synced_commits() != before {
            // A removal ends a pass: nothing was committed after it.
            let copy = self.dir.join("durable.sqlite");
            let _ = std::fs::remove_file(&copy);
            let drain = self.drain.lock().unwrap();
            drain
                .store
                .connection()
                .backup("main", &copy, None::<fn(rusqlite::backup::Progress)>)
                .unwrap();
            self.durable_store = Some(copy);
        }
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
            assert_eq!(self.journal.withdraw(receipt), is_staged);
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

/// In the middle of a read of the drain the sync thread does a round, and in the middle of a round the
/// drain does a pass, now and then.
fn meanwhile(
    seed: u64,
    journal: &Journal<Simulated>,
    drain: &Arc<Mutex<Drain<Simulated>>>,
    time: &Arc<Time>,
) -> Meanwhile {
    let now_and_then = |seed, run: Box<dyn Fn() + Send>| {
        let mut random = Random::new(seed);
        let other: Other = Box::new(move || {
            if random.one_in(3) {
                run();
            }
        });
        Some(other)
    };
    let (drain, time) = (drain.clone(), time.clone());
    let pass = move || {
        if let Ok(mut drain) = drain.try_lock() {
            drain.pass_at(time.after(500)).unwrap();
        }
    };
    let read = now_and_then(seed + 1_000_000, Box::new(journal.rounds()));
    Meanwhile { read, sync: now_and_then(seed + 2_000_000, Box::new(pass)) }
}

/// A new directory with the store as a power cut left it: any state since the last commit that was synced,
/// of which this takes the oldest.
fn forgotten(durable: Option<&Path>) -> tempfile::TempDir {
    let dir = in_memory();
    if let Some(durable) = durable {
        std::fs::copy(durable, dir.path().join(FILE_NAME)).unwrap();
    }
    dir
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
    run.disk.set_meanwhile(Meanwhile::default());
    let Run {
        mut random,
        disk,
        journal,
        drain,
        durable_store,
        released,
        settled,
        sent,
        withdrawn,
        refused,
        is_sound,
        ..
    } = run;
    // Nothing more is written: a dead process has no last words.
    drop(drain);
    let has_forgotten = fate == Fate::PowerCut && durability == Durability::Crash;
    let forgotten = has_forgotten.then(|| forgotten(durable_store.as_deref()));
    let dir = forgotten.as_ref().map_or(dir, |dir| dir.path());
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
    let kept = if is_whole { released.len() } else { settled };
    for n in &released[..kept] {
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

/// Thousands of stores are made, whose syncs prove nothing here and take their time on a disk.
fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn survive_all(durability: Durability, fate: Fate) -> (usize, u64) {
    let dir = in_memory();
    // The last connection that is closed copies the WAL to the file, which takes a sync.
    let _held = Store::open(dir.path()).unwrap();
    let runs = (1..=seeds()).map(|seed| {
        // What one run's store forgets is no other's.
        let own = forgotten(None);
        let is_own = durability == Durability::Crash && fate == Fate::PowerCut;
        survive(seed, durability, fate, if is_own { own.path() } else { dir.path() })
    });
    runs.fold((0, 0), |sum, run| (sum.0 + run.0, sum.1 + run.1))
}

#[test]
fn in_power_mode_a_power_cut_loses_nothing_that_was_released() {
    let (released, _) = survive_all(Durability::Power, Fate::PowerCut);
    assert!(released as u64 > 5 * seeds(), "only {released} were released");
}

#[test]
fn in_crash_mode_a_power_cut_loses_only_what_is_newer_than_the_last_sync() {
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
