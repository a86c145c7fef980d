//! What the scanner's tokens mean in a request: a small state, fed token by token.

mod measured;

use std::ops::Range;

use super::name::{Key, Name, decode, keep};
use super::splice::{Bound, Options, Places};
use super::{Api, Facts, Invalid, MODEL_MAX, media};
use crate::json::{MAX_DEPTH, Sink, Token};

/// Raw bytes that a name of [`MODEL_MAX`] bytes can take: each one escaped as `\uXXXX`.
const MODEL_RAW_MAX: usize = 6 * MODEL_MAX;

/// The sink of the scan: gathers the facts.
#[derive(Debug)]
pub(super) struct Reader {
    /// For each depth the key under which the current value stands; the elements of an array stand
    /// under the array's key.
    names: [Name; MAX_DEPTH + 1],
    /// The keys of the root that decide at this endpoint, and those of them seen; a bit for each.
    known: u16,
    seen: u16,
    current: Use,
    key: Key,
    /// The model's raw name; cut off after the first byte too many.
    model: Vec<u8>,
    /// The current number, as long as it is a non-negative integer.
    integer: Option<u64>,
    /// The string being measured: its length and its first bytes.
    length: u64,
    head: [u8; media::HEAD],
    /// Where the value began that may have to be replaced.
    began: u64,
    facts: Facts,
    /// Bytes that stand in a `source`, and whether one of these is text.
    source_bytes: u64,
    is_source_text: bool,
    best_of: u64,
    /// Items of the list of prompts.
    prompts: u64,
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

impl Reader {
    pub(super) fn new(api: Api) -> Self {
        Self {
            known: api.fields(),
            names: [Name::Other; MAX_DEPTH + 1],
            seen: 0,
            current: Use::Nothing,
            key: Key::default(),
            model: Vec::new(),
            integer: None,
            length: 0,
            head: [0; media::HEAD],
            began: 0,
            facts: Facts::new(Places { added_bound: api.bound(), ..Places::default() }),
            source_bytes: 0,
            is_source_text: false,
            best_of: 1,
            prompts: 0,
            invalid: None,
        }
    }
}

impl Sink for Reader {
    #[inline]
    fn begin(&mut self, token: Token, depth: usize, at: u64) {
        self.current = Use::Nothing;
        if self.invalid.is_some() {
            return;
        }
        match (token, depth) {
            (Token::Key, _) => {
                self.key.clear();
                self.current = Use::Key;
            }
            (Token::Object, 0) => self.facts.places.root = at + 1,
            (_, 0) => self.invalid = Some(Invalid::NotAnObject),
            (_, 1) if self.names[1].single().is_some() => self.field(self.names[1], token, at),
            (Token::Array, _) => {
                self.names[depth + 1] = self.names[depth];
                self.prompts += u64::from(depth == 2 && self.names[2] == Name::Input);
            }
            (Token::String, _) if self.names[1].is_read() => {
                self.length = 0;
                self.current = Use::Measure;
            }
            (Token::Number, _) if self.names[1].is_read() => self.facts.tokens += 1,
            _ => {}
        }
        if self.is_stream_option(depth) {
            self.began = at;
        }
    }

