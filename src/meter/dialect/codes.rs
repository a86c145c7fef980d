//! What short words and numbers say that stand at the top of a document.

use crate::meter::decimal::scaled;

/// Whether a `code` that stands beside a message may be that of an error: some write one in every answer.
pub(super) fn is_error_code(code: &[u8]) -> bool {
    let is_fine: [&[u8]; 6] = [b"", b"0", b"200", b"20000", b"ok", b"success"];
    !is_fine.iter().any(|fine| fine.eq_ignore_ascii_case(code))
}

/// Whether a `status` is that of a failure, in a word or as HTTP has it.
pub(super) fn is_failed_status(status: &[u8]) -> bool {
    let is_word = [&b"error"[..], b"fail", b"failed", b"failure"]
        .iter()
        .any(|word| word.eq_ignore_ascii_case(status));
    is_word || matches!(status, [b'4' | b'5', b'0'..=b'9', b'0'..=b'9'])
}

/// A number that stands alone, in digits; some write it as a string.
pub(super) fn number(text: &[u8], places: i64) -> Option<u64> {
    let is_number = text.iter().any(u8::is_ascii_digit)
        && text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    is_number.then(|| scaled(text, places))?.filter(|number| *number <= 1 << 53)
}
