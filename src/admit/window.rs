//! Days and calendar months as spans of time. They are computed from the clock when a request asks,
//! so nothing has to run at midnight, and kept until they end, so that asking costs one comparison.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// A span of wall-clock time in Unix milliseconds: from `start_ms`, until before `end_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
}

/// The day and the month that an instant lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Windows {
    pub(crate) day: Window,
    pub(crate) month: Window,
}

impl Windows {
    /// The windows around `unix_ms` in `zone`. A day is as long as its clock changes make it.
    pub(crate) fn at(zone: &TimeZone, unix_ms: i64) -> Self {
        let instant = Timestamp::from_millisecond(unix_ms).unwrap_or(match unix_ms {
            ..0 => Timestamp::MIN,
            0.. => Timestamp::MAX,
        });
        let mut date = zone.to_datetime(instant).date();
        // Where clocks go back across midnight, the old date is shown a second time although the
        // new one has begun: what has begun stays begun.
        while let Ok(next) = date.tomorrow()
            && start_of(zone, next).is_some_and(|start| start <= unix_ms)
        {
            date = next;
        }
        let first = date.first_of_month();
        Self {
            day: Window {
                start_ms: start_of(zone, date).unwrap_or(i64::MIN),
                end_ms: start_after(zone, date.tomorrow().ok()),
            },
            month: Window {
                start_ms: start_of(zone, first).unwrap_or(i64::MIN),
                end_ms: start_after(zone, first.checked_add(1.month()).ok()),
            },
        }
    }

    /// Moves to the windows around `unix_ms` if those here have ended; never back, so that a clock
    /// set back does not reopen a window that was used up. True if others may be open now.
    #[inline]
    pub(super) fn advance(&mut self, zone: &TimeZone, unix_ms: i64) -> bool {
        // A month ends where a day ends, so the day's end is the only one to watch.
        let has_ended = unix_ms >= self.day.end_ms;
        if has_ended {
            self.forward_to(Self::at(zone, unix_ms));
        }
        has_ended
    }

    /// Takes the later of the two.
    pub(super) fn forward_to(&mut self, other: Self) {
        if other.day.start_ms > self.day.start_ms {
            *self = other;
        }
    }
}

/// The first instant of a date in Unix milliseconds, unless the calendar ends before it. In a gap at
/// midnight that is the first instant after it, of two midnights the earlier (RFC 5545 §3.3.5).
fn start_of(zone: &TimeZone, date: Date) -> Option<i64> {
    let midnight = date.to_zoned(zone.clone()).ok()?;
    Some(midnight.timestamp().as_millisecond())
}

