//! The usage objects of all dialects, read as they pass and without keeping them, and what in them
//! cannot be.

use super::decimal::scaled;
use super::keys::Word;
use super::usage_names::{APART, Field, INCLUSIVE, SECOND_PLACES, Within};
use super::usage_object::{
    AUDIO_MS, CACHE_WRITE, CACHED, COUNTS, INPUT, InvalidUsage, OUTPUT, TOTAL, UsageObject,
};
use crate::json::Token;

/// No count above this is believed: beyond 2^53 JSON numbers stop being exact.
const MAX_COUNT: u64 = 1 << 53;
/// Containers that are looked into, inside one another, and one that is not.
const LEVELS: usize = 5;

/// Reads one usage object, told of its keys and values one by one.
#[derive(Debug)]
pub(super) struct UsageReader {
    stated: UsageObject,
    levels: [Level; LEVELS],
    depth: usize,
    /// Of a list of turns, which few have.
    turns: Option<Box<Turns>>,
    written: Option<u64>,
    is_inclusive: bool,
    is_apart: bool,
    failed: bool,
}

/// Turns within one request.
#[derive(Debug, Default)]
struct Turns {
    /// The sum over those that are the model's own.
    sums: [Option<u64>; COUNTS],
    turn: [Option<u64>; COUNTS],
    kind: Word,
    is_compacted: bool,
}

/// A container that is open.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    within: Within,
    /// The known names that stand there already; a bit for each.
    seen: u64,
    /// What the value to come is.
    field: Field,
    /// What that value, if it is none, says of the cache's tokens.
    is_inclusive: bool,
    is_apart: bool,
}

impl UsageReader {
    /// A key, as its bytes stand between the quotes.
    pub(super) fn key(&mut self, raw: &[u8]) {
        let names = self.levels[self.depth].within.names();
        let place = |name: &[u8]| names.iter().position(|(known, _)| *known == name);
        // None of ours has a backslash, which most need not be looked for.
        let found = place(raw).or_else(|| {
            let is_escaped = raw.contains(&b'\\');
            is_escaped.then(|| decode(raw)).flatten().and_then(|name| place(name.as_bytes()))
        });
        let level = &mut self.levels[self.depth];
        let Some(at) = found else {
            level.field = Field::Other;
            return;
        };
        let name = names[at].0;
        level.field = names[at].1;
        // Parsers disagree about which of two counts.
        let is_twice = level.seen & 1 << at != 0;
        level.seen |= 1 << at;
        let may_say = match names[at].1 {
            Field::Count(INPUT | CACHED | CACHE_WRITE) => true,
            Field::Inside(inside) => matches!(inside, Within::InputDetails | Within::CacheCreation),
            _ => false,
        };
        let may_say = may_say && matches!(level.within, Within::Top | Within::Iteration);
        level.is_inclusive = may_say && INCLUSIVE.contains(&name);
        level.is_apart = may_say && APART.contains(&name);
        if is_twice {
            self.fail(names[at].1);
        }
    }

    /// A container begins; whether its inside matters.
    pub(super) fn begin(&mut self, token: Token) -> bool {
        self.mark();
        let Level { within, field, .. } = self.levels[self.depth];
        let inside = match (within, field, token) {
            (Within::Iterations, _, Token::Object) => Within::Iteration,
            (Within::Iterations, ..) => Within::Nothing,
            (_, Field::Inside(Within::Iterations), Token::Array) => Within::Iterations,
            (_, Field::Inside(inside), Token::Object) if inside != Within::Iterations => inside,
            (_, Field::Inside(inside), Token::Array) if inside.is_details() => Within::List,
            (_, Field::Usd(_), Token::Object) => Within::Cost,
            _ => {
                self.value(token, &[]);
                Within::Nothing
            }
        };
        if inside == Within::Iteration {
            let turns = self.turns.get_or_insert_default();
            turns.turn = [None; COUNTS];
            turns.kind.clear();
        }
        // No names lead deeper than there are levels.
        self.depth = (self.depth + 1).min(LEVELS - 1);
        self.levels[self.depth] = Level { within: inside, ..Level::default() };
        inside != Within::Nothing
    }

    /// The innermost container ends.
    pub(super) fn end(&mut self) {
        if self.levels[self.depth].within == Within::Iteration {
            self.end_turn();
        }
        self.depth = self.depth.saturating_sub(1);
    }

    /// A value that is no container; `text` of a number, or of a string between the quotes.
    pub(super) fn value(&mut self, token: Token, text: &[u8]) {
        if token != Token::Null {
            self.mark();
        }
        let Level { within, field, .. } = self.levels[self.depth];
        // What the elements of a list would be, nobody knows.
        self.stated.is_odd |= within == Within::List;
        let read = match field {
            Field::Other => return,
            Field::Kind => return self.turns.iter_mut().for_each(|turns| turns.kind.push(text)),
            Field::Inside(inside) => {
                // A null for details is none.
                self.stated.is_odd |= inside.is_details() && token != Token::Null;
                return;
            }
            Field::Count(_) | Field::Written => count(token, text),
            Field::Seconds => decimal(token, text, SECOND_PLACES),
            Field::Usd(places) => decimal(token, text, places),
        };
        match (field, read) {
            (Field::Usd(_), Ok(cost)) => self.stated.cost = self.stated.cost.max(cost),
            (Field::Usd(_), Err(InvalidUsage)) => self.stated.is_cost_insane = true,
            (field, Err(InvalidUsage)) => self.fail(field),
            (Field::Written, Ok(written)) => self.written = plus(self.written, written),
            (Field::Count(at), Ok(read)) if within == Within::Iteration => {
                self.turns.iter_mut().for_each(|turns| turns.turn[at] = read);
            }
            (Field::Count(at), Ok(read)) => raise(&mut self.stated.counts[at], read),
            (_, Ok(read)) => raise(&mut self.stated.counts[AUDIO_MS], read),
        }
    }

