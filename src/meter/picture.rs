//! Pictures that a stream may say twice, in a delta and again in what sums it up: told apart by a
//! fingerprint, because they are far too large to be kept.

/// So many pictures of one answer are told apart.
const LIMIT: usize = 64;
/// So many bytes of each are looked at, and its length.
const HEAD: u64 = 256;

#[derive(Debug, Default)]
pub(super) struct Pictures {
    seen: Vec<u64>,
    /// How many of them earlier documents had.
    earlier: usize,
    hash: u64,
    len: u64,
}

impl Pictures {
    /// The next document begins.
    pub(super) fn reset(&mut self) {
        self.earlier = self.seen.len();
    }

    /// A picture begins, or what may be one.
    pub(super) fn begin(&mut self) {
        /// FNV-1a's offset and prime, of 64 bits.
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        (self.hash, self.len) = (OFFSET, 0);
    }

    pub(super) fn push(&mut self, piece: &[u8]) {
        const PRIME: u64 = 0x0100_0000_01b3;
        let left = HEAD.saturating_sub(self.len);
        for byte in piece.iter().take(left as usize) {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
        self.len += piece.len() as u64;
    }

    /// It has ended: its fingerprint, unless it is empty.
    pub(super) fn end(&self) -> Option<u64> {
        (self.len > 0).then(|| self.hash ^ self.len.rotate_left(32))
    }

    /// Whether no earlier document had this one. Within one document two that are alike are two.
    pub(super) fn is_new(&mut self, print: u64) -> bool {
        let is_new = !self.seen[..self.earlier].contains(&print);
        if is_new && self.seen.len() < LIMIT {
            self.seen.push(print);
        }
        is_new
    }
}
