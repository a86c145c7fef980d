//! A long random walk beside a model that is as plain as possible: a row per request, in flight or
//! booked, a search where the real thing divides, a loop where it has a counter.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::super::*;
use super::{ms, settings};
use crate::clock::{Clock, ManualClock, Now};
use crate::tenancy::Limits;

const KEYS: usize = 2;
/// The model keeps the tenant beside its keys.
const TENANT: usize = KEYS;
const NS_PER_MS: u64 = 1_000_000;

#[derive(Clone, Debug)]
enum Op {
    Admit {
        key: usize,
        prompt: u64,
        output: u64,
        pico: u64,
        choices: Option<u64>,
    },
    Extend {
        which: prop::sample::Index,
        tokens: u64,
    },
    Settle {
        which: prop::sample::Index,
        used: u64,
    },
    Revoke {
        which: prop::sample::Index,
    },
    Drop {
        which: prop::sample::Index,
    },
    SetLimits {
        account: usize,
        limits: Limits,
    },
    /// The ledger lags behind by so many rows.
    SetZone {
        zone: usize,
        lag: usize,
    },
    /// Some more keys follow to where the zone has led.
    MoveSome {
        keys: usize,
    },
    Pass {
        ms: u64,
    },
    JumpBy {
        ms: i64,
    },
    Look,
}

const ZONES: [&str; 4] = ["UTC", "Asia/Kolkata", "America/St_Johns", "Pacific/Kiritimati"];
/// The day, and the month.
const PERIODS: usize = 2;

#[derive(Clone, Copy, Default)]
struct Sums {
    used: Used,
    reserved: Amount,
}

/// What the ledger has of a request.
struct Row {
    key: usize,
    at_ms: i64,
    amount: Amount,
}

#[derive(Default)]
struct Account {
    limits: Limits,
    /// Nanoseconds until all requests are back.
    backlog_ns: u64,
    /// Tokens times 60,000, so that a millisecond brings exactly the limit.
    bucket: i128,
    periods: [Sums; PERIODS],
}

/// What an account remembers of a request in flight.
#[derive(Clone, Default)]
struct Taken {
    request: bool,
    tokens: Option<u64>,
}

struct InFlight {
    key: usize,
    reserved: Amount,
    at_ms: i64,
    /// As the balances have it.
    counts_ms: i64,
    /// Whether the reservation counts in the windows that are open.
    counts: [bool; PERIODS],
    of_key: Taken,
    of_tenant: Taken,
}

struct Model {
    burst: Option<u32>,
    accounts: Vec<Account>,
    in_flight: Vec<InFlight>,
    ledger: Vec<Row>,
    zone: TimeZone,
    windows: Windows,
    /// Rows of requests that count in these windows can begin before them, from here on.
    doubted_ms: Option<i64>,
}

/// So far ahead of the clock a window may lie.
const AHEAD_MS: i64 = 26 * 3_600_000;

fn spans(windows: &Windows) -> [(i64, i64); PERIODS] {
    [windows.day, windows.month].map(|window| (window.start_ms, window.end_ms))
}

/// What so many tokens cost, rounded up.
fn nano(tokens: u64, pico: u64) -> u64 {
    (tokens * pico).div_ceil(1000)
}

impl Account {
    fn interval(&self) -> u64 {
        60_000_000_000 / u64::from(self.limits.rpm.expect("asked only with a limit"))
    }

    fn size_ns(&self, burst: Option<u32>) -> u64 {
        self.interval() * u64::from(burst.or(self.limits.rpm).unwrap())
    }

    fn size(&self) -> i128 {
        i128::from(self.limits.tpm.unwrap_or(0)) * 60_000
    }

    fn has_rate(&self) -> bool {
        self.limits.rpm.is_some_and(|rpm| rpm > 0)
    }

    fn has_bucket(&self) -> bool {
        self.limits.tpm.is_some_and(|tpm| tpm > 0)
    }

    fn pass(&mut self, ms: u64) {
        self.backlog_ns = self.backlog_ns.saturating_sub(ms * NS_PER_MS);
        let gained = i128::from(ms) * i128::from(self.limits.tpm.unwrap_or(0));
        self.bucket = (self.bucket + gained).min(self.size());
    }
}

impl Model {
    fn account_of(&self, scope: Scope, key: usize) -> &Account {
        &self.accounts[if scope == Scope::Key { key } else { TENANT }]
    }

