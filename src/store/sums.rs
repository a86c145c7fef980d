//! What sums are made of: ranges of requests, what is counted of them, and what quotas count.

use crate::usage::Usage;

/// Milliseconds in an hour.
pub(super) const HOUR_MS: i64 = 3_600_000;

/// What is counted of a number of requests. Sums stop at the largest number instead of wrapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub requests: u64,
    /// Those whose usage the upstream did not state in full: running or estimated.
    pub estimated_requests: u64,
    /// Those without a price, which are not in the cost.
    pub unpriced_requests: u64,
    pub usage: Usage,
    /// In billionths of a dollar; `None` as long as nothing had a price.
    pub cost_nano_usd: Option<i64>,
}

/// Which requests to sum up: those that began in `from_ms..until_ms` (milliseconds since the
/// epoch), of one key, tenant or model where given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range<'a> {
    pub from_ms: i64,
    pub until_ms: i64,
    pub key: Option<&'a str>,
    pub tenant: Option<&'a str>,
    pub model: Option<&'a str>,
}

/// Everything there is.
pub(super) const EVERYTHING: Range<'_> =
    Range { from_ms: i64::MIN, until_ms: i64::MAX, key: None, tenant: None, model: None };

/// One part of a sum: a roll-up, or a single row of an hour that the range cuts.
#[derive(Debug)]
pub(crate) struct Addend<'a> {
    pub tenant: &'a str,
    pub key_id: &'a str,
    pub model: &'a str,
    /// The roll-up's hour, or the row's start, in milliseconds since the epoch.
    pub at_ms: i64,
    pub sums: Sums,
}

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

/// What quotas count. Each stops at the largest number that databases can hold (63 bits), so that the sum is
/// the same in whatever order it is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub requests: u64,
    pub total_tokens: u64,
    pub nano_usd: u64,
}

impl Sums {
    /// Adds what `other` counted.
    pub(crate) fn add(&mut self, other: &Self) {
        let mut other = *other;
        self.requests = self.requests.saturating_add(other.requests);
        self.estimated_requests = self.estimated_requests.saturating_add(other.estimated_requests);
        self.unpriced_requests = self.unpriced_requests.saturating_add(other.unpriced_requests);
        for (sum, addend) in counts(&mut self.usage).into_iter().zip(counts(&mut other.usage)) {
            *sum = sum.saturating_add(*addend);
        }
        self.cost_nano_usd = match (self.cost_nano_usd, other.cost_nano_usd) {
            (Some(mine), Some(its)) => Some(mine.saturating_add(its)),
            (mine, its) => mine.or(its),
        };
    }

    /// What is left of stored sums without `other`. `None` if nobody can tell from them: `other` is not in
    /// them, or one of them has stopped at the largest number.
    pub(super) fn without(&self, other: &Self) -> Option<Self> {
        let (mut left, mut other) = (*self, *other);
        let pairs = [
            (&mut left.requests, other.requests),
            (&mut left.estimated_requests, other.estimated_requests),
            (&mut left.unpriced_requests, other.unpriced_requests),
        ];
        let usages = counts(&mut left.usage).into_iter();
        let usages = usages.zip(counts(&mut other.usage).map(|count| *count));
        for (sum, subtrahend) in pairs.into_iter().chain(usages) {
            let is_whole = *sum < i64::MAX.unsigned_abs();
            *sum = sum.checked_sub(subtrahend).filter(|_| is_whole)?;
        }
        let cost = match (self.cost_nano_usd, other.cost_nano_usd) {
            (Some(i64::MAX), _) | (None, Some(_)) => return None,
            (mine, None) => mine,
            (Some(mine), Some(its)) => Some(mine.checked_sub(its).filter(|cost| *cost >= 0)?),
        };
        // Each row has a price or is counted as one that has none.
        let is_priced = left.requests > left.unpriced_requests;
        left.cost_nano_usd = cost.filter(|_| is_priced);
        Some(left)
    }
}

/// The counts of tokens that are summed up.
pub(super) fn counts(usage: &mut Usage) -> [&mut u64; 12] {
    [
        &mut usage.input,
        &mut usage.cached,
        &mut usage.cache_write,
        &mut usage.output,
        &mut usage.reasoning,
        &mut usage.audio_input,
        &mut usage.audio_output,
        &mut usage.image_input,
        &mut usage.image_output,
        &mut usage.accepted_prediction,
        &mut usage.rejected_prediction,
        &mut usage.total,
    ]
}

/// The hour (since the epoch, UTC) in which a moment lies.
pub(super) fn hour_of(at_ms: i64) -> i64 {
    at_ms.div_euclid(HOUR_MS)
}

impl Balance {
    pub(super) fn of(tenant: String, key_id: String, counts: Counts) -> Self {
        let Counts { requests, total_tokens, nano_usd } = counts;
        Self { tenant, key_id, requests, total_tokens, nano_usd }
    }

    pub(crate) fn counts(&self) -> Counts {
        let Self { requests, total_tokens, nano_usd, .. } = *self;
        Counts { requests, total_tokens, nano_usd }
    }
}

impl Counts {
    const MAX: u64 = i64::MAX.unsigned_abs();

    pub(super) fn of(sums: &Sums) -> Self {
        Self {
            requests: sums.requests.min(Self::MAX),
            total_tokens: sums.usage.total.min(Self::MAX),
            nano_usd: sums.cost_nano_usd.map_or(0, |cost| u64::try_from(cost).unwrap_or(0)),
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        for (sum, addend) in [
            (&mut self.requests, other.requests),
            (&mut self.total_tokens, other.total_tokens),
            (&mut self.nano_usd, other.nano_usd),
        ] {
            *sum = sum.saturating_add(addend).min(Self::MAX);
        }
    }
}
