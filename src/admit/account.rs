//! All limits of one key, or of one tenant, side by side with what they hold.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::denied::{Kind, RateLimits};
use super::quota::{Amount, Balance, Balances, Entered, Rebuilt, Unit, Used};
use super::rate::{Rate, RateReceipt, RateSpend};
use super::tokens::{TokenBucket, TokenSpend};
use super::window::Windows;
use crate::tenancy::Limits;

/// The live state of one key or tenant.
#[derive(Debug)]
pub(super) struct Account {
    limits: Limits,
    /// What any request up to here fits into while nothing else is there: see [`most_of`].
    most: Want,
    /// There while `limits.rpm` is set and not 0.
    rate: Option<Rate>,
    /// There while `limits.tpm` is set and not 0.
    tokens: Option<TokenBucket>,
    /// How often the limits were set; the id of rates and buckets that are made then.
    changes: u64,
    in_flight: u32,
    /// Requests whose body is on its way.
    arriving: u32,
    /// Of all requests in flight, in whichever window they began.
    reserved: Amount,
    day: Balance,
    month: Balance,
    /// Of a quota: whoever uses as much is to be told of.
    percents: Arc<[u8]>,
}

/// What a request wants, made consistent: the reservation is never below the prompt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    pub(super) prompt: u64,
    pub(super) reserve: u64,
    pub(super) nano_usd: u64,
}

/// What one account gave to a request in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Granted {
    rate: Option<RateReceipt>,
    tokens: Option<TokenSpend>,
    reserved: Amount,
    day: Entered,
    month: Entered,
}

impl Want {
    pub(super) fn amount(self) -> Amount {
        Amount { tokens: self.reserve, nano_usd: self.nano_usd }
    }
}

impl Account {
    /// Without limits.
    pub(super) fn new(windows: &Windows, percents: Arc<[u8]>) -> Self {
        Self {
            limits: Limits::default(),
            most: most_of(&Limits::default()),
            rate: None,
            tokens: None,
            changes: 0,
            in_flight: 0,
            arriving: 0,
            reserved: Amount::default(),
            day: Balance::new(windows.day.start_ms),
            month: Balance::new(windows.month.start_ms),
            percents,
        }
    }

    /// Replaces the limits. Rates keep what was used, balances and requests in flight stay.
    pub(super) fn set_limits(&mut self, limits: &Limits, burst: Option<u32>, mono_ns: u64) {
        self.changes += 1;
        match limits.rpm.and_then(NonZeroU32::new) {
            None => self.rate = None,
            Some(rpm) => match &mut self.rate {
                Some(rate) => rate.set_limit(rpm, burst, mono_ns),
                none => *none = Some(Rate::new(rpm, burst, self.changes)),
            },
        }
        match limits.tpm.filter(|tpm| *tpm > 0) {
            None => self.tokens = None,
            Some(tpm) => match &mut self.tokens {
                Some(bucket) => bucket.set_limit(tpm, mono_ns),
                none => *none = Some(TokenBucket::new(tpm, mono_ns, self.changes)),
            },
        }
        let all = |requests: Option<u64>, tokens: Option<u64>, nano_usd: Option<u64>| Used {
            requests: requests.unwrap_or(u64::MAX),
            tokens: tokens.unwrap_or(u64::MAX),
            nano_usd: nano_usd.unwrap_or(u64::MAX),
        };
        let day = all(limits.daily_requests, limits.daily_tokens, limits.daily_nano_usd);
        let month = all(limits.monthly_requests, limits.monthly_tokens, limits.monthly_nano_usd);
        self.day.set_quota(day, &self.percents);
        self.month.set_quota(month, &self.percents);
        self.limits = limits.clone();
        self.most = most_of(limits);
    }

    pub(super) fn load(&mut self, balances: &Balances) {
        self.day.load(balances.windows.day.start_ms, balances.daily, &self.percents);
        self.month.load(balances.windows.month.start_ms, balances.monthly, &self.percents);
    }

    /// Moves to other windows: those of another time zone, or of another clock.
    pub(super) fn rebase(&mut self, windows: &Windows, ledger: &Rebuilt) {
        let (running, percents) = ((self.reserved, self.in_flight), &self.percents);
        let (day_ms, month_ms) = (windows.day.start_ms, windows.month.start_ms);
        self.day.rebase(day_ms, ledger.old_daily, ledger.daily, running, percents);
        self.month.rebase(month_ms, ledger.old_monthly, ledger.monthly, running, percents);
    }

    pub(super) fn balances(&self, windows: Windows) -> Balances {
        Balances { windows, daily: self.day.used(), monthly: self.month.used() }
    }

    /// Of the day and of the month.
    pub(super) fn balances_kept(&self) -> [&Balance; 2] {
        [&self.day, &self.month]
    }

    /// Moves the balances on if their window has ended.
    #[inline]
    pub(super) fn enter(&mut self, windows: &Windows) {
        self.day.enter(windows.day.start_ms, &self.percents);
        self.month.enter(windows.month.start_ms, &self.percents);
    }