    fn in_flight_of(&self, account: usize) -> u64 {
        let of = |one: &&InFlight| account == TENANT || one.key == account;
        self.in_flight.iter().filter(of).count() as u64
    }

    /// The clock was looked at: if a later window has begun, it owes nothing to the one before.
    fn look_at(&mut self, now_ms: i64) {
        let windows = Windows::at(&self.zone, now_ms);
        if windows.day.start_ms <= self.windows.day.start_ms {
            return;
        }
        let before = std::mem::replace(&mut self.windows, windows);
        self.doubted_ms = None;
        let changed = spans(&before).into_iter().zip(spans(&windows)).map(|(old, new)| old != new);
        for (period, _) in changed.enumerate().filter(|(_, changed)| *changed) {
            self.accounts.iter_mut().for_each(|account| account.periods[period] = Sums::default());
            self.in_flight.iter_mut().for_each(|one| one.counts[period] = false);
        }
    }

    /// What the ledger has of an account in a span, its last `lag` rows not being there yet.
    fn in_ledger(&self, account: usize, (from, until): (i64, i64), lag: usize) -> Used {
        let rows = &self.ledger[..self.ledger.len().saturating_sub(lag)];
        let of = |row: &&Row| account == TENANT || row.key == account;
        let inside = |row: &&Row| (from..until).contains(&row.at_ms);
        rows.iter().filter(of).filter(inside).fold(Used::default(), |sum, row| {
            let Amount { tokens, nano_usd } = row.amount;
            sum.plus(Used { requests: 1, tokens, nano_usd })
        })
    }

    /// What is known of the new windows, and what the ledger does not know yet of the old ones.
    fn set_zone(&mut self, zone: TimeZone, windows: Windows, lag: usize) {
        let both: Vec<_> = spans(&self.windows).into_iter().zip(spans(&windows)).collect();
        let doubted = self.doubted_ms.take().map_or((0, 0), |from| (from, windows.day.end_ms));
        for (period, (old, new)) in both.into_iter().enumerate() {
            for account in 0..=TENANT {
                let known = self.in_ledger(account, old, lag);
                let known = known.plus(self.in_ledger(account, doubted, lag));
                let there = self.in_ledger(account, new, lag);
                let mine = |one: &&InFlight| account == TENANT || one.key == account;
                let reserved = self.in_flight.iter().filter(mine);
                let older = |one: &&InFlight| mine(one) && !one.counts[period];
                let older = self.in_flight.iter().filter(older).count() as u64;
                let reserved = reserved.fold(Amount::default(), |sum, one| sum.plus(one.reserved));
                let before = self.accounts[account].periods[period].used;
                let used = Used {
                    requests: there.requests
                        + before.requests.saturating_sub(known.requests)
                        + older,
                    tokens: there.tokens + before.tokens.saturating_sub(known.tokens),
                    nano_usd: there.nano_usd + before.nano_usd.saturating_sub(known.nano_usd),
                };
                self.accounts[account].periods[period] = Sums { used, reserved };
            }
        }
        self.in_flight.iter_mut().for_each(|one| one.counts = [true; PERIODS]);
        (self.zone, self.windows) = (zone, windows);
    }

    /// Whether the quotas of both have room for so much.
    fn has_room(&self, key: usize, more: Amount, counts: [bool; PERIODS]) -> bool {
        [key, TENANT].into_iter().all(|index| {
            let limits = &self.accounts[index].limits;
            let quotas = [
                (limits.daily_tokens, limits.daily_nano_usd),
                (limits.monthly_tokens, limits.monthly_nano_usd),
            ];
            (0..PERIODS).filter(|period| counts[*period]).all(|period| {
                let Sums { used, reserved } = self.accounts[index].periods[period];
                let (tokens, nano_usd) = quotas[period];
                tokens.is_none_or(|most| used.tokens + reserved.tokens + more.tokens <= most)
                    && nano_usd.is_none_or(|most| {
                        used.nano_usd + reserved.nano_usd + more.nano_usd <= most
                    })
            })
        })
    }

    fn has_quota(&self, key: usize) -> bool {
        [key, TENANT].into_iter().any(|index| {
            let limits = &self.accounts[index].limits;
            let quotas = [
                limits.daily_tokens,
                limits.monthly_tokens,
                limits.daily_nano_usd,
                limits.monthly_nano_usd,
            ];
            quotas.iter().any(Option::is_some)
        })
    }

