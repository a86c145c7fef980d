//! All limits of one key, or of one tenant, side by side with what they hold.

use std::num::NonZeroU32;
use std::time::Duration;

use super::denied::{Kind, Standing};
use super::quota::{Balance, Balances};
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
    day: Balance,
    month: Balance,
}

/// What a request wants, made consistent: the reservation is never below the prompt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    pub(super) prompt: u64,
    pub(super) reserve: u64,
}

/// What one account gave to a request in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    rate: Option<RateReceipt>,
    tokens: Option<TokenSpend>,
    reserved: u64,
    day_start_ms: i64,
    month_start_ms: i64,
}

impl Account {
    /// Without limits.
    pub(super) fn new(windows: &Windows) -> Self {
        Self {
            limits: Limits::default(),
            most: most_of(&Limits::default()),
            rate: None,
            tokens: None,
            changes: 0,
            in_flight: 0,
            day: Balance::new(windows.day.start_ms),
            month: Balance::new(windows.month.start_ms),
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
        self.limits = limits.clone();
        self.most = most_of(limits);
    }

    pub(super) fn load(&mut self, balances: &Balances) {
        self.day.load(balances.windows.day.start_ms, balances.daily);
        self.month.load(balances.windows.month.start_ms, balances.monthly);
    }

    pub(super) fn balances(&self, windows: Windows) -> Balances {
        Balances { windows, daily: self.day.used(), monthly: self.month.used() }
    }

    /// Moves the balances on if their window has ended.
    pub(super) fn enter(&mut self, windows: &Windows) {
        self.day.enter(windows.day.start_ms);
        self.month.enter(windows.month.start_ms);
    }

    /// The smallest limit that could not take the request even if nothing else were there, with its
    /// size and what is asked of it.
    pub(super) fn too_small(&self, want: Want) -> Option<(Kind, u64, u64)> {
        // Even nothing asks for one token, so that a limit of 0 refuses everything.
        let (prompt, reserve) = (want.prompt.max(1), want.reserve.max(1));
        if prompt <= self.most.prompt && reserve <= self.most.reserve {
            return None;
        }
        let limits = &self.limits;
        // The rate takes any answer, as debt; a quota takes only what it can hold.
        [
            (Kind::Tokens, limits.tpm, prompt),
            (Kind::DailyTokens, limits.daily_tokens, reserve),
            (Kind::MonthlyTokens, limits.monthly_tokens, reserve),
            (Kind::Requests, limits.rpm.map(u64::from), 1),
            (Kind::Concurrency, limits.concurrency.map(u64::from), 1),
            (Kind::DailyRequests, limits.daily_requests, 1),
            (Kind::MonthlyRequests, limits.monthly_requests, 1),
        ]
        .into_iter()
        .filter_map(|(kind, limit, asked)| Some((kind, limit?, asked)))
        .filter(|(_, limit, asked)| asked > limit)
        .min_by_key(|(_, limit, _)| *limit)
    }

    /// The quota that is used up, of several one that opens last; and when it opens.
    pub(super) fn used_up(&self, want: Want, windows: &Windows) -> Option<(Kind, i64)> {
        let limits = &self.limits;
        let (day, month) = (windows.day.end_ms, windows.month.end_ms);
        if !self.month.fits_tokens(want.reserve, limits.monthly_tokens) {
            Some((Kind::MonthlyTokens, month))
        } else if !self.month.fits_request(limits.monthly_requests) {
            Some((Kind::MonthlyRequests, month))
        } else if !self.day.fits_tokens(want.reserve, limits.daily_tokens) {
            Some((Kind::DailyTokens, day))
        } else if !self.day.fits_request(limits.daily_requests) {
            Some((Kind::DailyRequests, day))
        } else {
            None
        }
    }

    /// Are as many in flight as may be?
    pub(super) fn is_full(&self) -> bool {
        self.limits.concurrency.is_some_and(|most| self.in_flight >= most)
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

    /// Takes the rest, after every check of both accounts said yes.
    pub(super) fn hold(
        &mut self,
        want: Want,
        rate: Option<RateSpend>,
        windows: &Windows,
        mono_ns: u64,
    ) -> Held {
        self.in_flight = self.in_flight.saturating_add(1);
        self.day.reserve(want.reserve);
        self.month.reserve(want.reserve);
        Held {
            rate: rate.map(|spend| spend.receipt),
            tokens: self.tokens.as_mut().map(|bucket| bucket.spend(want.reserve, mono_ns)),
            reserved: want.reserve,
            day_start_ms: windows.day.start_ms,
            month_start_ms: windows.month.start_ms,
        }
    }

    /// The request has ended and used so many tokens.
    pub(super) fn settle(&mut self, held: &Held, used: u64, mono_ns: u64) {
        if let (Some(bucket), Some(spend)) = (&mut self.tokens, held.tokens) {
            bucket.settle(spend, used, mono_ns);
        }
        self.book(held, used);
    }

    /// The request has ended and nobody knows what it used: all that was reserved. The token bucket
    /// keeps what it gave.
    pub(super) fn abandon(&mut self, held: &Held) {
        self.book(held, held.reserved);
    }

    /// The request was never sent: everything comes back.
    pub(super) fn revoke(&mut self, held: &Held, mono_ns: u64) {
        if let (Some(bucket), Some(spend)) = (&mut self.tokens, held.tokens) {
            bucket.settle(spend, 0, mono_ns);
        }
        if let (Some(rate), Some(receipt)) = (&mut self.rate, held.rate) {
            rate.give_back(receipt);
        }
        self.in_flight = self.in_flight.saturating_sub(1);
        self.day.cancel(held.day_start_ms, held.reserved);
        self.month.cancel(held.month_start_ms, held.reserved);
    }

    pub(super) fn standing(&self, mono_ns: u64) -> Standing {
        Standing {
            requests: self.rate.as_ref().map(|rate| rate.level(mono_ns)),
            tokens: self.tokens.as_ref().map(|bucket| bucket.level(mono_ns)),
        }
    }

    fn book(&mut self, held: &Held, used: u64) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.day.settle(held.day_start_ms, held.reserved, used);
        self.month.settle(held.month_start_ms, held.reserved, used);
    }
}

/// The largest request that no limit is too small for: nearly every request is below it, and then
/// nobody has to ask each limit. It is 0 if one of the limits is.
fn most_of(limits: &Limits) -> Want {
    let prompt = limits.tpm.unwrap_or(u64::MAX);
    let quotas = [limits.daily_tokens, limits.monthly_tokens];
    let reserve = quotas.into_iter().flatten().min().unwrap_or(u64::MAX);
    let counts = [limits.daily_requests, limits.monthly_requests];
    let small = [limits.rpm, limits.concurrency].map(|limit| limit.map(u64::from));
    let blocked = counts.into_iter().chain(small).any(|limit| limit == Some(0));
    Want { prompt: if blocked { 0 } else { prompt }, reserve }
}
