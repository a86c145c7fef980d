//! Thresholds of quotas: who has used so many percent. Noted under the tenant's lock, once per quota and
//! window, and told by the control plane, which asks one list for all tenants, however many there are.

use std::sync::{Arc, Mutex, PoisonError};

use super::denied::Limit;
use super::threshold_gauge::ThresholdGauge;
use super::window::Window;

/// Alerts that wait to be told, at most; what comes on top is only counted. They are taken several times
/// a second.
pub(super) const ALERTS_MAX: usize = 4_096;

/// A quota of which a threshold was crossed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alert {
    pub(crate) limit: Limit,
    pub(crate) tenant: Arc<str>,
    /// `None`: the whole tenant's quota.
    pub(crate) key_id: Option<Arc<str>>,
    /// The highest threshold that was crossed.
    pub(crate) percent: u8,
    /// What is used, of `quota`, in the unit of the limit.
    pub(crate) used: u64,
    pub(crate) quota: u64,
    pub(crate) window: Window,
}

/// What all tenants have to tell of their quotas. Its locks are taken within a tenant's, and never the
/// other way round.
#[derive(Debug, Default)]
pub(crate) struct Alerting {
    waiting: Mutex<Waiting>,
    pub(super) over: Arc<ThresholdGauge>,
}

/// Alerts since the last time.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    pub(crate) alerts: Vec<Alert>,
    /// So many more found no place.
    pub(crate) dropped: u64,
}

impl Alerting {
    pub(super) fn push(&self, alert: Alert) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.alerts.len() < ALERTS_MAX {
            true => waiting.alerts.push(alert),
            false => waiting.dropped += 1,
        }
    }

    /// How many keys and tenants are above a threshold of each quota at `unix_ms`.
    pub(crate) fn over(&self, unix_ms: i64) -> impl Iterator<Item = (Limit, u64)> {
        self.over.at(unix_ms)
    }

    /// The alerts since the last time.
    pub(crate) fn take(&self) -> Waiting {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
