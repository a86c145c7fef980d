//! The thread that follows what the command line changes of tenants and keys, and what becomes of the clock.
//! It reads what has changed, makes the next snapshot of it and frees the one before; on a thread of its own,
//! so that neither requests nor health checks wait for that, however much it is.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::registry::{Refreshed, Registry};
use crate::store::{Store, StoreError};
use crate::supervisor::{Supervised, Supervisor};
use crate::telemetry::metrics::Shared;

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
pub(crate) struct RegistryRefresher {
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl RegistryRefresher {
    pub(crate) fn start(
        registry: Arc<Registry>,
        store: Store,
        metrics: Arc<Shared>,
        supervisor: &Supervisor,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = sync_channel(1);
        // It was read just now.
        metrics.keys_followed(registry.mono_ns(), registry.unreadable());
        let run = move |thread| run(&registry, store, &metrics, &stopped, thread);
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

fn run(
    registry: &Registry,
    mut store: Store,
    metrics: &Shared,
    stopped: &Receiver<()>,
    thread: Supervised,
) {
    let mut wait = REFRESH_EVERY;
    while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
        thread.step();
        let followed = follow(registry, &mut store);
        match &followed {
            Ok(refreshed) => {
                metrics.keys_followed(registry.mono_ns(), registry.unreadable());
                if *refreshed != Refreshed::default() {
                    tracing::debug!(?refreshed, "changed keys and tenants hold");
                }
            }
            Err(error) if wait == REFRESH_EVERY => {
                tracing::error!(%error, "keys cannot be read; the known ones go on working");
            }
            Err(_) => {}
        }
        wait = next_wait(wait, followed.is_ok());
    }
    thread.end();
}

/// How long until the store is asked again.
fn next_wait(last: Duration, went_well: bool) -> Duration {
    match went_well {
        true => REFRESH_EVERY,
        false => (last * 2).min(RETRY_AT_MOST),
    }
}

/// What the command line changed, and what became of the clock. A store that takes this one's place has stamps of
/// its own, by which the registry sees what it has to read.
fn follow(registry: &Registry, store: &mut Store) -> Result<Refreshed, StoreError> {
    store.follow()?;
    let clock = registry.follow_clock(store);
    let refreshed = registry.refresh(store)?;
    clock.map(|()| refreshed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_cannot_be_read_is_asked_less_and_less_often_and_then_as_before() {
        let mut wait = REFRESH_EVERY;
        let mut next_ms = |went_well| {
            wait = next_wait(wait, went_well);
            wait.as_millis()
        };
        assert_eq!([false; 7].map(&mut next_ms), [500, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000]);
        assert_eq!([true, false].map(next_ms), [250, 500]);
    }
}
