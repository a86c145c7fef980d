//! Base URLs, taken apart. They mean what they mean to the official SDKs of OpenAI, which put
//! `/chat/completions` behind them: services have `/v1`, `/openai/v1`, `/v1beta/openai`, `/api/v3` and
//! others. Documentation often names the host alone, and then it is `/v1`; Anthropic's SDK puts
//! `/v1/messages` behind its own, of which other services' end in `/anthropic`.

use super::BaseUrl;

/// What documentation prints as an address, and is one of the paths behind the Base URL; longest first.
const ENDPOINTS: [&str; 12] = [
    "/chat/completions",
    "/completions",
    "/responses",
    "/messages/count_tokens",
    "/messages",
    "/embeddings",
    "/moderations",
    "/models",
    "/images/generations",
    "/images/edits",
    "/audio/transcriptions",
    "/audio/speech",
];

/// Why a text is not a Base URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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
    #[error("must end before {endpoint}, which is put behind it: {right:?}")]
    Endpoint { endpoint: &'static str, right: String },
}

impl BaseUrl {
    /// Takes `text` apart.
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
        let root = root(path).map_err(|error| match error {
            BaseUrlError::Endpoint { endpoint, right: path } => {
                let right = format!("{}://{authority}{path}", scheme.to_ascii_lowercase());
                BaseUrlError::Endpoint { endpoint, right }
            }
            other => other,
        })?;
        Ok(Self { tls, host, port, authority, root })
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

/// What stands before `/chat/completions`: the path without slashes at its end, or `/v1`.
fn root(path: &str) -> Result<String, BaseUrlError> {
    let path = path.trim_end_matches('/');
    let sound = |segment: &str| {
        !matches!(segment, "" | "." | "..") && segment.bytes().all(|b| b.is_ascii_graphic())
    };
    if !path.is_empty() && !path[1..].split('/').all(sound) {
        return Err(BaseUrlError::Path);
    }
    for endpoint in ENDPOINTS {
        if let Some(right) = path.strip_suffix(endpoint) {
            return Err(BaseUrlError::Endpoint { endpoint, right: right.to_owned() });
        }
    }
    let is_bare = path.is_empty() || path.ends_with("/anthropic");
    Ok(if is_bare { format!("{path}/v1") } else { path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_base_urls_apart() {
        let cases = [
            ("https://api.yisu.com", (true, "api.yisu.com", 443, "api.yisu.com", "/v1")),
            ("HTTPS://API.yisu.com/v1/", (true, "api.yisu.com", 443, "api.yisu.com", "/v1")),
            ("https://h:443/v1", (true, "h", 443, "h", "/v1")),
            ("https://h:80", (true, "h", 80, "h:80", "/v1")),
            ("http://127.0.0.1:9/a/b/v1", (false, "127.0.0.1", 9, "127.0.0.1:9", "/a/b/v1")),
            ("http://[::1]:8080/v1", (false, "::1", 8080, "[::1]:8080", "/v1")),
            ("http://[::1]", (false, "::1", 80, "[::1]", "/v1")),
        ];
        for (text, (tls, host, port, authority, root)) in cases {
            let expected = BaseUrl {
                tls,
                host: host.to_owned(),
                port,
                authority: authority.to_owned(),
                root: root.to_owned(),
            };
            assert_eq!(BaseUrl::parse(text), Ok(expected), "{text}");
        }
    }

    /// As the services document them, with and without slashes at their end.
    #[test]
    fn the_path_is_what_the_sdks_put_before_an_endpoint() {
        let cases = [
            ("", "/v1"),
            ("/v1", "/v1"),
            ("/v1beta/openai", "/v1beta/openai"),
            ("/api/v3", "/api/v3"),
            ("/api/paas/v4", "/api/paas/v4"),
            ("/openai/v1", "/openai/v1"),
            ("/compatible-mode/v1", "/compatible-mode/v1"),
            ("/openai/deployments/gpt", "/openai/deployments/gpt"),
            ("/anthropic", "/anthropic/v1"),
            ("/api/anthropic", "/api/anthropic/v1"),
            ("/anthropic/v1", "/anthropic/v1"),
            ("/llm", "/llm"),
        ];
        for (path, root) in cases {
            for slashes in ["", "/", "//"] {
                let parsed = BaseUrl::parse(&format!("https://h{path}{slashes}"));
                assert_eq!(parsed.map(|url| url.root).as_deref(), Ok(root), "{path}{slashes}");
            }
        }
    }

    #[test]
    fn an_endpoint_is_refused_with_the_right_value() {
        let cases = [
            ("https://h/v1/chat/completions", "/chat/completions", "https://h/v1"),
            ("HTTP://H:9/v1/chat/completions/", "/chat/completions", "http://h:9/v1"),
            ("https://h/api/v3/completions", "/completions", "https://h/api/v3"),
            ("https://h/v1/messages/count_tokens", "/messages/count_tokens", "https://h/v1"),
            ("https://h/chat/completions", "/chat/completions", "https://h"),
            ("https://h/v1/models", "/models", "https://h/v1"),
        ];
        for (text, endpoint, right) in cases {
            let right = right.to_owned();
            assert_eq!(BaseUrl::parse(text), Err(BaseUrlError::Endpoint { endpoint, right }));
        }
        let error = BaseUrl::parse("https://h/v1/chat/completions").map_err(|it| it.to_string());
        let said = "must end before /chat/completions, which is put behind it: \"https://h/v1\"";
        assert_eq!(error, Err(said.to_owned()));
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
