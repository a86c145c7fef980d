//! The framing of an event stream, found in pieces as it comes: which bytes belong to an event,
//! which of them are its data, where it ends (WHATWG HTML §9.2.5 and §9.2.6). Nothing is kept but
//! a state of a few bytes, so that a line of 8 MiB costs no more than a short one.

/// What some put before a text, and no reader takes for a part of it (RFC 8259 §8.1, WHATWG HTML §9.2.5).
pub(super) const BOM: &[u8] = b"\xEF\xBB\xBF";
const DATA: &[u8] = b"data";
/// What a line is without its spaces that names its event an error.
const ERROR: &[u8] = b"event:error";
/// What begins a line of llama.cpp's that is one, where others have `data:`.
const ERROR_FIELD: &[u8] = b"error:";

/// What a run of bytes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Between two events: a byte order mark, comments, blank lines.
    Between,
    /// In an event, but not data: names, other fields, comments, line ends.
    Field,
    /// A piece of a data line's value; `first` if the line's value begins here.
    Data { first: bool },
    /// A piece of a line that is no field by its first byte. Strictly it says nothing; but so goes on
    /// a document that an upstream prints over several lines after one `data:`.
    Stray { first: bool },
    /// The blank line that ends an event; of a CRLF only the CR.
    End,
    /// The LF of a CRLF whose CR was an `End`.
    Tail,
}

