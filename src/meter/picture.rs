//! Pictures that an answer may say twice, in a delta and again in what sums it up, or in its text and again in a
//! list: told apart by a fingerprint, because they are far too large to be kept.

/// So many pictures of one answer are told apart.
const LIMIT: usize = 64;
/// So many bytes of each are looked at, then one of so many: pictures of one kind begin alike.
const HEAD: u64 = 256;
const EVERY: u64 = 61;
/// What begins the bytes of a data URL (RFC 2397).
pub(super) const BASE64: &[u8] = b";base64,";

/// FNV-1a of a picture's first bytes, of some of the others, and its length. Of a data URL only what comes after its head counts, so
/// that it is the same picture as the bare bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fingerprint {
    hash: u64,
    len: u64,
    /// So many bytes of [`BASE64`] have come.
    matched: usize,
}

/// The pictures that stand in places of their own.
#[derive(Debug, Default)]
pub(super) struct Pictures {
    seen: Vec<u64>,
    /// How many of them earlier documents had.
    earlier: usize,
    present: Fingerprint,
}

impl Fingerprint {
    /// A picture's next bytes, as they stand in a JSON string; some write slashes with a backslash.
    pub(super) fn push(&mut self, piece: &[u8]) {
        const PRIME: u64 = 0x0100_0000_01b3;
        let mut rest = piece;
        while self.len < HEAD && !rest.is_empty() {
            let (byte, more) = (rest[0], &rest[1..]);
            rest = more;
            if byte == b'\\' {
                continue;
            }
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(PRIME);
            self.len += 1;
            let is_next = byte == BASE64[self.matched];
            self.matched = if is_next { self.matched + 1 } else { usize::from(byte == BASE64[0]) };
            if self.matched == BASE64.len() {
                *self = Self::default();
            }
        }
        for plain in rest.split(|byte| *byte == b'\\') {
            let first = (EVERY - self.len % EVERY) % EVERY;
            for byte in plain.iter().skip(first as usize).step_by(EVERY as usize) {
                self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(PRIME);
            }
            self.len += plain.len() as u64;
        }
    }

    /// Of the whole picture; none if it is empty.
    pub(super) fn end(&self) -> Option<u64> {
        (self.len > 0).then(|| self.hash ^ self.len.rotate_left(32))
    }
}

impl Default for Fingerprint {
    fn default() -> Self {
        /// FNV-1a's, of 64 bits.
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        Self { hash: OFFSET, len: 0, matched: 0 }
    }
}

impl Pictures {
    /// The next document begins.
    pub(super) fn reset(&mut self) {
        self.earlier = self.seen.len();
    }

    /// A picture begins, or what may be one.
    pub(super) fn begin(&mut self) {
        self.present = Fingerprint::default();
    }

    pub(super) fn push(&mut self, piece: &[u8]) {
        self.present.push(piece);
    }

    /// It has ended: its fingerprint, unless it is empty.
    pub(super) fn end(&self) -> Option<u64> {
        self.present.end()
    }

    /// Whether no earlier document had this one. Within one document two that are alike are two.
    pub(super) fn is_new(&mut self, print: u64) -> bool {
        let is_new = !self.seen[..self.earlier].contains(&print);
        if is_new && self.seen.len() < LIMIT {
            self.seen.push(print);
        }
        is_new
    }

    /// How many of `others` are none of these; each of these stands for one of them.
    pub(super) fn without(&self, others: impl Iterator<Item = u64>) -> u32 {
        let mut left = self.seen.clone();
        let mut count = 0;
        for other in others {
            match left.iter().position(|seen| *seen == other) {
                Some(at) => drop(left.swap_remove(at)),
                None => count += 1,
            }
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(pieces: &[&[u8]]) -> Option<u64> {
        let mut print = Fingerprint::default();
        pieces.iter().for_each(|piece| print.push(piece));
        print.end()
    }

    #[test]
    fn a_picture_is_the_same_however_it_is_cut_and_written() {
        let bytes = b"iVBORw0KGgo/AB+/".repeat(40);
        let whole = print(&[&bytes]);
        let url = [b"data:image/png;base64,", &bytes[..]].concat();
        let escaped = String::from_utf8(url.clone()).unwrap().replace('/', r"\/").into_bytes();
        for written in [&bytes, &url, &escaped] {
            for cut in 0..=written.len() {
                let (left, right) = written.split_at(cut);
                assert_eq!(print(&[left, right]), whole, "{cut}");
            }
        }
        assert_eq!(print(&[]), None);
    }

    /// Pictures of one size that are not compressed begin with the same bytes, and are as long.
    #[test]
    fn pictures_that_begin_alike_are_two() {
        let one = b"A".repeat(4000);
        let mut other = one.clone();
        other[3000..3100].fill(b'B');
        assert_ne!(print(&[&one]), print(&[&other]));
    }
}
