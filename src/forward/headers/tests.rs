//! The lists as a reader would check them: each field by name, in each direction.

use super::*;

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::try_from(*name).expect("a name");
        headers.append(name, HeaderValue::from_str(value).expect("a value"));
    }
    headers
}

fn list(texts: &[&str]) -> HeaderList {
    let mut list = HeaderList::default();
    texts.iter().for_each(|text| list.add(text).expect("a name"));
    list
}

/// What becomes of a request's head.
fn upstream(fields: &[(&str, &str)], also: &[&str]) -> HeaderMap {
    let mut headers = map(fields);
    let (host, key) =
        (HeaderValue::from_static("up.example"), HeaderValue::from_static("Bearer up"));
    toward_upstream(&mut headers, &host, Some(&key), None, &list(also));
    headers
}

fn client(fields: &[(&str, &str)], also: &[&str]) -> HeaderMap {
    let mut headers = map(fields);
    toward_client(&mut headers, false, false, &list(also));
    headers
}

/// What the official SDKs send and need upstream, and what traces a request or tells runs apart.
const GOES: &[&str] = &[
    "accept",
    "accept-language",
    "content-type",
    "user-agent",
    "openai-beta",
    "anthropic-version",
    "anthropic-beta",
    "x-stainless-lang",
    "x-stainless-retry-count",
    "x-stainless-raw-response",
    "traceparent",
    "tracestate",
    "x-request-id",
    "x-client-request-id",
    "idempotency-key",
    "x-trace-id",
    "x-correlation-id",
    "x-session-id",
    "x-experiment",
    "x-trial",
    "x-sim-mode",
];

/// What stays with the client whatever it is: others' credentials, the choice of an account, addresses, what
/// rewrites a request, what a browser adds, forms with an underscore, and whatever nobody knows.
const STAYS: &[&str] = &[
    "x-api-key",
    "api-key",
    "proxy-authorization",
    "cookie",
    "x-goog-api-key",
    "ocp-apim-subscription-key",
    "x-litellm-api-key",
    "x-portkey-api-key",
    "x-portkey-custom-host",
    "helicone-auth",
    "cf-aig-authorization",
    "x-auth-token",
    "x-amz-security-token",
    "openai-organization",
    "openai-project",
    "anthropic-workspace-id",
    "anthropic-user-profile-id",
    "openai_organization",
    "x_forwarded_for",
    "x-stainless-a_b",
    "x-sim-a_b",
    "transfer_encoding",
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
    "x-host",
    "baggage",
    "origin",
    "referer",
    "sec-fetch-mode",
    "content-length",
    "content-encoding",
    "expect",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "proxy-connection",
    "x-unknown",
];

/// What a client needs of an answer.
const COMES: &[&str] = &[
    "content-type",
    "content-length",
    "content-encoding",
    "content-language",
    "content-disposition",
    "cache-control",
    "date",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "openai-processing-ms",
    "openai-version",
];

/// What stays with the upstream: its account and its limits, its hosts, what Weir says itself, what a browser
/// or a proxy would obey, and whatever nobody knows.
const STAYS_BACK: &[&str] = &[
    "openai-organization",
    "openai-project",
    "openai-model",
    "anthropic-organization-id",
    "anthropic-workspace-id",
    "anthropic-ratelimit-requests-remaining",
    "x-ratelimit-limit-requests",
    "ratelimit",
    "ratelimit-policy",
    "x-rate-limit-remaining",
    "x-litellm-model-api-base",
    "x-litellm-key-spend",
    "x-litellm-response-cost",
    "x-litellm-model-name",
    "llm_provider-x-request-id",
    "x-ms-region",
    "x-ms-client-request-id",
    "x-groq-region",
    "x-request-id",
    "request-id",
    "x-weir-origin",
    "x-weir-limit",
    "access-control-allow-origin",
    "set-cookie",
    "strict-transport-security",
    "content-security-policy",
    "clear-site-data",
    "refresh",
    "link",
    "nel",
    "report-to",
    "location",
    "x-accel-redirect",
    "x-accel-buffering",
    "alt-svc",
    "server",
    "via",
    "cf-ray",
    "www-authenticate",
    "proxy-authenticate",
    "keep-alive",
    "upgrade",
    "x-unknown",
];

#[test]
fn a_request_takes_along_what_is_on_the_list_and_nothing_else() {
    for name in GOES {
        let values = [(*name, "one"), (*name, "two")];
        let passed: Vec<_> = upstream(&values, &[]).get_all(*name).iter().cloned().collect();
        assert_eq!(passed, ["one", "two"], "{name}");
    }
    for name in STAYS {
        // Neither by itself nor by a beginning that an operator lets through; by its very name it passes,
        // unless it is for the gateway to say or has an underscore.
        for also in [&[][..], &["x-*", "cf-*", "helicone-*", "x-stainless-*"]] {
            let is_unknown = *name == "x-unknown" && !also.is_empty();
            let passes = upstream(&[(name, "canary")], also).contains_key(*name);
            assert_eq!(passes, is_unknown, "{name} {also:?}");
        }
        let mut exact = HeaderList::default();
        if exact.add(name).is_ok() {
            assert!(upstream(&[(name, "1")], &[name]).contains_key(*name), "{name}");
        }
    }
}

