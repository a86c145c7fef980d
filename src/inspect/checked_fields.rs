//! The names that decide about a request: what is checked is what is forwarded.
//!
//! Weir goes by the fields below, and so may whatever reads the request after it. A server may know
//! another spelling, another word for the same thing, or take the other one of two: what Weir checked has
//! to hold for all of them.
//!
//! | Fields | What they decide | What is done |
//! |---|---|---|
//! | `model` | route, price, permission | a string, once |
//! | `stream`, `stream_options` and in it `include_usage`, `continuous_usage_stats` | how the answer is read | once |
//! | `background` | whether the answer can be metered at all | a boolean, once; `true` is refused where the operator does not allow it |
//! | `service_tier`, `use_beam_search` | price, work | pass, once |
//! | `max_tokens`, `max_completion_tokens`, `max_output_tokens` | the bound of an answer, where the API has the name | an integer, once; the largest is reserved |
//! | `n_predict` (llama.cpp, where it wins over `max_tokens`), `num_predict` and `options.num_predict` (Ollama), `max_new_tokens` (TGI), `max_tokens_to_sample` (Anthropic's older API), and the three above where the API does not have them | the bound, to a server that knows the word | an integer, once; raises what is reserved and never lowers it; is lowered by `--clamp` |
//! | `min_tokens` (vLLM), `min_new_tokens` (TGI) | what an answer is at least | the same |
//! | `n` | how many answers | an integer, once |
//! | `best_of`, `n_cmpl` (llama.cpp), `num_return_sequences` (TGI), `num_images` and `batch_size` (servers of pictures) | how many are made | an integer, once; the largest counts |
//!
//! All of these are kept in the root of the body, in a form's fields, and out of the query. An answer in
//! words is bounded by all of them, but a transcript by no field of its API, so that each can only raise what
//! is reserved; pictures only by the numbers of answers, and what is only judged or spoken by none. In a form
//! a bound and a number of answers may stand more than once: the largest counts.
//!
//! **Spelling.** Go's `encoding/json` matches names whatever their case (with the Kelvin sign for k and
//! the long s for s), and takes the last of two; so do servers of .NET and some of Java. So a name that
//! equals one of these but for its case is refused as its duplicate would be. Names of the text that a
//! model reads are only measured under any spelling: text counts, however often it stands there.
//!
//! **Numbers.** Below zero stands for "no bound" (LM Studio, llama.cpp), and so does 0 to servers of Go
//! that leave out what is zero (`omitempty`): what is usual is reserved then. A number as a string, a
//! fraction or a boolean is refused, for some readers (Pydantic) would take it as a number.
//!
//! **What an operator refuses.** A field may also move the request to another model, server or account:
//! which do is a matter of the upstream, so the list is configured (`refuse_fields`, see
//! [`RefusableFields`](super::RefusableFields)).

use super::key_spelling::fold;
use super::name::{KEPT, Name};

/// What the value of a field is, if it decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Model,
    Flag,
    /// An object with fields that decide in it.
    Options,
    /// Tokens of an answer.
    Tokens,
    /// A number of answers.
    Answers,
    /// Read by nobody here; it must not stand twice.
    Passed,
}

impl Name {
    /// All that decide.
    pub(super) const DECISIVE: [Self; 24] = [
        Self::Model,
        Self::Stream,
        Self::StreamOptions,
        Self::Background,
        Self::ServiceTier,
        Self::UseBeamSearch,
        Self::Options,
        Self::MaxTokens,
        Self::MaxCompletionTokens,
        Self::MaxOutputTokens,
        Self::MaxNewTokens,
        Self::MaxTokensToSample,
        Self::NPredict,
        Self::NumPredict,
        Self::MinTokens,
        Self::MinNewTokens,
        Self::N,
        Self::BestOf,
        Self::NCmpl,
        Self::NumReturnSequences,
        Self::NumImages,
        Self::BatchSize,
        Self::IncludeUsage,
        Self::ContinuousUsageStats,
    ];

