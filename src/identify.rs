//! Who is asking: `Authorization`, or `x-api-key` where Anthropic's clients call → key text → digest → what the caller of this stage keeps for the key.
//! The checksum in a key tells a typo without a look-up; a look-up is by digest only, so that no
//! secret is compared and an unknown key costs as little as a known one.

pub(crate) mod key_text;
mod failed_keys;
mod keys;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};

use crate::identify::key_text::KeyText;

pub(crate) use crate::identify::failed_keys::{FailedKeys, network_of};
pub(crate) use crate::identify::keys::{Keys, KeysEdit};

/// Where Anthropic's clients have their key.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Where a key may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bearing {
    /// `Authorization: Bearer …`
    Bearer,
    /// The same, or where there is none, `x-api-key`.
    BearerOrApiKey,
}

/// SHA-256 of a key's text.
pub(crate) type Digest = [u8; 32];

/// Why a request belongs to nobody. The client learns no more than that its key is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unidentified {
    #[error("no key")]
    Missing,
    #[error("not the form of a key, or its checksum is wrong")]
    Malformed,
    #[error("no such key")]
    Unknown,
    #[error("the key has expired")]
    Expired,
    #[error("the key was revoked")]
    Revoked,
}

/// One secret of a key. Two secrets of one key share their `identity` while a rotation overlaps.
#[derive(Clone, Debug)]
pub(crate) struct Entry<T> {
    pub(crate) identity: T,
    pub(crate) is_revoked: bool,
    /// The earlier of the key's and the secret's own end, in milliseconds since the Unix epoch.
    pub(crate) expires_at_ms: Option<i64>,
}

impl<T> Keys<T> {
    /// Whose request this is, as [`Self::entry`] finds it.
    #[cfg(test)]
    pub(crate) fn identify(
        &self,
        headers: &HeaderMap,
        bearing: Bearing,
        unix_ms: impl FnOnce() -> i64,
    ) -> Result<&T, Unidentified> {
        self.entry(headers, bearing, unix_ms).map(|entry| &entry.identity)
    }

    /// The secret that a request was made with, by its headers alone: nothing of the body has been read. The
    /// time is asked for where a key has an end.
    pub(crate) fn entry(
        &self,
        headers: &HeaderMap,
        bearing: Bearing,
        unix_ms: impl FnOnce() -> i64,
    ) -> Result<&Entry<T>, Unidentified> {
        let text = match bearer(headers) {
            Err(Unidentified::Missing) if bearing == Bearing::BearerOrApiKey => {
                single(headers, &API_KEY)?.trim_matches(' ')
            }
            found => found?,
        };
        let key = KeyText::parse(text.as_bytes()).map_err(|_| Unidentified::Malformed)?;
        let entry = self.get(&key.digest()).ok_or(Unidentified::Unknown)?;
        if entry.is_revoked {
            return Err(Unidentified::Revoked);
        }
        if entry.expires_at_ms.is_some_and(|end| end <= unix_ms()) {
            return Err(Unidentified::Expired);
        }
        Ok(entry)
    }
}

/// The token of `Authorization: Bearer …` (RFC 6750 §2.1; the scheme's case does not matter, RFC 9110
/// §11.1). Two such headers are nobody's.
fn bearer(headers: &HeaderMap) -> Result<&str, Unidentified> {
    let value = single(headers, &AUTHORIZATION)?;
    let (scheme, token) = value.split_once(' ').ok_or(Unidentified::Malformed)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Unidentified::Malformed);
    }
    Ok(token.trim_matches(' '))
}

/// The value of a field that may stand only once.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<&'h str, Unidentified> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or(Unidentified::Missing)?;
    if values.next().is_some() {
        return Err(Unidentified::Malformed);
    }
    value.to_str().map_err(|_| Unidentified::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn ask(keys: &Keys<u8>, value: &str) -> Result<u8, Unidentified> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        keys.identify(&headers, Bearing::Bearer, || 1_000).copied()
    }

    #[test]
    fn only_a_live_key_in_a_bearer_header_is_somebody() {
        let texts: Vec<KeyText> = (0..4).map(KeyText::of_number).collect();
        let entry =
            |identity, is_revoked, expires_at_ms| Entry { identity, is_revoked, expires_at_ms };
        let keys = Keys::new([
            (texts[0].digest(), entry(0, false, None)),
            (texts[1].digest(), entry(1, true, None)),
            (texts[2].digest(), entry(2, false, Some(1_000))),
        ]);
        let bearer = |n: usize| format!("Bearer {}", texts[n].reveal());
        assert_eq!(ask(&keys, &bearer(0)), Ok(0));
        assert_eq!(ask(&keys, &bearer(0).replace("Bearer", "bEARER")), Ok(0));
        assert_eq!(ask(&keys, &bearer(1)), Err(Unidentified::Revoked));
        assert_eq!(ask(&keys, &bearer(2)), Err(Unidentified::Expired));
        assert_eq!(ask(&keys, &bearer(3)), Err(Unidentified::Unknown));
        let mut typo = bearer(0);
        let last = typo.pop();
        typo.push(if last == Some('x') { 'y' } else { 'x' });
        assert_eq!(ask(&keys, &typo), Err(Unidentified::Malformed));
        for hostile in
            ["", "Bearer", "Bearer ", "Basic eDp5", "Bearer sk-no-key", "Bearer \u{7f}", "Bearer é"]
        {
            if let Ok(value) = HeaderValue::from_bytes(hostile.as_bytes()) {
                let mut headers = HeaderMap::new();
                headers.insert(AUTHORIZATION, value);
                let found = keys.identify(&headers, Bearing::BearerOrApiKey, || 0);
                assert_eq!(found, Err(Unidentified::Malformed), "{hostile}");
            }
        }
        let mut twice = HeaderMap::new();
        let value = HeaderValue::from_str(&bearer(0)).expect("a value");
        twice.append(AUTHORIZATION, value.clone());
        twice.append(AUTHORIZATION, value);
        let bearing = Bearing::Bearer;
        assert_eq!(keys.identify(&twice, bearing, || 0), Err(Unidentified::Malformed));
        assert_eq!(keys.identify(&HeaderMap::new(), bearing, || 0), Err(Unidentified::Missing));
    }

    #[test]
    fn an_api_key_counts_only_where_it_may_and_no_bearer_stands_before_it() {
        let text = KeyText::of_number(0);
        let keys = Keys::new([(
            text.digest(),
            Entry { identity: 7, is_revoked: false, expires_at_ms: None },
        )]);
        let key = HeaderValue::from_str(text.reveal()).expect("a value");
        let mut headers = HeaderMap::new();
        headers.insert(API_KEY, key.clone());
        let both = Bearing::BearerOrApiKey;
        assert_eq!(keys.identify(&headers, both, || 0), Ok(&7));
        assert_eq!(keys.identify(&headers, Bearing::Bearer, || 0), Err(Unidentified::Missing));
        assert_eq!(keys.identify(&HeaderMap::new(), both, || 0), Err(Unidentified::Missing));
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer sk-other"));
        assert_eq!(keys.identify(&headers, both, || 0), Err(Unidentified::Malformed));
        headers.remove(AUTHORIZATION);
        headers.append(API_KEY, key);
        assert_eq!(keys.identify(&headers, both, || 0), Err(Unidentified::Malformed));
    }
}
