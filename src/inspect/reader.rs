//! What the scanner's tokens mean in a request: a small state, fed token by token.

mod keys;
mod measured;

use std::ops::Range;

use http::HeaderValue;

use super::checked_fields::Role;
use super::ids::Ids;
use super::key_spelling::decode;
use super::name::{Key, Name, keep};
use super::refusable_fields::RefusableFields;
use super::splice::{Bound, Options, Places, Said};
use super::{Api, Invalid, MODEL_MAX, RequestFacts, media};
use crate::json::{MAX_DEPTH, Sink, Token};

/// Raw bytes that a name of [`MODEL_MAX`] bytes can take: each one escaped as `\uXXXX`.
const MODEL_RAW_MAX: usize = 6 * MODEL_MAX;

/// The sink of the scan: gathers the facts.
#[derive(Debug)]
pub(super) struct Reader<'f> {
    api: Api,
    refusable: &'f RefusableFields,
    /// For each depth the key under which the current value stands; the elements of an array stand
    /// under the array's key.
    names: [Name; MAX_DEPTH + 1],
    /// The keys of the root that decide at this endpoint, and those of them seen; a bit for each.
    known: u64,
    seen: u64,
    /// Those seen that decide in an object of the root.
    seen_inside: u64,
    /// The present field of the root is text to be read out.
    is_spoken: bool,
    current: Use,
    key: Key,
    /// The model's raw name; cut off after the first byte too many.
    model: Vec<u8>,
    /// The current number's digits, as long as it is an integer, and whether it is below zero.
    integer: Option<u64>,
    is_negative: bool,
    /// The string being measured: its length and its first bytes.
    length: u64,
    head: [u8; media::HEAD],
    /// Where the value began that may have to be replaced.
    began: u64,
    pub(super) facts: RequestFacts,
    /// Bytes that stand in a `source`, and whether one of these is not said to be base64.
    source_bytes: u64,
    is_source_text: bool,
    /// Answers that are made, by the largest of the numbers that say so.
    made: u64,
    /// Items of the list of prompts.
    prompts: u64,
    ids: Ids,
    /// The first thing wrong. Nothing is read after it.
    invalid: Option<Invalid>,
}

/// What the text of the current token is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Use {
    #[default]
    Nothing,
    Key,
    Model,
    Integer,
    /// A string the model may read: only its size matters.
    Measure,
}

impl<'f> Reader<'f> {
    pub(super) fn new(api: Api, refusable: &'f RefusableFields) -> Self {
        let places = Places { added_bound: api.bound(), ..Places::default() };
        Self {
            api,
            refusable,
            known: api.fields(),
            names: [Name::Other; MAX_DEPTH + 1],
            seen: 0,
            seen_inside: 0,
            is_spoken: false,
            current: Use::Nothing,
            key: Key::default(),
            model: Vec::new(),
            integer: None,
            is_negative: false,
            length: 0,
            head: [0; media::HEAD],
            began: 0,
            facts: RequestFacts::new(places, HeaderValue::from_static("application/json")),
            source_bytes: 0,
            is_source_text: false,
            made: 1,
            prompts: 0,
            ids: Ids::new(),
            invalid: None,
        }
    }
}

