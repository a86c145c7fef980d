//! Answers that come compressed although they were asked for as they are (RFC 9110 §8.4): the client
//! gets the upstream's own bytes, and beside them they are decoded here, in small pieces, for the meter
//! to read. Where that fails, or would cost too much, the meter knows nothing and says so.

use flate2::{Decompress, FlushDecompress, Status};

/// Decoded bytes that are looked at; a few bytes can stand for gigabytes.
const DECODED_LIMIT: u64 = 64 * 1024 * 1024;
/// Decoded at a time.
const PIECE: usize = 16 * 1024;
/// The window of gzip, as a power of two.
const WINDOW_BITS: u8 = 15;

/// The coding of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Deflate,
    /// Not read: another one, or several.
    Unknown,
}

/// Decodes one answer.
#[derive(Debug)]
pub(super) struct DecodingTap {
    coding: Coding,
    /// `None` before the first byte, which tells the forms of deflate apart; and after a member of gzip,
    /// which another one may follow (RFC 1952 §2.2).
    inflate: Option<Decompress>,
    left: u64,
    is_blind: bool,
}

impl Coding {
    /// By `content-encoding`; `None`: it is as it is.
    pub(crate) fn of(content_encoding: Option<&str>) -> Option<Self> {
        match &*content_encoding?.trim().to_ascii_lowercase() {
            "" | "identity" => None,
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            _ => Some(Self::Unknown),
        }
    }
}

impl DecodingTap {
    pub(super) fn new(coding: Coding) -> Self {
        let is_blind = coding == Coding::Unknown;
        Self { coding, inflate: None, left: DECODED_LIMIT, is_blind }
    }

    /// Whether some of the answer was not read.
    pub(super) fn is_blind(&self) -> bool {
        self.is_blind
    }

    /// Whether what has come does not end where its coding does.
    pub(super) fn is_within(&self) -> bool {
        self.inflate.is_some()
    }

    /// Decodes the next bytes, and gives `read` what they stand for, piece by piece.
    pub(super) fn push(&mut self, frame: &[u8], read: impl FnMut(&[u8])) {
        if !self.is_blind && self.decode(frame, read).is_none() {
            self.is_blind = true;
            self.inflate = None;
        }
    }

    /// `None` if it does not follow the coding's rules, or there is too much of it.
    fn decode(&mut self, mut input: &[u8], mut read: impl FnMut(&[u8])) -> Option<()> {
        let mut output = [0; PIECE];
        while let Some(first) = input.first() {
            let inflate = self.inflate.get_or_insert_with(|| match self.coding {
                Coding::Gzip => Decompress::new_gzip(WINDOW_BITS),
                // RFC 1950 §2.2: the method is 8. Some leave that head out and begin with RFC 1951.
                _ => Decompress::new(first & 0x0f == 8),
            });
            let mut is_over = false;
            let mut is_full = true;
            while !is_over && (is_full || !input.is_empty()) {
                let before = (inflate.total_in(), inflate.total_out());
                let status = inflate.decompress(input, &mut output, FlushDecompress::Sync).ok()?;
                // Both differences are lengths of the slices given.
                let taken = (inflate.total_in() - before.0) as usize;
                let given = (inflate.total_out() - before.1) as usize;
                self.left = self.left.checked_sub(given as u64)?;
                input = &input[taken..];
                read(&output[..given]);
                is_over = status == Status::StreamEnd;
                is_full = given == PIECE;
                if taken == 0 && given == 0 && !is_over && !input.is_empty() {
                    return None;
                }
            }
            if is_over {
                self.inflate = None;
                if self.coding != Coding::Gzip && !input.is_empty() {
                    return None;
                }
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).expect("a Vec takes all");
        encoder.finish().expect("a Vec takes all")
    }

    /// What is read when `stream` comes in pieces of `size`; `None` if not all of it could be.
    fn decoded(coding: Coding, stream: &[u8], size: usize) -> Option<Vec<u8>> {
        let (mut tap, mut read) = (DecodingTap::new(coding), Vec::new());
        for piece in stream.chunks(size) {
            tap.push(piece, |bytes| read.extend_from_slice(bytes));
        }
        (!tap.is_blind()).then_some(read)
    }

    #[test]
    fn every_form_is_decoded_however_it_is_cut() {
        let text = b"data: {\"choices\":[]}\n\ndata: [DONE]\n\n".repeat(9);
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(&text).expect("a Vec takes all");
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::default());
        raw.write_all(&text).expect("a Vec takes all");
        let members = [gzip(&text[..50]), gzip(b""), gzip(&text[50..])].concat();
        let cases = [
            (Coding::Gzip, gzip(&text)),
            (Coding::Gzip, members),
            (Coding::Deflate, zlib.finish().expect("a Vec takes all")),
            (Coding::Deflate, raw.finish().expect("a Vec takes all")),
        ];
        for (coding, stream) in cases {
            for size in 1..=stream.len() {
                assert_eq!(decoded(coding, &stream, size).as_deref(), Some(&*text), "{coding:?}");
            }
        }
    }

    /// An event is read as soon as its bytes are there, not when the next ones come.
    #[test]
    fn what_has_come_is_read_at_once() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        let mut tap = DecodingTap::new(Coding::Gzip);
        for n in 0..20_000_u32 {
            encoder.write_all(format!("event {n};").as_bytes()).expect("a Vec takes all");
            if n % 1000 != 0 {
                continue;
            }
            encoder.flush().expect("a Vec takes all");
            let mut last = Vec::new();
            let sent = std::mem::take(encoder.get_mut());
            tap.push(&sent, |bytes| last.extend_from_slice(bytes));
            assert!(last.ends_with(format!("event {n};").as_bytes()), "{n}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_left_alone() {
        let good = gzip(b"abc");
        let mut damaged = good.clone();
        damaged[12] ^= 0x55;
        let bomb = gzip(&vec![0; DECODED_LIMIT as usize + 1]);
        let trailing = [&good[..], b"xyz"].concat();
        let streams = [
            (Coding::Gzip, damaged),
            (Coding::Gzip, bomb),
            (Coding::Gzip, trailing),
            (Coding::Gzip, b"plain text, not gzip".to_vec()),
            (Coding::Unknown, good),
        ];
        for (coding, stream) in streams {
            assert_eq!(decoded(coding, &stream, 1 << 16), None, "{} bytes", stream.len());
        }
    }

    #[test]
    fn codings_have_their_names() {
        let cases = [
            (None, None),
            (Some(""), None),
            (Some(" Identity "), None),
            (Some("GZIP"), Some(Coding::Gzip)),
            (Some("x-gzip"), Some(Coding::Gzip)),
            (Some("deflate"), Some(Coding::Deflate)),
            (Some("br"), Some(Coding::Unknown)),
            (Some("gzip, gzip"), Some(Coding::Unknown)),
        ];
        for (value, coding) in cases {
            assert_eq!(Coding::of(value), coding, "{value:?}");
        }
    }
}
