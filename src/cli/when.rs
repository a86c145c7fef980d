//! Moments and spans as people type them.

use anyhow::{Context, anyhow};
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

/// Where a bare span such as `7d` points, seen from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toward {
    Past,
    Future,
}

/// A moment in milliseconds since the epoch: RFC 3339; a date (its first moment) or a date and time,
/// both in `zone`; or a span from `now_ms`.
pub(crate) fn moment(
    text: &str,
    now_ms: i64,
    toward: Toward,
    zone: &TimeZone,
) -> anyhow::Result<i64> {
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(timestamp.as_millisecond());
    }
    // A date and time would pass for its date alone.
    let local = match text.len() {
        10 => text.parse::<Date>().map(DateTime::from),
        _ => text.parse::<DateTime>(),
    };
    if let Ok(local) = local {
        let zoned = local.to_zoned(zone.clone()).with_context(|| format!("`{text}`"))?;
        return Ok(zoned.timestamp().as_millisecond());
    }
    let moment = span_ms(text).and_then(|span| match toward {
        Toward::Past => now_ms.checked_sub(span),
        Toward::Future => now_ms.checked_add(span),
    });
    moment.filter(|at_ms| Timestamp::from_millisecond(*at_ms).is_ok()).ok_or_else(|| {
        anyhow!(
            "`{text}` is no time: give RFC 3339 (2026-11-21T14:00:00Z), a date (2026-11-21) or a \
             span (7d, 12h, 30m)"
        )
    })
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
        let past = |text: &str| moment(text, now, Toward::Past, &zone).ok();
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
        assert_eq!(moment("1d", now, Toward::Future, &zone).unwrap(), now + day);
    }

    #[test]
    fn a_moment_is_shown_in_utc() {
        assert_eq!(rfc3339(1_798_761_599_999), "2026-12-31T23:59:59Z");
    }
}
