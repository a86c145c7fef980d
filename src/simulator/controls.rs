//! What one request asks of the simulator itself, in headers that a gateway passes on: `x-sim-…`.
//! What a request doesn't say is as the [`Options`] have it.

use std::str::FromStr;

use http::HeaderMap;

use super::dialect::Dialect;
use super::options::{Mode, Options, StreamOptions, UsageForm};
use super::refusal::Refusal;

/// The largest `x-sim-pad-bytes`, so that a request can't ask for gigabytes at once.
const MAX_PAD_BYTES: usize = 1 << 20;
/// The largest `x-sim-tokens`.
const MAX_TOKENS: u64 = 10_000_000;
/// The largest `x-sim-picture-scale`: at 16 a picture has the pixels that were asked for.
const MAX_SCALE: u32 = 16;

/// A header that a request may have.
struct Header {
    /// After `x-sim-`.
    name: &'static str,
    /// What it may be, for `docs/simulator.md`.
    #[cfg_attr(not(test), expect(dead_code, reason = "the documentation is compared with it"))]
    values: &'static str,
    /// Takes it over; `None` if it makes no sense.
    set: fn(&mut Controls, &str) -> Option<()>,
}

/// All of them.
const HEADERS: [Header; 14] = [
    Header {
        name: "mode",
        values: "`full`, `literal` (the documents' examples as printed), `literal-bare` (JSON mode without an envelope, too)",
        set: |it, text| {
            (it.mode, it.bare_json) = mode(text)?;
            Some(())
        },
    },
    Header {
        name: "dialect",
        values: "whose form chat has: see below",
        set: |it, text| put(&mut it.dialect, Dialect::named(text)),
    },
    Header {
        name: "usage",
        values: "`standard` (three sums), `extended` (their details, too), `none`",
        set: |it, text| put(&mut it.asked_usage, usage_form(text).map(Some)),
    },
    Header {
        name: "stream-options",
        values: "`honour`, `ignore`, `refuse` (400)",
        set: |it, text| put(&mut it.stream_options, stream_options(text)),
    },
    Header {
        name: "head-ms",
        values: "milliseconds until the head",
        set: |it, text| put(&mut it.head_ms, text.parse().ok()),
    },
    Header {
        name: "first-token-ms",
        values: "milliseconds from the head to the first token",
        set: |it, text| put(&mut it.first_token_ms, text.parse().ok()),
    },
    Header {
        name: "interval-ms",
        values: "milliseconds between two tokens",
        set: |it, text| put(&mut it.interval_ms, text.parse().ok()),
    },
    Header {
        name: "tokens",
        values: "length of a text answer, up to 10,000,000",
        set: |it, text| put(&mut it.tokens, up_to(text, MAX_TOKENS).map(Some)),
    },
    Header {
        name: "pad-bytes",
        values: "bytes of content that every token has in addition, up to 1,048,576",
        set: |it, text| put(&mut it.pad_bytes, up_to(text, MAX_PAD_BYTES)),
    },
    Header {
        name: "stamp",
        values: "`1`: events of a stream say when they were sent",
        set: |it, text| put(&mut it.stamp, up_to(text, 1).map(|stamp| stamp == 1)),
    },
    Header {
        name: "picture-scale",
        values: "1 to 16: pictures this many times as wide and high; 16 is full size",
        set: |it, text| put(&mut it.picture_scale, up_to(text, MAX_SCALE).map(|it| it.max(1))),
    },
    Header {
        name: "error",
        values: "`400`, `401`, `429`, `500`, `503`, `invalid_image`; `429:2`: until an official SDK's second retry",
        set: |it, text| put(&mut it.error, error(text, it.retries)),
    },
    Header {
        name: "fault",
        values: "`cut:3`: the connection ends after three events; also `reset`, `stall`, `error` (an error event), `no-done`, `close` (before the head)",
        set: |it, text| put(&mut it.fault, fault(text).map(Some)),
    },
    Header { name: "tag", values: "names the request in the record", set: |_, _| Some(()) },
];

