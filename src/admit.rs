//! Admission: may this request go upstream now, and what is set aside for it until it ends?
//!
//! Everything of one tenant and its keys stands behind one short lock ([`TenantLimiter`]), so that
//! checking and counting are one step: of a thousand requests that arrive before any ends, exactly
//! those get in whose reservations fit. Everything is checked before anything is spent.
//!
//! What is asked, in this order; the first that says no is what the client hears ([`Denied`]):
//!
//! 1. Could it ever fit? A prompt above the whole tokens-per-minute limit, a reservation above a
//!    whole token quota, any limit of 0: refused as too large, because no waiting helps.
//! 2. Quotas per day and calendar month. They come before the rates: whoever is told to wait two
//!    seconds should not hear after them that the month is used up. Of several that are used up,
//!    the one that opens last is named.
//! 3. Concurrency.
//! 4. Requests and tokens per minute, of key and tenant. The longest wait of those that refuse is
//!    named, for only after that one will the request succeed.
//!
//! A request that may be clamped first has its answer made small enough for the quotas ([`Clamp`]).
//!
//! Before its body is here, a request is asked whether any would be refused now, and gets a place among
//! those in flight ([`PendingPermit`]): a client takes as long as it likes for its body.
//!
//! The yes is a [`Permit`]. It holds its place and its reservation until it is settled with what
//! the request really used, revoked because nothing was ever sent, or dropped, which counts the
//! whole reservation as used.

mod go_duration;
mod window;
mod denied;
mod rate;
mod tokens;
mod quota;
mod account;
mod demand;
mod alert;
mod threshold_gauge;
mod slots;
mod tenant_state;
mod tenant_limiter;
mod quota_levels;
mod permit;
mod slot_guard;
mod pending_permit;

pub(crate) use alert::{Alerting, Waiting};
pub(crate) use demand::{Clamp, Demand};
pub(crate) use denied::{Denied, Level, RateLimits};
pub(crate) use go_duration::GoDuration;
pub(crate) use pending_permit::PendingPermit;
pub(crate) use permit::Permit;
pub(crate) use quota::{Balances, Rebuilt, Used};
pub(crate) use quota_levels::QuotaLevel;
pub(crate) use slot_guard::SlotGuard;
pub(crate) use tenant_limiter::{OpenWindows, TenantLimiter};
pub(crate) use tenant_state::Settings;
pub(crate) use window::Windows;
#[cfg(test)]
use {
    alert::Alert,
    demand::KeySlot,
    denied::{Kind, Limit, Scope},
    quota::Amount,
    tenant_state::Totals,
};

#[cfg(test)]
mod interleaved;
#[cfg(test)]
mod tests;
