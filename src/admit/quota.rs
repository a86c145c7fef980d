//! What has been used in a day or a month, what is set aside for requests in flight, and how much
//! there may be of both.

use super::window::Windows;

/// What requests have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) requests: u64,
    pub(crate) tokens: u64,
    /// Billionths of a dollar.
    pub(crate) nano_usd: u64,
}

/// What a key or a tenant has used in the windows that hold now, as the ledger knows it at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Balances {
    /// The windows that the sums are about, from [`Windows::at`].
    pub(crate) windows: Windows,
    pub(crate) daily: Used,
    pub(crate) monthly: Used,
}

/// What the ledger has of a key in the windows that are left, as far as they count it, and in those
/// that take their place, both read in one transaction: see [`Balance::rebase`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rebuilt {
    pub(crate) old_daily: Used,
    pub(crate) old_monthly: Used,
    pub(crate) daily: Used,
    pub(crate) monthly: Used,
}

/// What is set aside for a request, beside the request itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) tokens: u64,
    pub(super) nano_usd: u64,
}

/// What a quota counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Requests,
    Tokens,
    NanoUsd,
}

/// Where a reservation was made: what [`Balance`] needs to end it in the right window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entered {
    /// When the request began, in Unix milliseconds; not before the window that was open then.
    at_ms: i64,
    era: u32,
}

/// The balance of one window. Kept whether there is a quota or not, so that one that is set in the
/// middle of a month counts from its first day.
#[derive(Clone, Copy, Debug)]
pub(super) struct Balance {
    /// The window's start in Unix milliseconds.
    start_ms: i64,
    /// A request counts from its admission, whatever its end.
    used: Used,
    /// Of requests in flight that count in this window.
    reserved: Amount,
    /// How many requests these are.
    running: u32,
    /// Grows with every window.
    era: u32,
    /// Reservations of this era and later ones are in `reserved`.
    counts_from: u32,
    /// The most that may be used; `u64::MAX` is not limited.
    quota: Used,
    /// From these amounts on somebody is to be told; `u64::MAX`: never.
    alert_at: Used,
    /// The highest threshold that was told in this window, in percent; by [`Unit`].
    told: [u8; Unit::ALL.len()],
}

impl Unit {
    pub(super) const ALL: [Self; 3] = [Self::Requests, Self::Tokens, Self::NanoUsd];
}

impl Used {
    /// No limit at all, as a quota.
    pub(super) const UNLIMITED: Self =
        Self { requests: u64::MAX, tokens: u64::MAX, nano_usd: u64::MAX };

    pub(super) fn of(&self, unit: Unit) -> u64 {
        match unit {
            Unit::Requests => self.requests,
            Unit::Tokens => self.tokens,
            Unit::NanoUsd => self.nano_usd,
        }
    }

    fn of_mut(&mut self, unit: Unit) -> &mut u64 {
        match unit {
            Unit::Requests => &mut self.requests,
            Unit::Tokens => &mut self.tokens,
            Unit::NanoUsd => &mut self.nano_usd,
        }
    }

    /// Both together; stops at the largest number.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            tokens: self.tokens.saturating_add(other.tokens),
            nano_usd: self.nano_usd.saturating_add(other.nano_usd),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(other.requests),
            tokens: self.tokens.saturating_sub(other.tokens),
            nano_usd: self.nano_usd.saturating_sub(other.nano_usd),
        }
    }
}

impl Amount {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_add(other.tokens),
            nano_usd: self.nano_usd.saturating_add(other.nano_usd),
        }
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_sub(other.tokens),
            nano_usd: self.nano_usd.saturating_sub(other.nano_usd),
        }
    }

    /// Of each the smaller.
    pub(super) fn min(self, other: Self) -> Self {
        Self { tokens: self.tokens.min(other.tokens), nano_usd: self.nano_usd.min(other.nano_usd) }
    }
}

impl Balance {
    pub(super) fn new(start_ms: i64) -> Self {
        Self {
            start_ms,
            used: Used::default(),
            reserved: Amount::default(),
            running: 0,
            era: 1,
            counts_from: 1,
            quota: Used::UNLIMITED,
            alert_at: Used::UNLIMITED,
            told: [0; Unit::ALL.len()],
        }
    }

    /// Starts afresh if a later window has begun.
    #[inline]
    pub(super) fn enter(&mut self, start_ms: i64, percents: &[u8]) {
        if start_ms > self.start_ms {
            let era = self.era.wrapping_add(1);
            *self = Self { era, counts_from: era, quota: self.quota, ..Self::new(start_ms) };
            self.arm(percents);
        }
    }

