//! Pictures that come with a question: which format they have, told by their bytes as the API
//! documents list them, and how large they are.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::refusal::Refusal;

/// Characters of base64 that are decoded to recognise a picture: its header is in front.
const MAX_DECODED_CHARS: usize = 256 * 1024;

/// With or without padding, and whatever the last bits of a cut prefix are.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A picture as far as it can be seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attachment {
    /// `None`: an address that nobody fetches, or one of the documents' placeholders.
    pub format: Option<&'static str>,
    /// Width and height in pixels, where the header says it.
    pub size: Option<(usize, usize)>,
}

const UNSEEN: Attachment = Attachment { format: None, size: None };

/// Looks at the `image` of a part, or at the `url` of an `image_url`.
///
/// # Errors
/// `invalid_image` if the data is in none of the four formats, or no base64.
pub(super) fn recognise(source: &str) -> Result<Attachment, Refusal> {
    if source.starts_with("https://") || source.starts_with("http://") {
        return Ok(UNSEEN);
    }
    let payload = match source.strip_prefix("data:") {
        Some(rest) => rest
            .split_once(";base64,")
            .map(|(_, payload)| payload)
            .ok_or_else(|| Refusal::invalid_image("a data URL without ;base64,"))?,
        None => source,
    };
    let bare = payload.trim_end_matches('=');
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let valid = bare.bytes().take_while(|byte| is_base64(byte)).count();
    // The documents' own examples end in `...` or are called IMAGE_BASE64_1.
    let placeholder = payload.ends_with("...") || payload.starts_with("IMAGE_BASE64");
    if valid < bare.len() && !placeholder {
        return Err(Refusal::invalid_image("not base64"));
    }
    let mut prefix = &bare[..valid.min(MAX_DECODED_CHARS)];
    if prefix.len() % 4 == 1 {
        prefix = &prefix[..prefix.len() - 1];
    }
    let bytes = LENIENT.decode(prefix).unwrap_or_default();
    match format(&bytes) {
        Some(format) => Ok(Attachment { format: Some(format), size: size(&bytes) }),
        None if placeholder => Ok(UNSEEN),
        None => Err(Refusal::invalid_image("neither PNG nor JPEG, WEBP or GIF")),
    }
}

fn format(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("PNG"),
        [0xff, 0xd8, 0xff, ..] => Some("JPEG"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("WEBP"),
        [b'G', b'I', b'F', b'8', ..] => Some("GIF"),
        _ => None,
    }
}

fn size(bytes: &[u8]) -> Option<(usize, usize)> {
    imagesize::blob_size(bytes).ok().map(|size| (size.width, size.height))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(mime: &str, bytes: &[u8]) -> String {
        format!("data:{mime};base64,{}", LENIENT.encode(bytes))
    }

    #[test]
    fn formats_are_told_apart_by_their_bytes_and_not_by_their_names() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x02\x80\0\0\x01\xe0\x08\x02\0\0\0";
        let gif = b"GIF89a\x40\x01\xf0\0\0\0\0";
        let webp = b"RIFF\x24\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\x7f\x02\0\xdf\x01\0";
        let jpeg =
            b"\xff\xd8\xff\xc0\0\x11\x08\x01\xe0\x02\x80\x03\x01\"\0\x02\x11\x01\x03\x11\x01";
        for (bytes, format, size) in [
            (&png[..], "PNG", Some((640, 480))),
            (&gif[..], "GIF", Some((320, 240))),
            (&webp[..], "WEBP", Some((640, 480))),
            (&jpeg[..], "JPEG", Some((640, 480))),
        ] {
            let seen = recognise(&url("image/png", bytes)).expect(format);
            assert_eq!(seen, Attachment { format: Some(format), size });
            assert_eq!(recognise(&LENIENT.encode(bytes)), Ok(seen), "without a data URL");
        }
    }

    #[test]
    fn the_documents_own_placeholders_are_accepted() {
        for (source, format) in [
            ("data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA...", Some("PNG")),
            ("data:image/jpeg;base64,/9j/4AAQSk...", Some("JPEG")),
            ("data:image/png;base64,IMAGE_BASE64_1", None),
            ("data:image/webp;base64,...", None),
            ("https://example.com/cat.png", None),
        ] {
            assert_eq!(recognise(source).expect(source).format, format, "{source}");
        }
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        let bmp = url("image/bmp", b"BM\x46\0\0\0\0\0\0\0");
        for source in [
            bmp.as_str(),
            "",
            "data:image/png,raw",
            "data:image/png;base64,",
            "data:image/png;base64,iVBORw0KGgo!",
            "data:image/png;base64,SGVsbG8=",
            "A",
        ] {
            let refusal = recognise(source).expect_err(source);
            assert!(refusal.body.contains("invalid_image"), "{source}");
        }
    }
}
