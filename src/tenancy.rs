//! Tenants and their keys as they are stored: names, limits and life cycle, never a key itself.
//! The store reads and writes these, the identity snapshot is built from them.

use std::sync::Arc;

use sha2::{Digest, Sha256};

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

/// What a value that a tenant gave is for one that all tenants share: another for each tenant, always the
/// same, and nothing that tells either. No name has a NUL, so that no two pairs are alike.
pub(crate) fn tenant_hash(tenant: &str, value: &[u8]) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(tenant);
    digest.update([0]);
    digest.update(value);
    digest.finalize().into()
}

/// Two digits for each byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

impl Limits {
    /// Whether what a request costs has to be known before it is let through.
    pub(crate) fn has_cost_quota(&self) -> bool {
        self.daily_nano_usd.is_some() || self.monthly_nano_usd.is_some()
    }
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
    /// What of it can't be read. Then none of its keys opens anything.
    pub unreadable: Vec<Unreadable>,
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
    /// Nothing opens it as long as this is set. Unlike a revocation it can be taken back.
    pub suspended_at_ms: Option<i64>,
    pub revoked_at_ms: Option<i64>,
    /// The secrets that open it: one, or two while a rotation overlaps.
    pub secrets: Vec<Secret>,
    /// What of it, or of its secrets, can't be read. Then nothing opens it.
    pub unreadable: Vec<Unreadable>,
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

/// A value of a tenant or a key that can't be read: somebody else wrote it, and what is limited by it is
/// refused. In its place stands what lets nothing through, and what no command can set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// As the store calls it.
    pub column: String,
    /// What kind of value is there, but never the value: it may be a secret.
    pub found: &'static str,
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` is {}", self.column, self.found)
    }
}
