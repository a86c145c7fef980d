//! What the value of a form's plain field is: text, a file in base64, a number or a bound.

use super::Multipart;
use super::part::{BOUND, Medium};
use crate::inspect::reader::{INTEGER, answers};
use crate::inspect::{Invalid, media};

impl Multipart<'_> {
    /// A plain field ended, of so many bytes, that nothing is known of: it is text, or a file in base64. A
    /// server may read the one for the other, so the alphabet has to be base64's to the end.
    pub(super) fn measured(&mut self, bytes: u64) {
        let (head, facts) = (&self.value, &mut self.facts);
        let base64_at = media::data_url(head);
        let begin = base64_at.unwrap_or_default();
        let in_head = head[..begin].iter().filter(|byte| !media::is_base64(**byte)).count();
        let is_base64 = self.foreign == in_head as u64;
        let is_named = self.part.medium.is_some() && bytes > media::HEAD as u64;
        if is_base64 && (base64_at.is_some() || is_named) {
            let medium = match () {
                () if head.starts_with(b"data:image/") => Some(Medium::Picture),
                () if head.starts_with(b"data:audio/") => Some(Medium::Sound),
                () => self.part.medium,
            };
            let length = bytes - begin as u64;
            match medium {
                Some(Medium::Picture) => facts.add_image(),
                Some(Medium::Sound) => {
                    facts.add_audio(media::base64_audio_ms(&head[begin..], length));
                }
                None => facts.media_tokens += media::file_tokens(length),
            }
            facts.media_bytes += bytes;
            facts.field_bytes -= bytes;
            return;
        }
        facts.text_bytes += bytes;
        // By its address, perhaps.
        if self.part.medium == Some(Medium::Picture) && bytes > 0 {
            facts.add_image();
        }
    }
}

/// A number of answers as it stands in a form, in the field `key`.
pub(super) fn count(value: &[u8], key: &'static str) -> Result<u64, Invalid> {
    let digits = std::str::from_utf8(value).ok();
    let digits = digits.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let n = digits.and_then(|text| text.parse::<u64>().ok());
    Ok(answers(n.ok_or(Invalid::Type { key, expected: INTEGER })?))
}

/// The tokens of a bound as it stands in a form; `None`: it says that there is none, or nothing.
pub(super) fn bound(value: &[u8]) -> Result<Option<u64>, Invalid> {
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    if !digits.iter().all(u8::is_ascii_digit) || (digits.is_empty() && !value.is_empty()) {
        return Err(Invalid::Type { key: BOUND, expected: INTEGER });
    }
    let add =
        |tokens: u64, digit: &u8| tokens.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    let is_number = digits.len() == value.len() && !value.is_empty();
    Ok(is_number.then(|| digits.iter().fold(0, add)))
}