    #[inline]
    fn text(&mut self, piece: &[u8]) {
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
                self.integer = piece.iter().fold(self.integer, |integer, byte| match byte {
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
        match (token, depth) {
            (Token::Key, _) => self.key_ended(self.key.name(), depth),
            _ if self.current == Use::Measure => {
                let kept = usize::try_from(self.length).map_or(media::HEAD, |n| n.min(media::HEAD));
                let head = self.head;
                self.measured(depth, self.length, &head[..kept]);
            }
            (_, 1) => self.field_ended(self.names[1], token, end),
            _ if self.is_stream_option(depth) => self.stream_option_ended(token, end),
            _ => {}
        }
        self.current = Use::Nothing;
    }

    #[inline]
    fn whole(&mut self, token: Token, depth: usize, span: Range<u64>, text: &[u8]) {
        if token == Token::Key {
            if self.invalid.is_none() {
                self.key_ended(Name::of_raw(text), depth);
            }
            return;
        }
        if token == Token::String && self.names[1].is_read() && self.invalid.is_none() {
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

impl Reader {
    pub(super) fn verdict(&self) -> Result<(), Invalid> {
        self.invalid.map_or(Ok(()), Err)
    }

    /// What was gathered, once the body is complete.
    pub(super) fn facts(self, body_bytes: u64) -> Result<Facts, Invalid> {
        if self.facts.model.is_empty() {
            return Err(Invalid::Missing("model"));
        }
        let Places { newer_bound, max_tokens, .. } = &self.facts.places;
        let tokens = |bound: &Option<Bound>| bound.as_ref().and_then(|bound| bound.tokens);
        let max_output_tokens = tokens(newer_bound).or(tokens(max_tokens));
        // The older API answers each prompt of a list.
        let takes_list = self.known & Name::BestOf.bit() != 0;
        let prompts = if takes_list { self.prompts.max(1) } else { 1 };
        let n = self.facts.n.saturating_mul(prompts);
        let made = self.facts.n.max(self.best_of).saturating_mul(prompts);
        // Which of several it is does not matter: a file would not be called text.
        let source_text = if self.is_source_text { self.source_bytes } else { 0 };
        let text_bytes = self.facts.text_bytes + source_text;
        let media_bytes = self.facts.media_bytes - source_text;
        Ok(Facts { max_output_tokens, n, made, text_bytes, media_bytes, body_bytes, ..self.facts })
    }

    /// Whether a value at this depth is that of an option in `stream_options` that decides.
    #[inline]
    fn is_stream_option(&self, depth: usize) -> bool {
        depth == 2 && self.names[1] == Name::StreamOptions && self.names[2].is_stream_option()
    }

    fn stream_option_ended(&mut self, token: Token, end: u64) {
        let says = match token {
            Token::True => Some(true),
            Token::False => Some(false),
            _ => None,
        };
        let value = Some(self.began..end);
        let Options::Object { include_usage, continuous_usage, .. } =
            &mut self.facts.places.options
        else {
            return;
        };
        if self.names[2] == Name::IncludeUsage {
            (self.facts.include_usage, *include_usage) = (says, value);
        } else {
            (self.facts.continuous_usage, *continuous_usage) = (says, value);
        }
    }

    fn key_ended(&mut self, name: Name, depth: usize) {
        if depth == 1 && name.single().is_some() && self.known & name.bit() == 0 {
            // It decides elsewhere; here it is one of the fields that only pass.
            self.names[1] = Name::Other;
            return;
        }
        self.names[depth] = name;
        let in_options = depth == 2 && self.names[1] == Name::StreamOptions;
        if in_options && let Options::Object { empty, .. } = &mut self.facts.places.options {
            *empty = false;
        }
        let counts = if name.is_stream_option() { in_options } else { depth == 1 };
        if counts && let Some(key) = name.single() {
            if self.seen & name.bit() != 0 {
                self.invalid = Some(Invalid::Duplicate(key));
            }
            self.seen |= name.bit();
        }
    }

    /// The value of a field of the root that decides begins.
    fn field(&mut self, name: Name, token: Token, at: u64) {
        let expected = match (name, token) {
            (Name::Model, Token::String) => {
                self.began = at;
                self.current = Use::Model;
                return;
            }
            (Name::Stream, Token::True | Token::False | Token::Null) => {
                self.facts.stream = token == Token::True;
                return;
            }
            (Name::StreamOptions, Token::Object) => {
                self.facts.places.options = Options::Object {
                    inside: at + 1,
                    empty: true,
                    include_usage: None,
                    continuous_usage: None,
                };
                return;
            }
            (Name::StreamOptions, Token::Null) => {
                self.began = at;
                return;
            }
            (Name::Model, _) => "a string",
            (Name::Stream, _) => "a boolean",
            (Name::StreamOptions, _) => "an object",
            // The others are integers.
            (_, Token::Null) => {
                self.began = at;
                return;
            }
            (_, Token::Number) => {
                self.began = at;
                self.integer = Some(0);
                self.current = Use::Integer;
                return;
            }
            _ => INTEGER,
        };
        self.refuse(name, expected);
    }

    fn refuse(&mut self, name: Name, expected: &'static str) {
        self.invalid = name.single().map(|key| Invalid::Type { key, expected });
    }

    /// The value of a field of the root ended; its type has been found right.
    fn field_ended(&mut self, name: Name, token: Token, end: u64) {
        match (name, token) {
            (Name::Model, _) => match decode_model(&self.model) {
                Ok(model) => {
                    self.facts.model = model;
                    self.facts.places.model = self.began..end;
                }
                Err(invalid) => self.invalid = Some(invalid),
            },
            (Name::StreamOptions, Token::Null) => {
                self.facts.places.options = Options::Null(self.began..end);
            }
            (_, Token::Number) if self.current == Use::Integer => match (name, self.integer) {
                (_, None) => self.refuse(name, INTEGER),
                (Name::N, Some(n)) => self.facts.n = answers(n),
                (Name::BestOf, Some(n)) => self.best_of = answers(n),
                (_, tokens) => self.bounded(name, tokens, end),
            },
            (_, Token::Null) => self.bounded(name, None, end),
            _ => {}
        }
    }

    /// The value of a bound of the answer ended.
    fn bounded(&mut self, name: Name, tokens: Option<u64>, end: u64) {
        let bound = Some(Bound { at: self.began..end, tokens });
        match name {
            Name::MaxTokens => self.facts.places.max_tokens = bound,
            Name::MaxCompletionTokens | Name::MaxOutputTokens => {
                self.facts.places.newer_bound = bound;
            }
            _ => {}
        }
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
