//! A body's bytes while its request is decided on. hyper gives slices of its read buffers, and each
//! keeps its whole buffer alive, 8 KiB or more: a client that sends byte by byte would be kept at
//! thousands of times what it sends and is counted with. So only the first piece is kept as it is,
//! which is all of most bodies, and the others are copied together.

use bytes::Bytes;

/// Of a frame that is copied together, at most.
const FRAME_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct BodyBuffer {
    frames: Vec<Bytes>,
    /// The frame that is not full.
    last: Vec<u8>,
    /// Bytes that are still to come, if that was announced.
    left: Option<u64>,
}

impl BodyBuffer {
    /// `announced`: bytes of the whole body.
    pub(super) fn new(announced: Option<u64>) -> Self {
        Self { frames: Vec::new(), last: Vec::new(), left: announced }
    }

    pub(super) fn push(&mut self, piece: Bytes) {
        if self.frames.is_empty() && self.last.is_empty() {
            self.left = self.left.map(|left| left.saturating_sub(piece.len() as u64));
            self.frames.push(piece);
        } else {
            self.copy(&piece);
        }
    }

    pub(super) fn copy(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while !rest.is_empty() {
            if self.last.is_empty() {
                // Without an announcement it grows as it fills.
                let left = self.left.unwrap_or(rest.len() as u64);
                self.last.reserve_exact(left.min(FRAME_BYTES as u64) as usize);
            }
            let (now, later) = rest.split_at(rest.len().min(FRAME_BYTES - self.last.len()));
            self.last.extend_from_slice(now);
            self.left = self.left.map(|left| left.saturating_sub(now.len() as u64));
            rest = later;
            if self.last.len() == FRAME_BYTES {
                self.shut();
            }
        }
    }

    pub(super) fn into_frames(mut self) -> Vec<Bytes> {
        self.shut();
        self.frames
    }

    fn shut(&mut self) {
        if !self.last.is_empty() {
            self.frames.push(std::mem::take(&mut self.last).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_piece_is_kept_and_the_others_are_copied_together() {
        for (first, size, length) in
            [(5, 1, 200_000), (1, 70_000, 300_000), (9, 4096, 9), (3, 7, 65_539)]
        {
            let body: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let body = Bytes::from(body);
            for announced in [None, Some(length as u64), Some(1)] {
                let mut kept = BodyBuffer::new(announced);
                kept.push(body.slice(..first));
                let mut rest = body.slice(first..);
                while !rest.is_empty() {
                    kept.push(rest.split_to(rest.len().min(size)));
                }
                let frames = kept.into_frames();
                assert_eq!(frames.concat(), body);
                assert_eq!(frames[0].as_ptr(), body.as_ptr(), "not copied");
                assert_eq!(frames.len(), 1 + (length - first).div_ceil(FRAME_BYTES));
            }
        }
    }

    #[test]
    fn what_is_announced_is_made_room_for_at_once_and_no_more() {
        let mut kept = BodyBuffer::new(Some(1_000));
        kept.push(Bytes::from_static(&[0; 100]));
        kept.copy(&[0; 10]);
        assert_eq!(kept.last.capacity(), 900);
        let mut kept = BodyBuffer::new(Some(u64::MAX));
        kept.copy(&[0; 10]);
        assert_eq!(kept.last.capacity(), FRAME_BYTES);
    }
}
