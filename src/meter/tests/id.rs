//! The ids of a response and of its items, for whoever remembers whose they are.

use super::*;

fn ids_of(kind: Kind, wants_ids: bool, pieces: &[&[u8]]) -> Vec<String> {
    let setup = Setup { wants_ids, ..WORDS.setup(kind, Hide::Nothing, None) };
    let mut meter = Meter::new(setup);
    run(&mut meter, pieces.iter().copied());
    meter.reading().response_ids.iter().map(|id| id.to_string()).collect()
}

#[test]
fn the_ids_of_a_response_are_read_however_it_is_cut_where_they_are_wanted() {
    let long = "x".repeat(4_000);
    let event = |data: &str| format!("event: x\ndata: {data}\n\n");
    let stream = [
        r#"{"type":"response.created","id":"ev","response":{"id":"resp_1","output":[{"id":"a"}]}}"#,
        r#"{"type":"response.output_item.added","item":{"id":"rs_1","summary":[{"id":"b"}]}}"#,
        r#"{"type":"response.output_item.added","item":{"type":"message","id":"msg_1","content":[]}}"#,
        r#"{"type":"response.output_item.done","item":{"id":"msg_1","content":[{"id":"c"}]}}"#,
        r#"{"type":"response.output_text.delta","item_id":"d","delta":"id"}"#,
    ];
    let stream: String = stream.into_iter().map(event).collect();
    let whole = r#"{"id":"resp_1","output":[{"id":"msg_1","content":[{"id":"a"}]},{"id":"rs_1"}]}"#;
    let late = r#"{"output":[],"metadata":{"id":"x"},"id":"r\u0065sp_1"}"#;
    let computed =
        r#"{"output":[{"type":"code_interpreter_call","id":"ci_1","container_id":"cntr_1"}]}"#;
    let cases: [(Kind, &str, &[&str]); 11] = [
        (Kind::Json, computed, &["ci_1", "cntr_1"]),
        (Kind::Json, whole, &["resp_1", "msg_1", "rs_1"]),
        (Kind::Json, late, &["resp_1"]),
        (Kind::Json, r#"{"previous_response_id":"resp_0","response":{"id":"x"}}"#, &[]),
        (Kind::Json, r#"{"id":7,"error":{"id":"x"},"item":8}"#, &[]),
        (Kind::Json, r#"{"id":""}"#, &[]),
        // An answer that is broken off has one all the same.
        (Kind::Json, r#"{"id":"resp_1","outp"#, &["resp_1"]),
        (Kind::Json, &format!(r#"{{"id":"{long}"}}"#), &[]),
        (Kind::Sse, &stream, &["resp_1", "a", "rs_1", "msg_1"]),
        (Kind::Sse, "data: {\"item\":[{\"id\":\"m\"}],\"id\":\"x\"}\n\n", &[]),
        (Kind::Opaque, r#"{"id":"resp_1"}"#, &[]),
    ];
    for (kind, text, expected) in cases {
        let bytes = text.as_bytes();
        for cut in 0..bytes.len().min(600) {
            let (left, right) = bytes.split_at(cut);
            assert_eq!(ids_of(kind, true, &[left, right]), expected, "{cut} in {text}");
        }
        assert!(ids_of(kind, false, &[bytes]).is_empty(), "nobody wants them");
    }
    let many: String = (0..100).map(|n| format!(r#"{{"id":"{n}"}},"#)).collect();
    let many = format!(r#"{{"id":"resp_1","output":[{}]}}"#, many.trim_end_matches(','));
    assert_eq!(ids_of(Kind::Json, true, &[many.as_bytes()]).len(), 64);
}
