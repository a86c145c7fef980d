//! Where a request is and where it has been: the candidate that has it now, and those that could not answer it, as
//! its row will have them.

use std::sync::Arc;

use serde::Serialize;

use crate::gateway::Worker;
use crate::route::{Attempt, Candidate, Changed, Outcome};

#[derive(Debug)]
pub(crate) struct AttemptLog {
    attempt: Attempt,
    failed: Vec<FailedAttempt>,
    /// When it went to the last one, by the monotonic clock.
    sent_ns: u64,
    /// The upstream of its `Opened`.
    opened_at: usize,
}

/// An attempt after which a request was sent to another upstream, or with another key.
#[derive(Debug, Serialize)]
struct FailedAttempt {
    upstream: Box<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_key: Option<Box<str>>,
    /// What it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// Why there was no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    duration_ms: u64,
}

impl AttemptLog {
    pub(crate) fn new(attempt: Attempt, now_ns: u64) -> Self {
        let opened_at = attempt.candidate().backend.upstream;
        Self { attempt, failed: Vec::new(), sent_ns: now_ns, opened_at }
    }

    /// Who has it now, or had it last.
    pub(crate) fn candidate(&self) -> &Arc<Candidate> {
        self.attempt.candidate()
    }

    /// Tells the candidate how it went.
    pub(crate) fn report(&mut self, worker: &Worker, outcome: Outcome) {
        let [key, upstream] = self.attempt.report(outcome, worker.clock.mono_ns());
        self.log(worker, upstream, "the upstream fails, and rests", "the upstream serves again");
        self.log(
            worker,
            key,
            "a key is not accepted, or not paid for, and rests",
            "a key serves again",
        );
    }

    /// The answer broke off that had begun.
    pub(crate) fn broke_off(&mut self, worker: &Worker) {
        let changed = self.attempt.broke_off(worker.clock.mono_ns());
        self.log(worker, changed, "the upstream fails, and rests", "the upstream serves again");
    }

    fn log(&self, worker: &Worker, changed: Changed, opened: &str, closed: &str) {
        if changed == Changed::Nothing {
            return;
        }
        let backend = &self.candidate().backend;
        let (upstream, key) = (&worker.upstreams[backend.upstream].config.name, &backend.key_name);
        match changed {
            Changed::Opened => tracing::warn!(%upstream, %key, "{opened}"),
            _ => tracing::info!(%upstream, %key, "{closed}"),
        }
    }

    /// Goes on with the next candidate. Of the last one: what it answered, or why it did not.
    pub(crate) fn go_on(
        &mut self,
        worker: &Worker,
        next: Attempt,
        status: Option<u16>,
        error: Option<&'static str>,
    ) {
        let now_ns = worker.clock.mono_ns();
        let before = std::mem::replace(&mut self.attempt, next);
        let backend = &before.candidate().backend;
        self.failed.push(FailedAttempt {
            upstream: (&*worker.upstreams[backend.upstream].config.name).into(),
            upstream_key: (!backend.key_name.is_empty()).then(|| (&*backend.key_name).into()),
            status,
            error,
            duration_ms: now_ns.saturating_sub(self.sent_ns) / 1_000_000,
        });
        self.sent_ns = now_ns;
    }

    /// The upstream's name, if it is not the one of its `Opened`.
    pub(crate) fn other_upstream(&self, worker: &Worker) -> Option<Arc<str>> {
        let upstream = self.candidate().backend.upstream;
        (upstream != self.opened_at).then(|| worker.upstreams[upstream].config.name.clone())
    }

    /// Those that could not answer it, as a list in JSON.
    pub(crate) fn failed_json(&self) -> Option<Box<str>> {
        let json = || serde_json::to_string(&self.failed).expect("it always becomes JSON");
        (!self.failed.is_empty()).then(|| json().into())
    }
}
