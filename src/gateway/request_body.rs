//! Reads a request body: as it arrives it is decoded if it is compressed, counted against every bound
//! and scanned, and kept, to be sent on.

mod coding;
mod in_flight;
mod buffer;
mod timeouts;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};

use crate::gateway::endpoints::Forwarded;
use crate::gateway::request_body::buffer::BodyBuffer;
use crate::gateway::request_body::coding::{Coding, Corrupt, Decoder};
use crate::gateway::request_body::timeouts::BodyDeadline;
use crate::inspect::{self, Invalid, RefusableFields, RequestFacts, Scan};
use crate::refusal::Refusal;

pub(crate) use crate::gateway::request_body::in_flight::{InFlightBytes, InFlightLimits};
pub(crate) use crate::gateway::request_body::timeouts::Deadlines;

/// Bytes that one step of a decoder gives at most.
const STEP_BYTES: usize = 32 * 1024;
/// Decoded bytes after which other requests of this worker get a turn.
const TURN_BYTES: usize = 256 * 1024;
/// What a decoder is, besides its window, and what it writes into.
const DECODER_BYTES: u64 = 64 * 1024;
/// Of a body that nobody wants, at most so much is read and forgotten before the answer.
const IGNORED_BYTES: u64 = 64 * 1024;
/// So often the connection gets a turn to hand on what it has read of such a body.
const ROUNDS: usize = 2;

/// What bounds a request body.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    pub(crate) max_body_bytes: u64,
    pub(crate) deadlines: Deadlines,
    pub(crate) room: InFlightLimits,
    /// The fields that some upstream's operator refuses.
    pub(crate) refusable: Arc<RefusableFields>,
}

/// A whole request body and what the scan found in it.
#[derive(Debug)]
pub(crate) struct RequestBody {
    pub(crate) frames: Vec<Bytes>,
    pub(crate) facts: RequestFacts,
    /// Held for as long as the frames are.
    pub(crate) held: InFlightBytes,
}

/// Why there is no whole body.
#[derive(Debug)]
pub(crate) enum ReadError {
    Refused(Refusal),
    /// It came too slowly.
    Late,
    /// The client went away; nobody hears an answer.
    Gone,
}

impl From<Refusal> for ReadError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Invalid> for ReadError {
    fn from(invalid: Invalid) -> Self {
        Self::Refused(invalid.into())
    }
}

impl From<Corrupt> for ReadError {
    fn from(_: Corrupt) -> Self {
        Self::Refused(Refusal::corrupt_coding())
    }
}

/// What has come of a body, as it is to be sent on.
struct Arrived<'b> {
    bounds: &'b Bounds,
    kept: BodyBuffer,
    scan: Scan<'b>,
    held: InFlightBytes,
}

impl Arrived<'_> {
    fn take(&mut self, piece: Bytes) -> Result<(), ReadError> {
        self.look(&piece)?;
        self.kept.push(piece);
        Ok(())
    }

    fn take_copy(&mut self, piece: &[u8]) -> Result<(), ReadError> {
        self.look(piece)?;
        self.kept.copy(piece);
        Ok(())
    }

    /// Counts and scans what comes next.
    fn look(&mut self, piece: &[u8]) -> Result<(), ReadError> {
        let length = piece.len() as u64;
        if self.held.bytes() + length > self.bounds.max_body_bytes {
            return Err(Refusal::body_too_large(self.bounds.max_body_bytes).into());
        }
        self.held.add(length, &self.bounds.room)?;
        self.scan.push(piece)?;
        Ok(())
    }
}

/// Reads and scans the body of a request with these `headers` for this endpoint; `held` counts it.
pub(crate) async fn read(
    body: &mut Incoming,
    headers: &HeaderMap,
    endpoint: &Forwarded,
    bounds: &Bounds,
    held: InFlightBytes,
) -> Result<RequestBody, ReadError> {
    let coding = Coding::of(headers).map_err(|_| Refusal::unknown_coding())?;
    let announced = body.size_hint().exact();
    if announced.is_some_and(|length| length > bounds.max_body_bytes) {
        return Err(Refusal::body_too_large(bounds.max_body_bytes).into());
    }
    let window = || held.another();
    let mut decoding = match coding {
        Some(coding) => Some(Decoding::new(coding, window(), bounds)?),
        None => None,
    };
    let scan = scan_for(endpoint, headers, &bounds.refusable)?;
    // What is decoded is longer than what was announced.
    let kept = BodyBuffer::new(announced.filter(|_| decoding.is_none()));
    let mut arrived = Arrived { bounds, kept, scan, held };
    let mut pace = BodyDeadline::new(&bounds.deadlines);
    while let Some(frame) = next_frame(body, &mut pace).await? {
        // Trailers of a request mean nothing to this API.
        let Ok(piece) = frame.into_data() else { continue };
        pace.received(piece.len());
        match &mut decoding {
            None => arrived.take(piece)?,
            Some(decoding) => decoding.take(&piece, &mut arrived).await?,
        }
    }
    if decoding.is_some_and(|decoding| !decoding.decoder.is_whole()) {
        return Err(Corrupt.into());
    }
    let Arrived { kept, scan, held, .. } = arrived;
    let facts = scan.finish()?;
    Ok(RequestBody { frames: kept.into_frames(), facts, held })
}

