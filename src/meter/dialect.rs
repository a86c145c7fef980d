//! Where each API states what the meter wants to know: usage, model, finish, errors, and how much
//! was said. One [`Document`] watches one JSON document at a time, a response's body or one event's
//! data, token by token; it keeps a few numbers and at most 2 KiB of each usage object.

use std::ops::Range;

use bytes::Bytes;

use super::keys::{Key, Place, Word, child};
use crate::json::{Sink, Token};

/// A usage object larger than this is not read.
pub(super) const RAW_USAGE_LIMIT: usize = 2 * 1024;
/// A model's name is kept up to here.
const MODEL_LIMIT: usize = 256;
/// Choices of one document that are told apart.
pub(super) const CHOICES_LIMIT: usize = 128;
/// Nothing that matters stands deeper.
const DEPTH: usize = 12;

/// Where a usage object was found, in the order in which they are considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// `x_groq.usage`
    Groq,
    /// `message.usage`: Anthropic's `message_start`.
    Message,
    /// `response.usage`: the Responses API.
    Response,
    /// `usage`
    Top,
}

impl Slot {
    pub(super) const ALL: [Self; 4] = [Self::Groq, Self::Message, Self::Response, Self::Top];
}

/// What stands at a key that should hold a certain kind of value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Member {
    #[default]
    Absent,
    Null,
    /// An object for `usage`, an array for `choices`.
    Proper,
    /// Something else, or the key stands there more than once.
    Odd,
}

/// What one document said.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) usage: Member,
    /// Offset in the stream of the top-level key `usage`.
    pub(super) usage_key_at: u64,
    pub(super) choices: Member,
    /// The first [`CHOICES_LIMIT`] elements of `choices`.
    pub(super) choice: Vec<Choice>,
    pub(super) more_choices: bool,
    /// Content-filter or moderation results: worth an event of their own.
    pub(super) remarks: bool,
    pub(super) error: bool,
    pub(super) images: u32,
    /// The images stand where the images API puts them, which answers nothing else.
    pub(super) images_api: bool,
    pub(super) kind: Word,
}

/// One element of `choices`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    pub(super) index: u64,
    pub(super) finished: bool,
    /// It says nothing: no delta, or one without anything in it.
    pub(super) empty: bool,
}

/// The bytes of one usage object.
#[derive(Debug, Default)]
struct Capture {
    span: Option<Range<u64>>,
    complete: bool,
    bytes: Vec<u8>,
}

/// A model's name that may have to become another one.
#[derive(Debug)]
struct Rename {
    /// The upstream's name as it stands in JSON between the quotes.
    from: Bytes,
    state: Renaming,
}

#[derive(Debug, PartialEq, Eq)]
enum Renaming {
    Waiting,
    /// The value that begins at `at` equals the name in its first `matched` bytes.
    Matching {
        at: u64,
        matched: usize,
    },
    Done,
}

/// What the text of the present token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Nothing,
    Key,
    Text,
    Image { any: bool },
    Model,
    Kind,
    Index,
    Error,
}

/// Where in an escape sequence of a counted text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    None,
    Begun,
    Digits(u8),
}

/// Watches documents, one after the other.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) facts: Facts,
    /// Bytes of text that the model said, over all documents.
    pub(super) text_bytes: u64,
    /// The first model named, in raw JSON; over all documents.
    model: Vec<u8>,
    model_known: bool,
    /// One document of many; else a whole body.
    event: bool,
    /// What to add to an offset in the document for one in the stream. With several data lines it
    /// changes from line to line.
    base: u64,
    places: [Place; DEPTH],
    key: Key,
    key_at: u64,
    word: Word,
    reading: Reading,
    escape: Escape,
    capturing: Option<(Slot, usize)>,
    captures: [Capture; 4],
    rename: Option<Rename>,
    renamed: Option<Range<u64>>,
}