    /// The smallest limit that could not take the request even if nothing else were there, with its
    /// size and what is asked of it.
    pub(super) fn too_small(&self, want: Want) -> Option<(Kind, u64, u64)> {
        // Even nothing asks for one token, so that a limit of 0 refuses everything.
        let (prompt, reserve) = (want.prompt.max(1), want.reserve.max(1));
        let most = &self.most;
        if prompt <= most.prompt && reserve <= most.reserve && want.nano_usd <= most.nano_usd {
            return None;
        }
        let limits = &self.limits;
        // The rate takes any answer, as debt; a quota takes only what it can hold.
        let counts = [
            (Kind::Tokens, limits.tpm, prompt),
            (Kind::DailyTokens, limits.daily_tokens, reserve),
            (Kind::MonthlyTokens, limits.monthly_tokens, reserve),
            (Kind::Requests, limits.rpm.map(u64::from), 1),
            (Kind::Concurrency, limits.concurrency.map(u64::from), 1),
            (Kind::DailyRequests, limits.daily_requests, 1),
            (Kind::MonthlyRequests, limits.monthly_requests, 1),
        ];
        let costs = [
            (Kind::DailyUsd, limits.daily_nano_usd, want.nano_usd),
            (Kind::MonthlyUsd, limits.monthly_nano_usd, want.nano_usd),
        ];
        let smallest = |limits: &[(Kind, Option<u64>, u64)]| {
            let set =
                limits.iter().filter_map(|(kind, limit, asked)| Some((*kind, (*limit)?, *asked)));
            set.filter(|(_, limit, asked)| asked > limit).min_by_key(|(_, limit, _)| *limit)
        };
        // Dollars and counts can't be compared.
        smallest(&counts).or_else(|| smallest(&costs))
    }

    /// The quota that is used up, of several one that opens last; and when it opens.
    pub(super) fn used_up(&self, want: Want, windows: &Windows) -> Option<(Kind, i64)> {
        let (day, month) = (windows.day.end_ms, windows.month.end_ms);
        let amount = want.amount();
        if let Some(unit) = self.month.lacks(amount) {
            return Some((kind(Period::Month, unit), month));
        }
        self.day.lacks(amount).map(|unit| (kind(Period::Day, unit), day))
    }

    /// What the quotas have left; `u64::MAX` where there is none.
    pub(super) fn left(&self) -> Amount {
        self.day.left().min(self.month.left())
    }

    /// Are as many in flight, or about to be, as may be?
    pub(super) fn is_full(&self) -> bool {
        let running = self.in_flight.saturating_add(self.arriving);
        self.limits.concurrency.is_some_and(|most| running >= most)
    }

    /// One more whose body is on its way.
    pub(super) fn arrive(&mut self) {
        self.arriving = self.arriving.saturating_add(1);
    }

    /// The body of one of them is here, or will never be.
    pub(super) fn arrived(&mut self) {
        self.arriving = self.arriving.saturating_sub(1);
    }

    /// How long until a request would pass the rate, if there is one. Takes nothing.
    pub(super) fn request_wait(&mut self, mono_ns: u64) -> Option<Duration> {
        self.rate.as_mut()?.wait(mono_ns)
    }

    /// Takes a request from the rate, if there is one; or says how long until that will do.
    pub(super) fn spend_request(&mut self, mono_ns: u64) -> Result<Option<RateSpend>, Duration> {
        self.rate.as_mut().map(|rate| rate.spend(mono_ns)).transpose()
    }

    /// Undoes the latest [`Self::spend_request`] to the letter.
    pub(super) fn put_back(&mut self, spend: Option<RateSpend>) {
        if let (Some(rate), Some(spend)) = (&mut self.rate, spend) {
            rate.put_back(spend);
        }
    }

    /// How long until the token bucket has enough.
    pub(super) fn token_wait(&mut self, want: Want, mono_ns: u64) -> Option<Duration> {
        self.tokens.as_mut()?.wait(want.reserve, mono_ns)
    }

    pub(super) fn has_token_rate(&self) -> bool {
        self.tokens.is_some()
    }

    /// Takes the rest, after every check of both accounts said yes.
    pub(super) fn hold(
        &mut self,
        want: Want,
        rate: Option<RateSpend>,
        at_ms: i64,
        mono_ns: u64,
    ) -> Granted {
        let reserved = want.amount();
        self.in_flight = self.in_flight.saturating_add(1);
        self.reserved = self.reserved.plus(reserved);
        Granted {
            rate: rate.map(|spend| spend.receipt),
            tokens: self.tokens.as_mut().map(|bucket| bucket.spend(want.reserve, mono_ns)),
            reserved,
            day: self.day.reserve(reserved, at_ms),
            month: self.month.reserve(reserved, at_ms),
        }
    }

