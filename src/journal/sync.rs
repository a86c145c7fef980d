//! Group commit, for `durability = "power"`: one thread per journal syncs, so that no worker ever blocks in
//! `fdatasync`. Whatever was appended before a round begins is covered by that round, however many
//! requests wait for it; what is appended meanwhile is the next round's.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Directory;
use super::disk::{Disk, DiskFile};
use super::receipt::Waiters;
use super::segment::Segment;
use crate::supervisor::{Supervised, Supervisor};

/// What nobody waits for (`Opened`) is synced so often.
const UNASKED_EVERY: Duration = Duration::from_secs(1);

/// A journal's segments that have to be synced, shared by the journal and its sync thread.
#[derive(Debug)]
pub(super) struct Group<D: Disk> {
    directory: Arc<Directory<D>>,
    supervisor: Supervisor,
    waiters: Arc<Waiters>,
    state: Mutex<State<D::File>>,
    asked: Condvar,
}

#[derive(Debug)]
struct State<F> {
    /// In the order in which they were begun; the last is the one being written.
    jobs: VecDeque<Job<F>>,
    /// What was given up, until the journal knows.
    failed: Vec<Failed<F>>,
    is_asked: bool,
    /// A round runs.
    is_running: bool,
    /// Syncs that have returned, and rounds that have ended.
    progress: u64,
    is_ended: bool,
}

#[derive(Debug)]
struct Job<F> {
    file: Arc<F>,
    segment: Arc<Segment>,
    /// Its name may not survive yet.
    is_new: bool,
    /// Nothing more will be written.
    is_last: bool,
}

/// A segment that could not be synced.
#[derive(Debug)]
pub(super) struct Failed<F> {
    pub(super) file: Arc<F>,
    pub(super) segment: Arc<Segment>,
}

/// The thread, which ends with its journal.
#[derive(Debug)]
pub(super) struct Syncer(JoinHandle<()>);

impl<D: Disk> Group<D> {
    pub(super) fn new(directory: Arc<Directory<D>>, supervisor: Supervisor) -> Self {
        let state = State {
            jobs: VecDeque::new(),
            failed: Vec::new(),
            is_asked: false,
            is_running: false,
            progress: 0,
            is_ended: false,
        };
        let (waiters, asked) = (Arc::default(), Condvar::new());
        Self { directory, supervisor, waiters, state: Mutex::new(state), asked }
    }

    pub(super) fn waiters(&self) -> &Arc<Waiters> {
        &self.waiters
    }

    /// A segment was begun. It fails at once if one before it has failed and the journal does not
    /// know yet: what follows may depend on what was lost.
    pub(super) fn begin(&self, file: Arc<D::File>, segment: Arc<Segment>) {
        let mut state = self.lock();
        if state.failed.is_empty() {
            state.jobs.push_back(Job { file, segment, is_new: true, is_last: false });
        } else {
            segment.fail();
            state.failed.push(Failed { file, segment });
        }
    }

    /// Nothing more is written to the newest segment.
    pub(super) fn seal(&self) {
        if let Some(job) = self.lock().jobs.back_mut() {
            job.is_last = true;
        }
    }

    /// Somebody waits for what has been written so far.
    pub(super) fn ask(&self) {
        let mut state = self.lock();
        if !state.is_asked {
            state.is_asked = true;
            drop(state);
            self.asked.notify_one();
        }
    }

    /// Syncs everything that has been written when it begins, oldest first: a `Closed` must not
    /// survive without the `Opened` before it.
    pub(super) fn round(&self) {
        let jobs: Vec<_> = {
            let mut state = self.lock();
            state.is_asked = false;
            state.is_running = true;
            state.jobs.iter().map(Job::share).collect()
        };
        for job in jobs {
            let written = job.segment.written();
            let is_synced = match self.sync(&job, written) {
                Ok(is_synced) => is_synced,
                Err(error) => {
                    self.fail(&job.segment, &error);
                    break;
                }
            };
            job.segment.publish(written);
            let mut state = self.lock();
            state.progress += 1;
            let found = state.jobs.iter().position(|one| Arc::ptr_eq(&one.segment, &job.segment));
            let found = found.expect("only a round removes them");
            state.jobs[found].is_new &= !is_synced;
            if job.is_last {
                job.segment.seal();
                state.jobs.remove(found);
            }
        }
        let mut state = self.lock();
        state.is_running = false;
        state.progress += 1;
        drop(state);
        self.waiters.wake();
    }

    /// How much has been done so far, if there is something to do now: it is the same for as long as a
    /// sync does not return.
    pub(super) fn progress(&self) -> Option<u64> {
        let state = self.lock();
        (state.is_asked || state.is_running).then_some(state.progress)
    }

    /// False where there was nothing to sync.
    fn sync(&self, job: &Job<D::File>, written: u64) -> std::io::Result<bool> {
        if written == job.segment.published() {
            return Ok(false);
        }
        self.directory.check_broken()?;
        job.file.sync_data()?;
        if job.is_new {
            self.directory.sync_names()?;
        }
        Ok(true)
    }

    /// Gives up all segments that are not synced: what is in the later ones may depend on the first.
    fn fail(&self, segment: &Segment, error: &std::io::Error) {
        let mut state = self.lock();
        for Job { file, segment, .. } in std::mem::take(&mut state.jobs) {
            segment.fail();
            state.failed.push(Failed { file, segment });
        }
        drop(state);
        tracing::error!(
            segment = %segment.path.display(), %error,
            "the journal could not be synced; answers that waited for it are cut, and a new segment is begun"
        );
    }

    /// The segments that have failed since the last call.
    pub(super) fn take_failed(&self) -> Vec<Failed<D::File>> {
        std::mem::take(&mut self.lock().failed)
    }

    /// Starts the thread that does the rounds.
    pub(super) fn start(self: &Arc<Self>) -> std::io::Result<Syncer> {
        let group = self.clone();
        let run = move |thread: Supervised| {
            while group.wait() {
                thread.step();
                group.round();
            }
            group.round();
            thread.end();
        };
        self.supervisor.spawn("weir-sync", run).map(Syncer)
    }

    /// Waits until a round is due; false when it is the last.
    fn wait(&self) -> bool {
        let idle = |state: &mut State<_>| !state.is_asked && !state.is_ended;
        let waited = self.asked.wait_timeout_while(self.lock(), UNASKED_EVERY, idle);
        !waited.unwrap_or_else(PoisonError::into_inner).0.is_ended
    }

    fn lock(&self) -> MutexGuard<'_, State<D::File>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> Job<F> {
    fn share(&self) -> Self {
        let (file, segment) = (self.file.clone(), self.segment.clone());
        Self { file, segment, is_new: self.is_new, is_last: self.is_last }
    }
}

impl Syncer {
    /// Does the last round and ends the thread.
    pub(super) fn end<D: Disk>(self, group: &Group<D>) {
        group.lock().is_ended = true;
        group.asked.notify_one();
        if self.0.join().is_err() {
            tracing::error!("the journal's sync thread had failed");
        }
    }
}
