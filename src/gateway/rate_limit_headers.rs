//! `x-ratelimit-*`: how a key stands against its limits, on every answer to it.

use std::io::Write;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::admit::{GoDuration, Level, RateLimits};

const REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
const TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];
/// Two numbers and a duration, as long as they usually are.
const LEVEL_BYTES: usize = 48;

/// Adds what is known; a limit that does not exist has no header.
pub(crate) fn write(rate_limits: &RateLimits, headers: &mut HeaderMap) {
    level(rate_limits.requests, REQUESTS, headers);
    level(rate_limits.tokens, TOKENS, headers);
}

/// The values are slices of one allocation: this is on every answer.
fn level(level: Option<Level>, names: [HeaderName; 3], headers: &mut HeaderMap) {
    let Some(level) = level else { return };
    let mut text = Vec::with_capacity(LEVEL_BYTES);
    let mut ends = [0; 3];
    let mut digits = itoa::Buffer::new();
    text.extend_from_slice(digits.format(level.limit).as_bytes());
    ends[0] = text.len();
    text.extend_from_slice(digits.format(level.remaining).as_bytes());
    ends[1] = text.len();
    // Writing to memory does not fail.
    let _ = write!(text, "{}", GoDuration(level.reset));
    ends[2] = text.len();
    let text = Bytes::from(text);
    let mut begin = 0;
    for (name, end) in names.into_iter().zip(ends) {
        if let Ok(value) = HeaderValue::from_maybe_shared(text.slice(begin..end)) {
            headers.insert(name, value);
        }
        begin = end;
    }
}
