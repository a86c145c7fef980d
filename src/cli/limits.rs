//! The limit options that keys and tenants share.

use std::str::FromStr;

use crate::price::{self, AmountError};
use crate::tenancy::Limits;

use super::output::{Column, grouped};

/// A limit as it was typed: a number, or `none` to lift it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cap<T>(Option<T>);

/// What may be used. What is not given stays as it is.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct LimitArgs {
    /// Requests per minute, or `none`
    #[arg(long, value_name = "N", value_parser = |text: &str| cap::<u32>(text, "requests per minute", "60"),
        allow_negative_numbers = true)]
    rpm: Option<Cap<u32>>,
    /// Tokens per minute, or `none`
    #[arg(long, value_name = "N", value_parser = |text: &str| cap::<u64>(text, "tokens per minute", "50000"),
        allow_negative_numbers = true)]
    tpm: Option<Cap<u64>>,
    /// Requests in flight at once, or `none`
    #[arg(long, value_name = "N", value_parser = |text: &str| cap::<u32>(text, "requests in flight at once", "10"),
        allow_negative_numbers = true)]
    concurrency: Option<Cap<u32>>,
    /// Tokens per day, or `none`
    #[arg(long, value_name = "N", value_parser = |text: &str| cap::<u64>(text, "tokens per day", "1000000"),
        allow_negative_numbers = true)]
    daily_tokens: Option<Cap<u64>>,
    /// Tokens per calendar month, or `none`
    #[arg(long, value_name = "N", value_parser = |text: &str| cap::<u64>(text, "tokens per calendar month", "5000000"),
        allow_negative_numbers = true)]
    monthly_tokens: Option<Cap<u64>>,
    /// Requests per day, or `none`
    #[arg(long, value_name = "N", value_parser = |text: &str| cap::<u64>(text, "requests per day", "1000"),
        allow_negative_numbers = true)]
    daily_requests: Option<Cap<u64>>,
    /// Requests per calendar month, or `none`
    #[arg(long, value_name = "N", value_parser = |text: &str| cap::<u64>(text, "requests per calendar month", "20000"),
        allow_negative_numbers = true)]
    monthly_requests: Option<Cap<u64>>,
    /// Dollars per day, such as 12.50, or `none`
    #[arg(long, value_name = "X", value_parser = |text: &str| dollars(text, "dollars per day"),
        allow_negative_numbers = true)]
    daily_usd: Option<Cap<u64>>,
    /// Dollars per calendar month, such as 12.50, or `none`
    #[arg(long, value_name = "X", value_parser = |text: &str| dollars(text, "dollars per calendar month"),
        allow_negative_numbers = true)]
    monthly_usd: Option<Cap<u64>>,
}

/// Limits as output shows them; null is not limited.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct LimitFields {
    rpm: Option<u32>,
    tpm: Option<u64>,
    concurrency: Option<u32>,
    daily_tokens: Option<u64>,
    monthly_tokens: Option<u64>,
    daily_requests: Option<u64>,
    monthly_requests: Option<u64>,
    /// Decimal numbers, exact.
    daily_usd: Option<String>,
    monthly_usd: Option<String>,
}

/// All limits in one cell of a table; programs have a column for each.
pub(crate) const SUMMARY: Column = Column::ranked("limits", "limits", 3).for_people();

/// What is limited, and to how much, for people: `rpm 60, daily-tokens 5,000`. `None`: nothing is.
pub(crate) fn summary(limits: &Limits) -> Option<String> {
    let count = |limit: Option<u64>| limit.map(|limit| grouped(&limit.to_string()));
    let all = [
        ("rpm", count(limits.rpm.map(u64::from))),
        ("tpm", count(limits.tpm)),
        ("concurrency", count(limits.concurrency.map(u64::from))),
        ("daily-requests", count(limits.daily_requests)),
        ("daily-tokens", count(limits.daily_tokens)),
        ("daily-usd", limits.daily_nano_usd.map(price::usd)),
        ("monthly-requests", count(limits.monthly_requests)),
        ("monthly-tokens", count(limits.monthly_tokens)),
        ("monthly-usd", limits.monthly_nano_usd.map(price::usd)),
    ];
    let set = all.into_iter().filter_map(|(name, limit)| Some(format!("{name} {}", limit?)));
    let set: Vec<_> = set.collect();
    (!set.is_empty()).then(|| set.join(", "))
}

impl LimitArgs {
    /// Puts what was given in the place of what was there.
    pub(crate) fn apply(&self, limits: &mut Limits) {
        fn put<T: Copy>(limit: &mut Option<T>, cap: Option<Cap<T>>) {
            if let Some(Cap(value)) = cap {
                *limit = value;
            }
        }
        put(&mut limits.rpm, self.rpm);
        put(&mut limits.tpm, self.tpm);
        put(&mut limits.concurrency, self.concurrency);
        put(&mut limits.daily_tokens, self.daily_tokens);
        put(&mut limits.monthly_tokens, self.monthly_tokens);
        put(&mut limits.daily_requests, self.daily_requests);
        put(&mut limits.monthly_requests, self.monthly_requests);
        put(&mut limits.daily_nano_usd, self.daily_usd);
        put(&mut limits.monthly_nano_usd, self.monthly_usd);
    }

    /// No limit was given at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.rpm.is_none()
            && self.tpm.is_none()
            && self.concurrency.is_none()
            && self.daily_tokens.is_none()
            && self.monthly_tokens.is_none()
            && self.daily_requests.is_none()
            && self.monthly_requests.is_none()
            && self.daily_usd.is_none()
            && self.monthly_usd.is_none()
    }
}

