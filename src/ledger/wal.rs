//! How large the store's WAL is. It can't begin anew while a reader needs what is in it, so that one who
//! stands still in the middle of a transaction makes it grow with every row, until the disk is full.

/// From here on it is more than any reader of ours is the cause of.
const LARGE_BYTES: u64 = 256 * 1024 * 1024;

/// Tells once that it has become large, and once that it no longer is.
#[derive(Debug, Default)]
pub(super) struct WalWatch {
    is_large: bool,
}

impl WalWatch {
    /// Takes its size, and hands it on.
    pub(super) fn look(&mut self, bytes: u64) -> u64 {
        let was_large = std::mem::replace(&mut self.is_large, bytes >= LARGE_BYTES);
        match (was_large, self.is_large) {
            (false, true) => tracing::warn!(
                bytes,
                "the store's WAL grows: a program has been reading weir.sqlite for long; end it"
            ),
            (true, false) => tracing::info!(bytes, "the store's WAL is small again"),
            _ => {}
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::log::tests::logged;

    #[test]
    fn a_large_wal_is_told_once_and_its_end_as_well() {
        let mut watch = WalWatch::default();
        for (bytes, told) in [
            (LARGE_BYTES - 1, None),
            (LARGE_BYTES, Some("WAL grows")),
            (2 * LARGE_BYTES, None),
            (0, Some("is small again")),
            (1, None),
            (LARGE_BYTES, Some("WAL grows")),
        ] {
            let said = logged(|| assert_eq!(watch.look(bytes), bytes));
            assert_eq!(said.lines().count(), usize::from(told.is_some()), "{bytes}: {said}");
            assert!(told.is_none_or(|told| said.contains(told)), "{bytes}: {said}");
        }
    }
}
