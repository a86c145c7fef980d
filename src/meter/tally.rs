//! Which of the usage objects in a response counts. Upstreams state it once at the end, with every
//! chunk, per choice, in two halves, or not at all; the rule here makes one record of it and never
//! adds up what is cumulative.

use super::dialect::Document;
use super::facts::{CHOICES_LIMIT, Choice, Facts, Member, Slot};
use super::object::Insane;
use super::stated::Stated;
use crate::usage::Usage;

/// What the documents of one response have said so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) pick: Option<Pick>,
    /// Answers that the client asked for, at least.
    answers: u64,
    /// Anthropic's first half, with the input.
    start: Option<Stated>,
    /// What the images API states apart from `usage`, and comes on top of it.
    apart: Option<Usage>,
    choices: Vec<Running>,
    /// Events that ended an answer.
    ends: u64,
    pub(super) finish_reason: bool,
    /// An API that does not say `[DONE]` has said its last.
    pub(super) is_over: bool,
    pub(super) error: bool,
    pub(super) pending: bool,
    pub(super) suspect: bool,
    pub(super) images: u32,
}

/// The usage that counts.
#[derive(Clone, Debug)]
pub(super) struct Pick {
    pub(super) usage: Usage,
    pub(super) raw: Option<Box<str>>,
    /// Stated as the whole, not as what was used so far.
    pub(super) is_final: bool,
    /// It was stated before there was an answer, and so counts nothing of that.
    pub(super) is_start: bool,
    /// It came in a chunk of its own (`"choices":[]`).
    alone: bool,
}

/// One choice of a stream.
#[derive(Clone, Debug)]
struct Running {
    index: u64,
    finished: bool,
    usage: Option<Usage>,
}

/// Which statement is being considered.
#[derive(Clone, Copy, Debug)]
struct Origin {
    alone: bool,
    is_final: bool,
    is_start: bool,
    /// The only choice beside which it stands.
    choice: Option<u64>,
}

impl Tally {
    /// `answers`: so many the client asked for.
    pub(super) fn new(answers: u64) -> Self {
        Self { answers, ..Self::default() }
    }

    /// Takes in what a document said. `body`: it is the whole response, not one event of it.
    pub(super) fn absorb(&mut self, document: &Document, body: bool) {
        let facts = &document.facts;
        self.error |= facts.error;
        self.pending |= body && facts.pending;
        self.suspect |= facts.usage == Member::Odd;
        for choice in &facts.choice {
            self.note(choice);
        }
        let kind = facts.kind.bytes();
        if !kind.ends_with(b"partial_image") {
            self.images = self.images.saturating_add(facts.images);
        }
        let ends = ends_answer(kind);
        if ends {
            self.ends += 1;
            self.finish_reason = true;
            // Only the images API can have further answers in the same stream.
            let is_image = kind.starts_with(b"image_");
            self.is_over |= !is_image || self.ends >= self.answers;
        }
        self.error |= matches!(kind, b"response.failed" | b"error");
        let finished = !self.choices.is_empty()
            && self.choices.len() as u64 >= self.answers
            && self.choices.iter().all(|one| one.finished);
        let origin = Origin {
            alone: facts.choices == Member::Proper && facts.choice.is_empty(),
            is_final: body || ends || kind == b"message_delta" || finished,
            is_start: kind == b"message_start",
            choice: match facts.choice[..] {
                [choice] => Some(choice.index),
                _ => None,
            },
        };
        for slot in Slot::ALL {
            if let Some(raw) = document.captures.found(slot)
                && self.state(slot, raw, facts, origin).is_err()
            {
                self.suspect = true;
            }
        }
    }

    /// Everything that has begun has finished.
    pub(super) fn has_ended(&self) -> bool {
        self.finish_reason && self.choices.iter().all(|one| one.finished)
    }

    /// As many answers as were asked for have finished.
    pub(super) fn all_said(&self) -> bool {
        let are_enough = self.choices.is_empty() || self.choices.len() as u64 >= self.answers;
        self.has_ended() && are_enough
    }

    fn note(&mut self, choice: &Choice) {
        self.finish_reason |= choice.finished;
        if let Some(known) = self.choices.iter_mut().find(|one| one.index == choice.index) {
            known.finished |= choice.finished;
        } else if self.choices.len() < CHOICES_LIMIT {
            let Choice { index, finished, .. } = *choice;
            self.choices.push(Running { index, finished, usage: None });
        }
    }

