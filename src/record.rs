//! The two halves of a ledger row. `Opened` is written before the request goes upstream, `Closed`
//! before the end of its response is released; the drain joins them into a [`Row`].

use std::sync::Arc;

use crate::price::{Billed, PriceVersion};
use crate::usage::{End, Flags, Usage, UsageSource};

/// The id of one client request, also the answer's `x-request-id`: a UUIDv7 (RFC 9562 §5.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(pub [u8; 16]);

/// What is known before the request goes upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    pub event_id: EventId,
    /// Milliseconds since the Unix epoch.
    pub started_at_ms: i64,
    pub tenant: Arc<str>,
    pub key_id: Arc<str>,
    /// The model that the client asked for.
    pub model: Arc<str>,
    /// The name of the configured upstream.
    pub upstream: Arc<str>,
    /// The route's path, such as `/v1/chat/completions`.
    pub endpoint: Arc<str>,
    /// The estimate of the prompt, in tokens; part of `reserved_tokens`.
    pub estimated_input_tokens: u64,
    pub reserved_tokens: u64,
    /// The client asked for a stream.
    pub streamed: bool,
    /// The price that holds for it, if one does.
    pub price_version: Option<PriceVersion>,
}

/// What is known once the request has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    pub event_id: EventId,
    pub end: End,
    pub usage_source: UsageSource,
    pub usage: Usage,
    /// The price that it is charged by, where that is not the one of its `Opened`: the answer was from
    /// another model.
    pub price_version: Option<PriceVersion>,
    /// What it cost by that price, in nano-USD; `None` without one.
    pub cost_nano_usd: Option<u64>,
    /// Images in the answer.
    pub output_images: u64,
    /// The upstream's usage object as it was sent, up to 2 KiB.
    pub raw_usage: Option<Box<str>>,
    /// The model that the upstream says it used.
    pub model_served: Option<Box<str>>,
    /// The status that the client saw; 0 when it saw none.
    pub status: u16,
    pub upstream_status: Option<u16>,
    /// From the request's arrival to the first byte of the response, in milliseconds.
    pub ttfb_ms: Option<u64>,
    pub duration_ms: u64,
    /// How often the request was sent to an upstream.
    pub attempts: u32,
    pub flags: Flags,
    pub upstream_request_id: Option<Box<str>>,
    /// The upstream that it was sent to last, where that is not the one of its `Opened`.
    pub upstream: Option<Arc<str>>,
    /// What that one's key is called; empty where it has but one.
    pub upstream_key: Arc<str>,
    /// Where it had been before, in order, and how that went: a list in JSON.
    pub failed_attempts: Option<Box<str>>,
    /// Of a response that the upstream keeps: whose it is, and its items.
    pub owners: Box<[ResponseOwner]>,
}

/// The id of a response or of an item and its tenant, as a hash of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseOwner(pub u64);

/// One request, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub opened: Opened,
    pub closed: Closed,
}

impl EventId {
    /// The canonical text form: 36 characters, lower case.
    pub fn to_text(self) -> String {
        self.to_string()
    }

    /// The same without an allocation: what `write` makes of it.
    pub(crate) fn with_text<T>(self, write: impl FnOnce(&str) -> T) -> T {
        let mut buffer = uuid::Uuid::encode_buffer();
        write(uuid::Uuid::from_bytes(self.0).hyphenated().encode_lower(&mut buffer))
    }

    /// What the clock said that made it, in milliseconds since the Unix epoch; `None` for an id of
    /// another version than 7.
    pub(crate) fn made_at_ms(self) -> Option<i64> {
        let id = uuid::Uuid::from_bytes(self.0);
        let bytes = &self.0[..6];
        let ms = bytes.iter().fold(0, |ms, byte| ms << 8 | i64::from(*byte));
        (id.get_version_num() == 7).then_some(ms)
    }
}

impl std::fmt::Display for EventId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.with_text(|text| f.write_str(text))
    }
}

impl Row {
    /// The upstream that it was sent to last.
    pub(crate) fn upstream(&self) -> &Arc<str> {
        self.closed.upstream.as_ref().unwrap_or(&self.opened.upstream)
    }

    /// The price that it is charged by.
    pub(crate) fn price_version(&self) -> Option<PriceVersion> {
        self.closed.price_version.or(self.opened.price_version)
    }
}

impl Closed {
    /// What the request is charged for.
    pub(crate) fn billed(&self) -> Billed<'_> {
        Billed { usage: &self.usage, source: self.usage_source, images: self.output_images }
    }

    /// What stands for the missing half after a crash: the reservation is the estimate
    /// (prompt first, the rest as output), and nothing is known of the answer; the cost is not in it.
    pub fn crashed(opened: &Opened) -> Self {
        let input = opened.estimated_input_tokens.min(opened.reserved_tokens);
        Self {
            event_id: opened.event_id,
            end: End::Crashed,
            usage_source: UsageSource::Estimated,
            usage: Usage {
                input,
                output: opened.reserved_tokens - input,
                total: opened.reserved_tokens,
                ..Usage::default()
            },
            price_version: None,
            cost_nano_usd: None,
            output_images: 0,
            raw_usage: None,
            model_served: None,
            status: 0,
            upstream_status: None,
            ttfb_ms: None,
            duration_ms: 0,
            attempts: 1,
            flags: Flags::default(),
            upstream_request_id: None,
            upstream: None,
            upstream_key: "".into(),
            failed_attempts: None,
            owners: Box::default(),
        }
    }
}
