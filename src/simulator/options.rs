//! How a simulator is set up. What is here can also be set for one request, by an `x-sim-…` header
//! (`controls.rs`).

use std::net::{Ipv4Addr, SocketAddr};

use super::dialect::Dialect;

/// The text model of the API documents.
pub const TEXT_MODEL: &str = "gpt-5.4";
/// Their image model. Every model with `image` in its name behaves like this one.
pub const IMAGE_MODEL: &str = "gpt-5.4-image-2";

/// Which of the two readings of the API documents is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// OpenAI's complete objects, which the documents call themselves compatible with.
    #[default]
    Full,
    /// The documents' examples as they are printed: what an example leaves out is left out.
    Literal,
}

/// How an answer states its usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageForm {
    /// The three sums.
    Standard,
    /// The three sums and the details of both sides, all zero.
    Extended,
    /// No usage at all, not even in a stream that was asked for it.
    Absent,
}

/// What happens to `stream_options`, which the API documents don't list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamOptions {
    #[default]
    Honour,
    /// Taken for an unknown field: accepted, without effect.
    Ignore,
    /// Answered with 400 `invalid_request`.
    Refuse,
}

/// How a simulator is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The only key that is accepted; `None` accepts any bearer that is not empty.
    pub api_key: Option<String>,
    pub mode: Mode,
    /// In mode literal: the answer in JSON mode is the bare object that the documents print, without
    /// an envelope around it.
    pub bare_json: bool,
    /// `None`: extended in mode full, standard in mode literal.
    pub usage: Option<UsageForm>,
    pub stream_options: StreamOptions,
    /// Whose form streams have in mode full.
    pub dialect: &'static Dialect,
    /// HTTPS, with a certificate made at start and signed by a CA made at start.
    pub tls: bool,
    /// Milliseconds from the head of a stream to its first token; without a stream, to the answer.
    pub first_token_ms: u64,
    /// Milliseconds between two tokens; 0: as fast as they are read.
    pub token_interval_ms: u64,
    /// The length of a text answer; `None`: as long as its sentences are.
    pub answer_tokens: Option<u64>,
    pub models: Vec<String>,
    /// Keeps a record of every posted request, its head and body included, for
    /// [`Simulator::served`](super::Simulator::served).
    pub record: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            api_key: None,
            mode: Mode::Full,
            bare_json: false,
            usage: None,
            stream_options: StreamOptions::Honour,
            dialect: Dialect::openai(),
            tls: false,
            first_token_ms: 0,
            token_interval_ms: 0,
            answer_tokens: None,
            models: vec![TEXT_MODEL.to_owned(), IMAGE_MODEL.to_owned()],
            record: false,
        }
    }
}
