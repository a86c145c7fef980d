//! A client's socket as hyper reads and writes it, with what hyper has no notion of: a deadline for a
//! client that does not take what it asked for, word of when everything has left, and how a connection
//! ends whose client is still sending, or must not take the end for that of a whole answer.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::coalesce::Coalesce;
use crate::gateway::client::Client;
use crate::server::half_close::HalfClose;

/// For how long what still comes is thrown away, after an answer that did not wait for it.
const LINGER: Duration = Duration::from_secs(2);
/// Of that, read at once.
const THROWN_AWAY_BYTES: usize = 16 * 1024;

/// What holds for every client's socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IoSettings {
    pub(crate) write_deadline: Duration,
    /// Of a body that nobody reads, thrown away after the answer.
    pub(crate) linger_bytes: u64,
    /// A client that has closed its sending side may still wait for its answer.
    pub(crate) half_close: bool,
}

pub(crate) struct ClientIo {
    stream: TokioIo<HalfClose<Coalesce<TcpStream>>>,
    client: Rc<Client>,
    write_deadline: Duration,
    linger_bytes: u64,
    /// Set while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    ending: Ending,
}

/// How far a connection has come that ends in good order.
enum Ending {
    NotYet,
    /// The client has everything, and may still be sending.
    Lingering(Box<Linger>),
    Over,
}

struct Linger {
    until: Pin<Box<Sleep>>,
    /// Bytes that may still come.
    left: u64,
}

impl ClientIo {
    pub(crate) fn new(stream: TcpStream, client: Rc<Client>, settings: &IoSettings) -> Self {
        let stream = HalfClose::new(Coalesce(stream), client.clone(), settings.half_close);
        Self {
            stream: TokioIo::new(stream),
            client,
            write_deadline: settings.write_deadline,
            linger_bytes: settings.linger_bytes,
            stalled: None,
            ending: Ending::NotYet,
        }
    }

    /// Ready once the client has closed its side, or may wait no longer. To close a socket on which
    /// something still comes is a reset, and a reset can take from the client the answer that it has not
    /// read.
    fn poll_lingered(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Ending::Lingering(linger) = &mut self.ending else { return Poll::Ready(()) };
        let mut space = [0; THROWN_AWAY_BYTES];
        loop {
            if linger.until.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut piece = ReadBuf::new(&mut space);
            let read = ready!(Pin::new(self.stream.inner_mut()).poll_read(cx, &mut piece));
            let length = piece.filled().len() as u64;
            if read.is_err() || length == 0 || length > linger.left {
                return Poll::Ready(());
            }
            linger.left -= length;
        }
    }

    /// Any progress stops the clock; without any it runs until the connection is given up.
    fn progress(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let deadline = self.write_deadline;
        let alarm = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(deadline)));
        ready!(alarm.as_mut().poll(cx));
        self.client.is_stalled.set(true);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Read for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl Write for ClientIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.progress(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.progress(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when its own buffer is empty.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.client.flushed();
        Poll::Ready(Ok(()))
    }

    /// hyper asks for this where a connection ends in good order, and only there.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if matches!(self.ending, Ending::NotYet) {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.ending = Ending::Over;
            if self.client.lingers.get() {
                let until = Box::pin(tokio::time::sleep(LINGER));
                let left = self.linger_bytes;
                self.ending = Ending::Lingering(Box::new(Linger { until, left }));
            }
        }
        self.poll_lingered(cx).map(Ok)
    }
}

impl Drop for ClientIo {
    /// Where the end of the connection is all that marks the end of an answer, an answer that is cut ends
    /// with a reset: an orderly close would make it whole (RFC 9112 §8).
    fn drop(&mut self) {
        if self.client.ends_by_close.get() && matches!(self.ending, Ending::NotYet) {
            // If even that fails, the socket is gone.
            let _ = SockRef::from(&self.stream.inner().inner().0).set_linger(Some(Duration::ZERO));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A client's socket, and the client; `left`: bytes that are thrown away, if any are.
    async fn pair(left: Option<u64>) -> (ClientIo, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let peer = TcpStream::connect(address).await.expect("it listens");
        let (stream, from) = listener.accept().await.expect("somebody has come");
        let client = Rc::new(Client::new(from.ip(), None));
        client.lingers.set(left.is_some());
        let write_deadline = Duration::from_secs(600);
        let settings =
            IoSettings { write_deadline, linger_bytes: left.unwrap_or_default(), half_close: true };
        (ClientIo::new(stream, client, &settings), peer)
    }

    async fn is_over(io: &mut ClientIo) -> bool {
        poll_fn(|cx| Poll::Ready(Pin::new(&mut *io).poll_shutdown(cx).is_ready())).await
    }

    async fn over(io: &mut ClientIo) {
        poll_fn(|cx| Pin::new(&mut *io).poll_shutdown(cx)).await.expect("it ends in good order");
    }

    #[tokio::test]
    async fn a_connection_is_kept_for_who_is_still_sending_and_not_for_others() {
        let (mut io, _peer) = pair(None).await;
        assert!(is_over(&mut io).await);
        let (mut io, mut peer) = pair(Some(1000)).await;
        assert!(!is_over(&mut io).await);
        assert_eq!(peer.read(&mut [0]).await.expect("an orderly end"), 0, "it hears of the end");
        peer.write_all(&[0; 1000]).await.expect("it is taken");
        drop(peer);
        over(&mut io).await;
        // Whoever goes on for ever is not heard for ever.
        let (mut io, mut peer) = pair(Some(2)).await;
        peer.write_all(&[0; 3]).await.expect("it is taken");
        over(&mut io).await;
    }
}
