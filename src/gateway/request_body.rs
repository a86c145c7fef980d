//! Reads a request body: as it arrives it is decoded if it is compressed, counted against every bound
//! and scanned, and kept, to be sent on.

mod coding;
mod kept;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use tokio::time::error::Elapsed;

use crate::gateway::endpoints::Forwarded;
use crate::gateway::request_body::coding::{Coding, Corrupt, Decoder};
use crate::gateway::request_body::kept::Kept;
use crate::inspect::{self, Facts, Invalid, Refusable, Scan};
use crate::refusal::Refusal;

/// Bytes that one step of a decoder gives at most.
const STEP_BYTES: usize = 32 * 1024;
/// Decoded bytes after which other requests of this worker get a turn.
const TURN_BYTES: usize = 256 * 1024;

/// What bounds a request body.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    pub(crate) max_body_bytes: u64,
    pub(crate) max_inflight_bytes: u64,
    pub(crate) idle: Duration,
    /// Bytes of request bodies held now, over all workers.
    pub(crate) inflight: Arc<AtomicU64>,
    /// The fields that some upstream's operator refuses.
    pub(crate) refusable: Arc<Refusable>,
}

/// A whole request body and what the scan found in it.
#[derive(Debug)]
pub(crate) struct RequestBody {
    pub(crate) frames: Vec<Bytes>,
    pub(crate) facts: Facts,
    /// Held for as long as the frames are.
    pub(crate) held: Held,
}

/// Bytes counted as in flight; dropping it takes them off again.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: u64,
    inflight: Arc<AtomicU64>,
}

impl Held {
    #[cfg(test)]
    pub(crate) fn nothing() -> Self {
        Self { bytes: 0, inflight: Arc::default() }
    }

    /// Counts `more` bytes, or refuses when that is more than may be held at once.
    fn add(&mut self, more: u64, max: u64) -> Result<(), Refusal> {
        self.bytes += more;
        let total = self.inflight.fetch_add(more, Ordering::Relaxed) + more;
        if total > max {
            return Err(Refusal::overloaded(
                "Too many request bytes are in flight; try again soon.",
            ));
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.inflight.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Why there is no whole body.
#[derive(Debug)]
pub(crate) enum ReadError {
    Refused(Refusal),
    /// Nothing came for too long.
    Stalled,
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
    kept: Kept,
    scan: Scan<'b>,
    held: Held,
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
        if self.held.bytes + length > self.bounds.max_body_bytes {
            return Err(Refusal::body_too_large(self.bounds.max_body_bytes).into());
        }
        self.held.add(length, self.bounds.max_inflight_bytes)?;
        self.scan.push(piece)?;
        Ok(())
    }
}

/// Reads and scans the body of a request with these `headers` for this endpoint.
pub(crate) async fn read(
    body: &mut Incoming,
    headers: &HeaderMap,
    endpoint: &Forwarded,
    bounds: &Bounds,
) -> Result<RequestBody, ReadError> {
    let coding = Coding::of(headers).map_err(|_| Refusal::unknown_coding())?;
    let announced = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > bounds.max_body_bytes) {
        return Err(Refusal::body_too_large(bounds.max_body_bytes).into());
    }
    let mut decoding = coding.map(Decoding::new).transpose()?;
    let scan = scan_for(endpoint, headers, &bounds.refusable)?;
    let held = Held { bytes: 0, inflight: bounds.inflight.clone() };
    // What is decoded is longer than what was announced.
    let kept = Kept::new(announced.filter(|_| decoding.is_none()));
    let mut arrived = Arrived { bounds, kept, scan, held };
    while let Some(frame) =
        next_frame(body, bounds.idle).await.map_err(|_: Elapsed| ReadError::Stalled)?
    {
        let Ok(frame) = frame else { return Err(ReadError::Gone) };
        // Trailers of a request mean nothing to this API.
        let Ok(piece) = frame.into_data() else { continue };
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

/// What comes next, or that nothing came for too long. Most bodies are here already, and need no clock.
async fn next_frame(
    body: &mut Incoming,
    idle: Duration,
) -> Result<Option<Result<Frame<Bytes>, hyper::Error>>, Elapsed> {
    let mut frame = body.frame();
    match poll_fn(|cx| Poll::Ready(Pin::new(&mut frame).poll(cx))).await {
        Poll::Ready(frame) => Ok(frame),
        Poll::Pending => tokio::time::timeout(idle, frame).await,
    }
}

/// What the body is read as, and then goes on as: a form where the endpoint takes one and the client says
/// so, else JSON, whatever the client calls it. Of two types nobody knows which one the upstream goes by.
pub(crate) fn scan_for<'f>(
    endpoint: &Forwarded,
    headers: &HeaderMap,
    refusable: &'f Refusable,
) -> Result<Scan<'f>, Invalid> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let content_type = types.next();
    if types.next().is_some() {
        return Err(Invalid::ContentTypes);
    }
    match content_type.filter(|_| endpoint.takes_form).map(HeaderValue::to_str) {
        Some(Err(_)) => Err(Invalid::Boundary),
        Some(Ok(content_type)) if inspect::is_form(content_type) => {
            Scan::form(content_type, refusable)
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
}

impl Decoding {
    fn new(coding: Coding) -> Result<Box<Self>, Corrupt> {
        let decoder = Decoder::new(coding)?;
        Ok(Box::new(Self { decoder, output: vec![0; STEP_BYTES], received: 0 }))
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
                given => arrived.take_copy(&self.output[..given])?,
            }
            turn += step.given;
            if turn >= TURN_BYTES {
                turn = 0;
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Reads on, and forgets, up to `max` bytes of a body that was refused: a client that is still sending
/// would otherwise see a reset connection instead of the answer. Says whether that was all of it.
pub(crate) async fn discard(body: &mut Incoming, max: u64, idle: Duration) -> bool {
    let mut left = max;
    loop {
        let frame = match next_frame(body, idle).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => return true,
            Ok(Some(Err(_))) | Err(_) => return false,
        };
        let length = frame.data_ref().map_or(0, |piece| piece.len() as u64);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return false,
        }
    }
}
