//! One worker's metrics, with a method for each thing that happens. All label values come from the
//! lists here, so that no client can make the number of time series grow.

use std::sync::Arc;

use super::cells::{Counter, Gauge, Histogram};
use crate::usage::{End, Usage};

const MS: u64 = 1_000_000;
const S: u64 = 1_000 * MS;

/// Buckets for whole requests and for the time to their first byte, in nanoseconds.
pub(super) const REQUEST_BOUNDS_NS: [u64; 16] = [
    MS,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    S,
    5 * S / 2,
    5 * S,
    10 * S,
    30 * S,
    60 * S,
    120 * S,
    300 * S,
];

/// Buckets for appends to the journal, in nanoseconds: from the page cache to a stalled disk.
pub(super) const APPEND_BOUNDS_NS: [u64; 10] =
    [1_000, 2_000, 5_000, 10_000, 50_000, 250_000, MS, 10 * MS, 100 * MS, S];

/// Statuses with a label of their own; others count under their class, such as `4xx`.
pub(super) const STATUSES: [u16; 19] =
    [200, 204, 400, 401, 403, 404, 405, 408, 413, 415, 422, 429, 431, 500, 501, 502, 503, 504, 529];

/// The rest of the statuses: by their first digit, and `none` where the client saw none.
pub(super) const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The codes of refusals, ours and those for upstream faults.
pub(super) const REFUSALS: [&str; 33] = [
    "invalid_api_key",
    "not_found",
    "method_not_allowed",
    "invalid_request",
    "model_not_found",
    "model_unpriced",
    "previous_response_not_found",
    "id_not_allowed",
    "request_too_large",
    "request_timeout",
    "unsupported_media_type",
    "unsupported_transfer_encoding",
    "request_exceeds_limit",
    "rate_limit_exceeded",
    "insufficient_quota",
    "overloaded",
    "ledger_unavailable",
    "shutting_down",
    "internal_error",
    "upstream_dns",
    "upstream_dns_timeout",
    "upstream_connect",
    "upstream_connect_timeout",
    "upstream_tls",
    "upstream_reset",
    "upstream_timeout",
    "upstream_protocol",
    "upstream_truncated",
    "upstream_idle_timeout",
    "upstream_auth",
    "upstream_error",
    "server_shutdown",
    OTHER,
];

/// What can refuse a request for now: the names in `x-weir-limit`, which are those of admission, and others.
pub(crate) const LIMITS: [&str; 21] = [
    "key-requests",
    "key-tokens",
    "key-concurrency",
    "key-daily-tokens",
    "key-monthly-tokens",
    "key-daily-requests",
    "key-monthly-requests",
    "key-daily-usd",
    "key-monthly-usd",
    "tenant-requests",
    "tenant-tokens",
    "tenant-concurrency",
    "tenant-daily-tokens",
    "tenant-monthly-tokens",
    "tenant-daily-requests",
    "tenant-monthly-requests",
    "tenant-daily-usd",
    "tenant-monthly-usd",
    "failed-keys",
    "tenant-body-bytes",
    OTHER,
];

/// The quotas among them.
pub(crate) const QUOTAS: [&str; 12] = [
    "key-daily-tokens",
    "key-monthly-tokens",
    "key-daily-requests",
    "key-monthly-requests",
    "key-daily-usd",
    "key-monthly-usd",
    "tenant-daily-tokens",
    "tenant-monthly-tokens",
    "tenant-daily-requests",
    "tenant-monthly-requests",
    "tenant-daily-usd",
    "tenant-monthly-usd",
];

/// How an answer is charged that is from another model than the one asked for: as that one, or as the one
/// that was asked for.
pub(super) const CHARGED: [&str; 2] = ["served", "asked"];

/// The label of what is not in a list.
pub(super) const OTHER: &str = "other";

/// The kinds of tokens, in the order of [`Shard::tokens`].
pub(super) const TOKEN_KINDS: [&str; 4] = ["input", "cached", "output", "reasoning"];

/// The routes, as the `endpoint` label names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    ChatCompletions,
    Responses,
    Messages,
    CountTokens,
    Embeddings,
    Completions,
    ImageGenerations,
    ImageEdits,
    ImageVariations,
    AudioTranscriptions,
    AudioTranslations,
    AudioSpeech,
    Moderations,
    Models,
    Model,
    /// No route: every unknown path together.
    Unknown,
}

/// What is held for a while and counted as long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// A request, from its head to the end of its response.
    Request,
    /// A client's connection.
    Client,
    /// A connection to an upstream, busy or idle.
    Upstream,
    /// A connection to an upstream that waits for a request.
    UpstreamIdle,
    /// A journal that waits for a sync that does not return.
    JournalStalled,
}

/// One more of a [`Level`], until it is dropped.
#[derive(Debug)]
pub(crate) struct LevelGuard {
    shard: Arc<Shard>,
    level: Level,
}

