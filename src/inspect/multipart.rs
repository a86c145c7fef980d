//! A `multipart/form-data` body (RFC 7578) read as it arrives: the few fields that decide are found
//! wherever they stand, files pass by and are only measured. What is kept is one part's head and one
//! short value, so that an upload of any size costs no memory here.
//!
//! Whatever parsers could disagree about is refused: were a field read differently upstream, a request
//! could be served as another than the one that was admitted. So nothing stands before the first
//! delimiter or after the last, and none ends or begins its line in another way than with CRLF: Go's
//! reader takes the line end of the first delimiter that it finds, also in what others pass over.

mod part;
mod plain_field;

use http::HeaderValue;

use super::mp3::Mp3;
use super::reader::fitting;
use super::splice::Places;
use super::{Api, Invalid, MODEL_MAX, RefusableFields, RequestFacts, media};
use part::{Field, Part};
use plain_field::{bound, count};

/// Bytes of a part's head at most; it holds a file's name at the longest.
const PART_HEAD_MAX: usize = 8 * 1024;
/// RFC 2046 §5.1.1.
const BOUNDARY_MAX: usize = 70;
/// Bytes kept of a field that decides, one more than any may have; more than tell what base64 is.
const VALUE_MAX: usize = MODEL_MAX + 1;

/// The body of a form being read.
#[derive(Debug)]
pub(crate) struct Multipart<'f> {
    api: Api,
    refusable: &'f RefusableFields,
    /// Two hyphens and the boundary. No line end stands in it, so that a match that fails can begin again
    /// nowhere but at the byte that failed it.
    delimiter: Box<[u8]>,
    state: State,
    /// Offset of the next piece's first byte.
    base: u64,
    head: Vec<u8>,
    part: Part,
    /// What is kept of the present part's value, and where that began.
    value: Vec<u8>,
    began: u64,
    /// The present part, if it is to be listened to.
    sound: Mp3,
    /// Bytes of the present part that no base64 has.
    foreign: u64,
    /// The fields seen that may stand only once; a bit for each.
    seen: u16,
    facts: RequestFacts,
    /// The first thing wrong. Nothing is read after it.
    invalid: Option<Invalid>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Where the first delimiter stands, or in a part's value: after what may come before a delimiter,
    /// and so many bytes of one.
    Value(Before, usize),
    /// After a delimiter.
    Delimited,
    /// After a delimiter and a hyphen.
    Dash,
    /// After the CR that ends a delimiter's line.
    Return,
    Head,
    /// After the last delimiter.
    Over,
}

/// What stands before a delimiter, or may be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// Text: no delimiter begins here.
    Text,
    /// The body's or the part's beginning.
    Beginning,
    Cr,
    Lf,
    CrLf,
}

impl Before {
    /// The bytes that are the value's if no delimiter follows.
    fn bytes(self) -> &'static [u8] {
        match self {
            Self::Text | Self::Beginning => b"",
            Self::Cr => b"\r",
            Self::Lf => b"\n",
            Self::CrLf => b"\r\n",
        }
    }
}

impl<'f> Multipart<'f> {
    /// Reads the body of a request with this `Content-Type`.
    pub(crate) fn new(
        api: Api,
        content_type: &str,
        refusable: &'f RefusableFields,
    ) -> Result<Self, Invalid> {
        let boundary = boundary(content_type).ok_or(Invalid::Boundary)?;
        let places = Places { is_plain: true, ..Places::default() };
        Ok(Self {
            api,
            refusable,
            delimiter: [b"--", boundary.as_bytes()].concat().into(),
            state: State::Value(Before::Beginning, 0),
            base: 0,
            head: Vec::new(),
            part: Part::default(),
            value: Vec::new(),
            began: 0,
            sound: Mp3::default(),
            foreign: 0,
            seen: 0,
            facts: RequestFacts::new(places, canonical(boundary)),
            invalid: None,
        })
    }

