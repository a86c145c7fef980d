//! Validation of prices: amounts that are exact, dates, and models that there are.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::super::Upstream;
use super::super::error::Problems;
use super::super::raw::RawPrice;
use super::super::suggest::nearest;
use crate::price::{Prices, Rates, amount};

/// Decimals of a price per million tokens: the last one is a pico-USD per token.
const TOKEN_DECIMALS: usize = 6;
/// Decimals of a price per piece: the last one is a nano-USD.
const PIECE_DECIMALS: usize = 9;
/// Dollars; more is a slip of the pen, and a multiple of it still has to fit.
const MAX_USD: u64 = 1_000_000;

/// Reads the amounts of one entry.
struct Amounts<'a> {
    at: &'a str,
    problems: &'a mut Problems,
}

pub(super) fn prices(
    raw: Vec<RawPrice>,
    upstreams: &[Arc<Upstream>],
    problems: &mut Problems,
) -> Prices {
    let listed: Vec<&str> = upstreams
        .iter()
        .flat_map(|upstream| upstream.models.iter().map(|model| model.name.as_str()))
        .collect();
    let mut prices = Prices::default();
    for (index, raw) in raw.into_iter().enumerate() {
        let at = format!("price[{index}]");
        let from_ms = from(&at, raw.from.as_deref(), problems);
        let rates = Amounts { at: &at, problems }.rates(&raw);
        let Some(model) = model(&at, raw.model, &listed, problems) else { continue };
        if !prices.add(&model, from_ms, rates) {
            let wanted =
                "has a price from the same moment on already; give this one another `from`";
            problems.wrong(&format!("{at}.model"), &model, wanted);
        }
    }
    prices
}

fn model(
    at: &str,
    name: Option<String>,
    listed: &[&str],
    problems: &mut Problems,
) -> Option<String> {
    let key = format!("{at}.model");
    let Some(name) = name else {
        problems.at(&key, "is missing; name a model that an upstream lists");
        return None;
    };
    if !listed.contains(&name.as_str()) {
        let near = nearest(&name, listed.iter().copied());
        let hint = near.map_or(String::new(), |near| format!("; did you mean {near:?}?"));
        problems.wrong(&key, &name, format!("is a model that no upstream lists{hint}"));
    }
    Some(name)
}

/// The moment from which a price holds, in milliseconds since the Unix epoch.
fn from(at: &str, text: Option<&str>, problems: &mut Problems) -> i64 {
    let Some(text) = text else { return i64::MIN };
    let midnight = |date: Date| date.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp());
    let moment = match text.len() {
        // A date and time without an offset would pass for its date alone.
        10 => text.parse().and_then(midnight),
        _ => text.parse::<Timestamp>(),
    };
    moment.map_or_else(
        |_| {
            let wanted = "must be a date (midnight UTC), such as \"2026-01-01\", or RFC 3339, such \
                          as \"2026-01-01T12:00:00Z\"";
            problems.wrong(&format!("{at}.from"), text, wanted);
            i64::MIN
        },
        Timestamp::as_millisecond,
    )
}

