//! The messages of a chat request: who may speak, and what of it the answer depends on.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::attachment::{self, Attachment};
use super::refusal::Refusal;

/// What a picture in a prompt counts, whatever its size.
pub(super) const IMAGE_PROMPT_TOKENS: u64 = 85;

/// One of the `messages`, its content not looked into yet.
#[derive(Deserialize)]
pub(super) struct Message<'a> {
    role: String,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Part {
    r#type: String,
    text: Option<String>,
    image: Option<String>,
    image_url: Option<ImageUrl>,
}

#[derive(Deserialize)]
struct ImageUrl {
    url: String,
}

/// What one message says.
#[derive(Default)]
struct Said {
    text: String,
    images: Vec<Attachment>,
    tokens_of_images: u64,
}

/// What all messages say together, as far as it matters.
#[derive(Default)]
pub(super) struct PromptParts {
    pub text_bytes: usize,
    pub image_tokens: u64,
    /// What the last user message says and shows.
    pub text: String,
    pub images: Vec<Attachment>,
    /// What a tool has said, if that is the last message.
    pub tool_result: Option<String>,
}

impl PromptParts {
    /// Reads all messages.
    ///
    /// # Errors
    /// `invalid_request` or `invalid_image`, with the reason.
    pub(super) fn listen(messages: &[Message<'_>]) -> Result<Self, Refusal> {
        let mut heard = Self::default();
        for (at, message) in messages.iter().enumerate() {
            let last = at + 1 == messages.len();
            let role = message.role.as_str();
            if !matches!(role, "system" | "developer" | "user" | "assistant" | "tool" | "function")
            {
                return Err(Refusal::invalid("a message's role is unknown"));
            }
            if message.content.is_none() && role != "assistant" {
                return Err(Refusal::invalid("a message has no content"));
            }
            let said = message.content.map(said).transpose()?.unwrap_or_default();
            heard.text_bytes += said.text.len();
            heard.image_tokens += said.tokens_of_images;
            if role == "user" {
                (heard.text, heard.images) = (said.text, said.images);
            } else if last && matches!(role, "tool" | "function") {
                heard.tool_result = Some(said.text);
            }
        }
        Ok(heard)
    }
}

fn said(content: &RawValue) -> Result<Said, Refusal> {
    let wrong = |error: serde_json::Error| Refusal::invalid(format!("content: {error}"));
    if content.get().starts_with('"') {
        let text = serde_json::from_str(content.get()).map_err(wrong)?;
        return Ok(Said { text, ..Said::default() });
    }
    let parts: Vec<Part> = serde_json::from_str(content.get()).map_err(wrong)?;
    let mut said = Said::default();
    for part in parts {
        match part.r#type.as_str() {
            "text" => {
                let text = part.text.ok_or_else(|| Refusal::invalid("a text part has no text"))?;
                said.text.push_str(&text);
            }
            "image" | "image_url" => {
                let url = part.image_url.map(|image| image.url);
                let source = if part.r#type == "image" { part.image } else { url };
                let source =
                    source.ok_or_else(|| Refusal::invalid("an image part has no image"))?;
                said.images.push(attachment::recognise(&source)?);
                said.tokens_of_images += IMAGE_PROMPT_TOKENS;
            }
            // An earlier answer of the image model, sent back as history.
            "image_base64" => said.tokens_of_images += IMAGE_PROMPT_TOKENS,
            "refusal" | "input_audio" | "file" => {}
            _ => return Err(Refusal::invalid("a content part's type is unknown")),
        }
    }
    Ok(said)
}
