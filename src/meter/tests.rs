//! The meter over recorded and written streams of every dialect: `tests/fixtures/streams/`. Beside
//! each `<case>.sse` (a stream) or `<case>.body` (a JSON body) stands `<case>.json` with what must
//! be read from it, and `<case>.hidden.sse` where the client gets other bytes when usage is hidden.
//! Where Weir asks for running usage, `<case>.running.sse` is what a client gets that asked for none,
//! and `<case>.asked.sse` what one gets that asked for the last one.

use std::io::Write;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Map, Value, json};

use super::*;

mod usage_object;
mod id;
mod names;
mod usage_selection;
mod providers;
mod reordered;
mod unfinished;

/// So that no fixture goes missing unnoticed.
const FIXTURES: usize = 274;
/// In how many places each of them is cut, about, without `WEIR_TORTURE_CUTS`.
const CUTS: usize = 128;

struct Fixture {
    name: String,
    endpoint: Endpoint,
    kind: Kind,
    stream: Vec<u8>,
    hidden: Vec<u8>,
    running: Vec<u8>,
    asked: Vec<u8>,
    expected: Value,
}

impl Fixture {
    /// What the client gets of it.
    fn client(&self, hide: Hide) -> &[u8] {
        match hide {
            Hide::Nothing => &self.stream,
            Hide::Last => &self.hidden,
            Hide::All => &self.running,
            Hide::Running => &self.asked,
        }
    }
}

/// What of the endpoint decides how an answer is read.
#[derive(Clone, Copy)]
struct Endpoint {
    has_output: bool,
    hears: bool,
}

const WORDS: Endpoint = Endpoint { has_output: true, hears: false };

impl Endpoint {
    /// By the directory, which is named after a dialect or after an endpoint with rules of its own.
    fn of(name: &str) -> Self {
        match name.split('/').next() {
            Some("embeddings" | "moderations" | "voyage") => Self { has_output: false, ..WORDS },
            Some("audio") => Self { hears: true, ..WORDS },
            _ => WORDS,
        }
    }

    fn setup(self, kind: Kind, hide: Hide, model: Option<&str>) -> Setup<'_> {
        let Self { has_output, hears } = self;
        Setup {
            kind,
            coding: None,
            hide,
            answers: 1,
            prompts: 1,
            has_output,
            hears,
            model,
            wants_ids: false,
        }
    }
}

fn fixtures() -> Vec<Fixture> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/streams");
    let files = |dir: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).expect("the fixtures are in the repository");
        entries.map(|entry| entry.expect("a readable entry").path()).collect()
    };
    let read = |path: &Path| std::fs::read(path).expect("a readable fixture");
    let mut found = Vec::new();
    for path in files(&root).iter().flat_map(|dialect| files(dialect)) {
        let name = path.strip_prefix(&root).expect("below the root").display().to_string();
        let kind = match path.extension().and_then(|ext| ext.to_str()) {
            Some("sse") if name.matches('.').count() == 1 => Kind::Sse,
            Some("body") => Kind::Json,
            _ => continue,
        };
        let stream = read(&path);
        let or = |extension: &str, other: &Vec<u8>| {
            let path = path.with_extension(extension);
            if path.exists() { read(&path) } else { other.clone() }
        };
        let hidden = or("hidden.sse", &stream);
        let running = or("running.sse", &hidden);
        let asked = or("asked.sse", &stream);
        let expected = serde_json::from_slice(&read(&path.with_extension("json")));
        let expected = expected.unwrap_or_else(|error| panic!("{name}: {error}"));
        let endpoint = Endpoint::of(&name);
        found.push(Fixture { name, endpoint, kind, stream, hidden, running, asked, expected });
    }
    found
}

fn meter(kind: Kind, hide: Hide, model: Option<&str>) -> Meter {
    Meter::new(WORDS.setup(kind, hide, model))
}

/// What leaves when `pieces` are pushed, the end included.
fn run<'a>(meter: &mut Meter, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in pieces {
        meter.push(Bytes::copy_from_slice(piece), &mut out);
    }
    meter.finish(&mut out);
    out.concat()
}

