//! Counts as SQLite holds them.

/// A count as SQLite can hold it: 64 bits with a sign. What is larger (no upstream means it) stays
/// at the largest.
pub(super) fn to_sql(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A count as SQLite holds it; a negative one was not written by us and counts as zero.
pub(super) fn from_sql(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}
