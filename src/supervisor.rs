//! Threads that a server cannot do without. One that a bug ends must not leave a process behind that
//! looks alive, accepts connections and serves none of them, or writes no rows. Such an end is told: whoever
//! runs the server then ends the process with an error, and what started the process starts it again.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::Notify;

/// Starts such threads, and knows when one of them has failed; clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Supervisor(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// The first thread that has failed.
    failed: Mutex<Option<String>>,
    told: Notify,
    /// From here on threads may end.
    is_over: AtomicBool,
    /// Whether a test wants a thread to fail, and which.
    is_doomed: AtomicBool,
    doomed: Mutex<Option<String>>,
}

/// A thread's own end of this: dropped too early, by a panic or by returning, it is missed.
#[derive(Debug)]
pub(crate) struct Supervised {
    name: String,
    state: Arc<State>,
    is_ended: bool,
}

impl Supervisor {
    /// Starts a thread that is missed if it ends before [`Supervisor::dismiss`] or [`Supervised::end`].
    pub(crate) fn spawn(
        &self,
        name: &str,
        run: impl FnOnce(Supervised) + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        let state = self.0.clone();
        let thread = Supervised { name: name.to_owned(), state, is_ended: false };
        std::thread::Builder::new().name(name.to_owned()).spawn(move || run(thread))
    }

    /// Ready once a thread has failed, with its name.
    pub(crate) async fn failed(&self) -> String {
        loop {
            let told = self.0.told.notified();
            if let Some(name) = self.0.failed() {
                return name;
            }
            told.await;
        }
    }

    /// The server stops: its threads end now, one after the other.
    pub(crate) fn dismiss(&self) {
        self.0.is_over.store(true, Ordering::Release);
    }

    /// Makes a thread panic at its next step: tests see what comes of a bug.
    pub(crate) fn pretend_bug_in(&self, name: &str) {
        *self.0.doomed.lock().unwrap_or_else(PoisonError::into_inner) = Some(name.to_owned());
        self.0.is_doomed.store(true, Ordering::Release);
    }
}

impl State {
    fn failed(&self) -> Option<String> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Supervised {
    /// To be called now and then, where a panic would end the thread.
    pub(crate) fn step(&self) {
        if self.state.is_doomed.load(Ordering::Acquire) {
            let mut doomed = self.state.doomed.lock().unwrap_or_else(PoisonError::into_inner);
            if doomed.take_if(|name| *name == self.name).is_some() {
                drop(doomed);
                panic!("as if by a bug in {}", self.name);
            }
        }
    }

    /// The thread has done what it was started for.
    pub(crate) fn end(mut self) {
        self.is_ended = true;
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if self.is_ended || self.state.is_over.load(Ordering::Acquire) {
            return;
        }
        tracing::error!(
            thread = self.name,
            "a thread has failed that the server cannot do without"
        );
        let mut failed = self.state.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get_or_insert_with(|| self.name.clone());
        drop(failed);
        self.state.told.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_that_ends_too_early_is_named_and_one_that_may_end_is_not() {
        let supervisor = Supervisor::default();
        let end = |thread: Supervised| thread.end();
        supervisor.spawn("done", end).unwrap().join().unwrap();
        assert_eq!(supervisor.0.failed(), None);
        supervisor.pretend_bug_in("doomed");
        supervisor.spawn("other", |thread| thread.step()).unwrap().join().unwrap();
        let panics = |thread: Supervised| thread.step();
        supervisor.spawn("doomed", panics).unwrap().join().expect_err("it panics");
        assert_eq!(supervisor.failed().await, "other", "to return is to fail, too");

        let supervisor = Supervisor::default();
        let (failed, spawned) = (supervisor.clone(), supervisor.clone());
        let failed = tokio::spawn(async move { failed.failed().await });
        supervisor.pretend_bug_in("doomed");
        spawned.spawn("doomed", panics).unwrap().join().expect_err("it panics");
        assert_eq!(failed.await.unwrap(), "doomed");

        let supervisor = Supervisor::default();
        supervisor.dismiss();
        supervisor.spawn("late", drop).unwrap().join().unwrap();
        assert_eq!(supervisor.0.failed(), None);
    }
}
