//! The model's name in a document: remembered once for the ledger, and found wherever it is to be
//! replaced by the one that the client knows.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

/// A model's name is kept up to here.
const MODEL_LIMIT: usize = 256;
/// A longer text in JSON is no model's name, even if each of its characters is escaped. It is not held.
const RAW_LIMIT: usize = 6 * MODEL_LIMIT;

/// Watches for the model's name.
#[derive(Debug)]
pub(super) struct Name {
    /// The first that was named, in raw JSON without quotes; over all documents.
    raw: Vec<u8>,
    known: bool,
    /// Names are to be found for replacing, whatever they are: upstreams put a date behind theirs.
    renames: bool,
    /// The name that is being read, if it is to be replaced: where it begins, and its length so far.
    reading: Option<(u64, usize)>,
    /// Found in this document, and not asked for yet.
    found: VecDeque<Range<u64>>,
}

impl Name {
    /// `renames`: whether names are to be found for replacing.
    pub(super) fn new(renames: bool) -> Self {
        let (raw, found) = (Vec::new(), VecDeque::new());
        Self { raw, known: false, renames, reading: None, found }
    }

    /// The next document begins.
    pub(super) fn reset(&mut self) {
        self.abandon();
        self.found.clear();
    }

    /// The document is broken or at its end: nothing more will be found in it.
    pub(super) fn abandon(&mut self) {
        self.reading = None;
    }

    /// The first model that was named.
    pub(super) fn model(&self) -> Option<Box<str>> {
        let known = self.known.then_some(self.raw.as_slice())?;
        if !known.contains(&b'\\') {
            return std::str::from_utf8(known).ok().map(Box::from);
        }
        serde_json::from_slice(&[b"\"", known, b"\""].concat()).ok()
    }

    /// Where in the stream a value begins that may turn out to be a name to replace.
    pub(super) fn undecided_from(&self) -> Option<u64> {
        self.reading.map(|(at, _)| at)
    }

    /// Where in the stream the next name to replace stands, quotes included, if that is before
    /// `before`; each once.
    pub(super) fn renamed(&mut self, before: u64) -> Option<Range<u64>> {
        self.found.pop_front_if(|span| span.start < before)
    }

    /// A name begins; `at`: its offset in the stream.
    pub(super) fn begin(&mut self, at: u64) {
        if !self.known {
            self.raw.clear();
        }
        self.reading = self.renames.then_some((at, 0));
    }

    pub(super) fn text(&mut self, piece: &[u8]) {
        if !self.known {
            let room = MODEL_LIMIT - self.raw.len();
            self.raw.extend_from_slice(&piece[..piece.len().min(room)]);
        }
        let longer = self.reading.map(|(at, len)| (at, len + piece.len()));
        self.reading = longer.filter(|(_, len)| *len <= RAW_LIMIT);
    }

    /// The name ended; `end` is the offset in the stream after its closing quote.
    pub(super) fn end(&mut self, end: u64) {
        self.known = !self.raw.is_empty();
        if let Some((at, _)) = self.reading.take() {
            self.found.push_back(at..end);
        }
    }
}

/// A name as it stands in JSON, quotes included.
pub(super) fn json_string(name: &str) -> Bytes {
    Bytes::from(serde_json::Value::from(name).to_string())
}
