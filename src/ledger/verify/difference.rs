//! What `weir verify` lists: one number that differs, as output shows it.

use std::borrow::Cow;

use serde::Serialize;

use crate::store::Sums;

/// One number that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    /// `rollup`, `day` (the sum of a day's roll-ups), `balance`, `row` (what the journal says of it), `cost`,
    /// `file`, `future` (a row that is dated to it) or `clock` (the time that was confirmed).
    pub what: &'static str,
    /// The hour of a roll-up, the begin of a day, the window of a balance, the event id of a row or a cost.
    pub place: String,
    pub tenant: String,
    pub key_id: String,
    pub model: String,
    pub field: Cow<'static, str>,
    pub stored: String,
    pub recomputed: String,
}

impl Difference {
    pub(super) fn plain(
        what: &'static str,
        place: &str,
        field: &'static str,
        stored: String,
        recomputed: String,
    ) -> Self {
        let (tenant, key_id, model) = (String::new(), String::new(), String::new());
        let field = Cow::Borrowed(field);
        Self { what, place: place.to_owned(), tenant, key_id, model, field, stored, recomputed }
    }
}

pub(super) fn or_none(cost: Option<impl ToString>) -> String {
    cost.map_or("none".to_owned(), |cost| cost.to_string())
}

/// The columns of a roll-up.
pub(super) fn fields(sums: &Sums) -> [(&'static str, String); 16] {
    let usage = &sums.usage;
    [
        ("requests", sums.requests.to_string()),
        ("estimated_requests", sums.estimated_requests.to_string()),
        ("unpriced_requests", sums.unpriced_requests.to_string()),
        ("input_tokens", usage.input.to_string()),
        ("cached_tokens", usage.cached.to_string()),
        ("cache_write_tokens", usage.cache_write.to_string()),
        ("output_tokens", usage.output.to_string()),
        ("reasoning_tokens", usage.reasoning.to_string()),
        ("audio_input_tokens", usage.audio_input.to_string()),
        ("audio_output_tokens", usage.audio_output.to_string()),
        ("image_input_tokens", usage.image_input.to_string()),
        ("image_output_tokens", usage.image_output.to_string()),
        ("accepted_prediction_tokens", usage.accepted_prediction.to_string()),
        ("rejected_prediction_tokens", usage.rejected_prediction.to_string()),
        ("total_tokens", usage.total.to_string()),
        ("cost_nano_usd", or_none(sums.cost_nano_usd)),
    ]
}
