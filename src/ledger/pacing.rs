//! The drain works beside the workers, on the same cores. A thread that only computes keeps its core for
//! its time slice, some milliseconds, and whoever is woken there meanwhile waits: to requests a batch of
//! rows would be a pause. So it stops for a moment every now and then.

use std::time::{Duration, Instant};

/// How long the drain works without a rest.
const WORK: Duration = Duration::from_micros(200);
/// So long that others get the core; the kernel's timers make it about 100 microseconds.
const REST: Duration = Duration::from_micros(50);

/// When there was a rest last; without one there never is any.
#[derive(Debug, Default)]
pub(crate) struct Pacing(Option<Instant>);

impl Pacing {
    /// For where nobody else needs the core: at the start and at the end.
    pub(crate) fn off() -> Self {
        Self(None)
    }

    pub(crate) fn on() -> Self {
        Self(Some(Instant::now()))
    }

    /// To be called between two small pieces of work.
    pub(crate) fn pause_if_due(&mut self) {
        if let Some(since) = &mut self.0
            && since.elapsed() >= WORK
        {
            std::thread::park_timeout(REST);
            *since = Instant::now();
        }
    }
}
