//! What to take out of an event of a stream for which Weir, and not the client, asked for usage.

use std::ops::Range;

use super::facts::{DocumentFacts, Member};
use super::release::Release;
use super::setup::Hide;

/// What becomes of an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    /// It was only there for the usage.
    Drop,
    /// The member `usage` with its comma, by its place in the stream.
    TakeOut(Range<u64>),
}

/// Judges a whole event that is still held. Whatever is odd passes.
pub(super) fn verdict(hide: Hide, facts: &DocumentFacts, release: &Release) -> Verdict {
    let span = match (hide, facts.usage) {
        // Citations, say: the event stays, without what nobody asked for.
        (Hide::Last | Hide::All, Member::Proper) if only_usage(facts) && facts.extra => {
            object_member(facts.usage_key_at..facts.usage_end_at, release)
        }
        (Hide::Last | Hide::All, Member::Proper) if only_usage(facts) => return Verdict::Drop,
        (Hide::Last | Hide::All, Member::Null) => null_member(facts.usage_key_at, release),
        (Hide::All | Hide::Running, Member::Proper) if is_running(facts) => {
            object_member(facts.usage_key_at..facts.usage_end_at, release)
        }
        _ => None,
    };
    span.map_or(Verdict::Pass, Verdict::TakeOut)
}

/// No choice, however that is written, or (LiteLLM) only choices that say nothing; and nothing else of
/// worth.
fn only_usage(facts: &DocumentFacts) -> bool {
    facts.may_be_usage_only()
        && !facts.more_choices
        && facts.choice.iter().all(|choice| choice.empty)
        && !facts.moderation
        && !facts.error
}

/// It stands beside what a choice says, which is where running usage stands.
fn is_running(facts: &DocumentFacts) -> bool {
    !facts.choice.is_empty() && !only_usage(facts) && !facts.error
}

/// The span of the member `"usage":null` whose key stands at `key`, with one comma; `None` unless
/// all of it stands in one line.
fn null_member(key: u64, release: &Release) -> Option<Range<u64>> {
    let colon = skip(word(key, b"\"usage\"", release)?, release);
    let value = skip(word(colon, b":", release)?, release);
    with_comma(key..word(value, b"null", release)?, release)
}

/// The same of a member whose value is an object, from its key to its end.
fn object_member(member: Range<u64>, release: &Release) -> Option<Range<u64>> {
    word(member.start, b"\"usage\"", release)?;
    let mut bytes = member.clone().map(|at| release.byte(at));
    let is_one_line = bytes.all(|byte| !matches!(byte, None | Some(b'\n' | b'\r')));
    is_one_line.then(|| with_comma(member, release))?
}

/// A member with the comma before it, else the one after it.
fn with_comma(member: Range<u64>, release: &Release) -> Option<Range<u64>> {
    let mut before = member.start.checked_sub(1)?;
    while is_blank(before, release) {
        before = before.checked_sub(1)?;
    }
    if release.byte(before) == Some(b',') {
        return Some(before..member.end);
    }
    if release.byte(before) != Some(b'{') {
        return None;
    }
    let after = skip(member.end, release);
    match release.byte(after)? {
        b',' => Some(member.start..skip(after + 1, release)),
        b'}' => Some(member),
        _ => None,
    }
}

fn is_blank(at: u64, release: &Release) -> bool {
    matches!(release.byte(at), Some(b' ' | b'\t'))
}

/// The first byte from `at` on that is no blank.
fn skip(mut at: u64, release: &Release) -> u64 {
    while is_blank(at, release) {
        at += 1;
    }
    at
}

/// Where `word` ends that stands at `at`.
fn word(at: u64, word: &[u8], release: &Release) -> Option<u64> {
    let mut expected = word.iter().zip(at..);
    expected.all(|(byte, at)| release.byte(at) == Some(*byte)).then(|| at + word.len() as u64)
}
