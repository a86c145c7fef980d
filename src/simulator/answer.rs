//! What is answered to a question, before it has the shape of an object or a stream.

use serde_json::{Value, json};

use super::attachment::Attachment;
use super::chat_request::{Kind, Question};
use super::controls::Controls;
use super::examples::{self, Example};
use super::generated_text::{self, Text};
use super::options::Mode;
use super::schema;

/// Characters of the question that the answer takes up.
const TOPIC_CHARS: usize = 40;

/// The whole answer: one or more choices, and what they cost.
#[derive(Debug)]
pub(super) struct Reply {
    pub kind: Kind,
    /// In mode literal, if the documents have this question: what they print.
    pub example: Option<&'static Example>,
    pub choices: Vec<Answer>,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
}

/// One choice.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Text(Text),
    Call(Call),
    Picture(Picture),
}

/// A function call. Its name counts one token, its arguments what they say.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub id: String,
    pub name: String,
    /// A JSON object, as text.
    pub arguments: Text,
}

/// A PNG.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    pub base64: String,
    pub tokens: u64,
}

impl Reply {
    /// Thinks up the answer.
    pub(super) fn to(question: &Question, controls: &Controls) -> Self {
        let kind = question.kind();
        let known = examples::of(question).filter(|_| controls.tokens.is_none());
        let example = known.filter(|_| controls.mode == Mode::Literal);
        // The documents' streams can't tell choices apart, unless they are pictures.
        let one = question.stream
            && !controls.dialect.index
            && !matches!(kind, Kind::Created | Kind::Edited);
        let n = if one { 1 } else { question.n };
        let choices: Vec<_> =
            (0..n).map(|at| answer(question, controls, kind, known, at)).collect();
        let said = choices.iter().map(Answer::tokens).sum();
        let is_whole = n == 1 && choices.iter().all(|answer| answer.finish_reason() != "length");
        let printed = example.filter(|_| is_whole).and_then(|example| example.usage);
        let (prompt_tokens, completion_tokens) = printed.unwrap_or((question.prompt_tokens, said));
        Self { kind, example, choices, prompt_tokens, completion_tokens }
    }
}

impl Answer {
    /// What this choice costs.
    pub(super) fn tokens(&self) -> u64 {
        match self {
            Self::Text(text) => text.tokens(),
            Self::Call(call) => 1 + call.arguments.tokens(),
            Self::Picture(picture) => picture.tokens,
        }
    }

    /// Why this choice ends.
    pub(super) fn finish_reason(&self) -> &'static str {
        match self {
            Self::Text(text) if text.is_cut() => "length",
            Self::Call(call) if call.arguments.is_cut() => "length",
            Self::Call(_) => "tool_calls",
            Self::Text(_) | Self::Picture(_) => "stop",
        }
    }
}

fn answer(
    question: &Question,
    controls: &Controls,
    kind: Kind,
    known: Option<&'static Example>,
    at: u64,
) -> Answer {
    let seed = generated_text::seed(&question.text).wrapping_add(at);
    let most = question.max_tokens;
    if let (Kind::Created | Kind::Edited, Some(canvas)) = (kind, question.canvas) {
        let base64 = canvas.paint(seed, controls.picture_scale);
        return Answer::Picture(Picture { base64, tokens: canvas.tokens });
    }
    if let (Kind::Tools, Some(function)) = (kind, &question.call) {
        let arguments = schema::object(&function.parameters, &question.text).to_string();
        let id = match controls.mode {
            Mode::Literal => format!("call_{:03}", at + 1),
            Mode::Full => format!("call_{seed:016x}"),
        };
        let arguments = Text::exact(arguments, most.map(|most| most.saturating_sub(1)));
        return Answer::Call(Call { id, name: function.name.clone(), arguments });
    }
    Answer::Text(match known {
        Some(example) => {
            let whole = Text::exact(example.pieces.concat(), most);
            // Streams are cut as the documents cut them.
            let is_printed = controls.mode == Mode::Literal && question.stream && !whole.is_cut();
            if is_printed { Text::pieces(example.pieces) } else { whole }
        }
        None if kind == Kind::Json => {
            let schema = question.json.as_ref().and_then(|mode| mode.schema.as_ref());
            Text::exact(structured(schema, &lead(question), &question.text), most)
        }
        None => Text::spoken(lead(question), question.is_chinese(), seed, controls.tokens, most),
    })
}

/// The object of JSON mode: as the schema has it, else with what would be said.
pub(super) fn structured(schema: Option<&Value>, lead: &str, text: &str) -> String {
    let object: Value = match schema {
        Some(schema) => schema::object(schema, text),
        None => json!({ "answer": lead, "question": topic(text) }),
    };
    object.to_string()
}

/// How a text answer begins: with what the question was about.
fn lead(question: &Question) -> String {
    let chinese = question.is_chinese();
    if let Some(result) = &question.tool_result {
        return reported(result, chinese);
    }
    if !question.images.is_empty() {
        return described(&question.images, chinese);
    }
    about(&question.text, chinese)
}

/// How an answer begins that is about a text.
pub(super) fn about(text: &str, chinese: bool) -> String {
    let topic = topic(text);
    if chinese { format!("关于“{topic}”:") } else { format!("About \"{topic}\":") }
}

/// How an answer begins that a tool has been asked for.
pub(super) fn reported(result: &str, chinese: bool) -> String {
    let result = topic(result);
    if chinese {
        format!("根据工具返回的结果:{result}。")
    } else {
        format!("According to the tool: {result}.")
    }
}

/// How an answer begins that is about pictures.
pub(super) fn described(images: &[Attachment], chinese: bool) -> String {
    images.iter().map(|image| describe(*image, chinese)).collect::<Vec<_>>().join(" ")
}

fn describe(image: Attachment, chinese: bool) -> String {
    match (image.format, image.size, chinese) {
        (Some(format), Some((width, height)), true) => {
            format!("图片为 {format} 格式,尺寸 {width}x{height} 像素。")
        }
        (Some(format), None, true) => format!("图片为 {format} 格式。"),
        (None, _, true) => "图片内容无法读取。".to_owned(),
        (Some(format), Some((width, height)), false) => {
            format!("The image is a {format} of {width}x{height} pixels.")
        }
        (Some(format), None, false) => format!("The image is a {format}."),
        (None, _, false) => "The image was not looked at.".to_owned(),
    }
}

/// The beginning of a text, on one line.
pub(super) fn topic(text: &str) -> String {
    let line = text.trim().chars().map(|one| if one.is_control() { ' ' } else { one });
    line.take(TOPIC_CHARS).collect()
}
