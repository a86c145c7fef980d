//! One run of the journal until something ends it: what was asked of it, in an order that a seed gives, and
//! what it promised.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::RESERVED;
use crate::config::Durability;
use crate::journal::background::Background;
use crate::journal::codec::tests::{closed, opened};
use crate::journal::simulated_disk::{Meanwhile, Other, Random, Simulated};
use crate::journal::{Directory, Journal, Receipt};
use crate::ledger::drain::Drain;
use crate::record::{Closed, EventId, Opened};
use crate::store::{Store, synced_commits};

/// One run: what was asked of the journal, and what it promised.
pub(super) struct Run {
    pub(super) random: Random,
    pub(super) seed: u64,
    pub(super) disk: Simulated,
    pub(super) journal: Journal<Simulated>,
    pub(super) background: Background<Simulated>,
    pub(super) drain: Arc<Mutex<Drain<Simulated>>>,
    pub(super) time: Arc<Time>,
    pub(super) durability: Durability,
    /// The store as it was when a commit was synced last.
    pub(super) durable_store: Option<PathBuf>,
    pub(super) dir: PathBuf,
    /// Taken down and not known to be written.
    pub(super) opening: Vec<(u32, Receipt)>,
    pub(super) open: Vec<u32>,
    pub(super) next: u32,
    pub(super) sent: Vec<u32>,
    /// Their clients went away before that.
    pub(super) withdrawn: Vec<u32>,
    /// They could not be written.
    pub(super) refused: Vec<u32>,
    /// No sync has failed.
    pub(super) is_sound: bool,
    pub(super) waiting: Vec<(u32, Receipt)>,
    /// What clients saw complete.
    pub(super) released: Vec<u32>,
    /// So many of them had been released before the last background sync.
    pub(super) settled: usize,
}

/// The time of a run's passes, which are as the server's.
#[derive(Default)]
pub(super) struct Time(AtomicU64);

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
pub(super) fn hour_of(seed: u64) -> i64 {
    seed as i64 * 3_600_000
}

fn begun(seed: u64, n: u32) -> Opened {
    let started_at_ms = hour_of(seed);
    Opened { event_id: id(seed, n), started_at_ms, reserved_tokens: RESERVED, ..opened(1) }
}

/// Texts of all lengths, so that records begin anywhere in a sector.
pub(super) fn ended(seed: u64, n: u32) -> Closed {
    let raw = "x".repeat((seed as usize + n as usize * 37) % 300);
    let mut closed = Closed { event_id: id(seed, n), raw_usage: Some(raw.into()), ..closed(1) };
    closed.usage.total = u64::from(n);
    closed
}

impl Run {
    pub(super) fn new(seed: u64, durability: Durability, dir: &Path) -> Self {
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

    pub(super) fn step(&mut self) {
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

pub(super) fn directory(disk: &Simulated, durability: Durability) -> Arc<Directory<Simulated>> {
    Arc::new(Directory::on(disk.clone(), Path::new("data"), 2_000, durability).unwrap())
}
