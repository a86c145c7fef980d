//! What to do where a segment holds something that is no record.

use std::io;

use crate::ledger::codec::{self, Names, Step};
use crate::ledger::journal::HEADER;

/// How many bytes of a header say that the file is a journal segment; the next one is the version.
const MAGIC_BYTES: usize = 8;

/// How far to go from a damaged record to look for the next one. Where another record stands right
/// behind it, only its content was damaged: it is passed over whole. Else nothing says where the next
/// record begins, and every byte is tried. Trying them right away could take for a record what only
/// looks like one in some text, though it would need a checksum for that.
pub(in crate::ledger) fn first_step(bytes: &[u8]) -> usize {
    let Some(length) = codec::stated_length(bytes) else { return 1 };
    match codec::decode(bytes.get(length..).unwrap_or_default(), &mut Names::default()) {
        Step::Record(..) => length,
        Step::Partial | Step::Damaged => 1,
    }
}

/// Refuses a segment that another version wrote: it is not damaged, so it must not be passed over. A
/// header that is no header at all is damage.
pub(in crate::ledger) fn check_version(header: &[u8; HEADER.len()]) -> io::Result<()> {
    let version = header[MAGIC_BYTES];
    if header[..MAGIC_BYTES] != HEADER[..MAGIC_BYTES] || version == HEADER[MAGIC_BYTES] {
        return Ok(());
    }
    let reason = format!(
        "format {version} is not of this version of weir, which reads format {}; use the version \
         that wrote it, or move the file away",
        HEADER[MAGIC_BYTES]
    );
    Err(io::Error::new(io::ErrorKind::InvalidData, reason))
}
