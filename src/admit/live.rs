//! The live state of one tenant and its keys, behind one lock: where checking and counting become
//! one step.

#[cfg(feature = "shuttle")]
use shuttle::sync::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
#[cfg(not(feature = "shuttle"))]
use std::sync::{Mutex, MutexGuard};

use jiff::tz::TimeZone;

use super::account::Account;
use super::alert::Alert;
use super::ask::{Ask, KeySlot};
use super::books::{Books, Outcome, Reservation, Totals};
use super::denied::{Denied, Limit, Scope, Standing};
use super::quota::{Amount, Balances, Rebuilt};
use super::window::Windows;
use crate::clock::{Believed, Now};
use crate::tenancy::Limits;

/// What holds for every limit.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Requests that may come at once before the rate counts; `None`: as many as the rate.
    pub(crate) rpm_burst: Option<u32>,
    /// In which days and months begin, until [`TenantLive::move_windows`].
    pub(crate) time_zone: TimeZone,
    /// Of a quota, 1 to 100: whoever uses as much is to be told of.
    pub(crate) alert_percent: Arc<[u8]>,
    /// What is asked where the wall clock is behind.
    pub(crate) believed: Arc<Believed>,
}

/// The windows that are open, and what the ledger counts elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenWindows {
    pub(crate) windows: Windows,
    /// Rows of requests that count in these windows can begin before them, from here on: the clock was
    /// ahead when the windows opened.
    pub(crate) doubted_ms: Option<i64>,
}

/// The live state of one tenant and its keys; carried along from one snapshot to the next.
#[derive(Debug)]
pub(crate) struct TenantLive {
    rpm_burst: Option<u32>,
    alert_percent: Arc<[u8]>,
    /// Held for a few arithmetic operations, never across an await.
    books: Mutex<Books>,
}

impl TenantLive {
    /// A tenant without keys, limits or past.
    pub(crate) fn new(settings: Settings, now: Now) -> Arc<Self> {
        let Settings { rpm_burst, time_zone, alert_percent, believed } = settings;
        let windows = Windows::at(&time_zone, now.unix_ms);
        let books = Books {
            zone: time_zone,
            tenant: Account::new(&windows, alert_percent.clone()),
            keys: Vec::new(),
            slots: HashMap::new(),
            totals: Totals::default(),
            alerts: Vec::new(),
            windows,
            doubted_ms: None,
            believed,
        };
        Arc::new(Self { rpm_burst, alert_percent, books: Mutex::new(books) })
    }

    /// Replaces the limits of the tenant as a whole. What was used stays used: rates keep it, token
    /// for token, and quotas keep their balances.
    pub(crate) fn set_tenant_limits(&self, limits: &Limits, now: Now) {
        self.books().tenant.set_limits(limits, self.rpm_burst, now.mono_ns);
    }

    /// Finds the place of a key, or makes one without limits.
    pub(crate) fn key_slot(&self, key_id: &str) -> KeySlot {
        let mut books = self.books();
        if let Some(slot) = books.slots.get(key_id) {
            return *slot;
        }
        let slot = KeySlot(books.keys.len());
        let account = Account::new(&books.windows, self.alert_percent.clone());
        books.keys.push(account);
        books.slots.insert(key_id.into(), slot);
        slot
    }

    /// Replaces the limits of one key, as [`Self::set_tenant_limits`] does.
    pub(crate) fn set_key_limits(&self, slot: KeySlot, limits: &Limits, now: Now) {
        self.books().keys[slot.0].set_limits(limits, self.rpm_burst, now.mono_ns);
    }

    /// Sets what a key used before this process, from the ledger. At start, before any request.
    pub(crate) fn load_balances(&self, slot: KeySlot, balances: &Balances) {
        let mut books = self.books();
        books.windows.forward_to(balances.windows);
        books.keys[slot.0].load(balances);
    }

