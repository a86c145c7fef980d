//! How long an MP3 is, frame by frame as it passes by. Each frame says how many bytes it has and at which rate, so the sum is
//! what a decoder plays (ISO/IEC 11172-3 §2.4.1, 13818-3).
//!
//! Only a file that nobody reads otherwise is believed: frames of one kind back to back, after tags (ID3v2 §3.1) and before
//! whatever follows. From the first byte on that does not fit, and in tags, every byte counts as at the
//! lowest rate that is understood: what hides there is paid for.

/// A second of speech in a compressed form, of which nobody states how long it is: 8 kbit/s, the least at which
/// common encoders (MP3, Opus) make speech that is understood. A head alone is not believed: each frame may say
/// something else.
pub(super) const AUDIO_BYTES_PER_SECOND: u64 = 1_000;
/// Bytes of a tag's head, and of a frame's.
const TAG_HEAD: usize = 10;
const FRAME_HEAD: usize = 4;

/// A file being followed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mp3 {
    head: [u8; TAG_HEAD],
    /// Bytes in `head`.
    kept: usize,
    /// Bytes of the present frame or tag that are still to come.
    to_come: u64,
    /// What all frames have in common; `None` before the first.
    kind: Option<Kind>,
    /// It is no MP3 from here on.
    is_lost: bool,
    frames_us: u64,
    /// Bytes that are in no frame.
    other_bytes: u64,
}

/// The version and the samples a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    is_first_version: bool,
    rate: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    kind: Kind,
    bytes: u64,
}

impl Mp3 {
    pub(super) fn push(&mut self, mut piece: &[u8]) {
        while let [byte, rest @ ..] = piece {
            if self.is_lost {
                self.other_bytes += piece.len() as u64;
                return;
            }
            if self.to_come > 0 {
                let passing = self.to_come.min(piece.len() as u64);
                self.to_come -= passing;
                if self.kind.is_none() {
                    self.other_bytes += passing;
                }
                piece = &piece[passing as usize..];
                continue;
            }
            self.head[self.kept] = *byte;
            self.kept += 1;
            piece = rest;
            self.look();
        }
    }

    /// In milliseconds.
    pub(super) fn ms(&self) -> u64 {
        let others = self.other_bytes + self.kept as u64;
        let others_ms = others.saturating_mul(1_000).div_ceil(AUDIO_BYTES_PER_SECOND);
        self.frames_us.div_ceil(1_000).saturating_add(others_ms)
    }

    fn look(&mut self) {
        let head = &self.head[..self.kept];
        let is_tag = self.kind.is_none() && head.starts_with(b"ID3");
        if head.len() < if is_tag { TAG_HEAD } else { FRAME_HEAD } {
            return;
        }
        if is_tag && let Some(bytes) = tag_bytes(&self.head) {
            self.to_come = bytes;
            self.other_bytes += TAG_HEAD as u64;
        } else if !is_tag
            && let Some(frame) = Frame::of(head)
            && self.kind.is_none_or(|kind| kind == frame.kind)
        {
            self.kind = Some(frame.kind);
            self.to_come = frame.bytes - FRAME_HEAD as u64;
            self.frames_us += (frame.kind.samples() * 1_000_000).div_ceil(frame.kind.rate);
        } else {
            self.is_lost = true;
            self.other_bytes += self.kept as u64;
        }
        self.kept = 0;
    }
}

impl Kind {
    /// Of a frame.
    fn samples(self) -> u64 {
        if self.is_first_version { 1_152 } else { 576 }
    }
}

