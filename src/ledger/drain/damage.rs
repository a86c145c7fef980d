//! What to do where a segment holds something that is no record.

use std::io;

use crate::journal::codec::{self, Names, Step};
use crate::journal::{Format, HEADER};

/// How far to go from a damaged record to look for the next one. Where another record stands right
/// behind it, only its content was damaged: it is passed over whole. Else nothing says where the next
/// record begins, and every byte is tried. Trying them right away could take for a record what only
/// looks like one in some text, though it would need a checksum for that.
pub(crate) fn first_step(bytes: &[u8]) -> usize {
    let Some(length) = codec::stated_length(bytes) else { return 1 };
    match codec::decode(bytes.get(length..).unwrap_or_default(), &mut Names::default()) {
        Step::Record(..) => length,
        Step::Partial | Step::Damaged => 1,
    }
}

/// Refuses a segment of a version that is not read here: it is not damaged, so it must not be passed over. A
/// header that is no header at all is damage.
pub(crate) fn check_version(header: &[u8; HEADER.len()]) -> io::Result<()> {
    let Format::Other(version) = Format::of(header) else { return Ok(()) };
    let (oldest, newest) = Format::READ.into_inner();
    let whose = if version > newest { "a newer" } else { "an older" };
    let reason = format!(
        "format {version} is that of {whose} weir, and this one reads formats {oldest} to {newest}; \
         use the version that wrote it, or move the file away"
    );
    Err(io::Error::new(io::ErrorKind::InvalidData, reason))
}
