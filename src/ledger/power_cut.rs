//! The journal on a file system that forgets, in a power cut, what was not synced, and a store that does the
//! same: thousands of runs, each cut at a random moment, while syncs and the drain get in each other's way.
//! A test of the whole path from record to row, by a seed that repeats it.

mod run;

use std::path::Path;

use self::run::{Run, directory, ended, hour_of};
use super::drain::Drain;
use crate::config::Durability;
use crate::journal::simulated_disk::Meanwhile;
use crate::store::Filter;
use crate::store::{FILE_NAME, Store};

const RESERVED: u64 = 1_000_000;
/// Runs per mode; `WEIR_SEEDS` asks for more.
const SEEDS: u64 = 500;

/// A new directory with the store as a power cut left it: any state since the last commit that was synced,
/// of which this takes the oldest.
fn forgotten(durable: Option<&Path>) -> tempfile::TempDir {
    let dir = in_memory();
    if let Some(durable) = durable {
        std::fs::copy(durable, dir.path().join(FILE_NAME)).unwrap();
    }
    dir
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
    let rows = store.requests(&filter, None, 10_000).unwrap();
    let row = |row: crate::store::Request| {
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
