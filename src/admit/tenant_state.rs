//! What the lock of a tenant guards: its account, those of its keys, and the windows that hold now.

mod pending;
mod change;
mod window_change;

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::account::{Account, Granted, Want};
use super::alert::{Alert, Alerting};
use super::demand::{Clamp, Demand, KeySlot};
use super::denied::{Denied, Kind, Limit, RateLimits, Scope};
use super::quota::Amount;
use super::slots::Slots;
use super::threshold_gauge::Crossed;
use super::window::Windows;
pub(super) use window_change::Ledger;
use window_change::WindowChange;

use crate::clock::{Now, TrustedClock};

/// Output tokens that are worth asking for: a request that is clamped to less is refused instead.
pub(super) const CLAMP_MIN: u64 = 16;

/// What holds for every limit.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Requests that may come at once before the rate counts; `None`: as many as the rate.
    pub(crate) rpm_burst: Option<u32>,
    /// In which days and months begin, until [`TenantLimiter::move_windows`].
    pub(crate) time_zone: TimeZone,
    /// Of a quota, 1 to 100: whoever uses as much is to be told of.
    pub(crate) alert_percent: Arc<[u8]>,
    /// Who hears of it.
    pub(crate) alerting: Arc<Alerting>,
    /// What is asked where the wall clock is behind.
    pub(crate) trusted_clock: Arc<TrustedClock>,
}

/// All of one tenant.
#[derive(Debug)]
pub(super) struct TenantState {
    /// What the tenant is called.
    pub(super) name: Arc<str>,
    /// In which days and months begin.
    pub(super) zone: TimeZone,
    pub(super) windows: Windows,
    /// From when on requests that count in these windows are dated before them: see [`TenantState::date`].
    pub(super) doubted_ms: Option<i64>,
    pub(super) trusted_clock: Arc<TrustedClock>,
    pub(super) tenant: Account,
    pub(super) keys: Slots,
    pub(super) totals: Totals,
    /// Requests that may come at once before a rate counts; `None`: as many as the rate.
    pub(super) rpm_burst: Option<u32>,
    /// Of a quota: whoever uses as much is to be told of.
    pub(super) percents: Arc<[u8]>,
    /// Whom to tell.
    pub(super) alerting: Arc<Alerting>,
    pub(super) crossed: Crossed,
    /// While accounts move to other windows.
    moving: Option<Box<WindowChange>>,
}

/// What an admitted request holds of both accounts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reservation {
    slot: KeySlot,
    /// When the request began, in Unix milliseconds, as its row says.
    pub(super) at_ms: i64,
    pub(super) amount: Amount,
    /// The most that each answer may be, in tokens, where a quota has set it.
    pub(super) clamp: Option<u64>,
    key: Granted,
    tenant: Granted,
    pub(super) rate_limits: RateLimits,
}

/// What is outstanding at this moment; all 0 when no request is in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) in_flight: u64,
    /// Requests whose body is on its way.
    pub(crate) arriving: u64,
    pub(super) reserved: Amount,
}

/// How a reservation comes to its end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    /// The request used so much.
    Used { used: Amount, now: Now },
    /// The request never left.
    NeverSent { now: Now },
    /// Nobody said.
    Abandoned,
}

impl Totals {
    pub(crate) fn reserved_tokens(&self) -> u64 {
        self.reserved.tokens
    }
}

impl TenantState {
    /// A tenant without keys, limits or past.
    pub(super) fn new(name: Arc<str>, settings: Settings, now: Now) -> Self {
        let Settings { rpm_burst, time_zone, alert_percent, alerting, trusted_clock } = settings;
        let windows = Windows::at(&time_zone, now.unix_ms);
        Self {
            name,
            zone: time_zone,
            tenant: Account::new(&windows, alert_percent.clone()),
            keys: Slots::default(),
            totals: Totals::default(),
            crossed: Crossed::new(alerting.over.clone(), windows),
            windows,
            doubted_ms: None,
            trusted_clock,
            rpm_burst,
            percents: alert_percent,
            alerting,
            moving: None,
        }
    }

    #[inline]
    pub(super) fn advance(&mut self, now: Now) -> Windows {
        if self.windows.advance(&self.zone, now.unix_ms) {
            self.crossed.enter(&self.windows);
            self.doubted_ms = None;
            self.trusted_clock.opened(self.windows.day.start_ms);
        }
        self.windows
    }

