//! What the operator of an upstream lets pass: fields, background answers, and the query.
//!
//! A query can say what a body says (LiteLLM takes `model` out of it first, Go's `FormValue` any field),
//! and no client of these APIs puts anything there that decides. So what decides is refused, by any
//! spelling that a reader may undo, and of the rest only the names pass that the operator lists. The
//! others are left out without a word: that is what APIs do with parameters that they do not know, and
//! a client that adds one for its own ends (a trace, a cache's key) works as before.

use http::Uri;
use http::uri::PathAndQuery;

use crate::config::Upstream;
use crate::inspect::{NotAllowed, RefusableFields, RequestFacts, checked};

/// What goes upstream of the request's target, if the request may go there at all. `index`: the
/// upstream's place in the configuration.
pub(crate) fn target(
    uri: &Uri,
    facts: &RequestFacts,
    upstream: &Upstream,
    index: usize,
    refusable: &RefusableFields,
) -> Result<PathAndQuery, NotAllowed> {
    if let Some(field) = refusable.refused(index, facts.refusable) {
        return Err(NotAllowed::Field(field));
    }
    if facts.background && !upstream.allow_background {
        return Err(NotAllowed::Background);
    }
    let whole = uri.path_and_query().cloned();
    let whole = whole.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let Some(query) = whole.query() else { return Ok(whole) };
    let kept = kept(query, &upstream.allow_query, |name| {
        refusable.refused(index, refusable.find_spelt(name))
    })?;
    if kept == query {
        return Ok(whole);
    }
    let target = match &*kept {
        "" => whole.path().to_owned(),
        kept => format!("{}?{kept}", whole.path()),
    };
    Ok(target.try_into().expect("it is a part of one that was valid"))
}

/// The parameters that pass, as they were written.
fn kept(
    query: &str,
    allowed: &[String],
    refused: impl Fn(&str) -> Option<String>,
) -> Result<String, NotAllowed> {
    let mut kept = String::new();
    // Some readers divide at semicolons, too.
    for pair in query.split(['&', ';']) {
        let raw = pair.split('=').next().unwrap_or_default();
        let name = decoded(raw);
        if let Some(key) = checked(&name) {
            return Err(NotAllowed::InQuery(key));
        }
        if let Some(field) = refused(&name) {
            return Err(NotAllowed::Field(field));
        }
        if allowed.iter().any(|allowed| allowed == raw) {
            if !kept.is_empty() {
                kept.push('&');
            }
            kept.push_str(pair);
        }
    }
    Ok(kept)
}

/// A name as readers of forms decode it: `+` is a space, `%41` a byte.
fn decoded(raw: &str) -> String {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        let digit = |at: usize| more.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &more[2..];
            }
            (b'+', ..) => bytes.push(b' '),
            (byte, ..) => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_listed_passes_and_nothing_that_decides() {
        let allowed = ["api-version", "beta"].map(str::to_owned);
        let refused = |name: &str| name.starts_with("mock_").then(|| "mock_*".to_owned());
        for (query, expected) in [
            ("", Ok("")),
            ("api-version=1%2F2&beta=true", Ok("api-version=1%2F2&beta=true")),
            ("x=%20&&beta&trace=a=b;api-version=2", Ok("beta&api-version=2")),
            ("Beta=1&%62eta=1&beta%5B%5D=1&=x", Ok("")),
            ("beta=model&beta=n%3D3", Ok("beta=model&beta=n%3D3")),
            ("model=x", Err("`model`")),
            ("beta=1;model=x", Err("`model`")),
            ("m%6fdel=x", Err("`model`")),
            ("Model", Err("`model`")),
            ("+n+=3", Err("`n`")),
            ("n[]=3", Err("`n`")),
            ("n%5B0%5D=3", Err("`n`")),
            ("max_to%e2%84%aaens=9", Err("`max_tokens`")),
            ("api-version=1&STREAM=true", Err("`stream`")),
            ("mock_response=x", Err("`mock_*`")),
        ] {
            let found = kept(query, &allowed, refused);
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{query}"),
                (Err(refusal), Err(name)) => {
                    let text = refusal.to_string();
                    assert!(text.contains(name), "{text}");
                }
                (found, expected) => panic!("{query}: {found:?} instead of {expected:?}"),
            }
        }
    }
}