/// A reading in the form of the fixtures: what is zero, false or absent is left out, apart from
/// `usage`.
fn described(reading: &Reading) -> Value {
    let usage = reading.usage.map(|usage| {
        let counts = [
            ("input", usage.input),
            ("cached", usage.cached),
            ("cache_write", usage.cache_write),
            ("output", usage.output),
            ("reasoning", usage.reasoning),
            ("audio_input", usage.audio_input),
            ("audio_output", usage.audio_output),
            ("image_input", usage.image_input),
            ("image_output", usage.image_output),
            ("accepted_prediction", usage.accepted_prediction),
            ("rejected_prediction", usage.rejected_prediction),
            ("audio_ms", usage.audio_ms),
            ("total", usage.total),
        ];
        let counts = counts.into_iter().filter(|(_, count)| *count > 0);
        let mut counts: Map<_, _> =
            counts.map(|(name, count)| (name.to_owned(), json!(count))).collect();
        if let Some(cost) = usage.reported_cost_nano_usd {
            counts.insert("reported_cost_nano_usd".to_owned(), json!(cost));
        }
        counts
    });
    let mut value = json!({
        "final": reading.is_final,
        "start": reading.is_start,
        "finish_reason": reading.finish_reason,
        "done": reading.done,
        // Said only where nothing else says that the answer has ended.
        "usage_last": reading.ends_with_usage && !reading.finish_reason && !reading.done,
        "error": reading.error,
        "suspect": reading.suspect,
        "differs": reading.total_differs,
        "undivided": reading.is_undivided,
        "unread": reading.is_unread,
        "unread_bytes": reading.unread_bytes,
        "breaks_off": reading.breaks_off,
        "no_answer": reading.is_no_answer,
        // Usage that stands in no object of its own has none to be kept.
        "loose": reading.usage.is_some() && reading.raw_usage.is_none(),
        "model": reading.model_served,
        "text_bytes": reading.output_text_bytes,
        "images": reading.output_images,
    });
    let members = value.as_object_mut().expect("made as an object");
    members
        .retain(|_, value| *value != json!(null) && *value != json!(false) && *value != json!(0));
    members.insert("usage".to_owned(), json!(usage));
    value
}

/// One fixture, pushed in these pieces, must give what its files say.
fn check(fixture: &Fixture, hide: Hide, pieces: &[&[u8]], how: &str) {
    let mut meter = Meter::new(fixture.endpoint.setup(fixture.kind, hide, None));
    let out = run(&mut meter, pieces.iter().copied());
    let Fixture { name, expected, .. } = fixture;
    let client = fixture.client(hide);
    assert!(
        out == *client,
        "{name} {how}, hide {hide:?}:\n{}\ninstead of\n{}",
        out.escape_ascii(),
        client.escape_ascii()
    );
    let reading = meter.reading();
    assert_eq!(described(&reading), *expected, "{name} {how}, hide {hide:?}");
}

#[test]
fn every_fixture_is_read_right_however_it_is_cut() {
    let fixtures = fixtures();
    assert_eq!(fixtures.len(), FIXTURES);
    let cuts_all = std::env::var_os("WEIR_TORTURE_CUTS").is_some();
    for fixture in &fixtures {
        for hide in [Hide::Nothing, Hide::Last, Hide::All, Hide::Running] {
            check(fixture, hide, &[&fixture.stream], "whole");
            let bytes: Vec<&[u8]> = fixture.stream.chunks(1).collect();
            check(fixture, hide, &bytes, "byte by byte");
            // Hiding running usage is the same work as hiding, where there is none to hide.
            let is_same = match hide {
                Hide::All => fixture.running == fixture.hidden,
                Hide::Running => fixture.asked == fixture.stream,
                // Nothing is hidden in a body.
                Hide::Last => fixture.kind == Kind::Json,
                Hide::Nothing => false,
            };
            if is_same {
                continue;
            }
            // The work is the square of the length: what is long is cut less often, unless all is asked for.
            let len = fixture.stream.len();
            let step = if cuts_all { 1 } else { 1 + len / CUTS };
            for cut in (len % step..=len).step_by(step) {
                let (left, right) = fixture.stream.split_at(cut);
                check(fixture, hide, &[left, right], &format!("cut at {cut}"));
            }
        }
    }
}

#[test]
fn nothing_is_dammed_and_frames_are_not_copied() {
    for fixture in fixtures() {
        // Without edits every byte leaves with the push that brings it, in the frame it came in.
        let mut plain = meter(fixture.kind, Hide::Nothing, None);
        for piece in fixture.stream.chunks(7) {
            let (frame, mut out) = (Bytes::copy_from_slice(piece), Vec::new());
            plain.push(frame.clone(), &mut out);
            assert_eq!(out.len(), 1, "{}", fixture.name);
            assert_eq!((out[0].as_ptr(), out[0].len()), (frame.as_ptr(), frame.len()));
        }
        if fixture.kind != Kind::Sse {
            continue;
        }
        // With hiding, nothing of an event is left behind once its blank line has come.
        let mut hiding = meter(Kind::Sse, Hide::Last, None);
        let (mut lines, mut out) = (Lines::new(), Vec::new());
        for byte in fixture.stream.chunks(1) {
            hiding.push(Bytes::copy_from_slice(byte), &mut out);
            let held = hiding.release.as_ref().is_some_and(Release::holds);
            if matches!(lines.next(byte).0, Part::End | Part::Tail | Part::Between) {
                assert!(!held, "{} after {}", fixture.name, hiding.at);
            }
        }
    }
}

