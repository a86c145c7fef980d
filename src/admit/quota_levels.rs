//! How full quotas are, for whoever asks an operator's question. Nothing is changed by being asked, and no
//! account is opened for it.

use super::account::Account;
use super::demand::KeySlot;
use super::denied::{Kind, Limit, Scope};
use super::quota::{Balance, Unit};
use super::tenant_limiter::TenantLimiter;
use super::threshold_gauge::QUOTAS;
use super::window::Windows;
use crate::clock::Now;

/// One quota at an instant. Amounts are counts, or billionths of a dollar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QuotaLevel {
    /// As `x-weir-limit` has it.
    pub(crate) name: &'static str,
    pub(crate) used: u64,
    /// By requests in flight. Requests themselves count as used from their admission on.
    pub(crate) reserved: u64,
    pub(crate) limit: u64,
    /// In Unix milliseconds.
    pub(crate) resets_at_ms: i64,
}

impl TenantLimiter {
    /// The quotas of a key, or those of all its tenant's keys together (`None`); those only that are set.
    pub(crate) fn quota_levels(&self, slot: Option<KeySlot>, now: Now) -> Vec<QuotaLevel> {
        let mut state = self.state();
        let windows = state.advance(now);
        let Some(slot) = slot else {
            state.tenant.enter(&windows);
            return levels(&state.tenant, Scope::Tenant, &windows);
        };
        state.catch_up(slot);
        if let Some(account) = state.keys.opened(slot) {
            account.enter(&windows);
            return levels(account, Scope::Key, &windows);
        }
        // It has not asked yet, and has used nothing that counts.
        let mut idle = Account::new(&windows, state.percents.clone());
        idle.set_limits(state.keys.limits(slot), state.rpm_burst, now.mono_ns);
        levels(&idle, Scope::Key, &windows)
    }
}

fn levels(account: &Account, scope: Scope, windows: &Windows) -> Vec<QuotaLevel> {
    let ends = [windows.day.end_ms, windows.month.end_ms];
    let balances = account.balances_kept().into_iter().zip(ends);
    let all = balances.flat_map(|(balance, end_ms)| Unit::ALL.map(|unit| (balance, end_ms, unit)));
    let level = |((balance, resets_at_ms, unit), kind): ((&Balance, i64, Unit), Kind)| {
        let limit = balance.quota().of(unit);
        let reserved = match unit {
            Unit::Requests => 0,
            Unit::Tokens => balance.reserved().tokens,
            Unit::NanoUsd => balance.reserved().nano_usd,
        };
        let name = Limit { scope, kind }.name();
        let used = balance.used().of(unit);
        (limit < u64::MAX).then_some(QuotaLevel { name, used, reserved, limit, resets_at_ms })
    };
    all.zip(QUOTAS).filter_map(level).collect()
}
