//! Which of the usage objects in a response counts. Upstreams state it once at the end, with every
//! chunk, per choice, in two halves, or not at all; the rule here makes one record of it and never
//! adds up what is cumulative.

mod choices;
mod merge;

use self::choices::Running;
use self::merge::{fill_in, is_zero, on_top, takes_back};
use super::dialect::Document;
use super::facts::{DocumentFacts, Loose, Member, Slot};
use super::usage_object::{
    AUDIO_MS, Context, INPUT, InvalidUsage, NormalizedUsage, OUTPUT, UsageObject,
};
use crate::usage::Usage;

/// What the documents of one response have said so far.
#[derive(Clone, Debug, Default)]
pub(super) struct UsageSelection {
    pub(super) pick: Option<Pick>,
    /// Answers that the client asked for, at least.
    answers: u64,
    /// Prompts of which each has so many of these answers, and of how many one states usage.
    prompts: u64,
    stated_prompts: u64,
    /// The endpoint answers with tokens.
    pub(super) has_output: bool,
    /// The endpoint listens, so that a duration at the top is that of what it heard.
    hears: bool,
    /// Anthropic's first half, with the input.
    start: Option<UsageObject>,
    /// What is stated apart from `usage`, and comes on top of it.
    apart: Option<Usage>,
    duration_ms: Option<u64>,
    /// In the order of their indices.
    choices: Vec<Running>,
    /// More choices came than are told apart.
    is_crowded: bool,
    /// Events that ended an answer.
    ends: u64,
    /// The images API says each picture by itself, and in the end that there are no more (Ark, MiniMax).
    sums_up: bool,
    pub(super) finish_reason: bool,
    /// An API that does not say `[DONE]` has said its last.
    pub(super) is_over: bool,
    pub(super) error: bool,
    /// A message came that nothing says is an error: it is one where no answer comes.
    message: bool,
    /// The last that came was the usage in a chunk of its own: nothing is to follow but `[DONE]`.
    pub(super) ends_with_usage: bool,
    pub(super) pending: bool,
    pub(super) suspect: bool,
    /// How often usage was stated, and how much text had come by the last time.
    statements: u32,
    said_by_then: u64,
    /// Something came in which an API gives its answers, and there was an answer in it.
    pub(super) shell: bool,
    pub(super) answered: bool,
    pub(super) images: u32,
}

/// The usage that counts.
#[derive(Clone, Debug)]
pub(super) struct Pick {
    pub(super) usage: Usage,
    pub(super) raw: Option<Box<str>>,
    /// UsageObject as the whole, not as what was used so far.
    pub(super) is_final: bool,
    /// It was stated before there was an answer, and so counts nothing of that.
    pub(super) is_start: bool,
    /// It came in a chunk of its own (`"choices":[]`).
    pub(super) alone: bool,
    /// It stands outside of any usage object, and gives way to one.
    is_weak: bool,
    /// It is the sum of what stands beside single choices.
    is_of_choices: bool,
    /// As [`NormalizedUsage::differs`] and [`NormalizedUsage::is_undivided`].
    pub(super) differs: bool,
    pub(super) is_undivided: bool,
}

/// Which statement is being considered.
#[derive(Clone, Copy, Debug)]
struct Origin {
    alone: bool,
    is_final: bool,
    is_start: bool,
    is_weak: bool,
    /// The only choice beside which it stands.
    choice: Option<u64>,
}