impl Sink for Reader<'_> {
    #[inline]
    fn begin(&mut self, token: Token, depth: usize, at: u64) {
        self.current = Use::Nothing;
        if self.invalid.is_some() {
            return;
        }
        if token != Token::Key && self.ids.watches(self.names[depth], depth) {
            self.invalid = self.ids.begin(&self.names, token, depth, at).err();
        }
        match (token, depth) {
            (Token::Key, _) => {
                self.key.clear();
                self.current = Use::Key;
            }
            (Token::Object, 0) => self.facts.places.root = at + 1,
            (_, 0) => self.invalid = Some(Invalid::NotAnObject),
            (_, 1) if self.names[1].decides() => self.field(self.names[1], token, at),
            (_, 2) if self.decides_inside() => self.field(self.names[2], token, at),
            (Token::Array, _) => {
                self.names[depth + 1] = self.names[depth];
                self.prompts += u64::from(depth == 2 && self.names[2] == Name::Input);
            }
            (Token::String, _) if self.names[1].is_read() => {
                self.length = 0;
                self.current = Use::Measure;
            }
            (Token::Number, _) if self.names[1].is_read() => self.facts.tokens += 1,
            (Token::Object, 2) => self.ids.item_begins(),
            _ => {}
        }
    }

    #[inline]
    fn text(&mut self, piece: &[u8]) {
        if self.ids.is_reading() {
            self.ids.text(piece);
        }
        match self.current {
            Use::Nothing => {}
            Use::Key => self.key.extend(piece),
            Use::Measure => {
                if let Ok(at) = usize::try_from(self.length) {
                    keep(&mut self.head, at, piece);
                }
                self.length += piece.len() as u64;
            }
            Use::Model => {
                let room = (MODEL_RAW_MAX + 1).saturating_sub(self.model.len());
                self.model.extend_from_slice(&piece[..piece.len().min(room)]);
            }
            Use::Integer => {
                self.is_negative |= piece[0] == b'-';
                self.integer = piece.iter().fold(self.integer, |integer, byte| match byte {
                    // Only before all digits: after them stands an `e`.
                    b'-' => integer,
                    b'0'..=b'9' => {
                        integer.map(|n| n.saturating_mul(10).saturating_add(u64::from(byte - b'0')))
                    }
                    _ => None,
                });
            }
        }
    }

    #[inline]
    fn end(&mut self, token: Token, depth: usize, end: u64) {
        if self.invalid.is_some() {
            return;
        }
        if self.ids.is_reading() && token != Token::Key {
            let ended = self.ids.end(&self.names, depth, end);
            self.invalid = ended.err();
        }
        if (token, depth) == (Token::Object, 2) {
            self.invalid = self.invalid.or(self.ids.item_ends(&self.names).err());
        }
        match (token, depth) {
            (Token::Key, _) => {
                let key = std::mem::take(&mut self.key);
                self.key_ended(key.raw(), depth);
                self.key = key;
            }
            _ if self.current == Use::Measure => {
                let kept = usize::try_from(self.length).map_or(media::HEAD, |n| n.min(media::HEAD));
                let head = self.head;
                self.measured(depth, self.length, &head[..kept]);
            }
            (_, 1) => self.field_ended(self.names[1], token, end),
            (_, 2) if self.decides_inside() => self.field_ended(self.names[2], token, end),
            _ => {}
        }
        self.current = Use::Nothing;
    }

    #[inline]
    fn whole(&mut self, token: Token, depth: usize, span: Range<u64>, text: &[u8]) {
        if token == Token::Key {
            if self.invalid.is_none() {
                self.key_ended(text, depth);
            }
            return;
        }
        let is_measured = token == Token::String && self.names[1].is_read();
        if is_measured && !self.ids.watches(self.names[depth], depth) && self.invalid.is_none() {
            self.measured(depth, text.len() as u64, text);
            return;
        }
        self.begin(token, depth, span.start);
        if !text.is_empty() {
            self.text(text);
        }
        self.end(token, depth, span.end);
    }
}

