//! Anthropic's messages: an object, or the same built up event by event.

use bytes::Bytes;

use super::super::api_request::ApiRequest;
use super::super::controls::Controls;
use super::super::event_queue::EventQueue;
use super::super::refusal::Refusal;
use super::numbers::quoted;
use super::text::stated;
use super::tools::Turn;
use super::{Answered, Content, Signature};

/// How its streams fail.
const FAILURE: &str = concat!(
    "event: error\n",
    r#"data: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
    "\n\n"
);

/// What the object and the events have in common.
struct Form<'a> {
    id: &'a str,
    /// As a JSON string.
    model: String,
    stop: &'static str,
    controls: &'a Controls,
    input: u64,
}

impl Form<'_> {
    fn usage(&self, output: u64) -> String {
        stated(self.controls, || {
            format!(
                concat!(
                    r#""input_tokens":{},"cache_creation_input_tokens":0,"#,
                    r#""cache_read_input_tokens":0,"output_tokens":{}"#
                ),
                self.input, output
            )
        })
    }

    /// `stop` is JSON.
    fn message(&self, content: &str, stop: &str, output: u64) -> String {
        let Self { id, model, .. } = self;
        let usage = self.usage(output);
        format!(
            concat!(
                r#"{{"id":"msg_{}","type":"message","role":"assistant","model":{},"content":[{}],"#,
                r#""stop_reason":{},"stop_sequence":null{}}}"#
            ),
            id, model, content, stop, usage
        )
    }

    /// A call; `name` and `input` are JSON.
    fn tool_use(&self, name: &str, input: &str) -> String {
        let id = self.id;
        format!(r#"{{"type":"tool_use","id":"toolu_{id}","name":{name},"input":{input}}}"#)
    }

    fn whole(&self, turn: Turn, output: u64) -> String {
        let content = match turn {
            Turn::Words(text) => {
                let words = quoted(&text.whole(&"x".repeat(self.controls.pad_bytes)));
                format!(r#"{{"type":"text","text":{words}}}"#)
            }
            Turn::Call(call) => self.tool_use(&call.name, &call.arguments.whole("")),
        };
        self.message(&content, &format!("\"{}\"", self.stop), output)
    }

    fn stream(&self, turn: Turn, output: u64) -> EventQueue {
        let (block, delta, names, text) = match turn {
            Turn::Words(text) => {
                (r#"{"type":"text","text":""}"#.to_owned(), r#""text_delta","text":"#, 0, text)
            }
            Turn::Call(call) => {
                let block = self.tool_use(&call.name, "{}");
                (block, r#""input_json_delta","partial_json":"#, 1, call.arguments)
            }
        };
        // Padded arguments would be no JSON.
        let pad_bytes = if names == 0 { self.controls.pad_bytes } else { 0 };
        let failure = vec![Bytes::from_static(FAILURE.as_bytes())];
        let mut stream = EventQueue::new(failure, false, pad_bytes);
        let begun = self.message("", "null", 1);
        stream.event("message_start", &format!(r#""type":"message_start","message":{begun}"#));
        let begun = format!(r#""type":"content_block_start","index":0,"content_block":{block}"#);
        stream.costly("content_block_start", &begun, names);
        stream.event("ping", r#""type":"ping""#);
        let delta = format!(r#""type":"content_block_delta","index":0,"delta":{{"type":{delta}"#);
        stream.say("content_block_delta", &delta, text, "}");
        stream.event("content_block_stop", r#""type":"content_block_stop","index":0"#);
        let last = format!(
            r#""type":"message_delta","delta":{{"stop_reason":"{}","stop_sequence":null}}{}"#,
            self.stop,
            self.usage(output)
        );
        stream.event("message_delta", &last);
        stream.event("message_stop", r#""type":"message_stop""#);
        stream
    }
}

pub(super) fn messages(
    asked: &ApiRequest,
    controls: &Controls,
    signature: &Signature<'_>,
) -> Result<Answered, Refusal> {
    let heard = asked.heard(&["messages", "system"])?;
    let most = asked.number("max_tokens")?.ok_or_else(|| Refusal::invalid("no max_tokens"))?;
    let turn = Turn::of(asked, "messages", &heard, controls, Some(most))?;
    let stop = match &turn {
        Turn::Words(text) if text.is_cut() => "max_tokens",
        Turn::Words(_) => "end_turn",
        Turn::Call(_) => "tool_use",
    };
    let (input, output) = (heard.cost(), turn.tokens());
    let form = Form { id: signature.id, model: quoted(&asked.model), stop, controls, input };
    if !asked.stream {
        return Ok(Answered::json(input, output, form.whole(turn, output)));
    }
    let content = Content::Stream(form.stream(turn, output));
    Ok(Answered { prompt_tokens: input, completion_tokens: output, content })
}

/// What a request would count as, which costs nothing.
pub(super) fn count(asked: &ApiRequest) -> Result<Answered, Refusal> {
    let heard = asked.heard(&["messages", "system"])?;
    Ok(Answered::json(0, 0, format!(r#"{{"input_tokens":{}}}"#, heard.cost())))
}
