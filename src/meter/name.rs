//! The model's name in a document: remembered once for the ledger, and found where it is to be
//! replaced by the one that the client knows.

use std::ops::Range;

use bytes::Bytes;

/// A model's name is kept up to here.
const MODEL_LIMIT: usize = 256;

/// Watches for the model's name.
#[derive(Debug)]
pub(super) struct Name {
    /// The first that was named, in raw JSON without quotes; over all documents.
    raw: Vec<u8>,
    known: bool,
    rename: Option<Rename>,
    /// Found, and not asked for yet.
    renamed: Option<Range<u64>>,
}

/// A model's name that may have to become another one.
#[derive(Debug)]
struct Rename {
    /// The upstream's name as it stands in JSON between the quotes.
    from: Bytes,
    state: Renaming,
}

#[derive(Debug, PartialEq, Eq)]
enum Renaming {
    Waiting,
    /// The value that begins at `at` equals the name in its first `matched` bytes.
    Matching {
        at: u64,
        matched: usize,
    },
    Done,
}

impl Name {
    /// `rename`: the upstream's name, if it is to be found for replacing.
    pub(super) fn new(rename: Option<&str>) -> Self {
        let rename = rename.map(|name| {
            let quoted = json_string(name);
            Rename { from: quoted.slice(1..quoted.len() - 1), state: Renaming::Waiting }
        });
        Self { raw: Vec::new(), known: false, rename, renamed: None }
    }

    /// The next document begins. Only its first name is replaced.
    pub(super) fn reset(&mut self) {
        if let Some(rename) = &mut self.rename {
            rename.state = Renaming::Waiting;
        }
    }

    /// The document is broken: nothing more will be found in it.
    pub(super) fn abandon(&mut self) {
        if let Some(rename) = &mut self.rename {
            rename.state = Renaming::Done;
        }
    }

    /// The first model that was named.
    pub(super) fn model(&self) -> Option<Box<str>> {
        let known = self.known.then_some(self.raw.as_slice())?;
        if !known.contains(&b'\\') {
            return std::str::from_utf8(known).ok().map(Box::from);
        }
        serde_json::from_slice(&[b"\"", known, b"\""].concat()).ok()
    }

    /// Where in the stream a value begins that may turn out to be the name to replace.
    pub(super) fn undecided_from(&self) -> Option<u64> {
        match self.rename.as_ref()?.state {
            Renaming::Matching { at, .. } => Some(at),
            _ => None,
        }
    }

    /// Where in the stream the name to replace stands, quotes included; once.
    pub(super) fn renamed(&mut self) -> Option<Range<u64>> {
        self.renamed.take()
    }

    /// A name begins; `at`: its offset in the stream, if it may be replaced.
    pub(super) fn begin(&mut self, at: Option<u64>) {
        if !self.known {
            self.raw.clear();
        }
        if let (Some(rename), Some(at)) = (&mut self.rename, at)
            && rename.state == Renaming::Waiting
        {
            rename.state = Renaming::Matching { at, matched: 0 };
        }
    }

    pub(super) fn text(&mut self, piece: &[u8]) {
        if !self.known {
            let room = MODEL_LIMIT - self.raw.len();
            self.raw.extend_from_slice(&piece[..piece.len().min(room)]);
        }
        if let Some(rename) = &mut self.rename
            && let Renaming::Matching { matched, .. } = &mut rename.state
        {
            let to = *matched + piece.len();
            if rename.from.get(*matched..to) == Some(piece) {
                *matched = to;
            } else {
                rename.state = Renaming::Done;
            }
        }
    }

    /// The name ended; `end` is the offset in the stream after its closing quote.
    pub(super) fn end(&mut self, end: u64) {
        self.known = !self.raw.is_empty();
        if let Some(rename) = &mut self.rename
            && let Renaming::Matching { at, matched } = rename.state
        {
            if matched == rename.from.len() {
                self.renamed = Some(at..end);
            }
            rename.state = Renaming::Done;
        }
    }
}

/// A name as it stands in JSON, quotes included.
pub(super) fn json_string(name: &str) -> Bytes {
    Bytes::from(serde_json::Value::from(name).to_string())
}