/// Where the window before this date ends; never, where the calendar does.
fn start_after(zone: &TimeZone, date: Option<Date>) -> i64 {
    date.and_then(|date| start_of(zone, date)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().expect("a test's own time").as_millisecond()
    }

    #[test]
    fn days_and_months_follow_the_zone() {
        // Zone and instant, then start and end of the day; all in UTC.
        let cases = [
            // UTC, a leap day.
            ["UTC", "2028-02-29T23:59:59.999Z", "2028-02-29T00:00Z", "2028-03-01T00:00Z"],
            ["UTC", "2028-03-01T00:00:00Z", "2028-03-01T00:00Z", "2028-03-02T00:00Z"],
            // The day that begins daylight time has 23 hours, the one that ends it 25.
            ["Europe/Berlin", "2026-03-29T12:00Z", "2026-03-28T23:00Z", "2026-03-29T22:00Z"],
            ["Europe/Berlin", "2026-10-25T12:00Z", "2026-10-24T22:00Z", "2026-10-25T23:00Z"],
            // Zones of a half and of three quarters of an hour.
            ["Asia/Kolkata", "2026-07-31T18:29:59Z", "2026-07-30T18:30Z", "2026-07-31T18:30Z"],
            ["Asia/Kolkata", "2026-07-31T18:30:00Z", "2026-07-31T18:30Z", "2026-08-01T18:30Z"],
            ["Asia/Kathmandu", "2026-01-01T00:00Z", "2025-12-31T18:15Z", "2026-01-01T18:15Z"],
            // Daylight time begins at midnight: the day begins at one.
            ["America/Santiago", "2026-09-06T12:00Z", "2026-09-06T04:00Z", "2026-09-07T03:00Z"],
            // Clocks go back at one minute past midnight, into the day before: the new day goes on.
            ["America/St_Johns", "2006-10-29T02:45Z", "2006-10-29T02:30Z", "2006-10-30T03:30Z"],
            // A day that never was.
            ["Pacific/Apia", "2011-12-30T09:59Z", "2011-12-29T10:00Z", "2011-12-30T10:00Z"],
            ["Pacific/Apia", "2011-12-30T10:00Z", "2011-12-30T10:00Z", "2011-12-31T10:00Z"],
        ];
        for [zone, instant, start, end] in cases {
            let zone = TimeZone::get(zone).expect("a zone of the time zone database");
            let windows = Windows::at(&zone, ms(instant));
            assert_eq!(windows.day, Window { start_ms: ms(start), end_ms: ms(end) }, "{instant}");
        }
        let months = [
            ["UTC", "2026-12-31T23:59Z", "2026-12-01T00:00Z", "2027-01-01T00:00Z"],
            ["UTC", "2026-02-10T00:00Z", "2026-02-01T00:00Z", "2026-03-01T00:00Z"],
            ["Europe/Berlin", "2026-03-31T22:00Z", "2026-03-31T22:00Z", "2026-04-30T22:00Z"],
            ["Europe/Berlin", "2026-03-31T21:59Z", "2026-02-28T23:00Z", "2026-03-31T22:00Z"],
            ["Asia/Kolkata", "2026-07-31T18:30Z", "2026-07-31T18:30Z", "2026-08-31T18:30Z"],
        ];
        for [zone, instant, start, end] in months {
            let zone = TimeZone::get(zone).expect("a zone of the time zone database");
            let windows = Windows::at(&zone, ms(instant));
            assert_eq!(windows.month, Window { start_ms: ms(start), end_ms: ms(end) }, "{instant}");
        }
    }

    #[test]
    fn windows_tile_time_and_hold_their_instant() {
        for zone in ["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kolkata", "Africa/Cairo"] {
            let zone = TimeZone::get(zone).expect("a zone of the time zone database");
            let (mut at, end) = (ms("2006-01-01T00:00Z"), ms("2011-06-01T00:00Z"));
            let mut before = Windows::at(&zone, at);
            while at < end {
                at += 1_740_000;
                let now = Windows::at(&zone, at);
                assert!(now.day.start_ms <= at && at < now.day.end_ms, "{zone:?} {at}");
                assert!(now.month.start_ms <= now.day.start_ms, "{zone:?} {at}");
                assert!(now.day.end_ms <= now.month.end_ms, "{zone:?} {at}");
                let mut moved = before;
                moved.advance(&zone, at);
                assert_eq!(moved, now, "{zone:?} {at}");
                assert!(now == before || now.day.start_ms == before.day.end_ms, "{zone:?} {at}");
                before = now;
            }
        }
    }

    #[test]
    fn a_clock_set_back_reopens_nothing() {
        let (today, yesterday) = (ms("2026-05-01T08:00Z"), ms("2026-04-30T08:00Z"));
        let mut windows = Windows::at(&TimeZone::UTC, today);
        let held = windows;
        windows.advance(&TimeZone::UTC, yesterday);
        assert_eq!(windows, held);
        windows.forward_to(Windows::at(&TimeZone::UTC, yesterday));
        assert_eq!(windows, held);
    }

    #[test]
    fn the_ends_of_time_do_not_panic() {
        for unix_ms in [i64::MIN, i64::MAX] {
            let windows = Windows::at(&TimeZone::UTC, unix_ms);
            assert!(windows.day.start_ms <= windows.day.end_ms);
        }
    }
}
