//! What a pass of the drain did, for logs and metrics: the numbers of several passes add up.

/// What one pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Rows that were new to the store.
    pub(crate) rows: u64,
    /// Bytes before a record that were none and had to be passed over.
    pub(crate) damaged_bytes: u64,
    /// Bytes at a segment's end that were no whole record: a crash cut it.
    pub(crate) torn_bytes: u64,
    /// `Closed` records whose `Opened` is neither in the journal nor in the store.
    pub(crate) orphans: u64,
    /// Segments that could not be read to their end, and are tried again.
    pub(crate) unread: u64,
}

impl Progress {
    pub(super) fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.damaged_bytes += other.damaged_bytes;
        self.torn_bytes += other.torn_bytes;
        self.orphans += other.orphans;
        self.unread += other.unread;
    }
}