/// Everything that can be set for one request.
#[derive(Debug)]
pub(super) struct Controls {
    pub mode: Mode,
    pub bare_json: bool,
    pub usage: UsageForm,
    pub stream_options: StreamOptions,
    pub dialect: &'static Dialect,
    /// Milliseconds until the head of the answer.
    pub head_ms: u64,
    /// Milliseconds from the head to the first token.
    pub first_token_ms: u64,
    pub interval_ms: u64,
    pub tokens: Option<u64>,
    /// Bytes of content that every token has in addition.
    pub pad_bytes: usize,
    /// Events of a stream say when they were sent.
    pub stamp: bool,
    pub picture_scale: u32,
    /// The answer, if it is to be an error.
    pub error: Option<Refusal>,
    pub fault: Option<Fault>,
    /// What was asked for; else it is as the mode has it.
    asked_usage: Option<UsageForm>,
    /// How often an official SDK says that it has tried again.
    retries: u64,
}

/// Where an answer breaks, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub kind: FaultKind,
    /// Events of the stream that are sent before.
    pub after: u64,
}

/// How an answer breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// The connection is closed without the last chunk.
    Cut,
    /// As `Cut`, but with a TCP reset.
    Reset,
    /// Nothing comes any more, the connection stays open.
    Stall,
    /// An `error` event, then the end with `[DONE]`.
    Error,
    /// A clean end without `[DONE]`.
    NoDone,
    /// The connection is closed before the head.
    Close,
}

impl Controls {
    /// Reads the headers of one request.
    ///
    /// # Errors
    /// A 400 that names the header which makes no sense.
    pub(super) fn read(headers: &HeaderMap, options: &Options) -> Result<Self, Refusal> {
        let mut controls = Self {
            mode: options.mode,
            bare_json: options.bare_json,
            usage: UsageForm::Extended,
            stream_options: options.stream_options,
            dialect: options.dialect,
            head_ms: 0,
            first_token_ms: options.first_token_ms,
            interval_ms: options.token_interval_ms,
            tokens: options.answer_tokens,
            pad_bytes: 0,
            stamp: false,
            picture_scale: 1,
            error: None,
            fault: None,
            asked_usage: options.usage,
            retries: headers
                .get("x-stainless-retry-count")
                .and_then(|value| value.to_str().ok()?.parse().ok())
                .unwrap_or(0),
        };
        for (name, value) in headers {
            let known = name.as_str().strip_prefix("x-sim-");
            // Unknown ones have no effect.
            if let Some(header) = HEADERS.iter().find(|header| Some(header.name) == known) {
                let read = value.to_str().ok().and_then(|text| (header.set)(&mut controls, text));
                read.ok_or_else(|| Refusal::invalid(format!("{name} makes no sense")))?;
            }
        }
        // The documents print their streams in one form; another one has to be asked for by name.
        let unsaid = controls.dialect.name() == Dialect::openai().name()
            && !headers.contains_key("x-sim-dialect");
        if controls.mode == Mode::Literal && unsaid {
            controls.dialect = Dialect::documents();
        }
        controls.usage = controls.asked_usage.unwrap_or(match controls.mode {
            Mode::Full => UsageForm::Extended,
            Mode::Literal => UsageForm::Standard,
        });
        Ok(controls)
    }
}

/// Puts a value in its place, if it makes sense.
fn put<T>(place: &mut T, value: Option<T>) -> Option<()> {
    *place = value?;
    Some(())
}

fn up_to<T: FromStr + PartialOrd>(text: &str, most: T) -> Option<T> {
    text.parse().ok().filter(|value| *value <= most)
}

fn mode(text: &str) -> Option<(Mode, bool)> {
    match text {
        "full" => Some((Mode::Full, false)),
        "literal" => Some((Mode::Literal, false)),
        "literal-bare" => Some((Mode::Literal, true)),
        _ => None,
    }
}

fn usage_form(text: &str) -> Option<UsageForm> {
    match text {
        "standard" => Some(UsageForm::Standard),
        "extended" => Some(UsageForm::Extended),
        "none" => Some(UsageForm::Absent),
        _ => None,
    }
}

fn stream_options(text: &str) -> Option<StreamOptions> {
    match text {
        "honour" => Some(StreamOptions::Honour),
        "ignore" => Some(StreamOptions::Ignore),
        "refuse" => Some(StreamOptions::Refuse),
        _ => None,
    }
}