#[test]
fn each_event_leaves_with_the_push_that_completes_it() {
    let first = r#"data: {"choices":[{"index":0,"delta":{"content":"a"}}],"usage":null}"#;
    let usage = r#"data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
    for end in ["\n\n", "\r\n\r", "\r\r"] {
        let cut = r#"data: {"choices":[{"index":0,"delta":{"content":"a"}}]}"#;
        let steps = [
            (first, String::new()),
            (end, format!("{cut}{end}")),
            (usage, String::new()),
            (end, String::new()),
            (": waiting", ": waiting".to_owned()),
            (end, end.to_owned()),
            // No JSON document begins so: there is nothing to decide.
            ("data: [", String::new()),
            ("DO", "data: [DO".to_owned()),
            ("NE]", "NE]".to_owned()),
            (end, end.to_owned()),
        ];
        let mut meter = meter(Kind::Sse, Hide::Last, None);
        let mut done = false;
        for (frame, expected) in steps {
            let mut out = Vec::new();
            meter.push(Bytes::copy_from_slice(frame.as_bytes()), &mut out);
            let left = String::from_utf8(out.concat()).expect("text");
            assert_eq!(left, expected, "{frame}");
            // With the last byte of the end mark, not before, the meter says so.
            done |= frame == "NE]";
            assert_eq!(meter.done(), done, "{frame}");
        }
        assert_eq!(meter.reading().usage.map(|usage| usage.total), Some(3));
    }
}

