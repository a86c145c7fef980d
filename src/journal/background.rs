//! Syncs that nobody waits for, with `durability = "crash"`: so that a power cut loses the last second and
//! not the last half minute. They have a thread of their own, as neither a store that is locked nor a long
//! pass of the drain may put them off.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::Directory;
use super::disk::{Disk, DiskFile, Os};
use super::segment::Segment;

/// What is synced of a journal.
#[derive(Debug)]
pub(crate) struct Background<D: Disk = Os> {
    directory: Arc<Directory<D>>,
    /// The segments that there are, by number.
    known: BTreeMap<u64, Synced<D::File>>,
}

#[derive(Debug)]
struct Synced<F> {
    /// Open while there may be more to sync.
    file: Option<F>,
    /// Every byte before this offset survives a power cut.
    end: u64,
}

impl<D: Disk> Background<D> {
    pub(crate) fn new(directory: Arc<Directory<D>>) -> Self {
        Self { directory, known: BTreeMap::new() }
    }

    /// Makes everything that is published when this begins survive a power cut. A segment that cannot be
    /// synced keeps no other from it; the first error is returned.
    pub(crate) fn round(&mut self) -> io::Result<()> {
        let segments = self.directory.segments();
        self.known.retain(|number, _| segments.iter().any(|segment| segment.number == *number));
        let is_known = |segment: &&Arc<Segment>| self.known.contains_key(&segment.number);
        if !segments.iter().all(|segment| is_known(&segment)) {
            self.directory.sync_names()?;
        }
        let synced = segments.iter().map(|segment| match self.sync(segment) {
            // The drain was faster: all of it is in the store.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            synced => synced,
        });
        synced.fold(Ok(()), Result::and)
    }

    /// A sync that failed is not tried again: the kernel may have dropped what it could not write, and would say
    /// yes to the next one. The worker goes on in a new segment, and this one stays an error until its rows are
    /// in the store, which syncs them before the segment goes.
    fn sync(&mut self, segment: &Segment) -> io::Result<()> {
        if segment.is_doubtful() {
            return Err(io::Error::other(format!(
                "a sync of {} failed; its rows are safe once the store has them and it is gone",
                segment.path.display()
            )));
        }
        let (is_sealed, published) = (segment.is_sealed(), segment.published());
        let known = self.known.entry(segment.number);
        let synced = known.or_insert(Synced { file: None, end: 0 });
        if synced.end < published {
            let file = match synced.file.take() {
                Some(file) => file,
                None => self.directory.file(segment)?,
            };
            let done = self.directory.check_broken().and_then(|()| file.sync_data());
            done.inspect_err(|_| segment.doubt())?;
            synced.end = published;
            synced.file = Some(file);
        }
        if is_sealed {
            synced.file = None;
        }
        Ok(())
    }
}
