//! What of a response may go on to the client, and when: bytes that are cleared leave as slices of
//! the frames they came in, bytes that wait for a decision are kept (they are few, so they are
//! copied), and bytes that were taken out never leave. Positions are offsets in the stream.

use std::ops::Range;

use bytes::Bytes;

/// The bytes between the upstream and the client.
#[derive(Debug, Default)]
pub(super) struct Release {
    /// The bytes from `released` to `frame_at`.
    held: Vec<u8>,
    /// Everything before this has left, or was taken out.
    released: u64,
    /// Everything before this may leave.
    cleared: u64,
    frame: Bytes,
    frame_at: u64,
}

impl Release {
    /// The next frame came.
    pub(super) fn open(&mut self, frame: &Bytes) {
        self.frame_at = self.end();
        self.frame = frame.clone();
    }

    /// Everything before `to` may leave.
    pub(super) fn clear(&mut self, to: u64) {
        self.cleared = self.cleared.max(to);
    }

    /// Puts `instead` in the place of `span`, after everything before it has left. Spans come in
    /// ascending order, and nothing of them may have been cleared.
    pub(super) fn replace(&mut self, span: Range<u64>, instead: &Bytes, out: &mut Vec<Bytes>) {
        self.release(span.start, out);
        if !instead.is_empty() {
            out.push(instead.clone());
        }
        let held = (self.held.len() as u64).min(span.end - self.released);
        self.held.drain(..held as usize);
        self.released = span.end;
        self.cleared = self.cleared.max(span.end);
    }

    /// The frame is done: what is cleared leaves, the rest is kept.
    pub(super) fn shut(&mut self, out: &mut Vec<Bytes>) {
        self.release(self.cleared, out);
        let kept = self.released.max(self.frame_at) - self.frame_at;
        self.held.extend_from_slice(&self.frame[kept as usize..]);
        self.frame_at = self.end();
        self.frame = Bytes::new();
    }

    /// The byte at `at`, if it is still here.
    pub(super) fn byte(&self, at: u64) -> Option<u8> {
        if at < self.frame_at {
            let index = at.checked_sub(self.frame_at - self.held.len() as u64)?;
            self.held.get(index as usize).copied()
        } else {
            self.frame.get((at - self.frame_at) as usize).copied()
        }
    }

    /// Where the first byte stands that has not left.
    pub(super) fn released(&self) -> u64 {
        self.released
    }

    /// Whether bytes are kept for a decision.
    pub(super) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Throws away what is kept.
    pub(super) fn discard(&mut self) {
        self.held = Vec::new();
        self.released = self.end();
    }

    /// Where the next frame will begin.
    fn end(&self) -> u64 {
        self.frame_at + self.frame.len() as u64
    }

    fn release(&mut self, to: u64, out: &mut Vec<Bytes>) {
        if self.released < to && !self.held.is_empty() {
            let len = (self.held.len() as u64).min(to - self.released);
            if len == self.held.len() as u64 {
                out.push(Bytes::from(std::mem::take(&mut self.held)));
            } else {
                out.push(Bytes::copy_from_slice(&self.held[..len as usize]));
                self.held.drain(..len as usize);
            }
            self.released += len;
        }
        if self.released < to {
            let from = (self.released - self.frame_at) as usize;
            out.push(self.frame.slice(from..(to - self.frame_at) as usize));
            self.released = to;
        }
    }
}
