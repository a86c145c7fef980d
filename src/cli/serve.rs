//! `weir serve`: the gateway, until a signal ends it.

use std::path::Path;

use crate::config::{Config, Secrets};
use crate::server::{Environment, Server};
use crate::telemetry::log;

/// Run the gateway
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_: Args, file: Option<&Path>) -> anyhow::Result<()> {
    let config = Config::load(file, Secrets::Required)?;
    log::init(&config.log)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        let server = Server::start(&config, Environment::default())?;
        tracing::info!(
            listen = %server.address(),
            admin = %server.admin_address(),
            workers = config.server.workers,
            "ready"
        );
        signals.next().await;
        tracing::info!("stopping: running requests may end; a second signal ends them now");
        server.shutdown(signals.next()).await;
        tracing::info!("stopped");
        anyhow::Ok(())
    })
}

/// SIGTERM and Ctrl-C.
pub(crate) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// From here on the signals no longer kill the process.
    pub(crate) fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next one of either.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
