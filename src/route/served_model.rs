//! Whether the model that an answer names is the one that was asked for. Upstreams say it in their own
//! words: with a date (`gpt-5.4-2026-03-05`), with `-latest`, with whose model it is before a slash. All of
//! that is the same model, unless the configuration lists the very name as another one. What an upstream
//! calls a model is its `upstream_name`.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Candidate, Route, Routes};

/// So often at most one model's answers are a warning.
const WARN_EVERY_NS: u64 = 60_000_000_000;

/// Which model an answer is from.
#[derive(Debug)]
pub(crate) enum Served<'r> {
    /// The one that was asked for.
    Asked,
    /// Another one of the configuration.
    Other(&'r Route),
    Unknown,
}

/// When a model's answers were a warning last; none at first.
#[derive(Debug, Default)]
pub(crate) struct WarnedModels(AtomicU64);

impl WarnedModels {
    /// Whether it is time for one again, which it then was. `mono_ns`: of the monotonic clock.
    pub(crate) fn is_due(&self, mono_ns: u64) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        let is_due = last == 0 || mono_ns.saturating_sub(last) >= WARN_EVERY_NS;
        let relaxed = Ordering::Relaxed;
        is_due && self.0.compare_exchange(last, mono_ns.max(1), relaxed, relaxed).is_ok()
    }
}

impl Route {
    /// What the model is called by one of its candidates.
    pub(crate) fn name_at<'r>(&'r self, candidate: &'r Candidate) -> &'r str {
        candidate.upstream_model.as_deref().unwrap_or(&self.model)
    }
}

impl Routes {
    /// Which model an answer is from that names `name`, by a candidate of `asked`.
    pub(crate) fn served(&self, asked: &Route, by: &Candidate, name: &str) -> Served<'_> {
        let expected = asked.name_at(by);
        if name == expected {
            return Served::Asked;
        }
        // Those of the same upstream first: another one's names may mean something else.
        let all = || {
            self.models
                .iter()
                .flat_map(|route| route.candidates.iter().map(move |one| (route, one)))
        };
        let is_near = |one: &Candidate| one.backend.upstream == by.backend.upstream;
        let others = || {
            let near = all().filter(move |(_, one)| is_near(one));
            near.chain(all().filter(move |(_, one)| !is_near(one)))
        };
        let named = |is_it: &dyn Fn(&str) -> bool| {
            others().find(|(route, one)| is_it(route.name_at(one))).map(|(route, _)| route)
        };
        if let Some(other) = named(&|other| other == name) {
            return Served::Other(other);
        }
        if is_same(expected, name) {
            return Served::Asked;
        }
        named(&|other| is_same(other, name)).map_or(Served::Unknown, Served::Other)
    }
}

/// Whether two names mean one model.
fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (without_owner(one), without_owner(other));
    one == other || without_date(one) == Some(other) || without_date(other) == Some(one)
}

/// `gpt-5.4` of `openai/gpt-5.4`.
fn without_owner(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, name)| name)
}

/// `gpt-5.4` of `gpt-5.4-2026-03-05`, `gpt-5.4-20260305`, `gpt-5.4@20260305`, `gpt-5.4-0305` and
/// `gpt-5.4-latest`; `None`: there is no date.
fn without_date(name: &str) -> Option<&str> {
    if let Some(name) = name.strip_suffix("-latest") {
        return Some(name);
    }
    let is_sized = |length: usize| {
        let start = name.len().checked_sub(length)?;
        let (name, date) = name.split_at_checked(start)?;
        let date = date.strip_prefix(['-', '@'])?;
        (!name.is_empty() && is_date(date)).then_some(name)
    };
    [11, 9, 5].into_iter().find_map(is_sized)
}

