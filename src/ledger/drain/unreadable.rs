//! Parts of a segment that the disk does not give back: a bad block, a file that is gone, a network disk
//! that is away for a moment. Only once that has lasted for a while, what stands there is taken for lost. What
//! stands beside it, and all other segments, are not.

use std::io;
use std::time::Duration;

use crate::journal::disk::DiskFile;

/// So long it is tried again before it is passed over.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// At a start, between two of these looks.
pub(super) const RETRY_EVERY: Duration = Duration::from_secs(1);
/// What a disk loses at once.
const BLOCK: usize = 4096;
/// Errors by which a file system says that bytes are gone: EIO, ENODATA (of a medium), EBADMSG and EUCLEAN (a
/// checksum of its own).
const LOST: [i32; 4] = [5, 61, 74, 117];

/// Whether an error can mean that there is nothing to be had any more. After any other the same may be
/// read once somebody has mended what is wrong.
pub(super) fn is_lost(error: &io::Error) -> bool {
    let is_less = [io::ErrorKind::UnexpectedEof, io::ErrorKind::NotFound].contains(&error.kind());
    is_less || error.raw_os_error().is_some_and(|number| LOST.contains(&number))
}

/// A segment of which something could not be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failing {
    /// When that was found.
    pub(super) since: Duration,
    /// How far the segment was published then: nothing behind it has been tried for as long.
    pub(super) end: u64,
}

impl Failing {
    /// Whether it has been tried for long enough.
    pub(super) fn is_over(&self, now: Duration, patience: Duration) -> bool {
        now >= self.since + patience
    }
}

/// What could not be read of some bytes. They are zeros, which are no record.
#[derive(Debug)]
pub(super) struct Lost {
    /// How many before them could be.
    pub(super) before: usize,
    pub(super) error: io::Error,
}

/// Reads what can be read, and says what cannot.
pub(super) fn read(file: &impl DiskFile, bytes: &mut [u8], at: u64) -> io::Result<Option<Lost>> {
    match file.read_exact_at(bytes, at) {
        Err(error) if is_lost(&error) => read_blocks(file, bytes, at),
        read => read.map(|()| None),
    }
}

/// The same of a file that could not even be opened.
pub(super) fn none(bytes: &mut [u8], error: io::Error) -> Lost {
    bytes.fill(0);
    Lost { before: 0, error }
}

fn read_blocks(file: &impl DiskFile, bytes: &mut [u8], mut at: u64) -> io::Result<Option<Lost>> {
    let (mut lost, mut done) = (None, 0);
    while done < bytes.len() {
        let to_next = BLOCK - (at % BLOCK as u64) as usize;
        let length = to_next.min(bytes.len() - done);
        let block = &mut bytes[done..done + length];
        match file.read_exact_at(block, at) {
            Err(error) if is_lost(&error) => {
                block.fill(0);
                lost.get_or_insert(Lost { before: done, error });
            }
            read => read?,
        }
        at += length as u64;
        done += length;
    }
    Ok(lost)
}
