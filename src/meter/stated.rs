//! One usage object as an upstream states it, whichever of the dialects it speaks, and the one
//! record that Weir makes of it.

use super::object::{Count, Insane, Object};
use crate::usage::Usage;

/// The numbers of one usage object; what it does not mention is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stated {
    counts: [Option<u64>; COUNTS],
    /// The cache's tokens are not part of `input` yet (Anthropic).
    cache_apart: bool,
    /// In nano-USD.
    cost: Option<u64>,
    /// It says of the cost what cannot be. The tokens beside it can be right all the same.
    pub(super) is_cost_insane: bool,
}

const INPUT: usize = 0;
const CACHED: usize = 1;
const CACHE_WRITE: usize = 2;
const OUTPUT: usize = 3;
const REASONING: usize = 4;
const AUDIO_INPUT: usize = 5;
const AUDIO_OUTPUT: usize = 6;
const IMAGE_INPUT: usize = 7;
const IMAGE_OUTPUT: usize = 8;
const ACCEPTED: usize = 9;
const REJECTED: usize = 10;
const TOTAL: usize = 11;
const AUDIO_MS: usize = 12;
const COUNTS: usize = 13;

impl Stated {
    /// Reads the bytes of one JSON object.
    pub(super) fn parse(raw: &[u8]) -> Result<Self, Insane> {
        let object = Object::read(raw)?;
        let inner =
            [object.prompt_tokens_details, object.input_tokens_details, object.input_token_details];
        let input = inner.into_iter().flatten().next().unwrap_or_default();
        let inner = [object.completion_tokens_details, object.output_tokens_details];
        let output = inner.into_iter().flatten().next().unwrap_or_default();
        let mut counts = [None; COUNTS];
        counts[INPUT] = first([object.prompt_tokens, object.input_tokens])?;
        counts[OUTPUT] = first([object.completion_tokens, object.output_tokens])?;
        counts[TOTAL] = first([object.total_tokens])?;
        counts[CACHED] = first([
            input.cached_tokens,
            object.prompt_cache_hit_tokens,
            object.cache_read_input_tokens,
        ])?;
        counts[CACHE_WRITE] =
            first([input.cache_write_tokens, object.cache_creation_input_tokens])?;
        counts[REASONING] =
            first([output.reasoning_tokens, object.reasoning_tokens, object.reasoning])?;
        counts[AUDIO_INPUT] = first([input.audio_tokens])?;
        counts[AUDIO_OUTPUT] = first([output.audio_tokens])?;
        counts[IMAGE_INPUT] = first([input.image_tokens])?;
        counts[IMAGE_OUTPUT] = first([output.image_tokens])?;
        counts[ACCEPTED] = first([output.accepted_prediction_tokens])?;
        counts[REJECTED] = first([output.rejected_prediction_tokens])?;
        counts[AUDIO_MS] = first([object.seconds])?;
        let cost = first([object.cost]);
        // LiteLLM repeats Anthropic's cache fields beside a `prompt_tokens` that includes them.
        let anthropic =
            object.prompt_tokens == Count::Absent && object.input_tokens_details.is_none();
        let cache = [object.cache_read_input_tokens, object.cache_creation_input_tokens];
        let cache_apart = anthropic && cache.iter().any(|one| *one != Count::Absent);
        let is_cost_insane = cost.is_err();
        Ok(Self { counts, cache_apart, cost: cost.unwrap_or_default(), is_cost_insane })
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
        self
    }

