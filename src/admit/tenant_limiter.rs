//! The live state of one tenant and its keys, behind one lock: where checking and counting become
//! one step.

#[cfg(feature = "shuttle")]
use shuttle::sync::{Mutex, MutexGuard};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
#[cfg(not(feature = "shuttle"))]
use std::sync::{Mutex, MutexGuard};

use jiff::tz::TimeZone;

use super::demand::{Demand, KeySlot};
use super::denied::{Denied, RateLimits};
#[cfg(test)]
use super::denied::{Limit, Scope};
use super::quota::{Amount, Balances, Rebuilt};
use super::tenant_state::{Ledger, Outcome, Reservation, Settings, TenantState, Totals};
#[cfg(test)]
use super::threshold_gauge::QUOTAS;
use super::window::Windows;
use crate::clock::Now;
use crate::tenancy::Limits;

/// Keys that follow to other windows in one turn with the lock: a fifth of a millisecond.
const MOVED_AT_ONCE: usize = 64;

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
pub(crate) struct TenantLimiter {
    /// A quota of cost holds for all its keys together. Outside of the lock, for it is asked before
    /// admission.
    has_cost_quota: AtomicBool,
    /// Bytes of its requests' bodies that are held now; whoever holds them counts them.
    body_bytes: Arc<AtomicU64>,
    /// Held for a few arithmetic operations, never across an await.
    state: Mutex<TenantState>,
}

impl TenantLimiter {
    /// A tenant without keys, limits or past.
    pub(crate) fn new(name: Arc<str>, settings: Settings, now: Now) -> Arc<Self> {
        let state = TenantState::new(name, settings, now);
        Arc::new(Self {
            has_cost_quota: AtomicBool::new(false),
            body_bytes: Arc::default(),
            state: Mutex::new(state),
        })
    }

    /// Replaces the limits of the tenant as a whole. What was used stays used: rates keep it, token
    /// for token, and quotas keep their balances.
    pub(crate) fn set_tenant_limits(&self, limits: &Limits, now: Now) {
        self.state().set_tenant_limits(limits, now);
        self.has_cost_quota.store(limits.has_cost_quota(), Ordering::Relaxed);
    }

    /// The tenant was deleted. Its limits go on for requests that were identified before, and its quotas
    /// are told of no more, until [`Self::set_tenant_limits`].
    pub(crate) fn mute_alerts(&self) {
        self.state().mute_alerts();
    }

    /// Whether a quota of cost holds for the tenant as a whole.
    pub(crate) fn has_cost_quota(&self) -> bool {
        self.has_cost_quota.load(Ordering::Relaxed)
    }

    /// Bytes of its requests' bodies that are held now.
    pub(crate) fn body_bytes(&self) -> &Arc<AtomicU64> {
        &self.body_bytes
    }

    /// A place for a key, which has not asked yet.
    pub(super) fn take_slot(&self, key_id: Arc<str>, limits: Arc<Limits>) -> KeySlot {
        self.state().take_slot(key_id, limits)
    }

    /// The key is gone, and nobody will ask for it any more. Requests in flight end as they would.
    pub(super) fn leave(&self, slot: KeySlot) {
        self.state().leave(slot);
    }

    /// Replaces the limits of one key, as [`Self::set_tenant_limits`] does.
    pub(crate) fn set_key_limits(&self, slot: KeySlot, limits: &Arc<Limits>, now: Now) {
        self.state().set_key_limits(slot, limits, now);
    }

    /// Sets what a key used before this process, from the ledger. At start, before any request.
    pub(crate) fn load_balances(&self, slot: KeySlot, balances: &Balances) {
        self.state().load_key(slot, balances);
    }

    /// Sets what the whole tenant used before this process: the sum of all its keys, those included
    /// that are revoked or deleted by now.
    pub(crate) fn load_tenant_balances(&self, balances: &Balances) {
        self.state().load_tenant(balances);
    }

    /// The windows that hold at `now`.
    pub(crate) fn windows(&self, now: Now) -> OpenWindows {
        let mut state = self.state();
        let windows = state.advance(now);
        OpenWindows { windows, doubted_ms: state.doubted_ms }
    }

    /// From now on `new` holds instead of `old`, which is what [`Self::windows`] said, and days and
    /// months begin in `zone`: because that is another one, or because the clock was wrong. `ledger` has
    /// what the ledger knows of a key in both, and of the whole tenant (`None`). False, and nothing has
    /// changed, if `old` does not hold any more.
    ///
    /// However many keys there are, nobody waits long: they follow one by one, whoever asks for one has it
    /// follow first, and between some and some more `others_turn` is called, without the lock.
    pub(crate) fn move_windows(
        &self,
        zone: TimeZone,
        old: OpenWindows,
        new: Windows,
        ledger: impl Fn(Option<&str>) -> Rebuilt + Send + 'static,
        mut others_turn: impl FnMut(),
    ) -> bool {
        let begun = self.begin_move(zone, old, new, Box::new(ledger));
        if begun {
            while self.move_some(MOVED_AT_ONCE) {
                others_turn();
            }
        }
        begun
    }

