//! How often one address may present keys that are nobody's. One governor limiter keyed by address; the
//! number of addresses it remembers is bounded, because whoever sends random keys can also come from
//! many addresses. A valid key is never held up by it.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

/// Addresses remembered at once; when more fail within a minute, new ones share one budget.
const MAX_ADDRESSES: usize = 65_536;

/// A budget of failures per address, shared by all workers.
#[derive(Debug)]
pub(crate) struct FailedKeys {
    limiter: Option<DefaultKeyedRateLimiter<IpAddr>>,
    clock: DefaultClock,
}

impl FailedKeys {
    /// `per_minute` = 0 switches the limit off.
    pub(crate) fn new(per_minute: u32) -> Self {
        let quota = NonZeroU32::new(per_minute).map(Quota::per_minute);
        Self { limiter: quota.map(RateLimiter::keyed), clock: DefaultClock::default() }
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
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_runs_out_alone() {
        let failed = FailedKeys::new(3);
        let one: IpAddr = "192.0.2.1".parse().expect("an address");
        let other: IpAddr = "2001:db8::1".parse().expect("an address");
        let neighbour: IpAddr = "2001:db8::2".parse().expect("an address");
        for _ in 0..3 {
            failed.count(one).expect("within the budget");
            failed.count(other).expect("within the budget");
        }
        assert!(failed.count(one).expect_err("spent") <= Duration::from_secs(20));
        failed.count(neighbour).expect_err("the same network");
        FailedKeys::new(0).count(one).expect("switched off");
    }
}
