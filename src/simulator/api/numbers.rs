//! What is answered with numbers: embeddings and moderations.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::api_request::{ApiRequest, PromptText};
use super::super::controls::Controls;
use super::super::generated_text;
use super::super::options::UsageForm;
use super::super::refusal::Refusal;
use super::super::render::quote;
use super::{Answered, Signature};

/// Numbers of one embedding, unless the request says how many.
const DIMENSIONS: u64 = 8;
const MAX_DIMENSIONS: u64 = 4096;

pub(super) fn embeddings(asked: &ApiRequest, controls: &Controls) -> Result<Answered, Refusal> {
    let inputs = asked.prompts("input")?;
    let dimensions = asked.number("dimensions")?.unwrap_or(DIMENSIONS);
    if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
        return Err(Refusal::invalid("dimensions is not in 1 to 4096"));
    }
    let is_base64 = match asked.text("encoding_format") {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(Refusal::invalid("encoding_format is unknown")),
    };
    let data: Vec<String> = inputs
        .iter()
        .enumerate()
        .map(|(at, input)| {
            let embedding = embedding(&input.text, dimensions, is_base64);
            format!(r#"{{"object":"embedding","index":{at},"embedding":{embedding}}}"#)
        })
        .collect();
    let tokens = inputs.iter().map(PromptText::cost).sum();
    let usage = match controls.usage {
        UsageForm::Absent => String::new(),
        _ => format!(r#","usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}"#),
    };
    let (data, model) = (data.join(","), quoted(&asked.model));
    let json = format!(r#"{{"object":"list","data":[{data}],"model":{model}{usage}}}"#);
    Ok(Answered::json(tokens, 0, json))
}

/// Numbers that the text decides, as a list or as the base64 of their bytes.
fn embedding(text: &str, dimensions: u64, is_base64: bool) -> String {
    let mut state = generated_text::seed(text);
    let numbers = (0..dimensions).map(|_| {
        state = generated_text::mix(state);
        (state >> 40) as f32 / (1u32 << 24) as f32 - 0.5
    });
    if is_base64 {
        let bytes: Vec<u8> = numbers.flat_map(f32::to_le_bytes).collect();
        return format!("\"{}\"", STANDARD.encode(bytes));
    }
    let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
    format!("[{}]", numbers.join(","))
}

/// Nothing is ever flagged; the API states no usage.
pub(super) fn moderations(
    asked: &ApiRequest,
    signature: &Signature<'_>,
) -> Result<Answered, Refusal> {
    let inputs = asked.prompts("input")?;
    let result = concat!(
        r#"{"flagged":false,"categories":{"violence":false},"category_scores":{"violence":0.01},"#,
        r#""category_applied_input_types":{"violence":["text"]}}"#
    );
    let results = vec![result; inputs.len()].join(",");
    let (id, model) = (signature.id, quoted(&asked.model));
    let json = format!(r#"{{"id":"modr-{id}","model":{model},"results":[{results}]}}"#);
    Ok(Answered::json(inputs.iter().map(PromptText::cost).sum(), 0, json))
}

pub(super) fn quoted(text: &str) -> String {
    let mut out = Vec::new();
    quote(&mut out, text);
    String::from_utf8_lossy(&out).into_owned()
}
