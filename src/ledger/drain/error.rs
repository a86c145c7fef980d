//! How a pass of the drain can fail.

use std::io;
use std::path::PathBuf;

use crate::store::StoreError;

/// What kept records from the store. None is lost: they stay in the journal.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    #[error("can't read the journal's segment {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Remove(Unremoved),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Either side of a pass can fail.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Segments that are done with, and could not be removed.
#[derive(Debug, thiserror::Error)]
#[error(
    "can't remove the journal's segment {}, which is stored whole: {source}; is the data directory writable?",
    path.display()
)]
pub struct Unremoved {
    /// The first of them, and why.
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
    /// How many there are.
    pub(crate) segments: u64,
}

/// A segment that could not be read, and why.
#[derive(Debug)]
pub(super) struct Unread {
    pub(super) path: PathBuf,
    pub(super) source: io::Error,
}
