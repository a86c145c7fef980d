//! What the simulator has served, so that a test can compare it with a ledger.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::HeaderMap;
use serde::Serialize;

/// Records that are kept at most; later requests are only counted.
const MAX_RECORDS: usize = 200_000;

/// A snapshot of the counters. Tokens of answers that ended early stand apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All requests but those under `/simulator`.
    pub requests: u64,
    /// Answers whose last byte was handed to the connection.
    pub completed: u64,
    /// Error answers.
    pub refused: u64,
    /// Answers whose client went away before the end.
    pub aborted: u64,
    /// Answers that were broken off as `x-sim-fault` asked.
    pub broken: u64,
    /// Of completed answers, as their usage states it or would state it.
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub total_tokens: u64,
    /// Of aborted and broken answers: the prompts, and what had been said by then.
    pub unfinished_prompt_tokens: u64,
    pub unfinished_completion_tokens: u64,
    pub streams_started: u64,
    pub streams_completed: u64,
    pub streams_aborted: u64,
    pub streams_broken: u64,
    pub streams_open: u64,
    pub connections: u64,
    pub connections_open: u64,
}

/// Of the completed answers of one path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct PathCounts {
    pub completed: u64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
}

/// What is printed for a client that asks.
#[derive(Debug, Serialize)]
pub(super) struct Printed {
    #[serde(flatten)]
    pub counts: Counts,
    pub paths: BTreeMap<&'static str, PathCounts>,
}

/// One posted request that has ended.
#[derive(Clone, Debug)]
pub struct Served {
    /// The request's `x-sim-tag`, else its `x-weir-event`, else its `x-request-id`, else empty.
    pub tag: String,
    /// The request's path and query.
    pub path: String,
    /// The `x-request-id` of the answer.
    pub request_id: String,
    pub model: String,
    pub streamed: bool,
    pub status: u16,
    pub prompt_tokens: u64,
    /// What was said until the end, whatever that was.
    pub completion_tokens: u64,
    pub completed: bool,
    /// As they were received.
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Completed,
    Aborted,
    Broken,
}

/// The counters themselves.
#[derive(Debug, Default)]
pub(super) struct Counters {
    requests: AtomicU64,
    refused: AtomicU64,
    answers: [AtomicU64; 3],
    streams: [AtomicU64; 3],
    streams_started: AtomicU64,
    streams_open: AtomicU64,
    prompt_tokens: AtomicU64,
    completion_tokens: AtomicU64,
    unfinished_prompt_tokens: AtomicU64,
    unfinished_completion_tokens: AtomicU64,
    connections: AtomicU64,
    connections_open: AtomicU64,
    paths: Mutex<BTreeMap<&'static str, PathCounts>>,
    log: Option<Mutex<Vec<Served>>>,
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

impl Counters {
    pub(super) fn new(record: bool) -> Self {
        Self { log: record.then(Mutex::default), ..Self::default() }
    }

    pub(super) fn records(&self) -> bool {
        self.log.is_some()
    }

    pub(super) fn request(&self) {
        add(&self.requests, 1);
    }

    pub(super) fn refusal(&self, served: Option<Served>) {
        add(&self.refused, 1);
        if let Some(served) = served {
            self.keep(served);
        }
    }

    /// Counts a connection for as long as the guard lives.
    pub(super) fn connection(self: &Arc<Self>) -> ConnectionGuard {
        add(&self.connections, 1);
        add(&self.connections_open, 1);
        ConnectionGuard(self.clone())
    }

    /// Everything recorded so far, in the order in which it ended.
    pub(super) fn served(&self) -> Vec<Served> {
        self.log.as_ref().map(|log| lock(log).clone()).unwrap_or_default()
    }

    /// As [`Counters::served`], and forgets it.
    pub(super) fn take_served(&self) -> Vec<Served> {
        self.log.as_ref().map(|log| std::mem::take(&mut *lock(log))).unwrap_or_default()
    }

    pub(super) fn snapshot(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (prompt_tokens, completion_tokens) =
            (read(&self.prompt_tokens), read(&self.completion_tokens));
        Counts {
            requests: read(&self.requests),
            completed: read(&self.answers[Outcome::Completed as usize]),
            refused: read(&self.refused),
            aborted: read(&self.answers[Outcome::Aborted as usize]),
            broken: read(&self.answers[Outcome::Broken as usize]),
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens + completion_tokens,
            unfinished_prompt_tokens: read(&self.unfinished_prompt_tokens),
            unfinished_completion_tokens: read(&self.unfinished_completion_tokens),
            streams_started: read(&self.streams_started),
            streams_completed: read(&self.streams[Outcome::Completed as usize]),
            streams_aborted: read(&self.streams[Outcome::Aborted as usize]),
            streams_broken: read(&self.streams[Outcome::Broken as usize]),
            streams_open: read(&self.streams_open),
            connections: read(&self.connections),
            connections_open: read(&self.connections_open),
        }
    }