    /// The names of all limits that refuse, in the order of the rules; `true`: too large for ever.
    fn refusals(&self, key: usize, prompt: u64, want: Amount) -> Vec<(Limit, bool)> {
        let Amount { tokens: reserve, nano_usd } = want;
        let mut all = Vec::new();
        for (scope, account) in [(Scope::Key, key), (Scope::Tenant, TENANT)] {
            let index = account;
            let account = &self.accounts[index];
            let limits = &account.limits;
            let mut check = |kind, limit: Option<u64>, taken: u64, asks: u64, whole: u64| {
                if let Some(limit) = limit
                    && (whole > limit || taken + asks > limit)
                {
                    all.push((Limit { scope, kind }, whole > limit));
                }
            };
            let (prompt, whole) = (prompt.max(1), reserve.max(1));
            let [today, now] = account.periods;
            let tokens = |sums: Sums| sums.used.tokens + sums.reserved.tokens;
            let cost = |sums: Sums| sums.used.nano_usd + sums.reserved.nano_usd;
            let (spent, month_spent) = (tokens(today), tokens(now));
            let (daily_usd, monthly_usd) = (limits.daily_nano_usd, limits.monthly_nano_usd);
            check(Kind::MonthlyUsd, monthly_usd, cost(now), nano_usd, nano_usd);
            check(Kind::DailyUsd, daily_usd, cost(today), nano_usd, nano_usd);
            check(Kind::MonthlyTokens, limits.monthly_tokens, month_spent, reserve, whole);
            check(Kind::MonthlyRequests, limits.monthly_requests, now.used.requests, 1, 1);
            check(Kind::DailyTokens, limits.daily_tokens, spent, reserve, whole);
            check(Kind::DailyRequests, limits.daily_requests, today.used.requests, 1, 1);
            let concurrency = limits.concurrency.map(u64::from);
            check(Kind::Concurrency, concurrency, self.in_flight_of(index), 1, 1);
            if limits.rpm == Some(0) {
                all.push((Limit { scope, kind: Kind::Requests }, true));
            } else if account.has_rate()
                && account.backlog_ns + account.interval() > account.size_ns(self.burst)
            {
                all.push((Limit { scope, kind: Kind::Requests }, false));
            }
            let wants = i128::from(reserve.min(limits.tpm.unwrap_or(0))) * 60_000;
            let never = limits.tpm.is_some_and(|tpm| prompt > tpm);
            if never || account.has_bucket() && wants > account.bucket {
                all.push((Limit { scope, kind: Kind::Tokens }, never));
            }
        }
        all
    }

    /// What the row says. `time_ms` is the time that is believed where the clock is behind.
    fn date(&mut self, now_ms: i64, time_ms: i64) -> i64 {
        let day = self.windows.day;
        if now_ms >= day.start_ms {
            return now_ms;
        }
        if day.start_ms - time_ms <= AHEAD_MS {
            return time_ms.clamp(day.start_ms, day.end_ms - 1);
        }
        self.doubted_ms = Some(self.doubted_ms.unwrap_or(i64::MAX).min(time_ms));
        time_ms
    }

    fn admit(&mut self, key: usize, reserved: Amount, (now_ms, time_ms): (i64, i64)) {
        let reserve = reserved.tokens;
        let mut taken = [Taken::default(), Taken::default()];
        for (taken, index) in taken.iter_mut().zip([key, TENANT]) {
            for sums in &mut self.accounts[index].periods {
                sums.used.requests += 1;
                sums.reserved = sums.reserved.plus(reserved);
            }
            if self.accounts[index].has_rate() {
                if self.accounts[index].backlog_ns == 0 {
                    self.each_taken(index, |taken| taken.request = false);
                }
                self.accounts[index].backlog_ns += self.accounts[index].interval();
                taken.request = true;
            }
            if self.accounts[index].has_bucket() {
                let tokens = reserve.min(self.accounts[index].limits.tpm.unwrap());
                self.take(index, tokens);
                taken.tokens = Some(tokens);
            }
        }
        let [of_key, of_tenant] = taken;
        let at_ms = self.date(now_ms, time_ms);
        let counts_ms = at_ms.max(self.windows.day.start_ms);
        let counts = [true; PERIODS];
        self.in_flight.push(InFlight {
            key,
            reserved,
            at_ms,
            counts_ms,
            counts,
            of_key,
            of_tenant,
        });
    }

