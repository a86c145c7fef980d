//! Records that are written with one call: those of one turn of a worker. Each has a receipt, and what
//! depends on a record waits for that.

use std::sync::{Arc, OnceLock};

use super::AppendError;
use super::receipt::{Receipt, SyncPoint, Waiters};
use crate::ledger::codec::{self, Names, Record, Step};
use crate::ledger::record::{Closed, EventId, Opened};

/// Records that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    records: u64,
    /// An answer's end waits for one of them.
    has_closed: bool,
    outcome: Arc<Outcome>,
}

/// What became of a batch, as its receipts see it.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Written: up to where it has to be synced, if it has to be.
    result: OnceLock<Result<Option<SyncPoint>, AppendError>>,
    waiters: Waiters,
}

impl Batch {
    pub(super) fn open(&mut self, opened: &Opened) -> Receipt {
        codec::encode_opened(opened, &mut self.bytes);
        self.records += 1;
        Receipt::staged(self.outcome.clone(), false)
    }

    pub(super) fn close(&mut self, closed: &Closed) -> Receipt {
        codec::encode_closed(closed, &mut self.bytes);
        self.records += 1;
        self.has_closed = true;
        Receipt::staged(self.outcome.clone(), true)
    }

    /// Whole records, one after the other.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn records(&self) -> u64 {
        self.records
    }

    pub(super) fn has_closed(&self) -> bool {
        self.has_closed
    }

    /// Takes the `Opened` of a request out again; false if it is not there, or not any more.
    pub(super) fn withdraw(&mut self, event_id: EventId) -> bool {
        let mut end = 0;
        let found = each(&self.bytes).find_map(|record| {
            let place = end..end + record.len();
            end = place.end;
            match decoded(record)? {
                Record::Opened(opened) if opened.event_id == event_id => Some(place),
                _ => None,
            }
        });
        let Some(place) = found else { return false };
        self.bytes.drain(place);
        self.records -= 1;
        if self.records == 0 {
            // Nothing will be written that would tell those who wait, and have gone.
            self.outcome = Arc::default();
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
        let outcome = std::mem::take(&mut self.outcome);
        let _ = outcome.result.set(result);
        outcome.waiters.wake();
        self.bytes.clear();
        self.records = 0;
        self.has_closed = false;
    }
}

impl Outcome {
    pub(super) fn result(&self) -> Option<&Result<Option<SyncPoint>, AppendError>> {
        self.result.get()
    }

    pub(super) fn waiters(&self) -> &Waiters {
        &self.waiters
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
    use std::pin::pin;
    use std::task::{Context, Wake, Waker};

    use super::*;
    use crate::ledger::codec::tests::opened;

    struct Task;

    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }

    #[test]
    fn nobody_is_remembered_who_has_taken_everything_back() {
        let mut batch = Batch::default();
        let task = Arc::new(Task);
        {
            let mut receipt = pin!(batch.open(&opened(1)));
            let waker = Waker::from(task.clone());
            assert!(receipt.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            assert!(batch.withdraw(opened(1).event_id));
        }
        assert_eq!(Arc::strong_count(&task), 1);
        assert_eq!((batch.records(), batch.bytes()), (0, &[][..]));
    }
}
