//! Response bodies: a whole answer, or a stream that makes each event when it is due. A stream has
//! no task of its own; its timer is polled by the connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::controls::{Controls, Fault, FaultKind};
use super::counts::Tally;
use super::event_queue::EventQueue;
use super::script::{Delay, Event, Script};

/// What a handler answers with.
#[derive(Debug)]
pub(super) struct Body {
    content: Content,
    fault: Option<Break>,
    /// `None` for what nobody counts.
    tally: Option<Tally>,
}

#[derive(Debug)]
enum Content {
    /// What is left of it, and how long it was said to be.
    Whole(Bytes, u64),
    Stream(Box<Stream>),
}

/// Where this answer breaks.
#[derive(Debug)]
struct Break {
    fault: Fault,
    /// Set for a connection that is to be reset.
    reset: Arc<AtomicBool>,
    /// Nothing more is yielded; the connection has had a turn to flush what was.
    flushed: bool,
}

/// What makes a stream's events.
#[derive(Debug)]
pub(super) enum Play {
    Chat(Script),
    Other(EventQueue),
}

impl Play {
    fn next(&mut self) -> Option<Event> {
        match self {
            Self::Chat(script) => script.next(),
            Self::Other(queue) => queue.next(),
        }
    }

    fn fail(&mut self) {
        match self {
            Self::Chat(script) => script.fail(),
            Self::Other(queue) => queue.fail(),
        }
    }

    fn has_failed(&self) -> bool {
        match self {
            Self::Chat(script) => script.has_failed(),
            Self::Other(queue) => queue.has_failed(),
        }
    }
}

#[derive(Debug)]
struct Stream {
    script: Play,
    /// Made ahead, so that the end is known with the last event.
    next: Option<Event>,
    sent: u64,
    first_token: Duration,
    interval: Duration,
    stamp: bool,
    /// When the event before was due.
    due: Instant,
    armed: bool,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Body {
    /// Bytes that nobody counts.
    pub(super) fn plain(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let length = bytes.len() as u64;
        Self { content: Content::Whole(bytes, length), fault: None, tally: None }
    }

    /// A whole answer. With a fault, only its first half comes.
    pub(super) fn answer(
        bytes: Vec<u8>,
        tally: Tally,
        fault: Option<Fault>,
        reset: &Arc<AtomicBool>,
    ) -> Self {
        let fault = Break::new(fault, reset);
        let length = bytes.len() as u64;
        let mut bytes = Bytes::from(bytes);
        if fault.is_some() {
            bytes.truncate(bytes.len() / 2);
        }
        Self { content: Content::Whole(bytes, length), fault, tally: Some(tally) }
    }

    /// A streamed answer.
    pub(super) fn stream(
        mut script: Play,
        tally: Tally,
        controls: &Controls,
        reset: &Arc<AtomicBool>,
    ) -> Self {
        let stream = Stream {
            next: script.next(),
            script,
            sent: 0,
            first_token: Duration::from_millis(controls.first_token_ms),
            interval: Duration::from_millis(controls.interval_ms),
            stamp: controls.stamp,
            due: Instant::now(),
            armed: false,
            sleep: None,
        };
        Self {
            content: Content::Stream(Box::new(stream)),
            fault: Break::new(controls.fault, reset),
            tally: Some(tally),
        }
    }

    fn poll_whole(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let Content::Whole(bytes, _) = &mut self.content else { return Poll::Ready(None) };
        let bytes = std::mem::take(bytes);
        if !bytes.is_empty() {
            if let (None, Some(tally)) = (&self.fault, &mut self.tally) {
                tally.complete();
            }
            return Poll::Ready(Some(Ok(bytes)));
        }
        match &mut self.fault {
            Some(fault) => fault.poll(cx, self.tally.as_mut()).map(|error| Some(Err(error))),
            None => Poll::Ready(None),
        }
    }

    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let Content::Stream(stream) = &mut self.content else { return Poll::Ready(None) };
        if let Some(fault) = self.fault.as_mut().filter(|it| it.fault.after <= stream.sent) {
            if fault.fault.kind != FaultKind::Error {
                return fault.poll(cx, self.tally.as_mut()).map(|error| Some(Err(error)));
            }
            self.fault = None;
            stream.fail();
            if let Some(tally) = &mut self.tally {
                tally.break_off();
            }
        }
        let Some(event) = ready!(stream.poll_event(cx)) else { return Poll::Ready(None) };
        if let Some(tally) = &mut self.tally {
            tally.say(event.tokens);
            let breaks = self.fault.as_ref().is_some_and(|it| it.fault.after <= stream.sent);
            if stream.next.is_none() && !breaks && !stream.script.has_failed() {
                tally.complete();
            }
        }
        let is_stamped = stream.stamp;
        Poll::Ready(Some(Ok(if is_stamped { stamped(&event.bytes) } else { event.bytes })))
    }
}

