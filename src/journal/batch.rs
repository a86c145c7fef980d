//! Records that are written with one call: those of one turn of a worker. Each has a receipt, and what
//! depends on a record waits for that.

use std::ops::Range;
use std::sync::Arc;

use super::AppendError;
use super::receipt::{Outcome, Receipt, SyncPoint};
use crate::journal::codec::{self, Names, Record, Step};
use crate::record::{Closed, Opened};

/// Records that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// Places in `bytes` whose records were taken back.
    withdrawn: Vec<Range<usize>>,
    /// Without those.
    records: u64,
    /// An answer's end waits for one of them.
    has_closed: bool,
    outcome: Arc<Outcome>,
}

impl Batch {
    pub(super) fn open(&mut self, opened: &Opened) -> Receipt {
        let at = self.bytes.len();
        codec::encode_opened(opened, &mut self.bytes);
        self.records += 1;
        Receipt::opened(self.outcome.clone(), at)
    }

    pub(super) fn close(&mut self, closed: &Closed) -> Receipt {
        codec::encode_closed(closed, &mut self.bytes);
        self.records += 1;
        self.has_closed = true;
        Receipt::closed(self.outcome.clone())
    }

    /// What has been taken down since the batch was empty, in bytes.
    pub(super) fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Adds the records that are to be written, one after the other.
    pub(super) fn write_to(&mut self, out: &mut Vec<u8>) {
        self.withdrawn.sort_unstable_by_key(|place| place.start);
        let mut from = 0;
        for place in &self.withdrawn {
            out.extend_from_slice(&self.bytes[from..place.start]);
            from = place.end;
        }
        out.extend_from_slice(&self.bytes[from..]);
    }

    pub(super) fn records(&self) -> u64 {
        self.records
    }

    pub(super) fn has_closed(&self) -> bool {
        self.has_closed
    }

    /// Takes the `Opened` that a receipt is of out again; false if it is not there any more. Where it
    /// stands is passed over when the batch is written: of many that leave at once, none moves the
    /// others.
    pub(super) fn withdraw(&mut self, receipt: Receipt) -> bool {
        let Some(at) = receipt.place_in(&self.outcome) else { return false };
        let length = codec::stated_length(&self.bytes[at..]).expect("a record was put there");
        self.withdrawn.push(at..at + length);
        self.records -= 1;
        if self.records == 0 {
            // Nothing will be written that would tell those who wait, and have gone.
            self.outcome = Arc::default();
            self.clear();
        }
        true
    }

    /// How requests ended by the records of the batch.
    pub(super) fn closed(&self) -> impl Iterator<Item = Closed> {
        each(&self.bytes).filter_map(|record| match decoded(record) {
            Some(Record::Closed(closed)) => Some(closed),
            _ => None,
        })
    }

    /// Tells the receipts, and is empty.
    pub(super) fn end(&mut self, result: Result<Option<SyncPoint>, AppendError>) {
        std::mem::take(&mut self.outcome).settle(result);
        self.clear();
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.withdrawn.clear();
        self.records = 0;
        self.has_closed = false;
    }
}

/// The records of `bytes`, each as it is written.
pub(super) fn each(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (record, rest) = bytes.split_at_checked(codec::stated_length(bytes)?)?;
        bytes = rest;
        Some(record)
    })
}

fn decoded(record: &[u8]) -> Option<Record> {
    match codec::decode(record, &mut Names::default()) {
        Step::Record(record, _) => Some(record),
        Step::Partial | Step::Damaged => None,
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Wake, Waker};

    use super::*;
    use crate::journal::codec::tests::opened;
    use crate::record::EventId;

    struct Task;

    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }

    #[test]
    fn nobody_is_remembered_who_has_taken_everything_back() {
        let mut batch = Batch::default();
        let task = Arc::new(Task);
        {
            let mut receipt = batch.open(&opened(1));
            let waker = Waker::from(task.clone());
            let polled = Pin::new(&mut receipt).poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
            assert!(batch.withdraw(receipt));
        }
        assert_eq!(Arc::strong_count(&task), 1);
        assert_eq!((batch.records(), batch.length()), (0, 0));
    }

    /// In any order, and each of them costs a place in a list, however many there are.
    #[test]
    fn of_many_that_leave_at_once_none_is_written_and_all_others_are() {
        const MANY: u32 = 40_000;
        let mut batch = Batch::default();
        let of = |n: u32| EventId(u128::from(n).to_be_bytes());
        let mut open = |n| (n, batch.open(&Opened { event_id: of(n), ..opened(1) }));
        let receipts: Vec<_> = (0..MANY).map(&mut open).collect();
        let leaves = |n: u32| n % 8 != 3;
        for (n, receipt) in receipts.into_iter().rev().filter(|(n, _)| leaves(*n)) {
            assert!(batch.withdraw(receipt), "{n}");
        }
        let mut written = Vec::new();
        batch.write_to(&mut written);
        let left = each(&written).map(|record| match decoded(record) {
            Some(Record::Opened(opened)) => opened.event_id,
            other => panic!("{other:?} was not written"),
        });
        let expected = (0..MANY).filter(|n| !leaves(*n)).map(of);
        assert!(left.eq(expected));
        assert_eq!(batch.records(), u64::from(MANY / 8));
    }
}
