//! The body of an upstream's response, of which something may have been read in advance: to look at
//! what it says before it is decided whether it goes to the client.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

#[derive(Debug)]
pub(crate) struct PeekedBody {
    /// Read, and not taken yet.
    ahead: Option<Bytes>,
    /// How it broke off when it was read in advance.
    broken: Option<hyper::Error>,
    rest: Incoming,
}

impl PeekedBody {
    pub(crate) fn new(rest: Incoming) -> Self {
        Self { ahead: None, broken: None, rest }
    }

    /// Puts back what was read of its beginning, to be read again, and how it broke off, if it did.
    pub(super) fn put_back(&mut self, read: Bytes, broken: Option<hyper::Error>) {
        self.ahead = Some(read).filter(|read| !read.is_empty());
        self.broken = broken;
    }
}

impl Body for PeekedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.ahead.take() {
            Some(ahead) => Poll::Ready(Some(Ok(Frame::data(ahead)))),
            None => match self.broken.take() {
                Some(error) => Poll::Ready(Some(Err(error))),
                None => Pin::new(&mut self.rest).poll_frame(cx),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_none() && self.broken.is_none() && self.rest.is_end_stream()
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
