//! What each key has used in a span of time: what quotas count from when a server starts.

use std::collections::BTreeMap;

use super::sums::{Addend, Range};
use super::{Store, StoreError, Sums, from_sql};

/// What one key has used in a span of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Balance {
    pub tenant: String,
    pub key_id: String,
    pub requests: u64,
    pub total_tokens: u64,
    /// Billionths of a dollar; what had no price counts nothing.
    pub nano_usd: u64,
}

impl Store {
    /// What each key used of the requests that began in `from_ms..until_ms` (milliseconds since the
    /// epoch), by tenant and key in order.
    pub(crate) fn balances(&self, from_ms: i64, until_ms: i64) -> Result<Vec<Balance>, StoreError> {
        let [balances] = self.balances_of(None, [(from_ms, until_ms)])?;
        Ok(balances)
    }

    /// The same for several spans at one moment, of one tenant where given. Hours that a span cuts
    /// are summed from rows, so that days can begin at any minute.
    pub(crate) fn balances_of<const N: usize>(
        &self,
        tenant: Option<&str>,
        spans: [(i64, i64); N],
    ) -> Result<[Vec<Balance>; N], StoreError> {
        let _snapshot = self.snapshot()?;
        let mut all = std::array::from_fn(|_| Vec::new());
        for (found, (from_ms, until_ms)) in all.iter_mut().zip(spans) {
            let range = Range { from_ms, until_ms, key: None, tenant, model: None };
            let mut balances: BTreeMap<(String, String), Sums> = BTreeMap::new();
            let add = |addend: Addend<'_>| {
                let key = (addend.tenant.to_owned(), addend.key_id.to_owned());
                balances.entry(key).or_default().add(&addend.sums);
            };
            self.addends(&range, |_| false, add)?;
            *found = balances.into_iter().map(Balance::of).collect();
        }
        Ok(all)
    }
}

impl Balance {
    /// By tenant and key id.
    pub(super) fn of(((tenant, key_id), sums): ((String, String), Sums)) -> Self {
        Self {
            tenant,
            key_id,
            requests: sums.requests,
            total_tokens: sums.usage.total,
            nano_usd: from_sql(sums.cost_nano_usd.unwrap_or(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{MINUTE_MS, Sample, minutes, store_with};
    use super::*;

    #[test]
    fn balances_are_exact_wherever_the_hours_are_cut() {
        let samples = minutes();
        let (_dir, store) = store_with(&samples);
        let edges = [0, 1, 30, 59, 60, 61, 90, 150, 300, 329, 330, 540, 599, 600];
        let edges: Vec<_> = edges
            .into_iter()
            .flat_map(|minute| [-1, 0, 1].map(|off| minute * MINUTE_MS + off))
            .chain([i64::MIN, i64::MAX])
            .collect();
        for from_ms in edges.iter().copied() {
            for until_ms in edges.iter().copied() {
                let inside = |sample: &&Sample<'_>| (from_ms..until_ms).contains(&sample.at_ms);
                let mut expected: BTreeMap<_, (u64, u64)> = BTreeMap::new();
                for sample in samples.iter().filter(inside) {
                    let (requests, cost) = expected.entry((sample.tenant, sample.key)).or_default();
                    *requests += 1;
                    *cost += sample.cost.unwrap_or(0);
                }
                let balance = |((tenant, key), (requests, cost)): (_, (u64, u64))| Balance {
                    tenant: str::to_owned(tenant),
                    key_id: str::to_owned(key),
                    requests,
                    total_tokens: 10 * requests,
                    nano_usd: cost,
                };
                let expected: Vec<_> = expected.into_iter().map(balance).collect();
                let found = store.balances(from_ms, until_ms).unwrap();
                assert_eq!(found, expected, "{from_ms}..{until_ms}");
            }
        }
    }
}
