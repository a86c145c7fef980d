//! A client that sees every byte: whether a body ended as it should is not left to a library.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use super::patiently;
use super::wire::{Head, Over, Wire};

/// A whole request; `headers` are lines with their CRLF.
pub fn request(method: &str, path: &str, key: &str, headers: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: weir.test\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A piece of a response's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// One chunk of a chunked body, else what had arrived.
    Data(Vec<u8>),
    /// The terminating chunk, or all that Content-Length announced.
    End,
    /// The connection ended before the body did.
    Cut,
}

#[derive(Clone, Copy, Debug)]
enum Framing {
    Chunked,
    /// So many bytes are to come.
    Length(usize),
    /// The body has ended.
    Over,
}

/// A client that sees what is on the wire.
pub struct Client {
    wire: Wire,
    framing: Framing,
}

/// A whole response.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: Head,
    pub body: Vec<u8>,
    /// The terminating chunk or the announced length was seen.
    pub is_whole: bool,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = patiently("a connection", TcpStream::connect(address)).await;
        Self { wire: Wire::new(stream.expect("the server listens")), framing: Framing::Over }
    }

    /// As [`Client::connect`], from another address of this machine's.
    pub async fn connect_from(from: Ipv4Addr, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((from, 0).into()).expect("all of 127.0.0.0/8 is this machine");
        let stream = patiently("a connection", socket.connect(address)).await;
        Self { wire: Wire::new(stream.expect("the server listens")), framing: Framing::Over }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.wire.write(bytes).await;
    }

    /// The status of an interim response, which is to come next.
    pub async fn interim(&mut self) -> u16 {
        self.wire.head().await.expect("there is an answer").status()
    }

    /// The head of the next response, interim ones left out.
    pub async fn head(&mut self) -> Head {
        self.head_or_end().await.expect("there is an answer")
    }

    /// As [`Client::head`]; `None` where the connection ends before there is a whole one.
    pub async fn head_or_end(&mut self) -> Option<Head> {
        loop {
            let head = self.wire.head().await.ok()?;
            if (100..200).contains(&head.status()) {
                continue;
            }
            let is_chunked = head.header("transfer-encoding") == Some("chunked");
            let length = head.length().unwrap_or_default();
            self.framing = if is_chunked { Framing::Chunked } else { Framing::Length(length) };
            return Some(head);
        }
    }

    /// The next piece of the body.
    pub async fn piece(&mut self) -> Piece {
        self.read_piece().await.unwrap_or_else(|_| {
            self.framing = Framing::Over;
            Piece::Cut
        })
    }

    async fn read_piece(&mut self) -> Result<Piece, Over> {
        match self.framing {
            Framing::Over | Framing::Length(0) => {
                self.framing = Framing::Over;
                Ok(Piece::End)
            }
            Framing::Length(left) => {
                if self.wire.buffer.is_empty() {
                    self.wire.fill("more of the body").await?;
                }
                let length = self.wire.buffer.len().min(left);
                self.framing = Framing::Length(left - length);
                Ok(Piece::Data(self.wire.exactly(length).await?))
            }
            Framing::Chunked => {
                let line =
                    String::from_utf8(self.wire.until(b"\r\n").await?).expect("a chunk size");
                let size = usize::from_str_radix(line.trim(), 16).expect("a chunk size");
                let mut chunk = self.wire.exactly(size + 2).await?;
                assert_eq!(chunk.split_off(size), b"\r\n");
                if size == 0 {
                    self.framing = Framing::Over;
                    return Ok(Piece::End);
                }
                Ok(Piece::Data(chunk))
            }
        }
    }

    /// What follows of the body until `mark` has come; panics where the body ends before.
    pub async fn body_until(&mut self, mark: &str) -> Vec<u8> {
        let mut body = Vec::new();
        while !body.windows(mark.len()).any(|bytes| bytes == mark.as_bytes()) {
            match self.piece().await {
                Piece::Data(bytes) => body.extend(bytes),
                end => panic!("{end:?} before {mark:?}: {}", String::from_utf8_lossy(&body)),
            }
        }
        body
    }

    /// The rest of the body, and whether it ended as it should.
    pub async fn rest(&mut self) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            match self.piece().await {
                Piece::Data(bytes) => body.extend(bytes),
                end => return (body, end == Piece::End),
            }
        }
    }

    /// The next response, whole.
    pub async fn answer(&mut self) -> Answer {
        let head = self.head().await;
        let (body, is_whole) = self.rest().await;
        Answer { status: head.status(), head, body, is_whole }
    }

    /// All that comes until the connection ends, and whether it ends in good order.
    pub async fn until_end(&mut self) -> (Vec<u8>, bool) {
        loop {
            if let Err(over) = self.wire.fill("the server ends the connection").await {
                return (std::mem::take(&mut self.wire.buffer), over == Over::Closed);
            }
        }
    }

    /// Sends what the server may not take any more.
    pub async fn try_send(&mut self, bytes: &[u8]) -> bool {
        patiently("bytes are taken", self.wire.stream.write_all(bytes)).await.is_ok()
    }

    /// The server closes this connection, and nothing more comes.
    pub async fn closed(&mut self) {
        let over = self.wire.fill("the server closes").await;
        assert!(over.is_err(), "{}", String::from_utf8_lossy(&self.wire.buffer));
    }

    /// The first byte of what comes next, which stays there.
    pub async fn peek(&mut self) -> u8 {
        while self.wire.buffer.is_empty() {
            self.wire.fill("a byte").await.expect("the connection is open");
        }
        self.wire.buffer[0]
    }

    /// Says that nothing more will be sent, and goes on reading.
    pub async fn half_close(&mut self) {
        self.wire.stream.shutdown().await.expect("the socket is open");
    }

    /// Closes with a reset. Dropping the client closes normally.
    pub fn reset(self) {
        self.wire.reset();
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The id by which the ledger knows it.
    pub fn event_id(&self) -> &str {
        self.header("x-request-id").expect("every answer has an id")
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    /// `error.code`.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}