    /// Sets what the whole tenant used before this process: the sum of all its keys, those included
    /// that are revoked by now.
    pub(crate) fn load_tenant_balances(&self, balances: &Balances) {
        let mut books = self.books();
        books.windows.forward_to(balances.windows);
        books.tenant.load(balances);
    }

    /// The windows that hold at `now`.
    pub(crate) fn windows(&self, now: Now) -> OpenWindows {
        let mut books = self.books();
        let windows = books.advance(now);
        OpenWindows { windows, doubted_ms: books.doubted_ms }
    }

    /// From now on `new` holds instead of `old`, which is what [`Self::windows`] said, and days and
    /// months begin in `zone`: because that is another one, or because the clock was wrong. `ledger` has
    /// what the ledger knows of a key in both, and of the whole tenant (`None`). False, and nothing has
    /// changed, if `old` does not hold any more.
    pub(crate) fn move_windows(
        &self,
        zone: TimeZone,
        old: OpenWindows,
        new: Windows,
        ledger: impl Fn(Option<&str>) -> Rebuilt,
    ) -> bool {
        let mut guard = self.books();
        let books = &mut *guard;
        let OpenWindows { windows: old, doubted_ms } = old;
        if books.windows != old || books.doubted_ms != doubted_ms {
            return false;
        }
        // Balances of accounts that were idle may still be those of an earlier window.
        for (key_id, slot) in &books.slots {
            let account = &mut books.keys[slot.0];
            account.enter(&old);
            account.rebase(&new, &ledger(Some(key_id)));
        }
        books.tenant.enter(&old);
        books.tenant.rebase(&new, &ledger(None));
        books.zone = zone;
        books.windows = new;
        books.doubted_ms = None;
        true
    }

    /// What a key has used in the windows around `now`, without reservations.
    #[cfg(test)]
    pub(crate) fn balances(&self, slot: KeySlot, now: Now) -> Balances {
        let mut books = self.books();
        let windows = books.advance(now);
        books.keys[slot.0].enter(&windows);
        books.keys[slot.0].balances(windows)
    }

    /// What the whole tenant has used in the windows around `now`, without reservations.
    pub(crate) fn tenant_balances(&self, now: Now) -> Balances {
        let mut books = self.books();
        let windows = books.advance(now);
        books.tenant.enter(&windows);
        books.tenant.balances(windows)
    }

    /// What is left of the rates, for an answer without an admission.
    pub(crate) fn standing(&self, slot: KeySlot, now: Now) -> Standing {
        self.books().standing(slot, now)
    }

    /// What is outstanding, for metrics and tests.
    pub(crate) fn totals(&self) -> Totals {
        self.books().totals
    }

    /// The alerts since the last time.
    pub(crate) fn take_alerts(&self) -> Vec<Alert> {
        std::mem::take(&mut self.books().alerts)
    }

    /// Names every quota of which a threshold is crossed in the windows around `now`.
    pub(crate) fn each_over(&self, now: Now, mut each: impl FnMut(Limit)) {
        let mut books = self.books();
        let windows = books.advance(now);
        for kind in books.tenant.over(&windows) {
            each(Limit { scope: Scope::Tenant, kind });
        }
        for key in &books.keys {
            key.over(&windows).for_each(|kind| each(Limit { scope: Scope::Key, kind }));
        }
    }

    pub(super) fn reserve(&self, slot: KeySlot, ask: Ask, now: Now) -> Result<Reservation, Denied> {
        self.books().reserve(slot, ask, now)
    }

    /// Sets more aside for a request in flight, if there is room; all of it or nothing.
    pub(super) fn extend(&self, held: &mut Reservation, more: Amount, now: Now) -> bool {
        self.books().extend(held, more, now)
    }

    /// Ends a reservation; exactly once, which its owner guarantees.
    pub(super) fn close(&self, held: &Reservation, outcome: Outcome) {
        self.books().close(held, outcome);
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Nothing here panics half-way; were it to, counting on is better than refusing everybody.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
