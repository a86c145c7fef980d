//! Where each API states what the meter wants to know: usage, model, finish, errors, and how much
//! was said. One [`Document`] watches one JSON document at a time, a response's body or one event's
//! data, token by token; it keeps a few numbers and at most 2 KiB of a usage object.

mod codes;
mod said;
mod values;

use std::ops::Range;

use self::codes::{is_error_code, is_failed_status, number};
use super::capture::Captures;
use super::facts::{DocumentFacts, Loose, Slot};
use super::id::Ids;
use super::keys::{Key, Place, Word, child};
use super::name::Name;
use super::picture::Pictures;
use super::text::Text;
use crate::json::{Sink, Token};

/// Nothing that matters stands deeper.
const DEPTH: usize = 12;

/// What the text of the present token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Nothing,
    Key,
    Text,
    Reasoning,
    Image {
        any: bool,
    },
    Model,
    Id,
    Kind,
    /// Whether the answer is still to be made.
    Pending,
    Index,
    Error,
    /// A value in a usage object.
    Usage,
    /// A picture that may be said again.
    Picture,
    /// The same, if its item is one of the tool that makes pictures.
    Result,
    ItemType,
    Finish,
    /// Something that a choice says, and that is not its text.
    Filled,
    /// The same by a name that means nothing here: it may be the answer.
    Strange,
    /// What has no name here, at the top; nothing, if it is empty.
    Extra,
    /// The same: where something is.
    Address,
    /// `object`, which may be `error`.
    Object,
    Status,
    Code,
    ErrorCode,
    Note,
    Detail,
    Loose(Loose),
}

/// Watches documents, one after the other.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) facts: DocumentFacts,
    /// What the model said, over all documents.
    pub(super) text: Text,
    pub(super) name: Name,
    pub(super) ids: Ids,
    /// The present document is an object.
    pub(super) is_object: bool,
    /// One document of many; else a whole body.
    event: bool,
    /// What to add to an offset in the document for one in the stream. With several data lines it
    /// changes from line to line.
    base: u64,
    places: [Place; DEPTH],
    /// What the container is that began last.
    inside: Place,
    key: Key,
    key_at: u64,
    word: Word,
    reading: Reading,
    pub(super) captures: Captures,
    pictures: Pictures,
    /// What the present item is, and what its tool made.
    is_drawing: bool,
    result: Option<u64>,
    /// The present item of the images API has been counted.
    is_pictured: bool,
    /// The stream says its answer in deltas.
    says_deltas: bool,
    /// Bytes of text before the present message; and those of the present choice's.
    message_from: u64,
    repeated: u64,
    /// Bytes of text before the present document.
    begun_at: u64,
    /// It has a `delta` of which its `type` has not told yet whether it is text.
    is_untyped: bool,
    /// Where the present text begins, and how much of the present message's thoughts has been said.
    text_from: u64,
    reasoned: u64,
    /// Something was said, over all documents, of which nobody knows what it is.
    pub(super) is_strange: bool,
}

impl Document {
    /// `event`: one of many in a stream. `renames`: whether the model's name is to be found for
    /// replacing. `wants_ids`: a response's ids are to be found.
    pub(super) fn new(event: bool, renames: bool, wants_ids: bool) -> Self {
        Self {
            facts: DocumentFacts::default(),
            text: Text::default(),
            name: Name::new(renames),
            ids: Ids::new(wants_ids),
            is_object: false,
            event,
            base: 0,
            places: [Place::Elsewhere; DEPTH],
            inside: Place::Elsewhere,
            key: Key::Other,
            key_at: 0,
            word: Word::default(),
            reading: Reading::Nothing,
            captures: Captures::default(),
            pictures: Pictures::default(),
            is_drawing: false,
            result: None,
            is_pictured: false,
            says_deltas: false,
            message_from: 0,
            repeated: 0,
            begun_at: 0,
            is_untyped: false,
            text_from: 0,
            reasoned: 0,
            is_strange: false,
        }
    }

