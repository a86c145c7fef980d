//! Interim responses (1xx) of an upstream. A few are left out, as they are nobody's business here; an upstream
//! that sends no end of them would keep its worker busy until the head deadline, so it is read no more.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use http::{Extensions, Request};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// So many are left out before an answer.
const MOST: u32 = 10;

/// How many there were since the last request of a connection.
#[derive(Clone, Debug)]
pub(super) struct Interims {
    count: Arc<AtomicU32>,
    /// What has hyper count them; made once, for it is many small pieces.
    counting: Extensions,
}

impl Interims {
    pub(super) fn new() -> Self {
        let count = Arc::new(AtomicU32::new(0));
        let mut watched = Request::new(());
        let counted = count.clone();
        hyper::ext::on_informational(&mut watched, move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        Self { count, counting: watched.into_parts().0.extensions }
    }

    /// Has hyper count those of this request, which is the next one on the connection.
    pub(super) fn watch<B>(&self, request: &mut Request<B>) {
        self.count.store(0, Ordering::Relaxed);
        *request.extensions_mut() = self.counting.clone();
    }

    pub(super) fn are_too_many(&self) -> bool {
        self.count.load(Ordering::Relaxed) > MOST
    }
}

/// A stream that is read no more after too many: hyper would read them for as long as there are any.
#[derive(Debug)]
pub(super) struct InterimLimited<T> {
    pub(super) stream: T,
    pub(super) interims: Interims,
}

impl<T: AsyncRead + Unpin> AsyncRead for InterimLimited<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.interims.are_too_many() {
            return Poll::Ready(Err(io::Error::other("too many interim responses")));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for InterimLimited<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
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
