//! The body of an upstream's response, of which something may have been read in advance: to look at
//! what it says before it is decided whether it goes to the client.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::forward::pool::Lease;

#[derive(Debug)]
pub(crate) struct Received {
    /// Read, and not taken yet.
    ahead: Option<Bytes>,
    rest: Incoming,
}

impl Received {
    pub(crate) fn new(rest: Incoming) -> Self {
        Self { ahead: None, rest }
    }

    /// Reads up to `most` bytes in advance, or a little more, which stay part of the body. Returns them, and whether
    /// they are all; `None` if the body broke off, after which it must not be taken for whole.
    pub(super) async fn read_ahead(
        &mut self,
        lease: &mut Lease,
        most: usize,
    ) -> Option<(Bytes, bool)> {
        let mut read = BytesMut::new();
        let mut is_whole = false;
        while read.len() < most && !is_whole {
            match std::future::poll_fn(|cx| lease.poll_frame(cx, self)).await {
                // Trailers are not part of these APIs and are dropped.
                Some(frame) => read.extend_from_slice(&frame.ok()?.into_data().unwrap_or_default()),
                None => is_whole = true,
            }
        }
        let read = read.freeze();
        self.ahead = Some(read.clone()).filter(|read| !read.is_empty());
        Some((read, is_whole))
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.ahead.take() {
            Some(ahead) => Poll::Ready(Some(Ok(Frame::data(ahead)))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = self.ahead.as_ref().map_or(0, |ahead| ahead.len() as u64);
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(ahead));
        }
        hint.set_lower(rest.lower().saturating_add(ahead));
        hint
    }
}
