//! What a request knows of the connection that it came in on. The connection's reading and writing half
//! (in `server`) writes these cells, the response body reads them; both live on one thread.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::task::{Context, Poll, Waker};

use crate::wakeups::Wakeups;

/// Of what there are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Surplus {
    Connections,
    /// From its address.
    OfAddress,
}

/// How far the request has come that a connection is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// There is none, or its answer has begun.
    Idle,
    /// Its body may still be on its way.
    Receiving,
    /// All of it is here, and nothing of its answer has been written.
    Waiting,
}

/// One client connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    /// It is one too many, and is only told so.
    pub(crate) surplus: Option<Surplus>,
    /// The client read nothing until the write deadline.
    pub(crate) is_stalled: Cell<bool>,
    /// The answer is whole where the connection ends (HTTP/1.0): one that is cut must not end as others do.
    pub(crate) ends_by_close: Cell<bool>,
    pub(crate) phase: Cell<Phase>,
    /// The client has closed its sending side and waits for its answer, the last on this connection.
    pub(crate) is_half_closed: Cell<bool>,
    /// The client may still be sending what nobody reads: closing at once would take the answer from it.
    pub(crate) lingers: Cell<bool>,
    /// Taken by the connection's task around all that it does.
    pub(crate) turn: Wakeups,
    is_flushed: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Client {
    pub(crate) fn new(address: IpAddr, surplus: Option<Surplus>) -> Self {
        Self {
            address,
            surplus,
            is_stalled: Cell::new(false),
            ends_by_close: Cell::new(false),
            phase: Cell::new(Phase::Idle),
            is_half_closed: Cell::new(false),
            lingers: Cell::new(false),
            turn: Wakeups::new(),
            is_flushed: Cell::new(false),
            waiting: RefCell::new(None),
        }
    }

    /// All of its request is here.
    pub(crate) fn has_asked(&self) {
        // hyper has told itself that more of the body may come, and there is no more.
        self.turn.catch_up();
        self.phase.set(Phase::Waiting);
    }

    /// From now on, [`Client::poll_flushed`] waits for everything yielded so far.
    pub(crate) fn expect_flush(&self) {
        self.is_flushed.set(false);
    }

    /// Ready once everything has been handed to the operating system.
    pub(crate) fn poll_flushed(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_flushed.get() {
            return Poll::Ready(());
        }
        *self.waiting.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Told by the connection whenever nothing is left to write.
    pub(crate) fn flushed(&self) {
        self.is_flushed.set(true);
        if let Some(waker) = self.waiting.borrow_mut().take() {
            waker.wake();
        }
    }
}