#[test]
fn an_answer_brings_along_what_is_on_the_list_and_nothing_else() {
    for name in COMES {
        assert!(client(&[(name, "1")], &[]).contains_key(*name), "{name}");
    }
    for name in STAYS_BACK {
        for also in [&[][..], &["x-*", "openai-*", "anthropic-*"]] {
            let is_let = !also.is_empty() && matches!(*name, "x-unknown" | "openai-model");
            assert_eq!(client(&[(name, "1")], also).contains_key(*name), is_let, "{name} {also:?}");
        }
        let mut exact = HeaderList::default();
        if exact.add(name).is_ok() {
            assert!(client(&[(name, "1")], &[name]).contains_key(*name), "{name}");
        }
    }
}

#[test]
fn the_upstreams_key_takes_the_place_of_the_tenants() {
    let fields = [
        ("authorization", "Bearer sk-weir-x"),
        ("x-api-key", "sk-weir-x"),
        ("accept-encoding", "gzip"),
        ("host", "gateway.example"),
        ("accept", "application/json"),
    ];
    let common =
        [("host", "up.example"), ("accept-encoding", "identity"), ("accept", "application/json")];
    let expected = [&common[..], &[("authorization", "Bearer up")]].concat();
    assert_eq!(upstream(&fields, &[]), map(&expected));
    let host = HeaderValue::from_static("up.example");
    let mut keyless = map(&fields);
    toward_upstream(&mut keyless, &host, None, None, &HeaderList::default());
    assert_eq!(keyless, map(&common));
    let mut both = map(&fields);
    toward_upstream(&mut both, &host, None, Some(&host), &HeaderList::default());
    assert_eq!(both, map(&[&common[..], &[("x-api-key", "up.example")]].concat()));
}

#[test]
fn connection_takes_out_what_is_of_one_connection_whichever_line_names_it() {
    // The lines of `Connection`, and which of three fields they leave.
    let cases: [(&[&str], &str); 10] = [
        (&[], "traceparent content-type cache-control"),
        (&["close"], "traceparent content-type cache-control"),
        (&["keep-alive, traceparent"], "content-type cache-control"),
        (&["close", "TraceParent"], "content-type cache-control"),
        (&["keep-alive", "x", " traceparent ,"], "content-type cache-control"),
        (&["content-type, cache-control, host"], "traceparent content-type cache-control"),
        (&["traceparent;q=1"], "traceparent content-type cache-control"),
        (&["traceparent;q=1, traceparent"], "content-type cache-control"),
        (&["\u{e9}, traceparent"], "content-type cache-control"),
        (&["close;q=1", "a b", "@"], "traceparent content-type cache-control"),
    ];
    for (lines, left) in cases {
        let mut headers =
            map(&[("content-type", "a/b"), ("traceparent", "1"), ("cache-control", "x")]);
        for line in lines {
            let line = HeaderValue::from_bytes(line.as_bytes()).expect("a value");
            headers.append(CONNECTION, line);
        }
        remove_named_by_connection(&mut headers);
        headers.remove(CONNECTION);
        let found = left.split(' ').filter(|name| headers.contains_key(*name)).count();
        assert_eq!((headers.len(), found), (found, left.split(' ').count()), "{lines:?}");
        // What nobody lets through needs no `Connection` to stay on its side.
        let fields: Vec<_> =
            lines.iter().filter(|line| line.is_ascii()).map(|line| ("connection", *line)).collect();
        let both = [&fields[..], &[("x-hop", "1")]].concat();
        assert!(
            !upstream(&both, &[]).contains_key("x-hop")
                && !client(&both, &[]).contains_key("x-hop")
        );
    }
}

#[test]
fn a_stream_is_not_buffered_and_a_length_that_would_not_be_true_is_taken_out() {
    let mut stream = map(&[("x-accel-buffering", "yes"), ("x-accel-redirect", "/secret")]);
    toward_client(&mut stream, true, false, &HeaderList::default());
    assert_eq!(stream, map(&[("cache-control", "no-cache"), ("x-accel-buffering", "no")]));
    for (extra, is_event_stream, is_edited, is_true) in [
        (("transfer-encoding", "chunked"), false, false, false),
        (("x", "y"), true, false, false),
        (("x", "y"), false, true, false),
        (("x", "y"), false, false, true),
    ] {
        let mut headers = map(&[("content-length", "9"), extra]);
        toward_client(&mut headers, is_event_stream, is_edited, &HeaderList::default());
        assert_eq!(
            headers.contains_key(CONTENT_LENGTH),
            is_true,
            "{extra:?} {is_event_stream} {is_edited}"
        );
    }
}
