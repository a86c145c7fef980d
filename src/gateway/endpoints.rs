//! The one table of routes. What is not in it is a 404 and is never forwarded.

mod not_found;

use http::{HeaderMap, HeaderName, Method};

use crate::forward::At;
use crate::identify::Bearing;
use crate::inspect::Api;
use crate::refusal::{Family, Refusal};
use crate::telemetry::metrics::Endpoint as Label;

/// Anthropic's clients send it with everything.
const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");

/// What a path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action<'p> {
    /// A browser asks what it may send (Fetch standard, CORS protocol); it carries no key.
    Preflight,
    Keyed(Keyed<'p>),
}

/// What is done for whoever has a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keyed<'p> {
    /// Limited, forwarded, metered.
    Forward(&'static Forwarded),
    /// Weir's own list of the models that the key may use.
    ListModels,
    /// One of them; the id as it stands in the path, perhaps percent-encoded.
    ShowModel(&'p str),
}

/// A row of the table.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// Also its name in the ledger and in the metrics.
    pub(crate) path: &'static str,
    /// What the metrics call it.
    pub(crate) label: Label,
    method: Method,
    allow: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Forward(Forwarded),
    ListModels,
    ShowModel,
}

/// How the endpoints differ that are forwarded. What is not here is the same for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forwarded {
    /// Which fields of the body decide.
    pub(crate) api: Api,
    /// A `multipart/form-data` body is read as one.
    pub(crate) takes_form: bool,
    /// A stream states its usage if `stream_options.include_usage` asks for it.
    pub(crate) usage_option: Option<At>,
    /// The answer costs tokens, which are reserved; else only the input does.
    pub(crate) has_output: bool,
    /// It listens to audio, whose length may be what is billed.
    pub(crate) hears: bool,
    /// It asks about a request and runs none: the upstream charges nothing, and only the number of
    /// requests counts.
    pub(crate) is_free: bool,
    /// Whose clients call it: what a key and an error look like.
    pub(crate) family: Family,
}

/// An answer in words, as nearly all are.
const WORDS: Forwarded = Forwarded {
    api: Api::Other,
    takes_form: false,
    usage_option: None,
    has_output: true,
    hears: false,
    is_free: false,
    family: Family::OpenAi,
};
const CHAT: Forwarded = Forwarded { api: Api::Chat, usage_option: Some(At::Chat), ..WORDS };
const COMPLETIONS: Forwarded =
    Forwarded { api: Api::Completions, usage_option: Some(At::Completions), ..WORDS };
const RESPONSES: Forwarded = Forwarded { api: Api::Responses, ..WORDS };
const MESSAGES: Forwarded = Forwarded { api: Api::Messages, family: Family::Anthropic, ..WORDS };
/// What a request of Anthropic's would count as.
const COUNT: Forwarded = Forwarded {
    api: Api::Other,
    has_output: false,
    is_free: true,
    family: Family::Anthropic,
    ..WORDS
};
const IMAGES: Forwarded = Forwarded { api: Api::Images, ..WORDS };
const IMAGE_FORM: Forwarded = Forwarded { takes_form: true, ..IMAGES };
const AUDIO_FORM: Forwarded =
    Forwarded { api: Api::Transcripts, takes_form: true, hears: true, ..WORDS };
const SPEECH: Forwarded = Forwarded { api: Api::Speech, ..WORDS };
/// Numbers that cost what was read for them.
const JUDGEMENT: Forwarded = Forwarded { has_output: false, ..WORDS };

const fn post(path: &'static str, label: Label, row: Forwarded) -> Endpoint {
    Endpoint { path, label, method: Method::POST, allow: "POST, OPTIONS", kind: Kind::Forward(row) }
}

const fn own(path: &'static str, label: Label, kind: Kind) -> Endpoint {
    Endpoint { path, label, method: Method::GET, allow: "GET, OPTIONS", kind }
}

/// The table, in the order in which a path is looked for.
pub(crate) static ENDPOINTS: [Endpoint; 15] = [
    post("/v1/chat/completions", Label::ChatCompletions, CHAT),
    post("/v1/responses", Label::Responses, RESPONSES),
    post("/v1/messages", Label::Messages, MESSAGES),
    post("/v1/messages/count_tokens", Label::CountTokens, COUNT),
    post("/v1/embeddings", Label::Embeddings, JUDGEMENT),
    post("/v1/completions", Label::Completions, COMPLETIONS),
    post("/v1/images/generations", Label::ImageGenerations, IMAGES),
    post("/v1/images/edits", Label::ImageEdits, IMAGE_FORM),
    post("/v1/images/variations", Label::ImageVariations, IMAGE_FORM),
    post("/v1/audio/transcriptions", Label::AudioTranscriptions, AUDIO_FORM),
    post("/v1/audio/translations", Label::AudioTranslations, AUDIO_FORM),
    post("/v1/audio/speech", Label::AudioSpeech, SPEECH),
    post("/v1/moderations", Label::Moderations, JUDGEMENT),
    own("/v1/models", Label::Models, Kind::ListModels),
    own("/v1/models/{id}", Label::Model, Kind::ShowModel),
];

