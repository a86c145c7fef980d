//! What a start or a command waits for.

use std::path::PathBuf;
use std::time::Duration;

use super::lock::Holder;
use crate::wait_notice::FIRST;

/// Whom or what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WaitingFor {
    /// Of the data directory, or of the store's write lock.
    Holder(Holder),
    /// A disk that does not give back a part of the journal, and what it says.
    Disk { segment: PathBuf, error: String },
}

impl WaitingFor {
    /// Whether a person wants to hear of a wait that has lasted so long: a log has the word from its beginning.
    pub(crate) fn is_long(waited: Duration) -> bool {
        waited >= FIRST
    }
}

impl std::fmt::Display for WaitingFor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Holder(holder) => holder.fmt(f),
            Self::Disk { segment, error } => write!(
                f,
                "the disk, which does not give back all of {} ({error}); what it has not given back after a \
                 minute is passed over",
                segment.display()
            ),
        }
    }
}
