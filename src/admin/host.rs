//! By which names the administration listener may be called. A browser always says the name that the page
//! has, so an address, which no page can make its own, is let through, and of names only those that are known.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::{HeaderMap, header};

/// Whether the request's Host is an address, `localhost` or one of `names` (in lower case), with any port.
/// Programs may leave it out, browsers never do.
pub(super) fn is_ours(headers: &HeaderMap, names: &[String]) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let Some(host) = hosts.next() else { return true };
    let Ok(host) = host.to_str() else { return false };
    if hosts.next().is_some() {
        return false;
    }
    if let Some(literal) = host.strip_prefix('[') {
        return literal.split_once(']').is_some_and(|(ip, _)| ip.parse::<Ipv6Addr>().is_ok());
    }
    let name = host.split_once(':').map_or(host, |(name, _port)| name);
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name.parse::<IpAddr>().is_ok() || name == "localhost" || names.contains(&name)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn addresses_and_known_names_are_ours() {
        let names = ["weir.internal".to_owned()];
        for (hosts, ours) in [
            (&[][..], true),
            (&["127.0.0.1:8081"], true),
            (&["10.2.3.4"], true),
            (&["[::1]:8081"], true),
            (&["[fd00::1]"], true),
            (&["localhost:8081"], true),
            (&["LOCALHOST."], true),
            (&["weir.internal:8081"], true),
            (&["Weir.Internal"], true),
            (&["evil.example"], false),
            (&["127.0.0.1.evil.example"], false),
            (&["localhost.evil.example:8081"], false),
            (&["[evil.example]"], false),
            (&["sub.weir.internal"], false),
            (&[""], false),
            (&["127.0.0.1", "evil.example"], false),
        ] {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, HeaderValue::from_static(host));
            }
            assert_eq!(is_ours(&headers, &names), ours, "{hosts:?}");
        }
    }
}
