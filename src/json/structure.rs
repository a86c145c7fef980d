//! The scanner's main loop: punctuation, and the keys and values that stand in one piece. What is
//! cut off by the end of the piece is begun here and left to be finished with the next one.

use std::ops::Range;

use super::number::Number;
use super::plain::plain;
use super::string::Text;
use super::{Expect, Fault, MAX_DEPTH, Scanner, Sink, State, Step, Token, Word, give};

impl Scanner {
    /// From `at` on, as far as the piece goes or until the silence begins or ends. Not to be called
    /// inside a token. `SILENT`: the inside of a container that the sink does not want.
    pub(super) fn structure<S: Sink, const SILENT: bool>(
        &mut self,
        mut expect: Expect,
        piece: &[u8],
        mut at: usize,
        sink: &mut S,
    ) -> Step {
        while let Some(&byte) = piece.get(at) {
            // One round takes a whole `"key":value,` where no blank stands between them.
            let mut byte = byte;
            if matches!(expect, Expect::NextKey | Expect::FirstKey) && byte == b'"' {
                let end = match self.string::<S, SILENT>(Token::Key, piece, at, sink) {
                    Ok(end) => end,
                    Err(odd) => {
                        return self.odd_string::<S, SILENT>(Token::Key, piece, at, odd, sink);
                    }
                };
                (at, expect) = (end, Expect::Colon);
                let Some([b':', first]) = piece.get(at..at + 2) else { continue };
                (at, expect) = (at + 1, Expect::Value);
                byte = *first;
            }
            if matches!(expect, Expect::Value | Expect::FirstElement) {
                if matches!(byte, b'{' | b'[') {
                    expect = self.open::<S, SILENT>(byte == b'{', at, sink)?;
                    at += 1;
                    if !SILENT && !sink.wants() {
                        self.silent = Some(self.depth - 1);
                        break;
                    }
                    continue;
                }
                match self.scalar::<S, SILENT>(byte, piece, at, sink) {
                    Ok(None) => {}
                    Ok(Some(end)) => {
                        (at, expect) = (end, self.after_value());
                        let Some(&follows) = piece.get(at) else { break };
                        byte = follows;
                    }
                    Err(step) => return step,
                }
            }
            match byte {
                b',' if expect == Expect::AfterValue => {
                    expect = if self.in_object() { Expect::NextKey } else { Expect::Value };
                }
                b':' if expect == Expect::Colon => expect = Expect::Value,
                b'}' | b']' if self.may_close(byte == b'}', expect) => {
                    let spoke = self.shut::<S, SILENT>(byte == b'}', at + 1, sink);
                    expect = self.after_value();
                    if SILENT && spoke {
                        at += 1;
                        break;
                    }
                }
                b' ' | b'\n' | b'\r' | b'\t' => {}
                _ => return Err((at, expectation(expect))),
            }
            at += 1;
        }
        self.state = State::Between(expect);
        Ok(at)
    }

    /// A value that begins with `byte` at `at` and is no container: the index after it, if it is one;
    /// or how its odd part was taken.
    #[inline(always)]
    fn scalar<S: Sink, const SILENT: bool>(
        &mut self,
        byte: u8,
        piece: &[u8],
        at: usize,
        sink: &mut S,
    ) -> Result<Option<usize>, Step> {
        match byte {
            b'"' => match self.string::<S, SILENT>(Token::String, piece, at, sink) {
                Ok(end) => Ok(Some(end)),
                Err(odd) => Err(self.odd_string::<S, SILENT>(Token::String, piece, at, odd, sink)),
            },
            b'-' | b'0'..=b'9' => match self.integer::<S, SILENT>(piece, at, sink) {
                Some(end) => Ok(Some(end)),
                None => Err(self.odd_number::<S, SILENT>(piece, at, sink)),
            },
            b't' | b'f' | b'n' => match self.word::<S, SILENT>(piece, at, sink) {
                Some(end) => Ok(Some(end)),
                None => Err(Ok(at + 1)),
            },
            b'N' | b'I' if self.lenient => match self.word::<S, SILENT>(piece, at, sink) {
                Some(end) => Ok(Some(end)),
                None => Err(Ok(at + 1)),
            },
            _ => Ok(None),
        }
    }

    /// A key or a string, whose opening quote stands at `at`: the index after it, or that of the first
    /// byte that makes it an odd one.
    #[inline(always)]
    fn string<S: Sink, const SILENT: bool>(
        &self,
        token: Token,
        piece: &[u8],
        at: usize,
        sink: &mut S,
    ) -> Result<usize, usize> {
        let rest = &piece[at + 1..];
        let len = plain(rest);
        if rest.get(len) != Some(&b'"') {
            return Err(at + 1 + len);
        }
        self.whole::<S, SILENT>(token, at..at + len + 2, &rest[..len], sink);
        Ok(at + len + 2)
    }

    /// A string with escapes, or one that is cut off or broken; nothing of it is special before `to`.
    #[inline(never)]
    fn odd_string<S: Sink, const SILENT: bool>(
        &mut self,
        token: Token,
        piece: &[u8],
        at: usize,
        to: usize,
        sink: &mut S,
    ) -> Step {
        match Text::Plain.advance(piece, to) {
            Ok((to, None)) => {
                self.whole::<S, SILENT>(token, at..to + 1, &piece[at + 1..to], sink);
                self.state = State::Between(self.after(token));
                Ok(to + 1)
            }
            Ok((to, Some(part))) => {
                let state = State::Text(token, part);
                self.cut_off::<S, SILENT>(token, at, &piece[at + 1..], state, sink);
                Ok(to)
            }
            Err(fault) => {
                // However the input is cut, a broken token has begun.
                self.cut_off::<S, SILENT>(token, at, &[], self.state, sink);
                Err(fault)
            }
        }
    }

