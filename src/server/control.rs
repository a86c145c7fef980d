//! The control plane: the administration listener, what the CLI changed in the store, and the numbers of
//! the drain.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::admin::{self, Readiness};
use crate::gateway::snapshot::Registry;
use crate::identify::FailedKeys;
use crate::ledger::store::Store;
use crate::server::Stage;
use crate::telemetry::metrics::Metrics;

/// How soon a changed key or limit holds; the promise is a second.
const REFRESH_EVERY: Duration = Duration::from_millis(250);
/// How often addresses are forgotten that have not failed for a while.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

pub(crate) struct Control {
    pub(crate) registry: Arc<Registry>,
    pub(crate) failed_keys: Arc<FailedKeys>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) store: Store,
}

impl Control {
    /// Runs until the server has ended its requests: health and metrics are answered while it drains.
    pub(crate) async fn run(self, admin: TcpListener, stage: watch::Receiver<Stage>) {
        let mut cut = stage.clone();
        let cut = async move {
            let _ = cut.wait_for(|stage| *stage == Stage::Cut).await;
        };
        let (metrics, readiness) = (self.metrics.clone(), self.readiness.clone());
        let served = async {
            let listener = tokio::net::TcpListener::from_std(admin)?;
            admin::serve(listener, metrics, readiness, cut).await
        };
        tokio::select! {
            () = self.follow() => {}
            ended = served => if let Err(error) = ended {
                tracing::error!(%error, "the administration listener has failed");
            }
        }
    }

    async fn follow(&self) {
        let mut refresh = tokio::time::interval(REFRESH_EVERY);
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        let mut is_failing = false;
        loop {
            tokio::select! {
                _ = refresh.tick() => {
                    match self.registry.refresh(&self.store) {
                        Ok(_) => is_failing = false,
                        Err(error) if !is_failing => {
                            is_failing = true;
                            tracing::error!(%error, "keys cannot be read; the known ones go on working");
                        }
                        Err(_) => {}
                    }
                }
                _ = sweep.tick() => self.failed_keys.sweep(),
            }
        }
    }
}
