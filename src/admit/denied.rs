//! The answers of admission: which limit said no and when to come back, and how much of each rate
//! is left.

use std::time::Duration;

/// Whose limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    Key,
    Tenant,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Requests per minute.
    Requests,
    /// Tokens per minute.
    Tokens,
    /// Requests in flight.
    Concurrency,
    DailyTokens,
    MonthlyTokens,
    DailyRequests,
    MonthlyRequests,
    /// Cost, in billionths of a dollar.
    DailyUsd,
    MonthlyUsd,
}

/// One limit of one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Limit {
    pub(crate) scope: Scope,
    pub(crate) kind: Kind,
}

/// Why a request was not admitted. Nothing was spent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    /// Larger than the whole limit; no waiting helps.
    #[error("the request asks for {asked}, more than the whole limit {} of {allowed}", .limit.name())]
    TooLarge { limit: Limit, allowed: u64, asked: u64, rate_limits: RateLimits },
    /// Used up, what others have reserved included, until `resets_at_ms` (Unix milliseconds).
    #[error("the quota {} is used up until {resets_at_ms} ms after the epoch", .limit.name())]
    Quota { limit: Limit, resets_at_ms: i64, rate_limits: RateLimits },
    /// As many in flight as may be.
    #[error("the limit {} is reached", .limit.name())]
    Concurrency { limit: Limit, rate_limits: RateLimits },
    /// Too fast, by requests or by tokens. After `wait` the request succeeds, if nothing else uses
    /// the key and its tenant meanwhile.
    #[error("the limit {} is reached for another {} ms", .limit.name(), .wait.as_millis())]
    Rate { limit: Limit, wait: Duration, rate_limits: RateLimits },
}

/// One rate limit at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Level {
    /// Per minute.
    pub(crate) limit: u64,
    /// Whole requests or tokens that would pass at once now; 0 while there is debt.
    pub(crate) remaining: u64,
    /// Until all of it is there again, if nothing is used meanwhile.
    pub(crate) reset: Duration,
}

/// What `x-ratelimit-*` tells: of key and tenant the one with less left, where that limit exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RateLimits {
    pub(crate) requests: Option<Level>,
    pub(crate) tokens: Option<Level>,
}

impl Limit {
    /// The name in `x-weir-limit` and in metrics: `key-requests`, `tenant-daily-tokens`, …
    pub(crate) fn name(self) -> &'static str {
        match (self.scope, self.kind) {
            (Scope::Key, Kind::Requests) => "key-requests",
            (Scope::Key, Kind::Tokens) => "key-tokens",
            (Scope::Key, Kind::Concurrency) => "key-concurrency",
            (Scope::Key, Kind::DailyTokens) => "key-daily-tokens",
            (Scope::Key, Kind::MonthlyTokens) => "key-monthly-tokens",
            (Scope::Key, Kind::DailyRequests) => "key-daily-requests",
            (Scope::Key, Kind::MonthlyRequests) => "key-monthly-requests",
            (Scope::Key, Kind::DailyUsd) => "key-daily-usd",
            (Scope::Key, Kind::MonthlyUsd) => "key-monthly-usd",
            (Scope::Tenant, Kind::Requests) => "tenant-requests",
            (Scope::Tenant, Kind::Tokens) => "tenant-tokens",
            (Scope::Tenant, Kind::Concurrency) => "tenant-concurrency",
            (Scope::Tenant, Kind::DailyTokens) => "tenant-daily-tokens",
            (Scope::Tenant, Kind::MonthlyTokens) => "tenant-monthly-tokens",
            (Scope::Tenant, Kind::DailyRequests) => "tenant-daily-requests",
            (Scope::Tenant, Kind::MonthlyRequests) => "tenant-monthly-requests",
            (Scope::Tenant, Kind::DailyUsd) => "tenant-daily-usd",
            (Scope::Tenant, Kind::MonthlyUsd) => "tenant-monthly-usd",
        }
    }
}

impl Limit {
    /// An amount with what is counted, for people: `5 requests`, `12.5 USD`.
    pub(crate) fn amount(self, amount: u64) -> String {
        const NANO: u64 = 1_000_000_000;
        let what = self.kind.counted();
        if !self.kind.is_usd() {
            return format!("{amount} {what}");
        }
        let text = format!("{}.{:09}", amount / NANO, amount % NANO);
        format!("{} {what}", text.trim_end_matches('0').trim_end_matches('.'))
    }

    /// The whole limit for people: `5000 tokens per minute`.
    pub(crate) fn whole(self, allowed: u64) -> String {
        format!("{} {}", self.amount(allowed), self.kind.over())
    }

    /// What is counted over what, for people: `tokens per minute`.
    pub(crate) fn unit(self) -> String {
        format!("{} {}", self.kind.counted(), self.kind.over())
    }
}

impl Kind {
    fn counted(self) -> &'static str {
        match self {
            Self::Requests | Self::Concurrency | Self::DailyRequests | Self::MonthlyRequests => {
                "requests"
            }
            Self::Tokens | Self::DailyTokens | Self::MonthlyTokens => "tokens",
            Self::DailyUsd | Self::MonthlyUsd => "USD",
        }
    }

    fn over(self) -> &'static str {
        match self {
            Self::Requests | Self::Tokens => "per minute",
            Self::Concurrency => "in flight at once",
            Self::DailyTokens | Self::DailyRequests | Self::DailyUsd => "per day",
            Self::MonthlyTokens | Self::MonthlyRequests | Self::MonthlyUsd => "per calendar month",
        }
    }

    /// Whether its amounts are billionths of a dollar, and not a count.
    pub(super) fn is_usd(self) -> bool {
        matches!(self, Self::DailyUsd | Self::MonthlyUsd)
    }

    pub(super) fn is_monthly(self) -> bool {
        matches!(self, Self::MonthlyTokens | Self::MonthlyRequests | Self::MonthlyUsd)
    }
}