    /// Takes over what was used before this process; ignored if its window has ended. Thresholds that
    /// this crosses were told by whoever used it.
    pub(super) fn load(&mut self, start_ms: i64, used: Used, percents: &[u8]) {
        self.enter(start_ms, percents);
        if start_ms == self.start_ms {
            self.used = used;
            self.mark_crossed(percents);
        }
    }

    /// Moves to another window, because the time zone has changed or the clock was wrong. What it has
    /// used is what the ledger has of it (`new`), and what memory knows beyond the ledger (`old`: the
    /// ledger's sum of the window that is left): requests in flight, and those whose rows are on
    /// their way. Whatever is in flight (`reserved`, of `running` requests) counts here.
    pub(super) fn rebase(
        &mut self,
        start_ms: i64,
        old: Used,
        new: Used,
        (reserved, running): (Amount, u32),
        percents: &[u8],
    ) {
        self.used = new.plus(self.used.minus(old));
        // Those that began before the window that ends are neither in it nor in the ledger.
        let older = running.saturating_sub(self.running);
        self.used.requests = self.used.requests.saturating_add(older.into());
        self.running = running;
        self.start_ms = start_ms;
        self.era = self.era.wrapping_add(1);
        self.counts_from = 0;
        self.reserved = reserved;
        self.mark_crossed(percents);
    }

    /// Replaces the quota. A threshold that is not crossed any more can be crossed again.
    pub(super) fn set_quota(&mut self, quota: Used, percents: &[u8]) {
        self.quota = quota;
        for unit in Unit::ALL {
            let crossed = self.crossed(unit, percents);
            let told = &mut self.told[unit as usize];
            *told = crossed.min(*told);
        }
        self.arm(percents);
    }

    /// What has no room for so much more and another request.
    #[inline]
    pub(super) fn lacks(&self, want: Amount) -> Option<Unit> {
        let taken = self.taken().plus(want);
        if taken.tokens > self.quota.tokens {
            Some(Unit::Tokens)
        } else if self.used.requests >= self.quota.requests {
            Some(Unit::Requests)
        } else if taken.nano_usd > self.quota.nano_usd {
            Some(Unit::NanoUsd)
        } else {
            None
        }
    }

    /// How much could be set aside now; `u64::MAX` where there is no limit.
    pub(super) fn left(&self) -> Amount {
        let taken = self.taken();
        let left = |quota: u64, taken: u64| match quota {
            u64::MAX => u64::MAX,
            quota => quota.saturating_sub(taken),
        };
        Amount {
            tokens: left(self.quota.tokens, taken.tokens),
            nano_usd: left(self.quota.nano_usd, taken.nano_usd),
        }
    }

    fn taken(&self) -> Amount {
        let used = Amount { tokens: self.used.tokens, nano_usd: self.used.nano_usd };
        used.plus(self.reserved)
    }

    pub(super) fn reserve(&mut self, amount: Amount, at_ms: i64) -> Entered {
        self.used.requests = self.used.requests.saturating_add(1);
        self.reserved = self.reserved.plus(amount);
        self.running = self.running.saturating_add(1);
        // The window that is open may be one that the request is dated before.
        Entered { at_ms: at_ms.max(self.start_ms), era: self.era }
    }

    /// Sets more aside for a request in flight, if there is room; in a window that has ended there
    /// always is.
    pub(super) fn has_room_for(&self, entered: Entered, more: Amount) -> bool {
        let taken = self.taken().plus(more);
        let fits = taken.tokens <= self.quota.tokens && taken.nano_usd <= self.quota.nano_usd;
        fits || !self.holds(entered)
    }

    /// Makes a reservation larger, whether there is room or not.
    pub(super) fn extend(&mut self, entered: Entered, more: Amount) {
        if self.holds(entered) {
            self.reserved = self.reserved.plus(more);
        }
    }

    /// Turns a reservation into use. Usage belongs to the window in which its request began: one that
    /// has ended is not written to any more, and the next one has nothing to do with it.
    pub(super) fn settle(&mut self, entered: Entered, reserved: Amount, used: Amount) {
        self.release(entered, reserved);
        if entered.at_ms >= self.start_ms {
            self.used.tokens = self.used.tokens.saturating_add(used.tokens);
            self.used.nano_usd = self.used.nano_usd.saturating_add(used.nano_usd);
        }
    }

    /// Undoes [`Self::reserve`].
    pub(super) fn cancel(&mut self, entered: Entered, reserved: Amount) {
        self.release(entered, reserved);
        if entered.at_ms >= self.start_ms {
            self.used.requests = self.used.requests.saturating_sub(1);
        }
    }

    pub(super) fn used(&self) -> Used {
        self.used
    }

    pub(super) fn reserved(&self) -> Amount {
        self.reserved
    }

    pub(super) fn start_ms(&self) -> i64 {
        self.start_ms
    }

