//! The ledger: every request that was sent upstream, exactly once. Workers append to the journal, a
//! thread of its own drains the journal into the store, another syncs it, and reports read the store.
//!
//! [`Ledger::open`] takes the data directory for itself, replays what an earlier run left in the
//! journal, and starts the drain; [`Ledger::close`] is the last thing a server does.

pub(crate) mod record;
mod codec;
pub(crate) mod journal;
pub(crate) mod breath;
pub(crate) mod drain;
pub(crate) mod store;
pub(crate) mod report;
pub(crate) mod verify;
pub(crate) mod backup;
mod retention;
mod scan;
mod lock;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod simulated_disk;
#[cfg(test)]
mod power_cut;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::config::{Data, Durability};
use crate::ledger::breath::Breath;
pub(crate) use crate::ledger::drain::ROW_WAIT;
use crate::ledger::drain::{Drain, DrainError, Progress};
use crate::ledger::journal::background::Background;
use crate::ledger::journal::{Directory, Journal};
use crate::ledger::lock::DirectoryLock;
use crate::ledger::retention::Retention;
use crate::ledger::store::{Store, StoreError};
use crate::price::Prices;
use crate::supervisor::{Supervised, Supervisor};
use crate::telemetry::metrics::Shared;

/// Between two background syncs of the journal.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// How long a start waits for the data directory, and in which steps.
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Why the ledger can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("the data directory `{path}` cannot be used: {source}")]
    Directory { path: String, source: io::Error },
    #[error(
        "the data directory `{path}` is in use by another weir process; stop it, or give this one \
         a directory of its own (`data.dir`, for the demo --data-dir)"
    )]
    InUse { path: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Drain(#[from] DrainError),
}

/// A running ledger; purposefully not `Clone`: whoever opened it closes it.
#[derive(Debug)]
pub(crate) struct Ledger {
    directory: Arc<Directory>,
    supervisor: Supervisor,
    drain: Thread,
    /// In `power` mode each journal has one of its own.
    sync: Option<Thread>,
    _lock: DirectoryLock,
}

/// A thread that runs until it is told to stop, which is to drop the sender.
#[derive(Debug)]
struct Thread {
    stop: SyncSender<()>,
    handle: JoinHandle<()>,
}

/// What such a thread is told, and where it tells what it did.
struct Watch {
    stopped: Receiver<()>,
    metrics: Arc<Shared>,
    clock: Clock,
}

impl Ledger {
    /// Takes the data directory, replays the journal into the store, and starts the drain. The
    /// prices are in the store before any row names them. Few rows wait for others for `row_wait`.
    pub(crate) fn open(
        data: &Data,
        prices: &Prices,
        metrics: Arc<Shared>,
        clock: Clock,
        supervisor: Supervisor,
        row_wait: Duration,
    ) -> Result<Self, LedgerError> {
        let (lock, directory, mut drain) = prepare_patiently(data)?;
        drain.record_prices(prices)?;
        let replayed = drain.replay()?;
        metrics.damaged(replayed.damaged_bytes + replayed.torn_bytes);
        if replayed != Progress::default() {
            tracing::info!(
                rows = replayed.rows,
                torn_bytes = replayed.torn_bytes,
                damaged_bytes = replayed.damaged_bytes,
                orphans = replayed.orphans,
                "journal replayed"
            );
        }
        let lag = directory.clone();
        metrics.drain_lag(move || lag.lag_bytes());
        metrics.drain_passed(clock.mono_ns());
        drain.set_row_wait(row_wait);
        let mut retention = Retention::new(data.keep_rows, clock.clone());
        let start = |name, run: Box<dyn FnOnce(Watch, Supervised) + Send>| {
            let thread = Thread::start(&supervisor, name, metrics.clone(), clock.clone(), run);
            thread.map_err(|source| directory_error(data, source))
        };
        let sync = match data.durability {
            Durability::Power => None,
            Durability::Crash => {
                metrics.journal_synced(clock.mono_ns());
                let background = Background::new(directory.clone());
                let run = |watch: Watch, thread: Supervised| sync(background, &watch, &thread);
                Some(start("weir-sync", Box::new(run))?)
            }
        };
        let run = move |watch: Watch, thread: Supervised| {
            run(drain, &watch, &mut retention, &thread);
        };
        let drain = start("weir-drain", Box::new(run))?;
        Ok(Self { directory, supervisor, drain, sync, _lock: lock })
    }

    /// A new writing end, for one worker.
    pub(crate) fn journal(&self) -> Journal {
        Journal::supervised(self.directory.clone(), self.supervisor.clone())
    }

    /// Tests make appends fail as a full disk would.
    pub(crate) fn pretend_disk_full(&self, is_full: bool) {
        self.directory.pretend_full(is_full);
    }

    /// And syncs as a broken disk would.
    pub(crate) fn pretend_disk_broken(&self, is_broken: bool) {
        self.directory.pretend_broken(is_broken);
    }

    /// Or hang as those of a stuck disk would.
    pub(crate) fn pretend_disk_stuck(&self, is_stuck: bool) {
        self.directory.pretend_stuck(is_stuck);
    }

    /// Drains what the workers wrote and closes the store. Every [`Journal`] must be gone before.
    pub(crate) fn close(self) {
        let Self { drain, sync, .. } = self;
        if drain.end().is_err() {
            tracing::error!(
                "the drain thread had failed; the journal is replayed at the next start"
            );
        }
        if sync.is_some_and(|sync| sync.end().is_err()) {
            tracing::error!("the sync thread had failed; a power cut could lose rows");
        }
    }
}

impl Thread {
    fn start(
        supervisor: &Supervisor,
        name: &str,
        metrics: Arc<Shared>,
        clock: Clock,
        run: impl FnOnce(Watch, Supervised) + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = sync_channel(1);
        let watch = Watch { stopped, metrics, clock };
        let handle = supervisor.spawn(name, move |thread| run(watch, thread))?;
        Ok(Self { stop, handle })
    }

    /// Waits for its last words; an error if it panicked.
    fn end(self) -> std::thread::Result<()> {
        drop(self.stop);
        self.handle.join()
    }
}

/// Opens the store for reading, with everything in it that the journal knows: if no server holds the
/// directory, its journal is replayed first; if one does, its drain is at most a second behind. Says
/// what the replay did, which no log tells.
pub(crate) fn open_store(data: &Data) -> Result<(Store, Progress), LedgerError> {
    let replayed = match prepare(data) {
        Ok((_lock, _, mut drain)) => drain.replay()?,
        // Making a new store under a running server would hide that the old one is gone.
        Err(LedgerError::InUse { .. }) => {
            return Ok((Store::open_existing(&data.dir)?, Progress::default()));
        }
        Err(error) => return Err(error),
    };
    Ok((Store::open(&data.dir)?, replayed))
}

fn prepare(data: &Data) -> Result<(DirectoryLock, Arc<Directory>, Drain), LedgerError> {
    lock::create_private_dir(&data.dir).map_err(|source| directory_error(data, source))?;
    let lock = DirectoryLock::take(&data.dir).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => LedgerError::InUse { path: data.dir.display().to_string() },
        _ => directory_error(data, source),
    })?;
    let directory = Directory::open(&data.dir, data.segment_bytes, data.durability)
        .map_err(|source| directory_error(data, source))?;
    let directory = Arc::new(directory);
    let mut store = Store::open(&data.dir)?;
    if data.durability == Durability::Power {
        store.sync_commits()?;
    }
    let drain = Drain::new(directory.clone(), store)?;
    Ok((lock, directory, drain))
}

