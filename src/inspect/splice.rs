//! Edits of a body that is kept in frames: only what is edited is new, the rest is the client's own
//! bytes, shared and not copied.

use std::ops::Range;

use bytes::Bytes;

use super::RequestFacts;
use super::name::Name;

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
    /// The model's name stands there as it is, not as a JSON string.
    pub(super) is_plain: bool,
    pub(super) options: Options,
    /// Each stands there once.
    pub(super) bounds: Vec<Bound>,
    /// What is put in where no bound is set; `None`: the answer can't be held to one.
    pub(super) added_bound: Option<Name>,
    /// Strings, quotes included, that go upstream as others for each tenant.
    pub(super) scoped: Vec<Range<u64>>,
}

/// A bound of the answer, as it stands in the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) name: Name,
    /// The API has it: it is obeyed. Else it may be, where the upstream knows the word.
    pub(super) is_own: bool,
    pub(super) said: Said,
    pub(super) at: Range<u64>,
}

/// The value of a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Null: as if the field were not there.
    Nothing,
    /// A number below zero.
    NoBound,
    Tokens(u64),
}

impl Bound {
    pub(super) fn tokens(&self) -> Option<u64> {
        match self.said {
            Said::Tokens(tokens) => Some(tokens),
            Said::Nothing | Said::NoBound => None,
        }
    }

    /// Whether some reader takes it for the word that there is no bound: zero is left out by those that
    /// leave out what is empty.
    pub(super) fn is_none(&self) -> bool {
        !self.name.is_least() && matches!(self.said, Said::NoBound | Said::Tokens(0))
    }

    pub(super) fn is_own_number(&self) -> bool {
        self.is_own && self.tokens().is_some()
    }

    /// What takes its place where each answer is held to `most` tokens, if it has to be lowered.
    fn lowered(&self, most: u64) -> Option<u64> {
        match self.said {
            Said::Tokens(0) if !self.name.is_least() => Some(1),
            Said::Tokens(tokens) => (tokens > most).then_some(most),
            Said::NoBound => (!self.name.is_least()).then_some(most),
            Said::Nothing => None,
        }
    }
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
        /// The value of `continuous_usage_stats`.
        continuous_usage: Option<Range<u64>>,
    },
}

impl Options {
    /// The value of one of the options ended.
    pub(super) fn flag_ended(&mut self, name: Name, value: Range<u64>) {
        if let Self::Object { include_usage, continuous_usage, .. } = self {
            match name {
                Name::IncludeUsage => *include_usage = Some(value),
                Name::ContinuousUsageStats => *continuous_usage = Some(value),
                _ => {}
            }
        }
    }
}

/// Which usage a stream is asked for, whatever the client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UsageAsk {
    Nothing,
    /// At its end: `include_usage`.
    Usage,
    /// With every chunk, too: `continuous_usage_stats` of vLLM and SGLang.
    Running,
}

impl RequestFacts {
    /// The edits that set `model` to the upstream's name (given unescaped), ask for usage and hold each
    /// answer to `clamp` tokens, in the order of the body and not overlapping. What already is as it
    /// should be is not edited.
    pub(crate) fn splices(
        &self,
        model: Option<&str>,
        ask: UsageAsk,
        clamp: Option<u64>,
    ) -> Vec<Splice> {
        let rename = model.filter(|model| *model != self.model).map(|model| Splice {
            at: self.places.model.clone(),
            with: match self.places.is_plain {
                true => Bytes::copy_from_slice(model.as_bytes()),
                false => serde_json::Value::from(model).to_string().into(),
            },
        });
        // A form has no such options.
        let ask = if self.places.is_plain { UsageAsk::Nothing } else { ask };
        let asked = self.asked(ask).into_iter().flatten();
        let mut splices: Vec<_> = rename.into_iter().chain(asked).collect();
        if let Some(clamp) = clamp {
            self.places.clamp(clamp, &mut splices);
        }
        splices.sort_by_key(|splice| splice.at.start);
        splices
    }

