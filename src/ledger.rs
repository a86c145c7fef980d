//! The ledger: every request that was sent upstream, exactly once. Workers append to the journal, a
//! thread of its own drains the journal into the store, another syncs it, and reports read the store.
//!
//! [`Ledger::open`] takes the data directory for itself, replays what an earlier run left in the
//! journal, and starts the drain; [`Ledger::close`] is the last thing a server does.

pub(crate) mod pacing;
pub(crate) mod drain;
pub(crate) mod report;
pub(crate) mod verify;
pub(crate) mod backup;
pub(crate) mod output_file;
mod clock_confirmation;
mod retention;
mod upkeep;
mod clock_agreement;
mod stuck_segments;
mod scan;
pub(crate) mod backlog;
mod waiting_for;
mod lock;
mod file_owner;
pub(crate) mod open;
mod wal;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod power_cut;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::clock::{Clock, TrustedClock};
use crate::config::{Data, Durability};
use crate::journal::background::Background;
use crate::journal::{Directory, Journal};
use crate::ledger::clock_confirmation::ClockConfirmation;
pub(crate) use crate::ledger::drain::ROW_WAIT;
use crate::ledger::drain::{Drain, DrainError, Progress};
use crate::ledger::lock::Holder;
use crate::ledger::open::Hold;
use crate::ledger::pacing::Pacing;
use crate::ledger::retention::Retention;
use crate::ledger::stuck_segments::StuckSegments;
use crate::ledger::upkeep::Upkeep;
use crate::ledger::wal::WalWatch;
use crate::price::Prices;
use crate::store::{Store, StoreError};
use crate::supervisor::{Supervised, Supervisor};
use crate::telemetry::metrics::Shared;

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
        "the clock says {clock:.3}, but {confirmed:.3} was confirmed before: no row was given another date; \
         set the clock, or if it is right now, add --trust-clock"
    )]
    ClockBehind { clock: jiff::Timestamp, confirmed: jiff::Timestamp },
    #[error(
        "no time was ever confirmed here, so nothing says that the clock is right with {clock:.3}: no row was \
         given another date; if it is, add --trust-clock, or try again when a server has run for ten minutes"
    )]
    NothingConfirmed { clock: jiff::Timestamp },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Drain(#[from] DrainError),
}

impl LedgerError {
    /// Whether the disk takes no more: what is there can still be read.
    pub(crate) fn is_disk_full(&self) -> bool {
        match self {
            Self::Store(error) | Self::Drain(DrainError::Store(error)) => error.is_disk_full(),
            _ => false,
        }
    }
}

/// A running ledger; purposefully not `Clone`: whoever opened it closes it.
#[derive(Debug)]
pub(crate) struct Ledger {
    directory: Arc<Directory>,
    trusted_clock: Arc<TrustedClock>,
    supervisor: Supervisor,
    drain: Thread,
    /// In `power` mode each journal has one of its own.
    sync: Option<Thread>,
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
    /// prices are in the store before any row names them. Few rows wait for others for `row_wait`. Also
    /// returns a connection to the store for the control plane.
    pub(crate) fn open(
        data: &Data,
        prices: &Prices,
        metrics: Arc<Shared>,
        clock: Clock,
        supervisor: Supervisor,
        row_wait: Duration,
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
        let lag = directory.clone();
        metrics.drain_lag(move || lag.lag_bytes());
        metrics.drain_passed(clock.mono_ns());
        drain.set_row_wait(row_wait);
        let mut clock_confirmation = ClockConfirmation::new(clock.clone(), &mut drain.store)?;
        clock_confirmation.log_doubts(&drain.store)?;
        let trusted_clock = clock_confirmation.trusted_clock().clone();
        let retention = Retention::new(data.keep_rows, clock.clone(), trusted_clock.clone());
        let upkeep = Upkeep::new(retention, clock.clone());
        let hold = Hold::new(lock, data);
        let start = |name, run: Box<dyn FnOnce(Watch, Supervised) + Send>| {
            let thread = Thread::start(&supervisor, name, metrics.clone(), clock.clone(), run);
            thread.map_err(|source| directory_error(data, source))
        };
        let sync = match data.durability {
            Durability::Power => None,
            Durability::Crash => {
                metrics.journal_synced(clock.mono_ns());
                let background = Background::new(directory.clone());
                let run = |watch: Watch, thread: Supervised| sync(background, &watch, thread);
                Some(start("weir-sync", Box::new(run))?)
            }
        };
        let run = move |watch: Watch, thread: Supervised| {
            run(drain, hold, (clock_confirmation, upkeep), &watch, thread);
        };
        let drain = start("weir-drain", Box::new(run))?;
        Ok((Self { directory, trusted_clock, supervisor, drain, sync }, store))
    }

    /// A new writing end, for one worker.
    pub(crate) fn journal(&self) -> Journal {
        Journal::supervised(self.directory.clone(), self.supervisor.clone())
    }

    /// The time that is believed, for those who decide by it.
    pub(crate) fn trusted_clock(&self) -> Arc<TrustedClock> {
        self.trusted_clock.clone()
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

fn directory_error(data: &Data, source: io::Error) -> LedgerError {
    let source = file_owner::explained(source, &data.dir);
    LedgerError::Directory { path: data.dir.display().to_string(), source }
}

/// The drain's thread: a pass every now and then, and a last one when told to stop.
fn run(
    mut drain: Drain,
    mut hold: Hold,
    (mut clock_confirmation, mut upkeep): (ClockConfirmation, Upkeep),
    watch: &Watch,
    thread: Supervised,
) {
    let begun = Instant::now();
    let (mut wal, mut remains) = (WalWatch::default(), StuckSegments::new(&watch.clock));
    let mut is_behind = false;
    loop {
        let stop = watch.stopped.recv_timeout(drain.rest(begun.elapsed()))
            != Err(RecvTimeoutError::Timeout);
        thread.step();
        if !hold.keep() {
            // A pass could remove what the other process has not read. To return is to end the process.
            return drain.directory().give_up();
        }
        // At the end nobody else is there, and the process waits.
        drain.pacing = if stop { Pacing::off() } else { Pacing::on() };
        let passed = if stop { drain.pass() } else { drain.pass_at(begun.elapsed()) };
        tell_pass(passed, &watch.metrics, &mut is_behind);
        watch.metrics.drain_passed(watch.clock.mono_ns());
        watch.metrics.segments_remain(remains.look(drain.unremoved()));
        watch.metrics.store_wal(wal.look(drain.store.log_bytes()));
        if !is_behind && let Err(error) = clock_confirmation.look(&mut drain.store) {
            tracing::warn!(%error, "the time could not be confirmed; it is tried again");
        }
        if !stop && !is_behind {
            upkeep.pass(&mut drain);
        }
        if stop {
            return thread.end();
        }
    }
}

/// A failure is told when it begins and when it ends, not all the time between.
fn tell_pass(passed: Result<Progress, DrainError>, metrics: &Shared, is_behind: &mut bool) {
    match passed {
        Ok(progress) => {
            metrics.drained(progress.rows);
            metrics.damaged(progress.damaged_bytes + progress.torn_bytes);
            if progress.unread > 0 {
                metrics.drain_failed();
            }
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
fn sync(mut background: Background, watch: &Watch, thread: Supervised) {
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
            return thread.end();
        }
    }
}
