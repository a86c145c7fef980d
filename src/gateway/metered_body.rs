//! The upstream's body on its way to the client: every piece passes the meter and goes on, nothing waits
//! but what the meter holds, and the ledger is written before the end mark is released.
//!
//! It ends exactly once. Complete: `Closed` is written when the end mark is in hand (`[DONE]`, the last
//! event of an API that has no such mark, the piece that completes Content-Length, or the end of the chunks);
//! then, once it survives what it has to, the mark is released. Failed: the client is told by an error event
//! where it can be, and the connection is cut without a terminator. Dropped: the client went away; the
//! upstream connection is closed, or read on for its usage, by policy.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::gateway::Worker;
use crate::gateway::client::Client;
use crate::gateway::disconnect::ReadOn;
use crate::gateway::settlement::Booking;
use crate::gateway::upstream_body::{Event, UpstreamBody};
use crate::journal::AppendError;
use crate::record::EventId;
use crate::refusal::{Family, Refusal};
use crate::usage::{End, Flags};

/// The connection must end here, without the mark that would make the answer look complete. What went
/// wrong has been told in the stream, or cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer was cut")]
pub(crate) struct Cut;

#[derive(Debug)]
pub(crate) struct MeteredBody {
    worker: Rc<Worker>,
    client: Rc<Client>,
    /// Gone only while this is dropped.
    source: Option<Box<UpstreamBody>>,
    drain: ReadOn,
    /// What the meter has passed on; empty once hyper has taken all of it.
    out: Vec<Bytes>,
    /// So many pieces of it were taken.
    taken: usize,
    state: State,
    /// What the end waits for, in [`State::Recording`].
    receipt: Option<Recording>,
    is_stream: bool,
    /// In whose form a failure is told, and of which request.
    voice: (Family, EventId),
    /// Bytes of the announced Content-Length that have not arrived.
    left: Option<u64>,
    is_unrecorded: bool,
}

/// An end whose record is taken down and not yet sure to last.
#[derive(Debug)]
struct Recording {
    receipt: Booking,
    /// Whether an error event could follow what the client has.
    was_between: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Flowing,
    /// Booked; the end mark is in `out` and waits for the record.
    Recording,
    /// Booked; the end mark is in `out` or has left.
    Ended,
    /// Booked; what is in `out` still leaves, then the connection is cut.
    Failing,
}

impl MeteredBody {
    /// `left`: the Content-Length that the client will see.
    pub(crate) fn new(
        worker: Rc<Worker>,
        client: Rc<Client>,
        source: Box<UpstreamBody>,
        is_stream: bool,
        voice: (Family, EventId),
        left: Option<u64>,
        drain: ReadOn,
    ) -> Self {
        let state = State::Flowing;
        let out = Vec::new();
        let source = Some(source);
        let (receipt, is_unrecorded) = (None, false);
        Self {
            worker,
            client,
            source,
            drain,
            out,
            taken: 0,
            state,
            receipt,
            is_stream,
            voice,
            left,
            is_unrecorded,
        }
    }