impl Document {
    /// `event`: one of many in a stream. `rename`: the upstream's name of the model, if it is to be
    /// found for replacing.
    pub(super) fn new(event: bool, rename: Option<&str>) -> Self {
        let rename = rename.map(|name| {
            let quoted = json_string(name);
            Rename { from: quoted.slice(1..quoted.len() - 1), state: Renaming::Waiting }
        });
        Self {
            facts: Facts::default(),
            text_bytes: 0,
            model: Vec::new(),
            model_known: false,
            event,
            base: 0,
            places: [Place::Elsewhere; DEPTH],
            key: Key::Other,
            key_at: 0,
            word: Word::default(),
            reading: Reading::Nothing,
            escape: Escape::None,
            capturing: None,
            captures: Default::default(),
            rename,
            renamed: None,
        }
    }

    /// The next document begins.
    pub(super) fn reset(&mut self) {
        let mut choice = std::mem::take(&mut self.facts.choice);
        choice.clear();
        self.facts = Facts { choice, ..Facts::default() };
        self.reading = Reading::Nothing;
        self.key = Key::Other;
        self.capturing = None;
        for capture in &mut self.captures {
            capture.span = None;
        }
        if let Some(rename) = &mut self.rename {
            rename.state = Renaming::Waiting;
        }
    }

    /// The next piece stands `base` further in the stream than in the document.
    pub(super) fn stands(&mut self, base: u64) {
        self.base = base;
    }

    /// The document is broken: nothing more will be found in it.
    pub(super) fn abandon(&mut self) {
        if let Some(rename) = &mut self.rename {
            rename.state = Renaming::Done;
        }
    }

    /// Copies what the piece that has just been scanned holds of usage objects; `at` is its offset
    /// in the document.
    pub(super) fn collect(&mut self, piece: &[u8], at: u64) {
        for capture in &mut self.captures {
            let Some(span) = &capture.span else { continue };
            let from = span.start.max(at);
            let to = span.end.min(at + piece.len() as u64);
            // One byte above the limit is kept, to know that there was more.
            let room = RAW_USAGE_LIMIT + 1 - capture.bytes.len().min(RAW_USAGE_LIMIT + 1);
            if from < to {
                let part = &piece[(from - at) as usize..(to - at) as usize];
                capture.bytes.extend_from_slice(&part[..part.len().min(room)]);
            }
        }
    }

    /// The usage object found at a slot, or what there is of one that was too large to keep.
    pub(super) fn captured(&self, slot: Slot) -> Option<&[u8]> {
        let capture = &self.captures[slot as usize];
        (capture.span.is_some() && capture.complete).then_some(&*capture.bytes)
    }

    /// The first model that was named.
    pub(super) fn model(&self) -> Option<Box<str>> {
        let known = self.model_known.then_some(self.model.as_slice())?;
        serde_json::from_slice(&[b"\"", known, b"\""].concat()).ok()
    }

    /// Where in the stream a value begins that may turn out to be the name to replace.
    pub(super) fn undecided_from(&self) -> Option<u64> {
        match self.rename.as_ref()?.state {
            Renaming::Matching { at, .. } => Some(at),
            _ => None,
        }
    }