impl UsageSelection {
    /// `answers`: so many the client asked for. `prompts`, `has_output`, `hears`: as in [`super::Setup`].
    pub(super) fn new(answers: u64, prompts: u64, has_output: bool, hears: bool) -> Self {
        Self { answers, prompts, has_output, hears, ..Self::default() }
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
        self.is_crowded |= facts.more_choices;
        let kind = facts.kind.bytes();
        // Anthropic's, of the whole answer.
        self.finish_reason |= facts.finished && kind == b"message_delta";
        let is_image = kind.starts_with(b"image_");
        if is_image && kind.ends_with(b".partial_succeeded") {
            self.sums_up = true;
            self.images = self.images.saturating_add(facts.images.max(u32::from(facts.is_linked)));
        } else if !kind.ends_with(b"partial_image") {
            self.images = self.images.saturating_add(facts.images);
        }
        let ends = ends_answer(kind);
        self.ends += u64::from(ends);
        // Only the images API can have further answers in the same stream.
        let ends_all = ends && (!is_image || self.sums_up || self.ends >= self.answers);
        self.finish_reason |= ends_all;
        self.is_over |= ends_all;
        self.error |= matches!(kind, b"response.failed" | b"error");
        self.shell |= facts.shell;
        self.answered |= facts.answered || ends;
        self.error |= facts.speaks_of_error() && document.captures.found().next().is_none();
        self.message |= facts.is_message();
        let alone = facts.has_no_choice();
        if !facts.choice.is_empty() || (alone && facts.usage == Member::Proper) {
            self.ends_with_usage = alone;
        }
        let finished = !self.choices.is_empty()
            && self.choices.len() as u64 >= self.answers
            && self.choices.iter().all(|one| one.finished);
        let is_last = alone && self.has_ended();
        let origin = Origin {
            alone,
            is_weak: false,
            is_final: body || ends_all || kind == b"message_delta" || finished || is_last,
            is_start: kind == b"message_start",
            choice: match facts.choice[..] {
                [choice] => Some(choice.index),
                _ => None,
            },
        };
        if !document.captures.is_empty() {
            let before = self.statements;
            for (slot, raw, stated) in document.captures.found() {
                let stated = stated.and_then(|stated| self.state(slot, stated, raw, facts, origin));
                self.suspect |= stated.is_err();
            }
            if self.statements > before {
                self.said_by_then = document.text.bytes();
            }
        }
        self.state_loose(facts, origin);
    }

    /// What stands at the top of the document for want of a usage object.
    fn state_loose(&mut self, facts: &DocumentFacts, origin: Origin) {
        if !self.hears && facts.loose.iter().all(Option::is_none) {
            return;
        }
        let count = |loose: Loose| facts.loose[loose as usize];
        let mut stated = UsageObject::of([
            (INPUT, count(Loose::PromptEvalCount)),
            (OUTPUT, count(Loose::EvalCount)),
        ]);
        if self.hears {
            self.suspect |= facts.is_duration_odd;
            self.duration_ms = count(Loose::Duration).or(self.duration_ms);
            stated.counts[AUDIO_MS] = self.duration_ms;
        }
        if stated.states_use() {
            let origin = Origin { is_weak: true, ..origin };
            // Each count alone is at most 2^53.
            let stated = self.state(Slot::Top, stated, &[], facts, origin);
            self.suspect |= stated.is_err();
        }
    }

    /// The usage that counts, with the length of what was heard wherever that was stated.
    pub(super) fn usage(&self) -> Option<Usage> {
        let mut usage = self.pick.as_ref()?.usage;
        if usage.audio_ms == 0 {
            usage.audio_ms = self.duration_ms.unwrap_or(0);
        }
        Some(usage)
    }

    /// Whether the response is an error, as far as it has come.
    pub(super) fn is_error(&self) -> bool {
        let is_answer = || self.answered || self.shell || self.pick.is_some();
        self.error || (self.message && !is_answer())
    }

    /// Everything that has begun has finished.
    pub(super) fn has_ended(&self) -> bool {
        self.finish_reason && self.choices.iter().all(|one| one.finished)
    }

    /// As many answers as were asked for have finished.
    pub(super) fn is_complete_text(&self) -> bool {
        let are_enough = self.choices.is_empty() || self.choices.len() as u64 >= self.answers;
        self.has_ended() && are_enough
    }

    fn state(
        &mut self,
        slot: Slot,
        mut stated: UsageObject,
        raw: &[u8],
        facts: &DocumentFacts,
        mut origin: Origin,
    ) -> Result<(), InvalidUsage> {
        self.suspect |= stated.is_cost_insane || stated.is_odd;
        if !stated.states_use() {
            return Ok(());
        }
        origin.is_weak |= slot == Slot::Timings;
        if origin.is_weak && self.pick.as_ref().is_some_and(|pick| !pick.is_weak) {
            return Ok(());
        }
        match (slot, &self.start) {
            (Slot::Message, _) => self.start = Some(stated),
            (Slot::Top, Some(start)) => stated = start.overlaid(&stated),
            (Slot::Choice(place), _) => {
                origin.choice = facts.choice.get(place).map(|choice| choice.index);
                origin.alone = false;
            }
            _ => {}
        }
        let all_images = match slot {
            Slot::Svg => false,
            Slot::ImageTool => true,
            _ => facts.images_api || self.sums_up,
        };
        let has_output = self.has_output;
        let mut normalized = stated.normalized(Context { all_images, has_output })?;
        if slot.is_apart() {
            let apart =
                self.apart.take().map_or(normalized.usage, |it| on_top(it, normalized.usage));
            (self.apart, normalized.usage) = (Some(apart), apart);
            if self.pick.as_ref().is_some_and(|pick| !pick.is_weak) {
                return Ok(());
            }
            origin.is_weak = true;
        } else if let Some(apart) = self.apart.take() {
            normalized.usage = on_top(normalized.usage, apart);
        }
        if is_zero(&normalized.usage) {
            // All zeros say something only where nothing else is said.
            if self.pick.is_none() {
                self.set(normalized, raw, origin);
            }
            return Ok(());
        }
        self.consider(normalized, raw, origin);
        Ok(())
    }

