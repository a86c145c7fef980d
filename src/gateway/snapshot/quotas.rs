//! How full the quotas are, with what requests in flight have reserved: what only a running server knows.

use std::sync::Arc;

use super::{Known, Live, Registry, State};
use crate::admin::{Quota, Wanted};
use crate::admit::QuotaLevel;

impl Registry {
    /// The quotas that are set, of tenants and keys, in no order. Of a tenant its own and those of its keys; of a
    /// key its own and its tenant's, for both hold.
    pub(crate) fn quotas(&self, wanted: &Wanted) -> Vec<Quota> {
        let now = self.clock.now();
        let State { tenants, keys, .. } = &*self.state();
        let Wanted { tenant, key } = wanted;
        let of_key = key.as_deref().map(|id| keys.get(id));
        let owner = match &of_key {
            Some(Some(known)) => Some(known.identity.tenant.clone()),
            Some(None) => return Vec::new(),
            None => None,
        };
        let is_wanted = |name: &Arc<str>| {
            tenant.as_deref().is_none_or(|tenant| *tenant == **name)
                && owner.as_ref().is_none_or(|owner| owner == name)
        };
        let mut quotas = Vec::new();
        for (name, Live { live, .. }) in tenants.iter().filter(|(name, _)| is_wanted(name)) {
            let levels = live.quota_levels(None, now);
            quotas.extend(levels.into_iter().map(|level| quota(name, None, level)));
        }
        let of_keys = |known: &&Known| is_wanted(&known.identity.tenant);
        let all = keys.values().filter(|_| of_key.is_none());
        for known in all.chain(of_key.flatten()).filter(of_keys) {
            let identity = &known.identity;
            let levels = identity.slot.live().quota_levels(Some(identity.slot.slot()), now);
            let id = Some(&identity.key_id);
            quotas.extend(levels.into_iter().map(|level| quota(&identity.tenant, id, level)));
        }
        quotas
    }
}

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
