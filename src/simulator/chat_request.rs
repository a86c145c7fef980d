//! Reads a chat request: checks what the API documents and OpenAI's specification say about the
//! fields that the simulator acts on, and takes no notice of the others.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::attachment::Attachment;
use super::generated_text;
use super::messages::{Message, PromptParts};
use super::picture::Canvas;
use super::refusal::Refusal;

/// `n` at most; OpenAI's own bound.
const MAX_CHOICES: u64 = 128;
/// Pictures of one answer at most, as OpenAI has it.
const MAX_PICTURES: u64 = 10;
/// Bytes of text that count as one token of a prompt.
const BYTES_PER_TOKEN: usize = 4;

/// A request that makes sense.
#[derive(Debug)]
pub(super) struct Question {
    pub model: String,
    pub stream: bool,
    /// `stream_options.include_usage`.
    pub include_usage: bool,
    /// `stream_options` was there.
    pub has_stream_options: bool,
    /// How many choices; at least 1.
    pub n: u64,
    /// The smaller of `max_completion_tokens` and `max_tokens`.
    pub max_tokens: Option<u64>,
    /// What the last user message says.
    pub text: String,
    /// What pictures the last user message has.
    pub images: Vec<Attachment>,
    pub prompt_tokens: u64,
    pub json: Option<JsonMode>,
    /// The function that is to be called.
    pub call: Option<Function>,
    /// What a tool has said, if that is the last message.
    pub tool_result: Option<String>,
    /// `size` and `quality`; only for image models.
    pub canvas: Option<Canvas>,
}

/// What kind of answer a question gets. The documents print each in a shape of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Plain text.
    Chat,
    /// Text about pictures.
    Vision,
    Json,
    Tools,
    /// A picture out of words.
    Created,
    /// A picture out of pictures.
    Edited,
}

/// Words that ask for a description: with them the image model looks instead of painting.
const DESCRIBE: [&str; 10] =
    ["描述", "什么", "分析", "识别", "解释", "describe", "what", "explain", "identify", "caption"];

/// `response_format` other than text.
#[derive(Debug)]
pub(super) struct JsonMode {
    pub schema: Option<Value>,
}

/// One of the `tools`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Function {
    pub name: String,
    #[serde(default)]
    pub parameters: Value,
}

#[derive(Deserialize)]
struct Raw<'a> {
    model: String,
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
    stream: Option<bool>,
    stream_options: Option<RawStreamOptions>,
    n: Option<u64>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    response_format: Option<ResponseFormat>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    tool_choice: Option<Value>,
    size: Option<Value>,
    quality: Option<Value>,
}

#[derive(Deserialize)]
struct RawStreamOptions {
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct ResponseFormat {
    r#type: String,
    json_schema: Option<Value>,
}

#[derive(Deserialize)]
struct Tool {
    r#type: String,
    function: Function,
}

impl Question {
    /// Reads a request body.
    ///
    /// # Errors
    /// `invalid_request` or `invalid_image`, with the reason.
    pub(super) fn read(body: &[u8]) -> Result<Self, Refusal> {
        let raw: Raw<'_> =
            serde_json::from_slice(body).map_err(|error| Refusal::invalid(error.to_string()))?;
        check_numbers(&raw)?;
        let stream = raw.stream.unwrap_or(false);
        if raw.stream_options.is_some() && !stream {
            return Err(Refusal::invalid("stream_options without stream"));
        }
        let heard = PromptParts::listen(&raw.messages)?;
        let tools = tools(raw.tools)?;
        let tool_bytes = raw.tools.map_or(0, |tools| tools.get().len());
        let text_tokens = (heard.text_bytes + tool_bytes).div_ceil(BYTES_PER_TOKEN) as u64;
        let canvas = raw.model.contains("image").then(|| canvas(&raw)).transpose()?;
        let call = match &heard.tool_result {
            Some(_) => None,
            None => chosen(tools, raw.tool_choice.as_ref(), &heard.text)?,
        };
        Ok(Self {
            stream,
            include_usage: raw
                .stream_options
                .as_ref()
                .is_some_and(|it| it.include_usage == Some(true)),
            has_stream_options: raw.stream_options.is_some(),
            n: raw.n.unwrap_or(1),
            max_tokens: [raw.max_completion_tokens, raw.max_tokens].into_iter().flatten().min(),
            prompt_tokens: text_tokens.max(1) + heard.image_tokens,
            json: raw.response_format.map(json_mode).transpose()?.flatten(),
            call,
            tool_result: heard.tool_result,
            text: heard.text,
            images: heard.images,
            canvas,
            model: raw.model,
        })
    }

    /// What kind of answer this question gets.
    pub(super) fn kind(&self) -> Kind {
        let describe = wants_words(&self.text);
        match (&self.canvas, self.images.is_empty()) {
            (Some(_), true) => Kind::Created,
            (Some(_), false) if !describe => Kind::Edited,
            _ if self.call.is_some() => Kind::Tools,
            _ if self.json.is_some() => Kind::Json,
            (_, false) => Kind::Vision,
            (_, true) => Kind::Chat,
        }
    }

