//! A JSON scanner that is fed in pieces: it validates (RFC 8259), reports tokens with their offsets
//! to a sink, and keeps nothing. It finds a field in a body of any size, cut anywhere, in one pass
//! and constant memory.
//!
//! Strictness is serde_json's, nesting limit included, with one difference: the bytes of strings are
//! not checked to be UTF-8, because most of them only pass through. Whoever decodes a string checks
//! it then. A lenient scanner, for answers only, also takes the numbers that are none (`NaN`,
//! `Infinity`, `-Infinity`), which servers in Python write.

mod number;
mod plain;
mod string;
mod structure;

use std::ops::Range;

use number::Number;
use string::Text;

/// Containers inside one another, at most; serde_json stops at the same depth.
pub(crate) const MAX_DEPTH: usize = 127;

/// What a piece of JSON is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Object,
    Array,
    Key,
    String,
    Number,
    True,
    False,
    Null,
}

/// Who is told about the tokens. Offsets count from the first byte ever pushed.
pub(crate) trait Sink {
    /// A token begins: `at` is the absolute offset of its first byte (of the opening quote for Key
    /// and String). `depth` is 0 for the root value, 1 for keys and values directly in the root, and
    /// so on.
    fn begin(&mut self, token: Token, depth: usize, at: u64);

    /// Whether the inside of the container that has just begun matters. If not, it is checked like
    /// everything else, but the next thing said is the container's end.
    #[inline]
    fn wants(&self) -> bool {
        true
    }

    /// Raw bytes of a Key or String between its quotes (escapes not decoded), or of a Number, in one
    /// or several pieces, none of them empty.
    fn text(&mut self, piece: &[u8]);

    /// The token ended; `end` is the offset just after its last byte (closing quotes and braces
    /// included).
    fn end(&mut self, token: Token, depth: usize, end: u64);

    /// A key or a value that is no container stands in one piece, as nearly all do: the same as
    /// [`Self::begin`], [`Self::text`] unless it is empty, and [`Self::end`].
    #[inline]
    fn whole(&mut self, token: Token, depth: usize, span: Range<u64>, text: &[u8]) {
        self.begin(token, depth, span.start);
        give(text, self);
        self.end(token, depth, span.end);
    }
}

/// The input is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed JSON at byte {at}: {reason}")]
pub(crate) struct Malformed {
    /// Offset of the byte that cannot stand there, or the length of an input that ended too early.
    pub(crate) at: u64,
    pub(crate) reason: &'static str,
}

/// The scanner's state between two pieces.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scanner {
    /// Offset of the next piece's first byte.
    base: u64,
    state: State,
    /// Containers open.
    depth: usize,
    /// One bit for each open container, the innermost lowest; set for an object.
    objects: u128,
    /// The depth of the open container whose inside the sink does not want.
    silent: Option<usize>,
    /// Once malformed, always malformed.
    failed: Option<Malformed>,
    lenient: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Between(Expect),
    Text(Token, Text),
    Number(Number),
    /// In a word, with so many bytes of it seen.
    Literal(Word, u8),
}

/// The words that are values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    True,
    False,
    Null,
    /// Numbers that JSON does not have, and Python's `json.dumps` writes all the same.
    NaN,
    Infinity,
}

/// Between two tokens: what may come, apart from whitespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// A value: at the root, after `:`, after `,` in an array.
    Value,
    /// After `[`: a value or `]`.
    FirstElement,
    /// After `{`: a key or `}`.
    FirstKey,
    /// After `,` in an object.
    NextKey,
    Colon,
    /// After a value in a container: `,` or the container's end.
    AfterValue,
    /// The root value is complete: nothing.
    Done,
}

impl Default for State {
    fn default() -> Self {
        Self::Between(Expect::Value)
    }
}

impl Scanner {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// One that takes `NaN`, `Infinity` and `-Infinity`, too: numbers in whose text no digit stands.
    pub(crate) fn lenient() -> Self {
        Self { lenient: true, ..Self::default() }
    }