    pub(super) fn quota(&self) -> Used {
        self.quota
    }

    /// Of which amounts a threshold was told in this window: a bit for each of [`Unit::ALL`].
    pub(super) fn alerted_units(&self) -> u8 {
        let bits = self.told.iter().enumerate();
        bits.fold(0, |set, (unit, percent)| set | u8::from(*percent > 0) << unit)
    }

    /// Whether a threshold is crossed that nobody was told of.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.used.tokens >= self.alert_at.tokens
            || self.used.requests >= self.alert_at.requests
            || self.used.nano_usd >= self.alert_at.nano_usd
    }

    /// Tells of the highest threshold that was crossed, in percent; once in a window.
    pub(super) fn report_crossed(&mut self, percents: &[u8], mut told: impl FnMut(Unit, u8)) {
        for unit in Unit::ALL {
            if self.used.of(unit) >= self.alert_at.of(unit) {
                let crossed = self.crossed(unit, percents);
                self.told[unit as usize] = crossed;
                told(unit, crossed);
            }
        }
        self.arm(percents);
    }

    fn mark_crossed(&mut self, percents: &[u8]) {
        self.told = Unit::ALL.map(|unit| self.crossed(unit, percents));
        self.arm(percents);
    }

    /// The highest threshold that is reached; 0: none.
    fn crossed(&self, unit: Unit, percents: &[u8]) -> u8 {
        let (used, quota) = (self.used.of(unit), self.quota.of(unit));
        let reached = |percent: &&u8| used >= threshold(quota, **percent);
        percents.iter().filter(reached).max().copied().unwrap_or(0)
    }

    fn arm(&mut self, percents: &[u8]) {
        for unit in Unit::ALL {
            let (told, quota) = (self.told[unit as usize], self.quota.of(unit));
            let next = percents.iter().filter(|percent| **percent > told).min();
            *self.alert_at.of_mut(unit) =
                next.map_or(u64::MAX, |percent| threshold(quota, *percent));
        }
    }

    fn release(&mut self, entered: Entered, reserved: Amount) {
        if self.holds(entered) {
            self.reserved = self.reserved.minus(reserved);
            self.running = self.running.saturating_sub(1);
        }
    }

    fn holds(&self, entered: Entered) -> bool {
        entered.era >= self.counts_from
    }
}

