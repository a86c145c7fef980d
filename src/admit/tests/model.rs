//! A long random walk beside a model that is as plain as possible: a row per request in flight, a
//! map entry per day and month, a loop where the real thing has a counter.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::super::*;
use super::ms;
use crate::clock::{Clock, ManualClock};
use crate::tenancy::Limits;

const KEYS: usize = 2;
/// The model keeps the tenant beside its keys.
const TENANT: usize = KEYS;
const NS_PER_MS: u64 = 1_000_000;

#[derive(Clone, Debug)]
enum Op {
    Admit { key: usize, prompt: u64, output: u64 },
    Settle { which: prop::sample::Index, used: u64 },
    Revoke { which: prop::sample::Index },
    Drop { which: prop::sample::Index },
    SetLimits { account: usize, limits: Limits },
    Pass { ms: u64 },
    JumpBy { ms: i64 },
    Look,
}

#[derive(Clone, Copy, Default)]
struct Sums {
    requests: u64,
    tokens: u64,
    reserved: u64,
}

#[derive(Default)]
struct Account {
    limits: Limits,
    /// Nanoseconds until all requests are back.
    backlog_ns: u64,
    /// Tokens times 60,000, so that a millisecond brings exactly the limit.
    bucket: i128,
    days: HashMap<i64, Sums>,
    months: HashMap<i64, Sums>,
}

/// What an account remembers of a request in flight.
#[derive(Clone, Default)]
struct Taken {
    request: bool,
    tokens: Option<u64>,
}

struct InFlight {
    key: usize,
    reserve: u64,
    day: i64,
    month: i64,
    of_key: Taken,
    of_tenant: Taken,
}

struct Model {
    burst: Option<u32>,
    accounts: Vec<Account>,
    in_flight: Vec<InFlight>,
    /// The latest wall clock that anything asked with.
    seen_ms: i64,
}

fn day_of(unix_ms: i64) -> i64 {
    unix_ms.div_euclid(86_400_000)
}

