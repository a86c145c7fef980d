//! Durations as Go writes them, because `x-ratelimit-reset-*` carries them in that form and clients
//! parse it with `time.ParseDuration`.

use std::fmt;
use std::time::Duration;

/// Shows a duration as Go's `time.Duration` does: `12ms`, `1s`, `1.5s`, `6m0s`, `1h0m0s`. Rounded up
/// to whole milliseconds: Go's next smaller unit, `µs`, is not ASCII and has no place in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GoDuration(pub(crate) Duration);

impl fmt::Display for GoDuration {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = u64::from(!self.0.subsec_nanos().is_multiple_of(1_000_000));
        let total_ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX).saturating_add(part);
        if total_ms > 0 && total_ms < 1000 {
            return write!(out, "{total_ms}ms");
        }
        let (total_s, ms) = (total_ms / 1000, total_ms % 1000);
        let (hours, minutes, seconds) = (total_s / 3600, total_s / 60 % 60, total_s % 60);
        if hours > 0 {
            write!(out, "{hours}h")?;
        }
        if total_s >= 60 {
            write!(out, "{minutes}m")?;
        }
        match ms {
            0 => write!(out, "{seconds}s"),
            _ if ms % 100 == 0 => write!(out, "{seconds}.{}s", ms / 100),
            _ if ms % 10 == 0 => write!(out, "{seconds}.{:02}s", ms / 10),
            _ => write!(out, "{seconds}.{ms:03}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_go_writes_it() {
        let cases = [
            (0, "0s"),
            (1, "1ms"),
            (500_000, "1ms"),
            (12_000_000, "12ms"),
            (12_000_001, "13ms"),
            (999_000_001, "1s"),
            (1_000_000_000, "1s"),
            (1_500_000_000, "1.5s"),
            (1_050_000_000, "1.05s"),
            (1_005_000_000, "1.005s"),
            (59_999_000_000, "59.999s"),
            (60_000_000_000, "1m0s"),
            (61_250_000_000, "1m1.25s"),
            (360_000_000_000, "6m0s"),
            (3_600_000_000_000, "1h0m0s"),
            (90_061_000_000_000, "25h1m1s"),
        ];
        for (ns, text) in cases {
            assert_eq!(GoDuration(Duration::from_nanos(ns)).to_string(), text, "{ns} ns");
        }
        assert!(GoDuration(Duration::MAX).to_string().is_ascii());
    }
}
