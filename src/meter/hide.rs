//! What to take out of an event of a stream for which Weir, and not the client, asked for usage.

use std::ops::Range;

use super::facts::{Facts, Member};
use super::outlet::Outlet;

/// What becomes of an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    /// It was only there for the usage.
    Drop,
    /// The member `"usage":null` with its comma, by its place in the stream.
    TakeOut(Range<u64>),
}

/// Judges a whole event that is still held. Whatever is odd passes.
pub(super) fn verdict(facts: &Facts, outlet: &Outlet) -> Verdict {
    match facts.usage {
        Member::Proper if only_usage(facts) => Verdict::Drop,
        Member::Null => match null_member(facts.usage_key_at, outlet) {
            Some(span) => Verdict::TakeOut(span),
            None => Verdict::Pass,
        },
        _ => Verdict::Pass,
    }
}

/// No choice, or (LiteLLM) only choices that say nothing; and nothing else of worth.
fn only_usage(facts: &Facts) -> bool {
    facts.choices == Member::Proper
        && !facts.more_choices
        && facts.choice.iter().all(|choice| choice.empty)
        && !facts.remarks
        && !facts.error
}

/// The span of the member whose key stands at `key`, with one comma; `None` unless all of it
/// stands in one line.
fn null_member(key: u64, outlet: &Outlet) -> Option<Range<u64>> {
    let blank = |at: u64| matches!(outlet.byte(at), Some(b' ' | b'\t'));
    let skip = |mut at: u64| {
        while blank(at) {
            at += 1;
        }
        at
    };
    let word = |at: u64, word: &[u8]| {
        let mut expected = word.iter().zip(at..);
        expected.all(|(byte, at)| outlet.byte(at) == Some(*byte)).then(|| at + word.len() as u64)
    };
    let colon = skip(word(key, b"\"usage\"")?);
    let end = word(skip(word(colon, b":")?), b"null")?;
    let mut before = key.checked_sub(1)?;
    while blank(before) {
        before -= 1;
    }
    if outlet.byte(before) == Some(b',') {
        return Some(before..end);
    }
    if outlet.byte(before) != Some(b'{') {
        return None;
    }
    let after = skip(end);
    match outlet.byte(after)? {
        b',' => Some(key..skip(after + 1)),
        b'}' => Some(key..end),
        _ => None,
    }
}
