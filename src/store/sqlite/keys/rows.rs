//! Tenants and keys as rows of the store, both ways.

use std::sync::Arc;

use jiff::tz::TimeZone;
use rusqlite::types::{FromSql, Value, ValueRef};
use rusqlite::{Connection, Params, Row, ToSql, Transaction};

use crate::tenancy::{Key, Limits, Secret, Tenant, Unreadable};

use super::super::{StoreError, from_sql, to_sql};

macro_rules! tenants_where {
    ($condition:literal) => {
        concat!(
            "SELECT rpm, tpm, concurrency, daily_tokens, monthly_tokens, daily_requests,
                monthly_requests, daily_nano_usd, monthly_nano_usd, name, created_at_ms, time_zone
            FROM tenants ",
            $condition
        )
    };
}

/// A line for each secret of a key, and one for a key without any; the lines of a key are neighbours.
macro_rules! keys_where {
    ($condition:literal) => {
        concat!(
            "SELECT k.rpm, k.tpm, k.concurrency, k.daily_tokens, k.monthly_tokens, k.daily_requests,
                k.monthly_requests, k.daily_nano_usd, k.monthly_nano_usd, k.id, k.tenant, k.name,
                k.models, k.created_at_ms, k.expires_at_ms, k.revoked_at_ms, k.clamp, k.cut,
                k.suspended_at_ms, s.digest, s.last4, s.expires_at_ms
            FROM keys AS k LEFT JOIN secrets AS s ON s.key_id = k.id ",
            $condition
        )
    };
}

pub(super) const ALL_TENANTS: &str = tenants_where!("ORDER BY name");
pub(in crate::store::sqlite) const ONE_TENANT: &str = tenants_where!("WHERE name = ?1");
pub(in crate::store::sqlite) const CHANGED_TENANTS: &str =
    tenants_where!("WHERE changed_at_version > ?1 ORDER BY changed_at_version");
pub(super) const ALL_KEYS: &str = keys_where!("ORDER BY k.tenant, k.created_at_ms, k.id");
pub(in crate::store::sqlite) const ONE_KEY: &str = keys_where!("WHERE k.id = ?1");
pub(super) const KEY_WITH: &str =
    keys_where!("WHERE k.id = (SELECT key_id FROM secrets WHERE digest = ?1)");
pub(in crate::store::sqlite) const KEY_AT: &str = keys_where!("WHERE k.rowid = ?1");
pub(in crate::store::sqlite) const CHANGED_KEYS: &str =
    keys_where!("WHERE k.changed_at_version > ?1 ORDER BY k.changed_at_version, k.rowid");

pub(in crate::store::sqlite) fn tenant(
    tx: &Transaction<'_>,
    name: &str,
) -> Result<Tenant, StoreError> {
    let mut found = None;
    each_tenant(tx, ONE_TENANT, [name], |tenant| {
        found = Some(tenant);
        Ok(())
    })?;
    found.ok_or_else(|| StoreError::UnknownTenant(name.to_owned()))
}

pub(in crate::store::sqlite) fn key(tx: &Transaction<'_>, id: &str) -> Result<Key, StoreError> {
    let mut found = None;
    each_key(tx, ONE_KEY, [id], |key| {
        found = Some(key);
        Ok(())
    })?;
    found.ok_or_else(|| StoreError::unknown_key(id))
}

/// Hands over what a statement of [`tenants_where`] finds.
pub(in crate::store::sqlite) fn each_tenant(
    conn: &Connection,
    sql: &str,
    params: impl Params,
    mut each: impl FnMut(Tenant) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    while let Some(row) = rows.next()? {
        let mut cells = Cells::of(row);
        each(Tenant {
            limits: cells.limits()?,
            name: cells.text(9)?.into(),
            created_at_ms: cells.or(10, 0)?,
            time_zone: cells.time_zone(11)?,
            unreadable: cells.unreadable,
        })?;
    }
    Ok(())
}

