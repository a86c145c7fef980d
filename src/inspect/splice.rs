//! Edits of a body that is kept as the frames it came in: only what is edited is new, the rest is
//! the client's own bytes, shared and not copied.

use std::ops::Range;

use bytes::Bytes;

use super::Facts;

/// Replaces the bytes of the body at `at` (offsets in the client's body) `with` others. An empty range
/// inserts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Splice {
    pub(crate) at: Range<u64>,
    pub(crate) with: Bytes,
}

/// Where the body can be edited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// Just after the root's `{`.
    pub(super) root: u64,
    /// The model's value with its quotes.
    pub(super) model: Range<u64>,
    pub(super) options: Options,
    /// The values of `max_completion_tokens` and `max_tokens`, with the number where it is one.
    pub(super) max_completion_tokens: Option<Bound>,
    pub(super) max_tokens: Option<Bound>,
}

/// A bound of the answer, as it stands in the body: a number, or null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) at: Range<u64>,
    pub(super) tokens: Option<u64>,
}

/// `stream_options`, as it stands in the body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Options {
    #[default]
    Absent,
    Null(Range<u64>),
    Object {
        /// Just after its `{`.
        inside: u64,
        empty: bool,
        /// The value of `include_usage`.
        include_usage: Option<Range<u64>>,
    },
}

/// What a request without a bound of its own is given to be held to one.
const ADDED_BOUND: &str = "max_completion_tokens";

impl Facts {
    /// The edits that set `model` to the upstream's name (given unescaped), ask for usage and hold each
    /// answer to `clamp` tokens, in the order of the body and not overlapping. What already is as it
    /// should be is not edited.
    pub(crate) fn splices(
        &self,
        model: Option<&str>,
        ask_usage: bool,
        clamp: Option<u64>,
    ) -> Vec<Splice> {
        let rename = model.filter(|model| *model != self.model).map(|model| Splice {
            at: self.places.model.clone(),
            with: serde_json::Value::from(model).to_string().into(),
        });
        let ask = ask_usage && self.include_usage != Some(true);
        let mut splices: Vec<_> = rename.into_iter().chain(ask.then(|| self.ask_usage())).collect();
        if let Some(clamp) = clamp {
            self.clamp(clamp, &mut splices);
        }
        splices.sort_by_key(|splice| splice.at.start);
        splices
    }