/// The metrics of one worker. Only its thread may count here; everyone may read.
#[derive(Debug)]
// Two workers' shards must never share a cache line.
#[repr(align(128))]
pub(crate) struct Shard {
    /// By endpoint, then by status: [`STATUSES`], then [`CLASSES`].
    pub(super) requests: [[Counter; STATUSES.len() + CLASSES.len()]; Endpoint::ALL.len()],
    pub(super) ends: [Counter; End::ALL.len()],
    pub(super) duration: Histogram,
    pub(super) first_byte: Histogram,
    /// By model, the last one for all others; then by [`TOKEN_KINDS`].
    pub(super) tokens: Box<[[Counter; TOKEN_KINDS.len()]]>,
    /// By [`CHARGED`].
    pub(super) model_differs: [Counter; CHARGED.len()],
    pub(super) refusals: [Counter; REFUSALS.len()],
    pub(super) admitted: Counter,
    pub(super) limited: [Counter; LIMITS.len()],
    pub(super) upstream_opened: Counter,
    pub(super) upstream_reused: Counter,
    pub(super) usage_options_refused: Counter,
    pub(super) failovers: Counter,
    pub(super) retries_refused: Counter,
    pub(super) journal_records: Counter,
    pub(super) journal_bytes: Counter,
    pub(super) journal_errors: Counter,
    pub(super) journal_append: Histogram,
    levels: [Gauge; Level::COUNT],
}

impl Endpoint {
    pub(super) const ALL: [Self; 16] = [
        Self::ChatCompletions,
        Self::Responses,
        Self::Messages,
        Self::CountTokens,
        Self::Embeddings,
        Self::Completions,
        Self::ImageGenerations,
        Self::ImageEdits,
        Self::ImageVariations,
        Self::AudioTranscriptions,
        Self::AudioTranslations,
        Self::AudioSpeech,
        Self::Moderations,
        Self::Models,
        Self::Model,
        Self::Unknown,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/v1/chat/completions",
            Self::Responses => "/v1/responses",
            Self::Messages => "/v1/messages",
            Self::CountTokens => "/v1/messages/count_tokens",
            Self::Embeddings => "/v1/embeddings",
            Self::Completions => "/v1/completions",
            Self::ImageGenerations => "/v1/images/generations",
            Self::ImageEdits => "/v1/images/edits",
            Self::ImageVariations => "/v1/images/variations",
            Self::AudioTranscriptions => "/v1/audio/transcriptions",
            Self::AudioTranslations => "/v1/audio/translations",
            Self::AudioSpeech => "/v1/audio/speech",
            Self::Moderations => "/v1/moderations",
            Self::Models => "/v1/models",
            Self::Model => "/v1/models/{id}",
            Self::Unknown => "unknown",
        }
    }
}

impl Level {
    const COUNT: usize = 5;
}

impl Shard {
    /// A shard that knows `models` models by index.
    pub(super) fn new(models: usize) -> Self {
        Self {
            requests: Default::default(),
            ends: Default::default(),
            duration: Histogram::new(&REQUEST_BOUNDS_NS),
            first_byte: Histogram::new(&REQUEST_BOUNDS_NS),
            tokens: (0..=models).map(|_| Default::default()).collect(),
            model_differs: std::array::from_fn(|_| Counter::default()),
            refusals: std::array::from_fn(|_| Counter::default()),
            admitted: Counter::default(),
            limited: Default::default(),
            upstream_opened: Counter::default(),
            upstream_reused: Counter::default(),
            usage_options_refused: Counter::default(),
            failovers: Counter::default(),
            retries_refused: Counter::default(),
            journal_records: Counter::default(),
            journal_bytes: Counter::default(),
            journal_errors: Counter::default(),
            journal_append: Histogram::new(&APPEND_BOUNDS_NS),
            levels: Default::default(),
        }
    }

    /// Counts an answer by the status that the client saw; 0 when it saw none.
    pub(crate) fn request(&self, endpoint: Endpoint, status: u16) {
        let known = STATUSES.iter().position(|known| *known == status);
        let class = usize::from(status / 100).min(CLASSES.len() - 1);
        self.requests[endpoint as usize][known.unwrap_or(STATUSES.len() + class)].add(1);
    }

    /// Counts the end of a request that was sent upstream, however it ended.
    pub(crate) fn ended(&self, end: End, duration_ns: u64) {
        self.ends[end as usize].add(1);
        self.duration.observe(duration_ns);
    }

    /// Counts the first byte of a response from upstream, since the request's arrival.
    pub(crate) fn first_byte(&self, ns: u64) {
        self.first_byte.observe(ns);
    }

