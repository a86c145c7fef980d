//! A streamed answer as a sequence of events, made one by one as they are taken. What an event looks
//! like is decided by the [`Dialect`].

use bytes::Bytes;

use super::answer::{Answer, Reply};
use super::choice_stream::{ChoiceStage, ChoiceStream};
use super::controls::{Controls, FaultKind};
use super::dialect::{Dialect, Elsewhere, FinalUsage, Role};
use super::options::{StreamOptions, UsageForm};
use super::render::{self, Envelope, put, quote};

const DONE: &[u8] = b"data: [DONE]\n\n";
const ERROR: &[u8] = concat!(
    r#"data: {"error":{"message":"The server had an error while processing your request.","#,
    r#""type":"server_error","param":null,"code":null}}"#,
    "\n\n"
)
.as_bytes();

/// One event, with what the pace and the counts need to know of it.
#[derive(Debug)]
pub(super) struct Event {
    pub bytes: Bytes,
    pub delay: Delay,
    /// Completion tokens in it.
    pub tokens: u64,
}

/// When an event is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delay {
    AtOnce,
    /// After the delay of the first token.
    First,
    /// After the interval between tokens.
    Token,
}

/// A streamed answer.
#[derive(Debug)]
pub(super) struct Script {
    dialect: &'static Dialect,
    usage: UsageForm,
    /// Usage was asked for and is going to be stated.
    asked: bool,
    with_done: bool,
    failed: bool,
    /// The members that every chunk has before `choices`.
    head: String,
    /// What ends an unfinished chunk, unless that states running usage.
    close: String,
    pad: String,
    lines: Vec<ChoiceStream>,
    turn: usize,
    stage: Stage,
    opened: usize,
    begun: bool,
    spoken: bool,
    prompt_tokens: u64,
    completion_tokens: u64,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Opening,
    Choices,
    Failed,
    Usage,
    Done,
    Over,
}

