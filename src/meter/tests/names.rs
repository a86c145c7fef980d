//! Every name of usage, beside what serde_json makes of it.

use proptest::prelude::*;
use serde_json::Value;

use crate::json::Scanner;
use crate::meter::dialect::Document;
use crate::meter::usage_names::{Field, INPUT_DETAILS, Names, OUTPUT_DETAILS, TOP};
use crate::meter::usage_object::{COUNTS, INPUT, InvalidUsage, OUTPUT, TOTAL, UsageObject};

const MAX_COUNT: u64 = 1 << 53;

/// What is read of a usage object.
pub(super) fn read(raw: &str) -> Result<UsageObject, InvalidUsage> {
    let body = format!("{{\"usage\":{raw}}}");
    let mut document = Document::new(false, false, false);
    let mut scanner = Scanner::lenient();
    let pushed = scanner.push(body.as_bytes(), &mut document);
    pushed.and_then(|()| scanner.finish(&mut document)).map_err(|_| InvalidUsage)?;
    document.captures.stated(0)
}

/// The same of what stands at `name`, by serde_json.
fn reference(value: &Value, name: &str) -> Result<Option<u64>, InvalidUsage> {
    match &value[name] {
        Value::Null => Ok(None),
        Value::Number(number) => {
            let float = number.as_f64().unwrap_or(-1.0);
            let is_count = (0.0..=MAX_COUNT as f64).contains(&float);
            let count = number.as_u64().or(is_count.then_some(float.ceil() as u64));
            count.filter(|count| *count <= MAX_COUNT).map(Some).ok_or(InvalidUsage)
        }
        _ => Err(InvalidUsage),
    }
}

/// Every name of a table, and where its number goes.
fn counts(names: Names) -> impl Iterator<Item = (&'static str, usize)> {
    names.iter().filter_map(|(name, field)| match field {
        Field::Count(at) => Some((std::str::from_utf8(name).expect("ASCII"), *at)),
        _ => None,
    })
}

/// What is read of a count. Where it cannot be, only those fail the whole of which the rest are parts.
fn found(raw: &str, at: usize) -> Result<Option<u64>, InvalidUsage> {
    let is_whole = [INPUT, OUTPUT, TOTAL].contains(&at);
    match read(raw) {
        Ok(stated) if stated.is_odd => {
            assert!(!is_whole && stated.counts[at].is_none(), "{raw}");
            Err(InvalidUsage)
        }
        Ok(stated) => Ok(stated.counts[at]),
        Err(InvalidUsage) => {
            assert!(is_whole, "{raw}");
            Err(InvalidUsage)
        }
    }
}

const VALUES: &str = r#"0 | 7 | -0 | -1 | 1.0 | 1.5 | 12e2 | 1e999 | 9007199254740992
    | 9007199254740993 | 18446744073709551615 | 18446744073709551616 | 99999999999999999999
    | null | true | "5" | "\u0041" | "é" | [] | {} | {"cached_tokens":1}"#;

#[test]
fn every_name_is_read_as_by_serde_json() {
    for value in VALUES.split('|').map(str::trim) {
        for (name, at) in counts(TOP) {
            let raw = format!(r#"{{"x":{{"{name}":-1}},"{name}":{value}}}"#);
            let expected = match serde_json::from_str(&raw) {
                Ok(read) => reference(&read, name),
                Err(_) => Err(InvalidUsage),
            };
            assert_eq!(found(&raw, at), expected, "{raw}");
        }
        for (details, names) in
            [("prompt_tokens_details", INPUT_DETAILS), ("output_tokens_details", OUTPUT_DETAILS)]
        {
            for (name, at) in counts(names) {
                let inner = format!(r#"{{"{name}":{value},"y":[{{"{name}":-1}}]}}"#);
                let raw = format!(r#"{{"total_tokens":3,"{details}":{inner}}}"#);
                let expected = match serde_json::from_str(&inner) {
                    Ok(read) => reference(&read, name),
                    Err(_) => Err(InvalidUsage),
                };
                assert_eq!(found(&raw, at), expected, "{raw}");
            }
        }
    }
}

#[test]
fn what_stands_twice_or_wrongly_is_refused() {
    let refused = [
        r#"{"prompt_tokens":1,"prompt_tokens":1}"#,
        r#"{"prompt_tokens":1,"prompt\u005ftokens":1}"#,
        r#"{"prompt_tokens":NaN}"#,
    ];
    for raw in refused {
        assert_eq!(read(raw), Err(InvalidUsage), "{raw}");
    }
    // What is no more than a part.
    let odd = [
        r#"{"prompt_tokens":5,"prompt_tokens_details":{"cached_tokens":1,"cached_tokens":1}}"#,
        r#"{"prompt_tokens":5,"prompt_tokens_details":8}"#,
        r#"{"prompt_tokens":5,"prompt_tokens_details":[1]}"#,
        r#"{"prompt_tokens":5,"prompt_tokens_details":[{}]}"#,
        r#"{"prompt_tokens":5,"prompt_tokens_details":[[]]}"#,
        r#"{"prompt_tokens":5,"seconds":-Infinity}"#,
    ];
    for raw in odd {
        let stated = read(raw).expect(raw);
        assert_eq!((stated.counts[INPUT], stated.is_odd), (Some(5), true), "{raw}");
    }
    let taken = [
        r#"{"prompt\u005ftokens":5,"prompt_tokens_details":[]}"#,
        r#"{"prompt_tokens":5,"x":1,"x":2,"\ud800":1,"prompt_tokens_details":null}"#,
        r#"{"prompt_tokens":5,"input_tokens":0,"x":NaN,"iterations":null,"cache_creation":7}"#,
    ];
    for raw in taken {
        assert_eq!(read(raw).map(|stated| stated.counts[INPUT]), Ok(Some(5)), "{raw}");
    }
}

proptest! {
    #[test]
    fn of_several_names_the_largest_counts(
        fields in prop::collection::btree_map(
            prop::sample::select(counts(TOP).collect::<Vec<_>>()), 0..1_u64 << 53, 0..9
        )
    ) {
        let member = |((name, _), value): (&(&str, usize), &u64)| format!("\"{name}\":{value}");
        let members: Vec<_> = fields.iter().map(member).collect();
        let stated = read(&format!("{{{}}}", members.join(","))).expect("all are sane");
        for at in 0..COUNTS {
            let named = fields.iter().filter(|((_, to), _)| *to == at);
            prop_assert_eq!(stated.counts[at], named.map(|(_, value)| *value).max());
        }
    }
}