    /// Where in the stream the name to replace stands, quotes included; once.
    pub(super) fn renamed(&mut self) -> Option<Range<u64>> {
        self.renamed.take()
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

    /// A value begins in a container that matters.
    fn value(&mut self, container: Place, token: Token, depth: usize, at: u64) {
        match container {
            Place::Root => self.root_value(token, depth, at),
            Place::Groq | Place::Start | Place::Response => {
                let slot = match container {
                    Place::Groq => Slot::Groq,
                    Place::Start => Slot::Message,
                    _ => Slot::Response,
                };
                match (self.key, token) {
                    (Key::Usage, Token::Object) => self.capture(slot, depth, at),
                    (Key::Model, Token::String) => self.read_model(None),
                    (Key::Error, _) => self.error(token),
                    _ => {}
                }
            }
            Place::Choices => self.choice(token),
            Place::Choice => self.choice_value(token),
            Place::Delta | Place::Answer => self.said(token, container == Place::Delta),
            Place::Pictures => self.picture(token),
            Place::Elsewhere => {}
        }
    }

    fn root_value(&mut self, token: Token, depth: usize, at: u64) {
        match (self.key, token) {
            (Key::Usage, _) => {
                let found = match token {
                    Token::Object => Member::Proper,
                    Token::Null => Member::Null,
                    _ => Member::Odd,
                };
                self.facts.usage = self.facts.usage.and(found);
                self.facts.usage_key_at = self.key_at;
                if token == Token::Object {
                    self.capture(Slot::Top, depth, at);
                }
            }
            (Key::Choices, _) => {
                let found = if token == Token::Array { Member::Proper } else { Member::Odd };
                self.facts.choices = self.facts.choices.and(found);
            }
            (Key::Error, _) => self.error(token),
            (Key::Model, Token::String) => self.read_model(Some(self.base.wrapping_add(at))),
            (Key::Type, Token::String) => {
                self.facts.kind.clear();
                self.reading = Reading::Kind;
            }
            (Key::Remarks, token) => self.facts.remarks |= token != Token::Null,
            (Key::Delta, Token::String) => self.said(token, false),
            (Key::Image, Token::String) => self.picture(token),
            // The events of the Responses API repeat in the end what their deltas said.
            (Key::Text, Token::String) if !self.event => self.said(token, false),
            _ => {}
        }
    }

    fn choice(&mut self, token: Token) {
        if self.facts.choice.len() == CHOICES_LIMIT {
            self.facts.more_choices = true;
            return;
        }
        let empty = token == Token::Object;
        self.facts.choice.push(Choice { index: 0, finished: false, empty });
    }

    fn choice_value(&mut self, token: Token) {
        if self.facts.more_choices {
            return;
        }
        let Some(choice) = self.facts.choice.last_mut() else { return };
        match (self.key, token) {
            (_, Token::Null) | (Key::Delta | Key::Message, Token::Object) => {}
            (Key::Index, Token::Number) => self.reading = Reading::Index,
            (Key::FinishReason, _) => {
                choice.finished = true;
                choice.empty = false;
            }
            (Key::Text, Token::String) => {
                choice.empty = false;
                self.escape = Escape::None;
                self.reading = Reading::Text;
            }
            _ => choice.empty = false,
        }
    }

    /// A value in what the model said; `delta`: directly in a choice's delta or message.
    fn said(&mut self, token: Token, delta: bool) {
        if delta
            && token != Token::Null
            && let Some(choice) = self.facts.choice.last_mut()
        {
            choice.empty = false;
        }
        self.escape = Escape::None;
        self.reading = match (self.key, token) {
            (Key::Content | Key::Text | Key::Delta, Token::String) => Reading::Text,
            (Key::Image, Token::String) => Reading::Image { any: false },
            _ => Reading::Nothing,
        };
    }

    /// A value in a list of the images API, or in one of its events.
    fn picture(&mut self, token: Token) {
        if (self.key, token) == (Key::Image, Token::String) {
            self.reading = Reading::Image { any: false };
            self.facts.images_api = true;
        }
    }

    fn error(&mut self, token: Token) {
        match token {
            Token::Object | Token::Array | Token::True => self.facts.error = true,
            // An empty one is no error, and has no text to come.
            Token::String => self.reading = Reading::Error,
            _ => {}
        }
    }

    fn capture(&mut self, slot: Slot, depth: usize, at: u64) {
        let capture = &mut self.captures[slot as usize];
        capture.span = Some(at..u64::MAX);
        capture.complete = false;
        capture.bytes.clear();
        self.capturing = Some((slot, depth));
    }

    /// A model's name begins; `at`: its offset in the stream, if it may be replaced.
    fn read_model(&mut self, at: Option<u64>) {
        self.reading = Reading::Model;
        if !self.model_known {
            self.model.clear();
        }
        if let (Some(rename), Some(at)) = (&mut self.rename, at)
            && rename.state == Renaming::Waiting
        {
            rename.state = Renaming::Matching { at, matched: 0 };
        }
    }

    fn model_text(&mut self, piece: &[u8]) {
        if !self.model_known {
            let room = MODEL_LIMIT - self.model.len();
            self.model.extend_from_slice(&piece[..piece.len().min(room)]);
        }
        if let Some(rename) = &mut self.rename
            && let Renaming::Matching { matched, .. } = &mut rename.state
        {
            let to = *matched + piece.len();
            if rename.from.get(*matched..to) == Some(piece) {
                *matched = to;
            } else {
                rename.state = Renaming::Done;
            }
        }
    }

    fn model_end(&mut self, end: u64) {
        self.model_known = !self.model.is_empty();
        if let Some(rename) = &mut self.rename
            && let Renaming::Matching { at, matched } = rename.state
        {
            if matched == rename.from.len() {
                self.renamed = Some(at..self.base.wrapping_add(end));
            }
            rename.state = Renaming::Done;
        }
    }

    /// Counts text as it will be after decoding: an escape is one byte, `\uXXXX` about three.
    fn count_text(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while let Some(&byte) = rest.first() {
            let passed = match self.escape {
                Escape::None => {
                    let plain = memchr::memchr(b'\\', rest);
                    self.text_bytes += plain.unwrap_or(rest.len()) as u64;
                    if plain.is_some() {
                        self.escape = Escape::Begun;
                    }
                    plain.map_or(rest.len(), |plain| plain + 1)
                }
                Escape::Begun => {
                    let unicode = byte == b'u';
                    self.text_bytes += if unicode { 3 } else { 1 };
                    self.escape = if unicode { Escape::Digits(4) } else { Escape::None };
                    1
                }
                Escape::Digits(left) => {
                    self.escape = if left > 1 { Escape::Digits(left - 1) } else { Escape::None };
                    1
                }
            };
            rest = &rest[passed..];
        }
    }
}

impl Sink for Document {
    fn begin(&mut self, token: Token, depth: usize, at: u64) {
        self.reading = Reading::Nothing;
        let container = if depth == 0 { Place::Elsewhere } else { self.place(depth) };
        if token == Token::Key {
            if container != Place::Elsewhere {
                self.reading = Reading::Key;
                self.word.clear();
                self.key_at = self.base.wrapping_add(at);
            }
            return;
        }
        if container != Place::Elsewhere {
            self.value(container, token, depth, at);
        }
        if matches!(token, Token::Object | Token::Array) {
            let object = token == Token::Object;
            let place =
                if depth == 0 { Place::root(object) } else { child(container, self.key, object) };
            let skip = self.event && place == Place::Answer && container == Place::Root;
            self.enter(depth, if skip { Place::Elsewhere } else { place });
        }
    }

