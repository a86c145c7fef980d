//! What was checked is what is forwarded: requests by chance, as nobody should write them, and servers as they
//! read them. Whatever Weir lets pass must mean to each of those readers the model that was checked, a bound
//! no larger than what was reserved, and no more answers.
//!
//! The readers are made after what servers were seen to do: which of two keys counts, whether case does,
//! what a query or an operator's field outweighs, how a form is divided and its names are decoded.
//! `PROPTEST_CASES=100000 cargo test --lib readers` tries more.

mod form;
mod json;
mod requests;

use std::cell::Cell;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Uri};
use proptest::test_runner::{Config as Chance, TestRunner};

use super::endpoints::{Action, Forwarded, Keyed, action, row};
use super::request_body::scan_for;
use super::upstream_policy;
use crate::config::{Config, Secrets, Upstream};
use crate::inspect::{RefusableFields, RequestFacts, UsageAsk, apply};
use requests::Written;

/// The model that the key may use, and what its upstream calls it.
const CHEAP: &str = "cheap";
const UPSTREAM_NAME: &str = "cheap-2026";
/// Requests in one case.
const REQUESTS: usize = 8;

/// A request as it leaves.
struct Sent {
    query: String,
    content_type: String,
    body: Vec<u8>,
}

/// What a server makes of it.
#[derive(Debug, Default)]
struct Read {
    model: Option<String>,
    /// Other models that it may be served by.
    others: Vec<String>,
    /// Tokens of an answer; `Some(None)`: it is said that there is no bound.
    bound: Option<Option<u64>>,
    /// Tokens that an answer is at least.
    least: u64,
    answers: u64,
}

/// What Weir lets pass, as it goes on; `None`: it refuses. `clamp` holds each answer to so many tokens.
fn forwarded(
    written: &Written,
    upstream: &Upstream,
    refusable: &RefusableFields,
) -> Option<(Sent, RequestFacts)> {
    let uri: Uri = written.target().try_into().ok()?;
    let mut headers = HeaderMap::new();
    for content_type in &written.content_types {
        headers.append(CONTENT_TYPE, HeaderValue::from_str(content_type).ok()?);
    }
    let mut scan = scan_for(endpoint(written.path), &headers, refusable).ok()?;
    for piece in written.body.chunks(written.piece) {
        scan.push(piece).ok()?;
    }
    let facts = scan.finish().ok().filter(|facts| facts.model == CHEAP)?;
    let target = upstream_policy::target(&uri, &facts, upstream, 0, refusable).ok()?;
    let frames: Vec<_> = written.body.chunks(written.piece).map(Bytes::copy_from_slice).collect();
    let splices = facts.splices(Some(UPSTREAM_NAME), UsageAsk::Nothing, written.clamp);
    let sent = Sent {
        query: target.query().unwrap_or_default().to_owned(),
        content_type: facts.content_type.to_str().expect("it is Weir's own").to_owned(),
        body: apply(&frames, &splices).concat(),
    };
    Some((sent, facts))
}

fn endpoint(path: &str) -> &'static Forwarded {
    match action(row(path), &http::Method::POST, path) {
        Ok((_, Action::Keyed(Keyed::Forward(forwarded)))) => forwarded,
        other => panic!("{path} is not forwarded: {other:?}"),
    }
}

/// That a reader sees what Weir saw.
fn assert_same(reader: &str, read: &Read, facts: &RequestFacts, written: &Written) {
    let what = format!("{reader} reads {read:?} of {written:?}");
    assert_eq!(read.model.as_deref(), Some(UPSTREAM_NAME), "{what}");
    assert!(read.others.is_empty(), "{what}");
    assert!(read.answers <= facts.made, "{} answers were reserved: {what}", facts.made);
    let clamp = written.clamp.filter(|_| facts.can_be_clamped());
    let reserved = match (clamp, facts.max_output_tokens) {
        (Some(clamp), _) => clamp,
        (None, Some(most)) => most,
        // What is usual is reserved, or this if it is more.
        (None, None) => facts.least_output_tokens,
    };
    if json::bounds(written.path) {
        assert!(read.least <= reserved, "{reserved} tokens were reserved: {what}");
        match read.bound {
            None => {}
            Some(Some(tokens)) => assert!(tokens <= reserved, "{reserved} tokens: {what}"),
            Some(None) => {
                let is_known = clamp.is_none() && facts.max_output_tokens.is_none();
                assert!(is_known, "a bound was reserved: {what}");
            }
        }
    }
}

#[test]
fn no_reader_sees_another_request_than_the_one_that_was_checked() {
    let config = Config::from_toml("", Secrets::Optional).expect("the defaults are valid");
    let upstream = &config.upstreams[0];
    let refusable = RefusableFields::new([&*upstream.refuse_fields]);
    let chance = Chance { failure_persistence: None, ..Chance::default() };
    let requests = u64::from(chance.cases) * REQUESTS as u64;
    let (passed, read) = (Cell::new(0_u64), Cell::new(0_u64));
    let outcome = TestRunner::new(chance).run(&requests::some(REQUESTS), |all| {
        for written in &all {
            let Some((sent, facts)) = forwarded(written, upstream, &refusable) else { continue };
            passed.set(passed.get() + 1);
            for reader in &json::READERS {
                if let Some(seen) = reader.read(&sent, written.path) {
                    read.set(read.get() + 1);
                    assert_same(reader.name, &seen, &facts, written);
                }
            }
        }
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    // Were all refused, nothing would have been tried.
    assert!(passed.get() > requests / 5, "{} of {requests} passed", passed.get());
    assert!(read.get() > 5 * passed.get(), "{} of {} were read", read.get(), passed.get());
}

/// The readers are no use if they can't be fooled: what the client wrote means something else to each of them in
/// some request.
#[test]
fn every_reader_would_be_fooled_by_what_clients_write() {
    let chance = Chance { failure_persistence: None, ..Chance::default() };
    let fooled = Cell::new([0; json::READERS.len()]);
    let outcome = TestRunner::new(chance).run(&requests::some(REQUESTS), |all| {
        for written in &all {
            let sent = Sent {
                query: written.query.clone(),
                content_type: written.content_types.first().cloned().unwrap_or_default(),
                body: written.body.clone(),
            };
            let mut counts = fooled.get();
            for (reader, count) in json::READERS.iter().zip(&mut counts) {
                let seen = reader.read(&sent, written.path);
                let is_other = |seen: Read| {
                    seen.model.is_some_and(|model| model != CHEAP) || !seen.others.is_empty()
                };
                *count += u32::from(seen.is_some_and(is_other));
            }
            fooled.set(counts);
        }
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    for (reader, count) in json::READERS.iter().zip(fooled.get()) {
        assert!(count > 0, "{} reads what Weir does", reader.name);
    }
}
