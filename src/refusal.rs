//! The only map from what can go wrong to what a client sees.
//!
//! Every stage has a small error of its own, about its own matter. Here each becomes one row of a table:
//! a status, a type, a code and a message that says what to do, in the form of the API documents
//! (`{"error":{"message","type","code"}}`; Anthropic's clients find a `"type":"error"` beside it), plus the headers that official SDKs obey: `retry-after` and
//! `x-should-retry`. What an operator needs beyond that goes to the log, never into an answer: an answer
//! names no host, no address, no key and nothing of a prompt.
//!
//! Whose fault it is shows in the type: `authentication_error`, `invalid_request_error`,
//! `rate_limit_error` and `insufficient_quota` are the client's, `upstream_error` the upstream's,
//! `server_error` ours.

mod tenant_scope;
mod body;
mod framing;
mod upstream;

use std::borrow::Cow;
use std::fmt::Display;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Serialize;

use crate::admit::Denied;
use crate::config::IdKind;
use crate::forward::SendError;
use crate::identify::Unidentified;
use crate::inspect::{Invalid, NotAllowed};
use crate::record::EventId;
use crate::route::{UnknownModel, UnpricedModel};

pub(crate) const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
pub(crate) const ORIGIN: HeaderName = HeaderName::from_static("x-weir-origin");
pub(crate) const LIMIT: HeaderName = HeaderName::from_static("x-weir-limit");
pub(crate) const UPSTREAM_STATUS: HeaderName = HeaderName::from_static("x-weir-upstream-status");

/// Official SDKs ignore a longer wait and try again at once, so over this they are told not to.
const LONGEST_RETRY_SECONDS: u64 = 60;

/// Whose clients hear an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    OpenAi,
    /// Anthropic's SDK takes an event for an error only if a line `event: error` says so, and errors
    /// have a type of their own beside the inner one.
    Anthropic,
}

/// An answer of Weir's own that refuses a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    kind: &'static str,
    pub(crate) code: &'static str,
    /// The field that is wrong, where OpenAI names it.
    param: Option<IdKind>,
    message: Cow<'static, str>,
    retry_after: Option<u64>,
    should_retry: Option<bool>,
    pub(crate) limit: Option<&'static str>,
    allow: Option<&'static str>,
    upstream_status: Option<u16>,
    /// Nothing more is heard on this connection.
    pub(crate) closes: bool,
}

impl Refusal {
    fn new(
        status: StatusCode,
        kind: &'static str,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            kind,
            code,
            param: None,
            message: message.into(),
            retry_after: None,
            should_retry: None,
            limit: None,
            allow: None,
            upstream_status: None,
            closes: false,
        }
    }

    fn client(
        code: &'static str,
        status: StatusCode,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(status, "invalid_request_error", code, message)
    }

    fn upstream(code: &'static str, status: StatusCode, message: &'static str) -> Self {
        Self::new(status, "upstream_error", code, message)
    }

    fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds.max(1));
        if seconds > LONGEST_RETRY_SECONDS {
            self.should_retry = Some(false);
        }
        self
    }

    fn should_retry(mut self, should: bool) -> Self {
        self.should_retry = Some(should);
        self
    }

    pub(crate) fn unknown_path(message: String) -> Self {
        Self::client("not_found", StatusCode::NOT_FOUND, message)
    }

    pub(crate) fn wrong_method(allow: &'static str) -> Self {
        let message = format!("This path answers {allow} only.");
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self { allow: Some(allow), ..Self::client("method_not_allowed", status, message) }
    }

    /// The API document's sentence, and after it what is wrong: `what` begins small and ends without a
    /// full stop.
    pub(crate) fn invalid(what: impl Display) -> Self {
        let what = what.to_string();
        let (first, rest) = what.split_at_checked(1).unwrap_or(("", &what));
        let message = format!("Invalid request. {}{rest}.", first.to_ascii_uppercase());
        Self::client("invalid_request", StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn unidentified() -> Self {
        let status = StatusCode::UNAUTHORIZED;
        Self::new(status, "authentication_error", "invalid_api_key", "Invalid API key.")
    }

    /// An address has presented too many keys that are nobody's.
    pub(crate) fn failed_keys(wait: Duration) -> Self {
        Self::rate_limited(wait.as_secs() + u64::from(wait.subsec_nanos() > 0), "failed-keys")
    }

    fn rate_limited(seconds: u64, limit: &'static str) -> Self {
        let status = StatusCode::TOO_MANY_REQUESTS;
        let message = "Rate limit exceeded.";
        let refusal = Self::new(status, "rate_limit_error", "rate_limit_exceeded", message);
        Self { limit: Some(limit), ..refusal }.retry_after(seconds)
    }

    pub(crate) fn overloaded(what: &'static str) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "server_error", "overloaded", what).retry_after(1)
    }

    pub(crate) fn ledger_unavailable() -> Self {
        let message = "The usage ledger cannot be written, so no request is forwarded.";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "server_error", "ledger_unavailable", message).retry_after(1)
    }

    /// The usage ledger failed when the answer was already there.
    pub(crate) fn ledger_failed_at_end() -> Self {
        Self { retry_after: None, ..Self::ledger_unavailable() }.should_retry(false)
    }

    pub(crate) fn shutting_down(is_sent: bool) -> Self {
        let message = "The gateway is shutting down.";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "server_error", "shutting_down", message).should_retry(!is_sent)
    }

    /// A bug: what was sent is not known, so the client is not told to try again.
    pub(crate) fn internal() -> Self {
        let message =
            "Something is wrong in the gateway; its log has the cause under this request id.";
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, "server_error", "internal_error", message).should_retry(false)
    }

    /// A running stream has used up its reservation, and its quotas have no room for more.
    pub(crate) fn quota_cut() -> Self {
        let message = "This answer has used up what its quotas had left, and was ended here.";
        let kind = "insufficient_quota";
        Self::new(StatusCode::TOO_MANY_REQUESTS, kind, kind, message).should_retry(false)
    }

    pub(crate) fn server_shutdown() -> Self {
        let message = "The gateway is shutting down and could not wait for the end of this answer.";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "server_error", "server_shutdown", message)
    }

    /// The limit that said no, as `x-weir-limit` names it.
    pub(crate) fn limit(&self) -> Option<&'static str> {
        self.limit
    }

    /// The body, as the API documents print it; Anthropic's errors name their request as well
    /// (<https://docs.anthropic.com/en/api/errors>).
    pub(crate) fn body(&self, family: Family, id: EventId) -> Bytes {
        let Self { message, kind, code, param, .. } = self;
        let error = Body { message, kind, code, param: param.map(IdKind::name) };
        let is_anthropic = family == Family::Anthropic;
        let outer = is_anthropic.then_some("error");
        let request_id = is_anthropic.then(|| id.to_text());
        let body = serde_json::to_vec(&Envelope { kind: outer, error, request_id });
        Bytes::from(body.expect("strings always serialise"))
    }

    /// The same as an event of a stream in the form that official SDKs raise as an error: for OpenAI's
    /// a plain `data:` line.
    pub(crate) fn event(&self, family: Family, id: EventId) -> Bytes {
        let name: &[u8] = match family {
            Family::OpenAi => b"",
            Family::Anthropic => b"event: error\n",
        };
        let mut event = [name, b"data: "].concat();
        event.extend_from_slice(&self.body(family, id));
        event.extend_from_slice(b"\n\n");
        Bytes::from(event)
    }

    /// The headers that belong to it.
    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ORIGIN, HeaderValue::from_static("gateway"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(should) = self.should_retry {
            let value = if should { "true" } else { "false" };
            headers.insert(SHOULD_RETRY, HeaderValue::from_static(value));
        }
        if let Some(limit) = self.limit {
            headers.insert(LIMIT, HeaderValue::from_static(limit));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(status) = self.upstream_status {
            headers.insert(UPSTREAM_STATUS, HeaderValue::from(status));
        }
        headers
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    error: Body<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

#[derive(Serialize)]
struct Body<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    param: Option<&'a str>,
}

impl From<Unidentified> for Refusal {
    fn from(_: Unidentified) -> Self {
        Self::unidentified()
    }
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        Self::invalid(invalid)
    }
}