    /// Whether a request in flight may hold so much more.
    pub(super) fn has_room_for(&self, held: &Granted, more: Amount) -> bool {
        self.day.has_room_for(held.day, more) && self.month.has_room_for(held.month, more)
    }

    /// Makes a reservation larger. The token bucket is not asked: it takes any answer, as debt.
    pub(super) fn extend(&mut self, held: &mut Granted, more: Amount) {
        self.reserved = self.reserved.plus(more);
        self.day.extend(held.day, more);
        self.month.extend(held.month, more);
        held.reserved = held.reserved.plus(more);
    }

    /// The request has ended and used so much.
    pub(super) fn settle(&mut self, held: &Granted, used: Amount, mono_ns: u64) {
        if let (Some(bucket), Some(spend)) = (&mut self.tokens, held.tokens) {
            bucket.settle(spend, used.tokens, mono_ns);
        }
        self.book(held, used);
    }

    /// The request has ended and nobody knows what it used: all that was reserved. The token bucket
    /// keeps what it gave.
    pub(super) fn abandon(&mut self, held: &Granted) {
        self.book(held, held.reserved);
    }

    /// The request was never sent: everything comes back.
    pub(super) fn revoke(&mut self, held: &Granted, mono_ns: u64) {
        if let (Some(bucket), Some(spend)) = (&mut self.tokens, held.tokens) {
            bucket.settle(spend, 0, mono_ns);
        }
        if let (Some(rate), Some(receipt)) = (&mut self.rate, held.rate) {
            rate.give_back(receipt);
        }
        self.release(held);
        self.day.cancel(held.day, held.reserved);
        self.month.cancel(held.month, held.reserved);
    }

    /// Whether a threshold of a quota is crossed that nobody was told of.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.day.is_over() || self.month.is_over()
    }

    /// Tells of such thresholds: the quota, the highest percentage, what is used and the whole.
    pub(super) fn report_crossed(&mut self, mut told: impl FnMut(Kind, u8, u64, u64)) {
        for (period, balance) in [(Period::Day, &mut self.day), (Period::Month, &mut self.month)] {
            let (used, quota) = (balance.used(), balance.quota());
            balance.report_crossed(&self.percents, |unit, percent| {
                told(kind(period, unit), percent, used.of(unit), quota.of(unit));
            });
        }
    }

    /// The quotas of which a threshold was told in the windows that hold now: a bit for each of
    /// [`QUOTAS`](super::threshold_gauge::QUOTAS).
    pub(super) fn over(&self, windows: &Windows) -> u8 {
        let told = |balance: &Balance, start_ms: i64| match balance.start_ms() == start_ms {
            true => balance.alerted_units(),
            false => 0,
        };
        let day = told(&self.day, windows.day.start_ms);
        day | told(&self.month, windows.month.start_ms) << Unit::ALL.len()
    }

    /// Whether nothing is in flight, nor about to be.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.arriving == 0
    }

    pub(super) fn rate_limits(&self, mono_ns: u64) -> RateLimits {
        RateLimits {
            requests: self.rate.as_ref().map(|rate| rate.level(mono_ns)),
            tokens: self.tokens.as_ref().map(|bucket| bucket.level(mono_ns)),
        }
    }

    fn book(&mut self, held: &Granted, used: Amount) {
        self.release(held);
        self.day.settle(held.day, held.reserved, used);
        self.month.settle(held.month, held.reserved, used);
    }

    fn release(&mut self, held: &Granted) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.reserved = self.reserved.minus(held.reserved);
    }
}

/// How long a quota's window is.
#[derive(Clone, Copy, Debug)]
enum Period {
    Day,
    Month,
}

fn kind(period: Period, unit: Unit) -> Kind {
    match (period, unit) {
        (Period::Day, Unit::Requests) => Kind::DailyRequests,
        (Period::Day, Unit::Tokens) => Kind::DailyTokens,
        (Period::Day, Unit::NanoUsd) => Kind::DailyUsd,
        (Period::Month, Unit::Requests) => Kind::MonthlyRequests,
        (Period::Month, Unit::Tokens) => Kind::MonthlyTokens,
        (Period::Month, Unit::NanoUsd) => Kind::MonthlyUsd,
    }
}

/// The largest request that no limit is too small for: nearly every request is below it, and then
/// nobody has to ask each limit. It is 0 if one of the limits is.
fn most_of(limits: &Limits) -> Want {
    let least = |quotas: [Option<u64>; 2]| quotas.into_iter().flatten().min().unwrap_or(u64::MAX);
    let counts = [limits.daily_requests, limits.monthly_requests];
    let small = [limits.rpm, limits.concurrency].map(|limit| limit.map(u64::from));
    let blocked = counts.into_iter().chain(small).any(|limit| limit == Some(0));
    Want {
        prompt: if blocked { 0 } else { limits.tpm.unwrap_or(u64::MAX) },
        reserve: least([limits.daily_tokens, limits.monthly_tokens]),
        nano_usd: least([limits.daily_nano_usd, limits.monthly_nano_usd]),
    }
}
