//! Which header fields cross the gateway (RFC 9110 §7.6.1). What belongs to one
//! connection, to the tenant's key or to the upstream's account stays on its side; the rest passes.

use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, HOST, HeaderName,
    TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderValue};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
pub(crate) const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Turns a client's request head into the upstream's: in place, so that what passes is not copied.
/// `api_key`: the upstream's key once more, where Anthropic's servers look for it.
pub(crate) fn toward_upstream(
    headers: &mut HeaderMap,
    host: &HeaderValue,
    authorization: Option<&HeaderValue>,
    api_key: Option<&HeaderValue>,
) {
    remove_named_by_connection(headers);
    remove(headers, stays_with_the_client);
    headers.insert(HOST, host.clone());
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    match authorization {
        Some(authorization) => drop(headers.insert(AUTHORIZATION, authorization.clone())),
        None => drop(headers.remove(AUTHORIZATION)),
    }
    if let Some(api_key) = api_key {
        headers.insert(API_KEY, api_key.clone());
    }
}

/// Turns the upstream's response head into the client's, in place.
pub(crate) fn toward_client(headers: &mut HeaderMap, is_event_stream: bool, is_edited: bool) {
    // A length beside chunks is not true (RFC 9112 §6.3), and one that an edit or an error event will
    // change is not either.
    let is_false = headers.contains_key(TRANSFER_ENCODING) || is_edited || is_event_stream;
    remove_named_by_connection(headers);
    remove(headers, stays_with_the_upstream);
    if is_false {
        headers.remove(CONTENT_LENGTH);
    }
    if is_event_stream {
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
        headers.entry(ACCEL_BUFFERING).or_insert(HeaderValue::from_static("no"));
    }
}

/// Fields of one connection: never forwarded, in either direction.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// What a request must not carry to the upstream: credentials of the tenant, the account choice that
/// belongs to them, its addresses, and framing that is made anew: the body goes on uncompressed. (What is
/// replaced is replaced in place.)
fn stays_with_the_client(name: &str) -> bool {
    is_hop_by_hop(name)
        || matches!(
            name,
            "proxy-authorization"
                | "api-key"
                | "x-api-key"
                | "cookie"
                | "expect"
                | "content-length"
                | "content-encoding"
                | "openai-organization"
                | "openai-project"
                | "forwarded"
                | "x-forwarded-for"
                | "x-forwarded-host"
                | "x-forwarded-proto"
        )
}

/// What a response must not carry to the client: it is about the upstream's account or its site, or
/// the gateway says it itself.
fn stays_with_the_upstream(name: &str) -> bool {
    is_hop_by_hop(name)
        || matches!(
            name,
            "set-cookie"
                | "alt-svc"
                | "openai-organization"
                | "openai-project"
                | "x-request-id"
                | "x-weir-origin"
                | "x-weir-limit"
        )
        || name.starts_with("x-ratelimit-")
        || name.starts_with("access-control-")
}

/// Removes what `Connection` names (RFC 9110 §7.6.1). `close` and `keep-alive` name no field; a hostile
/// value may name any.
fn remove_named_by_connection(headers: &mut HeaderMap) {
    let Some(named) = headers.get(CONNECTION) else { return };
    if named == "close" || named == "keep-alive" {
        return;
    }
    let named: Vec<HeaderValue> = headers.get_all(CONNECTION).iter().cloned().collect();
    for name in named.iter().filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(',')) {
        if let Ok(name) = HeaderName::try_from(name.trim()) {
            headers.remove(name);
        }
    }
}

/// Looks at each field once; nearly all of them stay.
fn remove(headers: &mut HeaderMap, is_out_of_place: impl Fn(&str) -> bool) {
    let is_out_of_place = |name: &&HeaderName| is_out_of_place(name.as_str());
    let names: Vec<HeaderName> = headers.keys().filter(is_out_of_place).cloned().collect();
    for name in names {
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
        let mut anthropic = headers.clone();
        toward_upstream(&mut headers, &host, Some(&key), None);
        toward_upstream(&mut anthropic, &host, Some(&key), Some(&host));
        assert_eq!(anthropic.remove(API_KEY), Some(host));
        assert_eq!(anthropic, headers);
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
