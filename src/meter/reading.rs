//! What the meter knows of a response, for whoever settles it or may have to cut it.

use crate::usage::Usage;

/// What a response has said so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    /// The usage that counts, if any was stated; explicit zeros stay zeros.
    pub(crate) usage: Option<Usage>,
    /// The usage is that of the whole answer, not of what had come so far.
    pub(crate) is_final: bool,
    /// The usage is that of the prompt, stated before there was an answer (Anthropic's first half).
    pub(crate) is_start: bool,
    /// The usage object as it was sent; at most 2 KiB.
    pub(crate) raw_usage: Option<Box<str>>,
    /// The model that the upstream says it used.
    pub(crate) model_served: Option<Box<str>>,
    /// The response's id and those of its items, where they are wanted.
    pub(crate) response_ids: Box<[Box<str>]>,
    /// A choice has finished, or an API that knows no choices has said its last.
    pub(crate) finish_reason: bool,
    /// As [`super::Meter::done`].
    pub(crate) done: bool,
    /// An error was stated at the top of a document.
    pub(crate) error: bool,
    /// Usage was stated that cannot be.
    pub(crate) suspect: bool,
    /// It came compressed, and not all of it could be read.
    pub(crate) is_blind: bool,
    /// Bytes of text that the model said, decoded.
    pub(crate) output_text_bytes: u64,
    pub(crate) output_images: u32,
}

/// How far a response has come, as far as that is known without looking closely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The running usage, input included, where it is stated.
    pub(crate) total_tokens: Option<u64>,
    pub(crate) output_text_bytes: u64,
    pub(crate) output_images: u32,
    /// All of it has been said: each choice has finished, the final usage or an error was stated.
    pub(crate) is_over: bool,
}