/// Takes a stream apart, run by run.
#[derive(Debug)]
pub(super) struct Lines {
    state: State,
    /// A line of the present event has begun.
    open: bool,
    /// The present event is called `error`.
    is_error: bool,
    /// It has a line that is one.
    has_error_line: bool,
    /// The last byte was the CR of a line end of this part: an LF would still belong to it.
    after_cr: Option<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes of a byte order mark have come, and nothing else yet.
    Bom(usize),
    /// At the start of a line.
    Start,
    /// So many bytes of the name `data` have come.
    Name(usize),
    /// After `data:`, where one space is dropped.
    Space,
    /// In the value of a data line.
    Data {
        first: bool,
    },
    /// In a line that is no field.
    Stray {
        first: bool,
    },
    /// So many bytes of [`ERROR`] have come, and perhaps the space.
    Event {
        seen: usize,
        is_spaced: bool,
    },
    /// So many bytes of [`ERROR_FIELD`] have come, at least one.
    Error(usize),
    /// In another field's line.
    Other,
    Comment,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self {
            state: State::Bom(0),
            open: false,
            is_error: false,
            has_error_line: false,
            after_cr: None,
        }
    }

    /// Whether a line begins with the next byte, and no event is open.
    pub(super) fn is_between(&self) -> bool {
        !self.open && matches!(self.state, State::Start | State::Bom(0))
    }

    /// Whether the event that has just ended, or is open, is an error: by its name, or by a line's where it
    /// has no data: to a client such a line says nothing.
    pub(super) fn is_error(&self, has_data: bool) -> bool {
        self.is_error || (self.has_error_line && !has_data)
    }

    /// Whether the next byte begins a line.
    #[inline]
    pub(super) fn is_line_start(&self) -> bool {
        matches!(self.state, State::Start | State::Bom(0))
    }

    /// What the first bytes of `bytes` (which is not empty) are, and how many: at least one.
    #[inline]
    pub(super) fn next(&mut self, bytes: &[u8]) -> (Part, usize) {
        if let Some(part) = self.after_cr.take()
            && bytes[0] == b'\n'
        {
            return (if part == Part::End { Part::Tail } else { part }, 1);
        }
        loop {
            match self.state {
                State::Bom(seen) => {
                    let len = common(&BOM[seen..], bytes);
                    if len > 0 {
                        let seen = seen + len;
                        self.state =
                            if seen == BOM.len() { State::Start } else { State::Bom(seen) };
                        return (Part::Between, len);
                    }
                    // A broken mark is the beginning of an unknown field's name.
                    self.open = seen > 0;
                    self.state = if seen == 0 { State::Start } else { State::Other };
                }
                State::Start => match self.start(bytes) {
                    Some(found) => return found,
                    None => continue,
                },
                State::Name(seen) => return self.name(bytes, seen),
                State::Event { seen, is_spaced } => return self.event(bytes, seen, is_spaced),
                State::Error(seen) => return self.error(bytes, seen),
                State::Space => {
                    self.state = State::Data { first: true };
                    if bytes[0] == b' ' {
                        return (Part::Field, 1);
                    }
                }
                State::Data { first } => {
                    let len = line_len(bytes);
                    if len == 0 {
                        return self.line_end(bytes, Part::Field);
                    }
                    self.state = State::Data { first: false };
                    return (Part::Data { first }, len);
                }
                State::Stray { first } => {
                    let len = line_len(bytes);
                    if len == 0 {
                        return self.line_end(bytes, Part::Field);
                    }
                    self.state = State::Stray { first: false };
                    return (Part::Stray { first }, len);
                }
                State::Other => return self.skip(bytes, Part::Field),
                State::Comment => {
                    let part = if self.open { Part::Field } else { Part::Between };
                    return self.skip(bytes, part);
                }
            }
        }
    }

    fn start(&mut self, bytes: &[u8]) -> Option<(Part, usize)> {
        match bytes[0] {
            b'\n' | b'\r' if self.open => {
                self.open = false;
                self.after_cr = (bytes[0] == b'\r').then_some(Part::End);
                return Some((Part::End, 1));
            }
            b'\n' | b'\r' => return Some(self.line_end(bytes, Part::Between)),
            b':' => self.state = State::Comment,
            first => {
                self.is_error &= self.open;
                self.has_error_line &= self.open;
                self.open = true;
                let stray = State::Stray { first: true };
                self.state = match first {
                    b'e' => State::Event { seen: 0, is_spaced: false },
                    first if is_stray(first) => stray,
                    _ => State::Name(0),
                };
                // By far the commonest line of all, in one step.
                if bytes.starts_with(b"data: ") {
                    self.state = State::Data { first: true };
                    return Some((Part::Field, b"data: ".len()));
                }
            }
        }
        None
    }

    fn name(&mut self, bytes: &[u8], seen: usize) -> (Part, usize) {
        let len = common(&DATA[seen..], bytes);
        let seen = seen + len;
        match bytes.get(len) {
            None => self.state = State::Name(seen),
            Some(b':') if seen == DATA.len() => {
                self.state = State::Space;
                return (Part::Field, len + 1);
            }
            // A line without a colon is a field without a value.
            Some(b'\n' | b'\r') => {
                let (part, end) = self.line_end(&bytes[len..], Part::Field);
                return (part, len + end);
            }
            Some(_) => {
                self.state = State::Other;
                return (Part::Field, len + 1);
            }
        }
        (Part::Field, len)
    }

    /// A line that begins with an `e`: it may give the event a name. The last one of an event counts (WHATWG HTML §9.2.6).
    #[inline(never)]
    fn event(&mut self, bytes: &[u8], seen: usize, is_spaced: bool) -> (Part, usize) {
        /// After the colon, where one space is dropped.
        const COLON: usize = b"event:".len();
        // The common names are other ones, and end here.
        if seen == 0
            && let Some(name) = bytes.strip_prefix(b"event: ")
            && name.first().is_some_and(|first| *first != b'e')
        {
            (self.state, self.is_error) = (State::Other, false);
            return self.skip(bytes, Part::Field);
        }
        let len = common(&ERROR[seen..], bytes);
        let seen = seen + len;
        match bytes.get(len) {
            Some(b'r') if seen == 1 => {
                let (part, rest) = self.error(&bytes[len..], seen);
                (part, len + rest)
            }
            None => {
                self.state = State::Event { seen, is_spaced };
                (Part::Field, len)
            }
            Some(b' ') if seen == COLON && !is_spaced => {
                self.state = State::Event { seen, is_spaced: true };
                (Part::Field, len + 1)
            }
            Some(next) => {
                let is_error = seen == ERROR.len() && matches!(next, b'\n' | b'\r');
                self.is_error = if seen < COLON { self.is_error } else { is_error };
                self.state = State::Other;
                let (part, rest) = self.skip(&bytes[len..], Part::Field);
                (part, len + rest)
            }
        }
    }

    /// A line that may be an error by itself.
    #[inline(never)]
    fn error(&mut self, bytes: &[u8], seen: usize) -> (Part, usize) {
        let len = common(&ERROR_FIELD[seen..], bytes);
        let seen = seen + len;
        self.has_error_line |= seen == ERROR_FIELD.len();
        if seen == ERROR_FIELD.len() || len < bytes.len() {
            self.state = State::Other;
            let (part, rest) = self.skip(&bytes[len..], Part::Field);
            return (part, len + rest);
        }
        self.state = State::Error(seen);
        (Part::Field, len)
    }

    /// The rest of a line that says nothing to us, its end included.
    fn skip(&mut self, bytes: &[u8], part: Part) -> (Part, usize) {
        let len = line_len(bytes);
        if len == bytes.len() {
            return (part, len);
        }
        let (part, end) = self.line_end(&bytes[len..], part);
        (part, len + end)
    }

    /// `bytes` begin with a line end: CRLF, LF or a lone CR.
    fn line_end(&mut self, bytes: &[u8], part: Part) -> (Part, usize) {
        self.state = State::Start;
        match bytes {
            [b'\r', b'\n', ..] => return (part, 2),
            [b'\r', ..] => self.after_cr = Some(part),
            _ => {}
        }
        (part, 1)
    }
}

/// Whether a line that begins so is none of an event's fields, but may be a piece of JSON: the names of
/// all fields begin with other letters than JSON's words.
fn is_stray(first: u8) -> bool {
    !first.is_ascii_alphabetic() || matches!(first, b't' | b'f' | b'n' | b'N' | b'I')
}

