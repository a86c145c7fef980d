//! Header fields that an operator lets through besides those that always pass.

use http::HeaderName;

/// Names, and beginnings of names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderList {
    names: Vec<HeaderName>,
    /// Each ends in `-`.
    prefixes: Vec<String>,
}

impl HeaderList {
    /// Adds what the file has: a name, or the beginning of names with a `*` after it.
    ///
    /// # Errors
    /// What would be right.
    pub(crate) fn add(&mut self, text: &str) -> Result<(), &'static str> {
        let text = text.to_ascii_lowercase();
        if text.contains('_') {
            // Servers that make variables of fields cannot tell it from the one with a hyphen (RFC 3875 §4.1.18).
            return Err("must have no underscore: fields with one never pass");
        }
        if let Some(prefix) = text.strip_suffix('*') {
            let is_sound = prefix.len() > 1 && prefix.ends_with('-') && !prefix.contains('*');
            if !is_sound || HeaderName::try_from(prefix).is_err() {
                return Err("must end in \"-*\" where it stands for several, as in \"x-acme-*\"");
            }
            self.prefixes.push(prefix.to_owned());
            return Ok(());
        }
        if is_the_gateways(&text) {
            return Err("is a field that the gateway decides itself");
        }
        if text.contains('*') {
            return Err("must have its `*` at the end, as in \"x-acme-*\"");
        }
        let name = HeaderName::try_from(text);
        self.names
            .push(name.map_err(|_| "must be the name of a header field, or as \"x-acme-*\"")?);
        Ok(())
    }

    /// Whether it has this very name.
    pub fn names(&self, name: &str) -> bool {
        self.names.iter().any(|known| known.as_str() == name)
    }

    /// Whether a name begins as it says.
    pub fn covers(&self, name: &str) -> bool {
        self.prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()))
    }
}

/// Framing, fields of one connection, the keys that tenants and the gateway authenticate with, and what the
/// gateway says itself: no list lets them through.
fn is_the_gateways(name: &str) -> bool {
    let is_own = name.starts_with("x-weir-") || name.starts_with("access-control-");
    is_own
        || matches!(
            name,
            "connection"
                | "keep-alive"
                | "proxy-connection"
                | "proxy-authenticate"
                | "proxy-authorization"
                | "te"
                | "trailer"
                | "transfer-encoding"
                | "upgrade"
                | "expect"
                | "host"
                | "content-length"
                | "content-encoding"
                | "accept-encoding"
                | "authorization"
                | "x-api-key"
                | "x-accel-buffering"
                | "request-id"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_names_and_beginnings() {
        let mut list = HeaderList::default();
        for text in ["HTTP-Referer", "x-acme-*"] {
            assert_eq!(list.add(text), Ok(()), "{text}");
        }
        for (name, is_named, is_covered) in [
            ("http-referer", true, false),
            ("http-referer-2", false, false),
            ("x-acme-team", false, true),
            ("x-acme", false, false),
            ("x-acmeteam", false, false),
        ] {
            assert_eq!((list.names(name), list.covers(name)), (is_named, is_covered), "{name}");
        }
        let before = list.clone();
        for text in [
            "",
            "*",
            "-*",
            "x*",
            "x-acme",
            "a b",
            "a:b",
            "x_y",
            "x_y-*",
            "Host",
            "authorization",
            "X-Api-Key",
            "connection",
            "content-length",
            "x-weir-origin",
            "access-control-allow-origin",
            "x-a*-*",
        ] {
            let is_right = text == "x-acme";
            assert_eq!(before.clone().add(text).is_ok(), is_right, "{text:?}");
        }
    }
}
