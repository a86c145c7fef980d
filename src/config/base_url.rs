//! Base URLs, taken apart. The official SDKs' ends in `/v1`, an OpenAI-compatible service's
//! documentation often names it without: both mean the same place here.

use super::BaseUrl;

/// Why a text is not a Base URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BaseUrlError {
    #[error("must begin with https:// or http://, such as \"https://api.example.com/v1\"")]
    Scheme,
    #[error("must not hold a user name or password; the key belongs into api_key")]
    UserInfo,
    #[error("must not have a query or a fragment (? or #)")]
    Query,
    #[error("must name a host after ://, such as \"https://api.example.com/v1\"")]
    Host,
    #[error("must have a port from 1 to 65535, or none")]
    Port,
    #[error("must have a path of visible ASCII without //, . or .. segments")]
    Path,
}

impl BaseUrl {
    /// Takes `text` apart; a trailing `/v1`, with or without a slash, is not part of the prefix.
    pub(super) fn parse(text: &str) -> Result<Self, BaseUrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(BaseUrlError::Scheme)?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(BaseUrlError::Scheme),
        };
        if rest.contains(['?', '#']) {
            return Err(BaseUrlError::Query);
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(BaseUrlError::UserInfo);
        }
        let (host, port) = split_authority(authority)?;
        let default_port = if tls { 443 } else { 80 };
        let port = port.unwrap_or(default_port);
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let authority =
            if port == default_port { bracketed } else { format!("{bracketed}:{port}") };
        Ok(Self { tls, host, port, authority, path_prefix: path_prefix(path)? })
    }
}

/// Host (IPv6 without its brackets, lower case) and port of an authority (RFC 3986 §3.2).
fn split_authority(authority: &str) -> Result<(String, Option<u16>), BaseUrlError> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or(BaseUrlError::Host)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| BaseUrlError::Host)?;
            let port = match after {
                "" => None,
                _ => Some(after.strip_prefix(':').ok_or(BaseUrlError::Port)?),
            };
            (host, port)
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
    if host.is_empty() || !host.chars().all(named) {
        return Err(BaseUrlError::Host);
    }
    let port = port.map(|port| match port.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(BaseUrlError::Port),
    });
    Ok((host.to_ascii_lowercase(), port.transpose()?))
}

/// The path without its trailing slash and without a trailing `/v1`.
fn path_prefix(path: &str) -> Result<String, BaseUrlError> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let sound = |segment: &str| {
        !matches!(segment, "" | "." | "..") && segment.bytes().all(|b| b.is_ascii_graphic())
    };
    if !path.is_empty() && !path[1..].split('/').all(sound) {
        return Err(BaseUrlError::Path);
    }
    Ok(path.strip_suffix("/v1").unwrap_or(path).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_base_urls_apart() {
        let cases = [
            ("https://api.yisu.com", (true, "api.yisu.com", 443, "api.yisu.com", "")),
            ("https://api.yisu.com/", (true, "api.yisu.com", 443, "api.yisu.com", "")),
            ("https://api.yisu.com/v1", (true, "api.yisu.com", 443, "api.yisu.com", "")),
            ("HTTPS://API.yisu.com/v1/", (true, "api.yisu.com", 443, "api.yisu.com", "")),
            ("https://h:443/v1", (true, "h", 443, "h", "")),
            ("https://h:80", (true, "h", 80, "h:80", "")),
            ("http://127.0.0.1:9/a/b/v1", (false, "127.0.0.1", 9, "127.0.0.1:9", "/a/b")),
            ("http://h/openai/", (false, "h", 80, "h", "/openai")),
            ("http://h/v1beta", (false, "h", 80, "h", "/v1beta")),
            ("http://[::1]:8080/v1", (false, "::1", 8080, "[::1]:8080", "")),
            ("http://[::1]", (false, "::1", 80, "[::1]", "")),
        ];
        for (text, (tls, host, port, authority, prefix)) in cases {
            let expected = BaseUrl {
                tls,
                host: host.to_owned(),
                port,
                authority: authority.to_owned(),
                path_prefix: prefix.to_owned(),
            };
            assert_eq!(BaseUrl::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_one() {
        let cases = [
            ("api.yisu.com", BaseUrlError::Scheme),
            ("ftp://h", BaseUrlError::Scheme),
            ("", BaseUrlError::Scheme),
            ("https://", BaseUrlError::Host),
            ("https:///v1", BaseUrlError::Host),
            ("https://a b", BaseUrlError::Host),
            ("https://h:0", BaseUrlError::Port),
            ("https://h:65536", BaseUrlError::Port),
            ("https://h:", BaseUrlError::Port),
            ("https://[::1", BaseUrlError::Host),
            ("https://[nope]", BaseUrlError::Host),
            ("https://[::1]x", BaseUrlError::Port),
            ("https://user:secret@h", BaseUrlError::UserInfo),
            ("https://h?x=1", BaseUrlError::Query),
            ("https://h/v1#x", BaseUrlError::Query),
            ("https://h//v1", BaseUrlError::Path),
            ("https://h/../v1", BaseUrlError::Path),
            ("https://h/a b", BaseUrlError::Path),
        ];
        for (text, expected) in cases {
            assert_eq!(BaseUrl::parse(text), Err(expected), "{text}");
        }
    }
}
