//! What is known of an upstream's `stream_options`: which of its models can't be asked for usage, and at
//! which endpoint. One upstream may serve models of many servers, of which some refuse what others
//! take. All workers share it; a request reads it without a lock.
//!
//! A refusal is believed if it names the option, or if it has come three times in a row, and forgotten
//! after some minutes: servers are replaced, and some refuse at random.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU8, AtomicU64};

const MINUTE_NS: u64 = 60 * 1_000_000_000;
/// So long an option that was refused is not asked for.
const REMEMBERED_NS: u64 = 5 * MINUTE_NS;
/// So many refusals in a row that name nothing are believed.
const BELIEVED: u8 = 3;

/// What is known of all models of one upstream.
#[derive(Debug)]
pub(crate) struct UsageOptions {
    /// By the upstream's own name for the model.
    models: HashMap<String, [ModelOptions; 2]>,
}

/// The endpoints that have the options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Chat,
    Completions,
}

/// What is known of one model at one endpoint.
#[derive(Debug, Default)]
pub(crate) struct ModelOptions {
    /// `include_usage`
    pub(crate) last: UsageOption,
    /// The same with `continuous_usage_stats`.
    pub(crate) running: UsageOption,
}

/// Whether one of the options is taken.
#[derive(Debug, Default)]
pub(crate) struct UsageOption {
    /// Refusals since it was last taken.
    in_a_row: AtomicU8,
    /// By the monotonic clock; 0: it was never refused.
    refused_until_ns: AtomicU64,
}

impl UsageOptions {
    /// `models`: the upstream's names.
    pub(crate) fn new<'a>(models: impl IntoIterator<Item = &'a str>) -> Self {
        let models = models.into_iter().map(|model| (model.to_owned(), Default::default()));
        Self { models: models.collect() }
    }

    /// Nothing of a model that the upstream does not list.
    pub(crate) fn of(&self, model: &str, at: At) -> Option<&ModelOptions> {
        self.models.get(model).map(|places| &places[at as usize])
    }
}

impl UsageOption {
    /// It is not to be asked for now.
    pub(crate) fn is_refused(&self, now_ns: u64) -> bool {
        now_ns < self.refused_until_ns.load(Relaxed)
    }

    /// It was taken. Mostly nothing changes by that, and the other workers' copy stays valid.
    pub(crate) fn accepted(&self) {
        if self.in_a_row.load(Relaxed) != 0 {
            self.in_a_row.store(0, Relaxed);
        }
    }

    /// A request was refused with it and served without it; `is_named`: the refusal said why.
    pub(crate) fn refused(&self, now_ns: u64, is_named: bool) {
        let in_a_row = self.in_a_row.load(Relaxed).saturating_add(1);
        if is_named || in_a_row >= BELIEVED {
            self.in_a_row.store(0, Relaxed);
            self.refused_until_ns.store(now_ns.saturating_add(REMEMBERED_NS), Relaxed);
        } else {
            self.in_a_row.store(in_a_row, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_believed_if_it_is_named_or_repeated_and_forgotten_in_time() {
        let named = UsageOption::default();
        assert!(!named.is_refused(0), "nothing is known");
        named.refused(7, true);
        assert!(named.is_refused(7) && named.is_refused(7 + REMEMBERED_NS - 1));
        assert!(!named.is_refused(7 + REMEMBERED_NS), "it is forgotten");

        let unnamed = UsageOption::default();
        for refused_in_a_row in [2, 1, 2] {
            (0..refused_in_a_row).for_each(|_| unnamed.refused(7, false));
            assert!(!unnamed.is_refused(7), "two in a row are chance");
            unnamed.accepted();
        }
        (0..3).for_each(|_| unnamed.refused(7, false));
        assert!(unnamed.is_refused(7));
        // Once forgotten it takes as many again.
        let later = 7 + REMEMBERED_NS;
        (0..2).for_each(|_| unnamed.refused(later, false));
        assert!(!unnamed.is_refused(later));
    }

    #[test]
    fn models_and_endpoints_are_known_apart() {
        let options = UsageOptions::new(["a", "b"]);
        let known = |model, at| options.of(model, at).expect("it is listed");
        known("a", At::Chat).last.refused(0, true);
        for (model, at, is_refused) in
            [("a", At::Chat, true), ("a", At::Completions, false), ("b", At::Chat, false)]
        {
            assert_eq!(known(model, at).last.is_refused(1), is_refused, "{model} {at:?}");
            assert!(!known(model, at).running.is_refused(1));
        }
        assert!(options.of("c", At::Chat).is_none());
    }
}