/// `429`, or `429:2`: only while an official SDK says that it has retried fewer than 2 times.
fn error(text: &str, retries: u64) -> Option<Option<Refusal>> {
    let (what, tries) = match text.split_once(':') {
        Some((what, tries)) => (what, tries.parse::<u64>().ok()?),
        None => (text, u64::MAX),
    };
    let refusal = match what {
        "400" => Refusal::invalid("asked for"),
        "401" => Refusal::bad_key("asked for"),
        "429" => Refusal::rate_limit(),
        "500" => Refusal::server_error(),
        "503" => Refusal::overloaded(),
        "invalid_image" => Refusal::invalid_image("asked for"),
        _ => return None,
    };
    Some((retries < tries).then_some(refusal))
}

/// `cut`, or `cut:3`: after three events.
fn fault(text: &str) -> Option<Fault> {
    let (what, after) = match text.split_once(':') {
        Some((what, after)) => (what, after.parse().ok()?),
        None => (text, 1),
    };
    let kind = match what {
        "cut" => FaultKind::Cut,
        "reset" => FaultKind::Reset,
        "stall" => FaultKind::Stall,
        "error" => FaultKind::Error,
        "no-done" => FaultKind::NoDone,
        "close" => FaultKind::Close,
        _ => return None,
    };
    Some(Fault { kind, after })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&'static str, &str)]) -> Result<Controls, Refusal> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().expect("a header value"));
        }
        Controls::read(&map, &Options { first_token_ms: 7, ..Options::default() })
    }

    #[test]
    fn what_is_not_said_is_as_the_options_have_it() {
        let controls = read(&[("x-other", "1"), ("x-sim-tag", "any")]).expect("nothing is wrong");
        assert_eq!((controls.first_token_ms, controls.interval_ms), (7, 0));
        assert_eq!(controls.usage, UsageForm::Extended);
        assert_eq!(controls.dialect.name(), "openai");
        assert!(controls.error.is_none() && controls.fault.is_none());
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (name, value) in [
            ("x-sim-mode", "half"),
            ("x-sim-dialect", "smoke"),
            ("x-sim-tokens", "-1"),
            ("x-sim-tokens", "99999999999"),
            ("x-sim-pad-bytes", "2000000"),
            ("x-sim-picture-scale", "17"),
            ("x-sim-error", "418"),
            ("x-sim-fault", "cut:x"),
            ("x-sim-usage", "much"),
            ("x-sim-stream-options", "maybe"),
        ] {
            let refusal = read(&[(name, value)]).expect_err(name);
            assert!(refusal.reason.contains(name), "{}", refusal.reason);
        }
    }

    /// What is said of headers and dialects is what the code has.
    #[test]
    fn the_documentation_shows_these_tables() {
        let documented = include_str!("../../docs/simulator.md");
        let mut table = "| Header | Value |\n|---|---|\n".to_owned();
        for Header { name, values, .. } in HEADERS {
            table += &format!("| `x-sim-{name}` | {values} |\n");
        }
        table += "\n";
        assert!(documented.contains(&table), "docs/simulator.md should hold\n{table}");
        let mut table = "| Dialect | What is its own |\n|---|---|\n".to_owned();
        for (name, about) in Dialect::described() {
            table += &format!("| `{name}` | {about} |\n");
        }
        assert!(documented.contains(&table), "docs/simulator.md should hold\n{table}");
    }

    #[test]
    fn the_mode_brings_its_own_usage_form_and_dialect() {
        let controls = read(&[("x-sim-mode", "literal-bare")]).expect("a mode");
        assert!(controls.bare_json);
        assert_eq!((controls.usage, controls.dialect.name()), (UsageForm::Standard, "documents"));
        let both = [("x-sim-mode", "literal"), ("x-sim-dialect", "documents-pretty")];
        assert_eq!(read(&both).expect("both").dialect.name(), "documents-pretty");
    }

    #[test]
    fn an_error_can_be_limited_to_the_first_tries() {
        let first = [("x-sim-error", "429:2"), ("x-stainless-retry-count", "1")];
        assert_eq!(read(&first).expect("read").error, Some(Refusal::rate_limit()));
        let third = [("x-sim-error", "429:2"), ("x-stainless-retry-count", "2")];
        assert_eq!(read(&third).expect("read").error, None);
    }

    #[test]
    fn faults_have_a_kind_and_a_place() {
        let cut = read(&[("x-sim-fault", "cut:3")]).expect("read").fault;
        assert_eq!(cut, Some(Fault { kind: FaultKind::Cut, after: 3 }));
        let reset = read(&[("x-sim-fault", "reset")]).expect("read").fault;
        assert_eq!(reset, Some(Fault { kind: FaultKind::Reset, after: 1 }));
    }
}