/// Hands over what a statement of [`keys_where`] finds, one key at a time. The secret without an end,
/// the current one, comes first, then those that end later.
pub(in crate::store::sqlite) fn each_key(
    conn: &Connection,
    sql: &str,
    params: impl Params,
    mut each: impl FnMut(Key) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut whole = |mut key: Key| {
        let end = |secret: &Secret| secret.expires_at_ms.unwrap_or(i64::MAX);
        key.secrets.sort_by_key(|secret| std::cmp::Reverse(end(secret)));
        each(key)
    };
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut last: Option<Key> = None;
    while let Some(row) = rows.next()? {
        let id = row.get_ref(9)?.as_bytes().map_err(rusqlite::Error::from)?;
        let id = String::from_utf8_lossy(id);
        if last.as_ref().is_none_or(|key| *key.id != *id) {
            let key = key_of(row)?;
            last.replace(key).map(&mut whole).transpose()?;
        }
        if let Some(key) = &mut last {
            let mut cells = Cells::of(row);
            key.secrets.extend(cells.secret()?);
            key.unreadable.append(&mut cells.unreadable);
        }
    }
    last.map(whole).unwrap_or(Ok(()))
}

/// Without its secrets.
fn key_of(row: &Row<'_>) -> Result<Key, StoreError> {
    let mut cells = Cells::of(row);
    Ok(Key {
        id: cells.text(9)?.into(),
        tenant: cells.text(10)?.into(),
        name: cells.text(11)?,
        limits: cells.limits()?,
        models: cells.models(12)?,
        created_at_ms: cells.or(13, 0)?,
        expires_at_ms: cells.or(14, None)?,
        revoked_at_ms: cells.or(15, None)?,
        clamp: cells.or(16, false)?,
        cut: cells.or(17, false)?,
        suspended_at_ms: cells.or(18, None)?,
        secrets: Vec::new(),
        unreadable: cells.unreadable,
    })
}

/// A row as it is being read. A value that somebody else wrote, and that can't be what it should, is noted,
/// and the reading goes on: one such value must not keep all others from being known.
struct Cells<'r> {
    row: &'r Row<'r>,
    unreadable: Vec<Unreadable>,
}

impl<'r> Cells<'r> {
    fn of(row: &'r Row<'r>) -> Self {
        Self { row, unreadable: Vec::new() }
    }

    fn note(&mut self, column: usize, found: &'static str) -> Result<(), StoreError> {
        let column = self.row.as_ref().column_name(column)?.to_owned();
        self.unreadable.push(Unreadable { column, found });
        Ok(())
    }

    /// A column, or `stand_in` if it can't be read.
    fn or<T: FromSql>(&mut self, column: usize, stand_in: T) -> Result<T, StoreError> {
        if let Ok(value) = self.row.get(column) {
            return Ok(value);
        }
        let found = match self.row.get_ref(column)? {
            ValueRef::Null => "nothing",
            ValueRef::Integer(_) => "a number out of range",
            ValueRef::Real(_) => "a fraction",
            ValueRef::Text(_) => "text that is not UTF-8",
            ValueRef::Blob(_) => "bytes of another length",
        };
        self.note(column, found)?;
        Ok(stand_in)
    }

    /// Of what is no text the part that is one: it has to be called something.
    fn text(&mut self, column: usize) -> Result<String, StoreError> {
        let bytes = self.row.get_ref(column)?.as_bytes().unwrap_or_default();
        self.or(column, String::from_utf8_lossy(bytes).into_owned())
    }

    /// The nine limit columns, which come first.
    fn limits(&mut self) -> Result<Limits, StoreError> {
        Ok(Limits {
            rpm: self.or(0, Some(0))?,
            tpm: self.count(1)?,
            concurrency: self.or(2, Some(0))?,
            daily_tokens: self.count(3)?,
            monthly_tokens: self.count(4)?,
            daily_requests: self.count(5)?,
            monthly_requests: self.count(6)?,
            daily_nano_usd: self.count(7)?,
            monthly_nano_usd: self.count(8)?,
        })
    }