    /// The next document begins.
    pub(super) fn reset(&mut self) {
        self.begun_at = self.text.bytes();
        self.is_untyped = false;
        let mut choice = std::mem::take(&mut self.facts.choice);
        choice.clear();
        self.facts = DocumentFacts { choice, ..DocumentFacts::default() };
        self.reading = Reading::Nothing;
        self.key = Key::Other;
        self.is_object = false;
        self.captures.reset();
        self.pictures.reset();
        self.name.reset();
    }

    /// The next piece stands `base` further in the stream than in the document.
    pub(super) fn stands(&mut self, base: u64) {
        self.base = base;
    }

    fn place(&self, depth: usize) -> Place {
        self.places.get(depth).copied().unwrap_or(Place::Elsewhere)
    }

    fn enter(&mut self, depth: usize, place: Place) {
        if let Some(slot) = self.places.get_mut(depth + 1) {
            *slot = place;
        }
        self.key = Key::Other;
    }
}

impl Sink for Document {
    fn begin(&mut self, token: Token, depth: usize, at: u64) {
        self.reading = Reading::Nothing;
        let container = if depth == 0 { Place::Elsewhere } else { self.place(depth) };
        let in_usage = self.captures.is_open();
        if token == Token::Key {
            if in_usage || container != Place::Elsewhere {
                self.reading = Reading::Key;
                self.word.clear();
                self.key_at = self.base.wrapping_add(at);
            }
            return;
        }
        let is_container = matches!(token, Token::Object | Token::Array);
        if in_usage && !is_container {
            return self.read_word(Reading::Usage);
        }
        if !in_usage && container != Place::Elsewhere {
            self.value(container, token, depth, at);
        }
        if is_container {
            let object = token == Token::Object;
            self.is_object |= depth == 0 && object;
            self.inside = match () {
                () if in_usage && !self.captures.inside(token) => Place::Elsewhere,
                () if self.captures.is_open() => Place::Usage,
                () if depth == 0 => Place::root(object),
                () => child(container, self.key, object),
            };
            match self.inside {
                Place::Item | Place::RepeatedItem => (self.is_drawing, self.result) = (false, None),
                Place::Pictured => self.is_pictured = false,
                Place::Delta => (self.says_deltas, self.reasoned) = (true, 0),
                Place::Message => (self.message_from, self.reasoned) = (self.text.bytes(), 0),
                Place::Choice => self.repeated = 0,
                _ => {}
            }
            self.enter(depth, self.inside);
        }
    }

    #[inline]
    fn wants(&self) -> bool {
        self.inside != Place::Elsewhere
    }

    /// Nothing but a key or a value in a container that matters is spoken of, apart from the root.
    #[inline]
    fn whole(&mut self, token: Token, depth: usize, span: Range<u64>, text: &[u8]) {
        if self.captures.is_open() {
            // As long as it can be when it comes in pieces.
            let text = if text.len() <= Word::LIMIT { text } else { &[] };
            match token {
                Token::Key => self.captures.key(text),
                _ => self.captures.value(token, text),
            }
            return;
        }
        if token == Token::Key {
            self.key = Key::of(text);
            self.key_at = self.base.wrapping_add(span.start);
            return;
        }
        if depth == 0 {
            return;
        }
        self.reading = Reading::Nothing;
        self.value(self.place(depth), token, depth, span.start);
        if self.reading != Reading::Nothing {
            if !text.is_empty() {
                self.text(text);
            }
            self.end(token, depth, span.end);
        }
    }