    /// Takes tokens; out of a full bucket, nobody before has anything left to get back: what was
    /// taken counts as used, all of it.
    fn take(&mut self, index: usize, tokens: u64) {
        let account = &self.accounts[index];
        if tokens > 0 && account.bucket == account.size() {
            self.each_taken(index, |taken| {
                taken.tokens = taken.tokens.map(|tokens| tokens | REFILLED);
            });
        }
        self.accounts[index].bucket -= i128::from(tokens) * 60_000;
    }

    fn each_taken(&mut self, index: usize, change: impl Fn(&mut Taken)) {
        for one in &mut self.in_flight {
            if index == TENANT {
                change(&mut one.of_tenant);
            } else if one.key == index {
                change(&mut one.of_key);
            }
        }
    }

    fn extend(&mut self, at: usize, more: Amount) {
        let one = &mut self.in_flight[at];
        one.reserved = one.reserved.plus(more);
        let (key, counts) = (one.key, one.counts);
        for index in [key, TENANT] {
            for (sums, counts) in self.accounts[index].periods.iter_mut().zip(counts) {
                if counts {
                    sums.reserved = sums.reserved.plus(more);
                }
            }
        }
    }

    /// Ends a request: `tokens` booked, `bucket` of them used as far as the rate goes (`None`: it
    /// keeps what it gave), `count`: the request itself stays.
    fn end(&mut self, at: usize, amount: Amount, bucket: Option<u64>, count: bool) {
        let one = self.in_flight.swap_remove(at);
        if count {
            self.ledger.push(Row { key: one.key, at_ms: one.at_ms, amount });
        }
        let starts = spans(&self.windows).map(|(start, _)| start);
        for (index, taken) in [(one.key, one.of_key), (TENANT, one.of_tenant)] {
            let account = &mut self.accounts[index];
            for (period, sums) in account.periods.iter_mut().enumerate() {
                if one.counts[period] {
                    sums.reserved = sums.reserved.minus(one.reserved);
                }
                if one.counts_ms >= starts[period] {
                    sums.used.tokens += amount.tokens;
                    sums.used.nano_usd += amount.nano_usd;
                    sums.used.requests = sums.used.requests.saturating_sub(u64::from(!count));
                }
            }
            if taken.request && !count && account.has_rate() {
                account.backlog_ns = account.backlog_ns.saturating_sub(account.interval());
            }
            if let (Some(used), Some(marked)) = (bucket, taken.tokens)
                && account.has_bucket()
            {
                let (taken, refilled) = (marked & !REFILLED, marked & REFILLED != 0);
                if used > taken {
                    self.take(index, used - taken);
                } else if !refilled {
                    let level = account.bucket + i128::from(taken - used) * 60_000;
                    account.bucket = level.min(account.size());
                }
            }
        }
    }

    fn set_limits(&mut self, index: usize, limits: &Limits) {
        let burst = self.burst;
        let account = &mut self.accounts[index];
        let (had_rate, had_bucket) = (account.has_rate(), account.has_bucket());
        let old_interval = if had_rate { account.interval() } else { 1 };
        let old_size = account.size();
        account.limits = limits.clone();
        if had_rate && account.has_rate() {
            if account.interval() != old_interval {
                let scaled = u128::from(account.backlog_ns) * u128::from(account.interval());
                account.backlog_ns = scaled.div_ceil(u128::from(old_interval)) as u64;
            }
            account.backlog_ns = account.backlog_ns.min(account.size_ns(burst));
        } else {
            account.backlog_ns = 0;
        }
        if had_bucket && account.has_bucket() {
            let debt = account.bucket.min(0);
            account.bucket = (account.bucket + account.size() - old_size).max(debt);
        } else {
            account.bucket = account.size();
        }
        let (lost_rate, lost_bucket) = (!account.has_rate(), !account.has_bucket());
        self.each_taken(index, |taken| {
            taken.request &= !lost_rate;
            taken.tokens = taken.tokens.filter(|_| !lost_bucket);
        });
    }