    fn state(
        &mut self,
        slot: Slot,
        raw: &[u8],
        facts: &Facts,
        origin: Origin,
    ) -> Result<(), Insane> {
        let mut stated = Stated::parse(raw)?;
        self.suspect |= stated.is_cost_insane;
        if !stated.states_use() {
            return Ok(());
        }
        match (slot, &self.start) {
            (Slot::Message, _) => self.start = Some(stated),
            (Slot::Top, Some(start)) => stated = start.overlaid(&stated),
            _ => {}
        }
        let all_images = facts.images_api && slot != Slot::Svg;
        let mut usage = stated.usage(all_images)?;
        if slot == Slot::Svg {
            self.apart = Some(usage);
        } else if let Some(apart) = self.apart.take() {
            usage = beside(usage, apart, usage.input + apart.input);
        }
        if is_zero(&usage) {
            // All zeros say something only where nothing else is said.
            if self.pick.is_none() {
                self.set(usage, raw, origin);
            }
            return Ok(());
        }
        self.consider(usage, raw, origin);
        Ok(())
    }

    /// The last one counts, one that came alone before all others, and none that takes back what
    /// another had counted.
    fn consider(&mut self, usage: Usage, raw: &[u8], origin: Origin) {
        let before = self.pick.as_ref().filter(|pick| !is_zero(&pick.usage));
        let before = before.map(|pick| (pick.usage, pick.alone));
        if let Some((total, alone)) = before {
            if alone && !origin.alone {
                return;
            }
            self.suspect |= alone;
            let running = match origin.choice {
                Some(index) => self.running(index),
                None => Some(total),
            };
            let less = running.is_some_and(|last| takes_back(&usage, &last));
            self.suspect |= less;
            if less && alone == origin.alone {
                return;
            }
        }
        let Some(index) = origin.choice else { return self.set(usage, raw, origin) };
        let Some(choice) = self.choices.iter_mut().find(|one| one.index == index) else {
            self.suspect = true;
            return;
        };
        choice.usage = Some(usage);
        let several = self.choices.iter().filter_map(|one| one.usage);
        let several =
            several.reduce(|left, right| beside(left, right, left.input.max(right.input)));
        self.set(several.unwrap_or(usage), raw, origin);
    }

    fn running(&self, index: u64) -> Option<Usage> {
        self.choices.iter().find(|one| one.index == index).and_then(|one| one.usage)
    }

    fn set(&mut self, usage: Usage, raw: &[u8], origin: Origin) {
        let Origin { alone, is_final, is_start, .. } = origin;
        let raw = std::str::from_utf8(raw).ok().map(Box::from);
        self.pick = Some(Pick { usage, raw, is_final: is_final || alone, is_start, alone });
    }
}

/// The events after which an API without `[DONE]` says no more of an answer.
fn ends_answer(kind: &[u8]) -> bool {
    matches!(
        kind,
        b"response.completed"
            | b"response.incomplete"
            | b"response.failed"
            | b"message_stop"
            | b"image_generation.completed"
            | b"image_edit.completed"
            | b"transcript.text.done"
            | b"speech.audio.done"
    )
}

/// Whether it says of everything that nothing was used.
fn is_zero(usage: &Usage) -> bool {
    let reported_cost_nano_usd = usage.reported_cost_nano_usd.filter(|cost| *cost > 0);
    Usage { reported_cost_nano_usd, ..*usage } == Usage::default()
}

fn takes_back(usage: &Usage, last: &Usage) -> bool {
    usage.output < last.output || usage.input < last.input || usage.audio_ms < last.audio_ms
}

/// Two statements about one prompt that go together: of what was read the details were read once,
/// what was written adds up. Counts are at most 2^53, and there are at most 128: the sums fit.
fn beside(left: Usage, right: Usage, input: u64) -> Usage {
    let output = left.output + right.output;
    Usage {
        input,
        cached: left.cached.max(right.cached),
        cache_write: left.cache_write.max(right.cache_write),
        output,
        reasoning: left.reasoning + right.reasoning,
        audio_input: left.audio_input.max(right.audio_input),
        audio_output: left.audio_output + right.audio_output,
        image_input: left.image_input.max(right.image_input),
        image_output: left.image_output + right.image_output,
        accepted_prediction: left.accepted_prediction + right.accepted_prediction,
        rejected_prediction: left.rejected_prediction + right.rejected_prediction,
        audio_ms: left.audio_ms.max(right.audio_ms),
        reported_cost_nano_usd: match (left.reported_cost_nano_usd, right.reported_cost_nano_usd) {
            (Some(left), Some(right)) => Some(left + right),
            (left, right) => left.or(right),
        },
        total: input + output,
    }
}
