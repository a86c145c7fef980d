//! Events that begin alike are read as if each were the first.

use proptest::prelude::*;

use super::*;

/// What may stand before `choices`, in a place where it says something or nothing.
const MEMBERS: &[&str] = &[
    r#""id":"chatcmpl-1""#,
    r#""id":"chatcmpl-2""#,
    r#""object":"chat.completion.chunk","created":1780470861"#,
    r#""model":"gpt-5.4""#,
    r#""model":"other""#,
    r#""model":null"#,
    r#""usage":null"#,
    r#""usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}"#,
    r#""usage":7"#,
    r#""error":null"#,
    r#""error":{"message":"no"}"#,
    r#""type":"message_delta""#,
    r#""delta":"text""#,
    r#""prompt_filter_results":[{}]"#,
    r#""x_groq":{"usage":{"prompt_tokens":5,"completion_tokens":6}}"#,
    r#""system_fingerprint":{"choices":[{"index":9}]}"#,
    r#""choices":[]"#,
    r#""choices":null"#,
    r#""a" : [ 1 , {"b":[]} ] "#,
    r#""broken":tru"#,
];

const CHOICES: &[&str] = &[
    r#""choices":[{"index":0,"delta":{"content":"word"}}]"#,
    r#""choices":[{"index":1,"delta":{},"finish_reason":"stop"}]"#,
    r#""choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}"#,
    r#""choices" : [{"index":0,"delta":{"content":"a"}}],"usage":null"#,
    r#""choices":{}"#,
    r#""nothing":0"#,
];

/// A stream of events that often begin alike.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let members = prop::collection::vec(prop::sample::select(MEMBERS), 0..4);
    let openings = prop::collection::vec(members, 1..3);
    let event = (0..3_usize, prop::sample::select(CHOICES), prop::bool::weighted(0.1));
    (openings, prop::collection::vec(event, 1..9)).prop_map(|(openings, events)| {
        let mut stream = Vec::new();
        for (opening, choices, in_two_lines) in events {
            let mut members = openings[opening % openings.len()].clone();
            members.push(choices);
            let glue = if in_two_lines { ",\ndata: " } else { "," };
            stream.extend_from_slice(format!("data: {{{}}}\n\n", members.join(glue)).as_bytes());
        }
        stream
    })
}

/// What the meter says of the stream after each piece, and what leaves.
fn read(meter: Meter, stream: &[u8], cuts: &[usize]) -> String {
    let mut meter = meter;
    let mut said = String::new();
    let mut rest = stream;
    let mut out = Vec::new();
    for cut in cuts {
        let (piece, more) = rest.split_at(*cut % (rest.len() + 1));
        rest = more;
        meter.push(Bytes::copy_from_slice(piece), &mut out);
        said += &format!("{:?}\n", meter.reading());
    }
    meter.push(Bytes::copy_from_slice(rest), &mut out);
    meter.finish(&mut out);
    format!("{said}{:?}\n{:?}", meter.reading(), out.concat().escape_ascii().to_string())
}

proptest! {
    #[test]
    fn what_begins_alike_is_read_as_by_itself(
        stream in stream(),
        cuts in prop::collection::vec(0..400_usize, 0..9),
        hide in prop::sample::select(vec![Hide::Nothing, Hide::Last, Hide::All, Hide::Running]),
    ) {
        let setup = || Setup { kind: Kind::Sse, coding: None, hide, answers: 1, model: None };
        let forgetful = Meter { opening: None, ..Meter::new(setup()) };
        let expected = read(forgetful, &stream, &cuts);
        prop_assert_eq!(read(Meter::new(setup()), &stream, &cuts), expected);
    }
}

#[test]
fn the_members_before_choices_are_scanned_once() {
    let setup = Setup { kind: Kind::Sse, coding: None, hide: Hide::Last, answers: 1, model: None };
    let mut meter = Meter::new(setup);
    let event = "data: {\"id\":\"1\",\"model\":\"m\",\"choices\":[{\"index\":0}]}\n\n";
    meter.push(Bytes::from_static(event.as_bytes()), &mut Vec::new());
    let opening = meter.opening.as_ref().expect("it is a stream");
    let document = event.strip_prefix("data: ").expect("it begins so");
    let (scanner, read) = (&mut Scanner::new(), &mut Document::new(true, None));
    let passed = opening.pass(document.as_bytes(), scanner, read);
    assert_eq!(&document[..passed], "{\"id\":\"1\",\"model\":\"m\",\"choices\":");
    assert_eq!(opening.pass(b"{\"id\":\"2\"", scanner, read), 0);
}