#[test]
fn the_end_of_a_body_is_seen_with_its_last_byte() {
    let mut meter = meter(Kind::Json, Hide::Nothing, None);
    let mut out = Vec::new();
    meter.push(Bytes::from_static(br#" {"usage":{"input_tokens":1"#), &mut out);
    assert_eq!((meter.done(), meter.reading().usage), (false, None));
    meter.push(Bytes::from_static(b"}"), &mut out);
    assert_eq!((meter.done(), meter.reading().usage.is_some()), (false, true));
    meter.push(Bytes::from_static(b"}"), &mut out);
    assert!(meter.done());
    meter.push(Bytes::from_static(b"\n"), &mut out);
    meter.finish(&mut out);
    assert!(meter.done() && meter.reading().is_final);
}

#[test]
fn an_event_can_be_put_in_only_between_two() {
    // (what came, hide, between two events with nothing held, or with something to discard)
    let cases: &[(&str, bool, bool)] = &[
        ("", false, true),
        ("data: {}\n\n", false, true),
        ("data: {}\r\n\r", false, true),
        ("data: {}\n", false, false),
        ("d", false, false),
        (": comm", false, false),
        (": comment\n", false, true),
        ("data: {}\n\n: c\nevent: x\n", false, false),
        ("data: {}\n\ndata: {\"a\"", true, true),
        ("data: {}\n\ndata: x", true, false),
        ("data: {}\n\ndata: [DONE]", true, false),
        ("\u{feff}", true, true),
    ];
    for (stream, hide, between) in cases {
        let mut meter = meter(Kind::Sse, if *hide { Hide::Last } else { Hide::Nothing }, None);
        let mut out = Vec::new();
        for byte in stream.as_bytes().chunks(1) {
            meter.push(Bytes::copy_from_slice(byte), &mut out);
        }
        assert_eq!(meter.between_events(), *between, "{stream:?}");
        if *between {
            meter.discard_held();
            assert!(meter.between_events());
            let left = out.len();
            meter.finish(&mut out);
            assert_eq!(out.len(), left, "{stream:?}: what was discarded is gone");
        }
    }
    let mut body = meter(Kind::Json, Hide::Nothing, None);
    body.push(Bytes::from_static(b"{}"), &mut Vec::new());
    assert!(!body.between_events());
}

/// Where an event breaks off, what is left of it at the client is nothing, or no place for an event of ours.
#[test]
fn nothing_follows_half_an_event_whose_name_was_held() {
    let whole = "data: {\"choices\":[]}\n\n";
    for broken in [
        r#"data: {"type":"message_start","message":{"model":"up-1","id":"#,
        r#"data: {"id":"c1","model":"up-1","choices":[]"#,
        "event: x\ndata: {\"response\":{\"model\":\"up-1\",",
    ] {
        for (cut, hide) in
            (1..=broken.len()).flat_map(|cut| [Hide::Nothing, Hide::Last].map(|hide| (cut, hide)))
        {
            let mut meter = meter(Kind::Sse, hide, Some("pub"));
            let mut out = Vec::new();
            meter.push(Bytes::from(whole), &mut out);
            meter.push(Bytes::copy_from_slice(&broken.as_bytes()[..cut]), &mut out);
            meter.discard_held();
            let is_clean = out.concat().ends_with(b"\n\n") || out.is_empty();
            assert_eq!(meter.between_events(), is_clean, "{hide:?}: {}", &broken[..cut]);
        }
    }
}

/// Without a mark it is whole where all has finished that began, and as many as were asked for.
#[test]
fn an_answer_may_end_where_all_of_it_has_finished() {
    let begin = |index| format!(r#"{{"choices":[{{"index":{index},"delta":{{"content":"a"}}}}]}}"#);
    let finish = |index, reason| {
        format!(r#"{{"choices":[{{"index":{index},"delta":{{}},"finish_reason":{reason}}}]}}"#)
    };
    let stop = |index| finish(index, r#""stop""#);
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#.to_owned();
    for (answers, events, may_end) in [
        (1, vec![begin(0)], false),
        (1, vec![begin(0), stop(0)], true),
        (1, vec![begin(0), finish(0, r#""null""#)], false),
        (1, vec![begin(0), finish(0, "\"\"")], false),
        (1, vec![begin(0), begin(1), stop(0)], false),
        (2, vec![begin(0), stop(0)], false),
        (2, vec![begin(0), stop(0), begin(1), stop(1)], true),
        // An upstream that makes one answer however many are asked for says so by its usage.
        (2, vec![begin(0), stop(0), usage.clone()], true),
        (2, vec![begin(0), begin(1), stop(0), usage.clone()], false),
        (1, vec![begin(0), usage.clone()], true),
        (1, vec![usage], false),
    ] {
        let setup = WORDS.setup(Kind::Sse, Hide::Nothing, None);
        let mut meter = Meter::new(Setup { answers, ..setup });
        let stream: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        run(&mut meter, [stream.as_bytes()]);
        assert_eq!(meter.may_end(), may_end, "{answers}: {events:?}");
    }
    for (body, may_end) in [
        (r#"{"choices":["#, false),
        (r#"{"choices":[]}"#, true),
        (r#"{"error":{"message":"no"#, true),
        (r#"{"choices":]"#, true),
        ("", true),
        ("[1", true),
    ] {
        let mut meter = meter(Kind::Json, Hide::Nothing, None);
        run(&mut meter, [body.as_bytes()]);
        assert_eq!(meter.may_end(), may_end, "{body}");
    }
}

/// By one name as by the other, and in each part for itself.
#[test]
fn thoughts_count_wherever_they_stand() {
    for (body, bytes) in [
        (r#"{"choices":[{"index":0,"reasoning_content":"abc","text":"de"}]}"#, 5),
        (
            r#"{"choices":[{"index":0,"message":{"content":[{"reasoning":"abc"},{"reasoning":"de"}]}}]}"#,
            5,
        ),
        (r#"{"choices":[{"index":0,"message":{"reasoning":"abc","reasoning_content":"abc"}}]}"#, 3),
    ] {
        let mut meter = meter(Kind::Json, Hide::Nothing, None);
        run(&mut meter, [body.as_bytes()]);
        assert_eq!(meter.reading().output_text_bytes, bytes, "{body}");
    }
}

/// What is written of no error, by whoever writes the member always.
#[test]
fn an_error_object_is_one_if_something_stands_in_it() {
    for (error, is_error) in [
        ("{}", false),
        ("[]", false),
        (r#"{"message":"","code":null}"#, false),
        (r#"{"message":"no"}"#, true),
        (r#"{"code":0}"#, true),
        (r#"{"metadata":{}}"#, true),
        (r#"[{"message":"no"}]"#, true),
        (r#""""#, false),
        (r#""no""#, true),
        ("true", true),
        ("false", false),
        ("null", false),
    ] {
        for (before, after) in [
            ("", ""),
            (r#""choices":[{"index":0,"#, r#","message":{"content":"Hi"}}]"#),
            (r#""response":{"#, "}"),
        ] {
            let body = format!(r#"{{{before}"error":{error}{after}}}"#);
            let mut meter = meter(Kind::Json, Hide::Nothing, None);
            run(&mut meter, [body.as_bytes()]);
            assert_eq!(meter.error(), is_error, "{body}");
        }
    }
}

/// Streams in which the model's name stands, and what the client gets where its own is `pub/é`.
#[test]
fn the_model_is_renamed_wherever_it_is_cut() {
    let long = "x".repeat(6 * 256 + 1);
    let cases = [
        (
            r#"{"model":"up\"1","x":{"model":"up\"1"}}"#,
            r#"{"model":"pub/é","x":{"model":"up\"1"}}"#,
        ),
        (r#"{"a":"model", "model" : "up\"1"}"#, r#"{"a":"model", "model" : "pub/é"}"#),
        // Whatever stands there: a dated name, an empty one, two of them.
        (r#"{"model":"up\"1-2026-11-27"}"#, r#"{"model":"pub/é"}"#),
        (r#"{"model":""}"#, r#"{"model":"pub/é"}"#),
        (r#"{"model":"up","model":"up\"1"}"#, r#"{"model":"pub/é","model":"pub/é"}"#),
        // The Responses API's events, Anthropic's first one, and neither deeper nor elsewhere.
        (
            r#"{"type":"response.created","response":{"id":"r","model":"up","x":{"model":"up"}}}"#,
            r#"{"type":"response.created","response":{"id":"r","model":"pub/é","x":{"model":"up"}}}"#,
        ),
        (
            r#"{"type":"message_start","message":{"model":"up-20260101","usage":{"model":"up"}}}"#,
            r#"{"type":"message_start","message":{"model":"pub/é","usage":{"model":"up"}}}"#,
        ),
        (
            r#"{"response":{"model":"up"},"usage":null,"model":"up"}"#,
            r#"{"response":{"model":"pub/é"},"usage":null,"model":"pub/é"}"#,
        ),
        (r#"{"choices":[{"model":"up"}]}"#, r#"{"choices":[{"model":"up"}]}"#),
        (r#"{"model":null,"usage":null}"#, r#"{"model":null,"usage":null}"#),
        (r#"[{"model":"up\"1"}]"#, r#"[{"model":"up\"1"}]"#),
        (r#"{"model":"up\"1","usage":null}"#, r#"{"model":"pub/é","usage":null}"#),
        (r#"{"usage":null,"model":"up\"1"}"#, r#"{"usage":null,"model":"pub/é"}"#),
        (
            r#"{"model":"up\"1","choices":[],"usage":{}}"#,
            r#"{"model":"pub/é","choices":[],"usage":{}}"#,
        ),
        (r#"{"model":"up\"1",}"#, r#"{"model":"pub/é",}"#),
        (r#"{"model":"up\"#, r#"{"model":"up\"#),
        // No model's name is as long, and nothing of it is held for ever.
        (&format!(r#"{{"model":"{long}"}}"#), &format!(r#"{{"model":"{long}"}}"#)),
    ];
    let rename = Some("pub/é");
    let all = |piece: &dyn Fn(&str) -> String| -> (String, String) {
        let both = cases.iter().map(|(from, to)| (piece(from), piece(to)));
        both.unzip()
    };
    for (from, to) in &cases {
        check_edit(Kind::Json, Hide::Nothing, rename, from, to);
    }
    let (from, to) = all(&|json| format!("data: {json}\n\n"));
    check_edit(Kind::Sse, Hide::Nothing, rename, &from, &to);
    let hidden = to.replace(r#","usage":null"#, "").replace(r#""usage":null,"#, "");
    let hidden = hidden.replace("data: {\"model\":\"pub/é\",\"choices\":[],\"usage\":{}}\n\n", "");
    check_edit(Kind::Sse, Hide::Last, rename, &from, &hidden);
    assert!(!meter(Kind::Opaque, Hide::Last, rename).edits());
    assert!(!meter(Kind::Json, Hide::Last, None).edits());
}

fn check_edit(kind: Kind, hide: Hide, model: Option<&str>, from: &str, to: &str) {
    let bytes = from.as_bytes();
    for cut in 0..=bytes.len() {
        let (left, right) = bytes.split_at(cut);
        let mut meter = meter(kind, hide, model);
        let out = run(&mut meter, [left, right]);
        assert_eq!(String::from_utf8_lossy(&out), to, "cut at {cut}");
    }
    let mut meter = meter(kind, hide, model);
    assert!(meter.edits());
    let mut out = Vec::new();
    for byte in bytes.chunks(1) {
        meter.push(Bytes::copy_from_slice(byte), &mut out);
        let held = meter.release.as_ref().is_some_and(Release::holds);
        assert!(!held || kind == Kind::Json || meter.event.open, "held after its event");
    }
    meter.finish(&mut out);
    assert_eq!(String::from_utf8_lossy(&out.concat()), to, "byte by byte");
}

/// Running usage wherever it stands in a chunk, with what is seen of it by a client that asked for
/// none, and by one that asked for the last one only.
#[test]
fn running_usage_is_taken_out_wherever_it_stands() {
    let choice = r#""choices":[{"index":0,"delta":{"content":"a"}}]"#;
    let usage = r#""usage" : {"prompt_tokens":1,"x":{"y":[",}"]},"completion_tokens":2}"#;
    let cut = [
        (format!(r#"{{"model":"up",{choice},{usage}}}"#), format!(r#"{{"model":"pub",{choice}}}"#)),
        (
            format!(r#"{{{usage} , "model":"up",{choice}}}"#),
            format!(r#"{{"model":"pub",{choice}}}"#),
        ),
        (
            format!(r#"{{{choice} ,	{usage},"model":"up"}}"#),
            format!(r#"{{{choice} ,"model":"pub"}}"#),
        ),
    ];
    let kept = [
        // Of two, or of one that is none, nobody knows what a client takes.
        format!(r#"{{{choice},{usage},{usage}}}"#),
        format!(r#"{{{choice},"usage":7}}"#),
        format!(r#"{{{choice},"us\u0061ge":{{"prompt_tokens":1}}}}"#),
        // Beside an error it is not running any more, and without choices it is another API's.
        format!(r#"{{{choice},"error":{{"code":1}},{usage}}}"#),
        format!(r#"{{"type":"message_delta",{usage}}}"#),
        // Over two lines.
        format!("{{{choice},\ndata: \"usage\":{{\ndata: \"prompt_tokens\":1}}}}"),
    ];
    let event = |json: &String| format!("data: {json}\n\n");
    for hide in [Hide::All, Hide::Running] {
        for (from, to) in &cut {
            check_edit(Kind::Sse, hide, Some("pub"), &event(from), &event(to));
        }
        let kept: String = kept.iter().map(event).collect();
        check_edit(Kind::Sse, hide, None, &kept, &kept);
    }
    let last = event(&format!(r#"{{"choices":[],{usage}}}"#));
    let null = event(&format!(r#"{{{choice},"usage":null}}"#));
    let neither = event(&format!(r#"{{{choice}}}"#));
    check_edit(Kind::Sse, Hide::All, None, &format!("{null}{last}"), &neither);
    let both = format!("{null}{last}");
    check_edit(Kind::Sse, Hide::Running, None, &both, &both);
}

/// An event passes as it is from the first byte above the limit on, whatever the frames.
#[test]
fn a_long_event_is_not_held() {
    let event = |len: u64| {
        let frame = r#"data: {"choices":[],"x":"","usage":null}"#;
        let filler = "x".repeat(len as usize - frame.len() - 1);
        format!("data: {{\"choices\":[],\"x\":\"{filler}\",\"usage\":null}}\n\n")
    };
    for frame in [1000, 4096, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 1 << 20] {
        for (len, touched) in [(HOLD_LIMIT, true), (HOLD_LIMIT + 1, false), (100_000, false)] {
            let from = event(len - 1);
            assert_eq!(from.len() as u64, len);
            let to = if touched { from.replace(",\"usage\":null", "") } else { from.clone() };
            let mut meter = meter(Kind::Sse, Hide::Last, None);
            let out = run(&mut meter, from.as_bytes().chunks(frame));
            assert!(out == to.as_bytes(), "{len} bytes in frames of {frame}");
        }
    }
}

#[test]
fn a_line_of_8_mib_passes_in_constant_memory() {
    let head = r#"data: {"model":"m","choices":[{"delta":{"image_base64":""#;
    let tail = "\"}}],\"usage\":{\"input_tokens\":1}}\n\ndata: [DONE]\n\n";
    let frame = Bytes::from(vec![b'A'; 64 * 1024]);
    for hide in [Hide::Nothing, Hide::Last, Hide::All] {
        let mut meter = meter(Kind::Sse, hide, None);
        let mut out = Vec::new();
        meter.push(Bytes::from_static(head.as_bytes()), &mut out);
        for _ in 0..128 {
            out.clear();
            meter.push(frame.clone(), &mut out);
            assert_eq!(out.last().map(|last| last.as_ptr()), Some(frame.as_ptr()));
        }
        meter.push(Bytes::from_static(tail.as_bytes()), &mut out);
        let reading = meter.reading();
        assert_eq!((reading.output_images, reading.output_text_bytes), (1, 0));
        assert_eq!(reading.usage.map(|usage| usage.input), Some(1));
        assert!(reading.done);
    }
}

#[test]
fn kinds_are_told_by_the_head() {
    let cases = [
        (Some("application/json"), Kind::Json),
        (Some("Application/JSON; charset=utf-8"), Kind::Json),
        (Some("application/problem+json"), Kind::Json),
        (Some("text/event-stream; charset=utf-8"), Kind::Sse),
        (Some("application/x-ndjson"), Kind::Sse),
        (Some("application/jsonl; charset=utf-8"), Kind::Sse),
        (Some("text/plain; charset=utf-8"), Kind::Text),
        (Some("text/vtt"), Kind::Text),
        (Some("text/html; charset=utf-8"), Kind::Page),
        (Some("audio/mpeg"), Kind::Opaque),
        (None, Kind::Opaque),
    ];
    for (content_type, kind) in cases {
        assert_eq!(Kind::of(content_type), kind, "{content_type:?}");
    }
}

/// What a client asked for as a stream is one by its first bytes, if its type leaves that open.
#[test]
fn streams_are_told_by_their_first_bytes() {
    // Whether it is looked at where a stream was asked for, and where none was.
    for (content_type, is_open) in [
        (None, (true, true)),
        (Some(""), (true, true)),
        (Some("text/plain; charset=utf-8"), (true, true)),
        (Some("Text/HTML"), (true, true)),
        (Some("application/json"), (true, false)),
        (Some("application/json, application/json"), (true, true)),
        (Some("text/event-stream"), (false, false)),
        (Some("event-stream"), (true, true)),
        (Some("application/octet-stream"), (true, true)),
        (Some("*/*"), (true, true)),
    ] {
        let kind = Kind::of(content_type);
        assert_eq!((kind.is_open(true), kind.is_open(false)), is_open, "{content_type:?}");
    }
    let blanks = "\n".repeat(64);
    for (first, told) in [
        ("data: {}", Ok(Kind::Sse)),
        ("event: x", Ok(Kind::Sse)),
        ("id:1", Ok(Kind::Sse)),
        ("retry: 10", Ok(Kind::Sse)),
        (": ping", Ok(Kind::Sse)),
        ("\n\ndata:", Ok(Kind::Sse)),
        ("\u{feff}", Err(true)),
        ("\u{feff}data:", Ok(Kind::Sse)),
        ("\u{feff}{", Ok(Kind::Json)),
        (" {", Ok(Kind::Json)),
        ("[1", Ok(Kind::Json)),
        ("\r\n<!DOCTYPE html>", Ok(Kind::Page)),
        ("", Err(true)),
        ("\n ", Err(true)),
        (&blanks, Err(false)),
        ("dat", Err(true)),
        ("eventual", Err(false)),
        ("WEBVTT", Err(false)),
        ("data {", Err(false)),
    ] {
        assert_eq!(Kind::sniff(first.as_bytes(), None, false), told, "{first:?}");
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(first.as_bytes()).expect("a Vec takes all");
        let coded = encoder.finish().expect("a Vec takes all");
        assert_eq!(Kind::sniff(&coded, Some(Coding::Gzip), false), told, "{first:?} compressed");
        assert_eq!(Kind::sniff(&coded[..5], Some(Coding::Gzip), false), Err(true));
        assert_eq!(Kind::sniff(first.as_bytes(), Some(Coding::Unknown), false), Err(false));
    }
    assert_eq!(Kind::sniff(b"\xEF\xBB", None, false), Err(true));
}

/// Where words were heard, only what begins a page is one.
#[test]
fn a_page_has_a_beginning_of_its_own_beside_words() {
    for (first, told) in [
        ("<", Err(true)),
        ("\n<!doc", Err(true)),
        ("<!DOCTYPE html>", Ok(Kind::Page)),
        ("<!DOCTYPE svg", Err(false)),
        ("<HTML ", Ok(Kind::Page)),
        ("<|0.00|>", Err(false)),
        ("<unclear>", Err(false)),
        ("{", Ok(Kind::Json)),
    ] {
        assert_eq!(Kind::sniff(first.as_bytes(), None, true), told, "{first:?}");
    }
}

/// By the type, whether it was heard, and the first bytes.
#[test]
fn an_answer_is_what_its_first_bytes_say() {
    for (kind, hears, first, expected) in [
        (Kind::Opaque, false, "{", Kind::Json),
        (Kind::Opaque, false, "data:", Kind::Sse),
        (Kind::Opaque, false, "GIF89a", Kind::Unread),
        (Kind::Text, false, "[1", Kind::Json),
        (Kind::Text, false, "words", Kind::Text),
        (Kind::Page, false, "{", Kind::Json),
        // A transcript is text whatever it says.
        (Kind::Text, true, "[Music]", Kind::Text),
        (Kind::Text, true, "<unclear>", Kind::Text),
        (Kind::Text, true, "id: please", Kind::Text),
        (Kind::Text, true, " {\"text\":", Kind::Json),
        // Nor does its type say more, unless it begins as a page does.
        (Kind::Page, true, " Thank you.", Kind::Text),
        (Kind::Page, true, "[Music]", Kind::Text),
        (Kind::Page, true, "<|0.00|> Thank", Kind::Text),
        (Kind::Page, true, "<html><head>", Kind::Page),
        (Kind::Page, true, "{\"error\":", Kind::Json),
        (Kind::Page, false, " Thank you.", Kind::Page),
        (Kind::Opaque, true, "[1", Kind::Json),
    ] {
        let told = Kind::sniff(first.as_bytes(), None, hears);
        let found = kind.or_told(told, first.as_bytes(), hears, false);
        assert_eq!(found, expected, "{kind:?}: {first}");
    }
    for kind in [Kind::Text, Kind::Page] {
        let first = b"data: {";
        let told = Kind::sniff(first, None, true);
        assert_eq!(kind.or_told(told, first, true, true), Kind::Sse, "it was asked for");
    }
    let mut meter = meter(Kind::Unread, Hide::Last, Some("b"));
    assert!(!meter.edits() && !meter.is_stream());
    run(&mut meter, [&b"GIF"[..], b"89a"]);
    let expected = Reading { unread_bytes: 6, is_unread: true, ..Reading::default() };
    assert_eq!(meter.reading(), expected);
}

/// What is binary is not looked at, whatever it looks like; of plain text only the size counts.
#[test]
fn what_is_no_document_is_not_scanned() {
    let body = br#"data: {"usage":{"prompt_tokens":1,"completion_tokens":2},"error":1}"#;
    for (kind, text_bytes) in [(Kind::Opaque, 0), (Kind::Text, body.len() as u64)] {
        let mut meter = meter(kind, Hide::All, Some("b"));
        assert!(!meter.edits() && !meter.is_stream() && !meter.between_events());
        assert_eq!(run(&mut meter, body.chunks(5)), body);
        let reading = meter.reading();
        assert_eq!(reading, Reading { output_text_bytes: text_bytes, ..Reading::default() });
    }
}

/// Compressed answers pass byte for byte, and are read all the same.
#[test]
fn every_fixture_is_read_right_when_it_is_compressed() {
    for fixture in fixtures() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&fixture.stream).expect("a Vec takes all");
        let stream = encoder.finish().expect("a Vec takes all");
        let (kind, coding) = (fixture.kind, Some(Coding::Gzip));
        for size in [1, 100, stream.len()] {
            let setup = fixture.endpoint.setup(kind, Hide::All, Some("n"));
            let mut meter = Meter::new(Setup { coding, ..setup });
            assert!(!meter.edits() && !meter.between_events());
            assert_eq!(meter.is_stream(), kind == Kind::Sse);
            assert_eq!(run(&mut meter, stream.chunks(size)), stream, "{}", fixture.name);
            assert_eq!(described(&meter.reading()), fixture.expected, "{}", fixture.name);
            assert!(!meter.reading().is_blind);
        }
        let coding = Some(Coding::Unknown);
        let setup = fixture.endpoint.setup(kind, Hide::All, None);
        let mut blind = Meter::new(Setup { coding, ..setup });
        assert_eq!(run(&mut blind, [&*fixture.stream]), fixture.stream);
        assert_eq!(blind.reading(), Reading { is_blind: true, ..Reading::default() });
        assert!(blind.may_end() && !blind.is_stream());
    }
}

/// More choices than are told apart end in a remark.
#[test]
fn bounds_hold() {
    let mut stream = String::new();
    for index in 0..300 {
        let usage = r#"{"prompt_tokens":5,"completion_tokens":2}"#;
        let choice = format!(r#"[{{"index":{index},"delta":{{"content":"a"}}}}]"#);
        stream += &format!("data: {{\"choices\":{choice},\"usage\":{usage}}}\n\n");
    }
    let mut meter = meter(Kind::Sse, Hide::Nothing, None);
    run(&mut meter, [stream.as_bytes()]);
    let reading = meter.reading();
    assert_eq!(reading.usage.map(|usage| (usage.input, usage.output)), Some((5, 256)));
    assert!(reading.suspect && reading.misses_choices);
    assert_eq!(meter.progress().total_tokens, None);
    // What stands alone is of all of them.
    let alone = r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":600}}"#;
    let stop = |index| {
        format!(r#"{{"choices":[{{"index":{index},"delta":{{}},"finish_reason":"stop"}}]}}"#)
    };
    let ends = (0..300).map(stop).chain([alone.to_owned(), "[DONE]".to_owned()]);
    let ends: String = ends.map(|event| format!("data: {event}\n\n")).collect();
    run(&mut meter, [ends.as_bytes()]);
    let reading = meter.reading();
    assert_eq!(reading.usage.map(|usage| (usage.input, usage.output)), Some((5, 600)));
    assert!(reading.suspect && reading.is_final && !reading.misses_choices);
}

#[test]
fn progress_is_what_is_stated_or_else_seen() {
    let mut meter = meter(Kind::Sse, Hide::Nothing, None);
    let start =
        br#"{"type":"message_start","message":{"usage":{"input_tokens":9,"output_tokens":1}}}"#;
    let delta = br#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"a dam"}}"#;
    let last = br#"{"type":"message_delta","usage":{"output_tokens":4}}"#;
    let mut expect = |event: &[u8], total_tokens, output_text_bytes, is_over| {
        let event = [b"data: ", event, b"\n\n"].concat();
        meter.push(Bytes::from(event), &mut Vec::new());
        let progress = Progress { total_tokens, output_text_bytes, output_images: 0, is_over };
        assert_eq!(meter.progress(), progress);
    };
    expect(start, None, 0, false);
    expect(delta, None, 5, false);
    expect(last, Some(13), 5, true);
}
