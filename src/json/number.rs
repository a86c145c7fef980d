//! The grammar of numbers (RFC 8259, section 6), byte by byte.

use super::Fault;

/// Where in a number: after the part named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Start,
    Minus,
    Zero,
    Integer,
    Dot,
    Fraction,
    E,
    Sign,
    Exponent,
}

impl Number {
    /// Whether the number is complete if nothing of it follows.
    pub(super) fn may_end(self) -> bool {
        matches!(self, Self::Zero | Self::Integer | Self::Fraction | Self::Exponent)
    }

    /// The state after `byte`, if it goes on with the number.
    #[inline]
    pub(super) fn next(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Start, b'-') => Some(Self::Minus),
            (Self::Start | Self::Minus, b'0') => Some(Self::Zero),
            (Self::Start | Self::Minus | Self::Integer, b'0'..=b'9') => Some(Self::Integer),
            (Self::Zero | Self::Integer, b'.') => Some(Self::Dot),
            (Self::Dot | Self::Fraction, b'0'..=b'9') => Some(Self::Fraction),
            (Self::Zero | Self::Integer | Self::Fraction, b'e' | b'E') => Some(Self::E),
            (Self::E, b'+' | b'-') => Some(Self::Sign),
            (Self::E | Self::Sign | Self::Exponent, b'0'..=b'9') => Some(Self::Exponent),
            _ => None,
        }
    }

    /// Goes on in `bytes` from `at`, which may be their end: the index after the number, or their
    /// end with the state there.
    pub(super) fn advance(
        self,
        bytes: &[u8],
        mut at: usize,
    ) -> Result<(usize, Option<Self>), Fault> {
        let mut part = self;
        while let Some(&byte) = bytes.get(at) {
            match part.next(byte) {
                Some(next) => part = next,
                None if part.may_end() => return Ok((at, None)),
                None => return Err((at, "an invalid number")),
            }
            at += 1;
        }
        Ok((at, Some(part)))
    }
}
