//! How much the model said: the size of its text once decoded, for the estimate where no usage is
//! stated.

/// Counts the bytes of texts that come as raw JSON strings, in pieces.
#[derive(Debug, Default)]
pub(super) struct Text {
    bytes: u64,
    escape: Escape,
}

/// Where in an escape sequence of a counted text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Begun,
    Digits(u8),
}

impl Text {
    /// The sum over all texts.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Text that is not in JSON.
    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// A string begins.
    pub(super) fn begin(&mut self) {
        self.escape = Escape::None;
    }

    /// Counts text as it will be after decoding: an escape is one byte, `\uXXXX` about three.
    pub(super) fn push(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while let Some(&byte) = rest.first() {
            let passed = match self.escape {
                Escape::None => {
                    let plain = memchr::memchr(b'\\', rest);
                    self.bytes += plain.unwrap_or(rest.len()) as u64;
                    if plain.is_some() {
                        self.escape = Escape::Begun;
                    }
                    plain.map_or(rest.len(), |plain| plain + 1)
                }
                Escape::Begun => {
                    let unicode = byte == b'u';
                    self.bytes += if unicode { 3 } else { 1 };
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
