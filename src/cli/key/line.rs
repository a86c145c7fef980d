//! A key as output shows it, for people and for programs.

use std::io::Write;

use serde::Serialize;

use super::super::limits::LimitFields;
use super::super::output::{Column, Format, write_one};
use super::super::when::rfc3339;
use crate::tenancy::Key;
use crate::visible::written_out;

/// A key as output shows it.
#[derive(Debug, Serialize)]
pub(super) struct KeyLine {
    id: String,
    tenant: String,
    /// The text; only where it was just made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    name: String,
    pub(super) status: &'static str,
    last4: String,
    models: Option<Vec<String>>,
    #[serde(flatten)]
    limits: LimitFields,
    clamp: bool,
    cut: bool,
    created_at: String,
    expires_at: Option<String>,
    revoked_at: Option<String>,
    /// While a rotation overlaps: when the old text ends.
    old_key_until: Option<String>,
}

pub(super) const KEY: Column = Column::shown("key", "key");
pub(super) const COLUMNS: [Column; 21] = [
    Column::shown("id", "id"),
    Column::shown("tenant", "tenant"),
    Column::shown("name", "name"),
    Column::shown("status", "status"),
    Column::shown("last4", "last 4"),
    Column::shown("models", "models"),
    Column::shown("rpm", "rpm"),
    Column::shown("tpm", "tpm"),
    Column::shown("concurrency", "concurrency"),
    Column::shown("daily_tokens", "daily tokens"),
    Column::shown("monthly_tokens", "monthly tokens"),
    Column::shown("daily_requests", "daily requests"),
    Column::shown("monthly_requests", "monthly requests"),
    Column::shown("daily_usd", "daily USD"),
    Column::shown("monthly_usd", "monthly USD"),
    Column::shown("clamp", "clamp"),
    Column::shown("cut", "cut"),
    Column::hidden("created_at"),
    Column::shown("expires_at", "expires"),
    Column::hidden("revoked_at"),
    Column::hidden("old_key_until"),
];

/// JSON says null where people read `all`.
pub(super) fn line(key: &Key, now_ms: i64, format: Format) -> KeyLine {
    let status = match key {
        Key { revoked_at_ms: Some(_), .. } => "revoked",
        Key { expires_at_ms: Some(end), .. } if *end <= now_ms => "expired",
        _ => "active",
    };
    let all = format != Format::Json;
    let old = key.secrets.iter().filter_map(|secret| secret.expires_at_ms);
    KeyLine {
        id: key.id.to_string(),
        tenant: key.tenant.to_string(),
        key: None,
        name: key.name.clone(),
        status,
        last4: key.secrets.first().map(|secret| secret.last4.clone()).unwrap_or_default(),
        models: key.models.clone().or_else(|| all.then(|| vec!["all".to_owned()])),
        limits: LimitFields::from(&key.limits),
        clamp: key.clamp,
        cut: key.cut,
        created_at: rfc3339(key.created_at_ms),
        expires_at: key.expires_at_ms.map(rfc3339),
        revoked_at: key.revoked_at_ms.map(rfc3339),
        old_key_until: old.filter(|end| *end > now_ms).max().map(rfc3339),
    }
}

/// Shows a key that has come to its end: people a sentence, programs the key.
pub(super) fn write_ended(
    out: &mut dyn Write,
    format: Format,
    key: &KeyLine,
    said: &str,
) -> anyhow::Result<()> {
    if format != Format::Table {
        return write_one(out, format, &COLUMNS, key);
    }
    let name = match &*key.name {
        "" => String::new(),
        name => format!(" ({})", written_out(name, |_| false)),
    };
    Ok(writeln!(out, "key `{}`{name} of tenant `{}` {said}", key.id, key.tenant)?)
}
