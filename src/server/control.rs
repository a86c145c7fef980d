//! The control plane: the administration listener, and what quotas have to tell. Nothing here takes long,
//! however many keys there are: health and metrics are answered by the same thread.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::admin::{self, Quotas, Readiness, Shown};
use crate::admit::{Alerting, Waiting};
use crate::clock::Clock;
use crate::identify::FailedKeys;
use crate::registry::Registry;
use crate::server::Stage;
use crate::supervisor::Supervised;
use crate::telemetry::log_throttle::LogThrottle;
use crate::telemetry::metrics::Metrics;

/// How often quotas are asked what they have to tell.
const TELL_EVERY: Duration = Duration::from_millis(250);
/// How often addresses are forgotten that have not failed for a while.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub(crate) struct Control {
    pub(crate) alerting: Arc<Alerting>,
    pub(crate) failed_keys: Arc<FailedKeys>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) clock: Clock,
    pub(crate) quotas: Arc<Quotas>,
    /// Names by which the administration listener may be called.
    pub(crate) admin_hosts: Arc<[String]>,
}

impl Control {
    /// From here on quotas are told to who may ask for them.
    pub(crate) fn knows_quotas(&self, registry: Arc<Registry>) {
        self.quotas.answered_by(move |wanted| registry.quotas(wanted));
    }

    /// Runs until the server has ended its requests, or has failed to start: health and metrics are answered
    /// while it starts and while it drains.
    pub(crate) async fn run(
        self,
        admin: TcpListener,
        stage: watch::Receiver<Stage>,
        thread: Supervised,
    ) {
        let mut cut = stage.clone();
        let cut = async move {
            let _ = cut.wait_for(|stage| *stage == Stage::Cut).await;
        };
        let shown = Shown {
            metrics: self.metrics.clone(),
            readiness: self.readiness.clone(),
            quotas: self.quotas.clone(),
            hosts: self.admin_hosts.clone(),
        };
        let failed = LogThrottle::new(self.clock.clone());
        let served = async {
            let listener = tokio::net::TcpListener::from_std(admin)?;
            admin::serve(listener, shown, failed, cut).await
        };
        let ended = tokio::select! {
            () = self.tick(&thread) => Ok(()),
            ended = served => ended,
        };
        self.tell_of_quotas();
        match ended {
            Ok(()) => thread.end(),
            Err(error) => tracing::error!(%error, "the administration listener has failed"),
        }
    }

    async fn tick(&self, thread: &Supervised) {
        let mut tell = tokio::time::interval(TELL_EVERY);
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        loop {
            tokio::select! {
                _ = tell.tick() => {
                    thread.step();
                    self.tell_of_quotas();
                }
                _ = sweep.tick() => self.failed_keys.sweep(),
            }
        }
    }

    /// Quotas of which a threshold was crossed: a line in the log and a count for each; and how many are
    /// above one now.
    fn tell_of_quotas(&self) {
        let Waiting { alerts, dropped } = self.alerting.take();
        for alert in alerts {
            let limit = alert.limit.name();
            self.metrics.shared.quota_alert(limit);
            tracing::warn!(
                tenant = %alert.tenant,
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
        if dropped > 0 {
            tracing::warn!(dropped, "more quotas have crossed a threshold than could be told of");
        }
        let over = self.alerting.over(self.clock.now().unix_ms);
        self.metrics.shared.quotas_over(over.map(|(limit, count)| (limit.name(), count)));
    }
}

fn time(unix_ms: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(unix_ms).unwrap_or(jiff::Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::Supervisor;

    /// Health is answered before the start has come to its end. A start that fails has one error to tell, and
    /// no thread that is missed.
    #[tokio::test]
    async fn a_start_that_fails_ends_the_control_plane_without_a_word() {
        let clock = Clock::manual(0).0;
        let control = Control {
            admin_hosts: Arc::default(),
            alerting: Arc::default(),
            failed_keys: Arc::new(FailedKeys::new(1)),
            metrics: Arc::new(Metrics::new(1, Vec::new(), clock.clone())),
            readiness: Arc::default(),
            quotas: Arc::new(Quotas::new(None)),
            clock,
        };
        let admin = TcpListener::bind("127.0.0.1:0").expect("any port");
        admin.set_nonblocking(true).expect("a socket of ours");
        let (stage, staged) = watch::channel(Stage::Serving);
        let supervisor = Supervisor::default();
        let run = |thread| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(control.run(admin, staged, thread));
        };
        let thread = supervisor.spawn("weir-control", run).expect("a thread");
        drop(stage);
        tokio::task::spawn_blocking(|| thread.join().expect("no panic")).await.expect("no panic");
        tokio::select! {
            biased;
            thread = supervisor.failed() => panic!("{thread} is missed"),
            () = std::future::ready(()) => {}
        }
    }
}
