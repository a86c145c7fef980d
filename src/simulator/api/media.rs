//! Pictures and sound: images, transcriptions, translations, speech.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::api_request::ApiRequest;
use super::super::controls::Controls;
use super::super::generated_text::{self, Text};
use super::super::options::UsageForm;
use super::super::refusal::Refusal;
use super::numbers::quoted;
use super::{Answered, Api, Content, Signature, queue};

/// Bytes of sound that a token of text becomes.
const BYTES_PER_TOKEN: usize = 96;

pub(super) fn images(
    api: Api,
    asked: &ApiRequest,
    controls: &Controls,
    signature: &Signature<'_>,
) -> Result<Answered, Refusal> {
    let is_told = api != Api::ImageVariations;
    let heard = if is_told { asked.heard(&["prompt"])? } else { asked.heard(&[])? };
    let shown = asked.pictures();
    if api != Api::ImageGenerations && shown == 0 {
        return Err(Refusal::invalid("no image"));
    }
    let canvas = asked.canvas()?;
    let text = if is_told { heard.cost() } else { 0 };
    let seen = shown * super::super::messages::IMAGE_PROMPT_TOKENS;
    let (input, output) = (text + seen, canvas.tokens * asked.n);
    let usage = match controls.usage {
        UsageForm::Absent => String::new(),
        _ => format!(
            concat!(
                r#","usage":{{"input_tokens":{},"input_tokens_details":{{"image_tokens":{},"text_tokens":{}}},"#,
                r#""output_tokens":{},"total_tokens":{}}}"#
            ),
            input,
            seen,
            text,
            output,
            input + output
        ),
    };
    let created = signature.created;
    let seed = generated_text::seed(&heard.text);
    let paint = |at: u64| canvas.paint(seed.wrapping_add(at), controls.picture_scale);
    if !asked.stream {
        let pictures: Vec<String> =
            (0..asked.n).map(|at| format!(r#"{{"b64_json":"{}"}}"#, paint(at))).collect();
        let data = pictures.join(",");
        let json = format!(r#"{{"created":{created},"data":[{data}]{usage}}}"#);
        return Ok(Answered::json(input, output, json));
    }
    let prefix = if api == Api::ImageEdits { "image_edit" } else { "image_generation" };
    let mut stream = queue(controls);
    for at in 0..asked.number("partial_images")?.unwrap_or(0).min(3) {
        let kind = format!("{prefix}.partial_image");
        let picture = paint(at + 1);
        let members = format!(
            r#""type":"{kind}","b64_json":"{picture}","created_at":{created},"partial_image_index":{at}"#
        );
        stream.event(&kind, &members);
    }
    let (kind, picture) = (format!("{prefix}.completed"), paint(0));
    let members =
        format!(r#""type":"{kind}","b64_json":"{picture}","created_at":{created}{usage}"#);
    stream.costly(&kind, &members, output);
    Ok(Answered {
        prompt_tokens: input,
        completion_tokens: output,
        content: Content::Stream(stream),
    })
}

/// What a recording says: transcriptions and translations. Models named after Whisper are paid by the
/// second, and so state seconds; translations state nothing.
pub(super) fn heard(
    api: Api,
    asked: &ApiRequest,
    controls: &Controls,
) -> Result<Answered, Refusal> {
    let (audio, seconds) = asked.recording()?;
    let is_timed = asked.model.contains("whisper") || api == Api::Translations;
    let text = Text::spoken("Thank you.".into(), false, audio, controls.tokens, None);
    let told = asked.text("prompt").map_or(0, generated_text::count);
    let (input, output) = if is_timed { (0, 0) } else { (audio + told, text.tokens()) };
    let usage = match controls.usage {
        UsageForm::Absent => String::new(),
        _ if api == Api::Translations => String::new(),
        _ if is_timed => format!(r#","usage":{{"type":"duration","seconds":{seconds}}}"#),
        _ => format!(
            concat!(
                r#","usage":{{"type":"tokens","input_tokens":{},"#,
                r#""input_token_details":{{"text_tokens":{},"audio_tokens":{}}},"#,
                r#""output_tokens":{},"total_tokens":{}}}"#
            ),
            input,
            told,
            audio,
            output,
            input + output
        ),
    };
    let words = text.clone().whole(&"x".repeat(controls.pad_bytes));
    if matches!(asked.text("response_format"), Some("text" | "srt" | "vtt")) {
        let content = Content::Whole("text/plain; charset=utf-8", words.into_bytes());
        return Ok(Answered { prompt_tokens: input, completion_tokens: output, content });
    }
    let words = quoted(&words);
    if !asked.stream || api == Api::Translations {
        return Ok(Answered::json(input, output, format!(r#"{{"text":{words}{usage}}}"#)));
    }
    let mut stream = queue(controls);
    stream.say("", r#""type":"transcript.text.delta","delta":"#, text, "");
    stream.event("", &format!(r#""type":"transcript.text.done","text":{words}{usage}"#));
    Ok(Answered {
        prompt_tokens: input,
        completion_tokens: output,
        content: Content::Stream(stream),
    })
}

/// Sound that says the input; whole, it states no usage.
pub(super) fn speech(asked: &ApiRequest, controls: &Controls) -> Result<Answered, Refusal> {
    let heard = asked.heard(&["input"])?;
    if asked.text("voice").is_none() {
        return Err(Refusal::invalid("no voice"));
    }
    let (input, output) = (heard.cost(), generated_text::count(&heard.text));
    let mut state = generated_text::seed(&heard.text);
    let mut sound = |bytes: usize| -> Vec<u8> {
        let byte = |_| {
            state = generated_text::mix(state);
            state as u8
        };
        (0..bytes).map(byte).collect()
    };
    if asked.text("stream_format") != Some("sse") {
        let bytes = [b"ID3".to_vec(), sound(BYTES_PER_TOKEN * output as usize)].concat();
        let content = Content::Whole("audio/mpeg", bytes);
        return Ok(Answered { prompt_tokens: input, completion_tokens: output, content });
    }
    let mut stream = queue(controls);
    for _ in 0..output {
        let audio = STANDARD.encode(sound(BYTES_PER_TOKEN));
        let kind = "speech.audio.delta";
        stream.costly("", &format!(r#""type":"{kind}","audio":"{audio}""#), 1);
    }
    let usage = match controls.usage {
        UsageForm::Absent => String::new(),
        _ => format!(
            r#","usage":{{"input_tokens":{input},"output_tokens":{output},"total_tokens":{}}}"#,
            input + output
        ),
    };
    stream.event("", &format!(r#""type":"speech.audio.done"{usage}"#));
    Ok(Answered {
        prompt_tokens: input,
        completion_tokens: output,
        content: Content::Stream(stream),
    })
}
