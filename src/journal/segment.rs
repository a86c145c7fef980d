//! One file of the journal, as its writer, its sync thread and the drain see it.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What every segment begins with: a name, the format's version, and places for the segment's id.
///
/// The version is raised with whatever a program of the version before would read wrongly, or not at all.
/// - 1: the first. Its `Closed` may end behind `upstream_request_id`.
/// - 2: `Closed` always goes on, with `price_version` and the owners.
/// - 3: there is a second kind of `Closed`, of a request that was sent elsewhere.
pub(crate) const HEADER: [u8; 16] = *b"WEIRJRNL\x03\0\0\0\0\0\0\0";
/// So many bytes say that a file is a segment; the next one is the version.
const NAME: usize = 8;
/// So many bytes of a header are the same in all segments.
pub(crate) const FIXED: usize = NAME + 1;
/// Segments of this version and of all after it, up to that of [`HEADER`], are read.
const OLDEST_VERSION: u8 = 1;

/// What the begin of a file says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A segment that this program reads.
    Known,
    /// A segment of this version, which it does not.
    Other(u8),
    /// No segment: its header is damaged.
    None,
}

impl Format {
    /// The versions that are read.
    pub(crate) const READ: std::ops::RangeInclusive<u8> = OLDEST_VERSION..=HEADER[NAME];

    pub(crate) fn of(header: &[u8; HEADER.len()]) -> Self {
        let version = header[NAME];
        match header[..NAME] == HEADER[..NAME] {
            false => Self::None,
            true if Self::READ.contains(&version) => Self::Known,
            true => Self::Other(version),
        }
    }
}

/// The header of a new segment. Numbers begin anew in an empty directory, and a store can be one that
/// was copied beside another journal: the id tells segments of one number apart.
pub(super) fn new_header() -> io::Result<[u8; HEADER.len()]> {
    let mut header = HEADER;
    getrandom::fill(&mut header[FIXED..]).map_err(io::Error::other)?;
    Ok(header)
}

/// The name under which the store remembers how far a segment has been read: by its number, and by the
/// id in its header. Segments of earlier versions have none.
pub(crate) fn position_name(number: u64, header: &[u8; HEADER.len()]) -> String {
    let id = header[FIXED..].iter().fold(0, |id, byte| id << 8 | u64::from(*byte));
    if id == 0 { number.to_string() } else { format!("{number}-{id:014x}") }
}

/// One file.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) path: PathBuf,
    /// The writer's end: every byte before it has been written. Only `power` mode asks for it.
    written: AtomicU64,
    /// Every byte before this offset is whole records that survive what they have to. Only they are
    /// read, and only for them an answer is released.
    published: AtomicU64,
    /// Every byte before this offset is in the store.
    settled: AtomicU64,
    /// Nothing will be published any more.
    sealed: AtomicBool,
    /// A sync failed: what is not published may be anything.
    failed: AtomicBool,
    /// Whatever was not published is somewhere else by now.
    superseded: AtomicBool,
    /// A sync that nobody waited for failed: what was written by then may never reach the disk.
    doubtful: AtomicBool,
}

impl Segment {
    /// One that has just been begun: its header is all there is.
    pub(super) fn begun(number: u64, path: PathBuf) -> Self {
        Self::new(number, path, HEADER.len() as u64, false)
    }

    /// One of an earlier run, of `length` bytes.
    pub(super) fn found(number: u64, path: PathBuf, length: u64) -> Self {
        Self::new(number, path, length, true)
    }

    fn new(number: u64, path: PathBuf, length: u64, is_sealed: bool) -> Self {
        Self {
            number,
            path,
            written: AtomicU64::new(length),
            published: AtomicU64::new(length),
            settled: AtomicU64::new(HEADER.len() as u64),
            sealed: AtomicBool::new(is_sealed),
            failed: AtomicBool::new(false),
            superseded: AtomicBool::new(false),
            doubtful: AtomicBool::new(false),
        }
    }

    /// How far the segment may be read.
    pub(crate) fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    /// Published bytes that the store does not have.
    pub(super) fn lag(&self) -> u64 {
        self.published().saturating_sub(self.settled())
    }

    pub(crate) fn settled(&self) -> u64 {
        self.settled.load(Ordering::Acquire)
    }

    /// The drain says how far the store has it.
    pub(crate) fn settle(&self, end: u64) {
        self.settled.store(end, Ordering::Release);
    }

    /// Whether [`Segment::published`] is final; ask for this first.
    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    /// Whether everything that it holds is published, or somewhere else: only then it may go.
    pub(crate) fn is_complete(&self) -> bool {
        !self.is_failed() || self.superseded.load(Ordering::Acquire)
    }

    pub(super) fn supersede(&self) {
        self.superseded.store(true, Ordering::Release);
    }

    pub(super) fn publish(&self, end: u64) {
        self.published.store(end, Ordering::Release);
    }

    pub(super) fn seal(&self) {
        self.sealed.store(true, Ordering::Release);
    }

    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    pub(super) fn wrote(&self, end: u64) {
        self.written.store(end, Ordering::Release);
    }

    pub(super) fn is_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Whether nothing more is to be written to it, because a sync of it failed.
    pub(super) fn is_doubtful(&self) -> bool {
        self.doubtful.load(Ordering::Relaxed)
    }

    pub(super) fn doubt(&self) {
        self.doubtful.store(true, Ordering::Relaxed);
    }

    /// No sync will be tried again: the kernel may say yes to the next one though it has dropped what
    /// the first could not write.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
        self.seal();
    }
}
