//! Which header fields pass by themselves, and which no beginning of a name lets through.
//!
//! What is not named here stays on its side, because nobody can name all that must not pass: each gateway,
//! proxy and provider has credentials, addresses and account details of its own. An operator adds what an
//! upstream or its clients need (`request_headers`, `response_headers`).

/// A request's fields that go upstream: what the official SDKs send (`_base_client.py` of openai and
/// anthropic) apart from credentials and the choice of an account, what traces a request across hosts
/// (W3C Trace Context; its baggage is for one's own hosts), by which tools that compare models tell their
/// runs apart, and what Weir's own simulator obeys and no other server knows.
pub(super) fn goes_upstream(name: &str) -> bool {
    // By length first: one look tells of most.
    let is_listed = match name.len() {
        6 => name == "accept",
        7 => name == "x-trial",
        10 => matches!(name, "user-agent" | "tracestate" | "x-trace-id"),
        11 => matches!(name, "openai-beta" | "traceparent"),
        12 => matches!(name, "content-type" | "x-request-id" | "x-session-id" | "x-experiment"),
        14 => name == "anthropic-beta",
        15 => matches!(name, "accept-language" | "idempotency-key"),
        16 => name == "x-correlation-id",
        17 => name == "anthropic-version",
        19 => name == "x-client-request-id",
        _ => false,
    };
    let has_prefix = || name.starts_with("x-stainless-") || name.starts_with("x-sim-");
    is_listed || (has_prefix() && !has_underscore(name))
}

/// Servers that make variables of fields take it for the one with a hyphen (RFC 3875 §4.1.18).
pub(super) fn has_underscore(name: &str) -> bool {
    memchr::memchr(b'_', name.as_bytes()).is_some()
}

/// A response's fields that reach the client: what describes the body, and what the official SDKs read,
/// apart from ids and rate limits, which Weir says itself. None of them acts on the site that a
/// browser sees, names an account or a host, or says what the upstream is made of.
pub(super) fn comes_back(name: &str) -> bool {
    match name.len() {
        4 => name == "date",
        11 => name == "retry-after",
        12 => name == "content-type",
        13 => name == "cache-control",
        14 => matches!(
            name,
            "content-length" | "retry-after-ms" | "x-should-retry" | "openai-version"
        ),
        16 => matches!(name, "content-encoding" | "content-language"),
        19 => name == "content-disposition",
        20 => name == "openai-processing-ms",
        _ => false,
    }
}

/// What only its very name lets through, in a request: credentials of other gateways, and fields by which
/// one can be told who asks, or what. They would be taken for the operator's word.
pub(super) fn is_trusted_upstream(name: &str) -> bool {
    let begins = |prefix: &str| name.starts_with(prefix);
    let is_secret = |word: &str| {
        matches!(
            word,
            "key"
                | "apikey"
                | "auth"
                | "authorization"
                | "token"
                | "secret"
                | "password"
                | "credential"
                | "credentials"
                | "cookie"
                | "signature"
        )
    };
    name.split('-').any(is_secret)
        || name.ends_with("-ip")
        || begins("x-portkey-")
        || begins("x-forwarded-")
        || begins("x-envoy-")
        || begins("x-original-")
        || begins("x-rewrite-")
        || matches!(
            name,
            "x-host" | "x-http-method" | "x-http-method-override" | "x-method-override"
        )
        || is_the_gateways(name)
}

/// The same of a response: what is about the upstream's account or its hosts, what a browser or a proxy would
/// obey, and what Weir says itself.
pub(super) fn is_the_accounts(name: &str) -> bool {
    let begins = |prefix: &str| name.starts_with(prefix);
    let words = ["ratelimit", "rate-limit", "organization", "project", "cookie", "workspace"];
    words.iter().any(|word| name.contains(word))
        || begins("x-litellm-")
        || begins("llm_provider-")
        || begins("x-ms-")
        || begins("x-accel-")
        || begins("access-control-")
        || begins("x-weir-")
        || matches!(name, "x-request-id" | "x-groq-region")
        || is_the_gateways(name)
}

/// Fields of one connection (RFC 9110 §7.6.1), framing, and whatever is said anew on each side.
fn is_the_gateways(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "expect"
            | "host"
            | "content-length"
            | "content-encoding"
            | "accept-encoding"
    )
}

/// Whether `Connection` can take a field out. It is for fields of one connection; what describes the message
/// is for everybody who gets it (RFC 9110 §7.6.1), and a list of others must not decide how it is read.
pub(super) fn may_be_named(name: &str) -> bool {
    let is_the_messages = name.starts_with("content-")
        || matches!(
            name,
            "host"
                | "authorization"
                | "cache-control"
                | "date"
                | "retry-after"
                | "transfer-encoding"
        );
    !is_the_messages
}
