//! `GET /v1/models`, answered by Weir itself: only what the key may use, in the form of the API
//! document, or in Anthropic's for its clients.

mod anthropic;

use bytes::Bytes;
use serde::Serialize;

use crate::refusal::{Family, Refusal};
use crate::route::{Route, Routes};

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    owned_by: &'a str,
}

/// The list; `query`: which page of it, where it has pages.
pub(crate) fn list(
    routes: &Routes,
    allowed: Option<&[String]>,
    family: Family,
    query: Option<&str>,
) -> Result<Bytes, Refusal> {
    let (models, query) = (routes.list(allowed), query.unwrap_or_default());
    Ok(match family {
        Family::OpenAi => json(&List { object: "list", data: models.map(entry).collect() }),
        Family::Anthropic => json(&anthropic::page(&models.collect::<Vec<_>>(), query)?),
    })
}

/// One model; its id may be percent-encoded, and may hold `/` and `:`.
pub(crate) fn show(
    routes: &Routes,
    allowed: Option<&[String]>,
    family: Family,
    id: &str,
) -> Result<Bytes, Refusal> {
    let route = match routes.find(id, allowed) {
        Ok(route) => route,
        Err(_) => routes.find(&percent_decoded(id), allowed)?,
    };
    Ok(match family {
        Family::OpenAi => json(&entry(route)),
        Family::Anthropic => json(&anthropic::entry(route)),
    })
}

fn entry(route: &Route) -> Entry<'_> {
    Entry { id: &route.model, object: "model", created: route.created, owned_by: &route.owned_by }
}

fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("strings and integers always serialise").into()
}

/// Percent-decoding (RFC 3986 §2.1); what is not a valid escape stays as it is.
fn percent_decoded(text: &str) -> String {
    let hex = |digit: u8| char::from(digit).to_digit(16);
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = match bytes[at..] {
            [b'%', high, low, ..] => hex(high).zip(hex(low)),
            _ => None,
        };
        match escape.and_then(|(high, low)| u8::try_from(high * 16 + low).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_escapes_are_decoded_and_debris_stays() {
        for (text, decoded) in [
            ("gpt-5.4", "gpt-5.4"),
            ("a%2Fb%3ac", "a/b:c"),
            ("%E6%A8%A1", "模"),
            ("%", "%"),
            ("%zz%4", "%zz%4"),
        ] {
            assert_eq!(percent_decoded(text), decoded);
        }
    }
}
