//! How the fields of a record are written.

/// The longest text in a record, in bytes.
const MAX_TEXT_BYTES: usize = 2048;

/// LEB128.
pub(super) fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    let text = &text[..text.floor_char_boundary(MAX_TEXT_BYTES)];
    put_u64(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// An absent text is told from an empty one by a length that is one too large.
pub(super) fn put_optional_text(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        None => out.push(0),
        Some(text) => {
            let text = &text[..text.floor_char_boundary(MAX_TEXT_BYTES)];
            put_u64(out, text.len() as u64 + 1);
            out.extend_from_slice(text.as_bytes());
        }
    }
}
