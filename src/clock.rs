//! The one source of time. Everything that decides by time takes a [`Clock`], so that a test can
//! hold it still; only socket deadlines run on tokio's timer, which has a pause of its own.

mod trusted;

use jiff::Timestamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

pub(crate) use self::trusted::{AHEAD_MAX_MS, TrustedClock, mono_ms};

/// An instant of both kinds of time, read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Wall clock: milliseconds since the Unix epoch. It can jump, in both directions.
    pub unix_ms: i64,
    /// Monotonic clock: nanoseconds since the clock was made. It never goes backward.
    pub mono_ns: u64,
}

/// Where the time comes from: the machine, or a test's hand.
#[derive(Clone, Debug)]
pub enum Clock {
    System(Instant),
    Manual(Arc<ManualClock>),
}

/// A clock that moves only when it is told to.
#[derive(Debug, Default)]
pub struct ManualClock {
    unix_ms: AtomicI64,
    mono_ns: AtomicU64,
}

impl Clock {
    /// The machine's clock; its monotonic part starts at zero now.
    pub fn system() -> Self {
        Self::System(Instant::now())
    }

    /// A clock held at `unix_ms` until its handle moves it.
    pub fn manual(unix_ms: i64) -> (Self, Arc<ManualClock>) {
        let hand = Arc::new(ManualClock::default());
        hand.unix_ms.store(unix_ms, Ordering::SeqCst);
        (Self::Manual(hand.clone()), hand)
    }

    /// The monotonic clock alone, as in [`Now::mono_ns`].
    pub fn mono_ns(&self) -> u64 {
        match self {
            Self::System(start) => u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
            Self::Manual(hand) => hand.mono_ns.load(Ordering::SeqCst),
        }
    }

    /// Reads both clocks.
    #[expect(clippy::disallowed_methods, reason = "this is the clock that others are to take")]
    pub fn now(&self) -> Now {
        match self {
            Self::System(_) => {
                Now { unix_ms: unix_ms_of(SystemTime::now()), mono_ns: self.mono_ns() }
            }
            Self::Manual(hand) => {
                Now { unix_ms: hand.unix_ms.load(Ordering::SeqCst), mono_ns: self.mono_ns() }
            }
        }
    }
}

impl ManualClock {
    /// Lets `ms` milliseconds pass on both clocks.
    pub fn advance_ms(&self, ms: u64) {
        self.unix_ms.fetch_add(i64::try_from(ms).unwrap_or(i64::MAX), Ordering::SeqCst);
        self.mono_ns.fetch_add(ms.saturating_mul(1_000_000), Ordering::SeqCst);
    }

    /// Sets the wall clock alone, as an administrator or NTP would; the monotonic one goes on.
    pub fn jump_to(&self, unix_ms: i64) {
        self.unix_ms.store(unix_ms, Ordering::SeqCst);
    }
}

/// Milliseconds since the epoch, negative before it.
fn unix_ms_of(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
    }
}

/// A moment from milliseconds since the epoch; one that no calendar has becomes the nearest.
pub(crate) fn timestamp(at_ms: i64) -> Timestamp {
    let nearest = if at_ms < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_millisecond(at_ms).unwrap_or(nearest)
}

/// A moment as reports and errors show it: RFC 3339 with milliseconds, in UTC.
pub(crate) fn moment(at_ms: i64) -> String {
    format!("{:.3}", timestamp(at_ms))
}
