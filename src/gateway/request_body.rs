//! Reads a request body: as it arrives it is counted against every bound and scanned, and the frames are
//! kept as they are, to be sent on.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use tokio::time::error::Elapsed;

use crate::inspect::{Facts, Invalid, Scan};
use crate::refusal::Refusal;

/// What bounds a request body.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    pub(crate) max_body_bytes: u64,
    pub(crate) max_inflight_bytes: u64,
    pub(crate) idle: Duration,
    /// Bytes of request bodies held now, over all workers.
    pub(crate) inflight: Arc<AtomicU64>,
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

/// Reads and scans the body of a request with these `headers`.
pub(crate) async fn read(
    body: &mut Incoming,
    headers: &HeaderMap,
    bounds: &Bounds,
) -> Result<RequestBody, ReadError> {
    let is_coded = headers.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity");
    if is_coded {
        return Err(Refusal::unknown_coding().into());
    }
    let announced = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > bounds.max_body_bytes) {
        return Err(Refusal::body_too_large(bounds.max_body_bytes).into());
    }
    let mut held = Held { bytes: 0, inflight: bounds.inflight.clone() };
    let mut frames = Vec::new();
    let mut scan = Scan::new();
    while let Some(frame) =
        next_frame(body, bounds.idle).await.map_err(|_: Elapsed| ReadError::Stalled)?
    {
        let Ok(frame) = frame else { return Err(ReadError::Gone) };
        // Trailers of a request mean nothing to this API.
        let Ok(piece) = frame.into_data() else { continue };
        if held.bytes + piece.len() as u64 > bounds.max_body_bytes {
            return Err(Refusal::body_too_large(bounds.max_body_bytes).into());
        }
        held.add(piece.len() as u64, bounds.max_inflight_bytes)?;
        scan.push(&piece)?;
        frames.push(piece);
    }
    let facts = scan.finish()?;
    Ok(RequestBody { frames, facts, held })
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
