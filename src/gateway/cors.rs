//! What browsers need to call the API (the Fetch standard's CORS protocol): a preflight carries no key and is answered
//! without one; `*` does not cover `Authorization`, so the headers it asks for are echoed.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ORIGIN,
    VARY,
};
use http::{HeaderMap, HeaderValue};

const EXPOSED: &str = "x-request-id, request-id, retry-after, retry-after-ms, x-should-retry, \
    x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, \
    x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens, \
    openai-processing-ms, x-weir-origin, x-weir-limit";
const DEFAULT_HEADERS: &str = "authorization, content-type";
const MAX_AGE_SECONDS: &str = "600";

/// Which origins may call.
#[derive(Debug)]
pub(crate) struct Cors {
    /// Empty: any.
    origins: Vec<HeaderValue>,
}

impl Cors {
    pub(crate) fn new(origins: &[String]) -> Self {
        let origins = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
        Self { origins: origins.collect() }
    }

    /// What `access-control-allow-origin` says to a request that came with `Origin`.
    pub(crate) fn allowed(&self, request: &HeaderMap) -> Option<HeaderValue> {
        let origin = request.get(ORIGIN)?;
        if self.origins.is_empty() {
            return Some(HeaderValue::from_static("*"));
        }
        self.origins.iter().find(|allowed| *allowed == origin).cloned()
    }

    /// Adds to any answer what lets a browser read it.
    pub(crate) fn decorate(&self, allowed: Option<HeaderValue>, headers: &mut HeaderMap) {
        let Some(allowed) = allowed else { return };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        if !self.origins.is_empty() {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
    }

    /// The answer's headers to a preflight for a path that allows `methods`.
    pub(crate) fn preflight(request: &HeaderMap, methods: &'static str) -> HeaderMap {
        let asked = request.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
        headers.insert(
            ACCESS_CONTROL_ALLOW_HEADERS,
            asked.unwrap_or(HeaderValue::from_static(DEFAULT_HEADERS)),
        );
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE_SECONDS));
        headers.insert(VARY, HeaderValue::from_static("access-control-request-headers"));
        headers
    }
}
