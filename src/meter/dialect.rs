//! Where each API states what the meter wants to know: usage, model, finish, errors, and how much
//! was said. One [`Document`] watches one JSON document at a time, a response's body or one event's
//! data, token by token; it keeps a few numbers and at most 2 KiB of each usage object.

use std::ops::Range;

use super::capture::Captures;
use super::facts::{CHOICES_LIMIT, Choice, Facts, Member, Slot};
use super::keys::{Key, Place, Word, child};
use super::name::Name;
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
    Image { any: bool },
    Model,
    Kind,
    Index,
    Error,
}

/// Watches documents, one after the other.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) facts: Facts,
    /// What the model said, over all documents.
    pub(super) text: Text,
    pub(super) name: Name,
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
}

impl Document {
    /// `event`: one of many in a stream. `renames`: whether the model's name is to be found for
    /// replacing.
    pub(super) fn new(event: bool, renames: bool) -> Self {
        Self {
            facts: Facts::default(),
            text: Text::default(),
            name: Name::new(renames),
            event,
            base: 0,
            places: [Place::Elsewhere; DEPTH],
            inside: Place::Elsewhere,
            key: Key::Other,
            key_at: 0,
            word: Word::default(),
            reading: Reading::Nothing,
            captures: Captures::default(),
        }
    }

    /// The next document begins.
    pub(super) fn reset(&mut self) {
        let mut choice = std::mem::take(&mut self.facts.choice);
        choice.clear();
        self.facts = Facts { choice, ..Facts::default() };
        self.reading = Reading::Nothing;
        self.key = Key::Other;
        self.captures.reset();
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
                    (Key::Usage, Token::Object) => self.captures.begin(slot, depth, at),
                    (Key::Model, Token::String) => self.read_model(at),
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
                    self.captures.begin(Slot::Top, depth, at);
                }
            }
            (Key::Svg, Token::Object) => self.captures.begin(Slot::Svg, depth, at),
            (Key::Choices, _) => {
                let found = if token == Token::Array { Member::Proper } else { Member::Odd };
                self.facts.choices = self.facts.choices.and(found);
            }
            (Key::Error, _) => self.error(token),
            (Key::Model, Token::String) => self.read_model(at),
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
                self.text.begin();
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
        self.text.begin();
        self.reading = match (self.key, token) {
            (Key::Content | Key::Text | Key::Delta, Token::String) => Reading::Text,
            (Key::Image, Token::String) => Reading::Image { any: false },
            _ => Reading::Nothing,
        };
    }

    /// A model's name begins; `at`: its offset in the document.
    fn read_model(&mut self, at: u64) {
        self.reading = Reading::Model;
        self.name.begin(self.base.wrapping_add(at));
    }

    /// A value in a list of the images API, or in one of its events.
    fn picture(&mut self, token: Token) {
        if let (Key::Image | Key::Url, Token::String) = (self.key, token) {
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
            self.inside =
                if depth == 0 { Place::root(object) } else { child(container, self.key, object) };
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
            Reading::Key => self.word.push(piece),
            Reading::Text => self.text.push(piece),
            Reading::Image { .. } => self.reading = Reading::Image { any: true },
            Reading::Model => self.name.text(piece),
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
            (Token::String, Reading::Model) => self.name.end(self.base.wrapping_add(end)),
            (Token::String, Reading::Image { any: true }) => self.facts.images += 1,
            (Token::Object, _) => {
                if self.captures.end(depth, end) == Some(Slot::Top) {
                    self.facts.usage_end_at = self.base.wrapping_add(end);
                }
                self.key = Key::Other;
            }
            (Token::Array, _) => self.key = Key::Other,
            _ => {}
        }
        self.reading = Reading::Nothing;
    }
}
