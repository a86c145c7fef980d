//! The names by which usage goes in all dialects, and in which container.

use super::usage_object::{
    ACCEPTED, AUDIO_INPUT, AUDIO_OUTPUT, CACHE_WRITE, CACHED, IMAGE_INPUT, IMAGE_OUTPUT, INPUT,
    OUTPUT, REASONING, REJECTED, TOTAL,
};

/// Decimal places of a second that are kept: milliseconds.
pub(super) const SECOND_PLACES: i64 = 3;
/// Decimal places of a US dollar that are kept: nano-USD.
const USD_PLACES: i64 = 9;
/// A tick of xAI is a tenth of a nano-USD (docs.x.ai/developers/cost-tracking).
const TICK_PLACES: i64 = -1;

/// What a name stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Field {
    #[default]
    Other,
    Count(usize),
    /// Tokens that add up to those written to the cache.
    Written,
    Seconds,
    Usd(i64),
    /// An object with more of the same, or null.
    Inside(Within),
    /// The type of an iteration.
    Kind,
}

/// A container of a usage object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Within {
    Top,
    InputDetails,
    OutputDetails,
    /// Anthropic's cache writes by how long they last.
    CacheCreation,
    /// What the request cost, in parts.
    Cost,
    /// Cohere's tokens that are paid for; beside them stand those that were run.
    Billed,
    /// Anthropic's turns within one request: the list, and one of them.
    Iterations,
    Iteration,
    /// In the place of details: an empty list is how some languages write an empty object.
    List,
    /// Not looked into.
    #[default]
    Nothing,
}

impl Within {
    pub(super) fn names(self) -> Names {
        match self {
            Self::Top => TOP,
            Self::InputDetails => INPUT_DETAILS,
            Self::OutputDetails => OUTPUT_DETAILS,
            Self::CacheCreation => CACHE_CREATION,
            Self::Cost => COST,
            Self::Billed => BILLED,
            Self::Iteration => ITERATION,
            Self::Iterations | Self::List | Self::Nothing => &[],
        }
    }

    pub(super) fn is_details(self) -> bool {
        matches!(self, Self::InputDetails | Self::OutputDetails)
    }
}

/// By their names, which no container may have twice. The same count by several names is the largest of
/// them: where two are there, one is a zero or a part.
pub(super) type Names = &'static [(&'static [u8], Field)];

pub(super) const TOP: Names = &[
    (b"prompt_tokens", Field::Count(INPUT)),
    (b"completion_tokens", Field::Count(OUTPUT)),
    (b"total_tokens", Field::Count(TOTAL)),
    (b"prompt_tokens_details", Field::Inside(Within::InputDetails)),
    (b"completion_tokens_details", Field::Inside(Within::OutputDetails)),
    (b"input_tokens", Field::Count(INPUT)),
    (b"output_tokens", Field::Count(OUTPUT)),
    (b"input_tokens_details", Field::Inside(Within::InputDetails)),
    (b"output_tokens_details", Field::Inside(Within::OutputDetails)),
    // Transcriptions spell it so.
    (b"input_token_details", Field::Inside(Within::InputDetails)),
    (b"output_token_details", Field::Inside(Within::OutputDetails)),
    // Anthropic.
    (b"cache_read_input_tokens", Field::Count(CACHED)),
    (b"cache_creation_input_tokens", Field::Count(CACHE_WRITE)),
    (b"cache_creation", Field::Inside(Within::CacheCreation)),
    (b"iterations", Field::Inside(Within::Iterations)),
    // DeepSeek; Moonshot; and others who leave the details out.
    (b"prompt_cache_hit_tokens", Field::Count(CACHED)),
    (b"cached_tokens", Field::Count(CACHED)),
    (b"num_cached_tokens", Field::Count(CACHED)),
    (b"cache_write_tokens", Field::Count(CACHE_WRITE)),
    // SGLang and Perplexity; a fork of llama.cpp.
    (b"reasoning_tokens", Field::Count(REASONING)),
    (b"reasoning", Field::Count(REASONING)),
    (b"image_tokens", Field::Count(IMAGE_OUTPUT)),
    // Audio that is billed by its length: OpenAI, Mistral.
    (b"seconds", Field::Seconds),
    (b"prompt_audio_seconds", Field::Seconds),
    (b"audio_seconds", Field::Seconds),
    // OpenRouter and LiteLLM; xAI. Elsewhere the cost is an object.
    (b"cost", Field::Usd(USD_PLACES)),
    (b"cost_in_usd_ticks", Field::Usd(TICK_PLACES)),
    // Ollama; llama.cpp's `timings`.
    (b"prompt_eval_count", Field::Count(INPUT)),
    (b"eval_count", Field::Count(OUTPUT)),
    (b"prompt_n", Field::Count(INPUT)),
    (b"predicted_n", Field::Count(OUTPUT)),
    (b"cache_n", Field::Count(CACHED)),
    // Gemini's own words, which some translations leave as they are.
    (b"promptTokenCount", Field::Count(INPUT)),
    (b"candidatesTokenCount", Field::Count(OUTPUT)),
    (b"thoughtsTokenCount", Field::Count(REASONING)),
    (b"cachedContentTokenCount", Field::Count(CACHED)),
    (b"totalTokenCount", Field::Count(TOTAL)),
    // Bedrock's own words, and those of SDKs.
    (b"inputTokens", Field::Count(INPUT)),
    (b"outputTokens", Field::Count(OUTPUT)),
    (b"totalTokens", Field::Count(TOTAL)),
    (b"cacheReadInputTokens", Field::Count(CACHED)),
    (b"cacheWriteInputTokens", Field::Count(CACHE_WRITE)),
    (b"promptTokens", Field::Count(INPUT)),
    (b"completionTokens", Field::Count(OUTPUT)),
    // Cohere's own.
    (b"billed_units", Field::Inside(Within::Billed)),
];

