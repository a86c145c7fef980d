//! Why a record could not be written, or is not where it has to be.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{power, stall};
use crate::usage::End;

/// A record could not be written, or not so that it survives what it has to.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum AppendError {
    #[error("the journal in `{path}` cannot be written: {source}")]
    NotWritten { path: PathBuf, source: Arc<io::Error> },
    #[error("the journal in `{path}` cannot be synced: a sync failed")]
    NotSynced { path: PathBuf },
    #[error(
        "the journal in `{path}` is not being synced: a sync has not returned for {} seconds or more; is its \
         disk stuck, or the network to it?",
        stall::REFUSED_AFTER.as_secs()
    )]
    Stalled { path: PathBuf },
}

impl AppendError {
    pub(super) fn not_written(path: &Path, source: io::Error) -> Self {
        Self::NotWritten { path: path.to_owned(), source: source.into() }
    }

    /// What the row of a request says that was taken down with this end: one that could not be written, or not
    /// synced, is written once more, for an answer that was not released.
    pub(crate) fn end_of_row(&self, end: End) -> End {
        match self {
            Self::NotWritten { .. } | Self::NotSynced { .. } => power::end_unseen(end),
            Self::Stalled { .. } => end,
        }
    }

    pub(super) fn not_synced(path: &Path) -> Self {
        Self::NotSynced { path: path.to_owned() }
    }

    pub(super) fn stalled(path: &Path) -> Self {
        Self::Stalled { path: path.to_owned() }
    }
}
