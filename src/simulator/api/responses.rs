//! The Responses API: an object, or the same built up event by event.

use bytes::Bytes;

use super::super::api_request::ApiRequest;
use super::super::controls::Controls;
use super::super::event_queue::EventQueue;
use super::super::refusal::Refusal;
use super::numbers::quoted;
use super::text::stated;
use super::tools::{Picture, Turn};
use super::{Answered, Content, Signature};

/// How its streams fail.
const FAILURE: &str = concat!(
    "event: error\n",
    r#"data: {"type":"error","code":"server_error","message":"The server had an error.","param":null,"#,
    r#""sequence_number":1}"#,
    "\n\n"
);

/// What an answer's objects have in common.
struct Form<'a> {
    signature: &'a Signature<'a>,
    /// As JSON strings: the model, and what is said, or the arguments of a call, or a picture.
    model: String,
    words: String,
    item: Item,
    /// `completed`, or `incomplete` where the answer was cut.
    status: &'static str,
}

/// What is answered.
enum Said {
    Turn(Turn),
    Picture(Picture),
}

/// What the answer's one item is.
enum Item {
    Message,
    /// The function's name as a JSON string.
    Call(String),
    Picture,
}

impl Form<'_> {
    fn part(&self) -> String {
        let words = &self.words;
        format!(r#"{{"type":"output_text","text":{words},"annotations":[],"logprobs":[]}}"#)
    }

    /// The answer's one item: a message, or a call; not yet with what it says, or with it.
    fn item(&self, status: &str, is_filled: bool) -> String {
        let id = self.signature.id;
        match &self.item {
            Item::Call(name) => {
                let arguments = if is_filled { &self.words } else { "\"\"" };
                format!(
                    concat!(
                        r#"{{"id":"fc_{}","type":"function_call","status":"{}","call_id":"call_{}","#,
                        r#""name":{},"arguments":{}}}"#
                    ),
                    id, status, id, name, arguments
                )
            }
            Item::Picture => {
                let result = if is_filled { &self.words } else { "null" };
                format!(
                    concat!(
                        r#"{{"id":"ig_{}","type":"image_generation_call","status":"{}","#,
                        r#""output_format":"png","result":{}}}"#
                    ),
                    id, status, result
                )
            }
            Item::Message => {
                let content = if is_filled { self.part() } else { String::new() };
                format!(
                    concat!(
                        r#"{{"id":"msg_{}","type":"message","status":"{}","role":"assistant","#,
                        r#""content":[{}]}}"#
                    ),
                    id, status, content
                )
            }
        }
    }

    fn response(&self, status: &str, output: &str, usage: &str) -> String {
        let cut = match status {
            "incomplete" => r#"{"reason":"max_output_tokens"}"#,
            _ => "null",
        };
        let Signature { id, created } = self.signature;
        format!(
            concat!(
                r#"{{"id":"resp_{}","object":"response","created_at":{},"status":"{}","error":null,"#,
                r#""incomplete_details":{},"instructions":null,"metadata":{{}},"model":{},"#,
                r#""output":[{}],"parallel_tool_calls":true,"temperature":1.0,"tool_choice":"auto","#,
                r#""tools":[],"top_p":1.0{}}}"#
            ),
            id, created, status, cut, self.model, output, usage
        )
    }

    /// The events, of which the last one has `whole`.
    fn stream(&self, said: Said, whole: &str, pad_bytes: usize) -> EventQueue {
        let failure = vec![Bytes::from_static(FAILURE.as_bytes())];
        let mut stream = EventQueue::new(failure, true, pad_bytes);
        let event = |stream: &mut EventQueue, kind: &str, rest: &str| {
            stream.event(kind, &format!(r#""type":"{kind}",{rest}"#));
        };
        let begun = self.response("in_progress", "", r#","usage":null"#);
        event(&mut stream, "response.created", &format!(r#""response":{begun}"#));
        event(&mut stream, "response.in_progress", &format!(r#""response":{begun}"#));
        let kind = "response.output_item.added";
        let item = self.item("in_progress", false);
        let names = u64::from(!matches!(self.item, Item::Message));
        stream.costly(kind, &format!(r#""type":"{kind}","output_index":0,"item":{item}"#), names);
        self.fill(&mut stream, said);
        let done = format!(r#""output_index":0,"item":{}"#, self.item(self.status, true));
        event(&mut stream, "response.output_item.done", &done);
        let kind = format!("response.{}", self.status);
        event(&mut stream, &kind, &format!(r#""response":{whole}"#));
        stream
    }

    /// The events between an item's beginning and its end.
    fn fill(&self, stream: &mut EventQueue, said: Said) {
        let (id, words) = (self.signature.id, &self.words);
        let event = |stream: &mut EventQueue, kind: &str, rest: &str| {
            stream.event(kind, &format!(r#""type":"{kind}",{rest}"#));
        };
        let text = match said {
            Said::Turn(Turn::Words(text)) => text,
            Said::Picture(picture) => {
                let place = format!(r#""item_id":"ig_{id}","output_index":0"#);
                for stage in ["in_progress", "generating"] {
                    event(stream, &format!("response.image_generation_call.{stage}"), &place);
                }
                let kind = "response.image_generation_call.completed";
                return stream.costly(kind, &format!(r#""type":"{kind}",{place}"#), picture.tokens);
            }
            Said::Turn(Turn::Call(call)) => {
                let place = format!(r#""item_id":"fc_{id}","output_index":0"#);
                let kind = "response.function_call_arguments.delta";
                let before = format!(r#""type":"{kind}",{place},"delta":"#);
                stream.say(kind, &before, call.arguments, "");
                let done = format!(r#"{place},"name":{},"arguments":{words}"#, call.name);
                return event(stream, "response.function_call_arguments.done", &done);
            }
        };
        let place = format!(r#""item_id":"msg_{id}","output_index":0,"content_index":0"#);
        let empty = r#"{"type":"output_text","text":"","annotations":[],"logprobs":[]}"#;
        event(stream, "response.content_part.added", &format!(r#"{place},"part":{empty}"#));
        let kind = "response.output_text.delta";
        let before = format!(r#""type":"{kind}",{place},"logprobs":[],"delta":"#);
        stream.say(kind, &before, text, "");
        let done = format!(r#"{place},"logprobs":[],"text":{words}"#);
        event(stream, "response.output_text.done", &done);
        let part = self.part();
        event(stream, "response.content_part.done", &format!(r#"{place},"part":{part}"#));
    }
}

pub(super) fn responses(
    asked: &ApiRequest,
    controls: &Controls,
    signature: &Signature<'_>,
) -> Result<Answered, Refusal> {
    let heard = asked.heard(&["input", "instructions"])?;
    let most = asked.number("max_output_tokens")?;
    let said = match Picture::of(asked, &heard, controls)? {
        Some(picture) => Said::Picture(picture),
        None => Said::Turn(Turn::of(asked, "input", &heard, controls, most)?),
    };
    let (words, item) = match &said {
        Said::Turn(Turn::Words(text)) => {
            (text.clone().whole(&"x".repeat(controls.pad_bytes)), Item::Message)
        }
        // Padded arguments would be no JSON.
        Said::Turn(Turn::Call(call)) => {
            (call.arguments.clone().whole(""), Item::Call(call.name.clone()))
        }
        Said::Picture(picture) => (picture.base64.clone(), Item::Picture),
    };
    let is_cut = matches!(&said, Said::Turn(Turn::Words(text)) if text.is_cut());
    // The call of the tool counts as a token of the model's.
    let (output, pictured) = match &said {
        Said::Turn(turn) => (turn.tokens(), 0),
        Said::Picture(picture) => (1, picture.tokens),
    };
    let input = heard.cost();
    let mut usage = stated(controls, || usage(input, output));
    if pictured > 0 && !usage.is_empty() {
        // It stands beside what the model used, and is no part of it.
        let tool = painted(input, pictured);
        usage.push_str(&format!(r#","tool_usage":{{"image_gen":{{{tool}}}}}"#));
    }
    let pad_bytes = if matches!(item, Item::Message) { controls.pad_bytes } else { 0 };
    let form = Form {
        signature,
        model: quoted(&asked.model),
        words: quoted(&words),
        status: if is_cut { "incomplete" } else { "completed" },
        item,
    };
    let prompt_tokens = if pictured == 0 { input } else { 2 * input };
    let completion_tokens = output + pictured;
    let whole = form.response(form.status, &form.item(form.status, true), &usage);
    if !asked.stream {
        return Ok(Answered::json(prompt_tokens, completion_tokens, whole));
    }
    let content = Content::Stream(form.stream(said, &whole, pad_bytes));
    Ok(Answered { prompt_tokens, completion_tokens, content })
}

fn usage(input: u64, output: u64) -> String {
    let total = input + output;
    format!(
        concat!(
            r#""input_tokens":{},"input_tokens_details":{{"cached_tokens":0}},"#,
            r#""output_tokens":{},"output_tokens_details":{{"reasoning_tokens":0}},"#,
            r#""total_tokens":{}"#
        ),
        input, output, total
    )
}

/// The usage of the image tool, which reads the same prompt.
fn painted(input: u64, output: u64) -> String {
    let total = input + output;
    format!(
        concat!(
            r#""input_tokens":{},"input_tokens_details":{{"image_tokens":0,"text_tokens":{}}},"#,
            r#""output_tokens":{},"output_tokens_details":{{"image_tokens":{},"text_tokens":0}},"#,
            r#""total_tokens":{}"#
        ),
        input, input, output, output, total
    )
}
