//! How a response is to be metered, and what its head says of its form.

use super::decoding_tap::{Coding, DecodingTap};
use super::sse::BOM;

/// How a response is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One JSON document.
    Json,
    /// An event stream.
    Sse,
    /// Plain text, such as a transcript: only its size counts.
    Text,
    /// A page for people: what stands between Weir and the model has answered, with an error.
    Page,
    /// Not at all: what it is, the endpoint knows.
    Opaque,
    /// In no form that is known, where there should be one: its size is all that can be told.
    Unread,
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
    /// Prompts that each get so many of these answers, at least 1.
    pub(crate) prompts: u64,
    /// The endpoint answers with tokens; else its total is its input.
    pub(crate) has_output: bool,
    /// It listens to audio, whose length may stand at the top of its answer.
    pub(crate) hears: bool,
    /// What the client calls the model, where the upstream calls it otherwise.
    pub(crate) model: Option<&'a str>,
    /// It is of the Responses API, and somebody wants to know its ids.
    pub(crate) wants_ids: bool,
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
        let media = media(content_type);
        let is = |known: &str| media.eq_ignore_ascii_case(known);
        let suffix = media.len().checked_sub("+json".len()).and_then(|at| media.get(at..));
        // Documents line by line are read like events without their names.
        let is_lines = ["application/x-ndjson", "application/jsonl", "application/x-jsonlines"];
        if is("text/event-stream") || is_lines.into_iter().any(is) {
            Self::Sse
        } else if is("application/json")
            || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case("+json"))
        {
            Self::Json
        } else if ["text/plain", "text/vtt", "text/srt", "application/x-subrip"].into_iter().any(is)
        {
            Self::Text
        } else if is("text/html") {
            Self::Page
        } else {
            Self::Opaque
        }
    }

    /// Whether an answer's first bytes are to say what it is: servers between Weir and the model drop the
    /// type, or put another one there. What was asked for as a stream may be one under JSON's type, too.
    pub(crate) fn is_open(self, is_stream: bool) -> bool {
        self != Self::Sse && (is_stream || self != Self::Json)
    }

    /// What an answer of this kind, by its type, is by what its first bytes told. Words that were heard may
    /// begin with anything but an object of JSON, and servers call them HTML that think of nothing by it
    /// (whisper.cpp's): such an answer is a page only if it begins as one, and a stream only where one was asked for.
    pub(crate) fn or_told(
        self,
        told: Result<Self, bool>,
        first: &[u8],
        hears: bool,
        is_stream: bool,
    ) -> Self {
        let is_transcript = hears && matches!(self, Self::Text | Self::Page);
        match told {
            Ok(Self::Page) if self == Self::Page => Self::Page,
            Ok(Self::Sse) if is_stream => Self::Sse,
            Ok(told)
                if !is_transcript
                    || (told == Self::Json && first.trim_ascii_start().starts_with(b"{")) =>
            {
                told
            }
            _ if is_transcript => Self::Text,
            _ if self == Self::Opaque => Self::Unread,
            _ => self,
        }
    }

    /// What an answer is by its first bytes. `Err(true)`: more of them would tell; `Err(false)`: it
    /// is what its type says. `hears`: as in [`Setup`].
    pub(crate) fn sniff(first: &[u8], coding: Option<Coding>, hears: bool) -> Result<Self, bool> {
        /// More bytes of a code that stand for nothing are not waited for.
        const CODED: usize = 4096;
        let Some(coding) = coding else { return Self::sniff_plain(first, hears) };
        let (mut tap, mut decoded) = (DecodingTap::new(coding), Vec::new());
        tap.push(first, |piece| {
            if decoded.is_empty() {
                decoded.extend_from_slice(piece);
            }
        });
        if tap.is_blind() || first.len() > CODED {
            return Self::sniff_plain(&decoded, hears).map_err(|_| false);
        }
        Self::sniff_plain(&decoded, hears)
    }

    fn sniff_plain(first: &[u8], hears: bool) -> Result<Self, bool> {
        /// What begins the lines of an event stream (WHATWG HTML §9.2.6).
        const STARTS: [&[u8]; 5] = [b"data:", b"event:", b"id:", b"retry:", b":"];
        /// Blanks keep a connection alive, and are not waited for without end.
        const BLANKS: usize = 64;
        /// What begins a page where words, too, may begin with its first byte (`<|0.00|>`).
        const PAGES: [&[u8]; 2] = [b"<!doctype html", b"<html"];
        let rest = first.strip_prefix(BOM).unwrap_or(first).trim_ascii_start();
        if BOM.starts_with(first) {
            return Err(true);
        }
        match rest.first() {
            None => Err(first.len() < BLANKS),
            Some(b'{' | b'[') => Ok(Self::Json),
            Some(b'<') if !hears => Ok(Self::Page),
            Some(b'<') => {
                let begins = |page: &[u8]| {
                    let both = page.len().min(rest.len());
                    page[..both].eq_ignore_ascii_case(&rest[..both]).then_some(both == page.len())
                };
                let is_whole = PAGES.iter().find_map(|page| begins(page)).ok_or(false)?;
                if is_whole { Ok(Self::Page) } else { Err(true) }
            }
            Some(_) if STARTS.iter().any(|start| rest.starts_with(start)) => Ok(Self::Sse),
            Some(_) => Err(STARTS.iter().any(|start| start.starts_with(rest))),
        }
    }
}

fn media(content_type: Option<&str>) -> &str {
    content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim()
}
