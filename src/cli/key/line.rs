//! A key as output shows it, for people and for programs.

use serde::Serialize;

use super::super::limits::{LimitFields, SUMMARY, summary};
use super::super::output::{Column, Format, Output, write_one};
use super::super::time_args::rfc3339;
use crate::printable::written_out;
use crate::tenancy::Key;

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
    /// Only where people read it: the limits in one text.
    #[serde(rename = "limits", skip_serializing_if = "Option::is_none")]
    summary: Option<String>,
    #[serde(flatten)]
    limits: LimitFields,
    clamp: bool,
    cut: bool,
    created_at: String,
    expires_at: Option<String>,
    suspended_at: Option<String>,
    revoked_at: Option<String>,
    /// While a rotation overlaps: when the old text ends.
    old_key_until: Option<String>,
}

pub(super) const KEY: Column = Column::shown("key", "key");
pub(super) const COLUMNS: [Column; 23] = [
    Column::shown("id", "id"),
    Column::shown("tenant", "tenant"),
    Column::ranked("name", "name", 1),
    Column::shown("status", "status"),
    Column::ranked("last4", "last 4", 2),
    Column::ranked("models", "models", 5),
    SUMMARY,
    Column::hidden("rpm"),
    Column::hidden("tpm"),
    Column::hidden("concurrency"),
    Column::hidden("daily_tokens"),
    Column::hidden("monthly_tokens"),
    Column::hidden("daily_requests"),
    Column::hidden("monthly_requests"),
    Column::hidden("daily_usd"),
    Column::hidden("monthly_usd"),
    Column::ranked("clamp", "clamp", 7),
    Column::ranked("cut", "cut", 7),
    Column::hidden("created_at"),
    Column::ranked("expires_at", "expires", 4),
    Column::hidden("suspended_at"),
    Column::hidden("revoked_at"),
    Column::ranked("old_key_until", "old key until", 6),
];

/// JSON says null where people read `all`.
pub(super) fn line(key: &Key, now_ms: i64, format: Format) -> KeyLine {
    let status = match key {
        Key { revoked_at_ms: Some(_), .. } => "revoked",
        Key { expires_at_ms: Some(end), .. } if *end <= now_ms => "expired",
        Key { suspended_at_ms: Some(_), .. } => "suspended",
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
        summary: summary(&key.limits).filter(|_| format == Format::Table),
        limits: LimitFields::from(&key.limits),
        clamp: key.clamp,
        cut: key.cut,
        created_at: rfc3339(key.created_at_ms),
        expires_at: key.expires_at_ms.map(rfc3339),
        suspended_at: key.suspended_at_ms.map(rfc3339),
        revoked_at: key.revoked_at_ms.map(rfc3339),
        old_key_until: old.filter(|end| *end > now_ms).max().map(rfc3339),
    }
}

/// Shows a key that has come to its end: people a sentence, programs the key.
pub(super) fn write_ended(
    out: &mut dyn Output,
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
