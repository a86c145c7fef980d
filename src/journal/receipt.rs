//! Word of a record: whether it is written, and where somebody waits for that, whether it is synced.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use super::AppendError;
use super::segment::Segment;

/// Says when a record counts, or that it never will. Dropping it changes nothing: the record stands.
#[derive(Debug)]
#[must_use = "what depends on the record may happen only once this is ready"]
pub(crate) struct Receipt(Known);

/// How much is known of a record.
#[derive(Debug)]
enum Known {
    /// It waits to be written with others.
    Staged {
        outcome: Arc<Outcome>,
        waits_for: WaitsFor,
    },
    /// It waits for a sync.
    Written(SyncPoint),
    All(Result<(), AppendError>),
}

/// When a record of a batch counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WaitsFor {
    /// Once it is written; it stands at this place of the batch, and can be taken back.
    Write(usize),
    /// Once it is synced, where syncs are waited for at all.
    Sync,
}

/// What became of a batch, as its receipts see it.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Written: up to where it has to be synced, if it has to be.
    result: OnceLock<Result<Option<SyncPoint>, AppendError>>,
    waiters: Waiters,
}

/// A place in the journal that a sync has to reach.
#[derive(Clone, Debug)]
pub(super) struct SyncPoint {
    pub(super) waiters: Arc<Waiters>,
    pub(super) segment: Arc<Segment>,
    pub(super) end: u64,
}

/// Tasks that wait.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    wakers: Mutex<Vec<Waker>>,
    /// What they wait for may never come.
    is_given_up: AtomicBool,
}

impl Receipt {
    /// Of a record that nothing depends on any more.
    pub(crate) fn done() -> Self {
        Self(Known::All(Ok(())))
    }

    /// Of a record that was not taken.
    pub(super) fn refused(error: AppendError) -> Self {
        Self(Known::All(Err(error)))
    }

    /// Of an `Opened`, which stands `at` this place of its batch.
    pub(super) fn opened(outcome: Arc<Outcome>, at: usize) -> Self {
        Self(Known::Staged { outcome, waits_for: WaitsFor::Write(at) })
    }

    /// Of a `Closed`.
    pub(super) fn closed(outcome: Arc<Outcome>) -> Self {
        Self(Known::Staged { outcome, waits_for: WaitsFor::Sync })
    }

    /// Where its `Opened` stands in a batch, if it is of that one.
    pub(super) fn place_in(&self, batch: &Arc<Outcome>) -> Option<usize> {
        match &self.0 {
            Known::Staged { outcome, waits_for: WaitsFor::Write(at) } => {
                Arc::ptr_eq(outcome, batch).then_some(*at)
            }
            _ => None,
        }
    }

    /// What became of the record, as far as that is known.
    pub(crate) fn result(&mut self) -> Option<Result<(), AppendError>> {
        loop {
            self.0 = match &self.0 {
                Known::All(result) => return Some(result.clone()),
                Known::Written(point) => Known::All(point.result()?),
                Known::Staged { outcome, waits_for } => match outcome.result.get()? {
                    Ok(Some(point)) if *waits_for == WaitsFor::Sync => {
                        Known::Written(point.clone())
                    }
                    Ok(_) => Known::All(Ok(())),
                    Err(error) => Known::All(Err(error.clone())),
                },
            }
        }
    }

    fn wake_later(&self, waker: &Waker) {
        let waiters = match &self.0 {
            Known::Staged { outcome, .. } => &outcome.waiters,
            Known::Written(point) => &point.waiters,
            Known::All(_) => return,
        };
        waiters.lock().push(waker.clone());
    }
}

impl Future for Receipt {
    type Output = Result<(), AppendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.result().is_none() {
            self.wake_later(cx.waker());
        }
        // A sync may have ended between the two.
        self.result().map_or(Poll::Pending, Poll::Ready)
    }
}

impl Outcome {
    /// Tells the receipts.
    pub(super) fn settle(&self, result: Result<Option<SyncPoint>, AppendError>) {
        let _ = self.result.set(result);
        self.waiters.wake();
    }
}

impl SyncPoint {
    fn result(&self) -> Option<Result<(), AppendError>> {
        if self.segment.published() >= self.end {
            return Some(Ok(()));
        }
        if self.segment.is_failed() {
            return Some(Err(AppendError::not_synced(&self.segment.path)));
        }
        self.waiters.is_given_up().then(|| Err(AppendError::stalled(&self.segment.path)))
    }
}

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether those who wait, now and later, are told that they wait in vain.
    pub(super) fn give_up(&self, is_given_up: bool) {
        if self.is_given_up.swap(is_given_up, Ordering::AcqRel) != is_given_up {
            self.wake();
        }
    }

    fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Acquire)
    }

    pub(super) fn wake(&self) {
        let waiting = std::mem::take(&mut *self.lock());
        waiting.into_iter().for_each(Waker::wake);
    }
}
