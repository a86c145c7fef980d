//! What the log says of an upstream. Any request can be the cause of such a line, so each kind is written
//! once a minute, for all workers together.

use crate::clock::Clock;
use crate::forward::SendError;
use crate::telemetry::log_throttle::LogThrottle;

/// One upstream's lines.
#[derive(Debug)]
pub(crate) struct LogThrottles {
    /// By [`SendError`].
    unanswered: [LogThrottle; SendError::COUNT],
    /// It does not accept our key.
    pub(crate) unauthorized: LogThrottle,
    /// It answers with a redirect.
    pub(crate) redirects: LogThrottle,
    /// It refuses to be asked for usage.
    pub(crate) usage_refused: LogThrottle,
}

impl LogThrottles {
    pub(crate) fn new(clock: &Clock) -> Self {
        let line = || LogThrottle::new(clock.clone());
        Self {
            unanswered: std::array::from_fn(|_| line()),
            unauthorized: line(),
            redirects: line(),
            usage_refused: line(),
        }
    }

    /// Why there is no response.
    pub(crate) fn of(&self, error: SendError) -> &LogThrottle {
        &self.unanswered[error as usize]
    }
}