    /// Counts what a request used. `model` is the index among the models that the metrics were
    /// made with; any other number counts as `other`.
    pub(crate) fn tokens(&self, model: usize, usage: &Usage) {
        let counters = &self.tokens[model.min(self.tokens.len() - 1)];
        let counts = [usage.input, usage.cached, usage.output, usage.reasoning];
        for (counter, count) in counters.iter().zip(counts) {
            counter.add(count);
        }
    }

    /// Counts an answer that is from another model than the one asked for; `is_known`: it is charged as that.
    pub(crate) fn model_differs(&self, is_known: bool) {
        self.model_differs[usize::from(!is_known)].add(1);
    }

    /// Counts an answer that Weir gave instead of an upstream, by its `code`.
    pub(crate) fn refused(&self, code: &str) {
        self.refusals[place(&REFUSALS, code)].add(1);
    }

    /// Counts a request that passed all limits.
    pub(crate) fn admitted(&self) {
        self.admitted.add(1);
    }

    /// Counts a request that a limit stopped, by the limit's name in `x-weir-limit`.
    pub(crate) fn limited(&self, limit: &str) {
        self.limited[place(&LIMITS, limit)].add(1);
    }

    /// Counts a new connection to an upstream.
    pub(crate) fn upstream_opened(&self) {
        self.upstream_opened.add(1);
    }

    /// Counts a request that went over an idle connection.
    pub(crate) fn upstream_reused(&self) {
        self.upstream_reused.add(1);
    }

    /// Counts a stream whose upstream refuses to be asked for its usage.
    pub(crate) fn usage_option_refused(&self) {
        self.usage_options_refused.add(1);
    }

    /// Counts a request that is tried with another candidate.
    pub(crate) fn failed_over(&self) {
        self.failovers.add(1);
    }

    /// Counts one that is not, because too many were.
    pub(crate) fn retry_refused(&self) {
        self.retries_refused.add(1);
    }

    /// Counts records that were appended to the journal at once, and how long that took.
    pub(crate) fn journal_appended(&self, records: u64, bytes: u64, ns: u64) {
        self.journal_records.add(records);
        self.journal_bytes.add(bytes);
        self.journal_append.observe(ns);
    }

    /// Counts an append that failed.
    pub(crate) fn journal_failed(&self) {
        self.journal_errors.add(1);
    }

    /// Counts one more of `level` until the guard is dropped.
    pub(crate) fn hold(self: &Arc<Self>, level: Level) -> LevelGuard {
        self.levels[level as usize].add(1);
        LevelGuard { shard: self.clone(), level }
    }

    /// How many of `level` there are now.
    pub(crate) fn level(&self, level: Level) -> u64 {
        self.levels[level as usize].value()
    }
}

impl Drop for LevelGuard {
    fn drop(&mut self) {
        self.shard.levels[self.level as usize].add(-1);
    }
}

/// Where `name` stands in a list whose last place is for everything else.
fn place(names: &[&str], name: &str) -> usize {
    names.iter().position(|known| *known == name).unwrap_or(names.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_counts_as_other() {
        let shard = Shard::new(2);
        let usage = Usage { input: 3, cached: 1, output: 5, ..Usage::default() };
        shard.tokens(0, &usage);
        shard.tokens(2, &usage);
        shard.tokens(usize::MAX, &usage);
        let input: Vec<u64> = shard.tokens.iter().map(|kinds| kinds[0].value()).collect();
        assert_eq!(input, [3, 0, 6]);
        assert_eq!(shard.tokens[2].each_ref().map(Counter::value), [6, 2, 10, 0]);
        shard.refused("a code that a later version invents");
        assert_eq!(shard.refusals[REFUSALS.len() - 1].value(), 1);
        shard.limited("key-tokens");
        assert_eq!(shard.limited[1].value(), 1);
    }

    #[test]
    fn statuses_are_a_bounded_set() {
        let shard = Shard::new(0);
        for status in 0..=u16::MAX {
            shard.request(Endpoint::ChatCompletions, status);
        }
        let counts = shard.requests[Endpoint::ChatCompletions as usize].each_ref();
        let counts = counts.map(Counter::value);
        assert!(counts[..STATUSES.len()].iter().all(|count| *count == 1), "{counts:?}");
        assert_eq!(counts[STATUSES.len()..STATUSES.len() + 3], [100, 100, 98]);
        assert_eq!(counts.iter().sum::<u64>(), 65_536);
    }

    #[test]
    fn a_level_falls_when_its_guard_is_dropped() {
        let shard = Arc::new(Shard::new(0));
        let held = [shard.hold(Level::Request), shard.hold(Level::Request)];
        let other = shard.hold(Level::UpstreamIdle);
        assert_eq!((shard.level(Level::Request), shard.level(Level::UpstreamIdle)), (2, 1));
        drop(held);
        assert_eq!((shard.level(Level::Request), shard.level(Level::UpstreamIdle)), (0, 1));
        drop(other);
        assert_eq!(shard.level(Level::UpstreamIdle), 0);
    }
}