    /// The key as we know it, of a name that decides: it may stand only once.
    pub(super) fn single(self) -> Option<&'static str> {
        Some(match self {
            Self::Model => "model",
            Self::Stream => "stream",
            Self::StreamOptions => "stream_options",
            Self::Background => "background",
            Self::ServiceTier => "service_tier",
            Self::UseBeamSearch => "use_beam_search",
            Self::Options => "options",
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
            Self::MaxOutputTokens => "max_output_tokens",
            Self::MaxNewTokens => "max_new_tokens",
            Self::MaxTokensToSample => "max_tokens_to_sample",
            Self::NPredict => "n_predict",
            Self::NumPredict => "num_predict",
            Self::MinTokens => "min_tokens",
            Self::MinNewTokens => "min_new_tokens",
            Self::N => "n",
            Self::BestOf => "best_of",
            Self::NCmpl => "n_cmpl",
            Self::NumReturnSequences => "num_return_sequences",
            Self::NumImages => "num_images",
            Self::BatchSize => "batch_size",
            Self::IncludeUsage => "include_usage",
            Self::ContinuousUsageStats => "continuous_usage_stats",
            _ => return None,
        })
    }

    pub(super) fn role(self) -> Role {
        match self {
            Self::Model => Role::Model,
            Self::Stream | Self::Background | Self::IncludeUsage | Self::ContinuousUsageStats => {
                Role::Flag
            }
            Self::StreamOptions | Self::Options => Role::Options,
            Self::N
            | Self::BestOf
            | Self::NCmpl
            | Self::NumReturnSequences
            | Self::NumImages
            | Self::BatchSize => Role::Answers,
            Self::MaxTokens
            | Self::MaxCompletionTokens
            | Self::MaxOutputTokens
            | Self::MaxNewTokens
            | Self::MaxTokensToSample
            | Self::NPredict
            | Self::NumPredict
            | Self::MinTokens
            | Self::MinNewTokens => Role::Tokens,
            _ => Role::Passed,
        }
    }

    /// Whether it bounds an answer from below.
    pub(super) fn is_least(self) -> bool {
        matches!(self, Self::MinTokens | Self::MinNewTokens)
    }

    /// Whether it decides in an object of the root with this name.
    pub(super) fn decides_in(self, parent: Self) -> bool {
        match parent {
            Self::StreamOptions => matches!(self, Self::IncludeUsage | Self::ContinuousUsageStats),
            Self::Options => self == Self::NumPredict,
            _ => false,
        }
    }
}

/// The name that decides and that some reader would take `key` for, however it is written.
pub(crate) fn checked(key: &str) -> Option<&'static str> {
    // Readers of queries and forms have ways to put more behind a name (`n[]`, `n[0]`), and to trim it.
    let name = key.split('[').next().unwrap_or_default().trim();
    (name.len() <= KEPT).then(|| Name::of(fold(name).as_bytes()).single()).flatten()
}

/// The same, if it bounds an answer.
pub(super) fn bounds_answer(key: &str) -> Option<&'static str> {
    checked(key).filter(|key| Name::of(key.as_bytes()).role() == Role::Tokens)
}

/// The same, if it says how many answers are made.
pub(super) fn counts_answers(key: &str) -> Option<&'static str> {
    checked(key).filter(|key| Name::of(key.as_bytes()).role() == Role::Answers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::key_spelling::is_plain;

    #[test]
    fn every_name_that_decides_has_a_key_and_is_found_by_it() {
        for name in Name::DECISIVE {
            let key = name.single().expect("it decides");
            assert_eq!(Name::of(key.as_bytes()), name);
            assert!(is_plain(key.as_bytes()) && fold(key) == key);
            for spelling in [key.to_ascii_uppercase(), format!(" {key}[]"), format!("{key}[0]")] {
                assert_eq!(checked(&spelling), Some(key), "{spelling}");
            }
        }
        for (key, name) in [
            ("ma\u{17f}x", None),
            ("max_to\u{212a}ens", Some("max_tokens")),
            ("\u{17f}tream", Some("stream")),
            ("m\u{130}n_tokens", Some("min_tokens")),
            ("models", None),
            ("", None),
        ] {
            assert_eq!(checked(key), name, "{key}");
        }
    }
}
