//! Which header fields cross the gateway. What is on a list passes ([`lists`]), and what an operator has
//! added to it; all else stays on its side. Fields of one connection cross in neither direction
//! (RFC 9110 §7.6.1).

mod lists;
#[cfg(test)]
mod tests;

use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, HOST, HeaderName,
    TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderValue};

use self::lists::{
    comes_back, goes_upstream, has_underscore, is_the_accounts, is_trusted_upstream, may_be_named,
};
use crate::config::HeaderList;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
pub(crate) const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Turns a client's request head into the upstream's: in place, so that what passes is not copied.
/// `api_key`: the upstream's key once more, where Anthropic's servers look for it. `also`: what the operator
/// lets through besides.
pub(crate) fn toward_upstream(
    headers: &mut HeaderMap,
    host: &HeaderValue,
    authorization: Option<&HeaderValue>,
    api_key: Option<&HeaderValue>,
    also: &HeaderList,
) {
    remove_named_by_connection(headers);
    keep(headers, |name| {
        // What is replaced is replaced in place.
        goes_upstream(name)
            || matches!(name, "host" | "authorization" | "accept-encoding")
            || also.names(name)
            || (also.covers(name) && !has_underscore(name) && !is_trusted_upstream(name))
    });
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
pub(crate) fn toward_client(
    headers: &mut HeaderMap,
    is_event_stream: bool,
    is_edited: bool,
    also: &HeaderList,
) {
    // A length beside chunks is not true (RFC 9112 §6.3), and one that an edit or an error event will
    // change is not either.
    let is_false = headers.contains_key(TRANSFER_ENCODING) || is_edited || is_event_stream;
    remove_named_by_connection(headers);
    keep(headers, |name| {
        comes_back(name)
            || also.names(name)
            || (also.covers(name) && !has_underscore(name) && !is_the_accounts(name))
    });
    if is_false {
        headers.remove(CONTENT_LENGTH);
    }
    if is_event_stream {
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
        headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    }
}

/// Removes what `Connection` names, in whichever of its lines. `close` and `keep-alive` name no field, and
/// what is no name is none; a hostile value may name any.
fn remove_named_by_connection(headers: &mut HeaderMap) {
    let mut named = Vec::new();
    for value in headers.get_all(CONNECTION) {
        if value == "close" || value == "keep-alive" {
            continue;
        }
        let names = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        let names = names.filter_map(|name| HeaderName::from_bytes(name).ok());
        named.extend(names.filter(|name| may_be_named(name.as_str())));
    }
    for name in named {
        headers.remove(name);
    }
}

/// Looks at each field once; nearly all of them stay.
fn keep(headers: &mut HeaderMap, passes: impl Fn(&str) -> bool) {
    let stays_back = |name: &&HeaderName| !passes(name.as_str());
    let names: Vec<HeaderName> = headers.keys().filter(stays_back).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}
