//! Whose request it is, as the current snapshot has it, and whether that still holds later: a client sends its
//! body for as long as it likes, and its key can be revoked or end meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::HeaderMap;

use crate::clock::Now;
use crate::identify::{Bearing, Unidentified};
use crate::registry::{Identity, Registry};

/// Somebody, as far as the keys said so when they were asked.
#[derive(Clone, Debug)]
pub(crate) struct Identified {
    pub(crate) identity: Arc<Identity>,
    /// In Unix milliseconds.
    ends_at_ms: Option<i64>,
    /// Of the snapshot that was asked.
    number: u64,
}

impl Registry {
    /// Whose request this is, by its headers. Takes the identity out of the keys as they are now, so that a
    /// request that lasts holds no others.
    pub(crate) fn identify(
        &self,
        headers: &HeaderMap,
        bearing: Bearing,
        now: Now,
    ) -> Result<Identified, Unidentified> {
        // Before the keys: should others come in between, they are asked once more than they have to be.
        let number = self.number.load(Ordering::Acquire);
        let current = self.current();
        // A clock that is set back revives no key that has ended.
        let entry = current.entry(headers, bearing, || self.time_ms(now))?;
        let (identity, ends_at_ms) = (entry.identity.clone(), entry.expires_at_ms);
        Ok(Identified { identity, ends_at_ms, number })
    }

    /// Whether nothing has come since then that could make somebody else of them, or nobody.
    pub(crate) fn is_still(&self, identified: &Identified, now: Now) -> bool {
        self.number.load(Ordering::Acquire) == identified.number
            && identified.ends_at_ms.is_none_or(|end_ms| self.time_ms(now) < end_ms)
    }
}
