//! Thresholds of quotas: who has used so many percent. Noted under the lock, once per quota and
//! window, told by the control plane.

use std::sync::Arc;

use super::denied::Limit;
use super::window::Window;

/// Alerts of one tenant that wait to be told, at most; what comes on top is not told. They are taken
/// several times a second.
pub(super) const ALERTS_MAX: usize = 1024;

/// A quota of which a threshold was crossed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alert {
    pub(crate) limit: Limit,
    /// `None`: the whole tenant's quota.
    pub(crate) key_id: Option<Arc<str>>,
    /// The highest threshold that was crossed.
    pub(crate) percent: u8,
    /// What is used, of `quota`, in the unit of the limit.
    pub(crate) used: u64,
    pub(crate) quota: u64,
    pub(crate) window: Window,
}
