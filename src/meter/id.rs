//! The ids of a response of the Responses API, of its items and of the containers that those name, for whoever remembers whose they are.

/// Ids that are kept, at most: those of the first items.
const IDS_MAX: usize = 64;
/// Raw bytes of an id, at most; a longer one is not kept.
const RAW_MAX: usize = 3 * 1024;

/// Watches for ids.
#[derive(Debug, Default)]
pub(super) struct Ids {
    are_wanted: bool,
    /// The one that is being read, in raw JSON without quotes.
    raw: Vec<u8>,
    known: Vec<Box<str>>,
}

impl Ids {
    pub(super) fn new(are_wanted: bool) -> Self {
        Self { are_wanted, ..Self::default() }
    }

    /// An id begins; whether it is to be read.
    pub(super) fn begin(&mut self) -> bool {
        self.raw.clear();
        self.are_wanted && self.known.len() < IDS_MAX
    }

    pub(super) fn text(&mut self, piece: &[u8]) {
        let room = (RAW_MAX + 1).saturating_sub(self.raw.len());
        self.raw.extend_from_slice(&piece[..piece.len().min(room)]);
    }

    /// It ended. A stream names the same again and again.
    pub(super) fn end(&mut self) {
        if self.raw.is_empty() || self.raw.len() > RAW_MAX {
            return;
        }
        let id = serde_json::from_slice(&[b"\"", self.raw.as_slice(), b"\""].concat());
        if let Ok(id) = id
            && !self.known.contains(&id)
        {
            self.known.push(id);
        }
    }

    pub(super) fn known(&self) -> Box<[Box<str>]> {
        self.known.as_slice().into()
    }
}