impl Script {
    /// The stream for `reply`; `include_usage` is what the client asked for.
    pub(super) fn new(
        reply: Reply,
        controls: &Controls,
        envelope: &Envelope,
        include_usage: bool,
    ) -> Self {
        let dialect = controls.dialect;
        let asked = include_usage
            && controls.usage != UsageForm::Absent
            && controls.stream_options == StreamOptions::Honour;
        let head = head(dialect, envelope);
        let line = |(at, answer)| {
            let index = if dialect.index { format!(r#""index":{at},"#) } else { String::new() };
            let open = format!(r#"data: {{{head}"choices":[{{{index}"delta":{{"#);
            ChoiceStream::new(answer, open)
        };
        let null =
            if asked && dialect.elsewhere == Elsewhere::Null { r#","usage":null"# } else { "" };
        Self {
            dialect,
            usage: controls.usage,
            asked,
            with_done: controls.fault.is_none_or(|fault| fault.kind != FaultKind::NoDone),
            failed: false,
            close: format!("}}{}}}]{null}}}\n\n", dialect.unfinished),
            pad: "x".repeat(controls.pad_bytes),
            lines: reply.choices.into_iter().enumerate().map(line).collect(),
            head,
            turn: 0,
            stage: Stage::Opening,
            opened: 0,
            begun: false,
            spoken: false,
            prompt_tokens: reply.prompt_tokens,
            completion_tokens: reply.completion_tokens,
        }
    }

    /// From here on only an error event and `[DONE]` follow.
    pub(super) fn fail(&mut self) {
        self.stage = Stage::Failed;
        self.failed = true;
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// The next event; `None` after the last one.
    pub(super) fn next(&mut self) -> Option<Event> {
        loop {
            match self.stage {
                Stage::Opening => {
                    if let Some(event) = self.dialect.opening.get(self.opened) {
                        self.opened += 1;
                        return Some(Event::fixed(event.as_bytes()));
                    }
                    self.stage = Stage::Choices;
                }
                Stage::Choices => match self.choice() {
                    Some(event) => return Some(self.layout(event)),
                    None => self.stage = Stage::Usage,
                },
                Stage::Failed => {
                    self.stage = Stage::Done;
                    return Some(Event::fixed(ERROR));
                }
                Stage::Usage => {
                    self.stage = Stage::Done;
                    if self.has_usage_chunk() {
                        return Some(self.usage_chunk());
                    }
                }
                Stage::Done => {
                    self.stage = Stage::Over;
                    if self.with_done {
                        return Some(Event::fixed(DONE));
                    }
                }
                Stage::Over => return None,
            }
        }
    }

    /// The next event of the choices, which take turns.
    fn choice(&mut self) -> Option<Event> {
        for _ in 0..self.lines.len() {
            let at = self.turn;
            self.turn = (at + 1) % self.lines.len();
            if let Some(mut event) = self.line(at) {
                if !std::mem::replace(&mut self.begun, true) {
                    event.delay = Delay::First;
                }
                return Some(event);
            }
        }
        None
    }

    fn line(&mut self, at: usize) -> Option<Event> {
        loop {
            let line = &mut self.lines[at];
            match line.stage {
                ChoiceStage::Role => {
                    line.stage = ChoiceStage::Tokens;
                    if self.dialect.role == Role::Chunk {
                        let null = matches!(line.answer, Answer::Call(_));
                        let content = if null { "null" } else { r#""""# };
                        let mut out = line.begin();
                        put(&mut out, format_args!(r#""role":"assistant","content":{content}"#));
                        return Some(self.unfinished(at, out, 0));
                    }
                }
                ChoiceStage::Tokens => {
                    let mut out = line.begin();
                    if self.dialect.role == Role::Each {
                        out.extend_from_slice(br#""role":"assistant","#);
                    }
                    if let Some(tokens) = line.delta(&mut out, &self.pad) {
                        let mut event = self.unfinished(at, out, tokens);
                        let first =
                            self.lines.iter().position(|line| line.stage == ChoiceStage::Tokens);
                        // All choices say a token at once; the first one sets the beat.
                        if std::mem::replace(&mut self.spoken, true) && first == Some(at) {
                            event.delay = Delay::Token;
                        }
                        return Some(event);
                    }
                    line.stage = ChoiceStage::Filter;
                }
                ChoiceStage::Filter => {
                    line.stage = ChoiceStage::Finish;
                    if !self.dialect.before_finish.is_empty() {
                        return Some(Event::fixed(self.dialect.before_finish.as_bytes()));
                    }
                }
                ChoiceStage::Finish => {
                    line.stage = ChoiceStage::Over;
                    return self.dialect.finished.map(|members| self.finish(at, members));
                }
                ChoiceStage::Over => return None,
            }
        }
    }

    /// Ends a chunk that has its delta, of a choice that goes on.
    fn unfinished(&mut self, at: usize, mut out: Vec<u8>, tokens: u64) -> Event {
        self.lines[at].said += tokens;
        if self.is_running() {
            put(&mut out, format_args!("}}{}}}],", self.dialect.unfinished));
            self.running(at, &mut out);
            out.extend_from_slice(b"}\n\n");
        } else {
            out.extend_from_slice(self.close.as_bytes());
        }
        Event { bytes: out.into(), delay: Delay::AtOnce, tokens }
    }

    fn finish(&self, at: usize, members: &str) -> Event {
        let reason = self.lines[at].answer.finish_reason();
        let mut out = self.lines[at].begin();
        put(&mut out, format_args!(r#"}}{members},"finish_reason":"{reason}""#));
        let last = self.lines.iter().all(|line| line.stage == ChoiceStage::Over);
        let is_stated = last && self.usage != UsageForm::Absent;
        if is_stated && self.dialect.final_usage == FinalUsage::InChoice {
            out.push(b',');
            self.total(&mut out);
        }
        out.extend_from_slice(b"}]");
        if is_stated && self.dialect.final_usage == FinalUsage::InFinish {
            out.push(b',');
            self.total(&mut out);
        } else if self.is_running() {
            out.push(b',');
            self.running(at, &mut out);
        } else if self.asked && self.dialect.elsewhere == Elsewhere::Null {
            out.extend_from_slice(br#","usage":null"#);
        }
        if last && !self.has_usage_chunk() {
            out.extend_from_slice(self.dialect.last_extra.as_bytes());
        }
        out.extend_from_slice(b"}\n\n");
        Event { bytes: out.into(), delay: Delay::AtOnce, tokens: 0 }
    }

    fn has_usage_chunk(&self) -> bool {
        match self.dialect.final_usage {
            FinalUsage::IfAsked => self.asked,
            FinalUsage::Always => self.usage != UsageForm::Absent,
            FinalUsage::InFinish | FinalUsage::InChoice | FinalUsage::Never => false,
        }
    }

    fn usage_chunk(&self) -> Event {
        let mut out = Vec::with_capacity(self.head.len() + 512);
        let choices = self.dialect.usage_choices;
        put(&mut out, format_args!(r#"data: {{{}"choices":{choices},"#, self.head));
        self.total(&mut out);
        out.extend_from_slice(self.dialect.last_extra.as_bytes());
        out.extend_from_slice(b"}\n\n");
        Event { bytes: out.into(), delay: Delay::AtOnce, tokens: 0 }
    }

    fn total(&self, out: &mut Vec<u8>) {
        render::usage(out, self.prompt_tokens, self.completion_tokens, self.usage, self.dialect);
    }

    fn is_running(&self) -> bool {
        self.dialect.elsewhere == Elsewhere::Running && self.usage != UsageForm::Absent
    }

    fn running(&self, at: usize, out: &mut Vec<u8>) {
        let (prompt, said) = (self.prompt_tokens, self.lines[at].said);
        render::sums(out, prompt, said, prompt + said, "");
    }

    /// Prints a chunk over several lines, where the dialect wants that.
    fn layout(&self, event: Event) -> Event {
        if !self.dialect.pretty {
            return event;
        }
        let json = event.bytes.strip_prefix(b"data: ").unwrap_or(&event.bytes);
        let value: serde_json::Value = match serde_json::from_slice(json) {
            Ok(value) => value,
            Err(_) => return event,
        };
        Event { bytes: Bytes::from(format!("data: {value:#}\n")), ..event }
    }
}

impl Event {
    fn fixed(bytes: &'static [u8]) -> Self {
        Self { bytes: Bytes::from_static(bytes), delay: Delay::AtOnce, tokens: 0 }
    }
}

/// The members that every chunk has before `choices`, with their trailing comma.
fn head(dialect: &Dialect, envelope: &Envelope) -> String {
    if !dialect.envelope {
        return String::new();
    }
    let mut model = Vec::new();
    quote(&mut model, &envelope.model);
    format!(
        r#""id":"{}","object":"chat.completion.chunk","created":{},"model":{},{}"#,
        envelope.id,
        envelope.created,
        String::from_utf8_lossy(&model),
        dialect.envelope_extra
    )
}