    /// The record. `all_images`: the endpoint's whole output is images.
    pub(super) fn usage(&self, all_images: bool) -> Result<Usage, Insane> {
        let count = |at: usize| self.counts[at].unwrap_or(0);
        let cache = if self.cache_apart { [count(CACHED), count(CACHE_WRITE)] } else { [0, 0] };
        let input = sum([count(INPUT), cache[0], cache[1]])?;
        let image_output = if all_images { count(OUTPUT) } else { 0 };
        Ok(Usage {
            input,
            cached: count(CACHED),
            cache_write: count(CACHE_WRITE),
            output: count(OUTPUT),
            reasoning: count(REASONING),
            audio_input: count(AUDIO_INPUT),
            audio_output: count(AUDIO_OUTPUT),
            image_input: count(IMAGE_INPUT),
            image_output: self.counts[IMAGE_OUTPUT].unwrap_or(image_output),
            accepted_prediction: count(ACCEPTED),
            rejected_prediction: count(REJECTED),
            audio_ms: count(AUDIO_MS),
            reported_cost_nano_usd: self.cost,
            total: match self.counts[TOTAL] {
                Some(total) => total,
                None => sum([input, count(OUTPUT), 0])?,
            },
        })
    }
}

/// The first count that is there; insane if any of them is.
fn first<const N: usize>(counts: [Count; N]) -> Result<Option<u64>, Insane> {
    let mut found = None;
    for count in counts {
        match count {
            Count::Absent => {}
            Count::Of(tokens) => found = found.or(Some(tokens)),
            Count::Insane => return Err(Insane),
        }
    }
    Ok(found)
}

