//! How much the model said: the size of its text once decoded, for the estimate where no usage is
//! stated.

use super::picture::{BASE64, Fingerprint};

/// So many pictures are told from those that stand elsewhere.
const LIMIT: usize = 64;
/// So many characters of base64 are a picture; fewer may well be text that a model wrote.
const PICTURE: u64 = 1024;

/// Counts the bytes of texts that come as raw JSON strings, in pieces. A picture that stands among them
/// as a data URL is no text.
#[derive(Debug, Default)]
pub(super) struct Text {
    bytes: u64,
    pictures: u32,
    /// Of the first ones that are over.
    prints: Vec<u64>,
    /// Of the present payload.
    print: Fingerprint,
    escape: Escape,
    url: Url,
}

/// Where in an escape sequence of a counted text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Begun,
    Digits(u8),
}

/// Where in a data URL, which may go on in the next string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Url {
    #[default]
    None,
    /// So many bytes of what begins its payload have come.
    Begun(usize),
    /// So many characters of the payload.
    Payload(u64),
}

impl Text {
    /// The sum over all texts.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Pictures that stood in them.
    pub(super) fn pictures(&self) -> u32 {
        self.pictures
    }

    /// What tells the first of them from others.
    pub(super) fn prints(&self) -> impl Iterator<Item = u64> {
        let is_picture = matches!(self.url, Url::Payload(len) if len >= PICTURE);
        let last = self.print.end().filter(|_| is_picture);
        self.prints.iter().copied().chain(last).take(LIMIT)
    }

    /// Text that is not in JSON.
    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// So much of it had been said before.
    pub(super) fn take_back(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// A string begins.
    pub(super) fn begin(&mut self) {
        self.escape = Escape::None;
    }

    /// Counts text as it will be after decoding: an escape is one byte, `\uXXXX` about three.
    pub(super) fn push(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while let Some(&byte) = rest.first() {
            let passed = match (self.escape, self.url) {
                (Escape::None, Url::None) => {
                    let plain = memchr::memchr2(b'\\', b';', rest);
                    self.bytes += plain.unwrap_or(rest.len()) as u64;
                    match plain.map(|plain| rest[plain]) {
                        Some(b';') => self.url = Url::Begun(0),
                        Some(_) => self.escape = Escape::Begun,
                        None => {}
                    }
                    plain.map_or(rest.len(), |plain| plain + usize::from(rest[plain] == b'\\'))
                }
                (Escape::None, Url::Begun(seen)) if byte == BASE64[seen] => {
                    self.bytes += 1;
                    let is_whole = seen + 1 == BASE64.len();
                    self.url = if is_whole { Url::Payload(0) } else { Url::Begun(seen + 1) };
                    self.print = Fingerprint::default();
                    1
                }
                (Escape::None, Url::Payload(_)) if is_base64(byte) => {
                    let run = rest.iter().take_while(|byte| is_base64(**byte)).count();
                    self.payload(&rest[..run]);
                    run
                }
                (Escape::None, Url::Payload(_)) if byte == b'\\' => {
                    self.escape = Escape::Begun;
                    1
                }
                (Escape::None, _) => {
                    self.end_url();
                    0
                }
                // A slash may be written so, and is base64.
                (Escape::Begun, Url::Payload(_)) if byte == b'/' => {
                    self.escape = Escape::None;
                    self.payload(b"/");
                    1
                }
                (Escape::Begun, _) => {
                    let unicode = byte == b'u';
                    self.end_url();
                    self.bytes += if unicode { 3 } else { 1 };
                    self.escape = if unicode { Escape::Digits(4) } else { Escape::None };
                    1
                }
                (Escape::Digits(left), _) => {
                    self.escape = if left > 1 { Escape::Digits(left - 1) } else { Escape::None };
                    1
                }
            };
            rest = &rest[passed..];
        }
    }

    /// A data URL is over, if one has begun.
    fn end_url(&mut self) {
        if let Url::Payload(PICTURE..) = self.url
            && self.prints.len() < LIMIT
        {
            self.prints.extend(self.print.end());
        }
        self.url = Url::None;
    }

    /// More characters of a payload: text, until there are too many.
    fn payload(&mut self, piece: &[u8]) {
        let Url::Payload(before) = self.url else { return };
        self.print.push(piece);
        let more = piece.len() as u64;
        let after = before + more;
        self.url = Url::Payload(after);
        if after < PICTURE {
            self.bytes += more;
        } else if before < PICTURE {
            self.bytes -= before;
            self.pictures = self.pictures.saturating_add(1);
        }
    }
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_')
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

    #[test]
    fn a_picture_in_a_text_is_no_text_however_it_is_cut() {
        let picture = "iVBORw0KGgo/".repeat(100);
        let escaped = picture.replace('/', r"\/");
        for (raw, bytes, pictures) in [
            (format!("See ![a](data:image/png;base64,{picture}) and"), 36, 1),
            (format!("See ![a](data:image/png;base64,{escaped}) and"), 36, 1),
            (format!(";base64,{picture} ;base64,{picture}"), 17, 2),
            ("(data:image/gif;base64,R0lGODlhAQ==) a;b;base64;c".to_owned(), 49, 0),
            (r"data:text/plain;base64,QUJD\n;;base64,x".to_owned(), 38, 0),
        ] {
            for cut in 0..=raw.len() {
                let mut text = Text::default();
                text.begin();
                text.push(&raw.as_bytes()[..cut]);
                text.push(&raw.as_bytes()[cut..]);
                assert_eq!((text.bytes(), text.pictures()), (bytes, pictures), "cut at {cut}");
            }
            let mut text = Text::default();
            let is_escaped = raw.contains('\\');
            for string in raw.as_bytes().chunks(if is_escaped { raw.len() } else { 5 }) {
                text.begin();
                text.push(string);
            }
            assert_eq!((text.bytes(), text.pictures()), (bytes, pictures), "{raw} as deltas");
        }
    }
}
