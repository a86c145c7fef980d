//! The Responses API: an object, or the same built up event by event.

use bytes::Bytes;

use super::super::asked::Asked;
use super::super::controls::Controls;
use super::super::recital::Recital;
use super::super::refusal::Refusal;
use super::numbers::quoted;
use super::speak::stated;
use super::tools::Turn;
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
    /// As JSON strings: the model, what is said, the name of the function that is called.
    model: String,
    words: String,
    function: Option<String>,
    /// `completed`, or `incomplete` where the answer was cut.
    status: &'static str,
}

impl Form<'_> {
    fn part(&self) -> String {
        let words = &self.words;
        format!(r#"{{"type":"output_text","text":{words},"annotations":[],"logprobs":[]}}"#)
    }

    /// The answer's one item: a message, or a call; not yet with what it says, or with it.
    fn item(&self, status: &str, is_filled: bool) -> String {
        let id = self.signature.id;
        if let Some(name) = &self.function {
            let arguments = if is_filled { &self.words } else { "\"\"" };
            return format!(
                concat!(
                    r#"{{"id":"fc_{}","type":"function_call","status":"{}","call_id":"call_{}","#,
                    r#""name":{},"arguments":{}}}"#
                ),
                id, status, id, name, arguments
            );
        }
        let content = if is_filled { self.part() } else { String::new() };
        format!(
            concat!(
                r#"{{"id":"msg_{}","type":"message","status":"{}","role":"assistant","#,
                r#""content":[{}]}}"#
            ),
            id, status, content
        )
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
    fn stream(&self, turn: Turn, whole: &str, pad_bytes: usize) -> Recital {
        let failure = vec![Bytes::from_static(FAILURE.as_bytes())];
        let mut stream = Recital::new(failure, true, pad_bytes);
        let event = |stream: &mut Recital, kind: &str, rest: &str| {
            stream.event(kind, &format!(r#""type":"{kind}",{rest}"#));
        };
        let begun = self.response("in_progress", "", r#","usage":null"#);
        event(&mut stream, "response.created", &format!(r#""response":{begun}"#));
        event(&mut stream, "response.in_progress", &format!(r#""response":{begun}"#));
        let kind = "response.output_item.added";
        let item = self.item("in_progress", false);
        let names = u64::from(self.function.is_some());
        stream.costly(kind, &format!(r#""type":"{kind}","output_index":0,"item":{item}"#), names);
        self.fill(&mut stream, turn);
        let done = format!(r#""output_index":0,"item":{}"#, self.item(self.status, true));
        event(&mut stream, "response.output_item.done", &done);
        let kind = format!("response.{}", self.status);
        event(&mut stream, &kind, &format!(r#""response":{whole}"#));
        stream
    }

    /// The events between an item's beginning and its end.
    fn fill(&self, stream: &mut Recital, turn: Turn) {
        let (id, words) = (self.signature.id, &self.words);
        let event = |stream: &mut Recital, kind: &str, rest: &str| {
            stream.event(kind, &format!(r#""type":"{kind}",{rest}"#));
        };
        let text = match turn {
            Turn::Words(text) => text,
            Turn::Call(call) => {
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
    asked: &Asked,
    controls: &Controls,
    signature: &Signature<'_>,
) -> Result<Answered, Refusal> {
    let heard = asked.heard(&["input", "instructions"])?;
    let turn = Turn::of(asked, "input", &heard, controls, asked.number("max_output_tokens")?)?;
    let (input, output) = (heard.cost(), turn.tokens());
    let usage = stated(controls, || {
        let total = input + output;
        format!(
            concat!(
                r#""input_tokens":{},"input_tokens_details":{{"cached_tokens":0}},"#,
                r#""output_tokens":{},"output_tokens_details":{{"reasoning_tokens":0}},"#,
                r#""total_tokens":{}"#
            ),
            input, output, total
        )
    });
    let (text, function) = match &turn {
        Turn::Words(text) => (text, None),
        Turn::Call(call) => (&call.arguments, Some(call.name.clone())),
    };
    // Padded arguments would be no JSON.
    let pad = "x".repeat(if function.is_none() { controls.pad_bytes } else { 0 });
    let form = Form {
        signature,
        model: quoted(&asked.model),
        words: quoted(&text.clone().whole(&pad)),
        status: if text.is_cut() { "incomplete" } else { "completed" },
        function,
    };
    let whole = form.response(form.status, &form.item(form.status, true), &usage);
    if !asked.stream {
        return Ok(Answered::json(input, output, whole));
    }
    let content = Content::Stream(form.stream(turn, &whole, pad.len()));
    Ok(Answered { prompt_tokens: input, completion_tokens: output, content })
}
