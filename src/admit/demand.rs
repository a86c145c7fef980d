//! What a request asks of admission.

/// The place of a key among its tenant's; good for the [`super::TenantLimiter`] that gave it, as long as its
/// [`super::SlotGuard`] is held or something of the key is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KeySlot(pub(super) usize);

impl KeySlot {
    #[cfg(test)]
    pub(crate) fn index(self) -> usize {
        self.0
    }
}

/// What a request wants; by default nothing but to be one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Demand {
    /// The estimate of the prompt alone.
    pub(crate) prompt_tokens: u64,
    /// The prompt plus all that the answer may be.
    pub(crate) reserve_tokens: u64,
    /// What all of it would cost, in billionths of a dollar; 0 without a price.
    pub(crate) reserve_nano_usd: u64,
    /// The answer may be made smaller, to fit into what the quotas have left.
    pub(crate) clamp: Option<Clamp>,
}

/// How an answer is made smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clamp {
    /// Answers asked for (`n`), which share what is left.
    pub(crate) choices: u64,
    /// What the prompt alone would cost, in billionths of a dollar.
    pub(crate) prompt_nano_usd: u64,
    /// The price of an output token, in trillionths of a dollar.
    pub(crate) output_pico_usd: u64,
}
