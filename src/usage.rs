//! What a request used, where the numbers came from, and how the request ended: the words that the
//! meter, the ledger and the reports share.

/// One usage record; what says no unit is a count of tokens. Cached and cache-written tokens are
/// part of `input`; reasoning and rejected predictions are part of `output`: neither is counted twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub input: u64,
    pub cached: u64,
    pub cache_write: u64,
    pub output: u64,
    pub reasoning: u64,
    pub audio_input: u64,
    pub audio_output: u64,
    pub image_input: u64,
    pub image_output: u64,
    pub accepted_prediction: u64,
    pub rejected_prediction: u64,
    /// Audio that is billed by its length and not in tokens, in milliseconds.
    pub audio_ms: u64,
    /// What the upstream itself says that this cost, in nano-USD; zero is a statement, too.
    pub reported_cost_nano_usd: Option<u64>,
    /// Input and output, which are brought in line with the upstream's own total.
    pub total: u64,
}

/// Where a row's numbers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum UsageSource {
    /// The upstream stated the final usage.
    Reported = 0,
    /// The last running usage of a stream that did not reach its end.
    Running = 1,
    /// Weir's own estimate, from sizes.
    Estimated = 2,
    /// The request did not run, or was refused by the upstream.
    None = 3,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum End {
    /// The end of the response was released to the client.
    Complete = 0,
    ClientClosed = 1,
    UpstreamError = 2,
    UpstreamTruncated = 3,
    UpstreamRejected = 4,
    Timeout = 5,
    QuotaCut = 6,
    NotSent = 7,
    Shutdown = 8,
    Crashed = 9,
}

/// Remarks on a row; a set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u32);

impl UsageSource {
    pub const ALL: [Self; 4] = [Self::Reported, Self::Running, Self::Estimated, Self::None];

    /// The name in the store and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Running => "running",
            Self::Estimated => "estimated",
            Self::None => "none",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|one| *one as u8 == code)
    }
}

impl End {
    pub const ALL: [Self; 10] = [
        Self::Complete,
        Self::ClientClosed,
        Self::UpstreamError,
        Self::UpstreamTruncated,
        Self::UpstreamRejected,
        Self::Timeout,
        Self::QuotaCut,
        Self::NotSent,
        Self::Shutdown,
        Self::Crashed,
    ];

    /// The name in the store and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientClosed => "client_closed",
            Self::UpstreamError => "upstream_error",
            Self::UpstreamTruncated => "upstream_truncated",
            Self::UpstreamRejected => "upstream_rejected",
            Self::Timeout => "timeout",
            Self::QuotaCut => "quota_cut",
            Self::NotSent => "not_sent",
            Self::Shutdown => "shutdown",
            Self::Crashed => "crashed",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|one| *one as u8 == code)
    }
}

impl Flags {
    /// A stream ended cleanly with a `finish_reason` or its usage, but without `[DONE]`.
    pub const NO_DONE: Self = Self(1);
    /// The upstream stated usage that cannot be: negative, decreasing, not a number, too large.
    pub const USAGE_SUSPECT: Self = Self(1 << 1);
    /// The client stopped reading until the write deadline.
    pub const STALLED: Self = Self(1 << 2);
    /// The client went away and the upstream was read to its end for the usage.
    pub const DRAINED: Self = Self(1 << 3);
    /// The request was sent again without the usage option, which the upstream had refused.
    pub const USAGE_OPTION_REFUSED: Self = Self(1 << 4);
    /// Nobody said what it used, and it may have used all that was reserved, which is booked.
    pub const RESERVED: Self = Self(1 << 5);
    /// The upstream's total is not its input plus its output, and nothing that it states says why.
    pub const TOTAL_DIFFERS: Self = Self(1 << 8);
    /// The answer came compressed in a way that is not read, or not to its end.
    pub const ENCODED: Self = Self(1 << 9);
    /// The answer names another model, whose price is not known: it is charged as the one asked for.
    pub const MODEL_DIFFERS: Self = Self(1 << 10);
    /// An answer, or a part of it, is in no form that is read.
    pub const UNREAD: Self = Self(1 << 11);
    /// The upstream answered with success and gave no answer.
    pub const NO_ANSWER: Self = Self(1 << 12);
    /// The model has no price, and a quota of cost let the request pass all the same.
    pub const UNPRICED: Self = Self(1 << 16);
    /// The row was dated by a clock that was ahead, and got another date afterwards.
    pub const REDATED: Self = Self(1 << 24);

    const NAMES: [(Self, &'static str); 13] = [
        (Self::NO_DONE, "no_done"),
        (Self::USAGE_SUSPECT, "usage_suspect"),
        (Self::STALLED, "stalled"),
        (Self::DRAINED, "drained"),
        (Self::USAGE_OPTION_REFUSED, "usage_option_refused"),
        (Self::RESERVED, "reserved"),
        (Self::UNPRICED, "unpriced"),
        (Self::TOTAL_DIFFERS, "total_differs"),
        (Self::ENCODED, "encoded"),
        (Self::MODEL_DIFFERS, "model_differs"),
        (Self::UNREAD, "unread"),
        (Self::NO_ANSWER, "no_answer"),
        (Self::REDATED, "redated"),
    ];

    pub fn set(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names of the bits that are set, in a fixed order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(bit, _)| self.contains(*bit)).map(|(_, name)| name)
    }
}
