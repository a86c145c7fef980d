//! Clients that close their sending side after a request. All that comes of it is a FIN, whether they wait
//! for the answer or have left (RFC 9112 §9.6 leaves open what a server makes of it), and work for nobody
//! costs as much as any other. They are told apart by the first byte of the answer, which is sent early: a
//! socket that was closed refuses it with a reset, and one that was only shut down waits for the rest.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::gateway::client::{Client, Phase};

/// With this every answer begins: its version (RFC 9112 §2.3).
const FIRST_BYTE: u8 = b'H';
/// After that it is looked for a reset for the first time, and then ever more seldom.
const FIRST_LOOK: Duration = Duration::from_millis(20);
const LAST_LOOK: Duration = Duration::from_secs(1);

/// A client's socket, of which the end is only read where the client has left.
#[derive(Debug)]
pub(crate) struct HalfClose<T> {
    stream: T,
    client: Rc<Client>,
    /// Whether anybody is waited for.
    is_served: bool,
    /// Something came after what was written last: maybe a request that nobody knows of yet.
    is_asked: bool,
    /// Something that is to be written waits for the client.
    has_unsent: bool,
    closed: Option<Box<Closed>>,
}

/// The client has closed its side.
#[derive(Debug)]
struct Closed {
    look: Pin<Box<Sleep>>,
    pause: Duration,
    has_begun: bool,
    /// The first byte of the answer has left, and will be written again with the others.
    is_ahead: bool,
}

impl<T> HalfClose<T> {
    pub(crate) fn new(stream: T, client: Rc<Client>, is_served: bool) -> Self {
        Self { stream, client, is_served, is_asked: false, has_unsent: false, closed: None }
    }

    pub(crate) fn inner(&self) -> &T {
        &self.stream
    }

    /// Whether the next byte to be written has left already.
    fn is_ahead(&mut self) -> bool {
        self.closed.as_mut().is_some_and(|closed| std::mem::take(&mut closed.is_ahead))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> HalfClose<T> {
    /// Ready with the end, or the error that the client's reset is, once it is clear that nobody waits.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = self.closed.get_or_insert_with(|| Box::new(Closed::now()));
        loop {
            if self.client.phase.get() == Phase::Waiting && !closed.has_begun && !self.has_unsent {
                let begun = Pin::new(&mut self.stream).poll_write(cx, &[FIRST_BYTE]);
                (closed.has_begun, closed.is_ahead) = (begun.is_ready(), begun.is_ready());
                if let Poll::Ready(Err(error)) = begun {
                    return Poll::Ready(Err(error));
                }
                self.client.is_half_closed.set(closed.has_begun);
            }
            ready!(closed.look.as_mut().poll(cx));
            // Its body broke off, or nothing is left to wait for.
            if !closed.has_begun && self.client.phase.get() != Phase::Waiting {
                return Poll::Ready(Ok(()));
            }
            // Reading says no more than that the end was read. Of a reset, writing knows, be it nothing.
            ready!(Pin::new(&mut self.stream).poll_write(cx, &[]))?;
            closed.later();
        }
    }
}

impl Closed {
    fn now() -> Self {
        let look = Box::pin(tokio::time::sleep(FIRST_LOOK));
        Self { look, pause: FIRST_LOOK, has_begun: false, is_ahead: false }
    }

    fn later(&mut self) {
        self.pause = (self.pause * 2).min(LAST_LOOK);
        self.look.as_mut().reset(Instant::now() + self.pause);
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for HalfClose<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.closed.is_some() {
            return self.poll_closed(cx);
        }
        let length = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > length {
            self.is_asked = true;
            return Poll::Ready(Ok(()));
        }
        match self.is_served && (self.is_asked || self.client.phase.get() != Phase::Idle) {
            true => self.poll_closed(cx),
            false => Poll::Ready(Ok(())),
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for HalfClose<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_ahead() {
            return Poll::Ready(Ok(1.min(bytes.len())));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        (self.is_asked, self.has_unsent) = (false, written.is_pending());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_ahead() {
            return Poll::Ready(Ok(1));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        (self.is_asked, self.has_unsent) = (false, written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