/// What comes next, or that it comes too late. Most bodies are here already, and need no clock.
async fn next_frame(
    body: &mut Incoming,
    pace: &mut BodyDeadline<'_>,
) -> Result<Option<Frame<Bytes>>, ReadError> {
    let mut frame = body.frame();
    let frame = match poll_fn(|cx| Poll::Ready(Pin::new(&mut frame).poll(cx))).await {
        Poll::Ready(frame) => frame,
        Poll::Pending => tokio::time::timeout_at(pace.deadline(), frame)
            .await
            .map_err(|_elapsed| ReadError::Late)?,
    };
    frame.transpose().map_err(|_error| ReadError::Gone)
}

/// What the body is read as, and then goes on as: a form where the endpoint takes one and the client says
/// so, else JSON, whatever the client calls it. Of two types nobody knows which one the upstream goes by.
pub(crate) fn scan_for<'f>(
    endpoint: &Forwarded,
    headers: &HeaderMap,
    refusable: &'f RefusableFields,
) -> Result<Scan<'f>, Invalid> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let content_type = types.next();
    if types.next().is_some() {
        return Err(Invalid::ContentTypes);
    }
    match content_type.filter(|_| endpoint.takes_form).map(HeaderValue::to_str) {
        Some(Err(_)) => Err(Invalid::Boundary),
        Some(Ok(content_type)) if inspect::is_form(content_type) => {
            Scan::form(endpoint.api, content_type, refusable)
        }
        _ => Ok(Scan::json(endpoint.api, refusable)),
    }
}

/// A compressed body on its way; on the heap, because few are.
struct Decoding {
    decoder: Decoder,
    output: Vec<u8>,
    /// Bytes that came, before they were decoded.
    received: u64,
    /// Counts what the decoder keeps of what it has given: its window fills with that, and no more.
    window: InFlightBytes,
    window_left: u64,
}

impl Decoding {
    fn new(
        coding: Coding,
        mut window: InFlightBytes,
        bounds: &Bounds,
    ) -> Result<Box<Self>, ReadError> {
        window.add(DECODER_BYTES, &bounds.room)?;
        let (decoder, output) = (Decoder::new(coding)?, vec![0; STEP_BYTES]);
        let window_left = coding.window_bytes();
        Ok(Box::new(Self { decoder, output, received: 0, window, window_left }))
    }

    /// Decodes `piece`, as far as the bounds allow.
    async fn take(&mut self, piece: &[u8], arrived: &mut Arrived<'_>) -> Result<(), ReadError> {
        self.received += piece.len() as u64;
        if self.received > arrived.bounds.max_body_bytes {
            // Codings have ways to say nothing at any length.
            return Err(Refusal::body_too_large(arrived.bounds.max_body_bytes).into());
        }
        let (mut rest, mut turn) = (piece, 0);
        loop {
            let step = self.decoder.step(rest, &mut self.output)?;
            rest = &rest[step.taken..];
            match step.given {
                0 if rest.is_empty() => return Ok(()),
                0 if step.taken == 0 => return Err(Corrupt.into()),
                0 => {}
                given => {
                    let kept = self.window_left.min(given as u64);
                    self.window_left -= kept;
                    self.window.add(kept, &arrived.bounds.room)?;
                    arrived.take_copy(&self.output[..given])?;
                }
            }
            turn += step.given;
            if turn >= TURN_BYTES {
                turn = 0;
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Whether nothing more comes of a body that nobody has read. What is here of it by now is forgotten; what
/// is still on its way is not waited for.
pub(crate) async fn is_over(body: &mut Incoming) -> bool {
    let (mut left, mut rounds) = (IGNORED_BYTES, 0);
    loop {
        let mut frame = body.frame();
        let frame = poll_fn(|cx| Poll::Ready(Pin::new(&mut frame).poll(cx))).await;
        match frame {
            Poll::Ready(None) => return true,
            Poll::Ready(Some(Err(_))) => return false,
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, |piece| piece.len() as u64);
                let Some(rest) = left.checked_sub(length) else { return false };
                (left, rounds) = (rest, 0);
            }
            Poll::Pending if rounds == ROUNDS => return false,
            Poll::Pending => {
                rounds += 1;
                next_turn().await;
            }
        }
    }
}

/// Lets the connection, whose task this is, read what it has.
async fn next_turn() {
    let mut is_next = false;
    poll_fn(|cx| match std::mem::replace(&mut is_next, true) {
        true => Poll::Ready(()),
        false => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}