/// `2026-03-05`, `20260305` or `0305`.
fn is_date(text: &str) -> bool {
    let is_month_and_day = |month: &str, day: &str| {
        let number = |text: &str| text.parse::<u8>().unwrap_or(0);
        (1..=12).contains(&number(month)) && (1..=31).contains(&number(day))
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    match text.as_bytes() {
        [_, _, _, _, b'-', _, _, b'-', _, _] => {
            digits(&text[..4]) && is_month_and_day(&text[5..7], &text[8..])
        }
        all if all.len() == 8 && digits(text) => is_month_and_day(&text[4..6], &text[6..]),
        all if all.len() == 4 && digits(text) => is_month_and_day(&text[..2], &text[2..]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Secrets};

    #[test]
    fn an_answer_is_from_the_model_that_it_names() {
        let text = r#"
            [[upstream]]
            name = "one"
            base_url = "http://127.0.0.1:9"
            models = ["gpt-5.4", "gpt-5.4-mini", { name = "fast", upstream_name = "qwen3-8b" },
                "dated", "dated-2026-03-05", "a/m", "b/m"]
            [[upstream]]
            name = "two"
            base_url = "http://127.0.0.1:9"
            models = ["far", { name = "qwen", upstream_name = "qwen3-8b" }]
        "#;
        let config = Config::from_toml(text, Secrets::Optional).expect("it is valid");
        let routes = Routes::new(&config);
        for (asked, named, served) in [
            ("gpt-5.4", "gpt-5.4", "asked"),
            ("gpt-5.4", "gpt-5.4-2026-03-05", "asked"),
            ("gpt-5.4", "openai/gpt-5.4-20260305", "asked"),
            ("gpt-5.4", "gpt-5.4@20260305", "asked"),
            ("gpt-5.4", "gpt-5.4-0305", "asked"),
            ("gpt-5.4", "gpt-5.4-latest", "asked"),
            ("gpt-5.4", "gpt-5.4-mini", "gpt-5.4-mini"),
            ("gpt-5.4", "gpt-5.4-mini-2026-03-05", "gpt-5.4-mini"),
            ("gpt-5.4-mini", "gpt-5.4", "gpt-5.4"),
            ("gpt-5.4", "gpt-5.4-pro", "unknown"),
            ("gpt-5.4", "gpt-5.4-2026-13-05", "unknown"),
            ("gpt-5.4", "gpt-5.4-1999", "unknown"),
            ("gpt-5.4", "GPT-5.4", "unknown"),
            ("gpt-5.4", "", "unknown"),
            ("gpt-5.4", "-2026-03-05", "unknown"),
            ("gpt-5.4", "é-2026-03-05é", "unknown"),
            // By the upstream's name, and only by that.
            ("fast", "qwen3-8b", "asked"),
            ("fast", "qwen3-8b-2026-03-05", "asked"),
            ("fast", "fast", "unknown"),
            ("gpt-5.4", "qwen3-8b", "fast"),
            ("far", "qwen3-8b", "qwen"),
            ("far", "gpt-5.4", "gpt-5.4"),
            // A name that is listed is itself.
            ("dated", "dated-2026-03-05", "dated-2026-03-05"),
            ("dated", "dated-2026-04-01", "asked"),
            ("dated-2026-03-05", "dated", "dated"),
            ("dated-2026-03-05", "dated-2026-04-01", "dated"),
            ("a/m", "b/m", "b/m"),
            ("a/m", "m", "asked"),
        ] {
            let route = routes.find(asked, None).expect("it is listed");
            let found = match routes.served(route, &route.candidates[0], named) {
                Served::Asked => "asked",
                Served::Other(other) => &other.model,
                Served::Unknown => "unknown",
            };
            assert_eq!(found, served, "{asked} answered as {named}");
        }
    }

    #[test]
    fn a_warning_is_due_once_a_minute() {
        let warned = WarnedModels::default();
        let due = |ns: u64| warned.is_due(ns);
        assert!(due(0) && !due(1) && !due(WARN_EVERY_NS));
        assert!(due(WARN_EVERY_NS + 1) && !due(WARN_EVERY_NS + 2));
    }
}
