//! The APIs besides chat: which path is whose, and what each answers.

mod numbers;
mod text;
mod tools;
mod responses;
mod messages;
mod media;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;

use super::api_request::ApiRequest;
use super::controls::{Controls, FaultKind};
use super::event_queue::EventQueue;
use super::refusal::Refusal;

/// A path that is posted to, other than chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    Completions,
    Responses,
    Messages,
    /// What a message would count as.
    CountTokens,
    Embeddings,
    Moderations,
    ImageGenerations,
    ImageEdits,
    ImageVariations,
    Transcriptions,
    Translations,
    Speech,
}

/// What an answer is signed with.
#[derive(Debug)]
pub(super) struct Signature<'a> {
    /// Hexadecimal digits; each API puts its own prefix before them.
    pub id: &'a str,
    /// Seconds since the Unix epoch.
    pub created: i64,
}

/// An answer that is ready to be sent.
#[derive(Debug)]
pub(super) struct Answered {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    /// Bytes of this media type.
    Whole(&'static str, Vec<u8>),
    Stream(EventQueue),
}

const JSON: &str = "application/json";
/// How OpenAI's streams fail.
const FAILURE: &str = concat!(
    r#"data: {"error":{"message":"The server had an error while processing your request.","#,
    r#""type":"server_error","param":null,"code":null}}"#,
    "\n\n"
);

/// Which path is whose.
const PATHS: [(&str, Api); 12] = [
    ("/v1/completions", Api::Completions),
    ("/v1/responses", Api::Responses),
    ("/v1/messages", Api::Messages),
    ("/v1/messages/count_tokens", Api::CountTokens),
    ("/v1/embeddings", Api::Embeddings),
    ("/v1/moderations", Api::Moderations),
    ("/v1/images/generations", Api::ImageGenerations),
    ("/v1/images/edits", Api::ImageEdits),
    ("/v1/images/variations", Api::ImageVariations),
    ("/v1/audio/transcriptions", Api::Transcriptions),
    ("/v1/audio/translations", Api::Translations),
    ("/v1/audio/speech", Api::Speech),
];

impl Api {
    /// The API of a path.
    pub(super) fn of(path: &str) -> Option<Self> {
        PATHS.iter().find(|(own, _)| *own == path).map(|(_, api)| *api)
    }

    /// Anthropic's clients call it.
    pub(super) fn is_anthropic(self) -> bool {
        matches!(self, Self::Messages | Self::CountTokens)
    }

    /// The path of this API.
    pub(super) fn path(self) -> &'static str {
        let own = PATHS.iter().find(|(_, api)| *api == self);
        own.expect("every API is in the table, as a test sees to").0
    }

    /// Reads a request.
    ///
    /// # Errors
    /// `invalid_request`, with the reason.
    pub(super) fn read(headers: &HeaderMap, body: &Bytes) -> Result<ApiRequest, Refusal> {
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        ApiRequest::read(content_type.unwrap_or_default(), body)
    }

    /// Thinks up the answer.
    ///
    /// # Errors
    /// `invalid_request`, with the reason.
    pub(super) fn answer(
        self,
        asked: &ApiRequest,
        controls: &Controls,
        signature: &Signature<'_>,
    ) -> Result<Answered, Refusal> {
        let mut answered = match self {
            Self::Completions => text::completions(asked, controls, signature),
            Self::Responses => responses::responses(asked, controls, signature),
            Self::Messages => messages::messages(asked, controls, signature),
            Self::CountTokens => messages::count(asked),
            Self::Embeddings => numbers::embeddings(asked, controls),
            Self::Moderations => numbers::moderations(asked, signature),
            Self::ImageGenerations | Self::ImageEdits | Self::ImageVariations => {
                media::images(self, asked, controls, signature)
            }
            Self::Transcriptions | Self::Translations => media::heard(self, asked, controls),
            Self::Speech => media::speech(asked, controls),
        }?;
        let ends = controls.fault.is_none_or(|fault| fault.kind != FaultKind::NoDone);
        if let (Content::Stream(queue), false) = (&mut answered.content, ends) {
            *queue = std::mem::take(queue).without_end();
        }
        Ok(answered)
    }
}

impl Answered {
    fn json(prompt_tokens: u64, completion_tokens: u64, json: String) -> Self {
        let content = Content::Whole(JSON, json.into_bytes());
        Self { prompt_tokens, completion_tokens, content }
    }
}

/// A stream that fails as OpenAI's do.
fn queue(controls: &Controls) -> EventQueue {
    EventQueue::new(vec![Bytes::from_static(FAILURE.as_bytes())], false, controls.pad_bytes)
}

#[cfg(test)]
mod tests;