    /// As [`super::Scan::push`].
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), Invalid> {
        let mut at = 0;
        while at < piece.len() && self.invalid.is_none() {
            match self.step(piece, at) {
                Ok(next) => at = next,
                Err(invalid) => self.invalid = Some(invalid),
            }
        }
        self.base += piece.len() as u64;
        self.invalid.map_or(Ok(()), Err)
    }

    /// As [`super::Scan::finish`].
    pub(crate) fn finish(self) -> Result<RequestFacts, Invalid> {
        if let Some(invalid) = self.invalid {
            return Err(invalid);
        }
        if self.state != State::Over {
            return Err(Invalid::Multipart { at: self.base, reason: "it ends too early" });
        }
        if self.facts.model.is_empty() {
            return Err(Invalid::Missing("model"));
        }
        Ok(RequestFacts { body_bytes: self.base, ..self.facts })
    }

    /// Reads on from the index `at`, by one byte or more.
    fn step(&mut self, piece: &[u8], at: usize) -> Result<usize, Invalid> {
        let byte = piece[at];
        let next = match (self.state, byte) {
            (State::Value(before, matched), _) => return self.value(piece, at, before, matched),
            (State::Head, _) => {
                self.head(byte, at)?;
                return Ok(at + 1);
            }
            (State::Delimited, b'-') => State::Dash,
            (State::Dash, b'-') => State::Over,
            (State::Delimited, b'\r') => State::Return,
            (State::Return, b'\n') => State::Head,
            // A line end or two is what clients put there; some readers would go on and find parts.
            (State::Over, b'\r' | b'\n') => State::Over,
            (State::Over, _) => {
                return Err(self.malformed(at, "nothing follows the last delimiter"));
            }
            _ => return Err(self.malformed(at, "a delimiter stands in a line of its own")),
        };
        self.state = next;
        Ok(at + 1)
    }

    /// Reads a value on, up to the delimiter that ends it.
    fn value(
        &mut self,
        piece: &[u8],
        from: usize,
        mut before: Before,
        mut matched: usize,
    ) -> Result<usize, Invalid> {
        let mut at = from;
        while at < piece.len() {
            let byte = piece[at];
            if before == Before::Text {
                let run = memchr::memchr2(b'\r', b'\n', &piece[at..]);
                let to = run.map_or(piece.len(), |run| at + run);
                self.keep(&piece[at..to]);
                at = to;
                before = match piece.get(at) {
                    None => continue,
                    Some(b'\r') => Before::Cr,
                    Some(_) => Before::Lf,
                };
                at += 1;
            } else if byte == self.delimiter[matched] {
                matched += 1;
                at += 1;
                if matched == self.delimiter.len() {
                    self.delimited(before, at)?;
                    return Ok(at);
                }
            } else if (before, byte, matched) == (Before::Cr, b'\n', 0) {
                before = Before::CrLf;
                at += 1;
            } else {
                // It was the value's own, from an earlier piece perhaps.
                if before == Before::Beginning && self.began == 0 {
                    return Err(self.malformed(at, "it begins with its delimiter"));
                }
                self.keep(before.bytes());
                let own = std::mem::take(&mut self.delimiter);
                self.keep(&own[..matched]);
                self.delimiter = own;
                (before, matched) = (Before::Text, 0);
            }
        }
        self.state = State::Value(before, matched);
        Ok(at)
    }

    /// A delimiter ended before the index `at`.
    fn delimited(&mut self, before: Before, at: usize) -> Result<(), Invalid> {
        self.state = State::Delimited;
        match before {
            Before::Beginning if self.began == 0 => Ok(()),
            Before::CrLf => {
                let length = (self.delimiter.len() + before.bytes().len()) as u64;
                self.ended((self.base + at as u64).saturating_sub(length))
            }
            Before::Beginning => Err(self.malformed(at, "a part has a head only")),
            _ => Err(self.malformed(at, "a delimiter's line begins after CRLF")),
        }
    }

    /// More of the present part's value.
    fn keep(&mut self, piece: &[u8]) {
        match self.part.field {
            Field::Model
            | Field::Stream
            | Field::N
            | Field::Made
            | Field::Bound
            | Field::Size
            | Field::Quality => self.keep_value(piece),
            Field::Other => {
                self.keep_value(piece);
                let foreign = piece.iter().filter(|byte| !media::is_base64(**byte));
                self.foreign += foreign.count() as u64;
            }
            Field::File => {
                self.facts.media_bytes += piece.len() as u64;
                let room = media::WAV_HEAD.saturating_sub(self.value.len());
                self.value.extend_from_slice(&piece[..piece.len().min(room)]);
                self.sound.push(piece);
            }
            Field::Prompt
            | Field::User
            | Field::SafetyIdentifier
            | Field::PromptCacheKey
            | Field::CacheSalt => {}
        }
    }

    fn keep_value(&mut self, piece: &[u8]) {
        let room = VALUE_MAX.saturating_sub(self.value.len());
        self.value.extend_from_slice(&piece[..piece.len().min(room)]);
    }

    /// A byte of a part's head.
    fn head(&mut self, byte: u8, at: usize) -> Result<(), Invalid> {
        if self.head.len() == PART_HEAD_MAX {
            return Err(self.malformed(at, "a part's head is too long"));
        }
        self.head.push(byte);
        if !self.head.ends_with(b"\r\n\r\n") {
            return Ok(());
        }
        let part = Part::read(&self.head, self.api, self.refusable);
        self.part = part.ok_or_else(|| self.malformed(at, "a part's head is not a form's"))?;
        self.head.clear();
        self.value.clear();
        self.sound = Mp3::default();
        self.foreign = 0;
        self.began = self.base + at as u64 + 1;
        // A delimiter here would be one to some readers, and a value's beginning to others.
        self.state = State::Value(Before::Beginning, 0);
        self.facts.images += u32::from(self.part.is_image);
        self.facts.refusable.add(self.part.refusable);
        self.part.names.into_iter().for_each(|kind| self.facts.named.kinds.add(kind));
        if let Some(name) = self.part.misspelt {
            return Err(Invalid::Spelling(name));
        }
        if let (true, Some(key)) = (self.part.is_file, self.part.field.plain()) {
            return Err(Invalid::Type { key, expected: "a plain field" });
        }
        let Some(name) = self.part.field.single() else { return Ok(()) };
        let bit = 1 << self.part.field as u8;
        if self.seen & bit != 0 {
            return Err(Invalid::Duplicate(name));
        }
        self.seen |= bit;
        Ok(())
    }

    /// The present part's value ended before the offset `end`.
    fn ended(&mut self, end: u64) -> Result<(), Invalid> {
        let bytes = end.saturating_sub(self.began);
        if !self.part.is_file {
            self.facts.field_bytes += bytes;
        }
        match self.part.field {
            Field::Model => {
                let model = std::mem::take(&mut self.value);
                if model.len() > MODEL_MAX {
                    return Err(Invalid::ModelTooLong);
                }
                let model = String::from_utf8(model).map_err(|_| Invalid::ModelNotUnicode)?;
                self.facts.model = fitting(model)?;
                self.facts.places.model = self.began..end;
            }
            Field::Stream => {
                // Servers read forms leniently; these are the words that any takes for a yes.
                let words: [&[u8]; 6] = [b"true", b"1", b"on", b"yes", b"t", b"y"];
                self.facts.stream = words.iter().any(|word| self.value.eq_ignore_ascii_case(word));
            }
            field @ (Field::N | Field::Made) => {
                let n = count(&self.value, field.plain().unwrap_or("n"))?;
                if field == Field::N {
                    self.facts.n = n;
                }
                self.facts.made = self.facts.made.max(n);
            }
            Field::Bound => {
                let tokens = bound(&self.value)?;
                let least = &mut self.facts.least_output_tokens;
                *least = tokens.unwrap_or_default().max(*least);
            }
            Field::Size => self.facts.picture.set_size(&self.value),
            Field::Quality => self.facts.picture.set_quality(&self.value),
            // What is no picture is to be listened to.
            Field::File if !self.part.is_image => {
                self.facts.add_audio(media::audio_ms(&self.value, bytes, &self.sound));
            }
            Field::User | Field::SafetyIdentifier | Field::PromptCacheKey | Field::CacheSalt => {
                self.facts.places.scoped.push(self.began..end);
            }
            Field::Prompt => self.facts.text_bytes += bytes,
            Field::Other => self.measured(bytes),
            Field::File => {}
        }
        Ok(())
    }

    fn malformed(&self, at: usize, reason: &'static str) -> Invalid {
        Invalid::Multipart { at: self.base + at as u64, reason }
    }
}

