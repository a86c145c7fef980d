//! What has been used in a day or a month, and what is set aside for requests in flight.

use super::window::Windows;

/// What requests have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) requests: u64,
    pub(crate) tokens: u64,
}

/// What a key or a tenant has used in the windows that hold now, as the ledger knows it at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Balances {
    /// The windows that the sums are about, from [`Windows::at`].
    pub(crate) windows: Windows,
    pub(crate) daily: Used,
    pub(crate) monthly: Used,
}

/// The balance of one window. Kept whether there is a quota or not, so that one that is set in the
/// middle of a month counts from its first day.
#[derive(Clone, Copy, Debug)]
pub(super) struct Balance {
    /// The window's start in Unix milliseconds.
    start_ms: i64,
    /// A request counts from its admission, whatever its end.
    used: Used,
    /// Tokens of requests in flight that began in this window.
    reserved: u64,
}

impl Balance {
    pub(super) fn new(start_ms: i64) -> Self {
        Self { start_ms, used: Used::default(), reserved: 0 }
    }

    /// Starts afresh if a later window has begun.
    pub(super) fn enter(&mut self, start_ms: i64) {
        if start_ms > self.start_ms {
            *self = Self::new(start_ms);
        }
    }

    /// Takes over what was used before this process; ignored if its window has ended.
    pub(super) fn load(&mut self, start_ms: i64, used: Used) {
        self.enter(start_ms);
        if start_ms == self.start_ms {
            self.used = used;
        }
    }

    /// Is there room for so many more tokens?
    pub(super) fn fits_tokens(&self, tokens: u64, quota: Option<u64>) -> bool {
        let taken = self.used.tokens.saturating_add(self.reserved);
        quota.is_none_or(|quota| taken.saturating_add(tokens) <= quota)
    }

    /// Is there room for one more request?
    pub(super) fn fits_request(&self, quota: Option<u64>) -> bool {
        quota.is_none_or(|quota| self.used.requests < quota)
    }

    pub(super) fn reserve(&mut self, tokens: u64) {
        self.used.requests = self.used.requests.saturating_add(1);
        self.reserved = self.reserved.saturating_add(tokens);
    }

    /// Turns a reservation into use. Usage belongs to the window in which its request began: one that
    /// has ended is not written to any more, and the next one has nothing to do with it.
    pub(super) fn settle(&mut self, start_ms: i64, reserved: u64, used: u64) {
        if start_ms == self.start_ms {
            self.reserved = self.reserved.saturating_sub(reserved);
            self.used.tokens = self.used.tokens.saturating_add(used);
        }
    }

    /// Undoes [`Self::reserve`].
    pub(super) fn cancel(&mut self, start_ms: i64, reserved: u64) {
        if start_ms == self.start_ms {
            self.reserved = self.reserved.saturating_sub(reserved);
            self.used.requests = self.used.requests.saturating_sub(1);
        }
    }

    pub(super) fn used(&self) -> Used {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_count_against_the_quota() {
        let mut balance = Balance::new(0);
        balance.load(0, Used { requests: 1, tokens: 40 });
        balance.reserve(50);
        assert!(balance.fits_tokens(10, Some(100)));
        assert!(!balance.fits_tokens(11, Some(100)));
        assert!(balance.fits_tokens(u64::MAX, None));
        assert!(balance.fits_request(Some(3)));
        assert!(!balance.fits_request(Some(2)));
        balance.settle(0, 50, 70);
        assert_eq!(balance.used, Used { requests: 2, tokens: 110 });
        assert!(!balance.fits_tokens(0, Some(100)));
    }

    #[test]
    fn a_new_window_owes_nothing_to_the_old_one() {
        let mut balance = Balance::new(1000);
        balance.reserve(50);
        balance.enter(2000);
        balance.settle(1000, 50, 50);
        balance.cancel(1000, 50);
        assert_eq!((balance.used, balance.reserved), (Used::default(), 0));
        balance.reserve(7);
        balance.enter(1000);
        balance.load(1000, Used { requests: 9, tokens: 9 });
        assert_eq!((balance.used.requests, balance.reserved), (1, 7));
        balance.cancel(2000, 7);
        assert_eq!((balance.used, balance.reserved), (Used::default(), 0));
    }

    #[test]
    fn extremes_do_not_overflow() {
        let mut balance = Balance::new(0);
        balance.load(0, Used { requests: u64::MAX, tokens: u64::MAX });
        balance.reserve(u64::MAX);
        assert!(!balance.fits_tokens(1, Some(1)));
        balance.settle(0, u64::MAX, u64::MAX);
        balance.cancel(0, u64::MAX);
        assert_eq!(balance.reserved, 0);
    }
}
