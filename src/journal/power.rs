//! What `durability = "power"` has to know of records that are written and not synced: a copy of each, until
//! it is. A sync that failed is not tried again on the same segment, because the kernel may have
//! dropped what it could not write; what was not synced is written once more, to a new segment.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use super::batch;
use super::directory::{Current, Directory};
use super::disk::{Disk, DiskFile};
use super::receipt::SyncPoint;
use super::segment::Segment;
use super::stall::Stall;
use super::sync::{Failed, Group, Syncer};
use crate::journal::codec::{self, Names, Record, Step};
use crate::record::Closed;
use crate::supervisor::Supervisor;
use crate::usage::End;

#[derive(Debug)]
pub(super) struct Power<D: Disk> {
    group: Arc<Group<D>>,
    /// Started with the first segment, unless a test does the rounds itself.
    syncer: Option<Syncer>,
    is_manual: bool,
    /// Oldest first. At most two per request in flight, and those of the round before.
    unsynced: VecDeque<Unsynced>,
    /// After a failed sync: new requests are refused until this record is synced.
    proof: Option<Place>,
    /// They are kept until then: there is no other copy.
    failed: Vec<Failed<D::File>>,
    stall: Stall,
}

/// A segment, and where a record ends in it.
type Place = (Arc<Segment>, u64);

#[derive(Debug)]
struct Unsynced {
    record: Box<[u8]>,
    /// `None`: it has to be written once more.
    at: Option<Place>,
}

impl<D: Disk> Power<D> {
    pub(super) fn new(directory: Arc<Directory<D>>, supervisor: Supervisor) -> Self {
        Self {
            group: Arc::new(Group::new(directory, supervisor)),
            syncer: None,
            is_manual: false,
            unsynced: VecDeque::new(),
            proof: None,
            failed: Vec::new(),
            stall: Stall::default(),
        }
    }

    /// To be called before a segment is begun.
    pub(super) fn start(&mut self) -> io::Result<()> {
        if self.syncer.is_none() && !self.is_manual {
            self.syncer = Some(self.group.start()?);
        }
        Ok(())
    }

    pub(super) fn begin(&self, current: &Current<D::File>) {
        self.group.begin(current.file.clone(), current.segment.clone());
    }

    /// `records` were written, from `end` of the segment on.
    pub(super) fn wrote(&mut self, segment: &Arc<Segment>, mut end: u64, records: &[u8]) {
        for record in batch::each(records) {
            end += record.len() as u64;
            let at = Some((segment.clone(), end));
            self.unsynced.push_back(Unsynced { record: record.into(), at });
        }
        segment.wrote(end);
    }

    /// What was written last, as something to wait for. `is_awaited`: somebody does.
    pub(super) fn to_sync(&self, current: &Current<D::File>, is_awaited: bool) -> SyncPoint {
        if is_awaited {
            self.group.ask();
        }
        let (waiters, segment) = (self.group.waiters().clone(), current.segment.clone());
        SyncPoint { waiters, segment, end: current.end }
    }

    /// Forgets records that are synced by now; true after a failed sync, when those that are not have to
    /// be written once more, to another segment.
    pub(super) fn catch_up(&mut self) -> bool {
        let is_synced = |at: &Place| at.0.published() >= at.1;
        while self.unsynced.front().is_some_and(|one| one.at.as_ref().is_some_and(is_synced)) {
            self.unsynced.pop_front();
        }
        let failed = self.group.take_failed();
        let is_failed = !failed.is_empty();
        if is_failed {
            self.failed.extend(failed);
            self.unsynced.iter_mut().for_each(|one| one.at = None);
        } else if self.proof.as_ref().is_some_and(is_synced) {
            self.proof = None;
            for Failed { file, segment } in self.failed.drain(..) {
                // Written again, it need not be read at the next start. If this fails it is read twice,
                // and the first counts.
                let _ = file.cut(segment.published());
                segment.supersede();
            }
        }
        is_failed
    }

    /// The next record that has to be written once more, as its answer was not released.
    pub(super) fn next_again(&self, out: &mut Vec<u8>) -> bool {
        let Some(Unsynced { record, at: None }) = self.unsynced.front() else { return false };
        match codec::decode(record, &mut Names::default()) {
            Step::Record(Record::Closed(closed), _) => codec::encode_closed(&unseen(closed), out),
            _ => out.extend_from_slice(record),
        }
        true
    }

    /// That one was written; its new copy is behind the others.
    pub(super) fn written_again(&mut self) {
        self.unsynced.pop_front();
    }

    /// Once this is synced, the disk can be relied on again.
    pub(super) fn prove(&mut self, current: &Current<D::File>) {
        self.proof = Some((current.segment.clone(), current.end));
        self.group.ask();
    }

    /// No sync has failed since the last that succeeded.
    pub(super) fn is_proven(&self) -> bool {
        self.proof.is_none()
    }

    /// Looks whether the sync thread gets on, and lets those who wait for it know that it does not.
    pub(super) fn look_for_stall(&mut self, mono_ns: u64) {
        self.stall.look(self.group.progress(), mono_ns);
        self.group.waiters().give_up(self.stall.cuts());
    }

    /// A sync has not returned for so long that nothing new may depend on it.
    pub(super) fn is_stalled(&self) -> bool {
        self.stall.refuses()
    }

    /// The segment is sealed once its last records are published.
    pub(super) fn seal(&self) {
        self.group.seal();
    }

    /// Syncs what is left.
    pub(super) fn end(&mut self) {
        if let Some(syncer) = self.syncer.take() {
            syncer.end(&self.group);
        }
    }

    /// There is no sync thread: a test does its [`Power::round`]s.
    #[cfg(test)]
    pub(super) fn by_hand(&mut self) {
        self.is_manual = true;
    }

    #[cfg(test)]
    pub(super) fn group(&self) -> &Arc<Group<D>> {
        &self.group
    }
}

/// A record whose answer was not released.
pub(super) fn unseen(mut closed: Closed) -> Closed {
    closed.end = end_unseen(closed.end);
    closed
}

/// How a request ended whose answer was not released.
pub(super) fn end_unseen(end: End) -> End {
    if end == End::Complete { End::Crashed } else { end }
}