    /// The counters, and those of each path that has completed an answer.
    pub(super) fn printed(&self) -> Printed {
        Printed { counts: self.snapshot(), paths: lock(&self.paths).clone() }
    }

    fn keep(&self, served: Served) {
        if let Some(log) = &self.log {
            let mut log = lock(log);
            if log.len() < MAX_RECORDS {
                log.push(served);
            }
        }
    }
}

/// What is poisoned still consists of whole records.
fn lock<T>(records: &Mutex<T>) -> MutexGuard<'_, T> {
    records.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An open connection.
#[derive(Debug)]
pub(super) struct ConnectionGuard(Arc<Counters>);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.connections_open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One answer on its way. It ends exactly once: completed, broken, or, if it is dropped before
/// that, aborted by the client.
#[derive(Debug)]
pub(super) struct Tally {
    books: Arc<Counters>,
    path: &'static str,
    served: Option<Box<Served>>,
    streamed: bool,
    prompt_tokens: u64,
    completion_tokens: u64,
    said: u64,
    outcome: Outcome,
}

impl Tally {
    /// Begins to count an answer of `completion_tokens`. `served` is kept when it has ended.
    pub(super) fn begin(
        books: Arc<Counters>,
        path: &'static str,
        streamed: bool,
        prompt_tokens: u64,
        completion_tokens: u64,
        served: Option<Served>,
    ) -> Self {
        if streamed {
            add(&books.streams_started, 1);
            add(&books.streams_open, 1);
        }
        let (served, outcome) = (served.map(Box::new), Outcome::Aborted);
        Self { books, path, served, streamed, prompt_tokens, completion_tokens, said: 0, outcome }
    }

    /// Tokens have been handed out.
    pub(super) fn say(&mut self, tokens: u64) {
        self.said += tokens;
    }

    /// All has been handed out.
    pub(super) fn complete(&mut self) {
        self.outcome = Outcome::Completed;
    }

    /// The answer has been broken off on purpose.
    pub(super) fn break_off(&mut self) {
        self.outcome = Outcome::Broken;
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let books = &self.books;
        let completed = self.outcome == Outcome::Completed;
        let said = if completed { self.completion_tokens } else { self.said };
        add(&books.answers[self.outcome as usize], 1);
        if self.streamed {
            add(&books.streams[self.outcome as usize], 1);
            books.streams_open.fetch_sub(1, Ordering::Relaxed);
        }
        if completed {
            add(&books.prompt_tokens, self.prompt_tokens);
            add(&books.completion_tokens, said);
            let mut paths = lock(&books.paths);
            let own = paths.entry(self.path).or_default();
            own.completed += 1;
            own.prompt_tokens += self.prompt_tokens;
            own.completion_tokens += said;
        } else {
            add(&books.unfinished_prompt_tokens, self.prompt_tokens);
            add(&books.unfinished_completion_tokens, said);
        }
        if let Some(mut served) = self.served.take() {
            served.completed = completed;
            served.prompt_tokens = self.prompt_tokens;
            served.completion_tokens = said;
            books.keep(*served);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_once_and_its_tokens_go_where_they_belong() {
        let books = Arc::new(Counters::new(false));
        let begin = || Tally::begin(books.clone(), "/v1/x", true, 10, 20, None);
        let mut whole = begin();
        whole.say(20);
        whole.complete();
        let mut broken = begin();
        broken.say(3);
        broken.break_off();
        let mut aborted = begin();
        aborted.say(4);
        assert_eq!(books.snapshot().streams_open, 3);
        drop((whole, broken, aborted));
        let expected = Counts {
            completed: 1,
            aborted: 1,
            broken: 1,
            prompt_tokens: 10,
            completion_tokens: 20,
            total_tokens: 30,
            unfinished_prompt_tokens: 20,
            unfinished_completion_tokens: 7,
            streams_started: 3,
            streams_completed: 1,
            streams_aborted: 1,
            streams_broken: 1,
            ..Counts::default()
        };
        assert_eq!(books.snapshot(), expected);
        let own = PathCounts { completed: 1, prompt_tokens: 10, completion_tokens: 20 };
        assert_eq!(books.printed().paths, BTreeMap::from([("/v1/x", own)]));
    }
}
