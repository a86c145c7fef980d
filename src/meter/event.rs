//! What the meter remembers of the event that it is reading.

/// What ends a chat stream, as the value of a data line.
const DONE: &[u8] = b"[DONE]";

/// The event that is being read, or the body.
#[derive(Debug, Default)]
pub(super) struct Event {
    pub(super) open: bool,
    /// Where it begins in the stream.
    pub(super) at: u64,
    /// Bytes of JSON that have been scanned.
    pub(super) scanned: u64,
    /// Bytes of data, whatever they are.
    pub(super) len: u64,
    /// It is the end mark.
    pub(super) is_mark: bool,
    /// It is no JSON document, or one that is broken.
    pub(super) broken: bool,
    /// Its bytes leave as they come; else they wait for the verdict.
    pub(super) passing: bool,
    /// So many bytes of `[DONE]` have come in this data line.
    done_matched: usize,
    /// The last event was taken out of the stream.
    pub(super) dropped: bool,
}

impl Event {
    /// Between two events; and a body, whose bytes never wait as a whole.
    pub(super) fn none() -> Self {
        Self { passing: true, ..Self::default() }
    }

    pub(super) fn begin(at: u64, passing: bool) -> Self {
        Self { open: true, at, passing, ..Self::default() }
    }

    /// Whether a piece of a data line's value (`first`: its beginning) completes the end mark.
    /// Clients take a value for the end that only begins with it, and some don't wait for the blank
    /// line.
    pub(super) fn completes_end_mark(&mut self, piece: &[u8], first: bool) -> bool {
        if !first && self.done_matched == 0 {
            return false;
        }
        let matched = if first { 0 } else { self.done_matched };
        let expected = &DONE[matched..];
        let len = expected.len().min(piece.len());
        let matched = if piece[..len] == expected[..len] { matched + len } else { 0 };
        let complete = matched == DONE.len();
        self.done_matched = if complete { 0 } else { matched };
        self.is_mark |= complete;
        complete
    }
}
