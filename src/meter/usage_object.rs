//! One usage object as an upstream states it, whichever of the dialects it speaks, and the one
//! record that Weir makes of it.

use crate::usage::Usage;

/// The usage object says what cannot be: a negative number, a string, too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InvalidUsage;

/// The numbers of one usage object; what it does not mention is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct UsageObject {
    pub(super) counts: [Option<u64>; COUNTS],
    /// The cache's tokens are not part of `input` yet (Anthropic).
    pub(super) cache_apart: bool,
    /// In nano-USD.
    pub(super) cost: Option<u64>,
    /// It says of the cost what cannot be. The tokens beside it can be right all the same.
    pub(super) is_cost_insane: bool,
    /// It lists what has a price of its own, and is not counted.
    pub(super) is_odd: bool,
}

pub(super) const INPUT: usize = 0;
pub(super) const CACHED: usize = 1;
pub(super) const CACHE_WRITE: usize = 2;
pub(super) const OUTPUT: usize = 3;
pub(super) const REASONING: usize = 4;
pub(super) const AUDIO_INPUT: usize = 5;
pub(super) const AUDIO_OUTPUT: usize = 6;
pub(super) const IMAGE_INPUT: usize = 7;
pub(super) const IMAGE_OUTPUT: usize = 8;
pub(super) const ACCEPTED: usize = 9;
pub(super) const REJECTED: usize = 10;
pub(super) const TOTAL: usize = 11;
pub(super) const AUDIO_MS: usize = 12;
pub(super) const COUNTS: usize = 13;

/// What the endpoint says of a usage object that the object itself leaves open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    /// The endpoint's whole output is images.
    pub(super) all_images: bool,
    /// The endpoint answers with tokens.
    pub(super) has_output: bool,
}

/// A statement brought into the one form: `total` is `input` and `output`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct NormalizedUsage {
    pub(super) usage: Usage,
    /// The upstream's own total is another one, and nothing that it states explains why.
    pub(super) differs: bool,
    /// Only a total was stated, which stands in `input`; how much of it was output is open.
    pub(super) is_undivided: bool,
}

impl UsageObject {
    /// Of numbers that stand outside of a usage object.
    pub(super) fn of(counts: impl IntoIterator<Item = (usize, Option<u64>)>) -> Self {
        let mut stated = Self::default();
        for (at, count) in counts {
            stated.counts[at] = count;
        }
        stated
    }

    /// Whether it states tokens, or seconds instead, as a transcription's may. A cost alone leaves
    /// open what was used.
    pub(super) fn states_use(&self) -> bool {
        [INPUT, OUTPUT, TOTAL, AUDIO_MS].into_iter().any(|at| self.counts[at].is_some())
    }

    /// Field by field, what `later` states instead of this. Zeros take nothing back: they are how
    /// some servers leave a field out.
    pub(super) fn overlaid(mut self, later: &Self) -> Self {
        for (count, new) in self.counts.iter_mut().zip(later.counts) {
            if count.is_none() || new.is_some_and(|new| new > 0) {
                *count = new.or(*count);
            }
        }
        self.cache_apart |= later.cache_apart;
        self.cost = later.cost.or(self.cost);
        self.is_cost_insane |= later.is_cost_insane;
        self.is_odd |= later.is_odd;
        self
    }

    /// The record. Where input and output are not the total, docs/providers.md says what becomes of
    /// them, in this order.
    pub(super) fn normalized(&self, context: Context) -> Result<NormalizedUsage, InvalidUsage> {
        let count = |at: usize| self.counts[at].unwrap_or(0);
        let (cached, written, reasoning) = (count(CACHED), count(CACHE_WRITE), count(REASONING));
        let cache = sum(cached, written)?;
        // A prompt that is smaller than what the cache had of it does not include that.
        let is_small = self.counts[INPUT].is_some_and(|input| cached.max(written) > input);
        let beside = if self.cache_apart || is_small { cache } else { 0 };
        let (input, output) = (sum(count(INPUT), beside)?, count(OUTPUT));
        let mut normalized =
            NormalizedUsage { usage: self.parts(input, output), ..NormalizedUsage::default() };
        let usage = &mut normalized.usage;
        let stated = sum(input, output)?;
        let total = self.counts[TOTAL].filter(|total| *total > 0);
        let bare = sum(count(INPUT), output)?;
        match total {
            // An answer that is smaller than its reasoning does not include that.
            None if reasoning > output => usage.output = sum(output, reasoning)?,
            None => {}
            // The total leaves out the cache, as the input does.
            Some(total) if total == stated || (self.cache_apart && total == bare) => {
                normalized.differs = reasoning > output;
            }
            Some(total) if total < stated => normalized.differs = true,
            Some(total) => {
                let more = total - stated;
                let is_one_of = |parts: &[u64]| parts.contains(&more);
                let parts = [reasoning, count(AUDIO_OUTPUT), count(IMAGE_OUTPUT)];
                let read = [cached, written, cache, count(AUDIO_INPUT), count(IMAGE_INPUT)];
                let is_silent = self.counts[OUTPUT].is_none() && self.counts[INPUT].is_some();
                let is_heard = count(AUDIO_MS) > 0;
                if self.counts[INPUT].is_none() || !context.has_output {
                    usage.input += more;
                    normalized.is_undivided = context.has_output && self.counts[OUTPUT].is_none();
                    normalized.differs = self.counts[INPUT].is_some();
                } else if is_heard {
                    // What was heard is part of the prompt, and some count it in the total only.
                    usage.input += more;
                    usage.audio_input = usage.audio_input.max(more);
                } else if is_silent || is_one_of(&parts) {
                    usage.output += more;
                } else if beside == 0 && is_one_of(&read) {
                    usage.input += more;
                } else {
                    usage.output += more;
                    normalized.differs = true;
                }
            }
        }
        usage.total = sum(usage.input, usage.output)?;
        if context.all_images && self.counts[IMAGE_OUTPUT].is_none() {
            usage.image_output = usage.output;
        }
        Ok(normalized)
    }

    fn parts(&self, input: u64, output: u64) -> Usage {
        let count = |at: usize| self.counts[at].unwrap_or(0);
        Usage {
            input,
            cached: count(CACHED),
            cache_write: count(CACHE_WRITE),
            output,
            reasoning: count(REASONING),
            audio_input: count(AUDIO_INPUT),
            audio_output: count(AUDIO_OUTPUT),
            image_input: count(IMAGE_INPUT),
            image_output: count(IMAGE_OUTPUT),
            accepted_prediction: count(ACCEPTED),
            rejected_prediction: count(REJECTED),
            audio_ms: count(AUDIO_MS),
            reported_cost_nano_usd: self.cost,
            total: 0,
        }
    }
}

fn sum(left: u64, right: u64) -> Result<u64, InvalidUsage> {
    left.checked_add(right).ok_or(InvalidUsage)
}
