//! Who is refused by which limit: the question of every operator whom somebody asks why. A count for each key
//! and limit, and a line in the log, the first at once and then one a minute. Bounded: clients decide how many
//! there are, so that what comes after the first thousand is counted together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::Clock;
use crate::telemetry::log_throttle::LogThrottle;

/// Pairs of a key and a limit that have a count of their own; a hundred kilobytes.
const MOST: usize = 1_000;
/// Tenant and key of all others.
const OTHERS: &str = "other";

/// The counts, since the start.
#[derive(Debug)]
pub(crate) struct Refused {
    clock: Clock,
    counts: Mutex<BTreeMap<Who, Count>>,
}

/// Tenant, key and limit.
type Who = (Arc<str>, Arc<str>, &'static str);

#[derive(Debug)]
struct Count {
    refused: u64,
    line: LogThrottle,
}

impl Refused {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, counts: Mutex::default() }
    }

    /// Counts a request of a key that a limit has refused. Whether the log is to say so now; if so, how many
    /// were left out since the last time.
    pub(crate) fn count(
        &self,
        tenant: &Arc<str>,
        key_id: &Arc<str>,
        limit: &'static str,
    ) -> Option<u64> {
        let mut counts = self.counts();
        let own = (tenant.clone(), key_id.clone(), limit);
        let who = match counts.len() < MOST || counts.contains_key(&own) {
            true => own,
            false => (OTHERS.into(), OTHERS.into(), limit),
        };
        let new = || Count { refused: 0, line: LogThrottle::new(self.clock.clone()) };
        let count = counts.entry(who).or_insert_with(new);
        count.refused += 1;
        count.line.allow()
    }

    /// All counts: tenant, key, limit, and how many.
    pub(super) fn all(&self) -> Vec<([String; 3], u64)> {
        let text = |((tenant, key_id, limit), count): (&Who, &Count)| {
            ([tenant, key_id, *limit].map(str::to_owned), count.refused)
        };
        self.counts().iter().map(text).collect()
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<Who, Count>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_and_limit_is_counted_and_said_once_a_minute() {
        let (clock, hand) = Clock::manual(0);
        let refused = Refused::new(clock);
        let count = |key: &str, limit| refused.count(&"acme".into(), &key.into(), limit);
        assert_eq!(count("key_a", "key-requests"), Some(0));
        assert_eq!(count("key_a", "key-requests"), None);
        assert_eq!(count("key_a", "key-tokens"), Some(0));
        assert_eq!(count("key_b", "key-requests"), Some(0));
        hand.advance_ms(60_000);
        assert_eq!(count("key_a", "key-requests"), Some(1));
        let line = |key: &str, limit: &str, count| (["acme", key, limit].map(str::to_owned), count);
        let expected = [
            line("key_a", "key-requests", 3),
            line("key_a", "key-tokens", 1),
            line("key_b", "key-requests", 1),
        ];
        assert_eq!(refused.all(), expected);
    }

    #[test]
    fn however_many_keys_are_refused_the_counts_are_bounded_and_none_is_lost() {
        let refused = Refused::new(Clock::manual(0).0);
        for key in 0..3 * MOST {
            refused.count(
                &"acme".into(),
                &key.to_string().into(),
                ["key-requests", "key-tokens"][key % 2],
            );
        }
        // Who has a count keeps it.
        refused.count(&"acme".into(), &"0".into(), "key-requests");
        let all = refused.all();
        assert_eq!(all.len(), MOST + 2);
        assert_eq!(all.iter().map(|(_, count)| count).sum::<u64>(), 3 * MOST as u64 + 1);
        let others = all.iter().filter(|(who, _)| who[1] == OTHERS);
        assert_eq!(others.map(|(_, count)| *count).collect::<Vec<_>>(), [MOST as u64; 2]);
    }
}