    /// Whether its answers can be held to a number of tokens.
    pub(crate) fn can_be_clamped(&self) -> bool {
        self.places.added_bound.is_some()
    }

    /// What is put in, and the values that are replaced.
    fn asked(&self, ask: UsageAsk) -> [Option<Splice>; 3] {
        let usage = ask != UsageAsk::Nothing && self.include_usage != Some(true);
        let running = ask == UsageAsk::Running && self.continuous_usage != Some(true);
        let put = |at: &Range<u64>, with: &'static str| {
            Some(Splice { at: at.clone(), with: Bytes::from_static(with.as_bytes()) })
        };
        match &self.places.options {
            _ if !usage && !running => [None, None, None],
            // The comma is right: `model` always follows, if nothing else does.
            Options::Absent => {
                let root = self.places.root..self.places.root;
                let with = match running {
                    false => r#""stream_options":{"include_usage":true},"#,
                    true => concat!(
                        r#""stream_options":{"include_usage":true,"#,
                        r#""continuous_usage_stats":true},"#
                    ),
                };
                [put(&root, with), None, None]
            }
            Options::Null(value) => {
                let with = match running {
                    false => r#"{"include_usage":true}"#,
                    true => r#"{"include_usage":true,"continuous_usage_stats":true}"#,
                };
                [put(value, with), None, None]
            }
            Options::Object { inside, empty, include_usage, continuous_usage } => {
                let replaced = |value: &Option<Range<u64>>, is_wanted: bool| {
                    value.as_ref().filter(|_| is_wanted).and_then(|value| put(value, "true"))
                };
                let members = [
                    usage && include_usage.is_none(),
                    running && continuous_usage.is_none(),
                    *empty,
                ];
                let with = match members {
                    [false, false, _] => None,
                    [true, false, true] => Some(r#""include_usage":true"#),
                    [true, false, false] => Some(r#""include_usage":true,"#),
                    [false, true, true] => Some(r#""continuous_usage_stats":true"#),
                    [false, true, false] => Some(r#""continuous_usage_stats":true,"#),
                    [true, true, true] => {
                        Some(r#""include_usage":true,"continuous_usage_stats":true"#)
                    }
                    [true, true, false] => {
                        Some(r#""include_usage":true,"continuous_usage_stats":true,"#)
                    }
                };
                [
                    with.and_then(|with| put(&(*inside..*inside), with)),
                    replaced(include_usage, usage),
                    replaced(continuous_usage, running),
                ]
            }
        }
    }
}

impl Places {
    /// Lowers the bounds that the client has set. Where none of them is the API's own, one is added: in the
    /// place of a null if there is one, so that no key stands there twice.
    fn clamp(&self, most: u64, splices: &mut Vec<Splice>) {
        let Some(added) = self.added_bound else { return };
        let put = |at: &Range<u64>, tokens: u64| Splice {
            at: at.clone(),
            with: tokens.to_string().into(),
        };
        let lowered =
            self.bounds.iter().filter_map(|bound| Some(put(&bound.at, bound.lowered(most)?)));
        splices.extend(lowered);
        if self.bounds.iter().any(|bound| bound.is_own && bound.said != Said::Nothing) {
            return;
        }
        splices.push(match self.bounds.iter().find(|bound| bound.name == added) {
            Some(null) => put(&null.at, most),
            // The comma is right, as for the usage option.
            None => Splice {
                at: self.root..self.root,
                with: format!(r#""{}":{most},"#, added.single().unwrap_or_default()).into(),
            },
        });
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
    use crate::inspect::{Api, NOTHING, Scan};

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
    fn edit(body: &str, model: Option<&str>, ask: UsageAsk) -> (Vec<Splice>, String) {
        edit_all(Api::Chat, body, model, ask, None)
    }

    fn edit_all(
        api: Api,
        body: &str,
        model: Option<&str>,
        ask: UsageAsk,
        clamp: Option<u64>,
    ) -> (Vec<Splice>, String) {
        let mut scan = Scan::json(api, &NOTHING);
        scan.push(body.as_bytes()).expect(body);
        let splices = scan.finish().expect(body).splices(model, ask, clamp);
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
                r#"{"stream_options":{"include_usage": null },"model":"m"}"#,
                r#"{"stream_options":{"include_usage": true },"model":"up"}"#.into(),
            ),
            (
                r#"{"model":"m","stream_options":{"include_usage":true}}"#,
                r#"{"model":"up","stream_options":{"include_usage":true}}"#.into(),
            ),
        ];
        for (body, expected) in cases {
            let (splices, after) = edit(body, Some("up"), UsageAsk::Usage);
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
    fn running_usage_is_asked_for_beside_the_final_one() {
        let both = r#""include_usage":true,"continuous_usage_stats":true"#;
        let running = r#""continuous_usage_stats":true"#;
        // `stream_options`, before and after; "" is none.
        let cases = [
            ("", format!(r#""stream_options":{{{both}}},"#)),
            ("null", format!("{{{both}}}")),
            ("{}", format!("{{{both}}}")),
            (r#"{"x":1}"#, format!(r#"{{{both},"x":1}}"#)),
            (r#"{"include_usage":true}"#, format!(r#"{{{running},"include_usage":true}}"#)),
            (r#"{"include_usage":false}"#, format!(r#"{{{running},"include_usage":true}}"#)),
            (
                r#"{"continuous_usage_stats":false}"#,
                r#"{"include_usage":true,"continuous_usage_stats":true}"#.to_owned(),
            ),
            (
                r#"{"continuous_usage_stats" : null ,"include_usage": false}"#,
                r#"{"continuous_usage_stats" : true ,"include_usage": true}"#.to_owned(),
            ),
            (
                r#"{"continuous_usage_stats":true,"a":[]}"#,
                r#"{"include_usage":true,"continuous_usage_stats":true,"a":[]}"#.to_owned(),
            ),
        ];
        for (options, expected) in cases {
            let (before, after) = if options.is_empty() {
                (r#"{"model":"m"}"#.to_owned(), format!(r#"{{{expected}"model":"up"}}"#))
            } else {
                let body = |options: &str, model: &str| {
                    format!(r#"{{"stream_options":{options}, "model":"{model}"}}"#)
                };
                (body(options, "m"), body(&expected, "up"))
            };
            let (splices, edited) = edit(&before, Some("up"), UsageAsk::Running);
            assert_eq!(edited, after);
            assert!(splices.is_sorted_by(|a, b| a.at.end <= b.at.start), "{splices:?}");
            serde_json::from_str::<Value>(&edited).expect(&edited);
        }
    }

    #[test]
    fn what_is_right_is_not_edited() {
        let body = r#"{"model":"m","stream_options":{"include_usage":true}}"#;
        let asks = [
            (None, UsageAsk::Nothing),
            (Some("m"), UsageAsk::Usage),
            (None, UsageAsk::Usage),
            (None, UsageAsk::Nothing),
        ];
        for (model, ask) in asks {
            assert_eq!(edit(body, model, ask), (vec![], body.into()));
        }
        let both = r#"{"stream_options":{"continuous_usage_stats":true,"include_usage":true},"model":"m"}"#;
        assert_eq!(edit(both, None, UsageAsk::Running), (vec![], both.into()));
        let absent = r#"{"model":"m"}"#;
        assert_eq!(edit(absent, None, UsageAsk::Nothing).1, absent);
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
            // Nothing, which some take for "no bound".
            (r#"{"model":"m","max_tokens":0}"#, r#"{"model":"m","max_tokens":1}"#),
            (r#"{"model":"m","max_tokens":-1}"#, r#"{"model":"m","max_tokens":50}"#),
            (
                r#"{"model":"m","n_predict":-1,"max_tokens":7,"min_tokens":90}"#,
                r#"{"model":"m","n_predict":50,"max_tokens":7,"min_tokens":50}"#,
            ),
            (
                r#"{"model":"m","options":{"num_predict":90},"min_tokens":0,"max_new_tokens":9}"#,
                r#"{"max_completion_tokens":50,"model":"m","options":{"num_predict":50},"min_tokens":0,"max_new_tokens":9}"#,
            ),
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
            assert_eq!(edit_all(Api::Chat, body, None, UsageAsk::Nothing, Some(50)).1, after);
            serde_json::from_str::<Value>(after).expect(after);
            let (splices, all) = edit_all(Api::Chat, body, Some("up"), UsageAsk::Usage, Some(50));
            let expected = after.replacen(r#""model":"m""#, r#""model":"up""#, 1);
            assert_eq!(all, expected.replacen('{', &format!("{{{ask}"), 1), "{body}");
            assert!(splices.is_sorted_by(|a, b| a.at.end <= b.at.start), "{splices:?}");
        }
    }

    #[test]
    fn each_api_has_a_bound_of_its_own() {
        let added = |name: &str, rest: &str| format!(r#"{{"{name}":50,"model":"m"{rest}}}"#);
        let all =
            r#","max_tokens":90,"max_completion_tokens":90,"max_output_tokens":90,"best_of":2"#;
        let lowered = format!(r#"{{"model":"m"{}}}"#, all.replace("90", "50"));
        let null = r#"{"model":"m","max_tokens": null ,"max_output_tokens":null}"#;
        let as_it_was = format!(r#"{{"model":"m"{all}}}"#);
        let with = |from: &str, to: &str| null.replace(from, to);
        for (api, bare, both, nulls) in [
            (
                Api::Completions,
                added("max_tokens", ""),
                &lowered,
                with("max_tokens\": null", "max_tokens\": 50"),
            ),
            (
                Api::Messages,
                added("max_tokens", ""),
                &lowered,
                with("max_tokens\": null", "max_tokens\": 50"),
            ),
            (
                Api::Responses,
                added("max_output_tokens", ""),
                &lowered,
                with("tokens\":null", "tokens\":50"),
            ),
            (Api::Images, r#"{"model":"m"}"#.into(), &as_it_was, null.into()),
            (Api::Other, r#"{"model":"m"}"#.into(), &as_it_was, null.into()),
        ] {
            let all = format!(r#"{{"model":"m"{all}}}"#);
            let whole = r#"{"model":"m"}"#;
            for (body, after) in [(whole, &bare), (&*all, both), (null, &nulls)] {
                let (splices, edited) = edit_all(api, body, None, UsageAsk::Nothing, Some(50));
                assert_eq!(&edited, after, "{api:?}");
                assert!(splices.len() <= 3, "{splices:?}");
            }
        }
    }

    #[test]
    fn what_has_a_bound_can_be_clamped() {
        for (api, has_bound) in [
            (Api::Chat, true),
            (Api::Completions, true),
            (Api::Messages, true),
            (Api::Responses, true),
            (Api::Images, false),
            (Api::Other, false),
        ] {
            let mut scan = Scan::json(api, &NOTHING);
            scan.push(br#"{"model":"m"}"#).expect("JSON");
            let facts = scan.finish().expect("a whole body");
            assert_eq!(facts.can_be_clamped(), has_bound, "{api:?}");
        }
    }

    #[test]
    fn the_upstreams_name_is_escaped() {
        let (_, after) = edit(r#"{"model":"m","n":1}"#, Some("a\"b\\é\n"), UsageAsk::Nothing);
        let value: Value = serde_json::from_str(&after).expect(&after);
        assert_eq!(value["model"], "a\"b\\é\n");
    }

    #[test]
    fn untouched_frames_are_shared() {
        let frames = [r#"{"mod"#, r#"el":"m","#, r#""n":1}"#]
            .map(|frame| Bytes::from_static(frame.as_bytes()));
        let mut scan = Scan::json(Api::Chat, &NOTHING);
        frames.iter().for_each(|frame| scan.push(frame).expect("well-formed"));
        let splices =
            scan.finish().expect("valid").splices(Some("longer"), UsageAsk::Nothing, None);
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
