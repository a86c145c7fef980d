//! The choices of a response, and what stands beside each of them by itself.

use super::UsageSelection;
use super::merge::{beside, on_top};
use crate::meter::facts::{CHOICES_LIMIT, Choice};
use crate::usage::Usage;

/// One choice of a stream.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) index: u64,
    pub(super) finished: bool,
    pub(super) usage: Option<Usage>,
}

impl UsageSelection {
    pub(super) fn note(&mut self, choice: &Choice) {
        self.finish_reason |= choice.finished;
        if let Some(known) = self.choices.iter_mut().find(|one| one.index == choice.index) {
            known.finished |= choice.finished;
        } else if self.choices.len() < CHOICES_LIMIT {
            let Choice { index, finished, .. } = *choice;
            let at = self.choices.partition_point(|one| one.index < index);
            self.choices.insert(at, Running { index, finished, usage: None });
        } else {
            self.is_crowded = true;
        }
    }

    pub(super) fn running(&self, index: u64) -> Option<Usage> {
        self.choices.iter().find(|one| one.index == index).and_then(|one| one.usage)
    }

    /// What stands beside single choices, together, and of how many prompts that is: of each prompt the input
    /// once. The answers to one prompt follow one another.
    pub(super) fn over_choices(&self) -> (Usage, u64) {
        let each = (self.answers / self.prompts.max(1)).max(1);
        let prompt = |index| if self.prompts > 1 { index / each } else { 0 };
        let (mut all, mut prompts) = (Usage::default(), 0);
        let mut present: Option<(u64, Usage)> = None;
        for (index, usage) in self.choices.iter().filter_map(|one| Some((one.index, one.usage?))) {
            present = match present {
                Some((at, before)) if at == prompt(index) => {
                    let input = usage.input.max(before.input);
                    Some((at, beside(before, usage, input)))
                }
                before => {
                    all = before.map_or(all, |(_, before)| on_top(all, before));
                    prompts += 1;
                    Some((prompt(index), usage))
                }
            };
        }
        (present.map_or(all, |(_, last)| on_top(all, last)), prompts)
    }

    /// Whether the usage that counts leaves out prompts, since it is stated of each by itself.
    pub(in crate::meter) fn misses_prompts(&self) -> bool {
        self.stated_prompts < self.prompts && self.is_of_choices()
    }

    /// The same of choices, since there are too many to be told apart.
    pub(in crate::meter) fn misses_choices(&self) -> bool {
        self.is_crowded && self.is_of_choices()
    }

    fn is_of_choices(&self) -> bool {
        self.pick.as_ref().is_some_and(|pick| pick.is_of_choices)
    }
}
