//! What reports and quotas read: single requests, and sums over spans of time.

use std::ops::ControlFlow;

use crate::record::EventId;
use crate::usage::End;

use super::{Addend, Balance, Filter, Range, Request, StoreError};

/// The reading side of the store.
pub(crate) trait Reports {
    /// The request of this id.
    fn request(&self, id: EventId) -> Result<Option<Request>, StoreError>;

    /// The requests that pass the filter (and ended like `end`, where given), newest first, at most
    /// `limit` of them.
    fn requests(
        &self,
        filter: &Filter,
        end: Option<End>,
        limit: u32,
    ) -> Result<Vec<Request>, StoreError>;

    /// Hands `each` the requests that pass the filter, oldest first, as they were when it began, until it breaks
    /// off. However long `each` takes, nobody else is kept from writing.
    ///
    /// # Errors
    ///
    /// [`StoreError::RowsExpired`] if rows that had still to be read were deleted meanwhile.
    fn requests_oldest_first(
        &self,
        filter: &Filter,
        end: Option<End>,
        each: &mut dyn FnMut(Request) -> ControlFlow<()>,
    ) -> Result<(), StoreError>;

    /// Hands `each` what the sum of a range consists of: whole hours, and single rows of those hours that the
    /// range cuts, or that have to be told apart as `cut` says (of when an hour begins, in milliseconds since the
    /// epoch).
    fn addends(
        &self,
        range: &Range<'_>,
        cut: &dyn Fn(i64) -> bool,
        each: &mut dyn FnMut(Addend<'_>),
    ) -> Result<(), StoreError>;

    /// What each key used of the requests that began in each span (from and until before, in milliseconds since
    /// the epoch), by tenant and key in order: all spans at one moment, of one tenant where given. Days can begin
    /// at any minute.
    fn balances_in(
        &self,
        tenant: Option<&str>,
        spans: &[(i64, i64)],
    ) -> Result<Vec<Vec<Balance>>, StoreError>;
}