fn month_of(unix_ms: i64) -> i64 {
    let date = jiff::Timestamp::from_millisecond(unix_ms).unwrap().to_zoned(TimeZone::UTC).date();
    i64::from(date.year()) * 12 + i64::from(date.month())
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

    /// The names of all limits that refuse, in the order of the rules; `true`: too large for ever.
    fn refusals(&self, key: usize, prompt: u64, reserve: u64) -> Vec<(Limit, bool)> {
        let (day, month) = (day_of(self.seen_ms), month_of(self.seen_ms));
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
            let today = account.days.get(&day).copied().unwrap_or_default();
            let now = account.months.get(&month).copied().unwrap_or_default();
            let (spent, month_spent) = (today.tokens + today.reserved, now.tokens + now.reserved);
            check(Kind::MonthlyTokens, limits.monthly_tokens, month_spent, reserve, whole);
            check(Kind::MonthlyRequests, limits.monthly_requests, now.requests, 1, 1);
            check(Kind::DailyTokens, limits.daily_tokens, spent, reserve, whole);
            check(Kind::DailyRequests, limits.daily_requests, today.requests, 1, 1);
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

    fn admit(&mut self, key: usize, reserve: u64) {
        let (day, month) = (day_of(self.seen_ms), month_of(self.seen_ms));
        let mut taken = [Taken::default(), Taken::default()];
        for (taken, index) in taken.iter_mut().zip([key, TENANT]) {
            for (sums, at) in [(0, day), (1, month)] {
                let account = &mut self.accounts[index];
                let map = if sums == 0 { &mut account.days } else { &mut account.months };
                let sums = map.entry(at).or_default();
                sums.requests += 1;
                sums.reserved += reserve;
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
        self.in_flight.push(InFlight { key, reserve, day, month, of_key, of_tenant });
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

    /// Ends a request: `tokens` booked, `bucket` of them used as far as the rate goes (`None`: it
    /// keeps what it gave), `count`: the request itself stays.
    fn end(&mut self, at: usize, tokens: u64, bucket: Option<u64>, count: bool) {
        let one = self.in_flight.swap_remove(at);
        for (index, taken) in [(one.key, one.of_key), (TENANT, one.of_tenant)] {
            let account = &mut self.accounts[index];
            for sums in [account.days.get_mut(&one.day), account.months.get_mut(&one.month)] {
                let sums = sums.expect("entered at admission");
                sums.reserved -= one.reserve;
                sums.tokens += tokens;
                sums.requests -= u64::from(!count);
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

    fn standing(&self, key: usize) -> Standing {
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
            Standing { requests, tokens }
        };
        Standing::tighter(level(Scope::Key), level(Scope::Tenant))
    }
}

/// Marks tokens that time has brought back; far above what the walk asks for.
const REFILLED: u64 = 1 << 60;

struct Walk {
    live: Arc<TenantLive>,
    slots: Vec<KeySlot>,
    permits: Vec<Permit>,
    clock: Clock,
    hand: Arc<ManualClock>,
    model: Model,
}

impl Walk {
    fn new(burst: Option<u32>) -> Self {
        let (clock, hand) = Clock::manual(ms("2026-01-30T20:00Z"));
        let settings = Settings { rpm_burst: burst, time_zone: TimeZone::UTC };
        let live = TenantLive::new(settings, clock.now());
        let slots = (0..KEYS).map(|key| live.key_slot(&format!("key_{key}"))).collect();
        let accounts = (0..=KEYS).map(|_| Account::default()).collect();
        let seen_ms = clock.now().unix_ms;
        let model = Model { burst, accounts, in_flight: Vec::new(), seen_ms };
        Self { live, slots, permits: Vec::new(), clock, hand, model }
    }

    fn step(&mut self, op: Op) {
        let now = self.clock.now();
        let pick = |which: prop::sample::Index, permits: &Vec<Permit>| {
            (!permits.is_empty()).then(|| which.index(permits.len()))
        };
        match op {
            Op::Admit { key, prompt, output } => self.admit(key, prompt, prompt + output),
            Op::Settle { which, used } => {
                let Some(at) = pick(which, &self.permits) else { return };
                self.permits.swap_remove(at).settle(used, now);
                self.model.end(at, used, Some(used), true);
            }
            Op::Revoke { which } => {
                let Some(at) = pick(which, &self.permits) else { return };
                self.permits.swap_remove(at).revoke(now);
                self.model.end(at, 0, Some(0), false);
            }
            Op::Drop { which } => {
                let Some(at) = pick(which, &self.permits) else { return };
                drop(self.permits.swap_remove(at));
                let reserve = self.model.in_flight[at].reserve;
                self.model.end(at, reserve, None, true);
            }
            Op::SetLimits { account: TENANT, limits } => {
                self.live.set_tenant_limits(&limits, now);
                self.model.set_limits(TENANT, &limits);
            }
            Op::SetLimits { account, limits } => {
                self.live.set_key_limits(self.slots[account], &limits, now);
                self.model.set_limits(account, &limits);
            }
            Op::Pass { ms } => {
                self.hand.advance_ms(ms);
                self.model.accounts.iter_mut().for_each(|account| account.pass(ms));
            }
            Op::JumpBy { ms } => self.hand.jump_to(now.unix_ms + ms),
            Op::Look => self.look(),
        }
    }

    fn admit(&mut self, key: usize, prompt: u64, reserve: u64) {
        let now = self.clock.now();
        self.model.seen_ms = self.model.seen_ms.max(now.unix_ms);
        let refusals = self.model.refusals(key, prompt, reserve);
        let ask = Ask { prompt_tokens: prompt, reserve_tokens: reserve };
        match self.live.admit(self.slots[key], ask, now) {
            Ok(permit) => {
                assert_eq!(refusals, [], "admitted against the model");
                self.model.admit(key, reserve);
                assert_eq!(permit.standing(), self.model.standing(key));
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
                assert_eq!(denied.standing(), self.model.standing(key));
            }
        }
    }

    /// Compares everything that can be seen without changing anything.
    fn compare(&self) {
        let totals = Totals {
            in_flight: self.model.in_flight.len() as u64,
            reserved_tokens: self.model.in_flight.iter().map(|one| one.reserve).sum(),
        };
        assert_eq!(self.live.totals(), totals);
        for (key, slot) in self.slots.iter().enumerate() {
            assert_eq!(self.live.standing(*slot, self.clock.now()), self.model.standing(key));
        }
    }

    /// Compares the balances, which moves the windows on.
    fn look(&mut self) {
        let now = self.clock.now();
        self.model.seen_ms = self.model.seen_ms.max(now.unix_ms);
        let (day, month) = (day_of(self.model.seen_ms), month_of(self.model.seen_ms));
        for (index, account) in self.model.accounts.iter().enumerate() {
            let balances = match index {
                TENANT => self.live.tenant_balances(now),
                key => self.live.balances(self.slots[key], now),
            };
            let sums = [
                (balances.daily, account.days.get(&day).copied().unwrap_or_default()),
                (balances.monthly, account.months.get(&month).copied().unwrap_or_default()),
            ];
            for (used, sums) in sums {
                assert_eq!((used.requests, used.tokens), (sums.requests, sums.tokens), "{index}");
            }
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
    )
        .prop_map(move |(rpm, tpm, concurrency, dt, mt, dr, mr)| Limits {
            rpm: narrow(rpm),
            tpm,
            concurrency: narrow(concurrency),
            daily_tokens: dt,
            monthly_tokens: mt,
            daily_requests: dr,
            monthly_requests: mr,
        })
}

fn op() -> impl Strategy<Value = Op> {
    let which = any::<prop::sample::Index>;
    prop_oneof![
        24 => (0..KEYS, 0u64..60, 0u64..500)
            .prop_map(|(key, prompt, output)| Op::Admit { key, prompt, output }),
        8 => (which(), 0u64..700).prop_map(|(which, used)| Op::Settle { which, used }),
        4 => which().prop_map(|which| Op::Revoke { which }),
        2 => which().prop_map(|which| Op::Drop { which }),
        2 => (0..=KEYS, limits()).prop_map(|(account, limits)| Op::SetLimits { account, limits }),
        6 => (0u64..3000).prop_map(|ms| Op::Pass { ms }),
        3 => (0u64..90_000).prop_map(|ms| Op::Pass { ms }),
        2 => (0u64..40_000_000).prop_map(|ms| Op::Pass { ms }),
        1 => (-200_000_000i64..200_000_000).prop_map(|ms| Op::JumpBy { ms }),
        2 => Just(Op::Look),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
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
        let settings = Settings { rpm_burst: burst, time_zone: TimeZone::UTC };
        let live = TenantLive::new(settings, now);
        let slot = live.key_slot("key_a");
        live.set_tenant_limits(&rates(tenant), now);
        live.set_key_limits(slot, &rates(key), now);
        for (prompt, output, used, pass_ms) in requests {
            let ask = Ask { prompt_tokens: prompt, reserve_tokens: prompt + output };
            now.mono_ns += pass_ms * NS_PER_MS + prompt;
            let permit = match live.admit(slot, ask, now) {
                Ok(permit) => permit,
                Err(Denied::Rate { limit, wait, standing }) => {
                    let wait_ns = u64::try_from(wait.as_nanos()).unwrap();
                    let after_s = Denied::Rate { limit, wait, standing }.retry_after_s().unwrap();
                    prop_assert!(wait_ns > 0 && wait_ns <= after_s * 1_000_000_000);
                    now.mono_ns += wait_ns - 1;
                    prop_assert!(live.admit(slot, ask, now).is_err(), "too early");
                    now.mono_ns += 1;
                    live.admit(slot, ask, now).expect("the wait is over")
                }
                Err(_) => continue,
            };
            permit.settle(used, now);
        }
    }
}

/// Whichever; the last loop only empties the list.
fn any_index() -> prop::sample::Index {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    any::<prop::sample::Index>().new_tree(&mut runner).expect("never rejects").current()
}
