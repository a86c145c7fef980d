//! Which statement counts, as a table: what a stream says, and what is read of it.

use bytes::Bytes;

use super::super::{Hide, Kind, Meter, Setup};
use super::WORDS;

/// `input`, `output` and `total`; whether it is final, suspect, and done.
type Read = (Option<(u64, u64, u64)>, bool, bool, bool);

fn read(answers: u64, events: &[&str]) -> Read {
    let setup = WORDS.setup(Kind::Sse, Hide::Nothing, None);
    let mut meter = Meter::new(Setup { answers, ..setup });
    let mut out = Vec::new();
    for event in events {
        meter.push(Bytes::from(format!("data: {event}\n\n")), &mut out);
    }
    let reading = meter.reading();
    let usage = reading.usage.map(|usage| (usage.input, usage.output, usage.total));
    (usage, reading.is_final, reading.suspect, meter.done())
}

/// A chunk with the choices `indices`, and `usage` beside it.
fn chunk(indices: &[u64], usage: &str) -> String {
    let choices =
        indices.iter().map(|index| format!(r#"{{"index":{index},"delta":{{"content":"a"}}}}"#));
    let choices = choices.collect::<Vec<_>>().join(",");
    format!(r#"{{"choices":[{choices}],"usage":{usage}}}"#)
}

fn tokens(input: u64, output: u64) -> String {
    format!(r#"{{"prompt_tokens":{input},"completion_tokens":{output}}}"#)
}

#[test]
fn the_statement_that_counts() {
    let (none, zero) = ("null".to_owned(), tokens(0, 0));
    let finish = |index: u64, usage: &str| {
        format!(
            r#"{{"choices":[{{"index":{index},"delta":{{}},"finish_reason":"stop"}}],"usage":{usage}}}"#
        )
    };
    let of = |input, output| Some((input, output, input + output));
    // What it shows, answers asked for, events, (usage, final, suspect, done).
    let cases: Vec<(&str, u64, Vec<String>, Read)> = vec![
        ("nothing", 1, vec![chunk(&[0], &none)], (None, false, false, false)),
        ("explicit zeros stay", 1, vec![chunk(&[], &zero)], (of(0, 0), false, false, false)),
        (
            "zeros say nothing beside more",
            1,
            vec![chunk(&[0], &tokens(3, 1)), chunk(&[], &zero)],
            (of(3, 1), false, false, false),
        ),
        (
            "zeros that cost nothing say nothing either",
            1,
            vec![
                chunk(&[0], &tokens(3, 1)),
                chunk(&[], r#"{"prompt_tokens":0,"completion_tokens":0,"cost":0}"#),
            ],
            (of(3, 1), false, false, false),
        ),
        (
            "zeros that cost something say it",
            1,
            vec![
                chunk(&[0], &zero),
                chunk(&[], r#"{"prompt_tokens":0,"completion_tokens":0,"cost":0.5}"#),
            ],
            (of(0, 0), false, false, false),
        ),
        (
            "the last, never the sum",
            1,
            vec![chunk(&[0], &tokens(3, 1)), chunk(&[0], &tokens(3, 2)), chunk(&[0], &none)],
            (of(3, 2), false, false, false),
        ),
        (
            "beside the finish it is the whole",
            1,
            vec![chunk(&[0], &tokens(3, 1)), finish(0, &tokens(3, 2))],
            (of(3, 2), true, false, false),
        ),
        (
            "alone it beats what says no more, before",
            1,
            vec![chunk(&[], &tokens(3, 4)), chunk(&[0], &tokens(3, 4))],
            (of(3, 4), false, false, false),
        ),
        (
            "alone it gives way to more, and is nothing final",
            1,
            vec![chunk(&[], &tokens(3, 1)), chunk(&[0], &none), chunk(&[], &tokens(3, 9))],
            (of(3, 9), false, true, false),
        ),
        (
            "the same when more stands beside content",
            1,
            vec![chunk(&[], &tokens(3, 4)), chunk(&[0], &tokens(3, 9))],
            (of(3, 9), false, false, false),
        ),
        (
            "alone without output before content, and then the whole",
            1,
            vec![chunk(&[], &tokens(3, 0)), finish(0, &none), chunk(&[], &tokens(3, 9))],
            (of(3, 9), true, false, false),
        ),
        (
            "alone with one choice of two unfinished",
            2,
            vec![chunk(&[1], &none), finish(0, &none), chunk(&[], &tokens(3, 9))],
            (of(3, 9), false, false, false),
        ),
        (
            "alone beats all others, after, also with less",
            1,
            vec![chunk(&[0], &tokens(3, 9)), finish(0, &none), chunk(&[], &tokens(3, 4))],
            (of(3, 4), true, true, false),
        ),
        (
            "but not where nothing had finished",
            1,
            vec![chunk(&[0], &tokens(3, 9)), chunk(&[], &tokens(3, 4))],
            (of(3, 9), false, true, false),
        ),
        (
            "per choice the most, and the sum of those",
            2,
            vec![
                chunk(&[0], &tokens(3, 1)),
                chunk(&[1], &tokens(3, 1)),
                chunk(&[0], &tokens(3, 2)),
                chunk(&[1], &tokens(3, 5)),
            ],
            (of(3, 7), false, false, false),
        ),
        (
            "the sum per choice gives way to the one alone",
            2,
            vec![chunk(&[0], &tokens(3, 2)), chunk(&[1], &tokens(3, 5)), chunk(&[], &tokens(3, 7))],
            (of(3, 7), false, false, false),
        ),
        (
            "beside several choices it is of all of them",
            2,
            vec![chunk(&[0, 1], &tokens(3, 2)), chunk(&[0, 1], &tokens(3, 4))],
            (of(3, 4), false, false, false),
        ),
        (
            "one of two answers has ended, the other has not begun",
            2,
            vec![chunk(&[0], &tokens(3, 1)), finish(0, &tokens(3, 2))],
            (of(3, 2), false, false, false),
        ),
        (
            "decreasing",
            1,
            vec![chunk(&[0], &tokens(3, 5)), chunk(&[0], &tokens(3, 4))],
            (of(3, 5), false, true, false),
        ),
        (
            "x_groq before nothing, usage before x_groq",
            1,
            vec![format!(
                r#"{{"choices":[{{"index":0,"delta":{{}},"finish_reason":"stop"}}],"x_groq":{{"usage":{}}},"usage":{}}}"#,
                tokens(3, 4),
                tokens(3, 5)
            )],
            (of(3, 5), true, false, false),
        ),
        (
            "completion_tokens null is none",
            1,
            vec![chunk(&[], r#"{"prompt_tokens":3,"completion_tokens":null}"#)],
            (of(3, 0), false, false, false),
        ),
        (
            "the upstream's own total",
            1,
            vec![chunk(&[], r#"{"prompt_tokens":3,"completion_tokens":4,"total_tokens":9}"#)],
            (of(3, 6), false, false, false),
        ),
        (
            "a cost alone leaves open what was used",
            1,
            vec![chunk(&[], r#"{"cost":0.5}"#)],
            (None, false, false, false),
        ),
        (
            "one image of two",
            2,
            vec![format!(
                r#"{{"type":"image_generation.completed","b64_json":"A","usage":{}}}"#,
                tokens(3, 4)
            )],
            (of(3, 4), false, false, false),
        ),
        (
            "two images of two, of which the last is the smaller",
            2,
            [4, 2]
                .map(|output| {
                    let usage = tokens(3, output);
                    format!(r#"{{"type":"image_edit.completed","b64_json":"A","usage":{usage}}}"#)
                })
                .into(),
            (of(3, 4), true, true, true),
        ),
        (
            "images that come one by one, and their usage behind them, whatever was asked for",
            4,
            vec![
                r#"{"type":"image_generation.partial_succeeded","url":"http://x/1"}"#.to_owned(),
                format!(r#"{{"type":"image_generation.completed","usage":{}}}"#, tokens(3, 4)),
            ],
            (of(3, 4), true, false, true),
        ),
        (
            "two images of two",
            2,
            vec![
                format!(
                    r#"{{"type":"image_edit.completed","b64_json":"A","usage":{}}}"#,
                    tokens(3, 4)
                );
                2
            ],
            (of(3, 4), true, false, true),
        ),
    ];
    for (name, answers, events, expected) in cases {
        let events: Vec<_> = events.iter().map(String::as_str).collect();
        assert_eq!(read(answers, &events), expected, "{name}");
    }
}

/// A value that cannot be never gets into a count, and does not take away what was right before.
#[test]
fn what_cannot_be_is_not_counted() {
    let before = chunk(&[0], &tokens(3, 1));
    let values = ["-1", "\"5\"", "9223372036854775808", "9007199254740993", "1e300", "true"];
    for value in values.into_iter().chain(["[]", "{}", "1e999"]) {
        for field in ["completion_tokens", "prompt_tokens", "total_tokens"] {
            let insane =
                format!(r#"{{"prompt_tokens":3,"completion_tokens":2,"{field}":{value}}}"#);
            for insane in [insane, format!(r#"{{"{field}":{value}}}"#)] {
                let expected = (Some((3, 1, 4)), false, true, false);
                assert_eq!(read(1, &[&before, &chunk(&[], &insane)]), expected, "{insane}");
                assert_eq!(read(1, &[&chunk(&[], &insane), &before]), expected, "{insane}");
                assert_eq!(
                    read(1, &[&chunk(&[], &insane)]),
                    (None, false, true, false),
                    "{insane}"
                );
            }
        }
    }
}

/// Usage that came once is of the answer only where it came behind what there is of that.
#[test]
fn what_is_stated_once_before_text_is_early() {
    let (usage, words, both) = (
        format!(r#"{{"choices":[{{"index":0,"delta":{{}}}}],"usage":{}}}"#, tokens(3, 1)),
        chunk(&[0], "null"),
        chunk(&[0], &tokens(3, 1)),
    );
    for (events, is_early) in [
        (&[&usage][..], true),
        (&[&usage, &words], true),
        (&[&words, &usage], false),
        (&[&both], false),
        (&[&both, &words], true),
        (&[&usage, &both, &words], false),
        (&[&words], false),
    ] {
        let mut meter = Meter::new(WORDS.setup(Kind::Sse, Hide::Nothing, None));
        let mut out = Vec::new();
        for event in events {
            meter.push(Bytes::from(format!("data: {event}\n\n")), &mut out);
        }
        assert_eq!(meter.reading().is_early, is_early, "{events:?}");
        let is_counted = meter.progress().total_tokens.is_some();
        let is_stated = meter.reading().usage.is_some();
        assert_eq!(is_counted, is_stated && !is_early, "{events:?}");
    }
}

/// vLLM and SGLang state beside each choice the tokens of its own prompt.
#[test]
fn of_several_prompts_each_input_counts_once() {
    // Answers, prompts, events; input, output, and whether prompts are missing.
    for (answers, prompts, events, expected) in [
        (2, 2, vec![chunk(&[0], &tokens(6, 1))], (6, 1, true)),
        (2, 2, vec![chunk(&[1], &tokens(7, 1)), chunk(&[0], &tokens(6, 1))], (13, 2, false)),
        (
            4,
            2,
            vec![
                chunk(&[0], &tokens(6, 1)),
                chunk(&[2], &tokens(7, 2)),
                chunk(&[1], &tokens(6, 3)),
            ],
            (13, 6, false),
        ),
        (4, 2, vec![chunk(&[3], &tokens(7, 1)), chunk(&[2], &tokens(7, 2))], (7, 3, true)),
        (2, 1, vec![chunk(&[0], &tokens(6, 1)), chunk(&[1], &tokens(6, 1))], (6, 2, false)),
        // Beside several choices, or alone, it is of all of them.
        (2, 2, vec![chunk(&[0, 1], &tokens(13, 2))], (13, 2, false)),
        (2, 2, vec![chunk(&[0], &tokens(6, 1)), chunk(&[], &tokens(13, 2))], (13, 2, false)),
    ] {
        let setup = WORDS.setup(Kind::Sse, Hide::Nothing, None);
        let mut meter = Meter::new(Setup { answers, prompts, ..setup });
        let mut out = Vec::new();
        for event in &events {
            meter.push(Bytes::from(format!("data: {event}\n\n")), &mut out);
        }
        let reading = meter.reading();
        let usage = reading.usage.expect("it was stated");
        let found = (usage.input, usage.output, reading.misses_prompts);
        assert_eq!(found, expected, "{answers} {prompts} {events:?}");
        assert!(reading.is_early || !reading.misses_prompts);
    }
}

/// Of several pictures the first is not the whole: who leaves has not stayed, and nothing is cut for the last.
#[test]
fn some_pictures_of_several_are_a_part() {
    let picture =
        format!(r#"{{"type":"image_edit.completed","b64_json":"A","usage":{}}}"#, tokens(3, 4));
    for (answers, pictures, is_whole) in [(1, 1, true), (2, 1, false), (3, 2, false), (3, 3, true)]
    {
        let setup = WORDS.setup(Kind::Sse, Hide::Nothing, None);
        let mut meter = Meter::new(Setup { answers, ..setup });
        for _ in 0..pictures {
            meter.push(Bytes::from(format!("data: {picture}\n\n")), &mut Vec::new());
        }
        let reading = meter.reading();
        let found =
            (reading.is_final, reading.finish_reason, meter.is_settled(), meter.progress().is_over);
        assert_eq!(found, (is_whole, is_whole, is_whole, is_whole), "{pictures} of {answers}");
        assert!(is_whole || (reading.is_early && !meter.awaits_usage() && !meter.ends_unmarked()));
        // Some make one however many are asked for.
        assert!(meter.may_end());
    }
}