    fn rate_limits(&self, key: usize) -> RateLimits {
        let level = |scope| {
            let account = self.account_of(scope, key);
            let requests = account.has_rate().then(|| Level {
                limit: u64::from(account.limits.rpm.unwrap()),
                remaining: (account.size_ns(self.burst) - account.backlog_ns) / account.interval(),
                reset: Duration::from_nanos(account.backlog_ns),
            });
            let tokens = account.has_bucket().then(|| {
                let tpm = account.limits.tpm.unwrap();
                let missing = (account.size() - account.bucket) as u128 * u128::from(NS_PER_MS);
                Level {
                    limit: tpm,
                    remaining: (account.bucket.max(0) / 60_000) as u64,
                    reset: Duration::from_nanos(missing.div_ceil(u128::from(tpm)) as u64),
                }
            });
            RateLimits { requests, tokens }
        };
        RateLimits::tighter(level(Scope::Key), level(Scope::Tenant))
    }
}

/// Marks tokens that time has brought back; far above what the walk asks for.
const REFILLED: u64 = 1 << 60;

struct Walk {
    live: Arc<TenantLimiter>,
    alerting: Arc<Alerting>,
    slots: Vec<KeySlot>,
    permits: Vec<Permit>,
    clock: Clock,
    hand: Arc<ManualClock>,
    /// When the time was confirmed.
    start: Now,
    model: Model,
}

impl Walk {
    fn new(burst: Option<u32>) -> Self {
        let (clock, hand) = Clock::manual(ms("2026-01-30T20:00Z"));
        let settings = settings(burst, TimeZone::UTC, clock.now());
        let alerting = settings.alerting.clone();
        let live = TenantLimiter::new("acme".into(), settings, clock.now());
        let slots = (0..KEYS).map(|key| live.key_slot(&format!("key_{key}"))).collect();
        let accounts = (0..=KEYS).map(|_| Account::default()).collect();
        let zone = TimeZone::UTC;
        let windows = Windows::at(&zone, clock.now().unix_ms);
        let (in_flight, ledger) = (Vec::new(), Vec::new());
        let model = Model { burst, accounts, in_flight, ledger, zone, windows, doubted_ms: None };
        let (permits, start) = (Vec::new(), clock.now());
        Self { live, alerting, slots, permits, clock, hand, start, model }
    }

    fn step(&mut self, op: Op) {
        let now = self.clock.now();
        let pick = |which: prop::sample::Index, permits: &Vec<Permit>| {
            (!permits.is_empty()).then(|| which.index(permits.len()))
        };
        match op {
            Op::Admit { key, prompt, output, pico, choices } => {
                self.admit(key, prompt, output, pico, choices);
            }
            Op::Extend { which, tokens } => {
                let Some(at) = pick(which, &self.permits) else { return };
                let more = Amount { tokens, nano_usd: nano(tokens, 2_000) };
                self.model.look_at(now.unix_ms);
                let one = &self.model.in_flight[at];
                let fits = self.model.has_room(one.key, more, one.counts);
                assert_eq!(self.permits[at].extend(more.tokens, more.nano_usd, now), fits);
                if fits {
                    self.model.extend(at, more);
                }
                assert_eq!(
                    self.permits[at].reserved_tokens(),
                    self.model.in_flight[at].reserved.tokens
                );
            }
            Op::Settle { which, used } => {
                let Some(at) = pick(which, &self.permits) else { return };
                let amount = Amount { tokens: used, nano_usd: nano(used, 2_500) };
                self.permits.swap_remove(at).settle(used, amount.nano_usd, now);
                self.model.end(at, amount, Some(used), true);
            }
            Op::Revoke { which } => {
                let Some(at) = pick(which, &self.permits) else { return };
                self.permits.swap_remove(at).revoke(now);
                self.model.end(at, Amount::default(), Some(0), false);
            }
            Op::Drop { which } => {
                let Some(at) = pick(which, &self.permits) else { return };
                drop(self.permits.swap_remove(at));
                let reserved = self.model.in_flight[at].reserved;
                self.model.end(at, reserved, None, true);
            }
            Op::SetLimits { account: TENANT, limits } => {
                self.model.look_at(now.unix_ms);
                self.live.set_tenant_limits(&limits, now);
                self.model.set_limits(TENANT, &limits);
            }
            Op::SetLimits { account, limits } => {
                self.model.look_at(now.unix_ms);
                self.model.set_limits(account, &limits);
                self.live.set_key_limits(self.slots[account], &limits.into(), now);
            }
            Op::SetZone { zone, lag } => self.set_zone(zone, lag),
            Op::MoveSome { keys } => drop(self.live.move_some(keys)),
            Op::Pass { ms } => {
                self.hand.advance_ms(ms);
                self.model.accounts.iter_mut().for_each(|account| account.pass(ms));
            }
            Op::JumpBy { ms } => self.hand.jump_to(now.unix_ms + ms),
            Op::Look => self.look(),
        }
    }