    /// What stands in `field` cannot be. Without what was read or written nothing is known; a part of it is
    /// left out, and the whole beside it can be right.
    fn fail(&mut self, field: Field) {
        let is_whole = matches!(field, Field::Count(INPUT | OUTPUT | TOTAL));
        self.failed |= is_whole;
        self.stated.is_odd |= !is_whole;
    }

    /// The object has ended.
    pub(super) fn finish(&mut self) -> Result<UsageObject, InvalidUsage> {
        if self.failed {
            return Err(InvalidUsage);
        }
        let mut stated = std::mem::take(&mut self.stated);
        stated.cache_apart = self.is_apart && !self.is_inclusive;
        if stated.counts[CACHE_WRITE].is_none() {
            stated.counts[CACHE_WRITE] = self.written;
        }
        // After a compaction the top leaves it out, and the turns are to be added up
        // (platform.claude.com/docs, compaction).
        if let Some(turns) = &self.turns
            && turns.is_compacted
        {
            for (count, sum) in stated.counts.iter_mut().zip(turns.sums) {
                *count = sum.or(*count);
            }
        }
        Ok(stated)
    }

    /// The present value says something of the cache's tokens.
    fn mark(&mut self) {
        let level = &self.levels[self.depth];
        self.is_inclusive |= level.is_inclusive;
        self.is_apart |= level.is_apart;
    }

    /// An iteration ends: one of the model's own counts, and others have a price of their own.
    fn end_turn(&mut self) {
        let Some(turns) = &mut self.turns else { return };
        let is_compaction = turns.kind.bytes() == b"compaction";
        turns.is_compacted |= is_compaction;
        if is_compaction || matches!(turns.kind.bytes(), b"message" | b"") {
            for (sum, one) in turns.sums.iter_mut().zip(turns.turn) {
                *sum = plus(*sum, one);
            }
        } else {
            self.stated.is_odd = true;
        }
    }
}

impl Default for UsageReader {
    fn default() -> Self {
        let mut levels = [Level::default(); LEVELS];
        levels[0].within = Within::Top;
        Self {
            stated: UsageObject::default(),
            levels,
            depth: 0,
            turns: None,
            written: None,
            is_inclusive: false,
            is_apart: false,
            failed: false,
        }
    }
}

/// At most 2^53 each, so that no list that passes in a lifetime brings them to wrap; and it stops there.
fn plus(left: Option<u64>, right: Option<u64>) -> Option<u64> {
    match (left, right) {
        (Some(left), Some(right)) => Some(left.saturating_add(right)),
        (left, right) => left.or(right),
    }
}

fn raise(count: &mut Option<u64>, read: Option<u64>) {
    *count = (*count).max(read);
}

/// What stands where a count belongs; null is none.
fn count(token: Token, text: &[u8]) -> Result<Option<u64>, InvalidUsage> {
    /// So many digits fit a `u64` whatever they are.
    const DIGITS: usize = 19;
    match token {
        Token::Null => return Ok(None),
        Token::Number => {}
        _ => return Err(InvalidUsage),
    }
    if (1..=DIGITS).contains(&text.len()) {
        let digit = |byte: &u8| u64::from(byte.wrapping_sub(b'0'));
        let add = |count: u64, byte| Some(count * 10 + Some(digit(byte)).filter(|one| *one < 10)?);
        if let Some(count) = text.iter().try_fold(0, add) {
            return if count <= MAX_COUNT { Ok(Some(count)) } else { Err(InvalidUsage) };
        }
    }
    // One that fills a word may have been longer.
    let text = if text.len() < Word::LIMIT { text } else { b"" };
    let count: f64 = serde_json::from_slice(text).map_err(|_| InvalidUsage)?;
    // Some make tokens of a price (OpenRouter's of pictures): a part of one was used, too.
    let is_count = (0.0..=MAX_COUNT as f64).contains(&count);
    if is_count { Ok(Some(count.ceil() as u64)) } else { Err(InvalidUsage) }
}

/// A number of seconds or dollars in a smaller unit.
fn decimal(token: Token, text: &[u8], places: i64) -> Result<Option<u64>, InvalidUsage> {
    match token {
        Token::Null => Ok(None),
        // A number in which no digit stands is none, and one that fills a word may have been longer.
        Token::Number if text.len() < Word::LIMIT && text.iter().any(u8::is_ascii_digit) => {
            scaled(text, places).filter(|found| *found <= MAX_COUNT).map(Some).ok_or(InvalidUsage)
        }
        _ => Err(InvalidUsage),
    }
}

/// The text of a string whose bytes between the quotes are `raw`; none if it is not Unicode.
fn decode(raw: &[u8]) -> Option<String> {
    serde_json::from_slice(&[b"\"", raw, b"\""].concat()).ok()
}
