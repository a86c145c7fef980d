//! The live state of one tenant and its keys, behind one lock: where checking and counting become
//! one step.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::tz::TimeZone;

use super::account::{Account, Held, Want};
use super::denied::{Denied, Kind, Limit, Scope, Standing};
use super::quota::Balances;
use super::window::Windows;
use crate::clock::Now;
use crate::tenancy::Limits;

/// What holds for every limit.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Requests that may come at once before the rate counts; `None`: as many as the rate.
    pub(crate) rpm_burst: Option<u32>,
    /// In which days and months begin.
    pub(crate) time_zone: TimeZone,
}

/// The live state of one tenant and its keys; carried along from one snapshot to the next.
#[derive(Debug)]
pub(crate) struct TenantLive {
    settings: Settings,
    /// Held for a few arithmetic operations, never across an await.
    books: Mutex<Books>,
}

/// The place of a key among its tenant's; good for the [`TenantLive`] that gave it, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KeySlot(usize);

/// What a request wants, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    /// The estimate of the prompt alone.
    pub(crate) prompt_tokens: u64,
    /// The prompt plus all that the answer may be.
    pub(crate) reserve_tokens: u64,
}

/// What is outstanding at this moment; all 0 when no request is in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) in_flight: u64,
    pub(crate) reserved_tokens: u64,
}

/// What the lock guards.
#[derive(Debug)]
struct Books {
    windows: Windows,
    tenant: Account,
    /// Indexed by [`KeySlot`]; a key's account outlives the key, so that slots stay good.
    keys: Vec<Account>,
    slots: HashMap<Box<str>, KeySlot>,
    totals: Totals,
}

/// What an admitted request holds of both accounts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reservation {
    slot: KeySlot,
    tokens: u64,
    key: Held,
    tenant: Held,
    pub(super) standing: Standing,
}

/// How a reservation comes to its end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    /// The request used so many tokens.
    Used { tokens: u64, now: Now },
    /// The request never left.
    NeverSent { now: Now },
    /// Nobody said.
    Abandoned,
}

impl TenantLive {
    /// A tenant without keys, limits or past.
    pub(crate) fn new(settings: Settings, now: Now) -> Arc<Self> {
        let windows = Windows::at(&settings.time_zone, now.unix_ms);
        let books = Books {
            tenant: Account::new(&windows),
            keys: Vec::new(),
            slots: HashMap::new(),
            totals: Totals::default(),
            windows,
        };
        Arc::new(Self { settings, books: Mutex::new(books) })
    }

    /// Replaces the limits of the tenant as a whole. What was used stays used: rates keep it, token
    /// for token, and quotas keep their balances.
    pub(crate) fn set_tenant_limits(&self, limits: &Limits, now: Now) {
        self.books().tenant.set_limits(limits, self.settings.rpm_burst, now.mono_ns);
    }

    /// Finds the place of a key, or makes one without limits.
    pub(crate) fn key_slot(&self, key_id: &str) -> KeySlot {
        let mut books = self.books();
        if let Some(slot) = books.slots.get(key_id) {
            return *slot;
        }
        let slot = KeySlot(books.keys.len());
        let account = Account::new(&books.windows);
        books.keys.push(account);
        books.slots.insert(key_id.into(), slot);
        slot
    }

