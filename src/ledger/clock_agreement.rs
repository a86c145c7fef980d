//! For how long the wall clock has kept step with the monotonic one: what it said meanwhile, it goes on to say.

use crate::clock::{Now, mono_ms};

/// It keeps step as long as it goes no further astray than this; adjusting a clock slowly (at most half a
/// thousandth) stays far below.
const ASTRAY_MS: u64 = 60_000;

/// Since when it has.
#[derive(Debug)]
pub(super) struct ClockAgreement {
    since: Now,
}

impl ClockAgreement {
    pub(super) fn new(now: Now) -> Self {
        Self { since: now }
    }

    /// Looks at both clocks: for how many milliseconds they have kept step, which begins anew where they have not.
    pub(super) fn kept_ms(&mut self, now: Now) -> i64 {
        if astray_ms(self.since, now) > ASTRAY_MS {
            self.since = now;
        }
        mono_ms(now) - mono_ms(self.since)
    }

    /// Begins anew.
    pub(super) fn restart(&mut self, now: Now) {
        self.since = now;
    }
}

/// How far the wall clock has gone astray from the monotonic one, in milliseconds.
fn astray_ms(since: Now, now: Now) -> u64 {
    let wall_ms = i128::from(now.unix_ms) - i128::from(since.unix_ms);
    let passed_ms = i128::from(mono_ms(now)) - i128::from(mono_ms(since));
    u64::try_from((wall_ms - passed_ms).abs()).unwrap_or(u64::MAX)
}
