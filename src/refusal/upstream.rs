//! What is an upstream's fault, and what all of them together can't take.

use std::time::Duration;

use http::StatusCode;

use super::Refusal;
use crate::forward::SendError;

impl Refusal {
    /// All who serve the model rest. `are_limited`: each was told to wait. `wait`: until the first is tried again.
    pub(crate) fn upstreams_rest(wait: Option<Duration>, are_limited: bool) -> Self {
        let refusal = match are_limited {
            true => {
                let message = "All upstreams of this model are at their limits.";
                let status = StatusCode::TOO_MANY_REQUESTS;
                Self::new(status, "rate_limit_error", "upstream_rate_limited", message)
            }
            false => {
                let message = "All upstreams of this model have failed, and are tried again soon.";
                Self::upstream("upstream_unavailable", StatusCode::SERVICE_UNAVAILABLE, message)
            }
        };
        let wait = wait.unwrap_or(Duration::from_secs(1));
        refusal.retry_after(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
    }

    /// The upstream does not know the gateway's own key.
    pub(crate) fn upstream_auth() -> Self {
        let message = "The upstream does not accept the gateway's credentials; \
                       the operator of this gateway has to renew them.";
        Self::upstream("upstream_auth", StatusCode::BAD_GATEWAY, message).should_retry(false)
    }

    /// An error without a body that a client could read.
    pub(crate) fn upstream_failed(status: StatusCode) -> Self {
        let message = "The upstream failed.";
        let refusal = Self::upstream("upstream_error", StatusCode::BAD_GATEWAY, message);
        Self { upstream_status: Some(status.as_u16()), ..refusal }.should_retry(false)
    }

    pub(crate) fn upstream_protocol() -> Self {
        SendError::Protocol.into()
    }

    pub(crate) fn upstream_truncated() -> Self {
        let message = "The upstream's answer ended before it was complete.";
        Self::upstream("upstream_truncated", StatusCode::BAD_GATEWAY, message).should_retry(false)
    }

    /// The connection broke when a part of the answer was here.
    pub(crate) fn upstream_broke() -> Self {
        let message = "The upstream's connection broke before its answer was complete.";
        Self::upstream("upstream_reset", StatusCode::BAD_GATEWAY, message).should_retry(false)
    }

    pub(crate) fn upstream_idle() -> Self {
        let message = "The upstream stopped sending before its answer was complete.";
        let status = StatusCode::GATEWAY_TIMEOUT;
        Self::upstream("upstream_idle_timeout", status, message).should_retry(false)
    }
}