    /// Replaces the limits of one key, as [`Self::set_tenant_limits`] does.
    pub(crate) fn set_key_limits(&self, slot: KeySlot, limits: &Limits, now: Now) {
        self.books().keys[slot.0].set_limits(limits, self.settings.rpm_burst, now.mono_ns);
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

    /// What a key has used in the windows around `now`, without reservations.
    #[cfg(test)]
    pub(crate) fn balances(&self, slot: KeySlot, now: Now) -> Balances {
        let mut books = self.books();
        let windows = books.advance(&self.settings.time_zone, now);
        books.keys[slot.0].enter(&windows);
        books.keys[slot.0].balances(windows)
    }

    /// What the whole tenant has used in the windows around `now`, without reservations.
    pub(crate) fn tenant_balances(&self, now: Now) -> Balances {
        let mut books = self.books();
        let windows = books.advance(&self.settings.time_zone, now);
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

    /// Checks everything, then spends everything.
    pub(super) fn reserve(&self, slot: KeySlot, ask: Ask, now: Now) -> Result<Reservation, Denied> {
        let want =
            Want { prompt: ask.prompt_tokens, reserve: ask.reserve_tokens.max(ask.prompt_tokens) };
        let mut books = self.books();
        let windows = books.advance(&self.settings.time_zone, now);
        books.keys[slot.0].enter(&windows);
        books.tenant.enter(&windows);
        books.check_quotas(slot, want, now)?;
        books.check_rates_and_hold(slot, want, now)
    }

    /// Ends a reservation; exactly once, which its owner guarantees.
    pub(super) fn close(&self, held: &Reservation, outcome: Outcome) {
        let mut guard = self.books();
        let books = &mut *guard;
        let key = &mut books.keys[held.slot.0];
        let tenant = &mut books.tenant;
        match outcome {
            Outcome::Used { tokens, now } => {
                key.settle(&held.key, tokens, now.mono_ns);
                tenant.settle(&held.tenant, tokens, now.mono_ns);
            }
            Outcome::NeverSent { now } => {
                key.revoke(&held.key, now.mono_ns);
                tenant.revoke(&held.tenant, now.mono_ns);
            }
            Outcome::Abandoned => {
                key.abandon(&held.key);
                tenant.abandon(&held.tenant);
            }
        }
        books.totals.in_flight = books.totals.in_flight.saturating_sub(1);
        books.totals.reserved_tokens = books.totals.reserved_tokens.saturating_sub(held.tokens);
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Nothing here panics half-way; were it to, counting on is better than refusing everybody.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn advance(&mut self, zone: &TimeZone, now: Now) -> Windows {
        self.windows.advance(zone, now.unix_ms);
        self.windows
    }

    fn standing(&self, slot: KeySlot, now: Now) -> Standing {
        let key = self.keys[slot.0].standing(now.mono_ns);
        Standing::tighter(key, self.tenant.standing(now.mono_ns))
    }

    /// All that only looks: whole limits, quotas, concurrency.
    fn check_quotas(&self, slot: KeySlot, want: Want, now: Now) -> Result<(), Denied> {
        let both = [(Scope::Key, &self.keys[slot.0]), (Scope::Tenant, &self.tenant)];
        let too_small = both
            .iter()
            .filter_map(|(scope, account)| Some((*scope, account.too_small(want)?)))
            .min_by_key(|(_, (_, allowed, _))| *allowed);
        if let Some((scope, (kind, allowed, asked))) = too_small {
            let standing = self.standing(slot, now);
            return Err(Denied::TooLarge {
                limit: Limit { scope, kind },
                allowed,
                asked,
                standing,
            });
        }
        let used_up = both
            .iter()
            .filter_map(|(scope, account)| Some((*scope, account.used_up(want, &self.windows)?)))
            .reduce(|key, tenant| if tenant.1.1 > key.1.1 { tenant } else { key });
        if let Some((scope, (kind, resets_at_ms))) = used_up {
            let standing = self.standing(slot, now);
            return Err(Denied::Quota { limit: Limit { scope, kind }, resets_at_ms, standing });
        }
        match both.iter().find(|(_, account)| account.is_full()) {
            Some((scope, _)) => {
                let limit = Limit { scope: *scope, kind: Kind::Concurrency };
                Err(Denied::Concurrency { limit, standing: self.standing(slot, now) })
            }
            None => Ok(()),
        }
    }

    /// The rates, which governor spends while it checks: what one gave is put back if another
    /// refuses. Then everything else is taken.
    fn check_rates_and_hold(
        &mut self,
        slot: KeySlot,
        want: Want,
        now: Now,
    ) -> Result<Reservation, Denied> {
        let mono_ns = now.mono_ns;
        let (key, tenant) = (&mut self.keys[slot.0], &mut self.tenant);
        let mut longest = None;
        let key_rate = note(key.spend_request(mono_ns), Scope::Key, &mut longest);
        let tenant_rate = note(tenant.spend_request(mono_ns), Scope::Tenant, &mut longest);
        for (scope, account) in [(Scope::Key, &mut *key), (Scope::Tenant, &mut *tenant)] {
            if let Some(wait) = account.token_wait(want, mono_ns) {
                keep_longer(&mut longest, Limit { scope, kind: Kind::Tokens }, wait);
            }
        }
        if let Some((limit, wait)) = longest {
            key.put_back(key_rate);
            tenant.put_back(tenant_rate);
            return Err(Denied::Rate { limit, wait, standing: self.standing(slot, now) });
        }
        let key = key.hold(want, key_rate, &self.windows, mono_ns);
        let tenant = tenant.hold(want, tenant_rate, &self.windows, mono_ns);
        self.totals.in_flight = self.totals.in_flight.saturating_add(1);
        self.totals.reserved_tokens = self.totals.reserved_tokens.saturating_add(want.reserve);
        let standing = self.standing(slot, now);
        Ok(Reservation { slot, tokens: want.reserve, key, tenant, standing })
    }
}

/// Takes what was spent out of an answer, and notes the wait of one that refused.
fn note<T>(
    answer: Result<Option<T>, Duration>,
    scope: Scope,
    longest: &mut Option<(Limit, Duration)>,
) -> Option<T> {
    answer.unwrap_or_else(|wait| {
        keep_longer(longest, Limit { scope, kind: Kind::Requests }, wait);
        None
    })
}

fn keep_longer(longest: &mut Option<(Limit, Duration)>, limit: Limit, wait: Duration) {
    if longest.is_none_or(|(_, known)| wait > known) {
        *longest = Some((limit, wait));
    }
}
