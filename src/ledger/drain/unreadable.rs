//! Parts of a segment that the disk does not give back: a bad block, a network disk that lost some. What
//! stands there is lost; what stands beside it, and all later segments, are not.

use std::io;

use crate::ledger::journal::disk::DiskFile;

/// What a disk loses at once.
const BLOCK: usize = 4096;
/// Errors by which a file system says that bytes are gone: EIO, ENODATA (of a medium), EBADMSG and EUCLEAN (a
/// checksum of its own).
const LOST: [i32; 4] = [5, 61, 74, 117];

/// Whether an error means that there is nothing to be had, now or later. After any other the same
/// may be read in a moment.
pub(super) fn is_lost(error: &io::Error) -> bool {
    let is_short = error.kind() == io::ErrorKind::UnexpectedEof;
    is_short || error.raw_os_error().is_some_and(|number| LOST.contains(&number))
}

/// Reads what can be read, and says how many bytes cannot: they are zeros, which are no record.
pub(super) fn read(file: &impl DiskFile, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    match file.read_exact_at(bytes, at) {
        Err(error) if is_lost(&error) => read_blocks(file, bytes, at),
        read => read.map(|()| 0),
    }
}

/// The same of a file that could not even be opened.
pub(super) fn none(bytes: &mut [u8]) -> usize {
    bytes.fill(0);
    bytes.len()
}

fn read_blocks(file: &impl DiskFile, mut bytes: &mut [u8], mut at: u64) -> io::Result<usize> {
    let mut lost = 0;
    while !bytes.is_empty() {
        let to_next = BLOCK - (at % BLOCK as u64) as usize;
        let (block, rest) = bytes.split_at_mut(to_next.min(bytes.len()));
        match file.read_exact_at(block, at) {
            Err(error) if is_lost(&error) => {
                block.fill(0);
                lost += block.len();
            }
            read => read?,
        }
        at += block.len() as u64;
        bytes = rest;
    }
    Ok(lost)
}
