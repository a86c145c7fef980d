//! Tokens per minute: a bucket that is charged with an estimate before the request and corrected
//! afterwards, so it can be in debt. Integers without rounding: the level counts minute-nanoseconds
//! of a token (a token is 60·10⁹ of them), so that each nanosecond brings exactly the limit.

use std::time::Duration;

use super::denied::Level;

/// The level's unit: this many make one token.
const PER_TOKEN: i128 = 60_000_000_000;

/// The live state of one tokens-per-minute limit.
#[derive(Debug)]
pub(super) struct TokenBucket {
    /// Tokens per minute, at least 1; also the bucket's size in tokens.
    tpm: u64,
    /// Tells it from the bucket that stood here before the limit was lifted for a while.
    id: u64,
    /// Between any debt and the size.
    level: i128,
    /// When the level was last brought up to date, in nanoseconds on the monotonic clock.
    at_ns: u64,
    /// How often something was taken from the bucket when it was full.
    fills: u64,
}

/// What a request took, for its settlement.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenSpend {
    id: u64,
    tokens: u64,
    fills: u64,
}

impl TokenBucket {
    /// A full bucket.
    pub(super) fn new(tpm: u64, mono_ns: u64, id: u64) -> Self {
        let tpm = tpm.max(1);
        Self { tpm, id, level: size(tpm), at_ns: mono_ns, fills: 0 }
    }

    /// How long until `tokens` are there, or all that it can hold if that is less.
    pub(super) fn wait(&mut self, tokens: u64, mono_ns: u64) -> Option<Duration> {
        self.refill(mono_ns);
        let missing = size(tokens.min(self.tpm)) - self.level;
        (missing > 0).then(|| self.time_for(missing))
    }

    /// Takes `tokens`, or all that it can hold if that is less, present or not.
    pub(super) fn spend(&mut self, tokens: u64, mono_ns: u64) -> TokenSpend {
        self.refill(mono_ns);
        let tokens = tokens.min(self.tpm);
        self.take(tokens);
        TokenSpend { id: self.id, tokens, fills: self.fills }
    }

    /// Corrects a spend to what was really used: takes the rest, as debt if need be, or gives the
    /// difference back. If the bucket was full since, time has already given it back; in any case it
    /// never holds more than its size. A spend from an earlier bucket concerns this one not at all.
    pub(super) fn settle(&mut self, spend: TokenSpend, used: u64, mono_ns: u64) {
        if spend.id != self.id {
            return;
        }
        self.refill(mono_ns);
        if used > spend.tokens {
            self.take(used - spend.tokens);
        } else if self.fills == spend.fills {
            let back = size(spend.tokens - used);
            self.level = self.level.saturating_add(back).min(size(self.tpm));
        }
    }

    /// Changes the limit. What was used stays used, token for token; lowering it turns nothing into
    /// debt that was none.
    pub(super) fn set_limit(&mut self, tpm: u64, mono_ns: u64) {
        self.refill(mono_ns);
        let tpm = tpm.max(1);
        let moved = self.level.saturating_add(size(tpm) - size(self.tpm));
        self.level = moved.max(self.level.min(0)).min(size(tpm));
        self.tpm = tpm;
    }

    pub(super) fn level(&self, mono_ns: u64) -> Level {
        let level = self.level_at(mono_ns);
        Level {
            limit: self.tpm,
            remaining: u64::try_from(level.max(0) / PER_TOKEN).unwrap_or(u64::MAX),
            reset: self.time_for(size(self.tpm).saturating_sub(level)),
        }
    }

    fn take(&mut self, tokens: u64) {
        self.fills += u64::from(tokens > 0 && self.level == size(self.tpm));
        self.level = self.level.saturating_sub(size(tokens));
    }

    fn refill(&mut self, mono_ns: u64) {
        self.level = self.level_at(mono_ns);
        self.at_ns = self.at_ns.max(mono_ns);
    }

    fn level_at(&self, mono_ns: u64) -> i128 {
        // Threads read the clock before they get the lock, so now can lie before the last visit.
        let elapsed = i128::from(mono_ns.saturating_sub(self.at_ns));
        let gained = elapsed.saturating_mul(i128::from(self.tpm));
        self.level.saturating_add(gained).min(size(self.tpm))
    }

    /// How long the refill takes for `missing` (not negative), rounded up to a nanosecond.
    fn time_for(&self, missing: i128) -> Duration {
        let ns = missing.unsigned_abs().div_ceil(u128::from(self.tpm));
        Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }
}

