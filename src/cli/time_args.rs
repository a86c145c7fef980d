//! Moments and spans as people type them.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use super::Misuse;

/// Where a bare span such as `7d` points, seen from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toward {
    Past,
    Future,
}

/// A moment as it was typed: what it means depends on the present, and on where days begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// In milliseconds since the epoch.
    At(i64),
    /// A date (its first moment) or a date and time, in the configured zone.
    Local(DateTime),
    /// Milliseconds from now.
    Span(i64),
}

/// Takes RFC 3339, a date, a date and time, or a span.
pub(crate) fn when(text: &str) -> Result<When, String> {
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(When::At(timestamp.as_millisecond()));
    }
    // A date and time would pass for its date alone.
    let local = match text.len() {
        10 => text.parse::<Date>().map(DateTime::from),
        _ => text.parse::<DateTime>(),
    };
    let span = || span_ms(text).map(When::Span);
    local.ok().map(When::Local).or_else(span).ok_or_else(|| {
        "give RFC 3339 (2026-11-21T14:00:00Z), a date (2026-11-21) or a span (7d, 12h, 30m)"
            .to_owned()
    })
}

impl When {
    /// In milliseconds since the epoch; a span leads from `now_ms`, a date is one of `zone`.
    pub(crate) fn resolve(
        &self,
        now_ms: i64,
        toward: Toward,
        zone: &TimeZone,
    ) -> Result<i64, Misuse> {
        let at_ms = match (self, toward) {
            (Self::At(at_ms), _) => Some(*at_ms),
            (Self::Local(local), _) => {
                local.to_zoned(zone.clone()).ok().map(|zoned| zoned.timestamp().as_millisecond())
            }
            (Self::Span(span), Toward::Past) => now_ms.checked_sub(*span),
            (Self::Span(span), Toward::Future) => now_ms.checked_add(*span),
        };
        at_ms
            .filter(|at_ms| Timestamp::from_millisecond(*at_ms).is_ok())
            .ok_or_else(|| Misuse::new("no calendar has a time that is so far away"))
    }
}

/// A span in milliseconds: a whole number with `s`, `m`, `h`, `d` (24 hours) or `w`.
pub(crate) fn span_ms(text: &str) -> Option<i64> {
    let unit = text.chars().next_back()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return None,
    };
    let number = text.strip_suffix(unit)?;
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number.parse::<i64>().ok()?.checked_mul(seconds * 1_000)
}

/// A moment as RFC 3339 in UTC, to the second.
pub(crate) fn rfc3339(at_ms: i64) -> String {
    Timestamp::from_millisecond(at_ms).map_or_else(|_| at_ms.to_string(), |at| format!("{:.0}", at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_in_every_form() {
        let zone = TimeZone::get("Asia/Kolkata").unwrap();
        let now = 1_795_000_000_000;
        let past = |text: &str| when(text).ok()?.resolve(now, Toward::Past, &zone).ok();
        let day = 86_400_000;
        for (text, expected) in [
            ("1970-01-02T00:00:00Z", Some(day)),
            ("1970-01-02T02:00:00+02:00", Some(day)),
            ("1970-01-02T05:30:00", Some(day)),
            ("1970-01-02 05:30", Some(day)),
            ("1970-01-02", Some(day - 19_800_000)),
            ("7d", Some(now - 7 * day)),
            ("12h", Some(now - day / 2)),
            ("30m", Some(now - 1_800_000)),
            ("90s", Some(now - 90_000)),
            ("2w", Some(now - 14 * day)),
            ("0d", Some(now)),
            ("", None),
            ("d", None),
            ("7", None),
            ("-7d", None),
            ("+7d", None),
            ("7days", None),
            ("1970-02-30", None),
            ("yesterday", None),
            ("99999999999d", None),
            ("9999999999999999999d", None),
            ("7ä", None),
        ] {
            assert_eq!(past(text), expected, "{text}");
        }
        assert_eq!(when("1d").unwrap().resolve(now, Toward::Future, &zone).unwrap(), now + day);
    }

    #[test]
    fn a_moment_is_shown_in_utc() {
        assert_eq!(rfc3339(1_798_761_599_999), "2026-12-31T23:59:59Z");
    }
}
