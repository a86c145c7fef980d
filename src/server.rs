//! A running gateway: the ledger, the workers that serve requests, the thread that accepts connections,
//! and the control plane, which has threads of its own and is never on a request's path.
//!
//! What is started here is ended here, in reverse: no more connections, running requests until a deadline,
//! then the workers, and the ledger last.

mod accept;
mod control;
mod registry_refresh;
mod half_close;
mod io;
mod per_address;
mod serve;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{LocalOptions, LocalRuntime};
use tokio::sync::{mpsc, watch};

use crate::admin::{Quotas, Readiness};
use crate::clock::Clock;
use crate::config::Config;
use crate::forward::{LogThrottles, Resolve, UnusableUpstream, UsageOptions, system_resolver};
use crate::gateway::{Bounds, Cors, Deadlines, InFlightLimits, Owners, Shared, Worker};
use crate::identify::FailedKeys;
use crate::inspect::RefusableFields;
use crate::ledger::{Ledger, LedgerError, ROW_WAIT};
use crate::registry::Registry;
use crate::route::{RetryBudget, Routes};
use crate::server::accept::{ConnectionLimits, WorkerQueue};
use crate::server::registry_refresh::RegistryRefresher;
use crate::store::StoreError;
use crate::supervisor::{Supervised, Supervisor};
use crate::telemetry::metrics::Metrics;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}: {source}; is another server running there?")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Upstream(#[from] UnusableUpstream),
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Serving,
    /// No new connections; running requests go on.
    Draining,
    /// The deadline: what still runs is ended and accounted for.
    Cut,
}

/// A running server; purposefully not `Clone`: whoever started it ends it.
pub struct Server {
    address: SocketAddr,
    admin_address: SocketAddr,
    shutdown_after: Duration,
    stage: watch::Sender<Stage>,
    readiness: Arc<Readiness>,
    registry: Arc<Registry>,
    clock: Clock,
    acceptor: JoinHandle<()>,
    workers: Vec<JoinHandle<()>>,
    control: JoinHandle<()>,
    follower: RegistryRefresher,
    ledger: Ledger,
    supervisor: Supervisor,
    /// Connections that each worker has.
    connections: Vec<Arc<AtomicUsize>>,
}

/// What a test may put in the place of the machine.
#[derive(Clone)]
pub struct Environment {
    pub clock: Clock,
    pub resolve: Resolve,
    /// How long rows wait for others to be stored with, where there are few.
    pub row_wait: Duration,
}

impl Default for Environment {
    fn default() -> Self {
        Self { clock: Clock::system(), resolve: system_resolver(), row_wait: ROW_WAIT }
    }
}

impl Server {
    /// Starts everything and returns once requests are served. Health is answered before that: there may be
    /// a long journal to replay, and many keys to read.
    pub fn start(config: &Config, environment: Environment) -> Result<Self, StartError> {
        let Environment { clock, resolve, row_wait } = environment;
        let routes = Arc::new(Routes::new(config));
        let metrics = Metrics::new(config.server.workers, routes.names(), clock.clone());
        let supervisor = Supervisor::default();
        let parts = control::Control {
            alerting: Arc::default(),
            failed_keys: Arc::new(FailedKeys::new(config.server.failed_keys_per_minute)),
            metrics: Arc::new(metrics),
            readiness: Arc::default(),
            clock: clock.clone(),
            quotas: Arc::new(Quotas::new(config.admin.token.as_ref())),
            admin_hosts: config.admin.hosts.clone().into(),
        };
        let control::Control { alerting, metrics, readiness, .. } = parts.clone();
        // Whoever listens to it ends when it is dropped, should the start fail.
        let (stage, staged) = watch::channel(Stage::Serving);
        let (admin, admin_address) = listen(config.admin.listen)?;
        let control = thread(&supervisor, "weir-control", {
            let (control, staged) = (parts.clone(), staged.clone());
            move |runtime, thread| runtime.block_on(control.run(admin, staged, thread))
        })?;
        let (ledger, store) = Ledger::open(
            &config.data,
            &config.prices,
            metrics.shared.clone(),
            clock.clone(),
            supervisor.clone(),
            row_wait,
        )?;
        let time = (clock.clone(), ledger.trusted_clock());
        let registry = Arc::new(Registry::load(config, &store, time, alerting)?);
        parts.knows_quotas(registry.clone());
        let owners = Arc::new(Owners::load(config.data.response_owners, &store)?);
        let shared = shared(config, routes, &registry, owners, &parts, resolve);
        let (data, address) = listen(config.server.listen)?;
        let (queues, workers) = workers(config, &shared, &ledger, &metrics, &staged, &supervisor)?;
        let connections = queues.iter().map(|queue| queue.open.clone()).collect();
        let follower =
            RegistryRefresher::start(registry.clone(), store, metrics.shared.clone(), &supervisor);
        let follower = follower.map_err(StartError::Thread)?;
        let most = ConnectionLimits {
            connections: config.server.max_connections,
            of_address: config.server.max_connections_per_address,
        };
        let accept_clock = clock.clone();
        let acceptor = thread(&supervisor, "weir-accept", move |runtime, thread| {
            runtime.block_on(accept::run(data, queues, most, accept_clock, staged, thread));
        })?;
        readiness.serving();
        let shutdown_after = Duration::from_millis(config.deadlines.shutdown_ms);
        Ok(Self {
            address,
            admin_address,
            shutdown_after,
            stage,
            readiness,
            registry,
            clock,
            acceptor,
            workers,
            control,
            follower,
            ledger,
            supervisor,
            connections,
        })
    }