impl Denied {
    /// The limit that said no.
    pub(crate) fn limit(&self) -> Limit {
        match self {
            Self::TooLarge { limit, .. }
            | Self::Quota { limit, .. }
            | Self::Concurrency { limit, .. }
            | Self::Rate { limit, .. } => *limit,
        }
    }

    /// Its name, for the header `x-weir-limit`.
    pub(crate) fn limit_name(&self) -> &'static str {
        self.limit().name()
    }

    /// The rates at the moment of the refusal.
    pub(crate) fn rate_limits(&self) -> RateLimits {
        match self {
            Self::TooLarge { rate_limits, .. }
            | Self::Quota { rate_limits, .. }
            | Self::Concurrency { rate_limits, .. }
            | Self::Rate { rate_limits, .. } => *rate_limits,
        }
    }

    /// `Retry-After` in whole seconds, at least 1: the true wait rounded up for a rate, 1 without
    /// any promise for concurrency, nothing for what cannot be waited out.
    pub(crate) fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::TooLarge { .. } | Self::Quota { .. } => None,
            Self::Concurrency { .. } => Some(1),
            Self::Rate { wait, .. } => {
                let begun = u64::from(wait.subsec_nanos() > 0);
                Some(wait.as_secs().saturating_add(begun).max(1))
            }
        }
    }
}

impl RateLimits {
    /// Both hold, so the one with less left counts; of equals the key's own.
    pub(super) fn tighter(key: Self, tenant: Self) -> Self {
        Self {
            requests: less_left(key.requests, tenant.requests),
            tokens: less_left(key.tokens, tenant.tokens),
        }
    }
}

fn less_left(key: Option<Level>, tenant: Option<Level>) -> Option<Level> {
    match (key, tenant) {
        (Some(key), Some(tenant)) if tenant.remaining < key.remaining => Some(tenant),
        (key, tenant) => key.or(tenant),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_rounded_up_and_never_zero() {
        let limit = Limit { scope: Scope::Key, kind: Kind::Requests };
        let rate_limits = RateLimits::default();
        let cases = [
            (Duration::from_nanos(1), 1),
            (Duration::from_secs(1), 1),
            (Duration::new(1, 1), 2),
            (Duration::from_millis(59_999), 60),
            (Duration::MAX, u64::MAX),
        ];
        for (wait, seconds) in cases {
            let denied = Denied::Rate { limit, wait, rate_limits };
            assert_eq!(denied.retry_after_s(), Some(seconds), "{wait:?}");
        }
        assert_eq!(Denied::Concurrency { limit, rate_limits }.retry_after_s(), Some(1));
        assert_eq!(Denied::Quota { limit, resets_at_ms: 0, rate_limits }.retry_after_s(), None);
    }

    #[test]
    fn amounts_are_shown_in_their_unit() {
        let of = |kind| Limit { scope: Scope::Key, kind };
        let show = |kind, amount| of(kind).amount(amount);
        assert_eq!(show(Kind::DailyTokens, 1_000_000_000), "1000000000 tokens");
        assert_eq!(of(Kind::Tokens).whole(100), "100 tokens per minute");
        assert_eq!(of(Kind::MonthlyUsd).whole(5_000_000_000), "5 USD per calendar month");
        assert_eq!(of(Kind::Concurrency).unit(), "requests in flight at once");
        for (nano_usd, text) in [
            (0, "0 USD"),
            (1, "0.000000001 USD"),
            (12_500_000_000, "12.5 USD"),
            (100_000_000_000, "100 USD"),
        ] {
            assert_eq!(show(Kind::MonthlyUsd, nano_usd), text);
        }
    }

    const ALL: [Kind; 9] = [
        Kind::Requests,
        Kind::Tokens,
        Kind::Concurrency,
        Kind::DailyTokens,
        Kind::MonthlyTokens,
        Kind::DailyRequests,
        Kind::MonthlyRequests,
        Kind::DailyUsd,
        Kind::MonthlyUsd,
    ];

    #[test]
    fn every_limit_is_documented_with_its_unit_and_has_a_label_in_the_metrics() {
        use crate::telemetry::metrics::{LIMITS, QUOTAS};
        let documented = include_str!("../../docs/errors.md");
        for (at, kind) in ALL.into_iter().enumerate() {
            assert_eq!(at, kind as usize, "one is not in the list");
            let limit = Limit { scope: Scope::Key, kind };
            let name = limit.name().strip_prefix("key-").unwrap();
            let row = format!("| `{name}` | {} | `--", limit.unit());
            assert!(documented.contains(&row), "{row}");
            for scope in [Scope::Key, Scope::Tenant] {
                let name = Limit { scope, kind }.name();
                assert!(LIMITS.contains(&name), "{name}");
                let is_quota = crate::admit::threshold_gauge::QUOTAS.contains(&kind);
                assert_eq!(QUOTAS.contains(&name), is_quota, "{name}");
            }
        }
    }

    #[test]
    fn the_standing_names_the_one_with_less_left() {
        let level = |remaining| Level { limit: 60, remaining, reset: Duration::ZERO };
        for (key, tenant, named) in [
            (Some(level(5)), Some(level(4)), Some(level(4))),
            (Some(level(4)), Some(level(5)), Some(level(4))),
            (Some(level(9)), None, Some(level(9))),
            (None, Some(level(9)), Some(level(9))),
            (None, None, None),
        ] {
            assert_eq!(less_left(key, tenant), named);
        }
    }
}