    /// Opens the account of a key that has not asked yet. Its rates begin full, whenever that is.
    #[inline]
    pub(super) fn open(&mut self, slot: KeySlot, mono_ns: u64) {
        let Self { keys, windows, percents, rpm_burst, .. } = self;
        keys.open(slot, |limits| {
            let mut account = Account::new(windows, percents.clone());
            account.set_limits(limits, *rpm_burst, mono_ns);
            account
        });
    }

    /// When a request begins, as its row says and both accounts count it.
    #[inline]
    fn date(&mut self, now: Now) -> i64 {
        match now.unix_ms >= self.windows.day.start_ms {
            true => now.unix_ms,
            false => self.date_behind(now),
        }
    }

    /// A clock that is behind the windows does not lead out of them, and the request belongs to them.
    /// Windows that are too far ahead to be believed are those of a clock that was wrong: the control
    /// plane is about to leave them, and rows are not dated by them. Then memory counts in them what the
    /// ledger does not.
    #[cold]
    fn date_behind(&mut self, now: Now) -> i64 {
        let time_ms = self.trusted_clock.at(now);
        let day = self.windows.day;
        if day.start_ms <= self.trusted_clock.until(now) {
            return time_ms.clamp(day.start_ms, day.end_ms - 1);
        }
        self.doubted_ms = Some(self.doubted_ms.map_or(time_ms, |before| before.min(time_ms)));
        time_ms
    }

    pub(super) fn rate_limits(&self, slot: KeySlot, now: Now) -> RateLimits {
        let key = self.keys[slot].rate_limits(now.mono_ns);
        RateLimits::tighter(key, self.tenant.rate_limits(now.mono_ns))
    }

    /// Checks everything, then spends everything.
    pub(super) fn reserve(
        &mut self,
        slot: KeySlot,
        ask: Demand,
        now: Now,
    ) -> Result<Reservation, Denied> {
        let windows = self.advance(now);
        self.catch_up(slot);
        self.open(slot, now.mono_ns);
        self.keys[slot].enter(&windows);
        self.tenant.enter(&windows);
        let mut want = Want {
            prompt: ask.prompt_tokens,
            reserve: ask.reserve_tokens.max(ask.prompt_tokens),
            nano_usd: ask.reserve_nano_usd,
        };
        let clamp = ask.clamp.and_then(|clamp| self.clamp(slot, &mut want, clamp));
        self.check_quotas(slot, want, now)?;
        let mut held = self.check_rates_and_hold(slot, want, now)?;
        held.clamp = clamp;
        Ok(held)
    }

    /// Makes the answer small enough for what the quotas have left, and says how large it may be.
    /// Where next to nothing is left it asks for the least, which the quotas will refuse.
    fn clamp(&self, slot: KeySlot, want: &mut Want, clamp: Clamp) -> Option<u64> {
        let left = self.keys[slot].left().min(self.tenant.left());
        if left.tokens == u64::MAX && left.nano_usd == u64::MAX {
            return None;
        }
        let choices = clamp.choices.max(1);
        let asked = (want.reserve - want.prompt) / choices;
        let by_tokens = left.tokens.saturating_sub(want.prompt) / choices;
        let pico_each = u128::from(clamp.output_pico_usd) * u128::from(choices);
        let for_output = u128::from(left.nano_usd.saturating_sub(clamp.prompt_nano_usd)) * 1000;
        let by_cost = for_output.checked_div(pico_each).unwrap_or(u128::MAX);
        let most = by_tokens.min(u64::try_from(by_cost).unwrap_or(u64::MAX));
        let output = asked.min(most.max(CLAMP_MIN));
        if output < asked {
            want.reserve = want.prompt.saturating_add(output.saturating_mul(choices));
            let cost = (u128::from(output) * pico_each).div_ceil(1000);
            let cost = u64::try_from(cost).unwrap_or(u64::MAX);
            want.nano_usd = clamp.prompt_nano_usd.saturating_add(cost).min(want.nano_usd);
        }
        Some(output)
    }