    /// Scans the next piece of the input.
    ///
    /// # Errors
    /// The input is not JSON, whatever may follow. Every later call says the same.
    pub(crate) fn push<S: Sink>(&mut self, piece: &[u8], sink: &mut S) -> Result<(), Malformed> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        let mut at = 0;
        while at < piece.len() {
            let step = match self.state {
                State::Text(token, part) => self.text(token, part, piece, at, sink),
                State::Number(part) => self.number(part, piece, at, sink),
                State::Literal(word, seen) => self.literal(word, seen, piece, at, sink),
                State::Between(expect) if self.silent.is_some() => {
                    self.structure::<S, true>(expect, piece, at, sink)
                }
                State::Between(expect) => self.structure::<S, false>(expect, piece, at, sink),
            };
            match step {
                Ok(next) => at = next,
                Err((index, reason)) => return self.fail(self.offset(index), reason),
            }
        }
        self.base += piece.len() as u64;
        Ok(())
    }

    /// The input ended. Ends a number at the root, which nothing else can.
    ///
    /// # Errors
    /// What came is not exactly one value with optional whitespace around it.
    pub(crate) fn finish<S: Sink>(&mut self, sink: &mut S) -> Result<(), Malformed> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        if let State::Number(part) = self.state
            && self.depth == 0
            && part.may_end()
        {
            // The end of what has been pushed is where the next piece would begin.
            self.close(Token::Number, 0, sink);
        }
        if self.is_complete() { Ok(()) } else { self.fail(self.base, "the input ended too early") }
    }

    /// Whether the root value is complete. (A number at the root is only after [`Self::finish`].)
    pub(crate) fn is_complete(&self) -> bool {
        self.state == State::Between(Expect::Done) && self.failed.is_none()
    }

    /// Begins again, with the next piece at offset 0.
    pub(crate) fn reset(&mut self) {
        *self = Self { lenient: self.lenient, ..Self::default() };
    }

    fn offset(&self, index: usize) -> u64 {
        self.base + index as u64
    }

    #[cold]
    fn fail(&mut self, at: u64, reason: &'static str) -> Result<(), Malformed> {
        let failed = Malformed { at, reason };
        self.failed = Some(failed);
        Err(failed)
    }

    /// The rest of a key or string that began in an earlier piece.
    fn text<S: Sink>(
        &mut self,
        token: Token,
        part: Text,
        piece: &[u8],
        from: usize,
        sink: &mut S,
    ) -> Step {
        let (to, part) = part.advance(piece, from)?;
        self.speak(|_| give(&piece[from..to], sink));
        let Some(part) = part else {
            self.close(token, to + 1, sink);
            return Ok(to + 1);
        };
        self.state = State::Text(token, part);
        Ok(to)
    }

    /// The rest of a number that began in an earlier piece.
    fn number<S: Sink>(&mut self, part: Number, piece: &[u8], from: usize, sink: &mut S) -> Step {
        if self.lenient && part == Number::Minus && piece[from] == b'I' {
            self.state = State::Literal(Word::Infinity, 0);
            return Ok(from);
        }
        let (to, part) = part.advance(piece, from)?;
        self.speak(|_| give(&piece[from..to], sink));
        match part {
            Some(part) => self.state = State::Number(part),
            None => self.close(Token::Number, to, sink),
        }
        Ok(to)
    }

    /// The rest of a word, as far as this piece goes.
    fn literal<S: Sink>(
        &mut self,
        word: Word,
        seen: u8,
        piece: &[u8],
        from: usize,
        sink: &mut S,
    ) -> Step {
        let mut at = from;
        for expected in &word.text()[usize::from(seen)..] {
            match piece.get(at) {
                Some(byte) if byte == expected => at += 1,
                Some(_) => return Err((at, "an invalid literal")),
                None => {
                    // At most eight bytes, so the sum fits.
                    self.state = State::Literal(word, seen + (at - from) as u8);
                    return Ok(at);
                }
            }
        }
        self.close(word.token(), at, sink);
        Ok(at)
    }

    /// Says something, unless nobody wants to hear it.
    fn speak(&self, say: impl FnOnce(&Self)) {
        if self.silent.is_none() {
            say(self);
        }
    }

    /// A token that is no container ended before the index `end`: tells the sink, and decides what
    /// must follow.
    fn close<S: Sink>(&mut self, token: Token, end: usize, sink: &mut S) {
        self.speak(|scanner| sink.end(token, scanner.depth, scanner.offset(end)));
        self.state = State::Between(self.after(token));
    }

    fn after(&self, token: Token) -> Expect {
        if token == Token::Key { Expect::Colon } else { self.after_value() }
    }

    #[inline]
    fn after_value(&self) -> Expect {
        if self.depth == 0 { Expect::Done } else { Expect::AfterValue }
    }
}

