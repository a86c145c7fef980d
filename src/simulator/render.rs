//! Answers as JSON objects: OpenAI's, and the shapes that the API documents print. The keys have
//! the order in which both show them.

use std::io::Write;

use super::answer::{Answer, Reply};
use super::chat_request::Kind;
use super::controls::Controls;
use super::dialect::{Dialect, Stated};
use super::examples;
use super::options::{Mode, UsageForm};

/// What identifies one answer.
#[derive(Debug)]
pub(super) struct Envelope {
    pub id: String,
    /// Seconds since the Unix epoch.
    pub created: i64,
    pub model: String,
}

/// The body of an answer that is not a stream.
pub(super) fn whole(reply: Reply, controls: &Controls, envelope: &Envelope) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    match controls.mode {
        Mode::Full => full(&mut out, reply, controls, envelope),
        Mode::Literal => literal(&mut out, reply, controls, envelope),
    }
    out
}

fn full(out: &mut Vec<u8>, reply: Reply, controls: &Controls, envelope: &Envelope) {
    let (prompt, completion) = (reply.prompt_tokens, reply.completion_tokens);
    begin(out, &envelope.id, envelope.created, &envelope.model);
    for (at, answer) in reply.choices.into_iter().enumerate() {
        separate(out, at);
        let finish = answer.finish_reason();
        put(out, format_args!(r#"{{"index":{at},"message":{{"role":"assistant","#));
        message(out, answer, controls, true);
        put(out, format_args!(r#","refusal":null}},"logprobs":null,"finish_reason":"{finish}"}}"#));
    }
    out.push(b']');
    if controls.usage != UsageForm::Absent {
        out.push(b',');
        usage(out, prompt, completion, controls.usage, controls.dialect);
    }
    out.extend_from_slice(
        br#","service_tier":"default","system_fingerprint":"fp_weir_simulator"}"#,
    );
}

/// As printed: the tool answer has no envelope, vision has neither `index` nor `usage`, edits have
/// no `usage`, and JSON mode shows only the object.
fn literal(out: &mut Vec<u8>, reply: Reply, controls: &Controls, envelope: &Envelope) {
    let kind = reply.kind;
    if kind == Kind::Json && controls.bare_json {
        if let Some(Answer::Text(text)) = reply.choices.into_iter().next() {
            out.extend_from_slice(text.whole("").as_bytes());
        }
        return;
    }
    if kind == Kind::Tools {
        out.extend_from_slice(br#"{"choices":["#);
    } else {
        let id = reply.example.map_or(envelope.id.as_str(), |example| example.id);
        begin(out, id, examples::CREATED, &envelope.model);
    }
    let with_index = !matches!(kind, Kind::Tools | Kind::Vision);
    let with_usage = !matches!(kind, Kind::Tools | Kind::Vision | Kind::Edited);
    let (prompt, completion) = (reply.prompt_tokens, reply.completion_tokens);
    for (at, answer) in reply.choices.into_iter().enumerate() {
        separate(out, at);
        let finish = answer.finish_reason();
        out.push(b'{');
        if with_index {
            put(out, format_args!(r#""index":{at},"#));
        }
        out.extend_from_slice(br#""message":{"role":"assistant","#);
        message(out, answer, controls, false);
        put(out, format_args!(r#"}},"finish_reason":"{finish}"}}"#));
    }
    out.push(b']');
    if with_usage && controls.usage != UsageForm::Absent {
        out.push(b',');
        usage(out, prompt, completion, controls.usage, controls.dialect);
    }
    out.push(b'}');
}

fn begin(out: &mut Vec<u8>, id: &str, created: i64, model: &str) {
    put(
        out,
        format_args!(r#"{{"id":"{id}","object":"chat.completion","created":{created},"model":"#),
    );
    quote(out, model);
    out.extend_from_slice(br#","choices":["#);
}

fn separate(out: &mut Vec<u8>, at: usize) {
    if at > 0 {
        out.push(b',');
    }
}

/// The members of a message after its role. OpenAI's calls have `"content":null` beside them.
fn message(out: &mut Vec<u8>, answer: Answer, controls: &Controls, full: bool) {
    match answer {
        Answer::Text(text) => {
            out.extend_from_slice(br#""content":"#);
            quote(out, &text.whole(&"x".repeat(controls.pad_bytes)));
        }
        Answer::Call(call) => {
            if full {
                out.extend_from_slice(br#""content":null,"#);
            }
            let (id, name) = (&call.id, &call.name);
            put(
                out,
                format_args!(
                    r#""tool_calls":[{{"id":"{id}","type":"function","function":{{"name":"#
                ),
            );
            quote(out, name);
            out.extend_from_slice(br#","arguments":"#);
            quote(out, &call.arguments.whole(""));
            out.extend_from_slice(b"}}]");
        }
        Answer::Picture(picture) => {
            out.extend_from_slice(br#""content":[{"type":"image_base64","image_base64":""#);
            out.extend_from_slice(picture.base64.as_bytes());
            out.extend_from_slice(br#""}]"#);
        }
    }
}

/// `"usage":{…}` in the words of `dialect`.
pub(super) fn usage(
    out: &mut Vec<u8>,
    prompt: u64,
    completion: u64,
    form: UsageForm,
    dialect: &Dialect,
) {
    let reasoning = if dialect.reasons_beside { completion / 4 } else { 0 };
    let has_details = form == UsageForm::Extended;
    let extra = (dialect.usage_extra)(Stated { prompt, reasoning, has_details });
    sums(out, prompt, completion - reasoning, prompt + completion, &extra);
}

/// The three sums, and `extra` members at their end.
pub(super) fn sums(out: &mut Vec<u8>, prompt: u64, completion: u64, total: u64, extra: &str) {
    put(
        out,
        format_args!(
            r#""usage":{{"prompt_tokens":{prompt},"completion_tokens":{completion},"total_tokens":{total}{extra}}}"#
        ),
    );
}

/// A JSON string.
pub(super) fn quote(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string is JSON, and writing to a Vec can't fail");
}

/// Formatted text.
pub(super) fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a Vec can't fail");
}