    /// All that only looks: whole limits, quotas, concurrency.
    fn check_quotas(&self, slot: KeySlot, want: Want, now: Now) -> Result<(), Denied> {
        let both = [(Scope::Key, &self.keys[slot]), (Scope::Tenant, &self.tenant)];
        let too_small = both
            .iter()
            .filter_map(|(scope, account)| Some((*scope, account.too_small(want)?)))
            .min_by_key(|(_, (kind, allowed, _))| (kind.is_usd(), *allowed));
        if let Some((scope, (kind, allowed, asked))) = too_small {
            let rate_limits = self.rate_limits(slot, now);
            return Err(Denied::TooLarge {
                limit: Limit { scope, kind },
                allowed,
                asked,
                rate_limits,
            });
        }
        let used_up = both
            .iter()
            .filter_map(|(scope, account)| Some((*scope, account.used_up(want, &self.windows)?)))
            .reduce(|key, tenant| if tenant.1.1 > key.1.1 { tenant } else { key });
        if let Some((scope, (kind, resets_at_ms))) = used_up {
            let rate_limits = self.rate_limits(slot, now);
            return Err(Denied::Quota { limit: Limit { scope, kind }, resets_at_ms, rate_limits });
        }
        match both.iter().find(|(_, account)| account.is_full()) {
            Some((scope, _)) => {
                let limit = Limit { scope: *scope, kind: Kind::Concurrency };
                Err(Denied::Concurrency { limit, rate_limits: self.rate_limits(slot, now) })
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
        let (key, tenant) = (&mut self.keys[slot], &mut self.tenant);
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
            return Err(Denied::Rate { limit, wait, rate_limits: self.rate_limits(slot, now) });
        }
        let at_ms = self.date(now);
        let key = self.keys[slot].hold(want, key_rate, at_ms, mono_ns);
        let tenant = self.tenant.hold(want, tenant_rate, at_ms, mono_ns);
        let amount = want.amount();
        self.totals.in_flight = self.totals.in_flight.saturating_add(1);
        self.totals.reserved = self.totals.reserved.plus(amount);
        let rate_limits = self.rate_limits(slot, now);
        self.note_alerts(slot);
        Ok(Reservation { slot, at_ms, amount, clamp: None, key, tenant, rate_limits })
    }

    /// Sets more aside for a request in flight, if both accounts have room.
    pub(super) fn extend(&mut self, held: &mut Reservation, more: Amount, now: Now) -> bool {
        let windows = self.advance(now);
        self.catch_up(held.slot);
        self.tenant.enter(&windows);
        let key = &mut self.keys[held.slot];
        key.enter(&windows);
        let fits =
            key.has_room_for(&held.key, more) && self.tenant.has_room_for(&held.tenant, more);
        if fits {
            key.extend(&mut held.key, more);
            self.tenant.extend(&mut held.tenant, more);
            self.totals.reserved = self.totals.reserved.plus(more);
            held.amount = held.amount.plus(more);
        }
        fits
    }

    /// Ends a reservation.
    pub(super) fn close(&mut self, held: &Reservation, outcome: Outcome) {
        self.catch_up(held.slot);
        let (key, tenant) = (&mut self.keys[held.slot], &mut self.tenant);
        // One that was idle meanwhile may not know of the window that another request has opened.
        key.enter(&self.windows);
        tenant.enter(&self.windows);
        match outcome {
            Outcome::Used { used, now } => {
                key.settle(&held.key, used, now.mono_ns);
                tenant.settle(&held.tenant, used, now.mono_ns);
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
        self.totals.in_flight = self.totals.in_flight.saturating_sub(1);
        self.totals.reserved = self.totals.reserved.minus(held.amount);
        self.note_alerts(held.slot);
        if self.keys.is_done(held.slot) {
            self.free(held.slot);
        }
    }

    #[inline]
    fn note_alerts(&mut self, slot: KeySlot) {
        if self.keys[slot].is_over() {
            self.report_crossed(Some(slot));
        }
        if self.tenant.is_over() {
            self.report_crossed(None);
        }
    }

    /// Of a key, or of the tenant; once per quota, threshold and window.
    #[cold]
    fn report_crossed(&mut self, key: Option<KeySlot>) {
        if self.crossed.is_muted() {
            return;
        }
        let windows = self.windows;
        let (scope, key_id, account) = match key {
            Some(slot) => {
                let key_id = self.keys.key_id(slot).clone();
                (Scope::Key, Some(key_id), &mut self.keys[slot])
            }
            None => (Scope::Tenant, None, &mut self.tenant),
        };
        let before = account.over(&windows);
        account.report_crossed(|kind, percent, used, quota| {
            let window = if kind.is_monthly() { windows.month } else { windows.day };
            let (tenant, key_id) = (self.name.clone(), key_id.clone());
            let limit = Limit { scope, kind };
            self.alerting.push(Alert { limit, tenant, key_id, percent, used, quota, window });
        });
        self.crossed.change(scope, before, account.over(&windows));
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
