//! Tenants and their keys as they are stored: names, limits and life cycle, never a key itself.
//! The store reads and writes these, the identity snapshot is built from them.

use std::sync::Arc;

/// What a key or a tenant may use. `None` is not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests per minute.
    pub rpm: Option<u32>,
    /// Tokens per minute.
    pub tpm: Option<u64>,
    /// Requests in flight at once.
    pub concurrency: Option<u32>,
    pub daily_tokens: Option<u64>,
    pub monthly_tokens: Option<u64>,
    pub daily_requests: Option<u64>,
    pub monthly_requests: Option<u64>,
    /// Cost, in billionths of a dollar.
    pub daily_nano_usd: Option<u64>,
    pub monthly_nano_usd: Option<u64>,
}

/// A tenant: a team, a service or a customer, with limits for all its keys together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    pub name: Arc<str>,
    pub limits: Limits,
    /// The IANA name of the zone in which its days and months begin; `None`: the configured one.
    pub time_zone: Option<Arc<str>>,
    /// Milliseconds since the Unix epoch.
    pub created_at_ms: i64,
}

/// A key: what a client authenticates with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Stable through rotation, such as `key_7Hq2…`.
    pub id: Arc<str>,
    pub tenant: Arc<str>,
    /// What its owner calls it; may be empty.
    pub name: String,
    pub limits: Limits,
    /// Answers are limited to what the quotas have left.
    pub clamp: bool,
    /// Streams that have used up their reservation and the quotas are ended.
    pub cut: bool,
    /// The models that it may use; `None`: all.
    pub models: Option<Vec<String>>,
    pub created_at_ms: i64,
    pub expires_at_ms: Option<i64>,
    pub revoked_at_ms: Option<i64>,
    /// The secrets that open it: one, or two while a rotation overlaps.
    pub secrets: Vec<Secret>,
}

/// What is kept of a key's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// SHA-256 of the whole key text.
    pub digest: [u8; 32],
    /// The last four characters, for people to tell keys apart.
    pub last4: String,
    /// The old secret of a rotation ends here.
    pub expires_at_ms: Option<i64>,
}

/// Billionths of a dollar out of a decimal number of dollars, such as `12.50`; exact, with up to nine
/// digits after the point. Underscores may group the digits. `None` where it is no such number, or
/// one of more than nine billion dollars.
pub(crate) fn nano_usd(text: &str) -> Option<u64> {
    let text = text.replace('_', "");
    let (whole, part) = text.split_once('.').unwrap_or((&text, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(part) || part.len() > 9 {
        return None;
    }
    let part: u64 = format!("{part:0<9}").parse().ok()?;
    let nano = whole.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(part)?;
    // The store's integers have a sign.
    i64::try_from(nano).is_ok().then_some(nano)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_read_exactly() {
        for (text, expected) in [
            ("0", Some(0)),
            ("12", Some(12_000_000_000)),
            ("12.5", Some(12_500_000_000)),
            ("0.1", Some(100_000_000)),
            ("1_000.000000001", Some(1_000_000_000_001)),
            ("9223372036.854775807", Some(i64::MAX as u64)),
            ("9223372036.854775808", None),
            ("99999999999999999999", None),
            ("0.0000000001", None),
            ("", None),
            (".5", None),
            ("5.", None),
            ("-1", None),
            ("1e3", None),
            ("$5", None),
            ("1,5", None),
        ] {
            assert_eq!(nano_usd(text), expected, "{text}");
        }
    }
}