fn sum(counts: [u64; 3]) -> Result<u64, Insane> {
    counts.into_iter().try_fold(0_u64, u64::checked_add).ok_or(Insane)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(raw: &str) -> Result<Usage, Insane> {
        Stated::parse(raw.as_bytes())?.usage(false)
    }

    #[test]
    fn every_dialect_gives_the_same_record() {
        let base = Usage { input: 8, output: 12, total: 20, ..Usage::default() };
        let cases = [
            (r#"{"prompt_tokens":8,"completion_tokens":12,"total_tokens":20}"#, base),
            (r#"{"prompt_tokens":8.0,"completion_tokens":12}"#, base),
            (r#"{"input_tokens":8,"output_tokens":12}"#, base),
            (
                r#"{"prompt_tokens":8,"completion_tokens":null}"#,
                Usage { input: 8, total: 8, ..Usage::default() },
            ),
            (
                r#"{"prompt_tokens":8,"completion_tokens":12,"total_tokens":21,
                    "prompt_tokens_details":{"cached_tokens":1,"cache_write_tokens":2,
                    "audio_tokens":3,"image_tokens":4},"completion_tokens_details":{
                    "reasoning_tokens":5,"audio_tokens":6,"accepted_prediction_tokens":7,
                    "rejected_prediction_tokens":8,"image_tokens":9}}"#,
                Usage {
                    cached: 1,
                    cache_write: 2,
                    audio_input: 3,
                    image_input: 4,
                    reasoning: 5,
                    audio_output: 6,
                    accepted_prediction: 7,
                    rejected_prediction: 8,
                    image_output: 9,
                    total: 21,
                    ..base
                },
            ),
            (
                r#"{"prompt_tokens":8,"completion_tokens":12,"prompt_tokens_details":null,
                    "prompt_cache_hit_tokens":3,"reasoning_tokens":4}"#,
                Usage { cached: 3, reasoning: 4, ..base },
            ),
            (
                r#"{"prompt_tokens":8,"completion_tokens":12,"cache_read_input_tokens":3}"#,
                Usage { cached: 3, ..base },
            ),
            (
                r#"{"input_tokens":1,"output_tokens":12,"cache_read_input_tokens":3,
                    "cache_creation_input_tokens":4}"#,
                Usage { cached: 3, cache_write: 4, ..base },
            ),
            (
                r#"{"prompt_tokens":8,"completion_tokens":12,"reasoning":2,"x":[]}"#,
                Usage { reasoning: 2, ..base },
            ),
            (
                r#"{"type":"tokens","input_tokens":8,"output_tokens":12,
                    "input_token_details":{"text_tokens":5,"audio_tokens":3}}"#,
                Usage { audio_input: 3, ..base },
            ),
            (
                r#"{"input_tokens":8,"input_tokens_details":{"cached_tokens":3,
                    "cache_write_tokens":2,"image_tokens":1},"output_tokens":12,
                    "output_tokens_details":{"reasoning_tokens":4,"image_tokens":7}}"#,
                Usage {
                    cached: 3,
                    cache_write: 2,
                    image_input: 1,
                    reasoning: 4,
                    image_output: 7,
                    ..base
                },
            ),
            (r#"{"type":"duration","seconds":9}"#, Usage { audio_ms: 9_000, ..Usage::default() }),
            (
                r#"{"prompt_tokens":8,"completion_tokens":12,"cost":1.45e-4}"#,
                Usage { reported_cost_nano_usd: Some(145_000), ..base },
            ),
            (
                r#"{"prompt_tokens":8,"completion_tokens":12,"cost":0}"#,
                Usage { reported_cost_nano_usd: Some(0), ..base },
            ),
            // What cannot be a cost is none, and leaves the tokens as they are.
            (r#"{"prompt_tokens":8,"completion_tokens":12,"cost":null}"#, base),
            (r#"{"prompt_tokens":8,"completion_tokens":12,"cost":{"total_cost":1}}"#, base),
            (r#"{"prompt_tokens":8,"completion_tokens":12,"cost":-1}"#, base),
            (r#"{"prompt_tokens":8,"completion_tokens":12,"cost":"0.1"}"#, base),
            (r#"{"prompt_tokens":8,"completion_tokens":12,"cost":1e300}"#, base),
        ];
        for (raw, expected) in cases {
            assert_eq!(usage(raw), Ok(expected), "{raw}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let values = ["-1", "\"5\"", "1.5", "9007199254740993", "9223372036854775808", "1e300"];
        for value in values.into_iter().chain(["true", "[]", "{}", "1e-3", "1e999"]) {
            for field in ["prompt_tokens", "output_tokens", "total_tokens", "reasoning_tokens"] {
                let raw = format!(r#"{{"{field}":{value}}}"#);
                assert_eq!(usage(&raw), Err(Insane), "{raw}");
            }
            let raw = format!(r#"{{"prompt_tokens_details":{{"cached_tokens":{value}}}}}"#);
            assert_eq!(usage(&raw), Err(Insane), "{raw}");
        }
        assert!(usage(r#"{"prompt_tokens":9007199254740992}"#).is_ok());
        for value in ["-1", "\"5\"", "9007199254740.993", "1e300", "true", "[]", "{}", "1e999"] {
            let raw = format!(r#"{{"seconds":{value}}}"#);
            assert_eq!(usage(&raw), Err(Insane), "{raw}");
        }
        for (cost, is_insane) in [("-1", true), ("\"1\"", true), ("{}", false), ("0.1", false)] {
            let raw = format!(r#"{{"total_tokens":1,"cost":{cost}}}"#);
            let stated = Stated::parse(raw.as_bytes()).expect(&raw);
            assert_eq!(stated.is_cost_insane, is_insane, "{raw}");
        }
    }

    #[test]
    fn a_later_statement_is_laid_over_an_earlier_one() {
        let start =
            Stated::parse(br#"{"input_tokens":5,"cache_read_input_tokens":2,"output_tokens":1}"#);
        let delta = Stated::parse(br#"{"input_tokens":0,"output_tokens":15}"#);
        let usage = start.unwrap().overlaid(&delta.unwrap()).usage(false).unwrap();
        assert_eq!((usage.input, usage.cached, usage.output, usage.total), (7, 2, 15, 22));
    }

    #[test]
    fn a_cost_that_cannot_be_stays_one_whatever_else_is_stated() {
        let stated = |cost| {
            let raw = format!(r#"{{"output_tokens":1,"cost":{cost}}}"#);
            Stated::parse(raw.as_bytes()).expect("the tokens are right")
        };
        for (earlier, later, is_insane) in
            [("1", "2", false), ("-1", "2", true), ("1", "-2", true), ("-1", "-2", true)]
        {
            let both = stated(earlier).overlaid(&stated(later));
            assert_eq!(both.is_cost_insane, is_insane, "{earlier}, then {later}");
        }
    }
}
