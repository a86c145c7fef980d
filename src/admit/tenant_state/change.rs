//! What changes the books besides requests: limits that are set, balances from the ledger, keys that go. Each of these can put a quota above a threshold or below, which [`Crossed`] has to hear.
//!
//! [`Crossed`]: super::Crossed

use std::sync::Arc;

use super::TenantState;
use crate::admit::demand::KeySlot;
use crate::admit::denied::Scope;
use crate::admit::quota::Balances;
use crate::admit::window::Windows;
use crate::clock::Now;
use crate::tenancy::Limits;

impl TenantState {
    /// Takes the later of two windows.
    fn forward_to(&mut self, windows: Windows) {
        self.windows.forward_to(windows);
        self.crossed.enter(&self.windows);
    }

    /// Replaces the limits of a key.
    pub(in crate::admit) fn set_key_limits(
        &mut self,
        slot: KeySlot,
        limits: &Arc<Limits>,
        now: Now,
    ) {
        let windows = self.advance(now);
        self.catch_up(slot);
        self.keys.set_limits(slot, limits.clone());
        let Some(account) = self.keys.opened(slot) else { return };
        account.enter(&windows);
        let before = account.over(&windows);
        account.set_limits(limits, self.rpm_burst, now.mono_ns);
        let (after, is_over) = (account.over(&windows), account.is_over());
        self.crossed.change(Scope::Key, before, after);
        // A quota that was lowered below what is used: its requests are refused, and none would tell it.
        if is_over {
            self.report_crossed(Some(slot));
        }
    }

    /// Replaces the limits of the tenant as a whole.
    pub(in crate::admit) fn set_tenant_limits(&mut self, limits: &Limits, now: Now) {
        let windows = self.advance(now);
        self.tenant.enter(&windows);
        let before = self.tenant.over(&windows);
        self.tenant.set_limits(limits, self.rpm_burst, now.mono_ns);
        self.crossed.change(Scope::Tenant, before, self.tenant.over(&windows));
        if self.crossed.unmute_alerts() {
            self.count_all();
        }
        if self.tenant.is_over() {
            self.report_crossed(None);
        }
    }

    /// Its name has come back.
    fn count_all(&mut self) {
        for slot in (0..self.keys.len()).map(KeySlot) {
            self.catch_up(slot);
            let Some(account) = self.keys.opened(slot) else { continue };
            self.crossed.change(Scope::Key, 0, account.over(&self.windows));
        }
        self.crossed.change(Scope::Tenant, 0, self.tenant.over(&self.windows));
    }

    /// The tenant was deleted: its limits hold for whoever still asks, and nobody hears of them.
    pub(in crate::admit) fn mute_alerts(&mut self) {
        self.crossed.mute_alerts();
    }

    /// Sets what a key used before this process.
    pub(in crate::admit) fn load_key(&mut self, slot: KeySlot, balances: &Balances) {
        self.forward_to(balances.windows);
        self.open(slot, 0);
        let account = &mut self.keys[slot];
        let before = account.over(&self.windows);
        account.load(balances);
        self.crossed.change(Scope::Key, before, account.over(&self.windows));
    }

    /// Sets what the tenant used before this process.
    pub(in crate::admit) fn load_tenant(&mut self, balances: &Balances) {
        self.forward_to(balances.windows);
        let before = self.tenant.over(&self.windows);
        self.tenant.load(balances);
        self.crossed.change(Scope::Tenant, before, self.tenant.over(&self.windows));
    }

    /// The key is gone. Its account goes as well, once nothing of it is in flight.
    pub(in crate::admit) fn leave(&mut self, slot: KeySlot) {
        if self.keys.leave(slot) {
            self.free(slot);
        }
    }

    /// Nobody will ask for it, and nothing of it is in flight.
    #[cold]
    pub(super) fn free(&mut self, slot: KeySlot) {
        self.catch_up(slot);
        if let Some(account) = self.keys.opened(slot) {
            self.crossed.change(Scope::Key, account.over(&self.windows), 0);
        }
        self.keys.free(slot);
    }
}