pub(super) const BILLED: Names =
    &[(b"input_tokens", Field::Count(INPUT)), (b"output_tokens", Field::Count(OUTPUT))];

pub(super) const INPUT_DETAILS: Names = &[
    (b"cached_tokens", Field::Count(CACHED)),
    (b"audio_tokens", Field::Count(AUDIO_INPUT)),
    (b"image_tokens", Field::Count(IMAGE_INPUT)),
    (b"cache_write_tokens", Field::Count(CACHE_WRITE)),
    // DashScope; LiteLLM.
    (b"cache_creation_input_tokens", Field::Count(CACHE_WRITE)),
    (b"cache_creation_tokens", Field::Count(CACHE_WRITE)),
    (b"cache_read_input_tokens", Field::Count(CACHED)),
    (b"cache_creation", Field::Inside(Within::CacheCreation)),
];

pub(super) const OUTPUT_DETAILS: Names = &[
    (b"reasoning_tokens", Field::Count(REASONING)),
    (b"audio_tokens", Field::Count(AUDIO_OUTPUT)),
    (b"image_tokens", Field::Count(IMAGE_OUTPUT)),
    (b"accepted_prediction_tokens", Field::Count(ACCEPTED)),
    (b"rejected_prediction_tokens", Field::Count(REJECTED)),
];

pub(super) const CACHE_CREATION: Names = &[
    (b"ephemeral_5m_input_tokens", Field::Written),
    (b"ephemeral_1h_input_tokens", Field::Written),
];

pub(super) const COST: Names = &[(b"total_cost", Field::Usd(USD_PLACES))];

pub(super) const ITERATION: Names = &[
    (b"type", Field::Kind),
    (b"input_tokens", Field::Count(INPUT)),
    (b"output_tokens", Field::Count(OUTPUT)),
    (b"cache_read_input_tokens", Field::Count(CACHED)),
    (b"cache_creation_input_tokens", Field::Count(CACHE_WRITE)),
];

/// Names by which a prompt's tokens include those of the cache.
pub(super) const INCLUSIVE: &[&[u8]] =
    &[b"prompt_tokens", b"input_tokens_details", b"promptTokenCount"];
/// Names by which the cache's tokens stand beside the prompt's, if nothing says otherwise.
pub(super) const APART: &[&[u8]] = &[
    b"cache_read_input_tokens",
    b"cache_creation_input_tokens",
    b"cache_creation",
    b"cache_n",
    b"cacheReadInputTokens",
    b"cacheWriteInputTokens",
];
