//! What the meter knows of a response, for whoever settles it or may have to cut it.

use std::borrow::Cow;

use super::usage_selection::{Pick, UsageSelection};
use super::{Kind, Meter};
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
    /// Usage was stated once only, and not behind text that had come: it may say what there was at the start.
    /// Or it is not of all the prompts, or pictures, that were asked for.
    pub(crate) is_early: bool,
    /// The usage is that of some of the prompts.
    pub(crate) misses_prompts: bool,
    /// It leaves out choices, of which there are more than are told apart.
    pub(crate) misses_choices: bool,
    /// The usage object as it was sent; at most 2 KiB.
    pub(crate) raw_usage: Option<Box<str>>,
    /// The model that the upstream says it used.
    pub(crate) model_served: Option<Box<str>>,
    /// The response's id and those of its items, where they are wanted.
    pub(crate) response_ids: Box<[Box<str>]>,
    /// All choices that began have finished, or an API that knows no choices has said its last.
    pub(crate) finish_reason: bool,
    /// Usage in a chunk of its own was the last that came.
    pub(crate) ends_with_usage: bool,
    /// As [`super::Meter::done`].
    pub(crate) done: bool,
    /// The answer says that it is still to be made (`queued`, `in_progress`).
    pub(crate) is_pending: bool,
    /// An error was stated at the top of a document.
    pub(crate) error: bool,
    /// Usage was stated that cannot be.
    pub(crate) suspect: bool,
    /// The upstream's total is not its input plus its output, and nothing that it states says why.
    pub(crate) total_differs: bool,
    /// The usage is a total alone, which stands in `input`; some of it was output.
    pub(crate) is_undivided: bool,
    /// Bytes that came for an answer, if none of them could be read as one.
    pub(crate) unread_bytes: u64,
    /// Some of what came is broken, or all of it is in no form that is known.
    pub(crate) is_unread: bool,
    /// It ended in the middle of an event, or of its compression.
    pub(crate) breaks_off: bool,
    /// Nothing came, or only the forms of an answer with nothing in them.
    pub(crate) is_no_answer: bool,
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
    /// Whether it is a stream whose events are read.
    pub(crate) fn is_stream(&self) -> bool {
        self.kind == Kind::Sse && !self.is_blind()
    }

    /// Whether an answer that ends here may be whole; of one that could not be read nobody knows.
    pub(crate) fn may_end(&self) -> bool {
        let ends = match self.kind {
            // Some make one picture, however many are asked for, and say nothing of the others.
            Kind::Sse => self.ends_unmarked() || self.selection().is_between_pictures(),
            // An object that is open at its end broke off where nothing said how long it would be.
            Kind::Json => !self.document.is_object || self.event.broken,
            _ => true,
        };
        self.done || ends || self.error() || self.is_blind()
    }

    /// Whether an error has been stated; as [`Reading::error`].
    pub(crate) fn error(&self) -> bool {
        self.kind == Kind::Page || self.selection().is_error()
    }

    /// Whether the answer has said its last without the mark that should follow: as many choices as were asked
    /// for have finished, or the usage has come in a chunk of its own after something was said, with no choice
    /// left that others have finished beside.
    pub(crate) fn ends_unmarked(&self) -> bool {
        let selection = self.selection();
        let is_said = selection.answered || self.document.text.bytes() > 0;
        let may_be_all = selection.has_ended() || !selection.finish_reason;
        selection.is_complete_text() || (selection.ends_with_usage && is_said && may_be_all)
    }

    /// How far a stream has come. Cheap enough to be asked after every piece.
    pub(crate) fn progress(&self) -> Progress {
        let pick = self.selection.pick.as_ref();
        let is_final = pick.is_some_and(|pick| pick.is_final);
        let has_ended = self.selection.has_ended();
        let output_text_bytes = self.document.text_bytes();
        Progress {
            total_tokens: pick
                .filter(|pick| {
                    let is_part = pick.is_start || self.selection.misses_choices();
                    !is_part && !self.selection.is_early(output_text_bytes)
                })
                .map(|pick| pick.usage.total),
            output_text_bytes,
            output_images: self.selection.images.saturating_add(self.document.pictures_in_text()),
            is_over: self.done || is_final || has_ended || self.selection.error,
        }
    }

    /// What has been said so far, for whoever books it. May be called at any time; the text of the usage object
    /// is handed over.
    pub(crate) fn take_reading(&mut self) -> Reading {
        let mut reading = self.read();
        let is_whole = self.kind != Kind::Json || self.done;
        if let Some(pick) = self.selection.pick.as_mut().filter(|_| is_whole) {
            reading.raw_usage = pick.raw.take();
        }
        reading
    }

    /// The same, handing nothing over.
    #[cfg(test)]
    pub(super) fn reading(&self) -> Reading {
        let raw_usage = self.selection().pick.as_ref().and_then(|pick| pick.raw.clone());
        Reading { raw_usage, ..self.read() }
    }

    fn read(&self) -> Reading {
        let selection = self.selection();
        let pick = selection.pick.as_ref();
        let output_text_bytes = self.document.text_bytes();
        let output_images = selection.images.saturating_add(self.document.pictures_in_text());
        let error = self.kind == Kind::Page || selection.is_error();
        // Alone it is of the whole where nothing but the end has followed.
        let is_last = self.done && selection.ends_with_usage;
        let says_nothing = |pick: &Pick| {
            pick.alone && !pick.is_final && pick.usage.output == 0 && !selection.ends_with_usage
        };
        let has_said = pick.is_some() || output_text_bytes > 0 || output_images > 0;
        let present = if self.event.is_mark { 0 } else { self.event.len };
        let content = self.content + present;
        // Of a document that is open nobody knows yet what it is: it may be a picture, or an echo of the prompt.
        let is_open = self.is_within_document();
        let whole = if is_open { self.content } else { content };
        let is_known = selection.answered || selection.shell;
        let is_foreign = whole > 0 && (!is_known || self.document.is_strange || self.is_broken);
        let is_foreign = is_foreign && selection.has_output && !has_said && !error;
        Reading {
            usage: selection.usage(),
            is_final: pick.is_some_and(|pick| pick.is_final || (pick.alone && is_last)),
            is_start: pick.is_some_and(|pick| pick.is_start || (says_nothing(pick) && !is_last)),
            is_early: selection.is_early(output_text_bytes),
            misses_prompts: selection.misses_prompts(),
            misses_choices: selection.misses_choices(),
            raw_usage: match &selection {
                // A body that was cut.
                Cow::Owned(selection) => selection.pick.as_ref().and_then(|pick| pick.raw.clone()),
                Cow::Borrowed(_) => None,
            },
            model_served: self.document.name.model(),
            response_ids: self.document.ids.known(),
            finish_reason: selection.has_ended(),
            ends_with_usage: selection.ends_with_usage,
            done: self.done,
            is_pending: selection.pending,
            error,
            suspect: selection.suspect,
            total_differs: pick.is_some_and(|pick| pick.differs),
            is_undivided: pick.is_some_and(|pick| pick.is_undivided),
            unread_bytes: if is_foreign { whole } else { 0 },
            is_unread: is_foreign || self.is_broken || (self.kind == Kind::Unread && content > 0),
            breaks_off: self.breaks_off || self.tap.as_ref().is_some_and(|tap| tap.is_within()),
            is_no_answer: !error
                && !has_said
                && !is_foreign
                && !self.is_blind()
                && self.is_empty(content, &selection),
            is_blind: self.is_blind(),
            output_text_bytes,
            output_images,
        }
    }

    /// Whether an object has begun that has not ended, and is not broken.
    pub(super) fn is_within_document(&self) -> bool {
        self.document.is_object && !self.event.broken && !self.scanner.is_complete()
    }

    /// Whether what came holds no answer.
    fn is_empty(&self, content: u64, selection: &UsageSelection) -> bool {
        match self.kind {
            Kind::Json | Kind::Sse => !selection.answered && (content == 0 || selection.shell),
            _ => !self.is_begun,
        }
    }

    pub(super) fn is_blind(&self) -> bool {
        self.tap.as_ref().is_some_and(|tap| tap.is_blind())
    }

    /// What counts so far.
    fn selection(&self) -> Cow<'_, UsageSelection> {
        if self.kind != Kind::Json || self.done {
            return Cow::Borrowed(&self.selection);
        }
        // A body that was cut may have stated its usage already.
        let mut selection = self.selection.clone();
        selection.absorb(&self.document, true);
        Cow::Owned(selection)
    }

    /// As [`Reading::is_pending`].
    pub(crate) fn is_pending(&self) -> bool {
        self.selection().pending
    }

    /// Whether nothing more can come that counts: it is done, or all was said and its usage stated.
    pub(crate) fn is_settled(&self) -> bool {
        let is_final = || self.selection.pick.as_ref().is_some_and(|pick| pick.is_final);
        self.done || (self.selection.is_complete_text() && is_final())
    }

    /// Whether a stream has said all of its answer: only its usage may follow.
    pub(crate) fn awaits_usage(&self) -> bool {
        self.is_stream() && self.selection.is_complete_text() && !self.is_settled()
    }
}