    /// The answer's end came, and the ledger could not be written.
    pub(crate) fn is_unrecorded(&self) -> bool {
        self.is_unrecorded
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            if self.state == State::Recording {
                ready!(self.poll_recorded(cx));
            }
            if let Some(piece) = self.next_piece() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            let is_open = self.source().is_open();
            match self.state {
                State::Failing => return self.poll_cut(cx),
                State::Recording => return Poll::Pending,
                State::Ended if !is_open => return Poll::Ready(None),
                State::Flowing if self.worker.is_cut() => {
                    self.fail(End::Shutdown, &Refusal::server_shutdown());
                }
                // Past `[DONE]` the upstream is still read to its end, and what it says passes.
                State::Flowing | State::Ended => match self.source().poll_event(cx) {
                    Poll::Ready(event) => self.take(event),
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }

    fn next_piece(&mut self) -> Option<Bytes> {
        let piece = std::mem::take(self.out.get_mut(self.taken)?);
        self.taken += 1;
        if self.taken == self.out.len() {
            self.out.clear();
            self.taken = 0;
        }
        Some(piece)
    }

    /// What the upstream did is passed on, and booked where it is the end.
    pub(crate) fn take(&mut self, event: Event) {
        match event {
            Event::Data(piece) => self.take_data(piece),
            Event::End => self.take_end(),
            Event::Failed(end, refusal) => self.fail(end, &refusal),
        }
    }

    fn take_data(&mut self, piece: Bytes) {
        let was_between = self.source().meter.between_events();
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(piece.len() as u64);
        }
        let mut out = std::mem::take(&mut self.out);
        let meter = &mut self.source().meter;
        meter.push(piece, &mut out);
        let is_done = meter.done();
        self.out = out;
        let is_whole = self.left == Some(0);
        if is_whole {
            self.source().give_back();
        }
        if self.state == State::Flowing && (is_whole || (self.is_stream && is_done)) {
            self.end(was_between);
        } else if self.is_used_up() {
            self.fail(End::QuotaCut, &Refusal::quota_cut());
        }
    }

    /// Whether a stream has used up its reservation and its quotas, and may be cut for it here: where
    /// the client can be told, if it can be, and not where the answer has all been said.
    fn is_used_up(&mut self) -> bool {
        let is_running = self.state == State::Flowing && self.is_stream;
        let source = self.source();
        if !is_running || !source.settlement().is_some_and(|settlement| settlement.cuts) {
            return false;
        }
        let progress = source.meter.progress();
        if progress.is_over || !source.meter.may_be_cut() {
            return false;
        }
        source.settlement().is_some_and(|settlement| !settlement.may_go_on(&progress))
    }

    /// The upstream's body has ended cleanly; whether the answer is whole is another matter.
    fn take_end(&mut self) {
        let mut out = std::mem::take(&mut self.out);
        let source = self.source();
        source.give_back();
        let was_between = source.meter.between_events();
        source.meter.finish(&mut out);
        let may_end = source.meter.may_end();
        // A refusal that broke off is one all the same.
        let status = source.settlement().map_or(200, |settlement| settlement.status);
        self.out = out;
        let is_cut_short = !may_end && (self.is_stream || status < 400);
        match self.state {
            State::Ended | State::Failing | State::Recording => {}
            State::Flowing if is_cut_short => {
                self.fail(End::UpstreamTruncated, &Refusal::upstream_truncated());
            }
            State::Flowing => self.end(was_between),
        }
    }

    /// Books the answer as it ended, and only then lets its last bytes go.
    fn end(&mut self, was_between: bool) {
        let is_stream = self.is_stream;
        let source = self.source();
        let is_error = source.meter.error();
        let no_done = is_stream && !source.meter.done() && source.meter.ends_unmarked();
        let end = match source.settlement().map(|settlement| settlement.status) {
            Some(status) if status >= 500 => End::UpstreamError,
            Some(status) if status >= 400 => End::UpstreamRejected,
            _ if is_error => End::UpstreamError,
            // It was told that there will be an answer, which is not the same.
            _ if source.meter.is_pending() => End::UpstreamTruncated,
            _ => End::Complete,
        };
        let flags = if no_done { Flags::NO_DONE } else { Flags::default() };
        let receipt = source.settle(end, flags);
        self.state = State::Recording;
        self.receipt = Some(Recording { receipt, was_between });
    }

    /// Ready when nothing waits for a record.
    pub(crate) fn poll_recorded(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(recording) = &mut self.receipt else { return Poll::Ready(()) };
        let result: Result<(), AppendError> = ready!(Pin::new(&mut recording.receipt).poll(cx));
        let was_between = recording.was_between;
        self.receipt = None;
        match result {
            Ok(()) => self.state = State::Ended,
            Err(error) => {
                // What could not be written has been told by whoever tried to.
                if !matches!(error, AppendError::NotWritten { .. }) {
                    self.worker.journal_failed(&error);
                }
                self.unrecorded(was_between);
            }
        }
        Poll::Ready(())
    }

    /// What the ledger does not have, the client must not take for complete.
    fn unrecorded(&mut self, was_between: bool) {
        self.out.clear();
        self.taken = 0;
        self.is_unrecorded = true;
        self.cut(was_between, &Refusal::ledger_failed_at_end());
    }

    /// Books the answer as failed and cuts it.
    fn fail(&mut self, end: End, refusal: &Refusal) {
        self.source().close();
        if self.state == State::Ended {
            // The client has the end mark already: what follows it is not worth breaking a connection.
            return;
        }
        let source = self.source();
        // Could it not be written, the journal keeps it; the client is told of the failure all the same.
        drop(source.settle(end, Flags::default()));
        source.meter.discard_held();
        let is_between = source.meter.between_events();
        self.cut(is_between, refusal);
    }

    fn cut(&mut self, is_between_events: bool, refusal: &Refusal) {
        self.source().close();
        self.state = State::Failing;
        if self.is_stream && is_between_events {
            let (family, id) = self.voice;
            self.out.push(refusal.event(family, id));
        }
        self.client.expect_flush();
    }

    /// hyper discards what it has not written when a body fails, so the failure waits for the flush.
    fn poll_cut(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.client.poll_flushed(cx).map(|()| Some(Err(Cut)))
    }

    fn source(&mut self) -> &mut UpstreamBody {
        self.source.as_mut().expect("it is taken only by drop")
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.state == State::Ended && self.left == Some(0) && self.out.is_empty()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        let Some(left) = self.left else { return SizeHint::default() };
        let out: u64 = self.out.iter().map(|bytes| bytes.len() as u64).sum();
        SizeHint::with_exact(left + out)
    }
}

impl Drop for MeteredBody {
    fn drop(&mut self) {
        let Some(mut source) = self.source.take() else { return };
        let Some(settlement) = source.settlement() else {
            if source.is_open() && !self.worker.is_cut() {
                tokio::task::spawn_local(source.read_out());
            }
            return;
        };
        let end = settlement.abandoned();
        let until = settlement.left_until();
        let meter = &source.meter;
        let is_worth_it = (self.drain.is_whole && !meter.is_settled()) || meter.awaits_usage();
        let place = if end == End::ClientClosed && is_worth_it {
            self.drain.begin(&self.worker)
        } else {
            None
        };
        let Some((running, latest)) = place else {
            // The lease goes with the source, and closes the connection.
            drop(source.settle(end, Flags::default()));
            return;
        };
        tokio::task::spawn_local(async move {
            source.drain(until.unwrap_or(latest)).await;
            drop(running);
        });
    }
}
