//! One end of a TCP connection, read byte by byte as HTTP/1.1.

use std::net::Shutdown;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::patiently;

/// One end of a TCP connection, read byte by byte as HTTP/1.1.
pub(super) struct Wire {
    pub(super) stream: TcpStream,
    /// What was read and not used.
    pub(super) buffer: Vec<u8>,
    is_reset: bool,
}

/// Why there is nothing more to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Closed,
    Reset,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("the socket is open");
        Self { stream, buffer: Vec::new(), is_reset: false }
    }

    pub(super) async fn fill(&mut self, what: &str) -> Result<(), Over> {
        match patiently(what, self.stream.read_buf(&mut self.buffer)).await {
            Ok(0) => Err(Over::Closed),
            Ok(_) => Ok(()),
            Err(_) => Err(Over::Reset),
        }
    }

    /// Reads up to and with `mark`.
    pub(super) async fn until(&mut self, mark: &[u8]) -> Result<Vec<u8>, Over> {
        loop {
            if let Some(at) = self.buffer.windows(mark.len()).position(|bytes| bytes == mark) {
                return Ok(self.buffer.drain(..at + mark.len()).collect());
            }
            self.fill(&format!("{:?}", String::from_utf8_lossy(mark))).await?;
        }
    }

    pub(super) async fn exactly(&mut self, length: usize) -> Result<Vec<u8>, Over> {
        while self.buffer.len() < length {
            self.fill("the announced bytes").await?;
        }
        Ok(self.buffer.drain(..length).collect())
    }

    pub(super) async fn head(&mut self) -> Result<Head, Over> {
        let raw = String::from_utf8(self.until(b"\r\n\r\n").await?).expect("heads are ASCII");
        let mut lines = raw.trim_end().split("\r\n");
        let first = lines.next().unwrap_or_default().to_owned();
        let pair = |line: &str| {
            let (name, value) = line.split_once(':').expect("header lines have a colon");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        let headers = lines.map(pair).collect();
        Ok(Head { first, headers, raw })
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) {
        patiently("bytes are taken", self.stream.write_all(bytes)).await.expect("the peer listens");
    }

    pub(super) fn reset(mut self) {
        self.is_reset = true;
        let linger = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        linger.expect("the socket is open");
    }
}

impl Drop for Wire {
    /// Closing the socket is not enough: a program that another test starts at this moment holds a copy
    /// of it for a while, and the peer would learn of the end only then.
    fn drop(&mut self) {
        if !self.is_reset {
            // It may be closed already.
            let _ = SockRef::from(&self.stream).shutdown(Shutdown::Both);
        }
    }
}

/// The head of a message as it was received.
#[derive(Clone, Debug)]
pub struct Head {
    /// The request line or the status line.
    pub first: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub raw: String,
}

impl Head {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(one, _)| one == name).map(|(_, value)| &**value)
    }

    /// The status of a response.
    pub fn status(&self) -> u16 {
        let status = self.first.split(' ').nth(1).and_then(|code| code.parse().ok());
        status.unwrap_or_else(|| panic!("no status line: {}", self.first))
    }

    pub(super) fn length(&self) -> Option<usize> {
        self.header("content-length").map(|text| text.parse().expect("a length is a number"))
    }
}