/// Tokens in the level's unit; below 2¹⁰⁰ whatever the number.
fn size(tokens: u64) -> i128 {
    i128::from(tokens) * PER_TOKEN
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn refills_without_drift() {
        // Seven tokens a minute don't divide a second; after any number of visits the sum is right.
        let mut bucket = TokenBucket::new(7, 0, 0);
        bucket.spend(7, 0);
        for ms in 1..60_000 {
            bucket.refill(ms * 1_000_000);
            assert!(bucket.wait(7, ms * 1_000_000).is_some());
        }
        assert_eq!(bucket.wait(7, 60 * SECOND), None);
        assert_eq!(bucket.level, size(7));
    }

    #[test]
    fn the_wait_is_true_to_the_nanosecond() {
        for (tpm, ask) in [(60, 1), (7, 3), (100_000, 99_999), (1, 1), (1_000_000_007, 5)] {
            let mut bucket = TokenBucket::new(tpm, 0, 0);
            bucket.spend(tpm, 0);
            let wait = bucket.wait(ask, 0).expect("the bucket is empty");
            let wait = u64::try_from(wait.as_nanos()).unwrap();
            assert!(bucket.wait(ask, wait - 1).is_some(), "{tpm}, {ask}");
            assert_eq!(bucket.wait(ask, wait), None, "{tpm}, {ask}");
        }
    }

    #[test]
    fn settlement_gives_back_or_takes_debt() {
        // size, asked, used, seconds until settled, then the level in tokens.
        for (tpm, asked, used, after, level) in [
            (600, 200, 50, 0, 550),
            (600, 200, 50, 10, 600),
            (600, 200, 50, 5, 600),
            (600, 200, 190, 5, 460),
            (600, 200, 500, 0, 100),
            (600, 200, 900, 0, -300),
            (600, 900, 900, 0, -300),
            (600, 900, 100, 0, 500),
        ] {
            let mut bucket = TokenBucket::new(tpm, 0, 0);
            let spend = bucket.spend(asked, 0);
            bucket.settle(spend, used, after * SECOND);
            assert_eq!(bucket.level, level * PER_TOKEN, "{asked} {used} {after}");
        }
    }

    #[test]
    fn nothing_comes_back_that_time_has_brought() {
        let mut bucket = TokenBucket::new(600, 0, 0);
        let old = bucket.spend(600, 0);
        let new = bucket.spend(600, 60 * SECOND);
        bucket.settle(old, 0, 60 * SECOND);
        assert_eq!(bucket.level(60 * SECOND).remaining, 0);
        bucket.settle(new, 100, 60 * SECOND);
        assert_eq!(bucket.level(60 * SECOND).remaining, 500);
        // Under steady use the bucket is never full, and every refund counts.
        let long = bucket.spend(300, 60 * SECOND);
        for second in 61..180 {
            bucket.spend(10, second * SECOND);
        }
        let before = bucket.level(180 * SECOND).remaining;
        bucket.settle(long, 0, 180 * SECOND);
        assert_eq!(bucket.level(180 * SECOND).remaining, before + 300);
    }

    #[test]
    fn a_changed_limit_keeps_what_was_used() {
        // from, used, to, then the level.
        for (from, used, to, level) in [
            (1000, 1000, 5000, 4000),
            (1000, 100, 5000, 4900),
            (5000, 100, 1000, 900),
            (5000, 4000, 1000, 0),
            (5000, 6000, 1000, -1000),
            (5000, 6000, 10_000, 4000),
        ] {
            let mut bucket = TokenBucket::new(from, 0, 0);
            let spend = bucket.spend(used, 0);
            bucket.settle(spend, used, 0);
            bucket.set_limit(to, 0);
            assert_eq!(bucket.level, level * PER_TOKEN, "{from}→{to}");
        }
    }

    #[test]
    fn extremes_do_not_overflow() {
        for tpm in [0, 1, u64::MAX] {
            let mut bucket = TokenBucket::new(tpm, u64::MAX, 0);
            for _ in 0..3 {
                let spend = bucket.spend(u64::MAX, 0);
                bucket.settle(spend, u64::MAX, u64::MAX);
                bucket.set_limit(u64::MAX, u64::MAX);
                bucket.set_limit(tpm, 0);
            }
            assert_eq!(bucket.level(u64::MAX).remaining, 0);
            assert!(bucket.wait(1, u64::MAX).is_some());
            bucket.at_ns = 0;
            assert!(bucket.level(u64::MAX).remaining <= tpm.max(1));
        }
    }
}
