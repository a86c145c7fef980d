//! The APIs besides chat: which path is whose, and what each answers.

mod numbers;
mod speak;
mod responses;
mod media;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;

use super::asked::Asked;
use super::controls::{Controls, FaultKind};
use super::recital::Recital;
use super::refusal::Refusal;

/// A path that is posted to, other than chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    Completions,
    Responses,
    Messages,
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
    Stream(Recital),
}

const JSON: &str = "application/json";
/// How OpenAI's streams fail.
const FAILURE: &str = concat!(
    r#"data: {"error":{"message":"The server had an error while processing your request.","#,
    r#""type":"server_error","param":null,"code":null}}"#,
    "\n\n"
);

impl Api {
    /// The API of a path.
    pub(super) fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/v1/completions" => Self::Completions,
            "/v1/responses" => Self::Responses,
            "/v1/messages" => Self::Messages,
            "/v1/embeddings" => Self::Embeddings,
            "/v1/moderations" => Self::Moderations,
            "/v1/images/generations" => Self::ImageGenerations,
            "/v1/images/edits" => Self::ImageEdits,
            "/v1/images/variations" => Self::ImageVariations,
            "/v1/audio/transcriptions" => Self::Transcriptions,
            "/v1/audio/translations" => Self::Translations,
            "/v1/audio/speech" => Self::Speech,
            _ => return None,
        })
    }

    /// Reads a request.
    ///
    /// # Errors
    /// `invalid_request`, with the reason.
    pub(super) fn read(headers: &HeaderMap, body: &Bytes) -> Result<Asked, Refusal> {
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        Asked::read(content_type.unwrap_or_default(), body)
    }

    /// Thinks up the answer.
    ///
    /// # Errors
    /// `invalid_request`, with the reason.
    pub(super) fn answer(
        self,
        asked: &Asked,
        controls: &Controls,
        signature: &Signature<'_>,
    ) -> Result<Answered, Refusal> {
        let mut answered = match self {
            Self::Completions => speak::completions(asked, controls, signature),
            Self::Responses => responses::responses(asked, controls, signature),
            Self::Messages => speak::messages(asked, controls, signature),
            Self::Embeddings => numbers::embeddings(asked, controls),
            Self::Moderations => numbers::moderations(asked, signature),
            Self::ImageGenerations | Self::ImageEdits | Self::ImageVariations => {
                media::images(self, asked, controls, signature)
            }
            Self::Transcriptions | Self::Translations => media::heard(self, asked, controls),
            Self::Speech => media::speech(asked, controls),
        }?;
        let ends = controls.fault.is_none_or(|fault| fault.kind != FaultKind::NoDone);
        if let (Content::Stream(recital), false) = (&mut answered.content, ends) {
            *recital = std::mem::take(recital).without_end();
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
fn recital(controls: &Controls) -> Recital {
    Recital::new(vec![Bytes::from_static(FAILURE.as_bytes())], false, controls.pad_bytes)
}

#[cfg(test)]
mod tests;
