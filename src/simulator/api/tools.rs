//! What a conversation of the Responses API and of messages is answered with: words, an object of the
//! form that was asked for, a function call, or a picture.

use serde_json::{Value, json};

use super::super::answer::{about, described, reported, structured};
use super::super::api_request::{ApiRequest, PromptText};
use super::super::attachment::{self, Attachment};
use super::super::chat_request::{Function, chosen, wants_words};
use super::super::controls::Controls;
use super::super::generated_text::{self, Text};
use super::super::picture::Canvas;
use super::super::refusal::Refusal;
use super::super::{render::quote, schema};

/// What a conversation is answered with.
#[derive(Debug)]
pub(super) enum Turn {
    Words(Text),
    Call(Call),
}

/// What the Responses API's tool `image_generation` has made.
#[derive(Debug)]
pub(super) struct Picture {
    pub base64: String,
    pub tokens: u64,
}

/// A function call. It is never cut; its name counts one token.
#[derive(Debug)]
pub(super) struct Call {
    /// As a JSON string.
    pub name: String,
    /// A JSON object.
    pub arguments: Text,
}

impl Turn {
    /// The answer to the conversation in the field `list`, of at most `most` tokens.
    ///
    /// # Errors
    /// `invalid_request`: the tools make no sense.
    pub(super) fn of(
        asked: &ApiRequest,
        list: &str,
        heard: &PromptText,
        controls: &Controls,
        most: Option<u64>,
    ) -> Result<Self, Refusal> {
        let last = last(asked, list);
        let (chinese, seed) =
            (generated_text::is_chinese(&heard.text), generated_text::seed(&heard.text));
        let shown = last.map(shown).transpose()?.unwrap_or_default();
        let result = last.and_then(result);
        let function = if result.is_none() { call(asked, &heard.text)? } else { None };
        if let Some(function) = function {
            let arguments = schema::object(&function.parameters, &heard.text).to_string();
            let mut name = Vec::new();
            quote(&mut name, &function.name);
            let name = String::from_utf8_lossy(&name).into_owned();
            return Ok(Self::Call(Call { name, arguments: Text::exact(arguments, None) }));
        }
        let lead = match &result {
            Some(result) => reported(result, chinese),
            None if shown.is_empty() => about(&heard.text, chinese),
            None => described(&shown, chinese),
        };
        Ok(Self::Words(match format(asked)? {
            Some(Format { schema }) => Text::exact(structured(schema, &lead, &heard.text), most),
            None => Text::spoken(lead, chinese, seed, controls.tokens, most),
        }))
    }

    /// Tokens of the answer.
    pub(super) fn tokens(&self) -> u64 {
        match self {
            Self::Words(text) => text.tokens(),
            Self::Call(call) => 1 + call.arguments.tokens(),
        }
    }
}

/// An answer in JSON; without a schema any object.
struct Format<'a> {
    schema: Option<&'a Value>,
}

/// `text.format` of the Responses API, Anthropic's `output_config.format` and the older
/// `output_format`.
fn format(asked: &ApiRequest) -> Result<Option<Format<'_>>, Refusal> {
    let within = |name: &str| asked.value(name).and_then(|outer| outer.get("format"));
    let format = within("text").or(within("output_config")).or(asked.value("output_format"));
    let Some(format) = format.filter(|format| !format.is_null()) else { return Ok(None) };
    match format["type"].as_str() {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(Format { schema: None })),
        Some("json_schema") => match format.get("schema").filter(|schema| schema.is_object()) {
            Some(schema) => Ok(Some(Format { schema: Some(schema) })),
            None => Err(Refusal::invalid("json_schema without schema")),
        },
        _ => Err(Refusal::invalid("the format's type is unknown")),
    }
}

impl Picture {
    /// The picture that a conversation of the Responses API is answered with, if one is to be made: by its tool, or by an
    /// image model without one.
    ///
    /// # Errors
    /// `invalid_request`: size or quality are not in the documents' lists.
    pub(super) fn of(
        asked: &ApiRequest,
        heard: &PromptText,
        controls: &Controls,
    ) -> Result<Option<Self>, Refusal> {
        let tools = asked.value("tools").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let tool = tools.iter().find(|tool| tool["type"] == "image_generation");
        let last = last(asked, "input");
        let looks = wants_words(&heard.text)
            && !last.map(shown).transpose()?.unwrap_or_default().is_empty();
        let is_wanted = match asked.value("tool_choice") {
            Some(choice) if choice["type"] == "image_generation" => true,
            choice => choice.is_none_or(|it| it == "auto" || it == "required") && !looks,
        };
        let makes = tool.is_some() || asked.model.contains("image");
        if !makes || !is_wanted || last.and_then(result).is_some() {
            return Ok(None);
        }
        let text = |name: &str| tool.and_then(|tool| tool.get(name)).and_then(Value::as_str);
        let canvas = Canvas::new(text("size"), text("quality")).map_err(Refusal::invalid)?;
        let base64 = canvas.paint(generated_text::seed(&heard.text), controls.picture_scale);
        Ok(Some(Self { base64, tokens: canvas.tokens }))
    }
}

/// The last item of the conversation.
fn last<'a>(asked: &'a ApiRequest, list: &str) -> Option<&'a Value> {
    asked.value(list).and_then(Value::as_array).and_then(|all| all.last())
}

/// The pictures of one item of the conversation.
fn shown(item: &Value) -> Result<Vec<Attachment>, Refusal> {
    let parts = item.get("content").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let source = |part: &Value| {
        let source = &part["source"];
        let places = [&part["image_url"], &part["image"], &source["data"], &source["url"]];
        let is_picture = matches!(part["type"].as_str(), Some("image" | "input_image"));
        places.iter().find_map(|place| place.as_str()).filter(|_| is_picture).map(str::to_owned)
    };
    parts.iter().filter_map(source).map(|source| attachment::recognise(&source)).collect()
}

/// The function that is to be called. Tools that are no functions are the provider's own.
fn call(asked: &ApiRequest, text: &str) -> Result<Option<Function>, Refusal> {
    let tools = asked.value("tools").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let function = |tool: &Value| {
        let parameters = tool.get("parameters").or_else(|| tool.get("input_schema"))?.clone();
        Some(Function { name: tool["name"].as_str()?.to_owned(), parameters })
    };
    let functions = tools.iter().filter_map(function).collect();
    chosen(functions, asked.value("tool_choice").map(as_in_chat).as_ref(), text)
}

/// `tool_choice` in the words that chat has for it.
fn as_in_chat(choice: &Value) -> Value {
    match choice["type"].as_str() {
        Some("any") => json!("required"),
        Some("function" | "tool") => json!({"function": {"name": choice["name"]}}),
        Some(kind) => json!(kind),
        None => choice.clone(),
    }
}

/// What a tool has said, if this item of the conversation or a part of it is that.
fn result(item: &Value) -> Option<String> {
    let said = match item["type"].as_str() {
        Some("function_call_output") => item.get("output"),
        Some("tool_result") => item.get("content"),
        _ => return item.get("content")?.as_array()?.iter().find_map(result),
    };
    Some(said.map(|value| PromptText::of(value).text).unwrap_or_default())
}