impl Reader<'_> {
    pub(super) fn verdict(&self) -> Result<(), Invalid> {
        self.invalid.map_or(Ok(()), Err)
    }

    /// What was gathered, once the body is complete.
    pub(super) fn sum_up(&mut self, body_bytes: u64) -> Result<(), Invalid> {
        let facts = &mut self.facts;
        if facts.model.is_empty() {
            return Err(Invalid::Missing("model"));
        }
        let bounds = &facts.places.bounds;
        facts.least_output_tokens = bounds.iter().filter_map(Bound::tokens).max().unwrap_or(0);
        // One that says "no bound" may be the one that is obeyed.
        let is_unbounded = bounds.iter().any(Bound::is_none);
        let is_bounded = bounds.iter().any(Bound::is_own_number) && !is_unbounded;
        facts.max_output_tokens = is_bounded.then_some(facts.least_output_tokens);
        let prompts = if self.api.answers_each() { self.prompts.max(1) } else { 1 };
        facts.prompts = prompts;
        facts.n = facts.n.saturating_mul(prompts);
        facts.made = self.made.saturating_mul(prompts);
        facts.named = std::mem::take(&mut self.ids.named);
        facts.places.scoped = std::mem::take(&mut self.ids.scoped);
        // Which of several it is does not matter: a file would not be called text.
        let source_text = if self.is_source_text { self.source_bytes } else { 0 };
        facts.text_bytes += source_text;
        facts.media_bytes -= source_text;
        facts.body_bytes = body_bytes;
        Ok(())
    }

    /// Whether a value at depth 2 decides in its object.
    #[inline]
    fn decides_inside(&self) -> bool {
        self.names[1].decides() && self.names[2].decides_in(self.names[1])
    }

    /// The value of a field that decides begins.
    fn field(&mut self, name: Name, token: Token, at: u64) {
        self.began = at;
        let expected = match (name.role(), token) {
            (Role::Model, Token::String) => {
                self.current = Use::Model;
                return;
            }
            (Role::Flag, Token::True | Token::False | Token::Null) => {
                self.flag(name, token);
                return;
            }
            (Role::Options, _) if name == Name::Options => return,
            (Role::Options, Token::Object) => {
                self.facts.places.options = Options::Object {
                    inside: at + 1,
                    empty: true,
                    include_usage: None,
                    continuous_usage: None,
                };
                return;
            }
            (Role::Tokens | Role::Answers, Token::Number) => {
                self.integer = Some(0);
                self.is_negative = false;
                self.current = Use::Integer;
                return;
            }
            (Role::Options | Role::Tokens | Role::Answers, Token::Null) | (Role::Passed, _) => {
                return;
            }
            (Role::Model, _) => "a string",
            (Role::Flag, _) => "a boolean",
            (Role::Options, _) => "an object",
            (Role::Tokens | Role::Answers, _) => INTEGER,
        };
        self.refuse(name, expected);
    }

    fn flag(&mut self, name: Name, token: Token) {
        let says = match token {
            Token::True => Some(true),
            Token::False => Some(false),
            _ => None,
        };
        match name {
            Name::Stream => self.facts.stream = says == Some(true),
            Name::Background => self.facts.background = says == Some(true),
            Name::IncludeUsage => self.facts.include_usage = says,
            _ => self.facts.continuous_usage = says,
        }
    }

    fn refuse(&mut self, name: Name, expected: &'static str) {
        self.invalid = name.single().map(|key| Invalid::Type { key, expected });
    }

    /// The value of a field of the root ended, or of one that decides in an object there; the type of what
    /// decides has been found right.
    fn field_ended(&mut self, name: Name, token: Token, end: u64) {
        if !name.decides() {
            // Some servers take `{"width": …}`, for which nothing would be reserved.
            if name == Name::Size && token != Token::Null {
                self.invalid = Some(Invalid::Type { key: "size", expected: "a string" });
            }
            return;
        }
        let value = self.began..end;
        match (name.role(), token) {
            (Role::Model, _) => match decode_model(&self.model) {
                Ok(model) => {
                    self.facts.model = model;
                    self.facts.places.model = value;
                }
                Err(invalid) => self.invalid = Some(invalid),
            },
            (Role::Options, Token::Null) if name == Name::StreamOptions => {
                self.facts.places.options = Options::Null(value);
            }
            (Role::Flag, _) => self.facts.places.options.flag_ended(name, value),
            (Role::Tokens, Token::Null) => self.bounded(name, Said::Nothing, value),
            (Role::Tokens, _) => match self.integer {
                None => self.refuse(name, INTEGER),
                Some(_) if self.is_negative => self.bounded(name, Said::NoBound, value),
                Some(tokens) => self.bounded(name, Said::Tokens(tokens), value),
            },
            (Role::Answers, Token::Number) => match self.integer.filter(|_| !self.is_negative) {
                None => self.refuse(name, INTEGER),
                Some(n) => {
                    if name == Name::N && self.api.has(name) {
                        self.facts.n = answers(n);
                    }
                    self.made = self.made.max(answers(n));
                }
            },
            _ => {}
        }
    }

    /// The value of a bound of the answer ended.
    fn bounded(&mut self, name: Name, said: Said, at: Range<u64>) {
        let is_own = self.api.has(name);
        self.facts.places.bounds.push(Bound { name, is_own, said, at });
    }
}

pub(super) const INTEGER: &str = "a non-negative integer";

/// A number of answers as it is reckoned with.
pub(super) fn answers(n: u64) -> u64 {
    n.clamp(1, u64::from(u32::MAX))
}

fn decode_model(raw: &[u8]) -> Result<String, Invalid> {
    if raw.len() > MODEL_RAW_MAX {
        return Err(Invalid::ModelTooLong);
    }
    fitting(decode(raw).ok_or(Invalid::ModelNotUnicode)?)
}

/// A model's name, if it has the length of one.
pub(super) fn fitting(model: String) -> Result<String, Invalid> {
    match model.len() {
        0 => Err(Invalid::ModelEmpty),
        1..=MODEL_MAX => Ok(model),
        _ => Err(Invalid::ModelTooLong),
    }
}
