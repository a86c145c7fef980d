//! Function calls in the Responses API and in messages: which function is called, and what has come
//! back from one.

use serde_json::{Value, json};

use super::super::answer::reported;
use super::super::ask::{Function, chosen};
use super::super::asked::{Asked, Heard};
use super::super::controls::Controls;
use super::super::refusal::Refusal;
use super::super::words::{self, Text};
use super::super::{print::quote, schema};
use super::speak::said;

/// What a conversation is answered with.
#[derive(Debug)]
pub(super) enum Turn {
    Words(Text),
    Call(Call),
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
        asked: &Asked,
        list: &str,
        heard: &Heard,
        controls: &Controls,
        most: Option<u64>,
    ) -> Result<Self, Refusal> {
        let last = asked.value(list).and_then(Value::as_array).and_then(|all| all.last());
        if let Some(result) = last.and_then(result) {
            let chinese = words::is_chinese(&heard.text);
            let (lead, seed) = (reported(&result, chinese), words::seed(&heard.text));
            return Ok(Self::Words(Text::spoken(lead, chinese, seed, controls.tokens, most)));
        }
        Ok(match call(asked, &heard.text)? {
            Some(function) => {
                let arguments = schema::object(&function.parameters, &heard.text).to_string();
                let mut name = Vec::new();
                quote(&mut name, &function.name);
                let name = String::from_utf8_lossy(&name).into_owned();
                Self::Call(Call { name, arguments: Text::exact(arguments, None) })
            }
            None => Self::Words(said(heard, controls, 0, most)),
        })
    }

    /// Tokens of the answer.
    pub(super) fn tokens(&self) -> u64 {
        match self {
            Self::Words(text) => text.tokens(),
            Self::Call(call) => 1 + call.arguments.tokens(),
        }
    }
}

/// The function that is to be called. Tools that are no functions are the provider's own.
fn call(asked: &Asked, text: &str) -> Result<Option<Function>, Refusal> {
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
    Some(said.map(|value| Heard::of(value).text).unwrap_or_default())
}