impl From<NotAllowed> for Refusal {
    fn from(not_allowed: NotAllowed) -> Self {
        Self::invalid(not_allowed)
    }
}

impl From<UnknownModel> for Refusal {
    fn from(unknown: UnknownModel) -> Self {
        Self::client("model_not_found", StatusCode::NOT_FOUND, unknown.to_string())
    }
}

impl From<UnpricedModel> for Refusal {
    fn from(unpriced: UnpricedModel) -> Self {
        Self::client("model_unpriced", StatusCode::BAD_REQUEST, unpriced.to_string())
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        let limit = denied.limit_name();
        match denied {
            Denied::TooLarge { limit: which, allowed, asked, .. } => {
                let (asked, allowed) = (which.amount(asked), which.whole(allowed));
                let message = format!(
                    "This request asks for {asked}, more than the whole limit {limit} of {allowed}; \
                     shorten it or have the limit raised."
                );
                let refusal =
                    Self::client("request_exceeds_limit", StatusCode::BAD_REQUEST, message);
                Self { limit: Some(limit), ..refusal }
            }
            Denied::Quota { limit: which, resets_at_ms, .. } => {
                let resets = jiff::Timestamp::from_millisecond(resets_at_ms)
                    .map_or_else(|_| "later".to_owned(), |time| format!("at {time}"));
                let message = format!(
                    "The quota {limit} ({}) has no room for this request; it resets {resets}.",
                    which.unit()
                );
                let status = StatusCode::TOO_MANY_REQUESTS;
                let kind = "insufficient_quota";
                let refusal = Self::new(status, kind, kind, message).should_retry(false);
                Self { limit: Some(limit), ..refusal }
            }
            Denied::Concurrency { .. } | Denied::Rate { .. } => {
                Self::rate_limited(denied.retry_after_s().unwrap_or(1), limit)
            }
        }
    }
}

impl From<SendError> for Refusal {
    fn from(error: SendError) -> Self {
        let bad = StatusCode::BAD_GATEWAY;
        let late = StatusCode::GATEWAY_TIMEOUT;
        let (code, status, message) = match error {
            SendError::Dns => ("upstream_dns", bad, "The upstream's name does not resolve."),
            SendError::DnsTimeout => {
                ("upstream_dns_timeout", late, "The upstream's name did not resolve in time.")
            }
            SendError::Connect => ("upstream_connect", bad, "The upstream refuses connections."),
            SendError::ConnectTimeout => {
                ("upstream_connect_timeout", late, "The upstream could not be reached in time.")
            }
            SendError::Tls => ("upstream_tls", bad, "The upstream's identity cannot be verified."),
            SendError::Reset => {
                ("upstream_reset", bad, "The upstream closed the connection before it answered.")
            }
            SendError::HeadTimeout => {
                ("upstream_timeout", late, "The upstream did not answer in time.")
            }
            SendError::Protocol => {
                ("upstream_protocol", bad, "The upstream's answer cannot be understood.")
            }
        };
        // Once a byte was sent, a retry would run the request twice at the tenant's cost; a wrong
        // certificate does not become right by asking again.
        let should = !error.is_sent() && error != SendError::Tls;
        Self::upstream(code, status, message).should_retry(should)
    }
}
