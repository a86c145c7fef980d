//! What the meter knows of a response, for whoever settles it or may have to cut it.

use super::Meter;
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
    /// A choice has finished, or an API that knows no choices has said its last.
    pub(crate) finish_reason: bool,
    /// As [`super::Meter::done`].
    pub(crate) done: bool,
    /// The answer says that it is still to be made (`queued`, `in_progress`).
    pub(crate) is_pending: bool,
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

impl Meter {
    /// As [`Reading::finish_reason`].
    pub(crate) fn finish_reason(&self) -> bool {
        self.tally().finish_reason
    }

    /// As [`Reading::is_pending`].
    pub(crate) fn is_pending(&self) -> bool {
        self.tally().pending
    }

    /// Whether nothing more can come that counts: it is done, or all was said and its usage stated.
    pub(crate) fn is_told(&self) -> bool {
        let is_final = || self.tally.pick.as_ref().is_some_and(|pick| pick.is_final);
        self.done || (self.tally.all_said() && is_final())
    }

    /// Whether a stream has said all of its answer: only its usage may follow.
    pub(crate) fn awaits_usage(&self) -> bool {
        self.is_stream() && self.tally.all_said() && !self.is_told()
    }
}