impl Amounts<'_> {
    fn rates(mut self, raw: &RawPrice) -> Rates {
        let input = self.tokens("input", &raw.input);
        let output = self.tokens("output", &raw.output);
        let of_input = input.unwrap_or(0);
        let of_output = output.unwrap_or(0);
        let parts_of_input = [
            ("cached_input", &raw.cached_input),
            ("cache_write", &raw.cache_write),
            ("image_input", &raw.image_input),
            ("audio_input", &raw.audio_input),
        ];
        let parts_of_output = [
            ("reasoning", &raw.reasoning),
            ("image_output", &raw.image_output),
            ("audio_output", &raw.audio_output),
        ];
        self.complete(raw, parts_of_input.iter().chain(&parts_of_output));
        let [cached_input, cache_write, image_input, audio_input] =
            parts_of_input.map(|(name, text)| self.tokens(name, text).unwrap_or(of_input));
        let [reasoning, image_output, audio_output] =
            parts_of_output.map(|(name, text)| self.tokens(name, text).unwrap_or(of_output));
        Rates {
            input: of_input,
            cached_input,
            cache_write,
            output: of_output,
            reasoning,
            image_input,
            image_output,
            audio_input,
            audio_output,
            per_request: self.pieces("per_request", &raw.per_request),
            per_image: self.pieces("per_image", &raw.per_image),
            per_second: self.pieces("per_second", &raw.per_second),
        }
    }

    /// Nothing is free because it was forgotten: a price of tokens says both totals, and a price says
    /// something.
    fn complete<'r>(
        &mut self,
        raw: &RawPrice,
        mut parts: impl Iterator<Item = &'r (&'static str, &'r Option<String>)>,
    ) {
        let prices_tokens =
            raw.input.is_some() || raw.output.is_some() || parts.any(|(_, text)| text.is_some());
        for (name, text) in [("input", &raw.input), ("output", &raw.output)] {
            if prices_tokens && text.is_none() {
                let wanted = "is missing beside the other prices of tokens; 0 says that it is free";
                self.problems.at(&format!("{}.{name}", self.at), wanted);
            }
        }
        let pieces = [&raw.per_request, &raw.per_image, &raw.per_second];
        if !prices_tokens && pieces.iter().all(|text| text.is_none()) {
            let wanted = "has no amount; `input = 0` and `output = 0` say that it is free";
            self.problems.at(self.at, wanted);
        }
    }

    /// Pico-USD per token.
    fn tokens(&mut self, name: &str, text: &Option<String>) -> Option<u64> {
        text.as_deref().map(|text| self.read(name, text, TOKEN_DECIMALS))
    }

    /// Nano-USD per piece.
    fn pieces(&mut self, name: &str, text: &Option<String>) -> u64 {
        text.as_deref().map_or(0, |text| self.read(name, text, PIECE_DECIMALS))
    }

    fn read(&mut self, name: &str, text: &str, decimals: usize) -> u64 {
        amount(text, decimals, MAX_USD).unwrap_or_else(|error| {
            self.problems.wrong(&format!("{}.{name}", self.at), text, error.to_string());
            0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Config, Secrets};
    use super::*;

    fn read(prices: &str) -> Result<Prices, String> {
        let head = "[[upstream]]\nname = \"lab\"\nbase_url = \"http://127.0.0.1:9\"\n\
                    models = [\"m\", \"gpt-5.4\"]\n";
        Config::from_toml(&format!("{head}{prices}"), Secrets::Optional)
            .map(|config| config.prices)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_left_out_costs_as_much_as_its_total() {
        let text = "[[price]]\nmodel = \"m\"\ninput = \"2.5\"\ncached_input = \"0.25\"\noutput = 15\n\
                    reasoning = \"20\"\nper_image = \"0.04\"";
        let prices = read(text).expect("it is valid");
        let price = *prices.of("m").at(i64::MIN).expect("always");
        let rates = Rates {
            input: 2_500_000,
            cached_input: 250_000,
            cache_write: 2_500_000,
            image_input: 2_500_000,
            audio_input: 2_500_000,
            output: 15_000_000,
            reasoning: 20_000_000,
            image_output: 15_000_000,
            audio_output: 15_000_000,
            per_image: 40_000_000,
            ..Rates::default()
        };
        assert_eq!(price.rates, rates);
        assert!(prices.of("gpt-5.4").at(0).is_none());
    }

    #[test]
    fn dates_are_midnight_utc_or_exact() {
        for (from, from_ms) in [
            ("\"2026-01-01\"", 1_767_225_600_000),
            ("2026-01-01", 1_767_225_600_000),
            ("\"2026-01-01T01:00:00+01:00\"", 1_767_225_600_000),
            ("2026-01-01T00:00:01.5Z", 1_767_225_601_500),
        ] {
            let prices = read(&format!("[[price]]\nmodel = \"m\"\nfrom = {from}\nper_request = 0"));
            let schedule = prices.expect(from).of("m");
            assert!(schedule.at(from_ms - 1).is_none() && schedule.at(from_ms).is_some(), "{from}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let free = "input = 0\noutput = 0";
        for (entry, error) in [
            (
                format!("model = \"gpt-5.5\"\n{free}"),
                "that no upstream lists; did you mean \"gpt-5.4\"",
            ),
            (free.to_owned(), "price[0].model: is missing"),
            (
                "model = \"m\"".to_owned(),
                "price[0]: has no amount; `input = 0` and `output = 0` say",
            ),
            ("model = \"m\"\ninput = 1".to_owned(), "price[0].output: is missing beside"),
            (
                "model = \"m\"\ncached_input = 1\noutput = 1".to_owned(),
                "price[0].input: is missing",
            ),
            (
                "model = \"m\"\noutput = 1\ninput = 2.5".to_owned(),
                "price[0].input = 2.5: must be an amount in dollars, in quotes if it has decimals",
            ),
            (
                "model = \"m\"\noutput = 1\ninput = -1".to_owned(),
                "price[0].input = -1: must be an amount",
            ),
            (
                "model = \"m\"\noutput = 1\ninput = \"1e-3\"".to_owned(),
                "price[0].input = \"1e-3\": must be an amount in dollars, such as",
            ),
            ("model = \"m\"\noutput = 1\ninput = \"0.1234567\"".to_owned(), "more than 6 decimals"),
            ("model = \"m\"\nper_request = \"0.0123456789\"".to_owned(), "more than 9 decimals"),
            ("model = \"m\"\nper_request = 1000001".to_owned(), "at most 1000000 dollars"),
            (
                format!("model = \"m\"\nfrom = \"January\"\n{free}"),
                "price[0].from = \"January\": must be a date",
            ),
            (format!("model = \"m\"\nfrom = \"2026-01-01T00:00:00\"\n{free}"), "must be a date"),
            (
                format!("model = \"m\"\n{free}\n[[price]]\nmodel = \"m\"\n{free}"),
                "price[1].model = \"m\": has a price from the same moment",
            ),
            (format!("model = \"m\"\ninputs = 1\n{free}"), "did you mean \"input\"?"),
        ] {
            let found = read(&format!("[[price]]\n{entry}")).expect_err(error);
            assert!(found.contains(error), "{error}: {found}");
        }
    }
}
