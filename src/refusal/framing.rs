//! Refusals after which nothing more is heard on a connection: where a message ends is in doubt, or the
//! connection is one too many.

use http::StatusCode;

use super::Refusal;

impl Refusal {
    /// Where the message ends, or whom it is for, may be read in two ways: nothing behind it is heard.
    fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    /// RFC 9112 §3.2.
    pub(crate) fn host() -> Self {
        let message = "Invalid request. An HTTP/1.1 request has exactly one Host header.";
        Self::client("invalid_request", StatusCode::BAD_REQUEST, message).closing()
    }

    /// RFC 9112 §6.1: `chunked` is the last coding, and there once.
    pub(crate) fn chunked_not_once() -> Self {
        let message = "Invalid request. A transfer-encoding is exactly one `chunked`.";
        Self::client("invalid_request", StatusCode::BAD_REQUEST, message).closing()
    }

    /// RFC 9112 §6.1: a coding that is not understood is 501.
    pub(crate) fn unknown_transfer_coding() -> Self {
        let message = "This transfer-encoding is not supported; send `chunked` alone, or a length.";
        Self::client("unsupported_transfer_encoding", StatusCode::NOT_IMPLEMENTED, message)
            .closing()
    }

    /// More connections are open than may be: this one is told so once.
    pub(crate) fn surplus_connection(what: &'static str) -> Self {
        Self::overloaded(what).closing()
    }
}
