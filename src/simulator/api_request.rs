//! Reads a request of any API but chat: JSON or a form, of which only what the answer depends on is
//! looked at.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::form::{File, Form};
use super::messages::IMAGE_PROMPT_TOKENS;
use super::picture::Canvas;
use super::refusal::Refusal;

/// Answers of one request at most; OpenAI's own bound.
const MAX_ANSWERS: u64 = 128;
/// Bytes of text that count as one token of a prompt.
const BYTES_PER_TOKEN: usize = 4;
/// Bytes of a recording that count as one token, and as one second.
const BYTES_PER_AUDIO_TOKEN: usize = 1_600;
const BYTES_PER_SECOND: usize = 16_000;

/// A request that makes sense so far.
#[derive(Debug)]
pub(super) struct ApiRequest {
    pub model: String,
    pub stream: bool,
    /// `stream_options.include_usage`.
    pub include_usage: bool,
    /// How many answers; at least 1.
    pub n: u64,
    fields: Map<String, Value>,
    files: Vec<File>,
}

/// What a prompt or an input says and shows.
#[derive(Debug, Default)]
pub(super) struct PromptText {
    pub text: String,
    pub images: u64,
    /// Tokens that came as numbers.
    pub tokens: u64,
}

impl ApiRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// `invalid_request`, with the reason.
    pub(super) fn read(content_type: &str, body: &Bytes) -> Result<Self, Refusal> {
        let (fields, files) = match Form::read(content_type, body)? {
            Some(form) => {
                let texts = form.fields.into_iter().map(|(name, text)| (name, Value::from(text)));
                (texts.collect(), form.files)
            }
            None => {
                let fields = serde_json::from_slice(body);
                (fields.map_err(|error| Refusal::invalid(error.to_string()))?, Vec::new())
            }
        };
        let mut asked =
            Self { model: String::new(), stream: false, include_usage: false, n: 1, fields, files };
        asked.model = asked.text("model").ok_or_else(|| Refusal::invalid("no model"))?.to_owned();
        asked.stream = match asked.fields.get("stream") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(stream)) => *stream,
            Some(Value::String(text)) if !asked.files.is_empty() => text == "true",
            Some(_) => return Err(Refusal::invalid("stream is no boolean")),
        };
        let options = asked.fields.get("stream_options");
        asked.include_usage = options.is_some_and(|all| all["include_usage"] == Value::Bool(true));
        asked.n = asked.number("n")?.unwrap_or(1);
        if !(1..=MAX_ANSWERS).contains(&asked.n) {
            return Err(Refusal::invalid("n is not in 1 to 128"));
        }
        Ok(asked)
    }

    /// A field, if it is there and not null.
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    /// A field that is a text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name)?.as_str()
    }

    /// A field that is a number; in a form, the digits of one.
    ///
    /// # Errors
    /// It is something else.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let value = match self.fields.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) if !self.files.is_empty() => text.parse().ok(),
            Some(value) => value.as_u64(),
        };
        value.map(Some).ok_or_else(|| Refusal::invalid(format!("{name} is no number")))
    }

    /// The items of a field that is a list of prompts, or one prompt.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn prompts(&self, name: &str) -> Result<Vec<PromptText>, Refusal> {
        let value = self.fields.get(name).filter(|value| !value.is_null());
        let value = value.ok_or_else(|| Refusal::invalid(format!("no {name}")))?;
        let items: Vec<PromptText> = match value {
            Value::Array(items) if items.is_empty() || !items.iter().all(Value::is_number) => {
                items.iter().map(PromptText::of).collect()
            }
            one => vec![PromptText::of(one)],
        };
        if items.is_empty() { Err(Refusal::invalid(format!("{name} is empty"))) } else { Ok(items) }
    }

    /// Everything that these fields say, of which the first has to be there.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn heard(&self, names: &[&str]) -> Result<PromptText, Refusal> {
        let mut heard = PromptText::default();
        for (at, name) in names.iter().enumerate() {
            match self.fields.get(*name) {
                Some(value) => heard.listen(value),
                None if at == 0 => return Err(Refusal::invalid(format!("no {name}"))),
                None => {}
            }
        }
        Ok(heard)
    }

    /// The recording of a transcription: its tokens and its seconds.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn recording(&self) -> Result<(u64, u64), Refusal> {
        let file = self.files.iter().find(|file| file.name == "file");
        let length = file.ok_or_else(|| Refusal::invalid("no file"))?.bytes.len();
        Ok((
            length.div_ceil(BYTES_PER_AUDIO_TOKEN) as u64,
            length.div_ceil(BYTES_PER_SECOND) as u64,
        ))
    }

    /// The pictures that are sent along: files, or what a JSON body names.
    pub(super) fn pictures(&self) -> u64 {
        let files = self.files.iter().filter(|file| file.name.starts_with("image")).count() as u64;
        let images = self.fields.get("images").or(self.fields.get("image"));
        let named = match images {
            None | Some(Value::Null) => 0,
            Some(Value::Array(items)) => items.len() as u64,
            Some(_) => 1,
        };
        files + named
    }

    /// `size` and `quality`.
    ///
    /// # Errors
    /// One of them is not in the list.
    pub(super) fn canvas(&self) -> Result<Canvas, Refusal> {
        Canvas::new(self.text("size"), self.text("quality")).map_err(Refusal::invalid)
    }
}

impl PromptText {
    pub(super) fn of(value: &Value) -> Self {
        let mut heard = Self::default();
        heard.listen(value);
        heard
    }

    /// Takes up what a value says, wherever in it texts stand.
    fn listen(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.text.push_str(text),
            Value::Number(_) => self.tokens += 1,
            Value::Array(items) => items.iter().for_each(|item| self.listen(item)),
            Value::Object(fields) => {
                let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default();
                self.images += u64::from(matches!(kind, "image" | "input_image"));
                for name in ["content", "text", "output"] {
                    fields.get(name).into_iter().for_each(|value| self.listen(value));
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// Tokens of the prompt, at least 1.
    pub(super) fn cost(&self) -> u64 {
        let text = self.text.len().div_ceil(BYTES_PER_TOKEN) as u64;
        (text + self.tokens + self.images * IMAGE_PROMPT_TOKENS).max(1)
    }
}
