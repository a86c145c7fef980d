//! A stream that is no chat: what is fixed stands in a queue, what is said is said token by token.

use std::collections::VecDeque;

use bytes::Bytes;

use super::generated_text::Text;
use super::render::{put, quote};
use super::script::{Delay, Event};

/// The events of one answer, in their order.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    parts: VecDeque<Part>,
    /// What is sent in the place of everything that is left, when the answer fails.
    failure: Vec<Bytes>,
    /// Numbers events, where the API does.
    sequence: Option<u64>,
    pad: String,
    begun: bool,
    failed: bool,
}

#[derive(Debug)]
enum Part {
    /// A whole event, and the tokens in it.
    Event(Vec<u8>, u64),
    /// A text, what stands around each token, and the number of the next token's event.
    Spoken(Text, Frame, Option<u64>),
}

/// What stands around each token.
#[derive(Clone, Debug)]
struct Frame {
    before: String,
    after: String,
}

impl EventQueue {
    /// A queue that fails with `failure`; `is_numbered`: its events have a `sequence_number`.
    pub(super) fn new(failure: Vec<Bytes>, is_numbered: bool, pad_bytes: usize) -> Self {
        let pad = "x".repeat(pad_bytes);
        Self { failure, sequence: is_numbered.then_some(0), pad, ..Self::default() }
    }

    /// `data:` with these members, after a line `event:` if `name` is one.
    pub(super) fn event(&mut self, name: &str, members: &str) {
        self.costly(name, members, 0);
    }

    /// The same for an event in which `tokens` tokens are said.
    pub(super) fn costly(&mut self, name: &str, members: &str, tokens: u64) {
        let (mut out, number) = (begin(name), self.number());
        put(&mut out, format_args!("{members}{number}}}\n\n"));
        self.parts.push_back(Part::Event(out, tokens));
    }

    /// Bytes as they are.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.parts.push_back(Part::Event(bytes.to_vec(), 0));
    }

    /// A text, of which each token becomes an event: `members`, the token, `after`.
    pub(super) fn say(&mut self, name: &str, members: &str, text: Text, after: &str) {
        let before = String::from_utf8_lossy(&begin(name)).into_owned() + members;
        let number = self.sequence;
        self.sequence = number.map(|number| number + text.tokens());
        self.parts.push_back(Part::Spoken(text, Frame { before, after: after.to_owned() }, number));
    }

    /// The mark of the end is left out.
    pub(super) fn without_end(mut self) -> Self {
        self.parts.pop_back();
        self
    }

    pub(super) fn fail(&mut self) {
        let failure = std::mem::take(&mut self.failure);
        self.parts = failure.into_iter().map(|event| Part::Event(event.into(), 0)).collect();
        self.failed = true;
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// The next event; `None` after the last one.
    pub(super) fn next(&mut self) -> Option<Event> {
        loop {
            match self.parts.front_mut()? {
                Part::Spoken(text, frame, number) => {
                    let Some(token) = text.next() else {
                        self.parts.pop_front();
                        continue;
                    };
                    let mut out = frame.before.clone().into_bytes();
                    quote(&mut out, &format!("{token}{}", self.pad));
                    out.extend_from_slice(frame.after.as_bytes());
                    if let Some(number) = number {
                        put(&mut out, format_args!(r#","sequence_number":{number}"#));
                        *number += 1;
                    }
                    out.extend_from_slice(b"}\n\n");
                    let first = !std::mem::replace(&mut self.begun, true);
                    let delay = if first { Delay::First } else { Delay::Token };
                    return Some(Event { bytes: out.into(), delay, tokens: 1 });
                }
                Part::Event(bytes, tokens) => {
                    let event = (std::mem::take(bytes), *tokens);
                    self.parts.pop_front();
                    let delay =
                        if event.1 > 0 && !self.begun { Delay::First } else { Delay::AtOnce };
                    self.begun |= event.1 > 0;
                    return Some(Event { bytes: event.0.into(), delay, tokens: event.1 });
                }
            }
        }
    }

    fn number(&mut self) -> String {
        let Some(sequence) = &mut self.sequence else { return String::new() };
        *sequence += 1;
        format!(r#","sequence_number":{}"#, *sequence - 1)
    }
}

/// An event's beginning, up to the members of its object.
fn begin(name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    if !name.is_empty() {
        put(&mut out, format_args!("event: {name}\n"));
    }
    out.extend_from_slice(b"data: {");
    out
}
