//! How a response is to be metered, and what its head says of its form.

use super::tap::Coding;

/// How a response is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One JSON document.
    Json,
    /// An event stream.
    Sse,
    /// Plain text, such as a transcript: only its size counts.
    Text,
    /// Not at all.
    Opaque,
}

/// What to do with a response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup<'a> {
    pub(crate) kind: Kind,
    /// `None`: it comes as it is.
    pub(crate) coding: Option<Coding>,
    pub(crate) hide: Hide,
    /// Answers that the client asked for (`n`), at least.
    pub(crate) answers: u64,
    /// What the client calls the model, where the upstream calls it otherwise.
    pub(crate) model: Option<&'a str>,
}

/// Which usage in a stream the client is not to see, because Weir asked for it and the client did
/// not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hide {
    Nothing,
    /// That at the stream's end: the events that are there for it only, and nulls elsewhere. What
    /// stands beside content comes from the upstream's own will, and stays.
    Last,
    /// Every one: Weir asked for running usage, the client for none.
    All,
    /// That beside content: Weir asked for running usage, the client for the last one only.
    Running,
}

impl Kind {
    /// By the response's head; unknown types are opaque.
    pub(crate) fn of(content_type: Option<&str>) -> Self {
        let full = content_type.unwrap_or_default();
        let media = full.split(';').next().unwrap_or_default().trim();
        let is = |known: &str| media.eq_ignore_ascii_case(known);
        let suffix = media.len().checked_sub("+json".len()).and_then(|at| media.get(at..));
        if is("text/event-stream") {
            Self::Sse
        } else if is("application/json")
            || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case("+json"))
        {
            Self::Json
        } else if ["text/plain", "text/vtt", "text/srt", "application/x-subrip"].into_iter().any(is)
        {
            Self::Text
        } else {
            Self::Opaque
        }
    }
}