    /// The data listener's address, with the port that it got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The administration listener's address.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Connections from clients, worker by worker.
    #[doc(hidden)]
    pub fn connections(&self) -> Vec<usize> {
        self.connections.iter().map(|open| open.load(Ordering::Relaxed)).collect()
    }

    /// Requests in flight, or with a body on its way, and tokens reserved, over all tenants: both are 0 when nothing runs.
    pub fn outstanding(&self) -> (u64, u64) {
        let tenants = self.registry.tenants();
        let totals = tenants.iter().map(|live| live.totals());
        totals.fold((0, 0), |(requests, tokens), one| {
            (requests + one.in_flight + one.arriving, tokens + one.reserved_tokens())
        })
    }

    /// What all tenants together have used today by the limits' own count: requests and tokens. It
    /// equals the ledger's sums.
    pub fn used_today(&self) -> (u64, u64) {
        let now = self.clock.now();
        let tenants = self.registry.tenants();
        let balances = tenants.iter().map(|live| live.tenant_balances(now).daily);
        balances
            .fold((0, 0), |(requests, tokens), one| (requests + one.requests, tokens + one.tokens))
    }

    /// Versions of the keys that were replaced and are held by somebody all the same.
    #[doc(hidden)]
    pub fn held_snapshots(&self) -> usize {
        self.registry.held()
    }

    /// Keeps the server from following changes of the keys, as one that takes for ever would, until it is
    /// dropped.
    #[doc(hidden)]
    pub fn hold_keys(&self) -> impl Sized + '_ {
        self.registry.hold()
    }

    /// Makes the journal fail as on a full disk, until told otherwise.
    #[doc(hidden)]
    pub fn pretend_disk_full(&self, is_full: bool) {
        self.ledger.pretend_disk_full(is_full);
    }

    /// Makes every sync of the journal fail, until told otherwise.
    #[doc(hidden)]
    pub fn pretend_disk_broken(&self, is_broken: bool) {
        self.ledger.pretend_disk_broken(is_broken);
    }

    /// Makes every sync of the journal hang, until told otherwise.
    #[doc(hidden)]
    pub fn pretend_disk_stuck(&self, is_stuck: bool) {
        self.ledger.pretend_disk_stuck(is_stuck);
    }

    /// Makes one of the server's threads panic at its next step.
    #[doc(hidden)]
    pub fn pretend_bug_in(&self, thread: &str) {
        self.supervisor.pretend_bug_in(thread);
    }

    /// Ready once a thread has failed that the server cannot do without, with its name. What is left of
    /// the server still serves, but it is to be ended, and the process with it.
    pub async fn failed(&self) -> String {
        self.supervisor.failed().await
    }

    /// Ends the server: running requests have until the configured deadline, or until `hurry` is ready.
    /// When this returns, every request is in the store.
    pub async fn shutdown(self, hurry: impl Future<Output = ()>) {
        let shutdown_after = self.shutdown_after;
        let Self { stage, readiness, acceptor, workers, control, follower, .. } = self;
        let Self { ledger, supervisor, .. } = self;
        supervisor.dismiss();
        readiness.shutting_down();
        stage.send_replace(Stage::Draining);
        let (ended, all_ended) = tokio::sync::oneshot::channel();
        let joining = std::thread::spawn(move || {
            for thread in std::iter::once(acceptor).chain(workers) {
                if thread.join().is_err() {
                    tracing::error!(
                        "a thread had failed; its requests are recovered at the next start"
                    );
                }
            }
            let _ = ended.send(());
        });
        tokio::select! {
            _ = all_ended => {}
            () = tokio::time::sleep(shutdown_after) => {}
            () = hurry => {}
        }
        stage.send_replace(Stage::Cut);
        // The workers have a second for their last words, then they end by themselves.
        let ended = tokio::task::spawn_blocking(move || {
            let _ = joining.join();
            let _ = control.join();
            follower.end();
            ledger.close();
        });
        let _ = ended.await;
    }
}

