//! What breaks off in the middle of a document: a picture, sound or an echo of the prompt is no text, however
//! much of it has come, and nobody knows yet whether it is in a form that is known.

use super::*;

/// As much base64 as no reservation covers, if it were text.
const LONG: usize = 100_000;

/// Read up to where it broke off: first by a client that leaves, then where the stream ends there.
fn broken_off(kind: Kind, head: &str) -> [Reading; 2] {
    let mut meter = meter(kind, Hide::Nothing, None);
    let document = format!("{head}{}", "A".repeat(LONG));
    meter.push(Bytes::from(document), &mut Vec::new());
    let left = meter.reading();
    meter.finish(&mut Vec::new());
    assert!(!meter.may_end(), "{head}");
    [left, meter.reading()]
}

#[test]
fn what_breaks_off_in_its_first_document_has_said_nothing() {
    let picture =
        r#"{"choices":[{"index":0,"delta":{"images":[{"image_url":{"url":"data:image/png;base64,"#;
    for (kind, head) in [
        (Kind::Sse, r#"{"type":"image_edit.partial_image","b64_json":""#),
        (Kind::Sse, r#"{"b64_json":""#),
        (
            Kind::Sse,
            r#"{"type":"response.image_generation_call.partial_image","partial_image_b64":""#,
        ),
        (Kind::Sse, r#"{"type":"speech.audio.delta","audio":""#),
        (Kind::Sse, r#"{"type":"response.audio.delta","delta":""#),
        (Kind::Sse, r#"{"delta":""#),
        (Kind::Sse, picture),
        (Kind::Sse, r#"{"choices":[{"index":0,"delta":{"audio":{"data":""#),
        (Kind::Sse, r#"{"type":"response.created","response":{"id":"r","instructions":""#),
        (Kind::Json, r#"{"created":1,"data":[{"b64_json":""#),
        (Kind::Json, r#"{"data":[{"b64_json":""#),
        (Kind::Json, r#"{"audio":""#),
        (Kind::Json, r#"{"id":"r","object":"response","instructions":""#),
        (Kind::Json, r#"{"whatever":""#),
    ] {
        let head = if kind == Kind::Sse { format!("data: {head}") } else { head.to_owned() };
        for reading in broken_off(kind, &head) {
            let Reading { unread_bytes, output_text_bytes, output_images, .. } = reading;
            assert_eq!((unread_bytes, output_text_bytes, output_images), (0, 0, 0), "{head}");
            assert!(!reading.error, "{head}");
        }
    }
}

/// The text of a chat counts as far as it has come, and what was whole and in no known form by its bytes.
#[test]
fn what_was_said_before_it_broke_off_counts() {
    let [left, ended] =
        broken_off(Kind::Sse, r#"data: {"choices":[{"index":0,"delta":{"content":""#);
    assert_eq!([left.output_text_bytes, ended.output_text_bytes], [LONG as u64; 2]);
    let foreign = r#"{"whatever":"x"}"#;
    let head =
        format!("data: {foreign}\n\ndata: {{\"type\":\"image_edit.partial_image\",\"b64_json\":\"");
    for reading in broken_off(Kind::Sse, &head) {
        assert_eq!(reading.unread_bytes, foreign.len() as u64);
    }
    let delta = r#"data: {"type":"response.output_text.delta","delta":"ab"}"#;
    for sound in [r#"{"type":"response.audio.delta","delta":""#, r#"{"delta":""#] {
        for reading in broken_off(Kind::Sse, &format!("{delta}\n\ndata: {sound}")) {
            assert_eq!(reading.output_text_bytes, 2, "{sound}");
        }
    }
}

/// A gateway in between that says its own after half an event.
#[test]
fn half_an_event_that_others_follow_is_no_text() {
    let half = format!(r#"{{"type":"image_edit.partial_image","b64_json":"{}"#, "A".repeat(LONG));
    let mut meter = meter(Kind::Sse, Hide::Nothing, None);
    run(&mut meter, [format!("data: {half}\n\ndata: [DONE]\n\n").as_bytes()]);
    let reading = meter.reading();
    assert_eq!((reading.unread_bytes, reading.is_unread, reading.is_no_answer), (0, true, true));
}
