//! Which header fields cross the gateway (contract section 6, RFC 9110 §7.6.1). What belongs to one
//! connection, to the tenant's key or to the upstream's account stays on its side; the rest passes.

use http::header::{
    ACCEPT_ENCODING, ALT_SVC, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING,
    CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue};

/// Fields of one connection: never forwarded, in either direction.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What a request must not carry to the upstream: credentials of the tenant, the account choice that
/// belongs to them, and framing that is made anew.
const NOT_UPSTREAM: [HeaderName; 15] = [
    AUTHORIZATION,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-api-key"),
    COOKIE,
    EXPECT,
    HOST,
    CONTENT_LENGTH,
    ACCEPT_ENCODING,
    HeaderName::from_static("openai-organization"),
    HeaderName::from_static("openai-project"),
    HeaderName::from_static("forwarded"),
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
];

/// What a response must not carry to the client: it is about the upstream's account or its site.
const NOT_DOWNSTREAM: [HeaderName; 7] = [
    SET_COOKIE,
    ALT_SVC,
    HeaderName::from_static("openai-organization"),
    HeaderName::from_static("openai-project"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("x-weir-origin"),
    HeaderName::from_static("x-weir-limit"),
];

pub(crate) const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Turns a client's request head into the upstream's: in place, so that what passes is not copied.
pub(crate) fn toward_upstream(
    headers: &mut HeaderMap,
    host: &HeaderValue,
    authorization: Option<&HeaderValue>,
) {
    remove_hop_by_hop(headers);
    for name in &NOT_UPSTREAM {
        headers.remove(name);
    }
    // The body was decoded to be inspected; it goes on as it was before compression.
    headers.remove(CONTENT_ENCODING);
    headers.insert(HOST, host.clone());
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(authorization) = authorization {
        headers.insert(AUTHORIZATION, authorization.clone());
    }
}

/// Turns the upstream's response head into the client's, in place.
pub(crate) fn toward_client(headers: &mut HeaderMap, is_event_stream: bool, is_edited: bool) {
    // Beside chunks a length means nothing (RFC 9112 §6.3), and passed on alone it would be believed.
    let is_chunked = headers.contains_key(TRANSFER_ENCODING);
    remove_hop_by_hop(headers);
    for name in &NOT_DOWNSTREAM {
        headers.remove(name);
    }
    remove_matching(headers, |name| {
        name.starts_with("x-ratelimit-") || name.starts_with("access-control-")
    });
    if is_edited || is_event_stream || is_chunked {
        headers.remove(CONTENT_LENGTH);
    }
    if is_event_stream {
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
        headers.entry(ACCEL_BUFFERING).or_insert(HeaderValue::from_static("no"));
    }
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if let Some(named) = headers.get(CONNECTION).cloned() {
        let text = named.to_str().unwrap_or_default();
        for name in text.split(',').map(str::trim) {
            // `connection: close` and `keep-alive` name no field; a hostile one may name any.
            if let Ok(name) = HeaderName::try_from(name) {
                headers.remove(name);
            }
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

fn remove_matching(headers: &mut HeaderMap, is_matching: impl Fn(&str) -> bool) {
    while let Some(name) = headers.keys().find(|name| is_matching(name.as_str())).cloned() {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::try_from(*name).expect("a name");
            headers.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        headers
    }

    #[test]
    fn a_request_loses_what_is_the_tenants_and_keeps_the_rest() {
        let mut headers = map(&[
            ("authorization", "Bearer sk-weir-x"),
            ("x-api-key", "sk-weir-x"),
            ("cookie", "a=b"),
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("te", "trailers"),
            ("expect", "100-continue"),
            ("content-length", "3"),
            ("openai-organization", "org"),
            ("user-agent", "OpenAI/Python 3.54.0"),
            ("x-stainless-lang", "python"),
            ("openai-beta", "one"),
            ("openai-beta", "two"),
        ]);
        let host = HeaderValue::from_static("up.example");
        let key = HeaderValue::from_static("Bearer up");
        toward_upstream(&mut headers, &host, Some(&key));
        let expected = map(&[
            ("user-agent", "OpenAI/Python 3.54.0"),
            ("x-stainless-lang", "python"),
            ("openai-beta", "one"),
            ("openai-beta", "two"),
            ("host", "up.example"),
            ("accept-encoding", "identity"),
            ("authorization", "Bearer up"),
        ]);
        assert_eq!(headers, expected);
    }

    #[test]
    fn a_response_loses_what_is_the_accounts_and_streams_are_not_buffered() {
        let upstream = map(&[
            ("connection", "keep-alive"),
            ("set-cookie", "__cf_bm=1"),
            ("alt-svc", "h3"),
            ("x-ratelimit-limit-requests", "1"),
            ("x-ratelimit-remaining-tokens", "1"),
            ("access-control-allow-origin", "*"),
            ("openai-organization", "org"),
            ("content-length", "9"),
            ("retry-after", "7"),
            ("x-unknown", "stays"),
        ]);
        let mut headers = upstream.clone();
        toward_client(&mut headers, false, false);
        let plain = [("content-length", "9"), ("retry-after", "7"), ("x-unknown", "stays")];
        assert_eq!(headers, map(&plain));
        let mut headers = upstream;
        toward_client(&mut headers, true, true);
        let streamed = [
            ("retry-after", "7"),
            ("x-unknown", "stays"),
            ("cache-control", "no-cache"),
            ("x-accel-buffering", "no"),
        ];
        assert_eq!(headers, map(&streamed));
    }

    #[test]
    fn a_length_that_would_not_be_true_is_taken_out() {
        for (extra, is_event_stream, is_edited) in [
            (("transfer-encoding", "chunked"), false, false),
            (("x", "y"), true, false),
            (("x", "y"), false, true),
        ] {
            let mut headers = map(&[("content-length", "9"), extra]);
            toward_client(&mut headers, is_event_stream, is_edited);
            assert!(
                !headers.contains_key(CONTENT_LENGTH),
                "{extra:?} {is_event_stream} {is_edited}"
            );
        }
    }
}
