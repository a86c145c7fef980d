//! The upstream's side of a response body: what it sends, its silences and its failures, what the meter
//! reads in it, and what is owed for it. It can outlive the client, where the policy is to read on.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::Body;
use tokio::time::{Instant, Sleep};

use crate::forward::{Lease, PeekedBody};
use crate::gateway::settlement::{Booking, Settlement};
use crate::journal::AppendError;
use crate::meter::Meter;
use crate::refusal::Refusal;
use crate::usage::{End, Flags};

/// How long an upstream may take over its body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyTimeouts {
    /// Between two pieces.
    pub(crate) idle: Duration,
    /// When the whole answer must have arrived.
    pub(crate) until: Option<Instant>,
}

/// What the upstream did next.
#[derive(Debug)]
pub(crate) enum Event {
    Data(Bytes),
    /// The body's clean end.
    End,
    Failed(End, Refusal),
}

#[derive(Debug)]
pub(crate) struct UpstreamBody {
    body: PeekedBody,
    /// Gone once the connection is given back or closed.
    lease: Option<Lease>,
    pub(crate) meter: Meter,
    /// Gone once the request is booked.
    settlement: Option<Box<Settlement>>,
    pace: BodyTimeouts,
    /// Its client has gone, and it is read on.
    is_draining: bool,
    /// The body has ended cleanly.
    has_ended: bool,
    /// Something has come since `heard`, which is when the reader last found nothing.
    is_heard: bool,
    heard: Instant,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl UpstreamBody {
    pub(crate) fn new(
        body: PeekedBody,
        lease: Lease,
        meter: Meter,
        settlement: Box<Settlement>,
        pace: BodyTimeouts,
        begun: Instant,
    ) -> Box<Self> {
        let (lease, settlement) = (Some(lease), Some(settlement));
        let (is_heard, heard) = (true, begun);
        Box::new(Self {
            body,
            lease,
            meter,
            settlement,
            pace,
            is_draining: false,
            has_ended: false,
            is_heard,
            heard,
            alarm: None,
        })
    }

    /// The next thing that happens upstream, its silence included.
    pub(crate) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            match self.poll_body(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.is_heard = true;
                    // Trailers are not part of these APIs and are dropped.
                    if let Ok(piece) = frame.into_data() {
                        return Poll::Ready(Event::Data(piece));
                    }
                }
                Poll::Ready(None) => {
                    self.has_ended = true;
                    return Poll::Ready(Event::End);
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(failed(&error)),
                Poll::Pending => {
                    let idle = || Event::Failed(End::Timeout, Refusal::upstream_idle());
                    return self.poll_alarm(cx).map(|()| idle());
                }
            }
        }
    }

    /// What has been read already, else what the connection can read now.
    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, hyper::Error>>> {
        match &mut self.lease {
            Some(lease) => lease.poll_frame(cx, &mut self.body),
            None => Pin::new(&mut self.body).poll_frame(cx),
        }
    }

    /// Ready when the upstream has been silent for too long. The timer is set once for many pieces: when
    /// it fires, it is set again for what is left since the last one.
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::take(&mut self.is_heard) {
            self.heard = Instant::now();
        }
        loop {
            let silent = self.heard + self.pace.idle;
            let due = self.pace.until.map_or(silent, |until| until.min(silent));
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(due);
        }
    }

    pub(crate) fn settlement(&mut self) -> Option<&mut Settlement> {
        self.settlement.as_deref_mut()
    }

    /// Whether the connection is still out.
    pub(crate) fn is_open(&self) -> bool {
        self.lease.is_some()
    }

    /// The body was read to its end: another request can use the connection.
    pub(crate) fn give_back(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }

    /// Closes the connection, whatever the upstream is doing.
    pub(crate) fn close(&mut self) {
        self.lease = None;
    }

    /// Books how the request ended, which may be seen once the receipt is ready.
    pub(crate) fn settle(&mut self, end: End, flags: Flags) -> Booking {
        let Some(mut settlement) = self.settlement.take() else { return Booking::done() };
        settlement.flags.set(flags);
        let used = settlement.used(self.meter.take_reading(), end, self.is_whole());
        settlement.settle(end, used)
    }

    /// Whether all of the answer has been read: its end mark, or a clean end where a stream may end.
    fn is_whole(&self) -> bool {
        self.meter.done() || (self.has_ended && self.meter.may_end())
    }

    /// Books a request that Weir answers itself, with `status`; on an error the ledger could not be written.
    pub(crate) async fn refuse(
        mut self: Box<Self>,
        end: End,
        status: StatusCode,
    ) -> Result<(), AppendError> {
        if let Some(settlement) = &mut self.settlement {
            settlement.status = status.as_u16();
        }
        self.settle(end, Flags::default()).await
    }

    /// Reads on after the client has gone, until the usage is known, the time is over or the upstream
    /// is done, and books the request.
    pub(crate) async fn drain(mut self: Box<Self>, until: Instant) {
        self.is_draining = true;
        let mut until = Box::pin(tokio::time::sleep_until(until));
        let mut passed = Vec::new();
        loop {
            let event = poll_fn(|cx| match self.poll_event(cx) {
                Poll::Ready(event) => Poll::Ready(Some(event)),
                Poll::Pending => until.as_mut().poll(cx).map(|()| None),
            });
            match event.await {
                Some(Event::Data(piece)) => self.meter.push(piece, &mut passed),
                Some(Event::End) => {
                    self.give_back();
                    self.meter.finish(&mut passed);
                    break;
                }
                Some(Event::Failed(..)) | None => break,
            }
            passed.clear();
            if self.meter.is_settled() {
                break;
            }
        }
        // Its client has gone: nobody waits for the receipt.
        drop(self.settle(End::ClientClosed, Flags::DRAINED));
        self.read_out().await;
    }

    /// Reads the little that may follow an end mark, so that the connection can be used again.
    pub(crate) async fn read_out(mut self: Box<Self>) {
        const TIME: Duration = Duration::from_secs(1);
        if !self.is_open() {
            return;
        }
        let last = async {
            loop {
                match poll_fn(|cx| self.poll_event(cx)).await {
                    Event::Data(_) => {}
                    other => return other,
                }
            }
        };
        if let Ok(Event::End) = tokio::time::timeout(TIME, last).await {
            self.give_back();
        }
    }
}

impl Drop for UpstreamBody {
    fn drop(&mut self) {
        if self.is_draining {
            // The process ends before the answer does: what has been read counts.
            drop(self.settle(End::ClientClosed, Flags::DRAINED));
        }
    }
}

/// What a failing body means: an end before its end, a connection that broke, or bytes that are not HTTP.
fn failed(error: &hyper::Error) -> Event {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut kind = None;
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            kind = Some(io.kind());
        }
        source = error.source();
    }
    let refusal = match kind {
        Some(std::io::ErrorKind::UnexpectedEof) => Refusal::upstream_truncated(),
        Some(std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData) => {
            Refusal::upstream_protocol()
        }
        Some(_) => Refusal::upstream_broke(),
        None => Refusal::upstream_truncated(),
    };
    Event::Failed(End::UpstreamTruncated, refusal)
}