    /// The answer is to be in Chinese.
    pub(super) fn is_chinese(&self) -> bool {
        generated_text::is_chinese(&self.text)
    }
}

/// Whether a text that came with pictures asks for words about them.
pub(super) fn wants_words(text: &str) -> bool {
    let lower = text.to_lowercase();
    DESCRIBE.iter().any(|word| lower.contains(word))
}

fn check_numbers(raw: &Raw<'_>) -> Result<(), Refusal> {
    let checks = [
        (!raw.messages.is_empty(), "messages is empty"),
        (raw.n.is_none_or(|n| (1..=MAX_CHOICES).contains(&n)), "n is not in 1 to 128"),
        (raw.max_tokens != Some(0), "max_tokens is 0"),
        (raw.max_completion_tokens != Some(0), "max_completion_tokens is 0"),
        (
            raw.temperature.is_none_or(|it| (0.0..=2.0).contains(&it)),
            "temperature is not in 0 to 2",
        ),
        (raw.top_p.is_none_or(|it| (0.0..=1.0).contains(&it)), "top_p is not in 0 to 1"),
    ];
    match checks.iter().find(|(holds, _)| !holds) {
        Some((_, reason)) => Err(Refusal::invalid(*reason)),
        None => Ok(()),
    }
}

fn canvas(raw: &Raw<'_>) -> Result<Canvas, Refusal> {
    if raw.n.is_some_and(|n| n > MAX_PICTURES) {
        return Err(Refusal::invalid("n is not in 1 to 10"));
    }
    let text = |value: &Option<Value>, reason: &'static str| match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Refusal::invalid(reason)),
    };
    let size = text(&raw.size, "size is no string")?;
    let quality = text(&raw.quality, "quality is no string")?;
    Canvas::new(size.as_deref(), quality.as_deref()).map_err(Refusal::invalid)
}

fn json_mode(format: ResponseFormat) -> Result<Option<JsonMode>, Refusal> {
    match format.r#type.as_str() {
        "text" => Ok(None),
        "json_object" => Ok(Some(JsonMode { schema: None })),
        "json_schema" => {
            let schema =
                format.json_schema.and_then(|mut outer| outer.get_mut("schema").map(Value::take));
            let schema = schema.ok_or_else(|| Refusal::invalid("json_schema without schema"))?;
            Ok(Some(JsonMode { schema: Some(schema) }))
        }
        _ => Err(Refusal::invalid("response_format.type is unknown")),
    }
}

fn tools(raw: Option<&RawValue>) -> Result<Vec<Function>, Refusal> {
    let Some(raw) = raw else { return Ok(Vec::new()) };
    let tools: Vec<Tool> = serde_json::from_str(raw.get())
        .map_err(|error| Refusal::invalid(format!("tools: {error}")))?;
    if tools.iter().any(|tool| tool.r#type != "function") {
        return Err(Refusal::invalid("a tool is no function"));
    }
    Ok(tools.into_iter().map(|tool| tool.function).collect())
}

/// The function to call: the named one, or the first whose name has a word of the question, or the
/// first; none if `tool_choice` says so.
pub(super) fn chosen(
    tools: Vec<Function>,
    choice: Option<&Value>,
    text: &str,
) -> Result<Option<Function>, Refusal> {
    let named = match choice {
        None | Some(Value::Null) => None,
        Some(Value::String(choice)) => match choice.as_str() {
            "none" => return Ok(None),
            "auto" => None,
            "required" if !tools.is_empty() => None,
            "required" => return Err(Refusal::invalid("tool_choice without tools")),
            _ => return Err(Refusal::invalid("tool_choice is unknown")),
        },
        Some(object) => {
            let name = object.pointer("/function/name").and_then(Value::as_str);
            Some(name.ok_or_else(|| Refusal::invalid("tool_choice names no function"))?)
        }
    };
    if let Some(name) = named {
        let found = tools.into_iter().find(|tool| tool.name == name);
        return found.map(Some).ok_or_else(|| Refusal::invalid("tool_choice names no tool"));
    }
    let fits =
        |tool: &Function| tool.name.split('_').any(|word| word.len() > 3 && text.contains(word));
    let at = tools.iter().position(fits).unwrap_or(0);
    Ok(tools.into_iter().nth(at))
}

#[cfg(test)]
mod tests {
    use super::super::messages::IMAGE_PROMPT_TOKENS;
    use super::*;

    fn read(body: &str) -> Result<Question, Refusal> {
        Question::read(body.as_bytes())
    }

