//! The filters that `weir usage` and `weir requests` share.

use crate::config::Config;
use crate::config::suggest::nearest;
use crate::ledger::report::{Group, usage};
use crate::store::Filter;
use crate::store::{Store, StoreError};

use super::Misuse;
use super::output::note;
use super::time_args::{Toward, When, when};

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

/// Where a report is empty: an error if that is so because the key or tenant never was. A model that nobody
/// knows is told, for nobody can say that it never was.
pub(crate) fn check_names(
    store: &Store,
    filter: &Filter,
    config: &Config,
) -> Result<(), StoreError> {
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
    if let Some(said) = unknown_model(store, filter, config)? {
        note(&said);
    }
    Ok(())
}

/// What to say of a model that is neither in the ledger nor in the configuration.
fn unknown_model(
    store: &Store,
    filter: &Filter,
    config: &Config,
) -> Result<Option<String>, StoreError> {
    let Some(model) = &filter.model else { return Ok(None) };
    let used = usage(store, &Filter::default(), &[Group::Model], &config.limits.time_zone)?;
    let served = config.upstreams.iter().flat_map(|upstream| &upstream.models);
    let mut known: Vec<_> = used.into_iter().flat_map(|line| line.groups).collect();
    known.extend(served.map(|served| served.name.clone()));
    if known.contains(model) {
        return Ok(None);
    }
    Ok(Some(match nearest(model, known.iter().map(String::as_str)) {
        Some(near) => format!("nobody knows a model `{model}`; did you mean `{near}`?"),
        None => format!("nobody knows a model `{model}`"),
    }))
}

#[cfg(test)]
mod tests {
    use super::super::samples::config_in;
    use super::*;
    use crate::store::samples::{Sample, store_with};

    #[test]
    fn a_model_that_nobody_knows_is_told_with_the_nearest() {
        let (dir, store) = store_with(&[Sample { model: "gpt-5.4", ..Sample::default() }]);
        let config = config_in(dir.path());
        for (model, expected) in [
            ("gpt-5.4", None),
            ("gpt-54", Some("nobody knows a model `gpt-54`; did you mean `gpt-5.4`?")),
            ("else", Some("nobody knows a model `else`")),
        ] {
            let filter = Filter { model: Some(model.to_owned()), ..Filter::default() };
            let said = unknown_model(&store, &filter, &config).unwrap();
            assert_eq!(said.as_deref(), expected);
        }
    }
}
