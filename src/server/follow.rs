//! The thread that follows what the command line changes of tenants and keys, and what becomes of the clock.
//! It reads what has changed, makes the next snapshot of it and frees the one before; on a thread of its own,
//! so that neither requests nor health checks wait for that, however much it is.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::gateway::snapshot::{Refreshed, Registry};
use crate::ledger::store::{Store, StoreError};
use crate::supervisor::{Supervised, Supervisor};

/// How often the store is asked whether something has changed, which costs one look at one number.
const REFRESH_EVERY: Duration = Duration::from_millis(250);
/// How soon a changed key or limit holds: what the documentation promises.
const PROMISE: Duration = Duration::from_secs(1);

/// While the keys can't be read, the wait grows to this: each attempt reads all of them.
const RETRY_AT_MOST: Duration = Duration::from_secs(8);

// The rest is for reading what has changed.
const _: () = assert!(REFRESH_EVERY.as_millis() * 4 <= PROMISE.as_millis());

/// The running thread; purposefully not `Clone`: whoever started it ends it.
#[derive(Debug)]
pub(crate) struct Follower {
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Follower {
    pub(crate) fn start(
        registry: Arc<Registry>,
        store: Store,
        supervisor: &Supervisor,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = sync_channel(1);
        let run = move |thread| run(&registry, store, &stopped, thread);
        let thread = supervisor.spawn("weir-registry", run)?;
        Ok(Self { stop, thread })
    }

    pub(crate) fn end(self) {
        let Self { stop, thread } = self;
        drop(stop);
        if thread.join().is_err() {
            tracing::error!("the thread that follows changed keys had failed");
        }
    }
}

fn run(registry: &Registry, mut store: Store, stopped: &Receiver<()>, thread: Supervised) {
    let mut wait = REFRESH_EVERY;
    while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
        thread.step();
        match follow(registry, &mut store) {
            Ok(refreshed) => {
                if refreshed != Refreshed::default() {
                    tracing::debug!(?refreshed, "changed keys and tenants hold");
                }
                wait = REFRESH_EVERY;
            }
            Err(error) => {
                if wait == REFRESH_EVERY {
                    tracing::error!(%error, "keys cannot be read; the known ones go on working");
                }
                wait = (wait * 2).min(RETRY_AT_MOST);
            }
        }
    }
    thread.end();
}

/// What the command line changed, and what became of the clock. A store that takes this one's place is read
/// whole.
fn follow(registry: &Registry, store: &mut Store) -> Result<Refreshed, StoreError> {
    if store.follow()? {
        registry.forget_version();
    }
    let clock = registry.follow_clock(store);
    let refreshed = registry.refresh(store)?;
    clock.map(|()| refreshed)
}
