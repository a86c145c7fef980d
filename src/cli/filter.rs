//! The filters that `weir usage` and `weir requests` share.

use crate::config::Config;
use crate::ledger::report::Filter;
use crate::ledger::store::{Store, StoreError};

use super::Misuse;
use super::when::{Toward, When, when};

/// Which requests to report on.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct FilterArgs {
    /// Only this tenant
    #[arg(long, value_name = "T")]
    tenant: Option<String>,
    /// Only the key of this id
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// Only this model, by the name that clients ask for
    #[arg(long, value_name = "M")]
    model: Option<String>,
    /// Only what began then or later: RFC 3339, a date in `limits.time_zone`, or an age (7d, 12h, 30m)
    #[arg(long, value_name = "TIME", value_parser = when)]
    since: Option<When>,
    /// Only what began before then, in the same forms
    #[arg(long, value_name = "TIME", value_parser = when)]
    until: Option<When>,
}

impl FilterArgs {
    /// Settles the times, seen from now.
    pub(crate) fn resolve(self, config: &Config, now_ms: i64) -> Result<Filter, Misuse> {
        let at = |when: Option<When>| {
            when.map(|when| when.resolve(now_ms, Toward::Past, &config.limits.time_zone))
                .transpose()
        };
        let (since_ms, until_ms) = (at(self.since)?, at(self.until)?);
        if let (Some(since), Some(until)) = (since_ms, until_ms)
            && since >= until
        {
            return Err(Misuse::new("--since must be before --until"));
        }
        Ok(Filter { tenant: self.tenant, key: self.key, model: self.model, since_ms, until_ms })
    }
}

/// Where a report is empty: an error if that is so because the key or tenant never was.
pub(crate) fn check_names(store: &Store, filter: &Filter) -> Result<(), StoreError> {
    if let Some(id) = &filter.key
        && !store.knows_key(id)?
    {
        return Err(StoreError::unknown_key(id));
    }
    if let Some(name) = &filter.tenant
        && !store.knows_tenant(name)?
    {
        return Err(StoreError::UnknownTenant(name.clone()));
    }
    Ok(())
}
