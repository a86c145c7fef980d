//! What a request costs: the prices of each model, which of them holds when, and the one formula that
//! turns a row's counts into money.
//!
//! Only integers. A token's price is a whole number of pico-USD: an amount of X USD per million tokens
//! is X·10¹² pico-USD for 10⁶ tokens, so X·10⁶ pico-USD for one, and six decimals of X are exact. What
//! is charged by the request, the image or the second is a whole number of nano-USD. A row's parts are
//! added up in pico-USD, and the sum is rounded to nano-USD once, half up.
//!
//! A price is known by its content ([`PriceVersion`]): change one and it is another. Rows name the
//! version that they were charged by, and the store keeps all versions, so that any row's cost can be
//! computed again.

mod amount;

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest, Sha256};

use crate::usage::{Usage, UsageSource};

pub(crate) use amount::{AmountError, amount, nano_usd, usd};

/// Pico-USD in a nano-USD.
const PICO_PER_NANO: u128 = 1_000;
/// The most that a row can cost, in nano-USD: the store's integers have a sign.
const COST_MAX: u64 = i64::MAX.cast_unsigned();

/// Which price a row was charged by: the first 48 bits of a digest of all that the price says, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PriceVersion(u64);

/// What one model costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// In pico-USD per token, as all up to `audio_output`. For the text of a prompt.
    pub input: u64,
    pub cached_input: u64,
    pub cache_write: u64,
    /// For the text of an answer.
    pub output: u64,
    pub reasoning: u64,
    pub image_input: u64,
    pub image_output: u64,
    pub audio_input: u64,
    pub audio_output: u64,
    /// In nano-USD, as the next two.
    pub per_request: u64,
    pub per_image: u64,
    /// Per second of audio.
    pub per_second: u64,
}

/// One entry of the price table, small enough to be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    pub version: PriceVersion,
    /// It holds for requests that begin then or later, in milliseconds since the Unix epoch, until
    /// another takes its place; `i64::MIN`: always.
    pub from_ms: i64,
    pub rates: Rates,
}

/// The prices of one model, in the order of their dates, no two with the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule(Vec<Price>);

/// The whole table, by the models' public names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prices(BTreeMap<String, Schedule>);

/// What a price is asked about: the counts of a row.
#[derive(Clone, Copy, Debug)]
pub struct Billed<'a> {
    pub usage: &'a Usage,
    /// A request that did not run, or was refused upstream, costs nothing.
    pub source: UsageSource,
    /// Images in the answer.
    pub images: u64,
}

impl PriceVersion {
    /// A version as the journal and the store hold it; `None` where there is none (0).
    pub(crate) fn from_number(number: u64) -> Option<Self> {
        (1..1 << 48).contains(&number).then_some(Self(number))
    }

    /// For the journal and the store.
    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

/// Twelve hexadecimal digits, as reports show it.
impl fmt::Display for PriceVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}", self.0)
    }
}

impl Rates {
    /// All amounts in the order in which they are declared, which is also the store's and the digest's.
    pub(crate) fn amounts(&self) -> [u64; 12] {
        [
            self.input,
            self.cached_input,
            self.cache_write,
            self.output,
            self.reasoning,
            self.image_input,
            self.image_output,
            self.audio_input,
            self.audio_output,
            self.per_request,
            self.per_image,
            self.per_second,
        ]
    }

    /// The rates whose [`Self::amounts`] these are.
    pub(crate) fn of_amounts(amounts: [u64; 12]) -> Self {
        let [input, cached_input, cache_write, output, reasoning, image_input, rest @ ..] = amounts;
        let [image_output, audio_input, audio_output, per_request, per_image, per_second] = rest;
        Self {
            input,
            cached_input,
            cache_write,
            output,
            reasoning,
            image_input,
            image_output,
            audio_input,
            audio_output,
            per_request,
            per_image,
            per_second,
        }
    }

    /// What a request cost, in nano-USD; at most [`COST_MAX`].
    ///
    /// Cached, cache-written, image and audio tokens are part of the input; reasoning, audio and image
    /// tokens part of the output. Each class is taken out of what is left of its total, in this order,
    /// so that no token is charged twice, and a class that claims more than its total gets what is
    /// there. The rest is text.
    pub(crate) fn cost(&self, billed: &Billed<'_>) -> u64 {
        if billed.source == UsageSource::None {
            return 0;
        }
        let usage = billed.usage;
        let input = split(
            usage.input,
            [
                (usage.cached, self.cached_input),
                (usage.cache_write, self.cache_write),
                (usage.image_input, self.image_input),
                (usage.audio_input, self.audio_input),
            ],
            self.input,
        );
        let output = split(
            usage.output,
            [
                (usage.reasoning, self.reasoning),
                (usage.audio_output, self.audio_output),
                (usage.image_output, self.image_output),
            ],
            self.output,
        );
        // Milliseconds of a nano-USD per second are pico-USD.
        let audio = product(usage.audio_ms, self.per_second);
        self.rounded([input, output, audio, self.counted(billed.images)])
    }

    /// The most that a request can cost which uses no more than this, in nano-USD: every token at the
    /// dearest rate that it could have.
    pub(crate) fn reserve(&self, tokens: (u64, u64), images: u64, audio_ms: u64) -> u64 {
        let inputs =
            [self.input, self.cached_input, self.cache_write, self.image_input, self.audio_input];
        let input = product(tokens.0, inputs.into_iter().fold(0, u64::max));
        let output = product(tokens.1, self.dearest_output());
        self.rounded([input, output, product(audio_ms, self.per_second), self.counted(images)])
    }