    fn text(&mut self, piece: &[u8]) {
        match self.reading {
            Reading::Nothing => {}
            Reading::Key
            | Reading::Usage
            | Reading::ItemType
            | Reading::Object
            | Reading::Code
            | Reading::ErrorCode
            | Reading::Finish
            | Reading::Loose(_) => self.word.push(piece),
            Reading::Text | Reading::Reasoning => {
                self.text.push(piece);
                self.fill();
            }
            Reading::Image { .. } => {
                self.reading = Reading::Image { any: true };
                self.fill();
            }
            Reading::Picture => {
                self.pictures.push(piece);
                self.fill();
            }
            Reading::Result => self.pictures.push(piece),
            Reading::Filled => self.fill(),
            Reading::Extra => self.facts.extra = true,
            Reading::Address => (self.facts.extra, self.facts.is_linked) = (true, true),
            Reading::Strange => {
                self.is_strange = true;
                self.fill();
            }
            Reading::Status => {
                self.facts.error |= piece.iter().any(|byte| matches!(byte, b'1'..=b'9'));
            }
            Reading::Note => self.facts.signs.message = true,
            Reading::Detail => self.facts.signs.detail = true,
            Reading::Model => self.name.text(piece),
            Reading::Id => self.ids.text(piece),
            Reading::Kind => self.facts.kind.push(piece),
            Reading::Pending => self.word.push(piece),
            Reading::Error => {
                self.facts.error = true;
                self.fill();
            }
            Reading::Index => {
                if let Some(choice) = self.facts.choice.last_mut() {
                    for digit in piece.iter().filter(|byte| byte.is_ascii_digit()) {
                        let digit = u64::from(digit - b'0');
                        choice.index = choice.index.saturating_mul(10).saturating_add(digit);
                    }
                }
            }
        }
    }

    fn end(&mut self, token: Token, depth: usize, end: u64) {
        match (token, self.reading) {
            (Token::Key, Reading::Key) if self.captures.is_open() => {
                self.captures.key(self.word.bytes());
            }
            (Token::Key, Reading::Key) => self.key = Key::of(self.word.bytes()),
            (_, Reading::Usage) => self.captures.value(token, self.word.bytes()),
            (_, Reading::Picture) => {
                let print = self.pictures.end();
                self.count(print);
            }
            (_, Reading::Result) => self.result = self.pictures.end(),
            (_, Reading::ItemType) => {
                self.is_drawing = self.word.bytes() == b"image_generation_call";
            }
            (_, Reading::Finish) => self.finish(),
            (_, Reading::Object) => self.facts.error |= self.word.bytes() == b"error",
            (_, Reading::ErrorCode) => self.facts.signs.detail |= is_error_code(self.word.bytes()),
            // Each part of a message has thoughts of its own.
            (_, Reading::Reasoning)
                if matches!(self.place(depth), Place::Delta | Place::Message) =>
            {
                let said = self.text.bytes().saturating_sub(self.text_from);
                self.text.take_back(said.min(self.reasoned));
                self.reasoned = said.max(self.reasoned);
            }
            (_, Reading::Code) => self.facts.signs.code = is_error_code(self.word.bytes()),
            (_, Reading::Loose(loose)) => {
                let places = if loose == Loose::Duration { 3 } else { 0 };
                let found = number(self.word.bytes(), places);
                self.facts.is_duration_odd |= loose == Loose::Duration && found.is_none();
                self.facts.loose[loose as usize] = found;
            }
            (Token::String, Reading::Model) => self.name.end(self.base.wrapping_add(end)),
            (Token::String, Reading::Id) => self.ids.end(),
            (_, Reading::Pending) => {
                self.facts.signs.failed = is_failed_status(self.word.bytes());
                self.facts.pending =
                    matches!(self.word.bytes(), b"queued" | b"in_progress" | b"pending");
            }
            // An address and the bytes are one picture.
            (Token::String, Reading::Image { any: true })
                if self.place(depth) == Place::Pictured =>
            {
                self.facts.images += u32::from(!self.is_pictured);
                self.is_pictured = true;
            }
            (Token::String, Reading::Image { any: true }) => self.facts.images += 1,
            (Token::Object | Token::Array, _) => {
                if self.captures.end(depth, end) == Some(Slot::Top) {
                    self.facts.usage_end_at = self.base.wrapping_add(end);
                }
                match self.place(depth + 1) {
                    Place::Item | Place::RepeatedItem if self.is_drawing => {
                        let print = self.result.take();
                        self.count(print);
                    }
                    Place::Message if self.event => {
                        self.repeated = self.text.bytes().saturating_sub(self.message_from);
                    }
                    // A message beside deltas says all of them again.
                    Place::Choice if self.says_deltas => self.text.take_back(self.repeated),
                    _ => {}
                }
                self.key = Key::Other;
            }
            _ => {}
        }
        self.reading = Reading::Nothing;
    }
}
