//! The Responses API: an object, or the same built up event by event.

use bytes::Bytes;

use super::super::asked::Asked;
use super::super::controls::Controls;
use super::super::recital::Recital;
use super::super::refusal::Refusal;
use super::super::words::Text;
use super::numbers::quoted;
use super::speak::{said, stated};
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
    /// As JSON strings.
    model: String,
    words: String,
    /// `completed`, or `incomplete` where the answer was cut.
    status: &'static str,
}

impl Form<'_> {
    fn part(&self) -> String {
        let words = &self.words;
        format!(r#"{{"type":"output_text","text":{words},"annotations":[],"logprobs":[]}}"#)
    }

    fn item(&self, status: &str, content: &str) -> String {
        let id = self.signature.id;
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
    fn stream(&self, text: Text, whole: &str, pad_bytes: usize) -> Recital {
        let failure = vec![Bytes::from_static(FAILURE.as_bytes())];
        let mut stream = Recital::new(failure, true, pad_bytes);
        let event = |stream: &mut Recital, kind: &str, rest: &str| {
            stream.event(kind, &format!(r#""type":"{kind}",{rest}"#));
        };
        let id = self.signature.id;
        let place = format!(r#""item_id":"msg_{id}","output_index":0,"content_index":0"#);
        let begun = self.response("in_progress", "", r#","usage":null"#);
        event(&mut stream, "response.created", &format!(r#""response":{begun}"#));
        event(&mut stream, "response.in_progress", &format!(r#""response":{begun}"#));
        let added = format!(r#""output_index":0,"item":{}"#, self.item("in_progress", ""));
        event(&mut stream, "response.output_item.added", &added);
        let empty = r#"{"type":"output_text","text":"","annotations":[],"logprobs":[]}"#;
        event(&mut stream, "response.content_part.added", &format!(r#"{place},"part":{empty}"#));
        let kind = "response.output_text.delta";
        let before = format!(r#""type":"{kind}",{place},"logprobs":[],"delta":"#);
        stream.say(kind, &before, text, "");
        let done = format!(r#"{place},"logprobs":[],"text":{}"#, self.words);
        event(&mut stream, "response.output_text.done", &done);
        let part = self.part();
        event(&mut stream, "response.content_part.done", &format!(r#"{place},"part":{part}"#));
        let done = format!(r#""output_index":0,"item":{}"#, self.item(self.status, &part));
        event(&mut stream, "response.output_item.done", &done);
        let kind = format!("response.{}", self.status);
        event(&mut stream, &kind, &format!(r#""response":{whole}"#));
        stream
    }
}

pub(super) fn responses(
    asked: &Asked,
    controls: &Controls,
    signature: &Signature<'_>,
) -> Result<Answered, Refusal> {
    let heard = asked.heard(&["input", "instructions"])?;
    let text = said(&heard, controls, 0, asked.number("max_output_tokens")?);
    let (input, output) = (heard.cost(), text.tokens());
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
    let form = Form {
        signature,
        model: quoted(&asked.model),
        words: quoted(&text.clone().whole(&"x".repeat(controls.pad_bytes))),
        status: if text.is_cut() { "incomplete" } else { "completed" },
    };
    let whole = form.response(form.status, &form.item(form.status, &form.part()), &usage);
    if !asked.stream {
        return Ok(Answered::json(input, output, whole));
    }
    let content = Content::Stream(form.stream(text, &whole, controls.pad_bytes));
    Ok(Answered { prompt_tokens: input, completion_tokens: output, content })
}
