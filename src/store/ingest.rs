//! What the drain writes: the rows of requests, with how far it has read the journal, the prices that rows name
//! and whose the responses are.

use crate::price::Prices;
use crate::record::{EventId, ResponseOwner, Row};

use super::{PriceVersions, StoreError};

/// How far a journal segment has been drained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The segment's [`position_name`](crate::journal::position_name).
    pub segment: String,
    /// In bytes: the first record that is not in the store yet.
    pub offset: u64,
}

/// The drain's side of the store.
pub(crate) trait Ingest {
    /// Before the first batch of a drain: positions are forgotten of all segments but these (by number), and from
    /// here on [`Engine::is_replaced`](super::Engine::is_replaced) watches the content, and whoever writes calls
    /// [`Self::maintain`] after its commits.
    fn begin_drain(&mut self, segments: &[u64]) -> Result<(), StoreError>;

    /// Writes rows, their roll-ups and positions in one transaction, and says how many rows were new. A row whose
    /// event id is there already changes nothing. `step` is called after each row.
    ///
    /// One transaction costs as much as a few hundred rows, and each (key, hour, model) in it one roll-up: few
    /// large batches are cheaper than many small ones.
    fn append_stepwise(
        &mut self,
        rows: &[Row],
        positions: &[Position],
        step: &mut dyn FnMut(),
    ) -> Result<usize, StoreError>;

    /// The same without steps.
    fn append(&mut self, rows: &[Row], positions: &[Position]) -> Result<usize, StoreError> {
        self.append_stepwise(rows, positions, &mut || ())
    }

    /// How far each known segment has been drained.
    fn positions(&self) -> Result<Vec<Position>, StoreError>;

    /// How far a segment has been drained: in bytes, the first record that is not in the store yet.
    fn position(&self, segment: &str) -> Result<u64, StoreError>;

    /// Whether a request's row is there.
    fn has_row(&self, event_id: EventId) -> Result<bool, StoreError>;

    /// Forgets the positions of segments (by number) that are about to be deleted. When it returns, all that was
    /// appended before has survived a power cut; else it is an error, and the segments have to stay.
    fn forget_segments(&mut self, numbers: &[u64]) -> Result<(), StoreError>;

    /// After a commit of the drain's: what the engine puts off until somebody has time for it.
    fn maintain(&mut self) -> Result<(), StoreError>;

    /// Gives back the memory that only makes the next statements quicker.
    fn release_memory(&self);

    /// Writes down the prices that rows will name from now on; those that are there already stay.
    fn record_prices(&mut self, prices: &Prices) -> Result<(), StoreError>;

    /// All prices that were ever in force.
    fn price_versions(&self) -> Result<PriceVersions, StoreError>;

    /// So many owners of responses are kept from here on.
    fn keep_response_owners(&mut self, most: usize);

    /// The owners of the latest responses with their tenant, oldest first. What an older version stored is of a
    /// tenant without a name.
    fn response_owners(&self, take: &mut dyn FnMut(&str, ResponseOwner)) -> Result<(), StoreError>;
}
