//! What a database has to do to be the store. The program knows nothing else of it: whatever is said here is said in
//! the program's words, by subject, and holds for every engine.

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use super::{Audit, Ingest, Reports, StoreError, Tenancy, Upkeep};

/// A state of the store that holds still, from the first read on until this is dropped: what is read meanwhile is of
/// one moment. Any reading call may be made within it, and another snapshot, which is of the same moment.
pub(crate) trait Snapshot {}

/// One connection to the store. It is not shared between threads: each has its own.
pub(crate) trait Engine: Ingest + Tenancy + Reports + Audit + Upkeep + Debug + Send {
    /// Another connection of this process, for another thread.
    fn another(&self) -> Result<Box<dyn Engine>, StoreError>;

    /// Holds the state of the store still for several reads.
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, StoreError>;

    /// From here on a commit has survived a power cut when it returns, and not only a crash.
    fn sync_commits(&mut self) -> Result<(), StoreError>;

    /// Waits, before a change of tenants or keys, for a program that keeps others from writing. `tell` hears how
    /// long.
    fn await_change(&mut self, tell: &mut dyn FnMut(Duration)) -> Result<(), StoreError>;

    /// Whether this connection still leads to the store. What is written to another place is lost.
    fn is_in_place(&self) -> bool;

    /// Whether something else stands in the store's place, or others have put another content into it than what
    /// this connection has stored.
    fn is_replaced(&mut self) -> Result<bool, StoreError>;

    /// Opens what stands in the store's place now; this connection is closed for good. Until that succeeds, every
    /// call fails. What is there is left as it is unless it is a store of this version.
    fn reopen(&mut self) -> Result<Box<dyn Engine>, StoreError>;

    /// Whether `path` is one of the store's files.
    fn is_file(&self, path: &Path) -> bool;

    /// For tests of one engine.
    #[cfg(test)]
    fn as_any(&self) -> &dyn std::any::Any;

    /// The same, to break it.
    #[cfg(test)]
    fn as_any_mut(&mut self) -> &mut dyn std::any::Any;
}
