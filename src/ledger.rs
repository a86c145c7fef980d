//! The ledger: every request that was sent upstream, exactly once. Workers append to the journal, a
//! thread of its own drains the journal into the store, and reports read the store.
//!
//! [`Ledger::open`] takes the data directory for itself, replays what an earlier run left in the
//! journal, and starts the drain; [`Ledger::close`] is the last thing a server does.

pub(crate) mod record;
mod codec;
pub(crate) mod journal;
pub(crate) mod drain;
pub(crate) mod store;
pub(crate) mod report;
mod lock;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::config::Data;
use crate::ledger::drain::{Drain, DrainError};
use crate::ledger::journal::{Directory, Journal};
use crate::ledger::lock::DirectoryLock;
use crate::ledger::store::{Store, StoreError};

/// Between two passes of the drain: half of this is the typical age of the newest row in a report.
const DRAIN_EVERY: Duration = Duration::from_millis(200);
/// Between two background syncs of the journal.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// Why the ledger can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("the data directory `{path}` cannot be used: {source}")]
    Directory { path: String, source: io::Error },
    #[error(
        "the data directory `{path}` is in use by another weir process; stop it, or give this one \
         a directory of its own with WEIR__DATA__DIR"
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
    health: Arc<Health>,
    stop: Sender<()>,
    thread: JoinHandle<()>,
    _lock: DirectoryLock,
}

/// What the drain tells the metrics.
#[derive(Debug, Default)]
pub(crate) struct Health {
    pub(crate) rows: AtomicU64,
    pub(crate) lag_bytes: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) damaged_bytes: AtomicU64,
    /// The last pass failed; the journal keeps what the store does not take.
    pub(crate) is_behind: AtomicBool,
}

impl Ledger {
    /// Takes the data directory, replays the journal into the store, and starts the drain.
    pub(crate) fn open(data: &Data) -> Result<Self, LedgerError> {
        let (lock, directory, mut drain) = prepare(data)?;
        let replayed = drain.replay()?;
        if replayed.rows > 0 || replayed.damaged_bytes > 0 {
            tracing::info!(
                rows = replayed.rows,
                torn_bytes = replayed.damaged_bytes,
                "journal replayed"
            );
        }
        let health = Arc::new(Health::default());
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new()
            .name("weir-drain".into())
            .spawn({
                let health = health.clone();
                move || run(drain, &health, &stopped)
            })
            .map_err(|source| directory_error(data, source))?;
        Ok(Self { directory, health, stop, thread, _lock: lock })
    }

    /// A new writing end, for one worker.
    pub(crate) fn journal(&self) -> Journal {
        Journal::new(self.directory.clone())
    }

    pub(crate) fn health(&self) -> Arc<Health> {
        self.health.clone()
    }

    /// The segments; tests use it to make the disk full.
    pub(crate) fn directory(&self) -> Arc<Directory> {
        self.directory.clone()
    }

    /// Drains what the workers wrote and closes the store. Every [`Journal`] must be gone before.
    pub(crate) fn close(self) {
        let Self { stop, thread, .. } = self;
        drop(stop);
        if thread.join().is_err() {
            tracing::error!("the drain thread had failed; the journal is replayed at the next start");
        }
    }
}

/// Opens the store for reading, with everything in it that the journal knows: if no server holds the
/// directory, its journal is replayed first; if one does, its drain is at most a second behind.
pub(crate) fn open_store(data: &Data) -> Result<Store, LedgerError> {
    match prepare(data) {
        Ok((_lock, _, mut drain)) => {
            drain.replay()?;
        }
        Err(LedgerError::InUse { .. }) => {}
        Err(error) => return Err(error),
    }
    Ok(Store::open(&data.dir)?)
}

fn prepare(data: &Data) -> Result<(DirectoryLock, Arc<Directory>, Drain), LedgerError> {
    std::fs::create_dir_all(&data.dir).map_err(|source| directory_error(data, source))?;
    let lock = DirectoryLock::take(&data.dir).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => LedgerError::InUse { path: data.dir.display().to_string() },
        _ => directory_error(data, source),
    })?;
    let directory = Directory::open(&data.dir, data.segment_bytes)
        .map_err(|source| directory_error(data, source))?;
    let directory = Arc::new(directory);
    let drain = Drain::new(directory.clone(), Store::open(&data.dir)?);
    Ok((lock, directory, drain))
}

fn directory_error(data: &Data, source: io::Error) -> LedgerError {
    LedgerError::Directory { path: data.dir.display().to_string(), source }
}

/// The drain's thread: a pass every now and then, and a last one when told to stop.
fn run(mut drain: Drain, health: &Health, stopped: &Receiver<()>) {
    let mut last_sync = std::time::Instant::now();
    loop {
        let stop = stopped.recv_timeout(DRAIN_EVERY) != Err(RecvTimeoutError::Timeout);
        pass(&mut drain, health);
        if stop || last_sync.elapsed() >= SYNC_EVERY {
            last_sync = std::time::Instant::now();
            if let Err(error) = drain.sync() {
                tracing::error!(%error, "the journal could not be synced; a power cut could lose rows");
            }
        }
        if stop {
            return;
        }
    }
}

fn pass(drain: &mut Drain, health: &Health) {
    match drain.pass() {
        Ok(progress) => {
            health.rows.fetch_add(progress.rows, Ordering::Relaxed);
            health.damaged_bytes.fetch_add(progress.damaged_bytes, Ordering::Relaxed);
            if progress.damaged_bytes > 0 {
                tracing::error!(bytes = progress.damaged_bytes, "damaged bytes in the journal");
            }
            if health.is_behind.swap(false, Ordering::Relaxed) {
                tracing::info!("the store takes rows again");
            }
        }
        Err(error) => {
            health.errors.fetch_add(1, Ordering::Relaxed);
            if !health.is_behind.swap(true, Ordering::Relaxed) {
                tracing::error!(%error, "the store takes no rows; the journal keeps them");
            }
        }
    }
    health.lag_bytes.store(drain.lag_bytes(), Ordering::Relaxed);
}
