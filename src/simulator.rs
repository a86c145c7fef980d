//! An upstream that speaks both API documents whole, and OpenAI's and Anthropic's other APIs as far as a
//! gateway sees them, for the demo, the tests and the benches.
//!
//! It answers chat, streams, vision, JSON mode, function calls and pictures, in OpenAI's complete
//! objects or exactly as the documents print them ([`Mode`]), with real usage, and it counts what it
//! served ([`Counts`]), so that a ledger can be compared with it. Answers are a function of the
//! question. It is built to cost little beside the gateway that is measured in front of it: each
//! event is made when it is due, and a stream has neither a task nor a buffer of its own.
//!
//! A request can set nearly everything for itself, by headers `x-sim-…`: `controls.rs` has their table, and `docs/simulator.md`
//! shows it.

mod refusal;
mod generated_text;
mod picture;
mod schema;
mod attachment;
mod messages;
mod chat_request;
mod dialect;
mod options;
mod controls;
mod examples;
mod answer;
mod render;
mod choice_stream;
mod script;
mod form;
mod api_request;
mod event_queue;
mod api;
mod counts;
mod body;
mod models;
mod serve;
mod tls;
mod listen;
#[cfg(test)]
mod conformance;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use counts::{Counts, Served};
pub use dialect::Dialect;
pub use options::{IMAGE_MODEL, Mode, Options, StreamOptions, TEXT_MODEL, UsageForm};

/// Connections that may wait to be accepted; a bench opens thousands at once.
const BACKLOG: u32 = 4096;

/// A running simulator. Dropped, it stops by itself; [`Simulator::shutdown`] also waits for that.
#[derive(Debug)]
pub struct Simulator {
    address: SocketAddr,
    ca_pem: Option<String>,
    site: Arc<serve::Shared>,
    stop: watch::Sender<bool>,
    listener: JoinHandle<()>,
}

/// Starts a simulator on the current tokio runtime, whichever kind that is.
///
/// # Errors
/// The address can't be listened on, or a certificate can't be made.
pub async fn start(options: Options) -> io::Result<Simulator> {
    let listener = bind(options.listen)?;
    let address = listener.local_addr()?;
    let identity = options.tls.then(|| tls::identity(address.ip())).transpose()?;
    let (acceptor, ca_pem) = identity.map(|it| (it.acceptor, it.ca_pem)).unzip();
    let site = Arc::new(serve::Shared::new(options));
    let (stop, stopped) = watch::channel(false);
    let listener = tokio::spawn(listen::run(listener, site.clone(), acceptor, stopped));
    Ok(Simulator { address, ca_pem, site, stop, listener })
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A simulator that is started again takes its port back at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Simulator {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// `http://…` or `https://…`, without `/v1`.
    pub fn base_url(&self) -> String {
        let scheme = if self.ca_pem.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The authority that signed its certificate, as PEM; `None` without TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// What it has served until now.
    pub fn counts(&self) -> Counts {
        self.site.books().snapshot()
    }

    /// Every posted request that has ended, in that order; empty unless [`Options::record`] is set.
    pub fn served(&self) -> Vec<Served> {
        self.site.books().served()
    }

    /// As [`Simulator::served`], and makes room for what comes: a long run asks now and then.
    pub fn take_served(&self) -> Vec<Served> {
        self.site.books().take_served()
    }

    /// Closes the listener and all connections, whatever they are doing.
    pub async fn shutdown(self) {
        // The listener can only be gone already.
        let _ = self.stop.send(true);
        let _ = self.listener.await;
    }
}