impl Frame {
    /// Of layer III, at a bit rate that is said.
    fn of(head: &[u8]) -> Option<Self> {
        const FIRST: [u64; 14] = [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
        const LATER: [u64; 14] = [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
        const RATES: [u64; 3] = [44_100, 48_000, 32_000];
        let [0xff, second, third, _] = *head else { return None };
        // Eleven bits to find it by, two for the version, two for the layer.
        let (divisor, is_layer_3) = match (second >> 3 & 3, second >> 1 & 3) {
            (3, layer) => (1, layer == 1),
            (2, layer) => (2, layer == 1),
            (0, layer) => (4, layer == 1),
            _ => return None,
        };
        if second & 0xe0 != 0xe0 || !is_layer_3 {
            return None;
        }
        let is_first_version = divisor == 1;
        let kbits = if is_first_version { FIRST } else { LATER };
        // 0 is free, and 15 none.
        let kbits = *kbits.get(usize::from(third >> 4).checked_sub(1)?)?;
        let rate = RATES.get(usize::from(third >> 2 & 3))? / divisor;
        let kind = Kind { is_first_version, rate };
        let padding = u64::from(third >> 1 & 1);
        Some(Self { kind, bytes: kind.samples() / 8 * kbits * 1_000 / rate + padding })
    }
}

/// Bytes of a tag after its head; `None` where its length is none, or a footer follows that few know.
fn tag_bytes(head: &[u8; TAG_HEAD]) -> Option<u64> {
    let (has_footer, length) = (head[5] & 0x10 != 0, &head[6..]);
    let is_length = !has_footer && length.iter().all(|byte| *byte < 0x80);
    is_length.then(|| length.iter().fold(0, |bytes, byte| bytes << 7 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However it is cut.
    fn ms(file: &[u8]) -> u64 {
        let in_pieces = |size: usize| {
            let mut mp3 = Mp3::default();
            file.chunks(size).for_each(|piece| mp3.push(piece));
            mp3.ms()
        };
        let whole = in_pieces(file.len());
        for size in [1, 3, 7, 1_000] {
            assert_eq!(in_pieces(size), whole, "in pieces of {size}");
        }
        whole
    }

    fn frames(head: [u8; 4], bytes: usize, count: usize) -> Vec<u8> {
        let mut frame = vec![0x55; bytes];
        frame[..4].copy_from_slice(&head);
        frame.repeat(count)
    }

    /// 128 kbit/s at 44,100 Hz, as most are.
    fn usual(count: usize) -> Vec<u8> {
        frames([0xff, 0xfb, 0x90, 0x64], 417, count)
    }

    #[test]
    fn frames_say_how_long_a_file_is() {
        let padded = frames([0xff, 0xfb, 0x92, 0x64], 418, 1_000);
        // MPEG-2 at 22,050 Hz and 8 kbit/s, MPEG-2.5 at 8,000 Hz and 16 kbit/s.
        let slow = frames([0xff, 0xf3, 0x10, 0x64], 26, 1_000);
        let slowest = frames([0xff, 0xe3, 0x28, 0x64], 144, 1_000);
        let changing = [usual(500), frames([0xff, 0xfb, 0xe0, 0x64], 1_044, 500)].concat();
        for (file, expected) in [
            (usual(1_000), 26_123),
            (padded, 26_123),
            (slow, 26_123),
            (slowest, 72_000),
            (changing, 26_123),
        ] {
            assert_eq!(ms(&file), expected);
        }
        let tagged = [b"ID3\x04\0\0\0\0\x01\x00".as_slice(), &[7; 128], &usual(1_000)].concat();
        assert_eq!(ms(&tagged), 26_123 + 138);
        let with_end = [usual(1_000), b"TAG".to_vec(), vec![0; 125]].concat();
        assert_eq!(ms(&with_end), 26_123 + 128);
    }

    /// A decoder that looks for the next frame would find what stands there.
    #[test]
    fn what_is_in_no_frame_counts_as_if_it_were_in_the_slowest() {
        let hidden = frames([0xff, 0xf3, 0x10, 0x64], 26, 1_000);
        let behind = [usual(10), vec![0], hidden.clone()].concat();
        assert!(ms(&behind) >= 26_000);
        let of_another_kind = [usual(10), hidden.clone()].concat();
        assert!(ms(&of_another_kind) >= 26_000);
        let length = [21, 14, 7, 0].map(|shift| (hidden.len() >> shift & 0x7f) as u8);
        let in_a_tag = [b"ID3\x04\0\0".as_slice(), &length, &hidden].concat();
        assert!(ms(&in_a_tag) >= 26_000);
        for odd in [
            &b"RIFF"[..],
            b"\xff\xfb\x00\x64",
            b"\xff\xfb\xf0\x64",
            b"\xff\xfb\x9c\x64",
            b"\xff\xfd\x90\x64",
            b"\xff\xeb\x90\x64",
            b"ID3\x04\0\x10\0\0\0\0",
            b"ID3\x04\0\0\0\0\0\x80",
        ] {
            assert_eq!(ms(&[odd, &[0x55; 990]].concat()), 990 + odd.len() as u64, "{odd:?}");
        }
        assert_eq!((ms(b"\xff"), ms(b"ID3")), (1, 3));
    }
}