fn line_len(bytes: &[u8]) -> usize {
    memchr::memchr2(b'\n', b'\r', bytes).unwrap_or(bytes.len())
}

pub(super) fn common(expected: &[u8], bytes: &[u8]) -> usize {
    expected.iter().zip(bytes).take_while(|(left, right)| left == right).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data of the events that end, as WHATWG's parser would dispatch them; `|` separates
    /// data lines. `pieces` of that many bytes.
    fn dispatched(stream: &[u8], pieces: usize) -> Vec<String> {
        let (mut events, mut data, mut any) = (Vec::new(), String::new(), false);
        let mut lines = Lines::new();
        for mut frame in stream.chunks(pieces) {
            while !frame.is_empty() {
                let (part, len) = lines.next(frame);
                assert!(len > 0 && len <= frame.len());
                match part {
                    Part::Data { first } => {
                        if first && any {
                            data.push('|');
                        }
                        any = true;
                        data.push_str(&String::from_utf8_lossy(&frame[..len]));
                    }
                    Part::End => {
                        if any {
                            events.push(std::mem::take(&mut data));
                        }
                        any = false;
                    }
                    _ => {}
                }
                frame = &frame[len..];
            }
        }
        events
    }

    #[test]
    fn an_event_is_open_from_the_first_byte_of_a_field() {
        let cases: &[(&[u8], bool)] = &[
            (b"", true),
            (b"\xEF\xBB\xBF", true),
            (b"\xEF\xBB", false),
            (b"\xEF\xBBx\n", false),
            (b"\xEF\xBBx\n\n", true),
            (b": c", false),
            (b": c\r", true),
            (b"d", false),
            (b"id\n", false),
            (b"id\n\r", true),
        ];
        for (stream, between) in cases {
            let mut lines = Lines::new();
            for byte in stream.chunks(1) {
                lines.next(byte);
            }
            assert_eq!(lines.is_between(), *between, "{}", stream.escape_ascii());
        }
    }

    #[test]
    fn an_event_is_an_error_by_its_last_name_however_cut() {
        for (event, is_error) in [
            ("event: error\ndata: x", true),
            ("event:error\ndata: x", true),
            ("data: x\nevent: error\r", true),
            ("event: error\nid: 1\n: c\ndata: x", true),
            ("id: 1\nevent: a\nevent: error", true),
            ("event: error\neven: a\nevent_: b", true),
            ("event: error\nevent: a", false),
            ("event: error\nevent:", false),
            ("event: error\nevent: errors", false),
            ("event:  error", false),
            ("event: errors", false),
            ("event: response.error", false),
            ("event:erro", false),
            ("event error", false),
            ("event", false),
            ("e: error", false),
            ("data: event: error", false),
            ("error: {}", true),
            ("error:", true),
            ("data: x\nerror: y\r", false),
            ("data: x\nevent: error\nerror: y", true),
            ("errors: {}", false),
            ("error", false),
            ("er", false),
        ] {
            let stream = format!("{event}\n\ndata: y\n\n");
            for pieces in 1..=stream.len() {
                let (mut lines, mut ends) = (Lines::new(), Vec::new());
                for mut frame in stream.as_bytes().chunks(pieces) {
                    while !frame.is_empty() {
                        let (part, len) = lines.next(frame);
                        if part == Part::End {
                            ends.push(lines.is_error(event.contains("data")));
                        }
                        frame = &frame[len..];
                    }
                }
                assert_eq!(ends, [is_error, false], "{event:?} by {pieces}");
            }
        }
    }

    #[test]
    fn events_are_found_by_the_rules_however_cut() {
        let cases: &[(&[u8], &[&str])] = &[
            (b"data: a\n\ndata: b\n\n", &["a", "b"]),
            (b"data: a\r\n\r\ndata: b\r\n\r\n", &["a", "b"]),
            (b"data: a\r\rdata: b\r\r", &["a", "b"]),
            (b"data: a\n\r\ndata: b\r\n\n", &["a", "b"]),
            (b"data:a\n\ndata:  b\n\n", &["a", " b"]),
            (b"\xEF\xBB\xBFdata: a\n\n", &["a"]),
            (b"\xEF\xBBdata: a\n\ndata: b\n\n", &["b"]),
            (b": hi\n\n\ndata: a\n: in it\n\n", &["a"]),
            (b"data: a\ndata: b\n\n", &["a|b"]),
            (b"event: ping\n\ndata\n\ndata: a\n\n", &["a"]),
            (b"datax: a\nData: a\ndat: a\n data: a\n\nid: 1\ndata: b\n\n", &["b"]),
            (b"data: last\n", &[]),
            (b"data: a: b\n\n", &["a: b"]),
        ];
        for (stream, events) in cases {
            for pieces in 1..=stream.len() {
                let found = dispatched(stream, pieces);
                assert_eq!(found, *events, "{} by {pieces}", stream.escape_ascii());
            }
        }
    }
}