/// The index in the piece to go on from; or of the byte that cannot stand there, and why.
type Step = Result<usize, Fault>;
type Fault = (usize, &'static str);

#[inline]
fn give<S: Sink + ?Sized>(text: &[u8], sink: &mut S) {
    if !text.is_empty() {
        sink.text(text);
    }
}

impl Word {
    fn text(self) -> &'static [u8] {
        match self {
            Self::True => b"true",
            Self::False => b"false",
            Self::Null => b"null",
            Self::NaN => b"NaN",
            Self::Infinity => b"Infinity",
        }
    }

    fn token(self) -> Token {
        match self {
            Self::True => Token::True,
            Self::False => Token::False,
            Self::Null => Token::Null,
            Self::NaN | Self::Infinity => Token::Number,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    /// Tokens with their text joined, which is what must not depend on the cuts.
    #[derive(Debug, Default, PartialEq)]
    struct Recorder {
        seen: Vec<(Token, usize, u64, u64, Vec<u8>)>,
        open: Vec<usize>,
        /// What stands in containers at this depth and deeper is not wanted.
        deaf_from: Option<usize>,
    }

    impl Sink for Recorder {
        fn begin(&mut self, token: Token, depth: usize, at: u64) {
            self.open.push(self.seen.len());
            self.seen.push((token, depth, at, 0, Vec::new()));
        }

        fn wants(&self) -> bool {
            let current = *self.open.last().expect("a container has begun");
            self.deaf_from.is_none_or(|from| self.seen[current].1 < from)
        }

        fn text(&mut self, piece: &[u8]) {
            assert!(!piece.is_empty());
            let current = *self.open.last().expect("text stands in a token");
            self.seen[current].4.extend_from_slice(piece);
        }

        fn end(&mut self, token: Token, depth: usize, end: u64) {
            let current = self.open.pop().expect("an end follows a beginning");
            assert_eq!((token, depth), (self.seen[current].0, self.seen[current].1));
            self.seen[current].3 = end;
        }
    }

    type Outcome = (Recorder, Result<(), Malformed>);

    fn scan<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
        scan_for(Recorder::default(), pieces)
    }

    fn scan_for<'a>(sink: Recorder, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
        let (mut scanner, mut sink) = (Scanner::new(), sink);
        for piece in pieces {
            if let Err(malformed) = scanner.push(piece, &mut sink) {
                assert_eq!(scanner.push(b" ", &mut sink), Err(malformed), "stays malformed");
                assert_eq!(scanner.finish(&mut sink), Err(malformed), "stays malformed");
                return (sink, Err(malformed));
            }
        }
        let verdict = scanner.finish(&mut sink);
        assert_eq!(scanner.is_complete(), verdict.is_ok());
        (sink, verdict)
    }

    /// serde_json's verdict and ours: whole, in single bytes, and cut in two everywhere.
    fn check(input: &[u8]) -> bool {
        let mut whole = scan([input]);
        let expected = serde_json::from_slice::<IgnoredAny>(input).is_ok();
        let shown = String::from_utf8_lossy(input);
        assert_eq!(whole.1.is_ok(), expected, "{shown}: {:?}", whole.1);
        let forget_unfinished = |outcome: &mut Outcome| {
            if outcome.1.is_err() {
                outcome.0.seen.iter_mut().filter(|t| t.3 == 0).for_each(|t| t.4.clear());
            }
        };
        forget_unfinished(&mut whole);
        let again = |pieces: Vec<&[u8]>, cut: usize| {
            let mut outcome = scan(pieces);
            forget_unfinished(&mut outcome);
            assert_eq!(outcome, whole, "{shown} cut at {cut}");
        };
        again(input.chunks(1).collect(), usize::MAX);
        for cut in 0..=input.len().min(400) {
            again(vec![&input[..cut], &input[cut..]], cut);
        }
        // What is not wanted is checked all the same, and nothing is said of it.
        for deaf_from in 0..3 {
            for pieces in [1, 7, input.len().max(1)] {
                let sink = Recorder { deaf_from: Some(deaf_from), ..Recorder::default() };
                let mut deaf = scan_for(sink, input.chunks(pieces));
                forget_unfinished(&mut deaf);
                let heard = |token: &&(_, usize, _, _, _)| token.1 <= deaf_from;
                let expected: Vec<_> = whole.0.seen.iter().filter(heard).cloned().collect();
                assert_eq!((deaf.0.seen, deaf.1), (expected, whole.1), "{shown} by {pieces}");
            }
        }
        for (token, _, from, to, text) in whole.0.seen.iter().filter(|token| token.3 > 0) {
            let slice = &input[*from as usize..*to as usize];
            match token {
                Token::Key | Token::String => assert_eq!(slice[1..slice.len() - 1], text[..]),
                Token::Number => assert_eq!(slice, &text[..]),
                Token::Object => assert!(slice.starts_with(b"{") && slice.ends_with(b"}")),
                Token::Array => assert!(slice.starts_with(b"[") && slice.ends_with(b"]")),
                Token::True => assert_eq!(slice, b"true"),
                Token::False => assert_eq!(slice, b"false"),
                Token::Null => assert_eq!(slice, b"null"),
            }
        }
        expected
    }

    #[test]
    fn valid_documents() {
        let documents = r#"
            {} | [] | [[]] | [{}] | {"a":{}} | "" | "a" | 0 | -0 | 12 | -1.5 | 1e5 | 1E+5 | 0.0e-0
            | true | false | null | [1,2] | [1 , "x" , null] | {"a":1,"b":[true,false]} | {"":""}
            | "\u00e9\n\"\\\/\b\f\r\t" | "\ud800" | {"a":1,"a":2} | [1.25e-7,-3] | "é€𝄞"
            | 123456789012345678901234567890 | {"a\u0062":"\\"} | "0123456789abcdef0123456789\\\""
        "#;
        for document in documents.split('|').map(str::trim) {
            assert!(check(document.as_bytes()), "{document}");
            assert!(check(format!(" \r\n\t{document}\n ").as_bytes()), "{document}");
        }
        assert!(check(b"\"\x7f\""));
    }

    #[test]
    fn invalid_documents() {
        let documents = r#"
            { | } | [ | ] | {] | [} | [1,] | [,1] | [1 2] | {"a"} | {"a":} | {"a":1,} | {,} | {a:1}
            | {"a" 1} | {"a":1 "b":2} | {1:2} | "a | "\x" | "\u12g4" | "\u12" | 01 | -01 | - | +1
            | .5 | 1. | 1.e5 | 1e | 1e+ | 1.5.5 | 1-2 | 0x1 | tru | truE | nul | nulll | True | 1 2
            | {} {} | [] , | NaN | 'a' | // | {"a":1}} | [1]] | {"a":[1}] | "\
        "#;
        for document in documents.split('|').map(str::trim) {
            assert!(!check(document.as_bytes()), "{document}");
        }
        let raw = ["", " ", "\"a\nb\"", "\"\0\"", "\"0123456789\x1f\"", "\u{feff}{}", "[1\x0c]"];
        for document in raw {
            assert!(!check(document.as_bytes()), "{document:?}");
        }
    }

    /// Python's numbers that are none, cut everywhere: values like any other, but only if asked for.
    #[test]
    fn numbers_that_are_none_are_values_of_a_lenient_scanner() {
        let lenient = |pieces: Vec<&[u8]>| {
            let (mut scanner, mut sink) = (Scanner::lenient(), Recorder::default());
            let pushed = pieces.into_iter().try_for_each(|piece| scanner.push(piece, &mut sink));
            let verdict = pushed.and_then(|()| scanner.finish(&mut sink));
            (sink, verdict)
        };
        for (value, text) in [("NaN", ""), ("Infinity", ""), ("-Infinity", "-")] {
            for (left, right) in
                [("", ""), ("[", "]"), ("[1, ", " ,2]"), (r#"{"a":"#, r#","b":[]}"#)]
            {
                let input = format!("{left}{value}{right}");
                assert!(!check(input.as_bytes()), "{input}");
                let (whole, verdict) = lenient(vec![input.as_bytes()]);
                assert_eq!(verdict, Ok(()), "{input}");
                let number = whole.seen.iter().find(|token| token.2 == left.len() as u64);
                let number = number.expect("a token begins there");
                assert_eq!((number.0, &*number.4), (Token::Number, text.as_bytes()), "{input}");
                assert_eq!(number.3, (left.len() + value.len()) as u64, "{input}");
                for cut in 0..=input.len() {
                    let (head, tail) = input.as_bytes().split_at(cut);
                    let (cut_there, verdict) = lenient(vec![head, tail]);
                    assert_eq!((cut_there, verdict), (lenient(vec![input.as_bytes()]).0, Ok(())));
                }
            }
        }
        for input in ["nan", "+Infinity", "--Infinity", "-NaN", "-Inf", "Nan", "inf", "[1NaN]"] {
            assert!(lenient(vec![input.as_bytes()]).1.is_err(), "{input}");
        }
        let mut scanner = Scanner::lenient();
        scanner.reset();
        assert_eq!(scanner.push(b"[NaN]", &mut Recorder::default()), Ok(()));
    }

    #[test]
    fn tokens_depths_and_offsets() {
        let (recorder, verdict) = scan([&br#" {"a":[1,"x"],"":{"b":null}} "#[..]]);
        assert_eq!(verdict, Ok(()));
        let seen: Vec<_> = recorder.seen.iter().map(|t| (t.0, t.1, t.2, t.3)).collect();
        let expected = [
            (Token::Object, 0, 1, 28),
            (Token::Key, 1, 2, 5),
            (Token::Array, 1, 6, 13),
            (Token::Number, 2, 7, 8),
            (Token::String, 2, 9, 12),
            (Token::Key, 1, 14, 16),
            (Token::Object, 1, 17, 27),
            (Token::Key, 2, 18, 21),
            (Token::Null, 2, 22, 26),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn says_where_it_went_wrong() {
        let cases = [
            ("", 0),
            (r#"{"a":1"#, 6),
            (r#"{"a":1]"#, 6),
            ("[1,]", 3),
            ("01", 1),
            ("tru!", 3),
            ("\"ab\u{1}\"", 3),
            (r#"["\u00zz"]"#, 6),
        ];
        for (input, at) in cases {
            assert_eq!(scan([input.as_bytes()]).1.expect_err(input).at, at, "{input}");
        }
    }

    #[test]
    fn nests_as_deep_as_serde_json() {
        for depth in 120..140 {
            for (open, inner, close) in [("[", "", "]"), (r#"{"a":"#, "1", "}")] {
                let input = open.repeat(depth) + inner + &close.repeat(depth);
                let expected = serde_json::from_str::<serde_json::Value>(&input).is_ok();
                assert_eq!(scan([input.as_bytes()]).1.is_ok(), expected, "{depth}");
            }
        }
    }

    #[test]
    fn reset_begins_again() {
        let (mut scanner, mut sink) = (Scanner::new(), Recorder::default());
        scanner.push(b"[[}", &mut sink).expect_err("malformed");
        scanner.reset();
        assert!(!scanner.is_complete());
        let mut sink = Recorder::default();
        scanner.push(b"[]", &mut sink).expect("well-formed");
        assert!(scanner.is_complete());
        assert_eq!(sink.seen[0].3, 2);
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            ".{0,80}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                prop::collection::vec((".{0,9}", inner), 0..5)
                    .prop_map(|pairs| serde_json::Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

        #[test]
        fn random_documents_and_mutations(
            value in json(),
            pretty in any::<bool>(),
            edits in prop::collection::vec(
                (any::<prop::sample::Index>(), 0..3u8, any::<u8>()), 0..4
            ),
        ) {
            const LIKELY: &[u8] = b"{}[],:\"\\0123-+.eEtfn u/";
            let written = if pretty {
                serde_json::to_vec_pretty(&value)
            } else {
                serde_json::to_vec(&value)
            };
            let mut text = written.expect("a value can be written");
            prop_assert!(check(&text));
            for (index, kind, byte) in edits {
                let at = index.index(text.len() + 1);
                let byte = if byte < 200 { LIKELY[usize::from(byte) % LIKELY.len()] } else { byte };
                match kind {
                    0 => text.insert(at, byte),
                    1 if at < text.len() => text[at] = byte,
                    _ if at < text.len() => drop(text.remove(at)),
                    _ => {}
                }
            }
            check(&text);
        }
    }
}