fn bounds(config: &Config, metrics: &Metrics) -> Bounds {
    Bounds {
        max_body_bytes: config.server.max_body_bytes,
        deadlines: Deadlines {
            idle: Duration::from_millis(config.deadlines.request_body_idle_ms),
            whole: Duration::from_millis(config.deadlines.request_body_ms),
            bytes_per_second: config.deadlines.request_body_bytes_per_second,
        },
        room: InFlightLimits {
            max_bytes: config.server.max_inflight_body_bytes,
            max_tenant_bytes: config.server.max_tenant_body_bytes,
            inflight: metrics.shared.body_bytes.clone(),
        },
        refusable: Arc::new(RefusableFields::new(
            config.upstreams.iter().map(|upstream| &*upstream.refuse_fields),
        )),
    }
}

/// An open listener, and the address that it got.
fn listen(address: SocketAddr) -> Result<(std::net::TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = accept::listen(address).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Starts the workers; each makes what it owns on its own thread.
fn workers(
    config: &Config,
    shared: &Shared,
    ledger: &Ledger,
    metrics: &Metrics,
    stage: &watch::Receiver<Stage>,
    supervisor: &Supervisor,
) -> Result<(Vec<WorkerQueue>, Vec<JoinHandle<()>>), StartError> {
    let mut queues = Vec::new();
    let mut threads = Vec::new();
    for (number, shard) in metrics.shards.iter().enumerate() {
        // Made once here, so that settings that can't be used stop the start.
        Worker::new(shared, ledger.journal(), shard.clone())?;
        let (sender, arrivals) = mpsc::channel(accept::WAITING);
        let (shared, journal, shard) = (shared.clone(), ledger.journal(), shard.clone());
        let settings = serve::Settings::new(config);
        let stage = stage.clone();
        let name = format!("weir-worker-{number}");
        threads.push(thread(supervisor, &name, move |runtime, thread| {
            match Worker::new(&shared, journal, shard) {
                Ok(worker) => {
                    serve::run(&runtime, worker, &settings, arrivals, stage, thread);
                }
                Err(error) => tracing::error!(%error, "a worker cannot start"),
            }
        })?);
        queues.push(WorkerQueue { sender, open: Arc::new(AtomicUsize::new(0)) });
    }
    Ok((queues, threads))
}

/// What all workers have.
fn shared(
    config: &Config,
    routes: Arc<Routes>,
    registry: &Arc<Registry>,
    owners: Arc<Owners>,
    parts: &control::Control,
    resolve: Resolve,
) -> Shared {
    let upstreams = config.upstreams.iter();
    Shared {
        registry: registry.clone(),
        routes,
        owners,
        failed_keys: parts.failed_keys.clone(),
        refused: parts.metrics.refused.clone(),
        readiness: parts.readiness.clone(),
        clock: parts.clock.clone(),
        bounds: bounds(config, &parts.metrics),
        cors: Arc::new(Cors::new(&config.server.cors_origins)),
        upstreams: upstreams
            .map(|upstream| {
                let models = upstream.models.iter().map(|model| model.upstream_name.as_str());
                (upstream.clone(), Arc::new(UsageOptions::new(models)))
            })
            .collect(),
        log_throttles: config
            .upstreams
            .iter()
            .map(|_| Arc::new(LogThrottles::new(&parts.clock)))
            .collect(),
        resolve,
        retry: Arc::new(config.retry.clone()),
        retry_budget: Arc::new(RetryBudget::new(config.retry.budget_percent)),
        lots: Arc::new(AtomicU64::new(parts.clock.now().unix_ms.unsigned_abs())),
    }
}

/// A thread with a single-threaded runtime of its own.
fn thread(
    supervisor: &Supervisor,
    name: &str,
    run: impl FnOnce(LocalRuntime, Supervised) + Send + 'static,
) -> Result<JoinHandle<()>, StartError> {
    let run = move |thread| {
        let built = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default());
        match built {
            Ok(runtime) => run(runtime, thread),
            Err(error) => tracing::error!(%error, "a runtime cannot be built"),
        }
    };
    supervisor.spawn(name, run).map_err(StartError::Thread)
}