    fn set_zone(&mut self, zone: usize, lag: usize) {
        let now = self.clock.now();
        self.model.look_at(now.unix_ms);
        let zone = TimeZone::get(ZONES[zone]).expect("a zone of the time zone database");
        let old = self.live.windows(now);
        let doubted_ms = self.model.doubted_ms;
        assert_eq!(old, OpenWindows { windows: self.model.windows, doubted_ms });
        let time_ms = self.time_ms();
        let day_ms = old.windows.day.start_ms;
        let is_believed = day_ms - time_ms <= AHEAD_MS;
        let new = Windows::at(&zone, if is_believed { time_ms.max(day_ms) } else { time_ms });
        let doubted = doubted_ms.map_or((0, 0), |from_ms| (from_ms, new.day.end_ms));
        let model = &self.model;
        let rebuilt = |account| {
            let [old_day, old_month] = spans(&old.windows);
            let doubted = model.in_ledger(account, doubted, lag);
            let [day, month] = spans(&new);
            Rebuilt {
                old_daily: model.in_ledger(account, old_day, lag).plus(doubted),
                old_monthly: model.in_ledger(account, old_month, lag).plus(doubted),
                daily: model.in_ledger(account, day, lag),
                monthly: model.in_ledger(account, month, lag),
            }
        };
        let rebuilt: Vec<_> = (0..=TENANT).map(rebuilt).collect();
        let ledger = move |key_id: Option<&str>| {
            let account = key_id.map_or(TENANT, |id| id["key_".len()..].parse().expect("ours"));
            rebuilt[account]
        };
        // The keys follow while the walk goes on; to the model they are there.
        while self.live.move_some(1) {}
        assert!(self.live.begin_move(zone.clone(), old, new, Box::new(ledger)));
        self.model.set_zone(zone, new, lag);
    }

    /// The wall clock, or what the monotonic clock makes of its start.
    fn time_ms(&self) -> i64 {
        let now = self.clock.now();
        let passed_ms = (now.mono_ns - self.start.mono_ns) / NS_PER_MS;
        now.unix_ms.max(self.start.unix_ms + passed_ms as i64)
    }

    fn admit(&mut self, key: usize, prompt: u64, output: u64, pico: u64, choices: Option<u64>) {
        let now = self.clock.now();
        self.model.look_at(now.unix_ms);
        let count = choices.unwrap_or(1);
        let reserve = prompt + output * count;
        let mut want = Amount { tokens: reserve, nano_usd: nano(reserve, pico) };
        let clamp = choices.map(|choices| Clamp {
            choices,
            prompt_nano_usd: nano(prompt, pico),
            output_pico_usd: pico,
        });
        let mut clamped = None;
        if clamp.is_some() && self.model.has_quota(key) {
            let of = |output: u64| Amount {
                tokens: prompt + output * count,
                nano_usd: nano(prompt, pico) + nano(output * count, pico),
            };
            let fits = |output: &u64| self.model.has_room(key, of(*output), [true; PERIODS]);
            let most = (0..=output).rev().find(fits).unwrap_or(0).max(output.min(16));
            clamped = Some(most);
            if most < output {
                want.nano_usd = want.nano_usd.min(of(most).nano_usd);
                want.tokens = of(most).tokens;
            }
        }
        let refusals = self.model.refusals(key, prompt, want);
        let ask = Demand {
            prompt_tokens: prompt,
            reserve_tokens: reserve,
            reserve_nano_usd: nano(reserve, pico),
            clamp,
        };
        match self.live.admit(self.slots[key], ask, now) {
            Ok(permit) => {
                assert_eq!(refusals, [], "admitted against the model");
                assert_eq!(permit.clamp(), clamped);
                assert_eq!(permit.reserved_nano_usd(), want.nano_usd);
                let time_ms = self.time_ms();
                self.model.admit(key, want, (now.unix_ms, time_ms));
                assert_eq!(permit.rate_limits(), self.model.rate_limits(key));
                self.permits.push(permit);
            }
            Err(denied) => {
                let limit = denied.limit();
                let never = matches!(denied, Denied::TooLarge { .. });
                assert!(refusals.contains(&(limit, never)), "{denied:?}, model: {refusals:?}");
                // Nothing of a more serious kind may have been passed over.
                let weight = |limit: Limit, never| match (limit.kind, never) {
                    (_, true) => 0,
                    (Kind::Concurrency, _) => 2,
                    (Kind::Requests | Kind::Tokens, _) => 3,
                    _ => 1,
                };
                let worst = refusals.iter().map(|(limit, never)| weight(*limit, *never)).min();
                assert_eq!(worst, Some(weight(limit, never)), "{denied:?}, model: {refusals:?}");
                assert_eq!(denied.rate_limits(), self.model.rate_limits(key));
            }
        }
    }

