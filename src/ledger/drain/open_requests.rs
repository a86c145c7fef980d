//! Requests that have begun and not ended, by their ids.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::record::{EventId, Opened};

/// Each with the segment that it was opened in.
pub(super) type OpenRequests = HashMap<EventId, (u64, Opened), BuildHasherDefault<IdHasher>>;

/// Hashes event ids by their random half. Their other half is the time, and we made them ourselves:
/// nobody can choose ids that collide.
#[derive(Debug, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(random) = bytes.last_chunk() {
            self.0 ^= u64::from_le_bytes(*random);
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        // The map looks at the highest bits, of which two are the same in all UUIDs.
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}
