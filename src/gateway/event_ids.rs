//! Event ids: UUIDv7 (RFC 9562 §5.7), made without a lock and with one system call for some hundred of
//! them. The twelve bits after the time count within a millisecond (§6.2, method 1), so that ids of one
//! worker are in order.

use std::cell::RefCell;

use uuid::Builder;

use crate::record::EventId;

const RANDOM_BYTES: usize = 4096;
/// What one id takes: the 62 random bits and those that the version and variant overwrite.
const PER_ID: usize = 10;

/// One worker's source of ids.
#[derive(Debug)]
pub(crate) struct EventIds(RefCell<State>);

#[derive(Debug)]
struct State {
    random: Vec<u8>,
    used: usize,
    last_ms: i64,
    count: u16,
}

impl EventIds {
    pub(crate) fn new() -> Self {
        let random = vec![0; RANDOM_BYTES];
        Self(RefCell::new(State { random, used: RANDOM_BYTES, last_ms: 0, count: 0 }))
    }

    /// An id for a request that arrived at `unix_ms`.
    pub(crate) fn next(&self, unix_ms: i64) -> EventId {
        let mut state = self.0.borrow_mut();
        if state.used + PER_ID > RANDOM_BYTES {
            getrandom::fill(&mut state.random)
                .expect("the system has randomness once it has booted");
            state.used = 0;
        }
        state.count =
            if unix_ms == state.last_ms { state.count.wrapping_add(1) & 0xfff } else { 0 };
        state.last_ms = unix_ms;
        let mut bytes = [0; PER_ID];
        bytes.copy_from_slice(&state.random[state.used..state.used + PER_ID]);
        state.used += PER_ID;
        bytes[..2].copy_from_slice(&state.count.to_be_bytes());
        let ms = u64::try_from(unix_ms).unwrap_or(0);
        EventId(Builder::from_unix_timestamp_millis(ms, &bytes).into_uuid().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_7_ordered_and_different() {
        let ids = EventIds::new();
        let made: Vec<EventId> =
            (0..2000).map(|n| ids.next(1_780_470_861_000 + n / 1000)).collect();
        assert!(made.windows(2).all(|pair| pair[0] < pair[1]));
        let uuid = uuid::Uuid::from_bytes(made[0].0);
        assert_eq!(uuid.get_version_num(), 7);
        assert_eq!(made[0].to_text(), uuid.to_string());
    }
}