    fn text(&mut self, piece: &[u8]) {
        match self.reading {
            Reading::Nothing => {}
            Reading::Key => self.word.push(piece),
            Reading::Text => self.count_text(piece),
            Reading::Image { .. } => self.reading = Reading::Image { any: true },
            Reading::Model => self.model_text(piece),
            Reading::Kind => self.facts.kind.push(piece),
            Reading::Error => self.facts.error = true,
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
            (Token::Key, Reading::Key) => self.key = Key::of(self.word.bytes()),
            (Token::String, Reading::Model) => self.model_end(end),
            (Token::String, Reading::Image { any: true }) => self.facts.images += 1,
            (Token::Object, _) => {
                if let Some((slot, _)) = self.capturing.take_if(|(_, from)| *from == depth) {
                    let capture = &mut self.captures[slot as usize];
                    capture.complete = true;
                    if let Some(span) = &mut capture.span {
                        span.end = end;
                    }
                }
                self.key = Key::Other;
            }
            (Token::Array, _) => self.key = Key::Other,
            _ => {}
        }
        self.reading = Reading::Nothing;
    }
}

impl Member {
    fn and(self, found: Self) -> Self {
        if self == Self::Absent { found } else { Self::Odd }
    }
}

/// A name as it stands in JSON, quotes included.
pub(super) fn json_string(name: &str) -> Bytes {
    Bytes::from(serde_json::Value::from(name).to_string())
}
