//! One choice of a streamed answer, delta by delta.

use super::answer::{Answer, Call, Picture};
use super::render::{put, quote};

/// What the documents' image stream says before the picture.
const PAINTING: &str = "正在生成图片...";

/// One choice on its way.
#[derive(Debug)]
pub(super) struct ChoiceStream {
    pub answer: Answer,
    pub stage: ChoiceStage,
    /// Deltas so far.
    step: u64,
    /// Tokens so far.
    pub said: u64,
    /// A chunk of this choice up to the members of its delta.
    open: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChoiceStage {
    Role,
    Tokens,
    Filter,
    Finish,
    Over,
}

impl ChoiceStream {
    /// A choice of which nothing has been sent; `open` is a chunk up to the members of its delta.
    pub(super) fn new(answer: Answer, open: String) -> Self {
        Self { answer, stage: ChoiceStage::Role, step: 0, said: 0, open }
    }

    /// A chunk up to the members of its delta.
    pub(super) fn begin(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.open.len() + 192);
        out.extend_from_slice(self.open.as_bytes());
        out
    }

    /// Writes the members of the next delta and says how many tokens they are; `None`: all is said.
    pub(super) fn delta(&mut self, out: &mut Vec<u8>, pad: &str) -> Option<u64> {
        self.step += 1;
        match &mut self.answer {
            Answer::Text(text) => {
                let token = text.next()?;
                out.extend_from_slice(br#""content":"#);
                if pad.is_empty() {
                    quote(out, token);
                } else {
                    quote(out, &format!("{token}{pad}"));
                }
                Some(1)
            }
            Answer::Call(call) => fragment(call, self.step, out),
            Answer::Picture(picture) => painting(picture, self.step, out),
        }
    }
}

/// First the name and an empty text, then the arguments token by token.
fn fragment(call: &mut Call, step: u64, out: &mut Vec<u8>) -> Option<u64> {
    if step == 1 {
        let id = &call.id;
        put(out, format_args!(r#""tool_calls":[{{"index":0,"id":"{id}","type":"function","#));
        out.extend_from_slice(br#""function":{"name":"#);
        quote(out, &call.name);
        out.extend_from_slice(br#","arguments":""}}]"#);
    } else {
        let token = call.arguments.next()?;
        out.extend_from_slice(br#""tool_calls":[{"index":0,"function":{"arguments":"#);
        quote(out, token);
        out.extend_from_slice(b"}}]");
    }
    Some(1)
}

fn painting(picture: &Picture, step: u64, out: &mut Vec<u8>) -> Option<u64> {
    match step {
        1 => {
            out.extend_from_slice(br#""content":"#);
            quote(out, PAINTING);
            Some(0)
        }
        2 => {
            put(out, format_args!(r#""image_base64":"{}""#, picture.base64));
            Some(picture.tokens)
        }
        _ => None,
    }
}
