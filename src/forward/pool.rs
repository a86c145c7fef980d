//! Idle connections of one worker to one upstream: a stack, because the connection used last is the one
//! most likely to be alive. A connection is out on a [`Lease`], which gives it back or closes it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::client::conn::http1::SendRequest;
use tokio::task::AbortHandle;

use crate::forward::body::Frames;
use crate::telemetry::metrics::{Held, Level, Shard};

/// A connection: the handle to send on, and the task that drives it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) sender: SendRequest<Frames>,
    pub(crate) task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Whatever state the exchange is in, this closes the socket: the upstream learns at once that
        // nobody listens any more.
        self.task.abort();
    }
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
    _counted: Held,
}

/// A connection in use by one exchange.
#[derive(Debug)]
pub(crate) struct Lease {
    connection: Option<Connection>,
    pool: Rc<Pool>,
}

impl Pool {
    pub(crate) fn new(max_age: Duration, max_idle: usize, shard: Arc<Shard>) -> Self {
        Self { idle: RefCell::default(), max_age, max_idle, shard }
    }

    /// The connection used last that is still open and ready.
    pub(crate) fn take(self: &Rc<Self>) -> Option<Lease> {
        let mut idle = self.idle.borrow_mut();
        // A connection just given back may not have read its last byte yet; it is left for the next
        // request rather than waited for.
        let at = idle.iter().rposition(|idle| {
            idle.since.elapsed() < self.max_age && idle.connection.sender.is_ready()
        })?;
        let Idle { connection, .. } = idle.remove(at);
        Some(Lease { connection: Some(connection), pool: self.clone() })
    }

    pub(crate) fn sweep(&self) {
        let max_age = self.max_age;
        self.idle
            .borrow_mut()
            .retain(|idle| idle.since.elapsed() < max_age && !idle.connection.sender.is_closed());
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

    pub(super) fn sender(&mut self) -> &mut SendRequest<Frames> {
        &mut self.connection.as_mut().expect("a lease has its connection until it ends").sender
    }

    /// The response was read to its end: the connection can serve another request.
    pub(crate) fn give_back(mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.give_back(connection);
        }
    }
}
