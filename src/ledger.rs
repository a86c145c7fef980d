//! The ledger: every request that was sent upstream, exactly once. Workers append to the journal, a
//! thread of its own drains the journal into the store, and reports read the store.
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
mod upkeep;
mod scan;
mod lock;
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
use crate::ledger::drain::{Drain, DrainError, Progress};
use crate::ledger::journal::{Directory, Journal};
use crate::ledger::lock::DirectoryLock;
use crate::ledger::retention::Retention;
use crate::ledger::store::{Store, StoreError};
use crate::ledger::upkeep::Upkeep;
use crate::price::Prices;
use crate::telemetry::metrics::Shared;

/// Between two passes of the drain: half of this is the typical age of the newest row in a report.
const DRAIN_EVERY: Duration = Duration::from_millis(200);
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
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
    _lock: DirectoryLock,
}

impl Ledger {
    /// Takes the data directory, replays the journal into the store, and starts the drain. The
    /// prices are in the store before any row names them.
    pub(crate) fn open(
        data: &Data,
        prices: &Prices,
        metrics: Arc<Shared>,
        clock: Clock,
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
        let retention = Retention::new(data.keep_rows, clock.clone());
        let mut upkeep = Upkeep::new(retention, clock);
        let (stop, stopped) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("weir-drain".into())
            .spawn(move || run(drain, &metrics, &mut upkeep, &stopped))
            .map_err(|source| directory_error(data, source))?;
        Ok(Self { directory, stop, thread, _lock: lock })
    }

    /// A new writing end, for one worker.
    pub(crate) fn journal(&self) -> Journal {
        Journal::new(self.directory.clone())
    }

    /// Tests make appends fail as a full disk would.
    pub(crate) fn pretend_disk_full(&self, is_full: bool) {
        self.directory.pretend_full(is_full);
    }

    /// And syncs as a broken disk would.
    pub(crate) fn pretend_disk_broken(&self, is_broken: bool) {
        self.directory.pretend_broken(is_broken);
    }

    /// Drains what the workers wrote and closes the store. Every [`Journal`] must be gone before.
    pub(crate) fn close(self) {
        let Self { stop, thread, .. } = self;
        drop(stop);
        if thread.join().is_err() {
            tracing::error!(
                "the drain thread had failed; the journal is replayed at the next start"
            );
        }
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
fn run(mut drain: Drain, metrics: &Shared, upkeep: &mut Upkeep, stopped: &Receiver<()>) {
    let mut last_sync = Instant::now();
    let mut is_behind = false;
    loop {
        let stop = stopped.recv_timeout(DRAIN_EVERY) != Err(RecvTimeoutError::Timeout);
        // At the end nobody else is there, and the process waits.
        drain.breath = if stop { Breath::none() } else { Breath::regular() };
        pass(&mut drain, metrics, &mut is_behind);
        if !stop && !is_behind {
            upkeep.pass(&mut drain);
        }
        if stop || last_sync.elapsed() >= SYNC_EVERY {
            last_sync = Instant::now();
            if let Err(error) = drain.sync() {
                tracing::error!(%error, "the journal could not be synced; a power cut could lose rows");
            }
        }
        if stop {
            return;
        }
    }
}

/// One pass; a failure is told when it begins and when it ends, not all the time between.
fn pass(drain: &mut Drain, metrics: &Shared, is_behind: &mut bool) {
    match drain.pass() {
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
    metrics.drain_lag(drain.lag_bytes());
}