    fn with(fields: &str) -> Result<Question, Refusal> {
        read(&format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],{fields}}}"#))
    }

    #[test]
    fn wrong_requests_are_refused() {
        for body in [
            "",
            "[]",
            "{",
            r#"{"messages":[{"role":"user","content":"x"}]}"#,
            r#"{"model":"m"}"#,
            r#"{"model":"m","messages":[]}"#,
            r#"{"model":"m","messages":"hello"}"#,
            r#"{"model":"m","messages":[{"role":"king","content":"x"}]}"#,
            r#"{"model":"m","messages":[{"content":"x"}]}"#,
            r#"{"model":"m","messages":[{"role":"user"}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":7}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"smell"}]}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text"}]}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"image"}]}]}"#,
            r#"{"model":"m","model":"m","messages":[{"role":"user","content":"x"}]}"#,
        ] {
            let refusal = read(body).expect_err(body);
            assert!(refusal.body.contains(r#""code":"invalid_request""#), "{body}");
        }
        for fields in [
            r#""stream":"yes""#,
            r#""n":0"#,
            r#""n":129"#,
            r#""max_tokens":0"#,
            r#""max_completion_tokens":-1"#,
            r#""temperature":2.5"#,
            r#""top_p":"high""#,
            r#""response_format":{"type":"xml"}"#,
            r#""response_format":{"type":"json_schema"}"#,
            r#""stream_options":{"include_usage":true}"#,
            r#""tools":[{"type":"magic","function":{"name":"f"}}]"#,
            r#""tools":[{"type":"function"}]"#,
            r#""tool_choice":"required""#,
            r#""tool_choice":"sometimes""#,
            r#""tool_choice":{"type":"function","function":{"name":"f"}}"#,
        ] {
            assert!(with(fields).is_err(), "{fields}");
        }
    }

    #[test]
    fn unlisted_fields_and_nulls_are_fine() {
        let question = with(r#""stream":null,"n":null,"seed":1,"size":7,"x":{"y":[]}"#);
        let question = question.expect("a text model takes no notice of size");
        assert!(!question.stream && question.n == 1 && question.canvas.is_none());
    }

    #[test]
    fn prompts_are_counted_by_their_bytes_and_pictures() {
        let tokens = |body: &str| read(body).expect(body).prompt_tokens;
        let plain = r#"{"model":"m","messages":[{"role":"system","content":"12345678"},
            {"role":"user","content":"你好"}]}"#;
        assert_eq!(tokens(plain), 4);
        let image = r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"1234"},
            {"type":"image_url","image_url":{"url":"https://example.com/a.png"}}]}]}"#;
        assert_eq!(tokens(image), 1 + IMAGE_PROMPT_TOKENS);
        assert_eq!(tokens(r#"{"model":"m","messages":[{"role":"user","content":""}]}"#), 1);
    }

    #[test]
    fn the_tool_is_chosen_as_tool_choice_says() {
        let tools = r#""tools":[{"type":"function","function":{"name":"get_time"}},
            {"type":"function","function":{"name":"say_hi_back"}}]"#;
        let name = |choice: &str| {
            let fields = format!("{tools}{choice}");
            with(&fields).expect(choice).call.map(|function| function.name)
        };
        assert_eq!(name("").as_deref(), Some("get_time"));
        assert_eq!(name(r#","tool_choice":"required""#).as_deref(), Some("get_time"));
        assert_eq!(name(r#","tool_choice":"none""#), None);
        let named = r#","tool_choice":{"type":"function","function":{"name":"say_hi_back"}}"#;
        assert_eq!(name(named).as_deref(), Some("say_hi_back"));
    }

    #[test]
    fn the_image_model_paints_edits_or_looks() {
        let kind = |model: &str, text: &str, image: &str| {
            let body = format!(
                r#"{{"model":"{model}","messages":[{{"role":"user","content":[
                {{"type":"text","text":"{text}"}}{image}]}}]}}"#
            );
            read(&body).expect(text).kind()
        };
        let image = r#",{"type":"image","image":"data:image/png;base64,IMAGE_BASE64_1"}"#;
        assert_eq!(kind("gpt-5.4-image-2", "describe a cat", ""), Kind::Created);
        assert_eq!(kind("gpt-5.4-image-2", "给这只猫戴上墨镜", image), Kind::Edited);
        assert_eq!(kind("gpt-5.4-image-2", "What is this?", image), Kind::Vision);
        assert_eq!(kind("gpt-5.4", "给这只猫戴上墨镜", image), Kind::Vision);
        assert_eq!(kind("gpt-5.4", "你好", ""), Kind::Chat);
    }

    #[test]
    fn a_tool_that_has_answered_is_not_called_again() {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"weather?"},
            {"role":"assistant","content":null,"tool_calls":[]},
            {"role":"tool","tool_call_id":"call_1","content":"22 °C"}],
            "tools":[{"type":"function","function":{"name":"get_weather"}}]}"#;
        let question = read(body).expect("a whole round");
        assert!(question.call.is_none());
        assert_eq!(question.tool_result.as_deref(), Some("22 °C"));
        assert_eq!(question.text, "weather?");
        let next = body.replace(r#""22 °C"}"#, r#""22 °C"},{"role":"user","content":"and here?"}"#);
        assert!(read(&next).expect("a second round").call.is_some());
    }
}