    /// Lowers the bounds that the client has set. Where it has set none, one is added: in the place of
    /// a null if there is one, so that no key stands there twice.
    fn clamp(&self, most: u64, splices: &mut Vec<Splice>) {
        let bounds = [&self.places.max_completion_tokens, &self.places.max_tokens];
        let set = bounds.into_iter().flatten().filter(|bound| bound.tokens.is_some());
        let mut is_set = false;
        for bound in set {
            is_set = true;
            if bound.tokens > Some(most) {
                splices.push(Splice { at: bound.at.clone(), with: most.to_string().into() });
            }
        }
        if is_set {
            return;
        }
        let root = self.places.root;
        splices.push(match &self.places.max_completion_tokens {
            Some(null) => Splice { at: null.at.clone(), with: most.to_string().into() },
            // The comma is right, as for the usage option.
            None => Splice { at: root..root, with: format!(r#""{ADDED_BOUND}":{most},"#).into() },
        });
    }

    fn ask_usage(&self) -> Splice {
        let (at, with): (_, &'static str) = match &self.places.options {
            // The comma is right: `model` always follows, if nothing else does.
            Options::Absent => {
                (self.places.root..self.places.root, r#""stream_options":{"include_usage":true},"#)
            }
            Options::Null(value) => (value.clone(), r#"{"include_usage":true}"#),
            Options::Object { include_usage: Some(value), .. } => (value.clone(), "true"),
            Options::Object { inside, empty: true, .. } => {
                (*inside..*inside, r#""include_usage":true"#)
            }
            Options::Object { inside, .. } => (*inside..*inside, r#""include_usage":true,"#),
        };
        Splice { at, with: Bytes::from_static(with.as_bytes()) }
    }
}

/// The frames of a body with the edits made. The splices are in ascending order, don't overlap, and lie
/// within the body.
pub(crate) fn apply(frames: &[Bytes], splices: &[Splice]) -> Vec<Bytes> {
    let mut edited = Vec::with_capacity(frames.len() + 2 * splices.len());
    let mut waiting = splices.iter().peekable();
    let mut start = 0;
    // The first byte that no splice so far replaces.
    let mut resume = 0;
    for frame in frames {
        let end = start + frame.len() as u64;
        let keep = |range: Range<u64>, edited: &mut Vec<Bytes>| {
            let (from, to) = (range.start.max(start), range.end.min(end));
            if from < to {
                // Both lie within the frame, whose length is a usize.
                edited.push(frame.slice((from - start) as usize..(to - start) as usize));
            }
        };
        while let Some(splice) = waiting.next_if(|splice| splice.at.start < end) {
            keep(resume..splice.at.start, &mut edited);
            edited.push(splice.with.clone());
            resume = splice.at.end;
        }
        keep(resume..end, &mut edited);
        start = end;
    }
    edited.extend(waiting.map(|splice| splice.with.clone()));
    edited
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::inspect::Scan;

    /// What the reference below does for `apply`, on one copied body.
    fn edited(body: &str, splices: &[Splice]) -> Vec<u8> {
        let mut bytes = body.as_bytes().to_vec();
        for splice in splices.iter().rev() {
            let at = splice.at.start as usize..splice.at.end as usize;
            bytes.splice(at, splice.with.iter().copied());
        }
        bytes
    }

    /// Scans and edits the body, cut into frames of every size, and gives what it became.
    fn edit(body: &str, model: Option<&str>, ask_usage: bool) -> (Vec<Splice>, String) {
        edit_all(body, model, ask_usage, None)
    }

    fn edit_all(
        body: &str,
        model: Option<&str>,
        ask_usage: bool,
        clamp: Option<u64>,
    ) -> (Vec<Splice>, String) {
        let mut scan = Scan::new();
        scan.push(body.as_bytes()).expect(body);
        let splices = scan.finish().expect(body).splices(model, ask_usage, clamp);
        let expected = edited(body, &splices);
        for size in 1..=body.len() {
            let frames: Vec<_> = body
                .as_bytes()
                .chunks(size)
                .flat_map(|frame| [Bytes::new(), Bytes::copy_from_slice(frame)])
                .collect();
            assert_eq!(apply(&frames, &splices).concat(), expected, "frames of {size}");
        }
        (splices, String::from_utf8(expected).expect("UTF-8 in, UTF-8 out"))
    }

    #[test]
    fn edits_and_nothing_else() {
        let ask = r#""stream_options":{"include_usage":true},"#;
        let cases = [
            // What is asked, before, after.
            (r#"{"model":"m","stream":true}"#, format!(r#"{{{ask}"model":"up","stream":true}}"#)),
            (r#" { "model" : "m" } "#, format!(r#" {{{ask} "model" : "up" }} "#)),
            (
                r#"{"messages":[{"model":"m"}],"model":"m","stream_options":{}}"#,
                r#"{"messages":[{"model":"m"}],"model":"up","stream_options":{"include_usage":true}}"#
                    .into(),
            ),
            (
                r#"{"stream_options":{ },"model":"m"}"#,
                r#"{"stream_options":{"include_usage":true },"model":"up"}"#.into(),
            ),
            (
                r#"{"stream_options" : null , "mod\u0065l":"\u006d"}"#,
                r#"{"stream_options" : {"include_usage":true} , "mod\u0065l":"up"}"#.into(),
            ),
            (
                r#"{"stream_options":{"a":{"include_usage":false}},"model":"m"}"#,
                r#"{"stream_options":{"include_usage":true,"a":{"include_usage":false}},"model":"up"}"#
                    .into(),
            ),
            (
                r#"{"model":"m","stream_options":{"a":1,"include_usage":false ,"b":[]}}"#,
                r#"{"model":"up","stream_options":{"a":1,"include_usage":true ,"b":[]}}"#.into(),
            ),
            (
                r#"{"stream_options":{"include_usage":[{"x":1},"]"]},"model":"m"}"#,
                r#"{"stream_options":{"include_usage":true},"model":"up"}"#.into(),
            ),
            (
                r#"{"model":"m","stream_options":{"include_usage":true}}"#,
                r#"{"model":"up","stream_options":{"include_usage":true}}"#.into(),
            ),
        ];
        for (body, expected) in cases {
            let (splices, after) = edit(body, Some("up"), true);
            assert_eq!(after, expected);
            assert!(splices.is_sorted_by(|a, b| a.at.end <= b.at.start), "{splices:?}");
            let mut value: Value = serde_json::from_str(body).expect(body);
            value["model"] = json!("up");
            if !value["stream_options"].is_object() {
                value["stream_options"] = json!({});
            }
            value["stream_options"]["include_usage"] = json!(true);
            assert_eq!(serde_json::from_str::<Value>(&after).expect(&after), value);
        }
    }

    #[test]
    fn what_is_right_is_not_edited() {
        let body = r#"{"model":"m","stream_options":{"include_usage":true}}"#;
        for (model, ask_usage) in [(None, false), (Some("m"), true), (None, true)] {
            assert_eq!(edit(body, model, ask_usage), (vec![], body.into()));
        }
        let absent = r#"{"model":"m"}"#;
        assert_eq!(edit(absent, None, false).1, absent);
    }

    #[test]
    fn answers_are_held_to_a_bound() {
        let ask = r#""stream_options":{"include_usage":true},"#;
        let cases = [
            (r#"{"model":"m"}"#, r#"{"max_completion_tokens":50,"model":"m"}"#),
            (
                r#"{"model":"m","max_tokens": 51 ,"n":2}"#,
                r#"{"model":"m","max_tokens": 50 ,"n":2}"#,
            ),
            (
                r#"{"max_completion_tokens":4096,"model":"m"}"#,
                r#"{"max_completion_tokens":50,"model":"m"}"#,
            ),
            (r#"{"max_completion_tokens":50,"model":"m"}"#, ""),
            (r#"{"model":"m","max_tokens":0}"#, ""),
            (
                r#"{"model":"m","max_tokens":90,"max_completion_tokens":99999999999999999999999}"#,
                r#"{"model":"m","max_tokens":50,"max_completion_tokens":50}"#,
            ),
            (
                r#"{"model":"m","max_tokens":90,"max_completion_tokens":null}"#,
                r#"{"model":"m","max_tokens":50,"max_completion_tokens":null}"#,
            ),
            (
                r#"{"model":"m","max_completion_tokens" : null , "max_tokens":null}"#,
                r#"{"model":"m","max_completion_tokens" : 50 , "max_tokens":null}"#,
            ),
            (
                r#"{"model":"m","max_tokens":null,"messages":[{"max_tokens":99}]}"#,
                r#"{"max_completion_tokens":50,"model":"m","max_tokens":null,"messages":[{"max_tokens":99}]}"#,
            ),
        ];
        for (body, after) in cases {
            let after = if after.is_empty() { body } else { after };
            assert_eq!(edit_all(body, None, false, Some(50)).1, after);
            serde_json::from_str::<Value>(after).expect(after);
            let (splices, all) = edit_all(body, Some("up"), true, Some(50));
            let expected = after.replacen(r#""model":"m""#, r#""model":"up""#, 1);
            assert_eq!(all, expected.replacen('{', &format!("{{{ask}"), 1), "{body}");
            assert!(splices.is_sorted_by(|a, b| a.at.end <= b.at.start), "{splices:?}");
        }
    }

    #[test]
    fn the_upstreams_name_is_escaped() {
        let (_, after) = edit(r#"{"model":"m","n":1}"#, Some("a\"b\\é\n"), false);
        let value: Value = serde_json::from_str(&after).expect(&after);
        assert_eq!(value["model"], "a\"b\\é\n");
    }

    #[test]
    fn untouched_frames_are_shared() {
        let frames = [r#"{"mod"#, r#"el":"m","#, r#""n":1}"#]
            .map(|frame| Bytes::from_static(frame.as_bytes()));
        let mut scan = Scan::new();
        frames.iter().for_each(|frame| scan.push(frame).expect("well-formed"));
        let splices = scan.finish().expect("valid").splices(Some("longer"), false, None);
        let edited = apply(&frames, &splices);
        assert_eq!(edited.concat(), br#"{"model":"longer","n":1}"#);
        assert_eq!(edited[0].as_ptr(), frames[0].as_ptr());
        assert_eq!(edited[1].as_ptr(), frames[1].as_ptr());
        assert_eq!(edited.last().map(|frame| frame.as_ptr()), Some(frames[2].as_ptr()));
    }

    #[test]
    fn splices_at_both_ends_and_across_frames() {
        let frames = ["ab", "cd", "ef"].map(|frame| Bytes::from_static(frame.as_bytes()));
        let splice =
            |at, with: &'static str| Splice { at, with: Bytes::from_static(with.as_bytes()) };
        let cases = [
            (vec![splice(0..0, "X"), splice(6..6, "Y")], "XabcdefY"),
            (vec![splice(1..5, "X")], "aXf"),
            (vec![splice(2..2, "X"), splice(2..4, "Y"), splice(4..4, "Z")], "abXYZef"),
            (vec![splice(0..6, "X")], "X"),
            (vec![], "abcdef"),
        ];
        for (splices, expected) in cases {
            assert_eq!(apply(&frames, &splices).concat(), expected.as_bytes());
            assert_eq!(edited("abcdef", &splices), expected.as_bytes());
        }
    }
}
