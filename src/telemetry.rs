//! What Weir tells about itself: logs for people, metrics for machines. Neither ever holds a key,
//! a prompt or an answer.

pub(crate) mod log;
pub(crate) mod log_throttle;
pub(crate) mod metrics;