fn directory_error(data: &Data, source: io::Error) -> LedgerError {
    LedgerError::Directory { path: data.dir.display().to_string(), source }
}

/// Another process may only be looking: a report replays the journal and is gone in a moment.
fn prepare_patiently(data: &Data) -> Result<(DirectoryLock, Arc<Directory>, Drain), LedgerError> {
    for _ in 0..LOCK_ATTEMPTS {
        match prepare(data) {
            Err(LedgerError::InUse { .. }) => std::thread::park_timeout(LOCK_PAUSE),
            other => return other,
        }
    }
    prepare(data)
}

/// The drain's thread: a pass every now and then, and a last one when told to stop.
fn run(mut drain: Drain, watch: &Watch, retention: &mut Retention, thread: &Supervised) {
    let begun = Instant::now();
    let mut next_expiry = begun;
    let mut is_behind = false;
    loop {
        let stop = watch.stopped.recv_timeout(drain.rest(begun.elapsed()))
            != Err(RecvTimeoutError::Timeout);
        thread.step();
        // At the end nobody else is there, and the process waits.
        drain.breath = if stop { Breath::none() } else { Breath::regular() };
        let passed = if stop { drain.pass() } else { drain.pass_at(begun.elapsed()) };
        tell_pass(passed, &watch.metrics, &mut is_behind);
        watch.metrics.drain_passed(watch.clock.mono_ns());
        if !stop && !is_behind && Instant::now() >= next_expiry {
            next_expiry = retention.expire(&mut drain);
        }
        if stop {
            return;
        }
    }
}

/// A failure is told when it begins and when it ends, not all the time between.
fn tell_pass(passed: Result<Progress, DrainError>, metrics: &Shared, is_behind: &mut bool) {
    match passed {
        Ok(progress) => {
            metrics.drained(progress.rows);
            metrics.damaged(progress.damaged_bytes + progress.torn_bytes);
            if progress.torn_bytes > 0 {
                tracing::error!(bytes = progress.torn_bytes, "damaged bytes in the journal");
            }
            if std::mem::take(is_behind) {
                tracing::info!("the store takes rows again");
            }
        }
        Err(error) => {
            metrics.drain_failed();
            if !std::mem::replace(is_behind, true) {
                tracing::error!(%error, "the store takes no rows; the journal keeps them");
            }
        }
    }
}

/// The sync thread of `crash` mode: a round every now and then, and a last one when told to stop.
fn sync(mut background: Background, watch: &Watch, thread: &Supervised) {
    let mut is_failing = false;
    loop {
        let stop = watch.stopped.recv_timeout(SYNC_EVERY) != Err(RecvTimeoutError::Timeout);
        thread.step();
        let begun_ns = watch.clock.mono_ns();
        match background.round() {
            Ok(()) => {
                watch.metrics.journal_synced(begun_ns);
                is_failing = false;
            }
            Err(error) if !std::mem::replace(&mut is_failing, true) => {
                tracing::error!(%error, "the journal could not be synced; a power cut could lose rows");
            }
            Err(_) => {}
        }
        if stop {
            return;
        }
    }
}
