//! The usage objects of a document: read as they pass, whatever their length, and the beginning of
//! their bytes copied out of the pieces in which they come.

use std::ops::Range;

use super::facts::{CHOICES_LIMIT, Slot};
use super::usage_object::{InvalidUsage, UsageObject};
use super::usage_reader::UsageReader;
use crate::json::Token;

/// So many bytes of a usage object are kept.
const RAW_USAGE_LIMIT: usize = 2 * 1024;
/// Of so many objects of one document.
const RAW_LIMIT: usize = 8;

/// One usage object at most for each place where there may be one; of two the later.
#[derive(Debug, Default)]
pub(super) struct Captures {
    /// The first `used` belong to this document; the others keep their room for the next one.
    all: Vec<Capture>,
    used: usize,
    /// The one that is open, and its depth.
    open: Option<(usize, usize)>,
    /// Made for the first one; many answers have none.
    reader: Option<Box<UsageReader>>,
}

/// One usage object.
#[derive(Debug)]
struct Capture {
    slot: Slot,
    span: Range<u64>,
    bytes: Vec<u8>,
    /// Once it has ended.
    stated: Option<Result<UsageObject, InvalidUsage>>,
}

impl Captures {
    /// The next document begins.
    pub(super) fn reset(&mut self) {
        self.open = None;
        self.used = 0;
    }

    /// An object begins; offsets are those of the document.
    pub(super) fn begin(&mut self, slot: Slot, depth: usize, at: u64) {
        let known = self.all[..self.used].iter().position(|capture| capture.slot == slot);
        let index = known.unwrap_or(self.used);
        if index == Slot::ALONE + CHOICES_LIMIT {
            return;
        }
        self.used = self.used.max(index + 1);
        if self.all.len() == index {
            let bytes = Vec::new();
            // Nearly every answer has one.
            self.all.reserve_exact(1);
            self.all.push(Capture { slot, span: 0..0, bytes, stated: None });
        }
        let capture = &mut self.all[index];
        (capture.slot, capture.span, capture.stated) = (slot, at..u64::MAX, None);
        capture.bytes.clear();
        match &mut self.reader {
            Some(reader) => **reader = UsageReader::default(),
            none => *none = Some(Box::default()),
        }
        self.open = Some((index, depth));
    }

    /// Whether what comes next stands in an object.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub(super) fn key(&mut self, raw: &[u8]) {
        if let Some(reader) = &mut self.reader {
            reader.key(raw);
        }
    }

    pub(super) fn value(&mut self, token: Token, text: &[u8]) {
        if let Some(reader) = &mut self.reader {
            reader.value(token, text);
        }
    }

    /// A container begins in the object that is open; whether its inside matters.
    pub(super) fn inside(&mut self, token: Token) -> bool {
        self.reader.as_mut().is_some_and(|reader| reader.begin(token))
    }

    /// A container ends, which may be the object that is open: then its slot.
    pub(super) fn end(&mut self, depth: usize, end: u64) -> Option<Slot> {
        let (index, from) = self.open?;
        let reader = self.reader.as_mut()?;
        if from != depth {
            reader.end();
            return None;
        }
        self.open = None;
        let capture = &mut self.all[index];
        capture.stated = Some(reader.finish());
        capture.span.end = end;
        Some(capture.slot)
    }

    /// Copies what a piece, which begins at `at` and has been scanned, holds of the objects.
    pub(super) fn collect(&mut self, piece: &[u8], at: u64) {
        for capture in self.all[..self.used].iter_mut().take(RAW_LIMIT) {
            let from = capture.span.start.max(at);
            let to = capture.span.end.min(at + piece.len() as u64);
            let room = RAW_USAGE_LIMIT.saturating_sub(capture.bytes.len());
            if from < to {
                let part = &piece[(from - at) as usize..(to - at) as usize];
                capture.bytes.extend_from_slice(&part[..part.len().min(room)]);
            }
        }
    }

    /// Whether there is none.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// The objects that have ended, with their first bytes, in the order in which they are considered.
    pub(super) fn found(
        &self,
    ) -> impl Iterator<Item = (Slot, &[u8], Result<UsageObject, InvalidUsage>)> {
        let all = &self.all[..self.used];
        let is_one = all.len() == 1;
        let of = move |turn: usize| {
            all.iter().filter(move |capture| is_one || capture.slot.turn() == turn)
        };
        let turns = if is_one || all.is_empty() { all.len() } else { Slot::TURNS };
        let in_order = (0..turns).flat_map(of);
        in_order.filter_map(|capture| Some((capture.slot, &*capture.bytes, capture.stated?)))
    }

    /// What the object says that came as the `index`th.
    #[cfg(test)]
    pub(super) fn stated(&self, index: usize) -> Result<UsageObject, InvalidUsage> {
        self.all[..self.used]
            .get(index)
            .and_then(|capture| capture.stated)
            .unwrap_or(Err(InvalidUsage))
    }
}