    /// The tenant as a whole holds to the new windows; its keys do once they are asked for.
    pub(super) fn begin_move(
        &self,
        zone: TimeZone,
        old: OpenWindows,
        new: Windows,
        ledger: Ledger,
    ) -> bool {
        let mut state = self.state();
        let OpenWindows { windows: old, doubted_ms } = old;
        if state.windows != old || state.doubted_ms != doubted_ms {
            return false;
        }
        state.begin_move(new, ledger);
        state.zone = zone;
        true
    }

    /// Has `count` more keys follow; false once all have.
    pub(super) fn move_some(&self, count: usize) -> bool {
        let mut state = self.state();
        let led = state.move_some(count);
        let are_left = state.is_moving();
        // What it had of the ledger is let go of without the lock.
        drop(state);
        drop(led);
        are_left
    }

    /// What a key has used in the windows around `now`, without reservations.
    #[cfg(test)]
    pub(crate) fn balances(&self, slot: KeySlot, now: Now) -> Balances {
        let mut state = self.state();
        let windows = state.advance(now);
        state.catch_up(slot);
        state.open(slot, now.mono_ns);
        state.keys[slot].enter(&windows);
        state.keys[slot].balances(windows)
    }

    /// What the whole tenant has used in the windows around `now`, without reservations.
    pub(crate) fn tenant_balances(&self, now: Now) -> Balances {
        let mut state = self.state();
        let windows = state.advance(now);
        state.tenant.enter(&windows);
        state.tenant.balances(windows)
    }

    /// What is left of the rates, for an answer without an admission.
    pub(crate) fn rate_limits(&self, slot: KeySlot, now: Now) -> RateLimits {
        let mut state = self.state();
        state.open(slot, now.mono_ns);
        state.rate_limits(slot, now)
    }

    /// What is outstanding, for metrics and tests.
    pub(crate) fn totals(&self) -> Totals {
        self.state().totals
    }

    /// Names every quota of which a threshold is crossed at `unix_ms`, by a walk over all accounts.
    #[cfg(test)]
    pub(super) fn each_over(&self, unix_ms: i64, mut each: impl FnMut(Limit)) {
        let state = &mut *self.state();
        let mut windows = state.windows;
        windows.advance(&state.zone, unix_ms);
        let tenant = (Scope::Tenant, state.tenant.over(&windows));
        // Those that are still to move count in no window.
        let keys = (0..state.keys.len()).map(KeySlot).collect::<Vec<_>>();
        let keys = keys.into_iter().filter(|slot| state.has_moved(*slot)).collect::<Vec<_>>();
        let keys = keys.into_iter();
        let keys =
            keys.filter_map(|slot| Some((Scope::Key, state.keys.opened(slot)?.over(&windows))));
        for (scope, over) in keys.chain([tenant]) {
            let quotas = QUOTAS.into_iter().enumerate();
            let crossed = quotas.filter(|(at, _)| over >> at & 1 == 1);
            crossed.for_each(|(_, kind)| each(Limit { scope, kind }));
        }
    }

    /// How many keys have a slot, and how many of them an account.
    #[cfg(test)]
    pub(crate) fn slots(&self) -> (usize, usize) {
        self.state().keys.counts()
    }

    /// A slot for a key without limits, for as long as the tenant lives.
    #[cfg(test)]
    pub(crate) fn key_slot(&self, key_id: &str) -> KeySlot {
        self.take_slot(key_id.into(), Arc::default())
    }

    pub(super) fn reserve(
        &self,
        slot: KeySlot,
        ask: Demand,
        now: Now,
    ) -> Result<Reservation, Denied> {
        self.state().reserve(slot, ask, now)
    }

    /// Gives a place to a request whose body is on its way, unless any would be refused now.
    pub(super) fn arrive(&self, slot: KeySlot, is_short: bool, now: Now) -> Result<(), Denied> {
        self.state().arrive(slot, is_short, now)
    }

    /// Turns that place into a reservation, or gives it back.
    pub(super) fn reserve_arrived(
        &self,
        slot: KeySlot,
        ask: Demand,
        now: Now,
    ) -> Result<Reservation, Denied> {
        self.state().reserve_arrived(slot, ask, now)
    }

    /// Gives it back.
    pub(super) fn abandon(&self, slot: KeySlot) {
        self.state().abandon(slot);
    }

    /// Sets more aside for a request in flight, if there is room; all of it or nothing.
    pub(super) fn extend(&self, held: &mut Reservation, more: Amount, now: Now) -> bool {
        self.state().extend(held, more, now)
    }

    /// Ends a reservation; exactly once, which its owner guarantees.
    pub(super) fn close(&self, held: &Reservation, outcome: Outcome) {
        self.state().close(held, outcome);
    }

    pub(super) fn state(&self) -> MutexGuard<'_, TenantState> {
        // Nothing here panics half-way; were it to, counting on is better than refusing everybody.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
