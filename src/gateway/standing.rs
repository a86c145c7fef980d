//! `x-ratelimit-*` on every answer to a key that is known, streams included (OpenAI's rate limit headers).

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::admit::{GoDuration, Level, Standing};

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

/// Adds what is known; a limit that does not exist has no header.
pub(crate) fn write(standing: &Standing, headers: &mut HeaderMap) {
    level(standing.requests, REQUESTS, headers);
    level(standing.tokens, TOKENS, headers);
}

fn level(
    level: Option<Level>,
    [limit, remaining, reset]: [HeaderName; 3],
    headers: &mut HeaderMap,
) {
    let Some(level) = level else { return };
    headers.insert(limit, HeaderValue::from(level.limit));
    headers.insert(remaining, HeaderValue::from(level.remaining));
    if let Ok(value) = HeaderValue::from_str(&GoDuration(level.reset).to_string()) {
        headers.insert(reset, value);
    }
}