    /// The last one counts, and what came alone until another one says more. One of the whole answer may
    /// correct what was said on the way; another may not take back what had been counted of the output.
    /// One that comes alone is of the whole where all that began had finished: before, more may follow.
    fn consider(&mut self, mut normalized: NormalizedUsage, raw: &[u8], origin: Origin) {
        self.statements = self.statements.saturating_add(1);
        let before = self.pick.as_ref().filter(|pick| !is_zero(&pick.usage) && !pick.is_weak);
        let before = before.map(|pick| (pick.usage, pick.alone, pick.is_final));
        if let Some((total, alone, was_final)) = before {
            if alone && !origin.alone && normalized.usage.total <= total.total {
                return;
            }
            self.suspect |= alone && origin.alone && total.output > 0;
            let running = match origin.choice {
                Some(index) => self.running(index),
                None => Some(total),
            };
            if let Some(last) = running {
                fill_in(&mut normalized.usage, &last);
                let less = takes_back(&normalized.usage, &last);
                self.suspect |= less || normalized.usage.input < last.input;
                let corrects = origin.is_final && (!was_final || (origin.alone && !alone));
                // Of several pictures the last may be the smallest.
                if less && (!corrects || self.ends > 1) {
                    if let Some(pick) = &mut self.pick {
                        pick.is_final |= origin.is_final;
                    }
                    return;
                }
            }
        }
        let Some(index) = origin.choice else { return self.set(normalized, raw, origin) };
        let Some(choice) = self.choices.iter_mut().find(|one| one.index == index) else {
            self.suspect = true;
            return;
        };
        choice.usage = Some(normalized.usage);
        (normalized.usage, self.stated_prompts) = self.over_choices();
        self.set(normalized, raw, origin);
    }

    /// As [`super::Reading::is_early`], where so much text has come. Of several pictures each says its own usage.
    pub(super) fn is_early(&self, text_bytes: u64) -> bool {
        let is_first = self.statements == 1 && (text_bytes == 0 || text_bytes > self.said_by_then);
        is_first || self.is_between_pictures() || self.misses_prompts()
    }

    /// Whether some of the answers that were asked for have ended, of an API that tells no choices apart.
    pub(super) fn is_between_pictures(&self) -> bool {
        self.ends > 0 && !self.is_over
    }

    fn set(&mut self, normalized: NormalizedUsage, raw: &[u8], origin: Origin) {
        let Origin { alone, is_final, is_start, is_weak, choice } = origin;
        let NormalizedUsage { usage, differs, is_undivided } = normalized;
        // What was copied of it may end within a character.
        let valid = |end: usize| std::str::from_utf8(&raw[..end]);
        let text = valid(raw.len()).or_else(|error| valid(error.valid_up_to()));
        let text = text.ok().filter(|text| !text.is_empty());
        self.pick = Some(Pick {
            usage,
            raw: text.map(Box::from),
            is_final,
            is_start,
            alone,
            is_weak,
            is_of_choices: choice.is_some(),
            differs,
            is_undivided,
        });
    }
}

/// The events after which an API without `[DONE]` says no more of an answer.
fn ends_answer(kind: &[u8]) -> bool {
    matches!(
        kind,
        b"response.completed"
            | b"response.incomplete"
            | b"response.failed"
            | b"response.cancelled"
            | b"response.done"
            | b"message_stop"
            | b"image_generation.completed"
            | b"image_edit.completed"
            | b"transcript.text.done"
            | b"speech.audio.done"
    )
}
