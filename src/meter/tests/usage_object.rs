//! What is made of one statement: the same record of every dialect, with parts and total in line.

use super::names::read;
use crate::meter::usage_object::{Context, InvalidUsage, NormalizedUsage};
use crate::usage::Usage;

const CHAT: Context = Context { all_images: false, has_output: true };
const EMBEDDINGS: Context = Context { has_output: false, ..CHAT };

fn usage(raw: &str) -> Result<Usage, InvalidUsage> {
    Ok(read(raw)?.normalized(CHAT)?.usage)
}

#[test]
fn every_dialect_gives_the_same_record() {
    let base = Usage { input: 8, output: 12, total: 20, ..Usage::default() };
    let cases = [
        (r#"{"prompt_tokens":8,"completion_tokens":12,"total_tokens":20}"#, base),
        (r#"{"prompt_tokens":8.0,"completion_tokens":12}"#, base),
        (r#"{"input_tokens":8,"output_tokens":12}"#, base),
        (
            r#"{"prompt_tokens":8,"completion_tokens":null}"#,
            Usage { input: 8, total: 8, ..Usage::default() },
        ),
        (
            r#"{"prompt_tokens":8,"completion_tokens":12,"total_tokens":20,
                "prompt_tokens_details":{"cached_tokens":1,"cache_write_tokens":2,
                "audio_tokens":3,"image_tokens":4},"completion_tokens_details":{
                "reasoning_tokens":5,"audio_tokens":6,"accepted_prediction_tokens":7,
                "rejected_prediction_tokens":8,"image_tokens":9}}"#,
            Usage {
                cached: 1,
                cache_write: 2,
                audio_input: 3,
                image_input: 4,
                reasoning: 5,
                audio_output: 6,
                accepted_prediction: 7,
                rejected_prediction: 8,
                image_output: 9,
                ..base
            },
        ),
        (
            r#"{"prompt_tokens":8,"completion_tokens":12,"prompt_tokens_details":null,
                "prompt_cache_hit_tokens":3,"reasoning_tokens":4}"#,
            Usage { cached: 3, reasoning: 4, ..base },
        ),
        (
            r#"{"prompt_tokens":8,"completion_tokens":12,"cache_read_input_tokens":3}"#,
            Usage { cached: 3, ..base },
        ),
        (
            r#"{"input_tokens":1,"output_tokens":12,"cache_read_input_tokens":3,
                "cache_creation_input_tokens":4}"#,
            Usage { cached: 3, cache_write: 4, ..base },
        ),
        (
            r#"{"prompt_tokens":8,"completion_tokens":12,"reasoning":2,"x":[]}"#,
            Usage { reasoning: 2, ..base },
        ),
        (
            r#"{"type":"tokens","input_tokens":8,"output_tokens":12,
                "input_token_details":{"text_tokens":5,"audio_tokens":3}}"#,
            Usage { audio_input: 3, ..base },
        ),
        (
            r#"{"input_tokens":8,"input_tokens_details":{"cached_tokens":3,
                "cache_write_tokens":2,"image_tokens":1},"output_tokens":12,
                "output_tokens_details":{"reasoning_tokens":4,"image_tokens":7}}"#,
            Usage {
                cached: 3,
                cache_write: 2,
                image_input: 1,
                reasoning: 4,
                image_output: 7,
                ..base
            },
        ),
        (r#"{"type":"duration","seconds":9}"#, Usage { audio_ms: 9_000, ..Usage::default() }),
        (
            r#"{"prompt_tokens":8,"completion_tokens":12,"cost":1.45e-4}"#,
            Usage { reported_cost_nano_usd: Some(145_000), ..base },
        ),
        (
            r#"{"prompt_tokens":8,"completion_tokens":12,"cost":0}"#,
            Usage { reported_cost_nano_usd: Some(0), ..base },
        ),
        (
            r#"{"prompt_tokens":8,"completion_tokens":12,"cost":{"x":2,"total_cost":0.5}}"#,
            Usage { reported_cost_nano_usd: Some(500_000_000), ..base },
        ),
        (
            r#"{"prompt_tokens":8,"completion_tokens":12,"cost_in_usd_ticks":37756000}"#,
            Usage { reported_cost_nano_usd: Some(3_775_600), ..base },
        ),
        // What cannot be a cost is none, and leaves the tokens as they are.
        (r#"{"prompt_tokens":8,"completion_tokens":12,"cost":null}"#, base),
        (r#"{"prompt_tokens":8,"completion_tokens":12,"cost":{"total_cost":{}}}"#, base),
        (r#"{"prompt_tokens":8,"completion_tokens":12,"cost":-1}"#, base),
        (r#"{"prompt_tokens":8,"completion_tokens":12,"cost":"0.1"}"#, base),
        (r#"{"prompt_tokens":8,"completion_tokens":12,"cost":1e300}"#, base),
    ];
    for (raw, expected) in cases {
        assert_eq!(usage(raw), Ok(expected), "{raw}");
    }
}

/// What is made of parts and a total that do not fit, with the flag.
#[test]
fn parts_are_brought_in_line_with_the_total() {
    // Chat: members, (input, output), differs.
    let chat = [
        (r#""prompt_tokens":8,"completion_tokens":12,"total_tokens":20"#, (8, 12), false),
        // Reasoning beside the answer; inside it; and one of which nothing is said.
        (
            r#""prompt_tokens":8,"completion_tokens":12,"total_tokens":25,"reasoning_tokens":5"#,
            (8, 17),
            false,
        ),
        (
            r#""prompt_tokens":8,"completion_tokens":12,"total_tokens":20,"reasoning_tokens":5"#,
            (8, 12),
            false,
        ),
        (r#""prompt_tokens":9,"completion_tokens":12,"total_tokens":721"#, (9, 712), true),
        (
            r#""prompt_tokens":8,"completion_tokens":12,"total_tokens":30,"reasoning_tokens":5"#,
            (8, 22),
            true,
        ),
        // More reasoning than answer: beside it, unless the total says that it is not.
        (r#""prompt_tokens":8,"completion_tokens":3,"reasoning_tokens":5"#, (8, 8), false),
        (
            r#""prompt_tokens":8,"completion_tokens":3,"total_tokens":11,"reasoning_tokens":5"#,
            (8, 3),
            true,
        ),
        // A picture beside the answer, what was heard beside the prompt, and the cache.
        (
            r#""prompt_tokens":8,"completion_tokens":2,"total_tokens":100,
                "completion_tokens_details":{"image_tokens":90}"#,
            (8, 92),
            false,
        ),
        (
            r#""prompt_tokens":4,"completion_tokens":685,"total_tokens":3264,
                "prompt_audio_seconds":203"#,
            (2579, 685),
            false,
        ),
        (
            r#""prompt_tokens":108,"completion_tokens":7,"total_tokens":1907,"cached_tokens":1792"#,
            (1900, 7),
            false,
        ),
        (
            r#""prompt_tokens":2000,"completion_tokens":7,"total_tokens":3799,"cached_tokens":1792"#,
            (3792, 7),
            false,
        ),
        (
            r#""prompt_tokens":194,"completion_tokens":7,"total_tokens":201,
                "cache_creation_input_tokens":9474"#,
            (9668, 7),
            true,
        ),
        // Anthropic's words with a total as they would add up themselves.
        (
            r#""input_tokens":3,"output_tokens":7,"total_tokens":10,"cache_read_input_tokens":90"#,
            (93, 7),
            false,
        ),
        (r#""prompt_tokens":8,"total_tokens":20"#, (8, 12), false),
        (r#""completion_tokens":12,"total_tokens":20"#, (8, 12), false),
        (r#""prompt_tokens":8,"completion_tokens":12,"total_tokens":15"#, (8, 12), true),
        (r#""prompt_tokens":8,"completion_tokens":12,"total_tokens":0"#, (8, 12), false),
    ];
    for (members, (input, output), differs) in chat {
        let normalized = read(&format!("{{{members}}}")).and_then(|it| it.normalized(CHAT));
        let NormalizedUsage { usage, differs: found, is_undivided } = normalized.expect(members);
        let found = (usage.input, usage.output, usage.total, found, is_undivided);
        assert_eq!(found, (input, output, input + output, differs, false), "{members}");
    }
    let alone = read(r#"{"total_tokens":1000}"#).expect("sane");
    for (context, is_undivided) in [(CHAT, true), (EMBEDDINGS, false)] {
        let usage = Usage { input: 1000, total: 1000, ..Usage::default() };
        let expected = NormalizedUsage { usage, differs: false, is_undivided };
        assert_eq!(alone.normalized(context), Ok(expected));
    }
    let more = read(r#"{"prompt_tokens":900,"total_tokens":1000}"#).expect("sane");
    let normalized = more.normalized(EMBEDDINGS).expect("sane");
    assert_eq!(
        (normalized.usage.input, normalized.usage.output, normalized.differs),
        (1000, 0, true)
    );
}

/// Turns in one request: with a compaction they are added up, and others are only told of.
#[test]
fn iterations_are_added_up_after_a_compaction() {
    let message = r#"{"type":"message","input_tokens":23,"output_tokens":1,"x":{"y":1}}"#;
    let compaction = r#"{"type":"compaction","input_tokens":180,"output_tokens":3}"#;
    let advisor = r#"{"output_tokens":9,"type":"advisor_message","input_tokens":50}"#;
    for (turns, (input, output), is_odd) in [
        (vec![message], (23, 1), false),
        (vec![compaction, message], (203, 4), false),
        (vec![message, compaction, message], (226, 5), false),
        (vec![message, advisor], (23, 1), true),
        (vec![advisor, compaction, message], (203, 4), true),
    ] {
        let turns = turns.join(",");
        for raw in [
            format!(r#"{{"input_tokens":23,"output_tokens":1,"iterations":[{turns}]}}"#),
            format!(r#"{{"iterations":[{turns}],"output_tokens":1,"input_tokens":23}}"#),
        ] {
            let stated = read(&raw).expect(&raw);
            let usage = stated.normalized(CHAT).expect(&raw).usage;
            assert_eq!((usage.input, usage.output, stated.is_odd), (input, output, is_odd));
        }
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let values = ["-1", "\"5\"", "9007199254740993", "9223372036854775808", "1e300"];
    for value in values.into_iter().chain(["true", "[]", "{}", "1e999"]) {
        for field in ["prompt_tokens", "output_tokens", "total_tokens"] {
            let raw = format!(r#"{{"{field}":{value}}}"#);
            assert_eq!(usage(&raw), Err(InvalidUsage), "{raw}");
        }
        // An odd part says nothing against the whole.
        for part in [
            format!(r#""reasoning_tokens":{value}"#),
            format!(r#""prompt_tokens_details":{{"cached_tokens":{value}}}"#),
        ] {
            let raw = format!(r#"{{"prompt_tokens":5,"completion_tokens":2,{part}}}"#);
            let stated = read(&raw).expect(&raw);
            let usage = stated.normalized(CHAT).expect(&raw).usage;
            assert_eq!((usage.input, usage.output, usage.total), (5, 2, 7), "{raw}");
            assert!(stated.is_odd, "{raw}");
        }
    }
    assert!(usage(r#"{"prompt_tokens":9007199254740992}"#).is_ok());
    for value in ["-1", "\"5\"", "9007199254740.993", "1e300", "true", "[]", "{}", "1e999"] {
        let raw = format!(r#"{{"seconds":{value}}}"#);
        let stated = read(&raw).expect(&raw);
        assert!(stated.is_odd && !stated.states_use(), "{raw}");
    }
    for (cost, is_insane) in [("-1", true), ("\"1\"", true), ("{}", false), ("0.1", false)] {
        let raw = format!(r#"{{"total_tokens":1,"cost":{cost}}}"#);
        let stated = read(&raw).expect(&raw);
        assert_eq!(stated.is_cost_insane, is_insane, "{raw}");
    }
}

#[test]
fn a_later_statement_is_laid_over_an_earlier_one() {
    let start = read(r#"{"input_tokens":5,"cache_read_input_tokens":2,"output_tokens":1}"#);
    let delta = read(r#"{"input_tokens":0,"output_tokens":15}"#);
    let usage = start.unwrap().overlaid(&delta.unwrap()).normalized(CHAT).unwrap().usage;
    assert_eq!((usage.input, usage.cached, usage.output, usage.total), (7, 2, 15, 22));
}

#[test]
fn a_cost_that_cannot_be_stays_one_whatever_else_is_stated() {
    let stated = |cost| {
        let raw = format!(r#"{{"output_tokens":1,"cost":{cost}}}"#);
        read(&raw).expect("the tokens are right")
    };
    for (earlier, later, is_insane) in
        [("1", "2", false), ("-1", "2", true), ("1", "-2", true), ("-1", "-2", true)]
    {
        let both = stated(earlier).overlaid(&stated(later));
        assert_eq!(both.is_cost_insane, is_insane, "{earlier}, then {later}");
    }
}
