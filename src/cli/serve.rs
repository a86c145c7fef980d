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
        let ended = end_of(&server, &mut signals).await;
        tracing::info!("stopping: running requests may end; a second signal ends them now");
        server.shutdown(signals.next()).await;
        tracing::info!("stopped");
        ended
    })
}

/// Ready when the server is to stop: by a signal, or because a part of it has failed, which is an error.
pub(crate) async fn end_of(server: &Server, signals: &mut Signals) -> anyhow::Result<()> {
    tokio::select! {
        () = signals.next() => Ok(()),
        thread = server.failed() => anyhow::bail!(
            "the thread {thread} has failed, by a bug, and the server ended with it; start it again: what \
             was recorded is not lost. Please report what stands before this"
        ),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_that_fails_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [data]\ndir = {:?}\n[[upstream]]\nname = \"up\"\nbase_url = \"http://127.0.0.1:9\"\n\
             models = [\"m\"]\n",
            dir.path()
        );
        let config = Config::from_toml(&text, Secrets::Optional).unwrap();
        let server = Server::start(&config, Environment::default()).unwrap();
        let mut signals = Signals::new().unwrap();
        server.pretend_bug_in("weir-drain");
        let error = end_of(&server, &mut signals).await.unwrap_err().to_string();
        assert!(error.contains("weir-drain"), "{error}");
        server.shutdown(std::future::ready(())).await;
    }
}
