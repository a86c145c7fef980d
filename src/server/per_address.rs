//! How many connections are open from where, so that no address takes all there may be.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::identify::network_of;

/// Open connections by network; of none there is no entry, so there are at most as many as connections.
/// Asked when a connection is accepted and when it ends, never by a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct PerAddress(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A connection, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct AddressSlot {
    network: IpAddr,
    before: usize,
    origins: PerAddress,
}

impl PerAddress {
    pub(crate) fn enter(&self, address: IpAddr) -> AddressSlot {
        let network = network_of(address);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(network).or_default();
        *count += 1;
        AddressSlot { network, before: *count - 1, origins: self.clone() }
    }
}

impl AddressSlot {
    /// How many others there were when it came.
    pub(crate) fn before(&self) -> usize {
        self.before
    }
}

impl Drop for AddressSlot {
    fn drop(&mut self) {
        let mut counts = self.origins.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_counts_as_one_and_is_forgotten_with_its_last_connection() {
        let origins = PerAddress::default();
        let mut open = Vec::new();
        for (address, before) in [
            ("192.0.2.1", 0),
            ("192.0.2.2", 0),
            ("::ffff:192.0.2.1", 1),
            ("2001:db8::1", 0),
            ("2001:db8::ffff:2", 1),
            ("2001:db8:0:1::1", 0),
        ] {
            open.push(origins.enter(address.parse().expect("an address")));
            assert_eq!(open.last().map(AddressSlot::before), Some(before), "{address}");
        }
        assert_eq!(origins.0.lock().expect("nobody panicked").len(), 4);
        drop(open);
        assert!(origins.0.lock().expect("nobody panicked").is_empty());
    }
}
