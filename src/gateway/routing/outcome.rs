//! Whose fault it is how an attempt went. Each answer and each error is one of few cases, and no case is left to chance:
//! what the client sent never counts against an upstream, what a key's account lacks against that key alone.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use crate::config::Retry;
use crate::forward::{Inbound, SendError};
use crate::route::Outcome;

/// So much of a refusal is read to see what it is about, and for so long.
const REFUSAL_BYTES: usize = 16 * 1024;
const REFUSAL_TIME: Duration = Duration::from_millis(250);

/// Codes and types of errors that say that the account can't pay, or is closed: OpenAI's, DeepSeek's, Anthropic's.
const BILLING: [&str; 7] = [
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_not_active",
    "account_deactivated",
    "insufficient_balance",
    "billing_error",
    "credit_balance_too_low",
];

/// Whether another candidate may be tried after such an answer: nothing was generated.
pub(super) fn is_elsewhere(status: StatusCode, retry: &Retry) -> bool {
    is_key_s(status) || retry.on_status.contains(&status.as_u16())
}

fn is_key_s(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::PAYMENT_REQUIRED)
}

/// Whether only the body says whose fault it is.
pub(super) fn needs_body(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS
}

pub(super) fn of_error(error: SendError) -> Outcome {
    match error {
        SendError::Dns
        | SendError::DnsTimeout
        | SendError::Connect
        | SendError::ConnectTimeout
        | SendError::Tls
        | SendError::Reset
        | SendError::HeadTimeout
        | SendError::Protocol => Outcome::Failed,
    }
}

/// By the status alone.
pub(super) fn of_status(status: StatusCode) -> Outcome {
    match status.as_u16() {
        401 | 402 => Outcome::KeyRejected,
        429 => Outcome::Limited(None),
        // It does not know the method: so it is the request's.
        501 => Outcome::Answered,
        // A redirect is a wrong address: no request is ever answered there.
        300..=399 | 500..=599 => Outcome::Failed,
        // What the client sent is refused, too long a context included; or it is answered.
        _ => Outcome::Answered,
    }
}

/// By the body of a 429: whether the account is to wait, or to be paid for.
pub(super) async fn of_body(inbound: &mut Inbound) -> Outcome {
    let wait = retry_after(inbound.response.headers());
    let read = inbound.read_ahead(REFUSAL_BYTES, REFUSAL_TIME).await;
    match read.is_some_and(|body| is_billing(&body)) {
        true => Outcome::KeyRejected,
        false => Outcome::Limited(wait),
    }
}

/// In whole seconds (RFC 9110 §10.2.3); dates are not used by these APIs. OpenAI's and Azure's more exact one first.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let ms = number("retry-after-ms").map(Duration::from_millis);
    ms.or_else(|| number(RETRY_AFTER.as_str()).map(Duration::from_secs))
}

#[derive(Deserialize)]
struct Refused {
    error: Value,
}

fn is_billing(body: &[u8]) -> bool {
    let Ok(Refused { error }) = serde_json::from_slice(body) else { return false };
    let says = |member: &str| error.get(member).and_then(Value::as_str);
    ["code", "type"].into_iter().filter_map(says).any(|said| BILLING.contains(&said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_sent_is_nobody_s_failure_and_an_account_s_lack_is_the_key_s() {
        for (status, outcome) in [
            (200, Outcome::Answered),
            (400, Outcome::Answered),
            (404, Outcome::Answered),
            (413, Outcome::Answered),
            (422, Outcome::Answered),
            (501, Outcome::Answered),
            (401, Outcome::KeyRejected),
            (402, Outcome::KeyRejected),
            (302, Outcome::Failed),
            (500, Outcome::Failed),
            (503, Outcome::Failed),
            (529, Outcome::Failed),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!((of_status(status), needs_body(status)), (outcome, false), "{status}");
        }
        assert!(needs_body(StatusCode::TOO_MANY_REQUESTS));
    }

    #[test]
    fn billing_is_told_by_code_or_type_and_not_by_words() {
        for (body, expected) in [
            (r#"{"error":{"code":"insufficient_quota","type":"insufficient_quota"}}"#, true),
            (r#"{"error":{"type":"billing_error","message":"x"}}"#, true),
            (r#"{"error":{"code":"rate_limit_exceeded","message":"insufficient_quota"}}"#, false),
            (r#"{"error":"insufficient_quota"}"#, false),
            ("insufficient_quota", false),
            ("", false),
        ] {
            assert_eq!(is_billing(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn waits_are_read_in_both_forms() {
        let wait = |name: &'static str, value: &'static str| {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
            retry_after(&headers)
        };
        assert_eq!(wait("retry-after", "20"), Some(Duration::from_secs(20)));
        assert_eq!(wait("retry-after-ms", "1500"), Some(Duration::from_millis(1500)));
        assert_eq!(wait("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT"), None);
        assert_eq!(wait("retry-after", "-1"), None);
    }
}