    /// The gauge of thresholds says what a walk over all accounts finds.
    fn compare_over(&self) {
        let now_ms = self.clock.now().unix_ms;
        let mut expected = std::collections::HashMap::new();
        self.live.each_over(now_ms, |limit| *expected.entry(limit).or_insert(0) += 1);
        for (limit, count) in self.alerting.over(now_ms) {
            assert_eq!(count, expected.remove(&limit).unwrap_or(0), "{limit:?}");
        }
        assert!(expected.is_empty(), "{expected:?}");
    }

    /// Compares everything that can be seen without changing anything.
    fn compare(&self) {
        let totals = Totals {
            in_flight: self.model.in_flight.len() as u64,
            arriving: 0,
            reserved: self
                .model
                .in_flight
                .iter()
                .fold(Amount::default(), |sum, one| sum.plus(one.reserved)),
        };
        assert_eq!(self.live.totals(), totals);
        for (key, slot) in self.slots.iter().enumerate() {
            assert_eq!(self.live.rate_limits(*slot, self.clock.now()), self.model.rate_limits(key));
        }
    }

    /// Compares the balances, which moves the windows on.
    fn look(&mut self) {
        self.compare_over();
        let now = self.clock.now();
        self.model.look_at(now.unix_ms);
        for (index, account) in self.model.accounts.iter().enumerate() {
            let balances = match index {
                TENANT => self.live.tenant_balances(now),
                key => self.live.balances(self.slots[key], now),
            };
            assert_eq!(balances.windows, self.model.windows);
            let [day, month] = account.periods.map(|sums| sums.used);
            assert_eq!((balances.daily, balances.monthly), (day, month), "{index}");
        }
    }
}

fn limits() -> impl Strategy<Value = Limits> {
    fn maybe(values: std::ops::Range<u64>) -> impl Strategy<Value = Option<u64>> {
        prop_oneof![3 => Just(None), 4 => values.prop_map(Some)]
    }
    fn rarely(values: std::ops::Range<u64>) -> impl Strategy<Value = Option<u64>> {
        prop_oneof![9 => Just(None), 2 => values.prop_map(Some)]
    }
    let narrow = |value: Option<u64>| value.map(|value| u32::try_from(value).unwrap());
    (
        maybe(0..40),
        maybe(0..1500),
        rarely(0..6),
        rarely(100..5000),
        rarely(100..9000),
        rarely(0..12),
        rarely(0..30),
        rarely(200..15_000),
        rarely(200..25_000),
    )
        .prop_map(move |(rpm, tpm, concurrency, dt, mt, dr, mr, du, mu)| Limits {
            rpm: narrow(rpm),
            tpm,
            concurrency: narrow(concurrency),
            daily_tokens: dt,
            monthly_tokens: mt,
            daily_requests: dr,
            monthly_requests: mr,
            daily_nano_usd: du,
            monthly_nano_usd: mu,
        })
}

/// Trillionths of a dollar per token.
fn prices() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(700), Just(3_000)]
}

