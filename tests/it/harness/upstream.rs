//! An upstream whose every byte the test decides.

use std::future::Future;
use std::net::Ipv4Addr;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket};

use super::patiently;
use super::wire::{Head, Wire};

/// Connections that wait to be accepted. With more than fit, the kernel forgets some, and their client
/// learns of it late or by a reset.
const BACKLOG: u32 = 4096;

/// An upstream without any behaviour of its own: the test takes its connections and decides all.
pub struct Upstream {
    listener: TcpListener,
}

/// One connection to the upstream. Dropped, it closes.
pub struct Call {
    wire: Wire,
}

/// A request as the upstream received it.
#[derive(Clone, Debug)]
pub struct Received {
    pub head: Head,
    pub body: Vec<u8>,
}

/// One chunk of a chunked body; an empty one is the terminator.
pub fn chunk(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

impl Upstream {
    pub async fn start() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a port is free");
        Self { listener: socket.listen(BACKLOG).expect("it listens") }
    }

    pub fn base_url(&self) -> String {
        format!("http://{}", self.listener.local_addr().expect("it listens"))
    }

    /// The next connection, of which nothing was read.
    pub async fn accept(&self) -> Call {
        let accepted = patiently("a connection to the upstream", self.listener.accept()).await;
        Call { wire: Wire::new(accepted.expect("it listens").0) }
    }

    /// Whether a connection waits to be accepted, or came in just now.
    pub fn was_called(&self) -> bool {
        let accept = std::pin::pin!(self.listener.accept());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        accept.poll(&mut context).is_ready()
    }

    /// The next connection and the request on it.
    pub async fn call(&self) -> (Call, Received) {
        let mut call = self.accept().await;
        let received = call.receive().await;
        (call, received)
    }
}

impl Call {
    /// Reads the next request on this connection, with its body.
    pub async fn receive(&mut self) -> Received {
        let head = self.wire.head().await.expect("there is a request");
        let length = head.length().unwrap_or_default();
        let body = self.wire.exactly(length).await.expect("the request is whole");
        Received { head, body }
    }

    /// Writes bytes as they are: heads, chunk sizes, garbage.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.write(bytes.as_ref()).await;
    }

    /// As [`Call::write`], to a peer that may close before it has read everything.
    pub async fn try_write(&mut self, bytes: impl AsRef<[u8]>) {
        let written = self.wire.stream.write_all(bytes.as_ref());
        let _ = patiently("bytes are taken", written).await;
    }

    /// The head of a 200 with `headers` (lines with their CRLF).
    pub async fn ok(&mut self, headers: &str) {
        self.write(format!("HTTP/1.1 200 OK\r\n{headers}\r\n")).await;
    }

    /// The head of an event stream in chunks.
    pub async fn stream(&mut self) {
        self.ok("content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n").await;
    }

    /// The head of an event stream and its first events, at once: no deadline comes between them.
    pub async fn stream_of(&mut self, events: &str) {
        const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                            transfer-encoding: chunked\r\n\r\n";
        self.write([HEAD.as_bytes(), &chunk(events)].concat()).await;
    }

    /// One chunk of a chunked body; an empty one is the terminator.
    pub async fn chunk(&mut self, bytes: impl AsRef<[u8]>) {
        self.write(chunk(bytes)).await;
    }

    /// A whole answer with its Content-Length.
    pub async fn answer(&mut self, status: &str, headers: &str, body: &str) {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n");
        self.write(head + body).await;
    }

    /// Says that nothing more will be sent, and goes on listening.
    pub async fn half_close(&mut self) {
        self.wire.stream.shutdown().await.expect("the socket is open");
    }

    /// Closes with a reset. Dropping the call closes normally.
    pub fn reset(self) {
        self.wire.reset();
    }

    /// Whether the gateway's end is open, as far as is known by now.
    pub async fn is_open(&mut self) -> bool {
        tokio::task::yield_now().await;
        let mut byte = [0];
        let read = self.wire.stream.try_read(&mut byte);
        matches!(read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Waits until the gateway has closed its end (or reset it), without having sent anything more.
    pub async fn closed(&mut self) {
        let over = self.wire.fill("the gateway closes its upstream connection").await;
        assert!(over.is_err(), "{}", String::from_utf8_lossy(&self.wire.buffer));
    }
}