    /// An integer, as nearly all numbers are; what follows it shows that there is no more.
    #[inline]
    fn integer<S: Sink, const SILENT: bool>(
        &self,
        piece: &[u8],
        at: usize,
        sink: &mut S,
    ) -> Option<usize> {
        let rest = &piece[at..];
        let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let ends = matches!(rest.get(len), Some(b',' | b'}' | b']'));
        if !ends || len == 0 || (len > 1 && rest[0] == b'0') {
            return None;
        }
        self.whole::<S, SILENT>(Token::Number, at..at + len, &rest[..len], sink);
        Some(at + len)
    }

    /// Any number, whose first byte stands at `at`.
    #[inline(never)]
    fn odd_number<S: Sink, const SILENT: bool>(
        &mut self,
        piece: &[u8],
        at: usize,
        sink: &mut S,
    ) -> Step {
        match Number::Start.advance(piece, at) {
            Ok((to, None)) => {
                self.whole::<S, SILENT>(Token::Number, at..to, &piece[at..to], sink);
                self.state = State::Between(self.after(Token::Number));
                Ok(to)
            }
            Ok((to, Some(part))) => {
                let state = State::Number(part);
                self.cut_off::<S, SILENT>(Token::Number, at, &piece[at..], state, sink);
                Ok(to)
            }
            Err((to, _)) if self.lenient && piece[at..].starts_with(b"-I") => {
                // The minus is its only text, as it would be if the piece ended there.
                let state = State::Literal(Word::Infinity, 0);
                self.cut_off::<S, SILENT>(Token::Number, at, &piece[at..to], state, sink);
                Ok(to)
            }
            Err(fault) => {
                self.cut_off::<S, SILENT>(Token::Number, at, &[], self.state, sink);
                Err(fault)
            }
        }
    }

    /// A word that is a value, by its first byte. If it is cut off or broken, it is only begun.
    #[inline]
    fn word<S: Sink, const SILENT: bool>(
        &mut self,
        piece: &[u8],
        at: usize,
        sink: &mut S,
    ) -> Option<usize> {
        let word = match piece[at] {
            b't' => Word::True,
            b'f' => Word::False,
            b'N' => Word::NaN,
            b'I' => Word::Infinity,
            _ => Word::Null,
        };
        let (token, len) = (word.token(), word.text().len());
        if !piece[at..].starts_with(word.text()) {
            self.cut_off::<S, SILENT>(token, at, &[], State::Literal(word, 1), sink);
            return None;
        }
        self.whole::<S, SILENT>(token, at..at + len, &[], sink);
        Some(at + len)
    }

    /// A container begins at `at`; what must follow.
    #[inline]
    fn open<S: Sink, const SILENT: bool>(
        &mut self,
        object: bool,
        at: usize,
        sink: &mut S,
    ) -> Result<Expect, Fault> {
        if self.depth == MAX_DEPTH {
            return Err((at, "nested too deeply"));
        }
        if !SILENT {
            let token = if object { Token::Object } else { Token::Array };
            sink.begin(token, self.depth, self.offset(at));
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u128::from(object);
        Ok(if object { Expect::FirstKey } else { Expect::FirstElement })
    }

    /// Whether the innermost container, if there is one, can end here as an object or an array.
    #[inline]
    fn may_close(&self, object: bool, expect: Expect) -> bool {
        self.in_object() == object
            && matches!(expect, Expect::AfterValue | Expect::FirstKey | Expect::FirstElement)
    }

    /// The innermost container ends before `end`. Whether the sink has been told.
    #[inline]
    fn shut<S: Sink, const SILENT: bool>(
        &mut self,
        object: bool,
        end: usize,
        sink: &mut S,
    ) -> bool {
        self.depth -= 1;
        self.objects >>= 1;
        if SILENT && self.silent != Some(self.depth) {
            return false;
        }
        self.silent = None;
        let token = if object { Token::Object } else { Token::Array };
        sink.end(token, self.depth, self.offset(end));
        true
    }

    #[inline]
    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }

    #[inline]
    fn whole<S: Sink, const SILENT: bool>(
        &self,
        token: Token,
        span: Range<usize>,
        text: &[u8],
        sink: &mut S,
    ) {
        if !SILENT {
            let span = self.offset(span.start)..self.offset(span.end);
            sink.whole(token, self.depth, span, text);
        }
    }

    /// A token begins at `at` and does not end in this piece.
    #[cold]
    fn cut_off<S: Sink, const SILENT: bool>(
        &mut self,
        token: Token,
        at: usize,
        text: &[u8],
        state: State,
        sink: &mut S,
    ) {
        if !SILENT {
            sink.begin(token, self.depth, self.offset(at));
            give(text, sink);
        }
        self.state = state;
    }
}

#[cold]
fn expectation(expect: Expect) -> &'static str {
    match expect {
        Expect::FirstKey => "a key or `}` was expected",
        Expect::NextKey => "a key was expected",
        Expect::Colon => "`:` was expected",
        Expect::AfterValue => "`,` or the container's end was expected",
        Expect::Value | Expect::FirstElement => "a value was expected",
        _ => "nothing may follow the root value",
    }
}
