//! The raw bytes of the usage objects of a document, copied out of the pieces in which it comes.

use std::ops::Range;

use super::facts::Slot;

/// A usage object larger than this cannot be read.
const RAW_USAGE_LIMIT: usize = 2 * 1024;

/// One usage object at most for each place where there may be one; of two the later.
#[derive(Debug, Default)]
pub(super) struct Captures {
    slots: [Capture; Slot::ALL.len()],
    /// The document has one; most have none.
    any: bool,
    /// The one that is open, and its depth.
    open: Option<(Slot, usize)>,
}

/// The bytes of one usage object.
#[derive(Debug, Default)]
struct Capture {
    span: Option<Range<u64>>,
    complete: bool,
    bytes: Vec<u8>,
}

impl Captures {
    /// The next document begins.
    pub(super) fn reset(&mut self) {
        self.open = None;
        if !std::mem::take(&mut self.any) {
            return;
        }
        for capture in &mut self.slots {
            capture.span = None;
        }
    }

    /// An object begins; offsets are those of the document.
    pub(super) fn begin(&mut self, slot: Slot, depth: usize, at: u64) {
        self.any = true;
        let capture = &mut self.slots[slot as usize];
        capture.span = Some(at..u64::MAX);
        capture.complete = false;
        capture.bytes.clear();
        self.open = Some((slot, depth));
    }

    /// An object ends, which may be the one that is open: then its slot.
    pub(super) fn end(&mut self, depth: usize, end: u64) -> Option<Slot> {
        let (slot, _) = self.open.take_if(|(_, from)| *from == depth)?;
        let capture = &mut self.slots[slot as usize];
        capture.complete = true;
        if let Some(span) = &mut capture.span {
            span.end = end;
        }
        Some(slot)
    }

    /// Copies what a piece, which begins at `at` and has been scanned, holds of the objects.
    pub(super) fn collect(&mut self, piece: &[u8], at: u64) {
        if !self.any {
            return;
        }
        for capture in &mut self.slots {
            let Some(span) = &capture.span else { continue };
            let from = span.start.max(at);
            let to = span.end.min(at + piece.len() as u64);
            let room = RAW_USAGE_LIMIT.saturating_sub(capture.bytes.len());
            if from < to {
                let part = &piece[(from - at) as usize..(to - at) as usize];
                capture.bytes.extend_from_slice(&part[..part.len().min(room)]);
            }
        }
    }

    /// The object found at a slot, once it has ended. Of one above the limit only the beginning is
    /// there, which is not JSON.
    pub(super) fn found(&self, slot: Slot) -> Option<&[u8]> {
        let capture = &self.slots[slot as usize];
        (capture.span.is_some() && capture.complete).then_some(&*capture.bytes)
    }
}
