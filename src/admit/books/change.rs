//! What changes the books besides requests: limits that are set, balances from the ledger, other windows,
//! keys that go. Each of these can put a quota above a threshold or below, which [`Crossed`] has to hear.
//!
//! [`Crossed`]: super::Crossed

use std::sync::Arc;

use super::Books;
use crate::admit::ask::KeySlot;
use crate::admit::denied::Scope;
use crate::admit::quota::{Balances, Rebuilt};
use crate::admit::window::Windows;
use crate::clock::Now;
use crate::tenancy::Limits;

impl Books {
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
        let (windows, burst) = (self.windows, self.rpm_burst);
        if let Some(account) = self.keys.opened(slot) {
            let before = account.over(&windows);
            account.set_limits(limits, burst, now.mono_ns);
            let after = account.over(&windows);
            self.crossed.change(Scope::Key, before, after);
        }
        self.keys.set_limits(slot, limits.clone());
    }

    /// Replaces the limits of the tenant as a whole.
    pub(in crate::admit) fn set_tenant_limits(&mut self, limits: &Limits, now: Now) {
        let before = self.tenant.over(&self.windows);
        self.tenant.set_limits(limits, self.rpm_burst, now.mono_ns);
        self.crossed.change(Scope::Tenant, before, self.tenant.over(&self.windows));
        if self.crossed.unmute() {
            self.count_all();
        }
    }

    /// Its name has come back.
    fn count_all(&mut self) {
        for slot in self.keys.iter() {
            let Some(account) = self.keys.opened(slot) else { continue };
            self.crossed.change(Scope::Key, 0, account.over(&self.windows));
        }
        self.crossed.change(Scope::Tenant, 0, self.tenant.over(&self.windows));
    }

    /// The tenant was deleted: its limits hold for whoever still asks, and nobody hears of them.
    pub(in crate::admit) fn mute(&mut self) {
        self.crossed.mute();
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

    /// Moves everything to other windows, of another time zone or another clock; see `Account::rebase`.
    pub(in crate::admit) fn rebase(
        &mut self,
        new: Windows,
        ledger: impl Fn(Option<&str>) -> Rebuilt,
    ) {
        let old = std::mem::replace(&mut self.windows, new);
        self.doubted_ms = None;
        self.crossed.start_over(&new);
        for slot in self.keys.iter() {
            let rebuilt = ledger(Some(self.keys.key_id(slot)));
            if rebuilt != Rebuilt::default() {
                self.open(slot, 0);
            }
            let Some(account) = self.keys.opened(slot) else { continue };
            // Balances of accounts that were idle may still be those of an earlier window.
            account.enter(&old);
            account.rebase(&new, &rebuilt);
            self.crossed.change(Scope::Key, 0, account.over(&new));
        }
        self.tenant.enter(&old);
        self.tenant.rebase(&new, &ledger(None));
        self.crossed.change(Scope::Tenant, 0, self.tenant.over(&new));
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
        if let Some(account) = self.keys.opened(slot) {
            self.crossed.change(Scope::Key, account.over(&self.windows), 0);
        }
        self.keys.free(slot);
    }
}
