//! Reading the journal without touching it, beside a server that writes to it: for `weir verify` and
//! `weir backup`. The drain reads it in order to empty it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::drain::damage;
use crate::journal::codec::{self, Names, Record, Step};
use crate::journal::disk::{Disk, Os};
use crate::journal::{self, HEADER};
use crate::record::{EventId, Opened, Row};
use crate::store::Position;

/// What a scan found besides rows.
#[derive(Debug, Default)]
pub(crate) struct Scanned {
    /// Bytes before a record that were none.
    pub(crate) damaged_bytes: u64,
    /// Why a segment could not be read, or not behind some place: that of the first. What could be has been.
    pub(crate) unread: Option<super::LedgerError>,
}

impl Scanned {
    /// For whoever has to have seen everything.
    pub(crate) fn whole(mut self) -> Result<Self, super::LedgerError> {
        self.unread.take().map_or(Ok(self), Err)
    }
}

/// Hands `each` every request of the journal in `data` that has begun and ended, and whether the store
/// must have its row, by the `positions` that are in it. A segment is held in memory at a time.
pub(crate) fn scan(
    data: &Path,
    positions: &[Position],
    mut each: impl FnMut(Row, bool) -> Result<(), super::LedgerError>,
) -> Result<Scanned, super::LedgerError> {
    let failed = |path: &Path, source| super::LedgerError::Directory {
        path: path.display().to_string(),
        source,
    };
    let dir = data.join("journal");
    let files = match Os.list(&dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        files => files.map_err(|error| failed(&dir, error))?,
    };
    let mut files: Vec<_> = files
        .into_iter()
        .filter_map(|(file, _)| Some((journal::number_of(&file)?, file)))
        .collect();
    files.sort_unstable();
    let (mut names, mut open, mut scanned) = (Names::default(), HashMap::new(), Scanned::default());
    for (number, file) in files {
        let mut bytes = Vec::new();
        match File::open(&file).and_then(|mut open| open.read_to_end(&mut bytes)) {
            // The drain was faster: all of it is in the store.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            // What stands before it is there.
            Err(error) => drop(scanned.unread.get_or_insert(failed(&file, error))),
            Ok(_) => {}
        }
        let header = bytes.first_chunk().copied().unwrap_or(HEADER);
        if let Err(error) = damage::check_version(&header) {
            scanned.unread.get_or_insert(failed(&file, error));
            continue;
        }
        let name = journal::position_name(number, &header);
        let stored = positions.iter().find(|position| position.segment == name);
        let stored = stored.map_or(0, |position| position.offset);
        let rows = Segment { bytes: &bytes, names: &mut names, scanned: &mut scanned };
        rows.join(&mut open, |row, end| each(row, end <= stored))?;
    }
    Ok(scanned)
}

struct Segment<'a> {
    bytes: &'a [u8],
    names: &'a mut Names,
    scanned: &'a mut Scanned,
}

impl Segment<'_> {
    /// Hands `each` the requests that end in this segment, with where that is.
    fn join<E>(
        self,
        open: &mut HashMap<EventId, Opened>,
        mut each: impl FnMut(Row, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut at, mut damaged_from) = (HEADER.len(), None);
        while at < self.bytes.len() {
            let rest = &self.bytes[at..];
            let Step::Record(record, length) = codec::decode(rest, self.names) else {
                let is_new = damaged_from.is_none();
                damaged_from.get_or_insert(at);
                at += if is_new { damage::first_step(rest) } else { 1 };
                continue;
            };
            if let Some(from) = damaged_from.take() {
                self.scanned.damaged_bytes += (at - from) as u64;
            }
            at += length;
            match record {
                Record::Opened(opened) => drop(open.insert(opened.event_id, opened)),
                Record::Closed(closed) => {
                    if let Some(opened) = open.remove(&closed.event_id) {
                        each(Row { opened, closed }, at as u64)?;
                    }
                }
            }
        }
        Ok(())
    }
}
