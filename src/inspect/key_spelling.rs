//! How a key may be written, and how readers of JSON compare it.

/// A key in the spelling in which readers compare it that take no notice of case.
pub(super) fn fold(key: &str) -> String {
    key.chars()
        .map(|letter| match letter {
            // What becomes an ASCII letter by some rule of Unicode (SimpleFold, or lower case).
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            '\u{130}' | '\u{131}' => 'i',
            letter => letter.to_ascii_lowercase(),
        })
        .collect()
}

/// Whether a raw key is what it is in all spellings: without capitals, escapes or anything beyond ASCII.
#[inline]
pub(super) fn is_plain(raw: &[u8]) -> bool {
    raw.iter().all(|byte| !byte.is_ascii_uppercase() && *byte < 0x80 && *byte != b'\\')
}

/// A raw key as it is spelt and as it is compared.
pub(super) struct Spelt {
    pub(super) text: String,
    pub(super) folded: String,
}

impl Spelt {
    /// `None`: it is not Unicode, and readers differ in what they make of it.
    pub(super) fn of(raw: &[u8]) -> Option<Self> {
        let text = decode(raw)?;
        Some(Self { folded: fold(&text), text })
    }
}

/// The text of a string whose bytes between the quotes, which have been scanned, are `raw`; none if it
/// is not Unicode.
pub(super) fn decode(raw: &[u8]) -> Option<String> {
    if !raw.contains(&b'\\') {
        return String::from_utf8(raw.to_vec()).ok();
    }
    serde_json::from_slice(&[b"\"", raw, b"\""].concat()).ok()
}