/// Whether a request with this `Content-Type` has a form for its body.
pub(crate) fn is_form(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default().trim();
    media.eq_ignore_ascii_case("multipart/form-data")
}

/// The boundary: 1 to 70 characters of RFC 2046's set, quoted or not. Two are none, and so is one in the
/// form of RFC 2231 (`boundary*=`), which not everybody reads.
fn boundary(content_type: &str) -> Option<&str> {
    let mut boundaries = content_type.split(';').skip(1).filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        let is_one = name.get(..8).is_some_and(|name| name.eq_ignore_ascii_case("boundary"));
        is_one.then_some((name.len() == 8, value))
    });
    let (is_plain, value) = boundaries.next().filter(|_| boundaries.next().is_none())?;
    if !is_plain {
        return None;
    }
    let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let value = quoted.unwrap_or(value);
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    let fits = (1..=BOUNDARY_MAX).contains(&value.len()) && !value.ends_with(' ');
    (fits && value.bytes().all(is_allowed)).then_some(value)
}

/// The content type that says this boundary and nothing else: a `charset` would decode the fields' names
/// to some readers, and not to others.
fn canonical(boundary: &str) -> HeaderValue {
    // What is no token (RFC 9110 §5.6.2) stands in quotes.
    let is_token = !boundary.bytes().any(|byte| b"(),/:=? ".contains(&byte));
    let quote = if is_token { "" } else { "\"" };
    let text = format!("multipart/form-data; boundary={quote}{boundary}{quote}");
    HeaderValue::from_str(&text).expect("a boundary is visible ASCII")
}

#[cfg(test)]
mod tests;
