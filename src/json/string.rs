//! The grammar of strings (RFC 8259, section 7), from after the opening quote on.

use super::Fault;
use super::plain::plain;

/// Where in a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    Plain,
    /// After a backslash.
    Escape,
    /// In `\uXXXX`, with so many digits to come.
    Hex(u8),
}

impl Text {
    /// Goes on in `bytes` from `at`, which may be their end: the index of the closing quote, or
    /// their end with the state there.
    pub(super) fn advance(
        self,
        bytes: &[u8],
        mut at: usize,
    ) -> Result<(usize, Option<Self>), Fault> {
        let mut part = self;
        loop {
            if part == Self::Plain {
                at += plain(&bytes[at..]);
            }
            let Some(&byte) = bytes.get(at) else { return Ok((at, Some(part))) };
            part = match (part, byte) {
                (Self::Plain, b'"') => return Ok((at, None)),
                (Self::Plain, b'\\') => Self::Escape,
                (Self::Plain, _) => return Err((at, "a control character in a string")),
                (Self::Escape, b'u') => Self::Hex(4),
                (Self::Escape, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                    Self::Plain
                }
                (Self::Hex(1), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => Self::Plain,
                (Self::Hex(left), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => Self::Hex(left - 1),
                (Self::Escape | Self::Hex(_), _) => return Err((at, "an invalid escape")),
            };
            at += 1;
        }
    }
}