/// So many percent of a quota, rounded up, at least 1; of no quota, more than anybody uses.
fn threshold(quota: u64, percent: u8) -> u64 {
    if quota == u64::MAX {
        return u64::MAX;
    }
    let exact = (u128::from(quota) * u128::from(percent)).div_ceil(100);
    u64::try_from(exact).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: &[u8] = &[];

    fn tokens(tokens: u64) -> Amount {
        Amount { tokens, nano_usd: tokens.saturating_mul(3) }
    }

    fn used(requests: u64, tokens: u64) -> Used {
        Used { requests, tokens, nano_usd: tokens.saturating_mul(3) }
    }

    #[test]
    fn reservations_count_against_the_quota() {
        let mut balance = Balance::new(0);
        balance.load(0, used(1, 40), NONE);
        let entered = balance.reserve(tokens(50), 7);
        assert_eq!(balance.lacks(tokens(u64::MAX)), None);
        // Quota, what more is wanted, what is lacking, and how many tokens are left.
        for (quota, want, lacking, left) in [
            (Used { tokens: 100, ..Used::UNLIMITED }, 10, None, 10),
            (Used { tokens: 100, ..Used::UNLIMITED }, 11, Some(Unit::Tokens), 10),
            (Used { nano_usd: 300, ..Used::UNLIMITED }, 10, None, u64::MAX),
            (Used { nano_usd: 300, ..Used::UNLIMITED }, 11, Some(Unit::NanoUsd), u64::MAX),
            (Used { requests: 3, ..Used::UNLIMITED }, 11, None, u64::MAX),
            (Used { requests: 2, ..Used::UNLIMITED }, 0, Some(Unit::Requests), u64::MAX),
        ] {
            balance.set_quota(quota, NONE);
            assert_eq!(balance.lacks(tokens(want)), lacking, "{quota:?} {want}");
            assert_eq!(balance.left().tokens, left, "{quota:?}");
            assert_eq!(
                balance.has_room_for(entered, tokens(want)),
                lacking.is_none_or(|unit| unit == Unit::Requests),
            );
        }
        balance.settle(entered, tokens(50), tokens(70));
        assert_eq!(balance.used, used(2, 110));
        balance.set_quota(Used { tokens: 100, ..Used::UNLIMITED }, NONE);
        assert_eq!((balance.lacks(tokens(0)), balance.left().tokens), (Some(Unit::Tokens), 0));
    }

    #[test]
    fn a_new_window_owes_nothing_to_the_old_one() {
        let mut balance = Balance::new(1000);
        let [settled, canceled] =
            [balance.reserve(tokens(50), 1999), balance.reserve(tokens(1), 1999)];
        balance.enter(2000, NONE);
        assert!(balance.has_room_for(settled, tokens(u64::MAX)));
        balance.extend(settled, tokens(9));
        balance.settle(settled, tokens(59), tokens(50));
        balance.cancel(canceled, tokens(1));
        assert_eq!((balance.used, balance.reserved), (Used::default(), Amount::default()));
        let entered = balance.reserve(tokens(7), 2000);
        balance.enter(1000, NONE);
        balance.load(1000, used(9, 9), NONE);
        assert_eq!((balance.used.requests, balance.reserved), (1, tokens(7)));
        balance.cancel(entered, tokens(7));
        assert_eq!((balance.used, balance.reserved), (Used::default(), Amount::default()));
    }

    #[test]
    fn another_window_takes_over_what_the_ledger_does_not_know() {
        let mut balance = Balance::new(1000);
        let before = balance.reserve(tokens(5), 1500);
        balance.enter(2000, NONE);
        balance.load(2000, used(10, 100), NONE);
        let running = balance.reserve(tokens(50), 2500);
        let settled = balance.reserve(tokens(20), 2600);
        balance.settle(settled, tokens(20), tokens(8));
        // In the ledger: the ten of before, nine of which are in the new window, and one earlier.
        balance.rebase(1800, used(10, 100), used(10, 95), (tokens(55), 2), NONE);
        assert_eq!((balance.used, balance.reserved), (used(13, 103), tokens(55)));
        // One that began before either window gives back what is held for it, and no more.
        balance.settle(before, tokens(5), tokens(5));
        balance.settle(running, tokens(50), tokens(60));
        assert_eq!((balance.used, balance.reserved), (used(13, 163), Amount::default()));
    }

    #[test]
    fn a_threshold_is_told_once_in_a_window() {
        let percents = [80, 100];
        let mut balance = Balance::new(0);
        let told = |balance: &mut Balance| {
            let mut all = Vec::new();
            if balance.is_over() {
                balance.report_crossed(&percents, |unit, percent| all.push((unit, percent)));
            }
            all
        };
        let spend = |balance: &mut Balance, amount: u64| {
            let entered = balance.reserve(Amount { tokens: amount, nano_usd: 0 }, 0);
            let amount = Amount { tokens: amount, nano_usd: 0 };
            balance.settle(entered, amount, amount);
            told(balance)
        };
        assert_eq!(spend(&mut balance, 500), []);
        balance.set_quota(Used { tokens: 1001, ..Used::UNLIMITED }, &percents);
        assert_eq!(spend(&mut balance, 300), [], "80 percent are 801");
        assert_eq!(spend(&mut balance, 1), [(Unit::Tokens, 80)]);
        assert_eq!(spend(&mut balance, 1), []);
        assert_eq!(spend(&mut balance, 400), [(Unit::Tokens, 100)]);
        assert_eq!(spend(&mut balance, 400), []);
        // Raised, it can be crossed again; set to the same, not.
        balance.set_quota(Used { tokens: 1001, ..Used::UNLIMITED }, &percents);
        assert_eq!(spend(&mut balance, 0), []);
        balance.set_quota(Used { tokens: 10_000, ..Used::UNLIMITED }, &percents);
        assert_eq!(spend(&mut balance, 5000), []);
        assert_eq!(spend(&mut balance, 9000), [(Unit::Tokens, 100)], "80 is not told as well");
        // What an earlier process used, it has told.
        balance.enter(1, &percents);
        balance.load(1, Used { tokens: 8000, ..Used::default() }, &percents);
        let entered = balance.reserve(tokens(0), 1);
        balance.settle(entered, tokens(0), tokens(1));
        assert!(!balance.is_over());
        balance.settle(entered, tokens(0), tokens(1999));
        assert!(balance.is_over());
    }

    #[test]
    fn extremes_do_not_overflow() {
        let mut balance = Balance::new(0);
        balance.set_quota(Used { tokens: 1, ..Used::UNLIMITED }, &[80]);
        balance.load(0, used(u64::MAX, u64::MAX / 3), &[80]);
        let most = Amount { tokens: u64::MAX, nano_usd: u64::MAX };
        let entered = balance.reserve(most, 0);
        assert!(balance.lacks(tokens(1)).is_some());
        balance.settle(entered, most, most);
        balance.cancel(entered, most);
        assert_eq!(balance.reserved, Amount::default());
        assert_eq!(threshold(u64::MAX - 1, 100), u64::MAX - 1);
        assert_eq!((threshold(0, 80), threshold(1, 80)), (1, 1));
    }
}