/// An event after a comment, which no client sees, with the time on this machine's clock in nanoseconds.
#[expect(clippy::disallowed_methods, reason = "the load generator reads the same clock")]
fn stamped(event: &[u8]) -> Bytes {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    [format!(":sent {}\n", now.as_nanos()).as_bytes(), event].concat().into()
}

impl Break {
    /// `None` where there is nothing that the body itself has to break.
    fn new(fault: Option<Fault>, reset: &Arc<AtomicBool>) -> Option<Self> {
        let fault = fault.filter(|it| !matches!(it.kind, FaultKind::NoDone | FaultKind::Close))?;
        Some(Self { fault, reset: reset.clone(), flushed: false })
    }

    /// Breaks the answer off: with an error, or by never getting ready again.
    fn poll(&mut self, cx: &mut Context<'_>, tally: Option<&mut Tally>) -> Poll<io::Error> {
        // hyper throws away what it has not flushed when a body fails, so it gets a turn to flush.
        if !std::mem::replace(&mut self.flushed, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.fault.kind == FaultKind::Stall {
            return Poll::Pending;
        }
        self.reset.store(self.fault.kind == FaultKind::Reset, Ordering::Relaxed);
        if let Some(tally) = tally {
            tally.break_off();
        }
        Poll::Ready(io::Error::other("broken off, as x-sim-fault asked"))
    }
}

impl Stream {
    fn fail(&mut self) {
        self.script.fail();
        self.next = self.script.next();
    }

    /// The next event when it is due; `None` after the last one.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let Some(next) = &self.next else { return Poll::Ready(None) };
        let wait = match next.delay {
            Delay::AtOnce => Duration::ZERO,
            Delay::First => self.first_token,
            Delay::Token => self.interval,
        };
        if !wait.is_zero() {
            ready!(self.poll_due(wait, cx));
        }
        let event = self.next.take();
        self.next = self.script.next();
        self.sent += 1;
        Poll::Ready(event)
    }

    /// Waits until `wait` after the event before was due, so that a late wake-up doesn't slow the
    /// stream down.
    fn poll_due(&mut self, wait: Duration, cx: &mut Context<'_>) -> Poll<()> {
        if !self.armed {
            self.due += wait;
            match &mut self.sleep {
                Some(sleep) => sleep.as_mut().reset(self.due),
                none => *none = Some(Box::pin(tokio::time::sleep_until(self.due))),
            }
            self.armed = true;
        }
        if let Some(sleep) = &mut self.sleep {
            ready!(sleep.as_mut().poll(cx));
        }
        self.armed = false;
        Poll::Ready(())
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let polled = match self.content {
            Content::Whole(..) => self.poll_whole(cx),
            Content::Stream(_) => self.poll_stream(cx),
        };
        polled.map(|some| some.map(|result| result.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes, _) => bytes.is_empty() && self.fault.is_none(),
            Content::Stream(stream) => {
                let breaks = self.fault.as_ref().is_some_and(|it| it.fault.after <= stream.sent);
                stream.next.is_none() && !breaks
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(_, length) => SizeHint::with_exact(*length),
            Content::Stream(_) => SizeHint::default(),
        }
    }
}
