//! Tenants and keys as rows of the store, both ways.

use rusqlite::{Params, Row, ToSql, Transaction};

use crate::tenancy::{Key, Limits, Secret, Tenant};

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
                s.digest, s.last4, s.expires_at_ms
            FROM keys AS k LEFT JOIN secrets AS s ON s.key_id = k.id ",
            $condition
        )
    };
}

pub(super) const ALL_TENANTS: &str = tenants_where!("ORDER BY name");
pub(in crate::ledger::store) const ONE_TENANT: &str = tenants_where!("WHERE name = ?1");
pub(in crate::ledger::store) const CHANGED_TENANTS: &str =
    tenants_where!("WHERE changed_at_version > ?1 ORDER BY changed_at_version");
pub(super) const ALL_KEYS: &str = keys_where!("ORDER BY k.tenant, k.created_at_ms, k.id");
pub(in crate::ledger::store) const ONE_KEY: &str = keys_where!("WHERE k.id = ?1");
pub(in crate::ledger::store) const CHANGED_KEYS: &str =
    keys_where!("WHERE k.changed_at_version > ?1 ORDER BY k.changed_at_version, k.rowid");

pub(in crate::ledger::store) fn tenant(
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

pub(in crate::ledger::store) fn key(tx: &Transaction<'_>, id: &str) -> Result<Key, StoreError> {
    let mut found = None;
    each_key(tx, ONE_KEY, [id], |key| {
        found = Some(key);
        Ok(())
    })?;
    found.ok_or_else(|| StoreError::unknown_key(id))
}

/// Hands over what a statement of [`tenants_where`] finds.
pub(in crate::ledger::store) fn each_tenant(
    tx: &Transaction<'_>,
    sql: &str,
    params: impl Params,
    mut each: impl FnMut(Tenant) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    while let Some(row) = rows.next()? {
        each(Tenant {
            limits: limits_of(row)?,
            name: row.get(9)?,
            created_at_ms: row.get(10)?,
            time_zone: row.get(11)?,
        })?;
    }
    Ok(())
}

/// Hands over what a statement of [`keys_where`] finds, one key at a time. The secret without an end,
/// the current one, comes first, then those that end later.
pub(in crate::ledger::store) fn each_key(
    tx: &Transaction<'_>,
    sql: &str,
    params: impl Params,
    mut each: impl FnMut(Key) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut whole = |mut key: Key| {
        let end = |secret: &Secret| secret.expires_at_ms.unwrap_or(i64::MAX);
        key.secrets.sort_by_key(|secret| std::cmp::Reverse(end(secret)));
        each(key)
    };
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut last: Option<Key> = None;
    while let Some(row) = rows.next()? {
        let id = row.get_ref(9)?.as_str().map_err(rusqlite::Error::from)?;
        if last.as_ref().is_none_or(|key| *key.id != *id) {
            let key = key_of(row, id)?;
            last.replace(key).map(&mut whole).transpose()?;
        }
        if let (Some(key), Some(digest)) = (&mut last, row.get(18)?) {
            let (last4, expires_at_ms) = (row.get(19)?, row.get(20)?);
            key.secrets.push(Secret { digest, last4, expires_at_ms });
        }
    }
    last.map(whole).unwrap_or(Ok(()))
}

/// Without its secrets.
fn key_of(row: &Row<'_>, id: &str) -> Result<Key, StoreError> {
    Ok(Key {
        id: id.into(),
        tenant: row.get(10)?,
        name: row.get(11)?,
        limits: limits_of(row)?,
        models: models_of(id, row.get(12)?)?,
        created_at_ms: row.get(13)?,
        expires_at_ms: row.get(14)?,
        revoked_at_ms: row.get(15)?,
        clamp: row.get(16)?,
        cut: row.get(17)?,
        secrets: Vec::new(),
    })
}

/// The nine limit columns, which come first.
fn limits_of(row: &Row<'_>) -> Result<Limits, rusqlite::Error> {
    let count = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(from_sql));
    Ok(Limits {
        rpm: row.get(0)?,
        tpm: count(1)?,
        concurrency: row.get(2)?,
        daily_tokens: count(3)?,
        monthly_tokens: count(4)?,
        daily_requests: count(5)?,
        monthly_requests: count(6)?,
        daily_nano_usd: count(7)?,
        monthly_nano_usd: count(8)?,
    })
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

/// A list of models is kept as JSON.
pub(super) fn models_to_sql(models: Option<&[String]>) -> Option<String> {
    models.map(|models| serde_json::to_string(models).expect("strings always become JSON"))
}

fn models_of(id: &str, json: Option<String>) -> Result<Option<Vec<String>>, StoreError> {
    json.map(|json| serde_json::from_str(&json))
        .transpose()
        .map_err(|error| StoreError::Corrupt(format!("the models of key {id}: {error}")))
}
