//! The price versions that rows name: kept for good, whatever becomes of the configuration, so that
//! the cost of any row can be computed again.

use std::collections::BTreeMap;

use crate::price::{PriceVersion, Rates};
use crate::record::{Closed, Opened};

/// Every price that rows may have been charged by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PriceVersions {
    pub(super) rates: BTreeMap<PriceVersion, Rates>,
    /// What the store holds under a version that is not its own: somebody has changed it, and rows
    /// that name it cannot be computed again.
    pub(crate) changed: Vec<String>,
}

impl PriceVersions {
    /// What a version charges.
    pub(crate) fn rates(&self, version: PriceVersion) -> Option<&Rates> {
        self.rates.get(&version)
    }

    /// Charges a request that a crash has ended. One whose price nobody knows any more has none.
    pub(crate) fn charge(&self, opened: &mut Opened, closed: &mut Closed) {
        let rates = opened.price_version.and_then(|version| self.rates(version));
        closed.cost_nano_usd = rates.map(|rates| rates.cost(&closed.billed()));
        if rates.is_none() {
            opened.price_version = None;
        }
    }
}
