//! A worker's thread: one single-threaded runtime that serves the connections it is given until they
//! have all ended, and closes its journal last.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};
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
use crate::server::accept::Accepted;
use crate::server::io::{ClientIo, IoSettings};
use crate::supervisor::Supervised;
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
    io: IoSettings,
}

impl Settings {
    pub(crate) fn new(config: &Config) -> Self {
        let Server { max_headers, max_head_bytes, half_close, .. } = config.server;
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(Duration::from_millis(config.deadlines.request_head_ms))
            .max_buf_size(max_head_bytes);
        if max_headers != HYPER_MAX_HEADERS {
            // hyper then keeps its places for header fields on the heap, which costs every request.
            http.max_headers(max_headers);
        }
        let io = IoSettings {
            write_deadline: Duration::from_millis(config.deadlines.write_progress_ms),
            linger_bytes: config.server.max_body_bytes,
            half_close,
        };
        Self { http, io }
    }
}

/// Runs a worker to its end.
pub(crate) fn run(
    runtime: &LocalRuntime,
    worker: Worker,
    settings: &Settings,
    arrivals: Receiver<Accepted>,
    stage: watch::Receiver<Stage>,
    thread: Supervised,
) {
    let worker = Rc::new(worker);
    runtime.block_on(serve(worker, settings, arrivals, stage, &thread));
}

async fn serve(
    worker: Rc<Worker>,
    settings: &Settings,
    mut arrivals: Receiver<Accepted>,
    mut stage: watch::Receiver<Stage>,
    thread: &Supervised,
) {
    let connections = Rc::new(Connections::default());
    let committing = worker.clone();
    tokio::task::spawn_local(async move { committing.commits().await });
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            accepted = arrivals.recv() => {
                let Some(accepted) = accepted else { break };
                let task = connection(worker.clone(), settings.clone(), accepted, connections.enter());
                tokio::task::spawn_local(async move {
                    // A connection's own errors are its client's: it went away or spoke no HTTP.
                    let _ = task.await;
                });
            }
            _ = sweep.tick() => {
                thread.step();
                worker.sweep();
            }
        }
    }
    // Nothing more arrives because the server stops.
    connections.tell();
    let all_ended = async {
        connections.all_ended().await;
        worker.drained().await;
    };
    tokio::select! {
        () = all_ended => return,
        _ = stage.wait_for(|stage| *stage == Stage::Cut) => {}
    }
    worker.cut();
    connections.tell();
    let _ = tokio::time::timeout(LAST_WORDS, connections.all_ended()).await;
}

/// Serves one connection until it ends, or until the server is told to stop and it is idle.
async fn connection(
    worker: Rc<Worker>,
    settings: Settings,
    accepted: Accepted,
    open: Open,
) -> io::Result<()> {
    let Accepted { stream, address, surplus, place } = accepted;
    let _held = worker.shard.hold(Level::Client);
    let client = Rc::new(Client::new(address.ip(), surplus));
    let stream = TcpStream::from_std(stream)?;
    let io = ClientIo::new(stream, client.clone(), &settings.io);
    let service = service_fn(|request| gateway::handle(worker.clone(), client.clone(), request));
    let turn = &client.turn;
    let mut connection = pin!(settings.http.serve_connection(io, service));
    let mut is_told = false;
    let ended = poll_fn(|cx| {
        if (open.is_told(cx) || client.is_half_closed.get()) && !is_told {
            connection.as_mut().graceful_shutdown();
            is_told = true;
        }
        turn.take(cx, |cx| connection.as_mut().poll(cx))
    });
    let ended = ended.await;
    drop(place);
    ended.map_err(io::Error::other)
}

/// The connections of a worker: how to wake them, and word of when there are none.
#[derive(Debug, Default)]
struct Connections {
    /// By number; the task of one that has not been polled is not known yet.
    open: RefCell<BTreeMap<u64, Option<Waker>>>,
    last: Cell<u64>,
    none: Notify,
    is_told: Cell<bool>,
}

/// One of them, known until it is dropped.
#[derive(Debug)]
struct Open {
    number: u64,
    is_known: Cell<bool>,
    connections: Rc<Connections>,
}

impl Connections {
    fn enter(self: &Rc<Self>) -> Open {
        let number = self.last.get() + 1;
        self.last.set(number);
        self.open.borrow_mut().insert(number, None);
        Open { number, is_known: Cell::new(false), connections: self.clone() }
    }

    /// Has every connection look at what the server wants of it.
    fn tell(&self) {
        self.is_told.set(true);
        self.open.borrow().values().flatten().for_each(Waker::wake_by_ref);
    }

    async fn all_ended(&self) {
        while !self.open.borrow().is_empty() {
            self.none.notified().await;
        }
    }
}

impl Open {
    /// Whether the server stops. A task has one waker for all its life, so it is taken down once.
    fn is_told(&self, cx: &Context<'_>) -> bool {
        if !self.is_known.replace(true) {
            self.connections.open.borrow_mut().insert(self.number, Some(cx.waker().clone()));
        }
        self.connections.is_told.get()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut open = self.connections.open.borrow_mut();
        open.remove(&self.number);
        if open.is_empty() {
            self.connections.none.notify_one();
        }
    }
}
