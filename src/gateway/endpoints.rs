//! The one table of routes. What is not in it is a 404 and is never forwarded.

use http::Method;

use crate::refusal::Refusal;
use crate::telemetry::metrics;

/// What a path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action<'p> {
    /// Identified, limited, forwarded, metered.
    Forward,
    /// Weir's own list of the models that the key may use.
    ListModels,
    /// One of them; the id as it stands in the path, perhaps percent-encoded.
    ShowModel(&'p str),
    /// A browser asks what it may send (Fetch standard, CORS protocol); it carries no key.
    Preflight,
}

/// A row of the table.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// Also its name in the ledger and in the metrics.
    pub(crate) path: &'static str,
    method: Method,
    allow: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Forward,
    ListModels,
    ShowModel,
}

pub(crate) const ENDPOINTS: [Endpoint; 3] = [
    Endpoint {
        path: "/v1/chat/completions",
        method: Method::POST,
        allow: "POST, OPTIONS",
        kind: Kind::Forward,
    },
    Endpoint {
        path: "/v1/models",
        method: Method::GET,
        allow: "GET, OPTIONS",
        kind: Kind::ListModels,
    },
    Endpoint {
        path: "/v1/models/{id}",
        method: Method::GET,
        allow: "GET, OPTIONS",
        kind: Kind::ShowModel,
    },
];

/// Finds what to do; paths are matched before anything else is looked at.
pub(crate) fn find<'p>(
    method: &Method,
    path: &'p str,
) -> Result<(&'static Endpoint, Action<'p>), Refusal> {
    for endpoint in &ENDPOINTS {
        let Some(rest) = endpoint.rest_of(path) else { continue };
        if *method == Method::OPTIONS {
            return Ok((endpoint, Action::Preflight));
        }
        if *method != endpoint.method {
            return Err(Refusal::wrong_method(endpoint.allow));
        }
        let action = match endpoint.kind {
            Kind::Forward => Action::Forward,
            Kind::ListModels => Action::ListModels,
            Kind::ShowModel => Action::ShowModel(rest),
        };
        return Ok((endpoint, action));
    }
    Err(Refusal::unknown_path())
}

/// What the metrics call a path.
pub(crate) fn label(path: &str) -> metrics::Endpoint {
    let endpoint = ENDPOINTS.iter().find(|endpoint| endpoint.rest_of(path).is_some());
    match endpoint.map(|endpoint| endpoint.kind) {
        Some(Kind::Forward) => metrics::Endpoint::ChatCompletions,
        Some(Kind::ListModels) => metrics::Endpoint::Models,
        Some(Kind::ShowModel) => metrics::Endpoint::Model,
        None => metrics::Endpoint::Unknown,
    }
}

impl Endpoint {
    /// What stands in the place of `{id}`, or nothing; `None` when the path is another one's.
    fn rest_of<'p>(&self, path: &'p str) -> Option<&'p str> {
        match self.path.split_once("{id}") {
            None => (path == self.path).then_some(""),
            Some((prefix, _)) => path.strip_prefix(prefix).filter(|id| !id.is_empty()),
        }
    }

    pub(crate) fn allow(&self) -> &'static str {
        self.allow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_table_names_is_found() {
        let forward = find(&Method::POST, "/v1/chat/completions").expect("a route");
        assert_eq!(forward.1, Action::Forward);
        let shown = find(&Method::GET, "/v1/models/a/b:c").expect("a route");
        assert_eq!(shown.1, Action::ShowModel("a/b:c"));
        let list = find(&Method::GET, "/v1/models").expect("a route");
        assert_eq!(list.1, Action::ListModels);
        let preflight = find(&Method::OPTIONS, "/v1/models").expect("a route");
        assert_eq!(preflight.1, Action::Preflight);
        for path in ["/", "/v1", "/v1/models/", "/v1/chat/completions/", "//v1/models", "*", ""] {
            let refusal = find(&Method::GET, path).expect_err(path);
            assert_eq!(refusal.code, "not_found", "{path}");
        }
        let refusal = find(&Method::GET, "/v1/chat/completions").expect_err("wrong method");
        assert_eq!(refusal.code, "method_not_allowed");
    }
}
