//! Idle connections of one worker to one upstream: a stack, because the connection used last is the one
//! most likely to be alive. A connection is out on a [`Lease`], which gives it back or closes it.
//!
//! No task of its own drives a connection: whoever waits for something on it lets it read and write
//! ([`Lease::drive`]). So a response crosses no task on its way, and an upstream whose reader waits is
//! not read.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use hyper::client::conn::http1::SendRequest;

use crate::forward::body::Frames;
use crate::forward::interim_responses::Interims;
use crate::forward::peeked_body::PeekedBody;
use crate::telemetry::metrics::{Level, LevelGuard, Shard};
use crate::wakeups::Wakeups;

const HAS_CONNECTION: &str = "a lease has its connection until it ends";

/// Reads and writes for as long as the connection lives.
pub(crate) type Driver = Pin<Box<dyn Future<Output = ()>>>;

/// A connection: the handle to send on, and what drives it. Dropping it closes the socket, in whatever
/// state the exchange is: the upstream learns at once that nobody listens any more.
pub(crate) struct Connection {
    sender: SendRequest<Frames>,
    /// Gone once the connection has ended.
    driver: Option<Driver>,
    turn: Rc<Wakeups>,
    interims: Interims,
    _counted: LevelGuard,
}

#[derive(Debug)]
pub(crate) struct Pool {
    idle: RefCell<Vec<Idle>>,
    max_age: Duration,
    max_idle: usize,
    shard: Arc<Shard>,
}

/// A connection that waits.
#[derive(Debug)]
struct Idle {
    since: Instant,
    connection: Connection,
    _counted: LevelGuard,
}

/// A connection in use by one exchange.
#[derive(Debug)]
pub(crate) struct Lease {
    connection: Option<Connection>,
    pool: Rc<Pool>,
}

impl Connection {
    pub(super) fn new(
        sender: SendRequest<Frames>,
        driver: Driver,
        interims: Interims,
        counted: LevelGuard,
    ) -> Self {
        let turn = Rc::new(Wakeups::new());
        Self { sender, driver: Some(driver), turn, interims, _counted: counted }
    }

    /// Lets the connection read and write what it can now, as a part of its [`Wakeups`].
    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && driver.as_mut().poll(cx).is_ready()
        {
            // Its errors reach whoever waits for the response; an idle connection's matter to nobody.
            self.driver = None;
        }
    }

    /// Whether a request can be sent now: it is open, and at rest.
    fn is_ready(&mut self, cx: &Context<'_>) -> bool {
        let turn = self.turn.clone();
        let _: Poll<()> = turn.take(cx, |cx| {
            self.drive(cx);
            Poll::Pending
        });
        self.driver.is_some() && self.sender.is_ready()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("sender", &self.sender).finish_non_exhaustive()
    }
}

impl Pool {
    pub(crate) fn new(max_age: Duration, max_idle: usize, shard: Arc<Shard>) -> Self {
        Self { idle: RefCell::default(), max_age, max_idle, shard }
    }

    /// The connection used last that is still open; those that are not are closed on the way.
    pub(crate) fn take(self: &Rc<Self>, cx: &Context<'_>, now: Instant) -> Option<Lease> {
        loop {
            let Idle { since, mut connection, .. } = self.idle.borrow_mut().pop()?;
            if now.saturating_duration_since(since) < self.max_age && connection.is_ready(cx) {
                return Some(Lease { connection: Some(connection), pool: self.clone() });
            }
        }
    }

    /// Closes what is too old, or was closed by the upstream while nobody looked.
    pub(crate) fn sweep(&self) {
        // Nobody waits for an idle connection, so there is nobody to wake.
        let nobody = Context::from_waker(Waker::noop());
        let max_age = self.max_age;
        self.idle
            .borrow_mut()
            .retain_mut(|idle| idle.since.elapsed() < max_age && idle.connection.is_ready(&nobody));
    }

    fn give_back(&self, connection: Connection) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.max_idle && !connection.sender.is_closed() {
            let _counted = self.shard.hold(Level::UpstreamIdle);
            idle.push(Idle { since: Instant::now(), connection, _counted });
        }
    }
}

impl Lease {
    pub(crate) fn new(connection: Connection, pool: Rc<Pool>) -> Self {
        Self { connection: Some(connection), pool }
    }

    fn connection(&self) -> &Connection {
        self.connection.as_ref().expect(HAS_CONNECTION)
    }

    pub(super) fn sender(&mut self) -> &mut SendRequest<Frames> {
        &mut self.connection.as_mut().expect(HAS_CONNECTION).sender
    }

    pub(super) fn interims(&self) -> &Interims {
        &self.connection().interims
    }

    /// To be taken by whoever waits for something on this connection, around all that it polls of it.
    pub(crate) fn turn(&self) -> Rc<Wakeups> {
        self.connection().turn.clone()
    }

    /// Lets the connection read and write, within a turn.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection {
            connection.drive(cx);
        }
    }

    /// The next piece of a body on this connection: what has been read already, else what the connection
    /// can read now.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut PeekedBody,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let turn = self.turn();
        turn.take(cx, |cx| {
            let read = Pin::new(&mut *body).poll_frame(cx);
            if read.is_ready() {
                return read;
            }
            turn.catch_up();
            self.drive(cx);
            Pin::new(&mut *body).poll_frame(cx)
        })
    }

    /// The response was read to its end: the connection can serve another request.
    pub(crate) fn give_back(mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.give_back(connection);
        }
    }
}
