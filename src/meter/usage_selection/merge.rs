//! How two statements of one response become one.

use crate::usage::Usage;

/// Whether it says of everything that nothing was used.
pub(super) fn is_zero(usage: &Usage) -> bool {
    let reported_cost_nano_usd = usage.reported_cost_nano_usd.filter(|cost| *cost > 0);
    Usage { reported_cost_nano_usd, ..*usage } == Usage::default()
}

pub(super) fn takes_back(usage: &Usage, last: &Usage) -> bool {
    usage.output < last.output || usage.audio_ms < last.audio_ms
}

/// Zeros are how some servers leave out what they have stated before.
pub(super) fn fill_in(usage: &mut Usage, last: &Usage) {
    if usage.input == 0 {
        let Usage { input, cached, cache_write, audio_input, image_input, .. } = *last;
        *usage = Usage { input, cached, cache_write, audio_input, image_input, ..*usage };
    }
    if usage.output == 0 {
        let Usage { output, reasoning, audio_output, image_output, .. } = *last;
        *usage = Usage { output, reasoning, audio_output, image_output, ..*usage };
    }
    usage.total = usage.input + usage.output;
}

/// What a tool used, besides: another prompt and another answer.
pub(super) fn on_top(usage: Usage, apart: Usage) -> Usage {
    Usage {
        cached: usage.cached + apart.cached,
        cache_write: usage.cache_write + apart.cache_write,
        audio_input: usage.audio_input + apart.audio_input,
        image_input: usage.image_input + apart.image_input,
        ..beside(usage, apart, usage.input + apart.input)
    }
}

/// Two statements about one prompt that go together: of what was read the details were read once,
/// what was written adds up. Counts are at most 2^53, and there are at most 128: the sums fit.
pub(super) fn beside(left: Usage, right: Usage, input: u64) -> Usage {
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
