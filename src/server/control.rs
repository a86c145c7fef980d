//! The control plane: the administration listener, what the CLI changed in the store, and the numbers of
//! the drain.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::admin::{self, Readiness};
use crate::gateway::snapshot::Registry;
use crate::identify::FailedKeys;
use crate::ledger::store::{Store, StoreError};
use crate::server::Stage;
use crate::supervisor::Supervised;
use crate::telemetry::metrics::Metrics;

/// How soon a changed key or limit holds; the promise is a second.
const REFRESH_EVERY: Duration = Duration::from_millis(250);
/// How often quotas over a threshold are counted.
const COUNT_EVERY: Duration = Duration::from_secs(5);
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
    pub(crate) async fn run(
        mut self,
        admin: TcpListener,
        stage: watch::Receiver<Stage>,
        thread: Supervised,
    ) {
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
            () = self.follow(&thread) => {}
            ended = served => if let Err(error) = ended {
                tracing::error!(%error, "the administration listener has failed");
            }
        }
        self.tell_alerts();
    }

    async fn follow(&mut self, thread: &Supervised) {
        let mut refresh = tokio::time::interval(REFRESH_EVERY);
        let mut count = tokio::time::interval(COUNT_EVERY);
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        let mut is_failing = false;
        loop {
            tokio::select! {
                _ = refresh.tick() => {
                    thread.step();
                    match self.follow_changes() {
                        Ok(()) => is_failing = false,
                        Err(error) if !is_failing => {
                            is_failing = true;
                            tracing::error!(%error, "keys cannot be read; the known ones go on working");
                        }
                        Err(_) => {}
                    }
                    self.tell_alerts();
                }
                _ = count.tick() => {
                    let over = self.registry.quotas_over();
                    self.metrics.shared.quotas_over(over.iter().map(|limit| limit.name()));
                }
                _ = sweep.tick() => self.failed_keys.sweep(),
            }
        }
    }

    /// What the CLI changed, and what became of the clock. A store that takes this one's place is read
    /// whole.
    fn follow_changes(&mut self) -> Result<(), StoreError> {
        if self.store.follow()? {
            self.registry.forget_version();
        }
        let clock = self.registry.follow_clock(&self.store);
        self.registry.refresh(&self.store)?;
        clock
    }

    /// Quotas of which a threshold was crossed: a line in the log and a count for each.
    fn tell_alerts(&self) {
        for (tenant, alert) in self.registry.take_alerts() {
            let limit = alert.limit.name();
            self.metrics.shared.quota_alert(limit);
            tracing::warn!(
                %tenant,
                key_id = alert.key_id.as_deref(),
                limit,
                percent = alert.percent,
                used = %alert.limit.amount(alert.used),
                quota = %alert.limit.amount(alert.quota),
                window_start = %time(alert.window.start_ms),
                window_end = %time(alert.window.end_ms),
                "a quota has crossed a threshold"
            );
        }
    }
}

fn time(unix_ms: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(unix_ms).unwrap_or(jiff::Timestamp::MAX)
}
