//! How often one address may present keys that are nobody's. One governor limiter keyed by address; the
//! number of addresses it remembers is bounded, because whoever sends random keys can also come from
//! many addresses. A valid key is never held up by it.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};

/// Addresses remembered at once; when more fail within a minute, new ones share one budget.
const MAX_ADDRESSES: usize = 65_536;

type Limiter<C> =
    RateLimiter<IpAddr, DefaultKeyedStateStore<IpAddr>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// A budget of failures per address, shared by all workers.
#[derive(Debug)]
pub(crate) struct FailedKeys<C: Clock = DefaultClock> {
    limiter: Option<Limiter<C>>,
    clock: C,
}

impl FailedKeys {
    /// `per_minute` = 0 switches the limit off.
    pub(crate) fn new(per_minute: u32) -> Self {
        Self::by(DefaultClock::default(), per_minute)
    }
}

impl<C: Clock + Clone> FailedKeys<C> {
    fn by(clock: C, per_minute: u32) -> Self {
        let quota = NonZeroU32::new(per_minute).map(Quota::per_minute);
        let limiter = quota.map(|quota| RateLimiter::dashmap_with_clock(quota, clock.clone()));
        Self { limiter, clock }
    }

    /// Counts a failure; an error tells how long until this address is listened to again.
    pub(crate) fn count(&self, address: IpAddr) -> Result<(), Duration> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        let bucket = if limiter.len() < MAX_ADDRESSES {
            network_of(address)
        } else {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        };
        limiter.check_key(&bucket).map_err(|until| until.wait_time_from(self.clock.now()))
    }

    /// Forgets addresses whose budget is whole again; called on a timer.
    pub(crate) fn sweep(&self) {
        if let Some(limiter) = &self.limiter {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

/// An IPv4 address counts alone, an IPv6 one by its /64: that is what one subscriber owns.
pub(crate) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    #[test]
    fn an_address_runs_out_alone() {
        let clock = FakeRelativeClock::default();
        let failed = FailedKeys::by(clock.clone(), 3);
        let one: IpAddr = "192.0.2.1".parse().expect("an address");
        let other: IpAddr = "2001:db8::1".parse().expect("an address");
        let neighbour: IpAddr = "2001:db8::2".parse().expect("an address");
        for _ in 0..3 {
            failed.count(one).expect("within the budget");
            failed.count(other).expect("within the budget");
        }
        const WAIT: Duration = Duration::from_secs(20);
        assert_eq!(failed.count(one).expect_err("spent"), WAIT);
        failed.count(neighbour).expect_err("the same network");
        clock.advance(WAIT - Duration::from_nanos(1));
        failed.count(one).expect_err("too early");
        clock.advance(Duration::from_nanos(1));
        failed.count(one).expect("one is whole again");
        failed.count(one).expect_err("and no more");
        FailedKeys::new(0).count(one).expect("switched off");
    }
}