/// The paths that are forwarded.
pub(crate) fn forwarded() -> impl Iterator<Item = &'static str> {
    let is_forwarded = |endpoint: &&Endpoint| matches!(endpoint.kind, Kind::Forward(_));
    ENDPOINTS.iter().filter(is_forwarded).map(|endpoint| endpoint.path)
}

/// The row of a path; paths are matched before anything else is looked at.
pub(crate) fn row(path: &str) -> Option<&'static Endpoint> {
    ENDPOINTS.iter().find(|endpoint| endpoint.rest_of(path).is_some())
}

/// What to do for a request on this row.
pub(crate) fn action<'p>(
    row: Option<&'static Endpoint>,
    method: &Method,
    path: &'p str,
) -> Result<(&'static Endpoint, Action<'p>), Refusal> {
    let endpoint = row.ok_or_else(|| Refusal::unknown_path(not_found::message(path)))?;
    if *method == Method::OPTIONS {
        return Ok((endpoint, Action::Preflight));
    }
    if *method != endpoint.method {
        return Err(Refusal::wrong_method(endpoint.allow));
    }
    let keyed = match &endpoint.kind {
        Kind::Forward(row) => Keyed::Forward(row),
        Kind::ListModels => Keyed::ListModels,
        Kind::ShowModel => Keyed::ShowModel(endpoint.rest_of(path).unwrap_or_default()),
    };
    Ok((endpoint, Action::Keyed(keyed)))
}

impl Endpoint {
    /// What stands in the place of `{id}`, or nothing; `None` when the path is another one's.
    fn rest_of<'p>(&self, path: &'p str) -> Option<&'p str> {
        match self.path.split_once("{id}") {
            None => (path == self.path).then_some(""),
            Some((prefix, _)) => path.strip_prefix(prefix).filter(|id| !id.is_empty()),
        }
    }

    /// Whose client calls it, by its head: the list of models is both families'.
    pub(crate) fn family(&self, headers: &HeaderMap) -> Family {
        match &self.kind {
            Kind::Forward(row) => row.family,
            Kind::ListModels | Kind::ShowModel => match headers.contains_key(&ANTHROPIC_VERSION) {
                true => Family::Anthropic,
                false => Family::OpenAi,
            },
        }
    }

    /// Where its clients have their key.
    pub(crate) fn bearing(&self) -> Bearing {
        match &self.kind {
            Kind::Forward(row) if row.family == Family::OpenAi => Bearing::Bearer,
            _ => Bearing::BearerOrApiKey,
        }
    }

    /// As [`Forwarded::is_free`].
    pub(crate) fn is_free(&self) -> bool {
        matches!(&self.kind, Kind::Forward(row) if row.is_free)
    }

    pub(crate) fn allow(&self) -> &'static str {
        self.allow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find<'p>(method: &Method, path: &'p str) -> Result<Action<'p>, Refusal> {
        action(row(path), method, path).map(|found| found.1)
    }

    #[test]
    fn only_what_the_table_names_is_found() {
        let chat = find(&Method::POST, "/v1/chat/completions").expect("a route");
        assert_eq!(chat, Action::Keyed(Keyed::Forward(&CHAT)));
        let shown = find(&Method::GET, "/v1/models/a/b:c").expect("a route");
        assert_eq!(shown, Action::Keyed(Keyed::ShowModel("a/b:c")));
        assert_eq!(find(&Method::GET, "/v1/models"), Ok(Action::Keyed(Keyed::ListModels)));
        assert_eq!(find(&Method::OPTIONS, "/v1/models"), Ok(Action::Preflight));
        for path in ["/", "/v1", "/v1/models/", "/v1/chat/completions/", "//v1/models", "*", ""] {
            assert_eq!(find(&Method::GET, path).expect_err(path).code, "not_found", "{path}");
        }
        for endpoint in &ENDPOINTS {
            let found = row(endpoint.path).expect("its own path");
            assert_eq!((found.path, found.label), (endpoint.path, endpoint.label));
            let wrong = find(&Method::DELETE, endpoint.path).expect_err("wrong method");
            assert_eq!(wrong.code, "method_not_allowed");
        }
    }

    #[test]
    fn labels_are_the_paths_and_stand_once() {
        for (at, endpoint) in ENDPOINTS.iter().enumerate() {
            assert_eq!(endpoint.label.name(), endpoint.path);
            assert!(ENDPOINTS[..at].iter().all(|other| other.label != endpoint.label));
        }
    }
}
