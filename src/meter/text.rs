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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_counted_as_it_will_be_decoded_however_it_is_cut() {
        for (raw, bytes) in [
            (r"", 0),
            (r"plain", 5),
            (r"a\nb", 3),
            (r"\\n", 2),
            (r#"\"\/"#, 2),
            (r"\u4e16", 3),
            (r"a\u4e16bc", 6),
            (r"\u4e16\u754c", 6),
            (r"\u4e16\n\\u", 6),
        ] {
            for cut in 0..=raw.len() {
                let mut text = Text::default();
                text.begin();
                text.push(&raw.as_bytes()[..cut]);
                text.push(&raw.as_bytes()[cut..]);
                assert_eq!(text.bytes(), bytes, "{raw} cut at {cut}");
                // A string that was cut off within an escape is over.
                text.push(br"\u4");
                text.begin();
                let before = text.bytes();
                text.push(b"ab");
                assert_eq!(text.bytes(), before + 2, "{raw}");
            }
        }
    }
}