impl From<&Limits> for LimitFields {
    fn from(limits: &Limits) -> Self {
        Self {
            rpm: limits.rpm,
            tpm: limits.tpm,
            concurrency: limits.concurrency,
            daily_tokens: limits.daily_tokens,
            monthly_tokens: limits.monthly_tokens,
            daily_requests: limits.daily_requests,
            monthly_requests: limits.monthly_requests,
            daily_usd: limits.daily_nano_usd.map(price::usd),
            monthly_usd: limits.monthly_nano_usd.map(price::usd),
        }
    }
}

/// Takes dollars, more than none of them, or `none`. A refusal names the unit.
fn dollars(text: &str, unit: &str) -> Result<Cap<u64>, String> {
    if text == "none" {
        return Ok(Cap(None));
    }
    match price::nano_usd(text) {
        Ok(0) => Err("0 would let nothing pass; `none` lifts the limit".to_owned()),
        Ok(nano_usd) => Ok(Cap(Some(nano_usd))),
        Err(AmountError::NotDecimal) => Err(format!("{unit}, an amount such as 12.50, or `none`")),
        Err(error) => Err(format!("{unit}; this {error}")),
    }
}

/// A number as limits have them, and the largest that the store can hold.
trait Count: FromStr + TryInto<i64> + Copy {
    const LARGEST: i64;
}

impl Count for u32 {
    const LARGEST: i64 = u32::MAX as i64;
}

impl Count for u64 {
    const LARGEST: i64 = i64::MAX;
}

/// Takes a limit: at least 1 (underscores may group the digits), or `none`. A refusal names the unit and an
/// example.
fn cap<T: Count>(text: &str, unit: &str, example: &str) -> Result<Cap<T>, String> {
    if text == "none" {
        return Ok(Cap(None));
    }
    let digits = text.replace('_', "");
    let number = digits.parse::<T>().ok();
    match number.and_then(|number| Some((number, number.try_into().ok()?))) {
        Some((_, 0)) => Err("0 would let nothing pass; `none` lifts the limit".to_owned()),
        Some((number, _)) => Ok(Cap(Some(number))),
        None if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(format!("{unit}, at most {}; `none` lifts the limit", T::LARGEST))
        }
        None => Err(format!("{unit}, a whole number such as {example}, or `none`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_or_none() {
        for (text, expected) in [
            ("60", Some(Some(60))),
            ("1_000_000", Some(Some(1_000_000))),
            ("none", Some(None)),
            ("9223372036854775807", Some(Some(i64::MAX as u64))),
            ("9223372036854775808", None),
            ("0", None),
            ("-1", None),
            ("1.5", None),
            ("", None),
            ("None", None),
        ] {
            assert_eq!(cap::<u64>(text, "", "").ok(), expected.map(Cap), "{text}");
        }
        for (text, expected) in [
            ("0.000000001", Some(Some(1))),
            ("12.50", Some(Some(12_500_000_000))),
            ("none", Some(None)),
            ("0.00", None),
            ("-1", None),
            ("a", None),
        ] {
            assert_eq!(dollars(text, "").ok(), expected.map(Cap), "{text}");
        }
    }

    #[test]
    fn a_value_that_is_refused_names_the_unit_and_what_is_taken() {
        use super::super::samples::typed;
        for (line, expected) in [
            ("--rpm x", "requests per minute, a whole number such as 60, or `none`"),
            ("--rpm 4294967296", "requests per minute, at most 4294967295; `none` lifts the limit"),
            ("--rpm 0", "0 would let nothing pass; `none` lifts the limit"),
            ("--tpm 1e5", "tokens per minute, a whole number such as 50000, or `none`"),
            (
                "--concurrency -1",
                "requests in flight at once, a whole number such as 10, or `none`",
            ),
            ("--daily-tokens 1.5", "tokens per day, a whole number such as 1000000, or `none`"),
            ("--monthly-tokens -5", "tokens per calendar month, a whole number such as"),
            ("--daily-requests many", "requests per day, a whole number such as"),
            ("--monthly-requests 1,000", "requests per calendar month, a whole number such as"),
            ("--daily-usd -5", "dollars per day, an amount such as 12.50, or `none`"),
            ("--daily-usd $5", "dollars per day, an amount such as 12.50, or `none`"),
            (
                "--monthly-usd 0.0000000001",
                "dollars per calendar month; this has more than 9 decimals",
            ),
        ] {
            let told = typed::<LimitArgs>(line).unwrap_err().to_string();
            assert!(told.contains(expected), "{line}: {told}");
        }
    }

    #[test]
    fn a_cell_has_the_limits_that_there_are() {
        assert_eq!(summary(&Limits::default()), None);
        let limits = Limits {
            rpm: Some(60),
            monthly_tokens: Some(5_000_000),
            daily_nano_usd: Some(12_500_000_000),
            ..Limits::default()
        };
        let expected = "rpm 60, daily-usd 12.50, monthly-tokens 5,000,000";
        assert_eq!(summary(&limits).as_deref(), Some(expected));
    }

    #[test]
    fn only_what_is_given_changes() {
        let mut limits = Limits { rpm: Some(5), tpm: Some(6), ..Limits::default() };
        let args = LimitArgs {
            rpm: Some(Cap(None)),
            daily_tokens: Some(Cap(Some(7))),
            ..LimitArgs::default()
        };
        assert!(!args.is_empty() && LimitArgs::default().is_empty());
        LimitArgs::default().apply(&mut limits);
        args.apply(&mut limits);
        let expected = Limits { tpm: Some(6), daily_tokens: Some(7), ..Limits::default() };
        assert_eq!(limits, expected);
    }
}
