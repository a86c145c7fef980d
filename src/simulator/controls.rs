//! What one request asks of the simulator itself, in headers that a gateway passes on: `x-sim-…`.
//! What a request doesn't say is as the [`Options`] have it.

use std::str::FromStr;

use http::HeaderMap;

use super::dialect::Dialect;
use super::options::{Mode, Options, StreamOptions, UsageForm};
use super::refusal::Refusal;

/// The largest `x-sim-pad-bytes`, so that a request can't ask for gigabytes at once.
const MAX_PAD_BYTES: u64 = 1 << 20;
/// The largest `x-sim-tokens`.
const MAX_TOKENS: u64 = 10_000_000;
/// The largest `x-sim-picture-scale`: at 16 a picture has the pixels that were asked for.
const MAX_SCALE: u32 = 16;

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
        };
        let mut usage = options.usage;
        let retry = headers.get("x-stainless-retry-count").and_then(|value| value.to_str().ok());
        for (name, value) in headers {
            if let Some(name) = name.as_str().strip_prefix("x-sim-") {
                let read = value.to_str().ok().and_then(|text| {
                    if name == "usage" {
                        usage = Some(usage_form(text)?);
                        return Some(());
                    }
                    controls.set(name, text, retry)
                });
                read.ok_or_else(|| Refusal::invalid(format!("x-sim-{name} makes no sense")))?;
            }
        }
        // The documents print their streams in one form; another one has to be asked for by name.
        let unsaid = controls.dialect.name() == Dialect::openai().name()
            && !headers.contains_key("x-sim-dialect");
        if controls.mode == Mode::Literal && unsaid {
            controls.dialect = Dialect::documents();
        }
        controls.usage = usage.unwrap_or(match controls.mode {
            Mode::Full => UsageForm::Extended,
            Mode::Literal => UsageForm::Standard,
        });
        Ok(controls)
    }

    /// Takes over one header; `None` if its value makes no sense. Unknown ones have no effect.
    fn set(&mut self, name: &str, text: &str, retry: Option<&str>) -> Option<()> {
        match name {
            "mode" => (self.mode, self.bare_json) = mode(text)?,
            "dialect" => self.dialect = Dialect::named(text)?,
            "stream-options" => self.stream_options = stream_options(text)?,
            "head-ms" => self.head_ms = text.parse().ok()?,
            "first-token-ms" => self.first_token_ms = text.parse().ok()?,
            "interval-ms" => self.interval_ms = text.parse().ok()?,
            "tokens" => self.tokens = Some(up_to(text, MAX_TOKENS)?),
            "pad-bytes" => self.pad_bytes = up_to(text, MAX_PAD_BYTES)? as usize,
            "stamp" => self.stamp = up_to(text, 1)? == 1,
            "picture-scale" => self.picture_scale = up_to(text, MAX_SCALE)?.max(1),
            "error" => self.error = error(text, retry)?,
            "fault" => self.fault = Some(fault(text)?),
            _ => {}
        }
        Some(())
    }
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
fn error(text: &str, retry: Option<&str>) -> Option<Option<Refusal>> {
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
    let retried = retry.and_then(|count| count.parse::<u64>().ok()).unwrap_or(0);
    Some((retried < tries).then_some(refusal))
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