fn op() -> impl Strategy<Value = Op> {
    let which = any::<prop::sample::Index>;
    prop_oneof![
        24 => (0..KEYS, 0u64..60, 0u64..500, prices(), prop::option::of(1u64..4)).prop_map(
            |(key, prompt, output, pico, choices)| Op::Admit { key, prompt, output, pico, choices }
        ),
        3 => (which(), 0u64..300).prop_map(|(which, tokens)| Op::Extend { which, tokens }),
        8 => (which(), 0u64..700).prop_map(|(which, used)| Op::Settle { which, used }),
        4 => which().prop_map(|which| Op::Revoke { which }),
        2 => which().prop_map(|which| Op::Drop { which }),
        2 => (0..=KEYS, limits()).prop_map(|(account, limits)| Op::SetLimits { account, limits }),
        1 => (0..ZONES.len(), 0usize..5).prop_map(|(zone, lag)| Op::SetZone { zone, lag }),
        1 => (1..=KEYS).prop_map(|keys| Op::MoveSome { keys }),
        6 => (0u64..3000).prop_map(|ms| Op::Pass { ms }),
        3 => (0u64..90_000).prop_map(|ms| Op::Pass { ms }),
        2 => (0u64..40_000_000).prop_map(|ms| Op::Pass { ms }),
        1 => (-200_000_000i64..200_000_000).prop_map(|ms| Op::JumpBy { ms }),
        2 => Just(Op::Look),
    ]
}

/// Walks; as many as `WEIR_TORTURE_ROUNDS` says, if that is more.
fn cases() -> u32 {
    let rounds = std::env::var("WEIR_TORTURE_ROUNDS").ok().and_then(|text| text.parse().ok());
    rounds.unwrap_or(0).max(300)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn walks_like_its_model(
        burst in prop::option::of(1u32..10),
        start in prop::collection::vec(limits(), KEYS + 1),
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let mut walk = Walk::new(burst);
        for (account, limits) in start.into_iter().enumerate() {
            walk.step(Op::SetLimits { account, limits });
        }
        for op in ops {
            walk.step(op);
            walk.compare();
        }
        while !walk.permits.is_empty() {
            walk.step(Op::Settle { which: any_index(), used: 7 });
        }
        walk.look();
        walk.compare();
        prop_assert_eq!(walk.live.totals(), Totals::default());
        // A key that goes, and a tenant, take with them what they added.
        let Walk { live, alerting, slots, clock, .. } = walk;
        slots.into_iter().for_each(|slot| live.leave(slot));
        prop_assert_eq!(live.slots(), (0, 0));
        let over = || alerting.over(clock.now().unix_ms);
        prop_assert!(over().all(|(limit, count)| limit.scope == Scope::Tenant || count == 0));
        drop(live);
        prop_assert_eq!(alerting.over.windows(), 0);
    }

    /// After the wait that a refusal tells the request succeeds, and not a nanosecond earlier.
    #[test]
    fn the_wait_is_the_true_one(
        burst in prop::option::of(1u32..10),
        key in limits(),
        tenant in limits(),
        requests in prop::collection::vec((1u64..60, 0u64..500, 0u64..700, 0u64..2000), 1..60),
    ) {
        let rates = |all: Limits| Limits { rpm: all.rpm, tpm: all.tpm, ..Limits::default() };
        let mut now = Clock::manual(0).0.now();
        let live = TenantLimiter::new("acme".into(), settings(burst, TimeZone::UTC, now), now);
        let slot = live.key_slot("key_a");
        live.set_tenant_limits(&rates(tenant), now);
        live.set_key_limits(slot, &rates(key).into(), now);
        for (prompt, output, used, pass_ms) in requests {
            let ask = super::ask(prompt, prompt + output);
            now.mono_ns += pass_ms * NS_PER_MS + prompt;
            let permit = match live.admit(slot, ask, now) {
                Ok(permit) => permit,
                Err(Denied::Rate { limit, wait, rate_limits }) => {
                    let wait_ns = u64::try_from(wait.as_nanos()).unwrap();
                    let after_s = Denied::Rate { limit, wait, rate_limits }.retry_after_s().unwrap();
                    prop_assert!(wait_ns > 0 && wait_ns <= after_s * 1_000_000_000);
                    now.mono_ns += wait_ns - 1;
                    prop_assert!(live.admit(slot, ask, now).is_err(), "too early");
                    now.mono_ns += 1;
                    live.admit(slot, ask, now).expect("the wait is over")
                }
                Err(_) => continue,
            };
            permit.settle(used, 0, now);
        }
    }
}

/// Whichever; the last loop only empties the list.
fn any_index() -> prop::sample::Index {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    any::<prop::sample::Index>().new_tree(&mut runner).expect("never rejects").current()
}
