//! What is answered with words, and text completions.

use super::super::answer::about;
use super::super::api_request::{ApiRequest, PromptText};
use super::super::controls::Controls;
use super::super::generated_text::{self, Text};
use super::super::options::{StreamOptions, UsageForm};
use super::super::refusal::Refusal;
use super::super::render;
use super::numbers::quoted;
use super::{Answered, Content, Signature, queue};

const DONE: &[u8] = b"data: [DONE]\n\n";

/// What is said to what was heard; `at` sets several answers apart.
pub(super) fn said(heard: &PromptText, controls: &Controls, at: u64, most: Option<u64>) -> Text {
    let chinese = generated_text::is_chinese(&heard.text);
    let lead = about(&heard.text, chinese);
    let seed = generated_text::seed(&heard.text).wrapping_add(at);
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
    asked: &ApiRequest,
    controls: &Controls,
    signature: &Signature<'_>,
) -> Result<Answered, Refusal> {
    let prompts = asked.prompts("prompt")?;
    let most = asked.number("max_tokens")?;
    let texts: Vec<Text> = prompts
        .iter()
        .flat_map(|prompt| (0..asked.n).map(|at| said(prompt, controls, at, most)))
        .collect();
    let prompt_tokens = prompts.iter().map(PromptText::cost).sum();
    let completion_tokens = texts.iter().map(Text::tokens).sum();
    let mut usage = Vec::new();
    render::usage(&mut usage, prompt_tokens, completion_tokens, controls.usage, controls.dialect);
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
    let mut stream = queue(controls);
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
