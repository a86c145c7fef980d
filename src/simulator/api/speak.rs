//! What is answered with words: text completions and messages.

use bytes::Bytes;

use super::super::answer::topic;
use super::super::asked::{Asked, Heard};
use super::super::controls::Controls;
use super::super::options::{StreamOptions, UsageForm};
use super::super::print;
use super::super::recital::Recital;
use super::super::refusal::Refusal;
use super::super::words::{self, Text};
use super::numbers::quoted;
use super::{Answered, Content, Signature, recital};

/// How Anthropic's streams fail.
const ANTHROPIC_FAILURE: &str = concat!(
    "event: error\n",
    r#"data: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
    "\n\n"
);
const DONE: &[u8] = b"data: [DONE]\n\n";

/// What is said to what was heard; `at` sets several answers apart.
pub(super) fn said(heard: &Heard, controls: &Controls, at: u64, most: Option<u64>) -> Text {
    let chinese = words::is_chinese(&heard.text);
    let topic = topic(&heard.text);
    let lead =
        if chinese { format!("关于“{topic}”:") } else { format!("About \"{topic}\":") };
    let seed = words::seed(&heard.text).wrapping_add(at);
    Text::spoken(lead, chinese, seed, controls.tokens, most)
}

/// The members of a usage object, with a comma before them, or nothing if none is to be stated.
pub(super) fn stated(controls: &Controls, members: impl FnOnce() -> String) -> String {
    match controls.usage {
        UsageForm::Absent => String::new(),
        _ => format!(r#","usage":{{{}}}"#, members()),
    }
}

pub(super) fn completions(
    asked: &Asked,
    controls: &Controls,
    signature: &Signature<'_>,
) -> Result<Answered, Refusal> {
    let prompts = asked.prompts("prompt")?;
    let most = asked.number("max_tokens")?;
    let texts: Vec<Text> = prompts
        .iter()
        .flat_map(|prompt| (0..asked.n).map(|at| said(prompt, controls, at, most)))
        .collect();
    let prompt_tokens = prompts.iter().map(Heard::cost).sum();
    let completion_tokens = texts.iter().map(Text::tokens).sum();
    let mut usage = Vec::new();
    print::usage(&mut usage, prompt_tokens, completion_tokens, controls.usage, "");
    let usage = String::from_utf8_lossy(&usage).into_owned();
    let (id, created, model) = (signature.id, signature.created, quoted(&asked.model));
    let head = format!(
        r#""id":"cmpl-{id}","object":"text_completion","created":{created},"model":{model}"#
    );
    let finish = |text: &Text| if text.is_cut() { "length" } else { "stop" };
    if !asked.stream {
        let choice = |(at, text): (usize, Text)| {
            let (finish, text) =
                (finish(&text), quoted(&text.whole(&"x".repeat(controls.pad_bytes))));
            format!(r#"{{"text":{text},"index":{at},"logprobs":null,"finish_reason":"{finish}"}}"#)
        };
        let choices: Vec<String> = texts.into_iter().enumerate().map(choice).collect();
        let usage = if controls.usage == UsageForm::Absent { "" } else { &format!(",{usage}") };
        let json = format!(r#"{{{head},"choices":[{}]{usage}}}"#, choices.join(","));
        return Ok(Answered::json(prompt_tokens, completion_tokens, json));
    }
    let states = asked.include_usage
        && controls.usage != UsageForm::Absent
        && controls.stream_options == StreamOptions::Honour;
    let null = if states { r#","usage":null"# } else { "" };
    let mut stream = recital(controls);
    for (at, text) in texts.into_iter().enumerate() {
        let finish = finish(&text);
        let after = format!(r#","index":{at},"logprobs":null,"finish_reason":null}}]{null}"#);
        stream.say("", &format!(r#"{head},"choices":[{{"text":"#), text, &after);
        let last =
            format!(r#"{{"text":"","index":{at},"logprobs":null,"finish_reason":"{finish}"}}"#);
        stream.event("", &format!(r#"{head},"choices":[{last}]{null}"#));
    }
    if states {
        stream.event("", &format!(r#"{head},"choices":[],{usage}"#));
    }
    stream.raw(DONE);
    Ok(Answered { prompt_tokens, completion_tokens, content: Content::Stream(stream) })
}

pub(super) fn messages(
    asked: &Asked,
    controls: &Controls,
    signature: &Signature<'_>,
) -> Result<Answered, Refusal> {
    let heard = asked.heard(&["messages", "system"])?;
    let most = asked.number("max_tokens")?.ok_or_else(|| Refusal::invalid("no max_tokens"))?;
    let text = said(&heard, controls, 0, Some(most));
    let (input, output) = (heard.cost(), text.tokens());
    let stop = if text.is_cut() { "max_tokens" } else { "end_turn" };
    let usage = |output: u64| {
        stated(controls, || {
            format!(
                concat!(
                    r#""input_tokens":{},"cache_creation_input_tokens":0,"#,
                    r#""cache_read_input_tokens":0,"output_tokens":{}"#
                ),
                input, output
            )
        })
    };
    let (id, model) = (signature.id, quoted(&asked.model));
    let message = |content: &str, stop: &str, usage: &str| {
        format!(
            concat!(
                r#"{{"id":"msg_{}","type":"message","role":"assistant","model":{},"content":[{}],"#,
                r#""stop_reason":{},"stop_sequence":null{}}}"#
            ),
            id, model, content, stop, usage
        )
    };
    if !asked.stream {
        let words = quoted(&text.whole(&"x".repeat(controls.pad_bytes)));
        let content = format!(r#"{{"type":"text","text":{words}}}"#);
        let json = message(&content, &format!("\"{stop}\""), &usage(output));
        return Ok(Answered::json(input, output, json));
    }
    let failure = vec![Bytes::from_static(ANTHROPIC_FAILURE.as_bytes())];
    let mut stream = Recital::new(failure, false, controls.pad_bytes);
    let begun = message("", "null", &usage(1));
    stream.event("message_start", &format!(r#""type":"message_start","message":{begun}"#));
    let block =
        r#""type":"content_block_start","index":0,"content_block":{"type":"text","text":""}"#;
    stream.event("content_block_start", block);
    stream.event("ping", r#""type":"ping""#);
    let delta = r#""type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"#;
    stream.say("content_block_delta", delta, text, "}");
    stream.event("content_block_stop", r#""type":"content_block_stop","index":0"#);
    let last = format!(
        r#""type":"message_delta","delta":{{"stop_reason":"{stop}","stop_sequence":null}}{}"#,
        usage(output)
    );
    stream.event("message_delta", &last);
    stream.event("message_stop", r#""type":"message_stop""#);
    Ok(Answered {
        prompt_tokens: input,
        completion_tokens: output,
        content: Content::Stream(stream),
    })
}
