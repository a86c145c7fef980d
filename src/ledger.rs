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
mod confirm;
mod retention;
mod upkeep;
mod scan;
mod lock;
pub(crate) mod open;
mod wal;
#[cfg(test)]
mod power_cut;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::clock::{Believed, Clock};
use crate::config::Data;
use crate::ledger::breath::Breath;
use crate::ledger::confirm::Confirming;
use crate::ledger::drain::{Drain, DrainError, Progress};
use crate::ledger::journal::{Directory, Journal};
use crate::ledger::lock::Holder;
use crate::ledger::open::Hold;
use crate::ledger::retention::Retention;
use crate::ledger::store::{Store, StoreError};
use crate::ledger::upkeep::Upkeep;
use crate::ledger::wal::WalWatch;
use crate::price::Prices;
use crate::telemetry::metrics::Shared;

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
        "the data directory `{path}` is in use by {holder}; stop that, or give this one \
         a directory of its own (`data.dir`, for the demo --data-dir)"
    )]
    InUse { path: String, holder: Holder },
    #[error(
        "there is no ledger in `{path}`: nothing was ever recorded there. If it is elsewhere, say where: \
         `data.dir` in the configuration (--config FILE), or WEIR__DATA__DIR"
    )]
    Nothing { path: String },
    #[error(
        "the clock says {clock}, but {confirmed} was confirmed before: no row was given another date; \
         set the clock, or if it is right now, add --trust-clock"
    )]
    ClockBehind { clock: jiff::Timestamp, confirmed: jiff::Timestamp },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Drain(#[from] DrainError),
}

/// A running ledger; purposefully not `Clone`: whoever opened it closes it.
#[derive(Debug)]
pub(crate) struct Ledger {
    directory: Arc<Directory>,
    believed: Arc<Believed>,
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Ledger {
    /// Takes the data directory, replays the journal into the store, and starts the drain. The
    /// prices are in the store before any row names them. Also returns a connection to the store for
    /// the control plane.
    pub(crate) fn open(
        data: &Data,
        prices: &Prices,
        metrics: Arc<Shared>,
        clock: Clock,
    ) -> Result<(Self, Store), LedgerError> {
        let (lock, mut drain) = open::for_server(data)?;
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
        let (directory, store) = (drain.directory(), drain.store.another()?);
        let mut confirming = Confirming::new(clock.clone(), &drain.store)?;
        confirming.tell(&drain.store)?;
        let believed = confirming.believed().clone();
        let retention = Retention::new(data.keep_rows, clock.clone(), believed.clone());
        let upkeep = Upkeep::new(retention, clock);
        let hold = Hold::new(lock);
        let (stop, stopped) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("weir-drain".into())
            .spawn(move || run(drain, hold, &metrics, (confirming, upkeep), &stopped))
            .map_err(|source| directory_error(data, source))?;
        Ok((Self { directory, believed, stop, thread }, store))
    }

    /// A new writing end, for one worker.
    pub(crate) fn journal(&self) -> Journal {
        Journal::new(self.directory.clone())
    }

    /// The time that is believed, for those who decide by it.
    pub(crate) fn believed(&self) -> Arc<Believed> {
        self.believed.clone()
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

fn directory_error(data: &Data, source: io::Error) -> LedgerError {
    LedgerError::Directory { path: data.dir.display().to_string(), source }
}

/// The drain's thread: a pass every now and then, and a last one when told to stop.
fn run(
    mut drain: Drain,
    mut hold: Hold,
    metrics: &Shared,
    (mut confirming, mut upkeep): (Confirming, Upkeep),
    stopped: &Receiver<()>,
) {
    let mut wal = WalWatch::default();
    let mut last_sync = Instant::now();
    let mut is_behind = false;
    loop {
        let stop = stopped.recv_timeout(DRAIN_EVERY) != Err(RecvTimeoutError::Timeout);
        if !hold.keep() {
            // A pass could remove what the other process has not read.
            return drain.directory().give_up();
        }
        // At the end nobody else is there, and the process waits.
        drain.breath = if stop { Breath::none() } else { Breath::regular() };
        pass(&mut drain, metrics, &mut is_behind);
        metrics.store_wal(wal.look(drain.store.wal_bytes()));
        if !is_behind && let Err(error) = confirming.look(&drain.store) {
            tracing::warn!(%error, "the time could not be confirmed; it is tried again");
        }
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
