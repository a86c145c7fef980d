//! A worker's thread: one single-threaded runtime that serves the connections it is given until they
//! have all ended, and closes its journal last.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpStream;
use tokio::runtime::LocalRuntime;
use tokio::sync::mpsc::Receiver;
use tokio::sync::{Notify, watch};

use crate::config::{Config, Server};
use crate::gateway::client::Client;
use crate::gateway::{self, Worker};
use crate::server::Stage;
use crate::server::accept::Arrival;
use crate::server::io::ClientIo;
use crate::telemetry::metrics::Level;

/// How often old connections and late records are looked after.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// hyper's own limit.
const HYPER_MAX_HEADERS: usize = 100;
/// After the shutdown deadline, for the last records and error events to leave.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// How a worker's connections are served.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    http: http1::Builder,
    write_deadline: Duration,
}

impl Settings {
    pub(crate) fn new(config: &Config) -> Self {
        let Server { max_headers, max_head_bytes, .. } = config.server;
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(Duration::from_millis(config.deadlines.request_head_ms))
            .max_buf_size(max_head_bytes);
        if max_headers != HYPER_MAX_HEADERS {
            // hyper then keeps its places for header fields on the heap, which costs every request.
            http.max_headers(max_headers);
        }
        let write_deadline = Duration::from_millis(config.deadlines.write_progress_ms);
        Self { http, write_deadline }
    }
}

/// Runs a worker to its end.
pub(crate) fn run(
    runtime: &LocalRuntime,
    worker: Worker,
    settings: &Settings,
    arrivals: Receiver<Arrival>,
    stage: watch::Receiver<Stage>,
) {
    let worker = Rc::new(worker);
    runtime.block_on(serve(worker, settings, arrivals, stage));
}

async fn serve(
    worker: Rc<Worker>,
    settings: &Settings,
    mut arrivals: Receiver<Arrival>,
    mut stage: watch::Receiver<Stage>,
) {
    let connections = Rc::new(Connections::default());
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            arrival = arrivals.recv() => {
                let Some(arrival) = arrival else { break };
                let open = connections.enter();
                let task = connection(worker.clone(), settings.clone(), arrival, stage.clone());
                tokio::task::spawn_local(async move {
                    // A connection's own errors are its client's: it went away or spoke no HTTP.
                    let _ = task.await;
                    drop(open);
                });
            }
            _ = sweep.tick() => worker.sweep(),
        }
    }
    tokio::select! {
        () = connections.all_ended() => return,
        _ = stage.wait_for(|stage| *stage == Stage::Cut) => {}
    }
    worker.cut();
    let _ = tokio::time::timeout(LAST_WORDS, connections.all_ended()).await;
}

/// Serves one connection until it ends, or until the server is told to stop and it is idle.
async fn connection(
    worker: Rc<Worker>,
    settings: Settings,
    arrival: Arrival,
    mut stage: watch::Receiver<Stage>,
) -> io::Result<()> {
    let Arrival { stream, address, is_surplus, place } = arrival;
    let _held = worker.shard.hold(Level::Client);
    let client = Rc::new(Client::new(address.ip(), is_surplus));
    let stream = TcpStream::from_std(stream)?;
    let io = ClientIo::new(stream, client.clone(), settings.write_deadline);
    let service = service_fn(|request| gateway::handle(worker.clone(), client.clone(), request));
    let mut connection = pin!(settings.http.serve_connection(io, service));
    let mut is_told = false;
    loop {
        let Some(ended) = until_told(connection.as_mut(), &mut stage).await else {
            // At the deadline the connection is polled once more, so that its body sees the cut.
            if *stage.borrow_and_update() == Stage::Cut {
                worker.cut();
            }
            if !is_told {
                connection.as_mut().graceful_shutdown();
                is_told = true;
            }
            continue;
        };
        drop(place);
        return ended.map_err(io::Error::other);
    }
}

/// Drives a connection to its end, or until the server enters another stage (`None`).
async fn until_told<C: Future>(
    mut connection: Pin<&mut C>,
    stage: &mut watch::Receiver<Stage>,
) -> Option<C::Output> {
    let mut told = stage.clone();
    let mut change = pin!(told.changed());
    let (mut is_listening, mut is_over) = (false, false);
    poll_fn(|cx| {
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(Some(ended));
        }
        // Once it has been polled it wakes this task, however often the connection does: a look is enough.
        if is_over || (is_listening && matches!(stage.has_changed(), Ok(false))) {
            return Poll::Pending;
        }
        is_listening = true;
        match change.as_mut().poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(None),
            Poll::Ready(Err(_)) => {
                // The server is gone, and with it whoever could tell anything.
                is_over = true;
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// How many connections a worker has, and word of when it has none.
#[derive(Debug, Default)]
struct Connections {
    open: Cell<usize>,
    none: Notify,
}

/// One of them, counted until it is dropped.
#[derive(Debug)]
struct Open(Rc<Connections>);

impl Connections {
    fn enter(self: &Rc<Self>) -> Open {
        self.open.set(self.open.get() + 1);
        Open(self.clone())
    }

    async fn all_ended(&self) {
        while self.open.get() > 0 {
            self.none.notified().await;
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        if self.0.open.get() == 0 {
            self.0.none.notify_one();
        }
    }
}