    fn count(&mut self, column: usize) -> Result<Option<u64>, StoreError> {
        let count: Option<i64> = self.or(column, Some(0))?;
        if count.is_some_and(|count| count < 0) {
            self.note(column, "a number out of range")?;
        }
        Ok(count.map(from_sql))
    }

    fn models(&mut self, column: usize) -> Result<Option<Vec<String>>, StoreError> {
        let Some(json) = self.or::<Option<String>>(column, None)? else { return Ok(None) };
        let models = serde_json::from_str(&json);
        if models.is_err() {
            self.note(column, "text that is no list of names in JSON")?;
        }
        Ok(Some(models.unwrap_or_else(|_| vec![String::new()])))
    }

    fn time_zone(&mut self, column: usize) -> Result<Option<Arc<str>>, StoreError> {
        let zone: Option<Arc<str>> = self.or(column, None)?;
        if zone.as_deref().is_some_and(|name| TimeZone::get(name).is_err()) {
            self.note(column, "text that names no time zone")?;
        }
        Ok(zone)
    }

    /// The secret of this line, if it has one that can be read.
    fn secret(&mut self) -> Result<Option<Secret>, StoreError> {
        let Some(digest) = self.or(19, Some([0; 32]))? else { return Ok(None) };
        let secret = Secret { digest, last4: self.text(20)?, expires_at_ms: self.or(21, None)? };
        Ok(self.unreadable.is_empty().then_some(secret))
    }
}

pub(super) fn limits_to_sql(limits: &Limits) -> [(&'static str, Option<i64>); 9] {
    [
        (":rpm", limits.rpm.map(i64::from)),
        (":tpm", limits.tpm.map(to_sql)),
        (":concurrency", limits.concurrency.map(i64::from)),
        (":daily_tokens", limits.daily_tokens.map(to_sql)),
        (":monthly_tokens", limits.monthly_tokens.map(to_sql)),
        (":daily_requests", limits.daily_requests.map(to_sql)),
        (":monthly_requests", limits.monthly_requests.map(to_sql)),
        (":daily_nano_usd", limits.daily_nano_usd.map(to_sql)),
        (":monthly_nano_usd", limits.monthly_nano_usd.map(to_sql)),
    ]
}

/// A statement's parameters: the limits and the others.
pub(super) fn with_limits<'a>(
    limits: &'a [(&'static str, Option<i64>); 9],
    others: &[(&'a str, &'a dyn ToSql)],
) -> Vec<(&'a str, &'a dyn ToSql)> {
    let limits = limits.iter().map(|(name, value)| (*name, value as &dyn ToSql));
    limits.chain(others.iter().copied()).collect()
}

/// The columns of a tenant that can be changed.
pub(super) fn columns_of_tenant(tenant: &Tenant) -> Vec<(&'static str, Value)> {
    let zone = tenant.time_zone.as_deref().map(str::to_owned);
    let mut columns = columns_of_limits(&tenant.limits);
    columns.push(("time_zone", zone.into()));
    columns
}

/// The columns of a key that can be changed.
pub(super) fn columns_of_key(key: &Key) -> Vec<(&'static str, Value)> {
    let mut columns = columns_of_limits(&key.limits);
    columns.extend([
        ("name", key.name.clone().into()),
        ("models", models_to_sql(key.models.as_deref()).into()),
        ("expires_at_ms", key.expires_at_ms.into()),
        ("clamp", key.clamp.into()),
        ("cut", key.cut.into()),
    ]);
    columns
}

fn columns_of_limits(limits: &Limits) -> Vec<(&'static str, Value)> {
    let limits = limits_to_sql(limits).into_iter();
    limits.map(|(name, value)| (name.trim_start_matches(':'), value.into())).collect()
}

/// A list of models is kept as JSON.
pub(super) fn models_to_sql(models: Option<&[String]>) -> Option<String> {
    models.map(|models| serde_json::to_string(models).expect("strings always become JSON"))
}

#[cfg(test)]
mod tests;