    /// The same counts where nobody said of what kind the tokens are: all that are of no kind yet are of
    /// the dearest, as they were reserved. `input`: those of the prompt, too.
    pub(crate) fn at_the_dearest(&self, usage: Usage, input: bool) -> Usage {
        let mut dearest = usage;
        let kinds = [
            (self.reasoning, &mut dearest.reasoning),
            (self.audio_output, &mut dearest.audio_output),
            (self.image_output, &mut dearest.image_output),
        ];
        let known = sum(&[usage.reasoning, usage.audio_output, usage.image_output]);
        raise(kinds, self.output, usage.output.saturating_sub(known));
        if input {
            let kinds = [
                (self.cache_write, &mut dearest.cache_write),
                (self.audio_input, &mut dearest.audio_input),
                (self.image_input, &mut dearest.image_input),
            ];
            let known =
                sum(&[usage.cached, usage.cache_write, usage.audio_input, usage.image_input]);
            raise(kinds, self.input, usage.input.saturating_sub(known));
        }
        dearest
    }

    /// What a running request needs in addition for so many more tokens of output, in nano-USD.
    pub(crate) fn reserve_more(&self, output_tokens: u64) -> u64 {
        self.rounded([product(output_tokens, self.dearest_output()), 0, 0, 0])
    }

    /// The most that a token of the answer can cost, in pico-USD.
    pub(crate) fn dearest_output(&self) -> u64 {
        let outputs = [self.output, self.reasoning, self.image_output, self.audio_output];
        outputs.into_iter().fold(0, u64::max)
    }

    /// What is charged by the piece, in pico-USD.
    fn counted(&self, images: u64) -> u128 {
        let nano = product(images, self.per_image).saturating_add(self.per_request.into());
        nano.saturating_mul(PICO_PER_NANO)
    }

    /// The sum of parts in pico-USD as nano-USD, rounded half up.
    fn rounded(&self, parts: [u128; 4]) -> u64 {
        let pico = parts.into_iter().fold(0_u128, u128::saturating_add);
        let nano = pico.saturating_add(PICO_PER_NANO / 2) / PICO_PER_NANO;
        u64::try_from(nano).unwrap_or(COST_MAX).min(COST_MAX)
    }
}

/// Adds `tokens` to the dearest of these kinds, if that is dearer than text.
fn raise(kinds: [(u64, &mut u64); 3], text: u64, tokens: u64) {
    let dearest = kinds.into_iter().max_by_key(|(rate, _)| *rate);
    if let Some((_, count)) = dearest.filter(|(rate, _)| *rate > text) {
        *count = count.saturating_add(tokens);
    }
}

fn sum(counts: &[u64]) -> u64 {
    counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
}

/// The price of `total` tokens of which classes have rates of their own.
fn split<const N: usize>(total: u64, classes: [(u64, u64); N], rate: u64) -> u128 {
    let mut left = total;
    let mut sum = 0_u128;
    for (tokens, rate) in classes {
        let tokens = tokens.min(left);
        left -= tokens;
        sum = sum.saturating_add(product(tokens, rate));
    }
    sum.saturating_add(product(left, rate))
}

/// It can't overflow: both factors have 64 bits.
fn product(count: u64, rate: u64) -> u128 {
    u128::from(count) * u128::from(rate)
}

impl Price {
    /// A price for `model`, with the version that its content has.
    pub(crate) fn new(model: &str, from_ms: i64, rates: Rates) -> Self {
        let mut digest = Sha256::new();
        digest.update((model.len() as u64).to_le_bytes());
        digest.update(model);
        digest.update(from_ms.to_le_bytes());
        for amount in rates.amounts() {
            digest.update(amount.to_le_bytes());
        }
        let digest = digest.finalize();
        let number = digest[..6].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        Self { version: PriceVersion(number.max(1)), from_ms, rates }
    }
}

impl Schedule {
    /// The price in force at a moment, in milliseconds since the Unix epoch.
    pub(crate) fn at(&self, at_ms: i64) -> Option<&Price> {
        // There are a handful at most, and nearly always the last one is meant.
        self.0.iter().rev().find(|price| price.from_ms <= at_ms)
    }
}

impl Prices {
    /// Adds a price. False: the model has one from that moment on already, and keeps it.
    pub(crate) fn add(&mut self, model: &str, from_ms: i64, rates: Rates) -> bool {
        let Schedule(prices) = self.0.entry(model.to_owned()).or_default();
        match prices.binary_search_by_key(&from_ms, |price| price.from_ms) {
            Ok(_) => false,
            Err(place) => {
                prices.insert(place, Price::new(model, from_ms, rates));
                true
            }
        }
    }

    /// All prices of a model; none where it is not in the table.
    pub(crate) fn of(&self, model: &str) -> Schedule {
        self.0.get(model).cloned().unwrap_or_default()
    }

    /// Every entry with its model.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Price)> {
        let all = self.0.iter();
        all.flat_map(|(model, Schedule(prices))| prices.iter().map(move |price| (&**model, price)))
    }
}

#[cfg(test)]
mod tests;
