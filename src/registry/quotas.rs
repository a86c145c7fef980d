//! How full the quotas are, with what requests in flight have reserved: what only a running server knows.

use std::sync::Arc;

use super::{Identity, Live, Registry, State};
use crate::admin::{Quota, Wanted};
use crate::admit::{QuotaLevel, TenantLimiter};

impl Registry {
    /// The quotas that are set, of tenants and keys, in no order. Of a tenant its own and those of its keys; of a
    /// key its own and its tenant's, for both hold.
    pub(crate) fn quotas(&self, wanted: &Wanted) -> Vec<Quota> {
        let now = self.clock.now();
        let (tenants, keys) = self.wanted(wanted);
        let of_tenants = tenants.iter().flat_map(|(name, live)| {
            let levels = live.quota_levels(None, now);
            levels.into_iter().map(|level| quota(name, None, level))
        });
        let of_keys = keys.iter().flat_map(|identity| {
            let Identity { tenant, key_id, slot, .. } = &**identity;
            let levels = slot.live().quota_levels(Some(slot.slot()), now);
            levels.into_iter().map(move |level| quota(tenant, Some(key_id), level))
        });
        of_tenants.chain(of_keys).collect()
    }

    /// Who is asked for. What each has used is asked without the lock: a revocation waits for nobody who counts what
    /// all keys have used.
    fn wanted(&self, wanted: &Wanted) -> (Vec<WantedTenant>, Vec<Arc<Identity>>) {
        let State { tenants, keys, .. } = &*self.state();
        let Wanted { tenant, key } = wanted;
        let of_key = key.as_deref().map(|id| keys.get(id));
        let owner = match &of_key {
            Some(Some(known)) => Some(&known.identity.tenant),
            Some(None) => return (Vec::new(), Vec::new()),
            None => None,
        };
        let is_wanted = |name: &Arc<str>| {
            tenant.as_deref().is_none_or(|tenant| *tenant == **name)
                && owner.is_none_or(|owner| owner == name)
        };
        let tenants = tenants.iter().filter(|(name, _)| is_wanted(name));
        let all = keys.values().filter(|_| of_key.is_none());
        let keys = all.chain(of_key.flatten()).map(|known| &known.identity);
        (
            tenants.map(|(name, Live { live, .. })| (name.clone(), live.clone())).collect(),
            keys.filter(|identity| is_wanted(&identity.tenant)).cloned().collect(),
        )
    }
}

type WantedTenant = (Arc<str>, Arc<TenantLimiter>);

fn quota(tenant: &Arc<str>, key: Option<&Arc<str>>, level: QuotaLevel) -> Quota {
    let QuotaLevel { name, used, reserved, limit, resets_at_ms } = level;
    Quota {
        tenant: tenant.to_string(),
        key: key.map(ToString::to_string),
        quota: name.to_owned(),
        used,
        reserved: Some(reserved),
        limit,
        resets_at_ms,
    }
}
