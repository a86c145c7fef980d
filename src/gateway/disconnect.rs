//! What becomes of a request whose client leaves before its end. What the upstream does for it costs all
//! the same, so it is read on for its usage: a stream if the policy says so, or if its usage is all that
//! is missing; any other answer from the moment on at which it was sent. All of that is bounded, in time
//! and in number, and what is read on keeps its place and its reservation.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::{OnDisconnect, Unstated};
use crate::forward::{Drains, Upstream};
use crate::gateway::Worker;

/// How long the usage may take that follows the last word of an answer. It is ready by then, and nothing
/// more is generated.
const LAST_WORD: Duration = Duration::from_secs(2);

/// When a request has to be over whose client has left; nothing while it is there.
pub(crate) type LeftUntil = Rc<Cell<Option<Instant>>>;

/// How an upstream's answers are read on.
#[derive(Clone, Debug)]
pub(crate) struct ReadOn {
    time: Duration,
    max: usize,
    drains: Rc<Drains>,
    tenant: Arc<str>,
    /// To the end, and not only for a usage that is all that is missing.
    pub(crate) is_whole: bool,
}

impl ReadOn {
    /// An answer that is no stream says nothing before its end, and few upstreams stop for a client that
    /// has left: closing the connection saves nothing, unless this one is known to stop.
    pub(crate) fn of(upstream: &Upstream, is_stream: bool, tenant: Arc<str>) -> Self {
        let config = &upstream.config;
        let is_drained = config.on_disconnect == OnDisconnect::Drain;
        Self {
            time: Duration::from_millis(config.drain_ms),
            max: config.drain_max,
            drains: upstream.drains.clone(),
            tenant,
            is_whole: is_drained || (!is_stream && config.unstated == Unstated::Reserved),
        }
    }

    /// A place among those that are read on, if there is one, and until when.
    pub(crate) fn begin(&self, worker: &Rc<Worker>) -> Option<(Running, Instant)> {
        if !self.drains.begin(&self.tenant, self.max) {
            return None;
        }
        let time = if self.is_whole { self.time } else { self.time.min(LAST_WORD) };
        let (drains, tenant) = (self.drains.clone(), self.tenant.clone());
        Some((Running { drains, tenant, worker: worker.clone() }, Instant::now() + time))
    }
}

/// A drain that runs, counted for as long as this lives.
#[derive(Debug)]
pub(crate) struct Running {
    drains: Rc<Drains>,
    tenant: Arc<str>,
    worker: Rc<Worker>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.drains.end(&self.tenant);
        self.worker.drain_ended();
    }
}

/// An exchange with the upstream that goes on by itself if its client leaves. `left` is where the
/// request looks for that.
#[derive(Debug)]
pub(crate) struct DisconnectGuard<F: Future + 'static> {
    /// Gone once it has ended.
    exchange: Option<Pin<Box<F>>>,
    worker: Rc<Worker>,
    drain: ReadOn,
    left: LeftUntil,
}

impl<F: Future + 'static> DisconnectGuard<F> {
    pub(crate) fn new(
        worker: &Rc<Worker>,
        drain: ReadOn,
        left: LeftUntil,
        exchange: Pin<Box<F>>,
    ) -> Self {
        Self { exchange: Some(exchange), worker: worker.clone(), drain, left }
    }
}

impl<F: Future + 'static> Future for DisconnectGuard<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // What panics is dropped on the way out, and not polled again.
        let Some(mut exchange) = self.exchange.take() else { return Poll::Pending };
        let polled = exchange.as_mut().poll(cx);
        if polled.is_pending() {
            self.exchange = Some(exchange);
        }
        polled
    }
}

impl<F: Future + 'static> Drop for DisconnectGuard<F> {
    fn drop(&mut self) {
        let Some(exchange) = self.exchange.take() else { return };
        if self.worker.is_cut() {
            return;
        }
        let Some((running, until)) = self.drain.begin(&self.worker) else { return };
        self.left.set(Some(until));
        tokio::task::spawn_local(async move {
            let answer = tokio::time::timeout_at(until, exchange).await;
            // An answer whose body has not ended takes this place, when it is dropped.
            drop(running);
            drop(answer);
        });
    }
}
