//! Requests by chance, written as nobody should: keys twice, in other letters and with escapes, a query that says
//! what the body says, types that are not what they say, forms with something before, between and behind.

use std::fmt::Write;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::CHEAP;

pub(super) const PATHS: [&str; 7] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/audio/transcriptions",
];

/// What a client sends.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) path: &'static str,
    pub(super) query: String,
    pub(super) content_types: Vec<String>,
    pub(super) body: Vec<u8>,
    /// It arrives in pieces of so many bytes.
    pub(super) piece: usize,
    /// Its answers are held to so many tokens.
    pub(super) clamp: Option<u64>,
}

impl Written {
    pub(super) fn target(&self) -> String {
        match &*self.query {
            "" => self.path.to_owned(),
            query => format!("{}?{query}", self.path),
        }
    }
}

pub(super) fn some(count: usize) -> impl Strategy<Value = Vec<Written>> {
    vec(one(), count)
}

fn one() -> impl Strategy<Value = Written> {
    let body = prop_oneof![3 => json().boxed(), 1 => form().boxed()];
    let piece = select(vec![1_usize, 7, 1 << 16]);
    let clamp = prop::option::weighted(0.3, 20..60_u64);
    (select(PATHS.to_vec()), query(), body, piece, clamp).prop_map(
        |(path, query, (content_types, body), piece, clamp)| {
            // Forms are for those that take one.
            let is_form = body.starts_with(b"--") || content_types[0].contains("boundary");
            let path = match is_form {
                true if PATHS.iter().position(|one| *one == path) < Some(5) => PATHS[5],
                _ => path,
            };
            Written { path, query, content_types, body, piece, clamp }
        },
    )
}

/// Names that decide somewhere, and some that do not.
fn name() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        4 => select(vec!["max_tokens", "max_completion_tokens", "n"]),
        3 => select(vec![
            "max_output_tokens", "max_new_tokens", "max_tokens_to_sample", "n_predict", "num_predict",
            "min_tokens", "min_new_tokens", "best_of", "n_cmpl", "num_return_sequences",
        ]),
        2 => select(vec!["model", "options", "options", "stream", "stream_options", "background"]),
        1 => select(vec![
            "models", "fallbacks", "extra_body", "context_window_fallbacks", "preset", "route",
        ]),
        2 => select(vec!["temperature", "messages", "prompt", "user", "metadata", "modell", "nn"]),
    ]
}

/// A name in one of the spellings that some reader undoes; mostly as it is.
fn spelt(name: &'static str) -> impl Strategy<Value = String> {
    prop_oneof![
        20 => Just(name.to_owned()),
        1 => Just(name.to_ascii_uppercase()),
        1 => Just(name.replacen(|_: char| true, &name[..1].to_ascii_uppercase(), 1)),
        1 => Just(name.replace('k', "\u{212a}").replace('s', "\u{17f}")),
        1 => Just(name.replace('i', "\u{130}")),
    ]
}

/// A key of JSON, perhaps with an escape.
fn key() -> impl Strategy<Value = String> {
    name().prop_flat_map(spelt).prop_flat_map(|name| {
        let last = name.chars().next_back().map_or(0, u32::from);
        let cut = name.char_indices().next_back().map_or(0, |(at, _)| at);
        let escaped = format!("{}\\u{last:04x}", &name[..cut]);
        prop_oneof![8 => Just(name), 1 => Just(escaped)]
    })
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => (1..40_u32).prop_map(|number| number.to_string()),
        2 => (100..100_000_u32).prop_map(|number| number.to_string()),
        1 => select(vec!["0", "-1", "null", "\"900\"", "9e3", "900.0", "true", "99999999999999999999999"])
            .prop_map(str::to_owned),
    ]
}

/// What a key may have for its value.
fn value(key: String) -> impl Strategy<Value = (String, String)> {
    let lower = key.to_ascii_lowercase();
    let value = if lower.contains("model") || lower.contains("preset") || lower == "route" {
        select(vec!["\"expensive\"", "[\"expensive\"]", "null"]).prop_map(str::to_owned).boxed()
    } else if lower.contains("fallbacks") {
        Just("[\"expensive\"]".to_owned()).boxed()
    } else if lower == "extra_body" {
        Just("{\"model\":\"expensive\",\"n\":64}".to_owned()).boxed()
    } else if lower == "options" {
        (prop_oneof![
            2 => select(vec!["num_predict", "Num_predict", "NUM_PREDICT"]).prop_map(str::to_owned),
            1 => name().prop_flat_map(spelt),
        ], number())
            .prop_map(|(name, number)| format!("{{\"{name}\":{number}}}"))
            .boxed()
    } else if lower.starts_with("stream") || lower == "background" {
        select(vec!["true", "false", "{}", "null"]).prop_map(str::to_owned).boxed()
    } else if ["messages", "prompt", "user", "metadata"].contains(&&*lower) {
        select(vec!["\"x\"", "[]", "{\"model\":\"expensive\"}", "\"&model=expensive&n=64&\""])
            .prop_map(str::to_owned)
            .boxed()
    } else {
        number().boxed()
    };
    value.prop_map(move |value| (key.clone(), value))
}

fn json() -> impl Strategy<Value = (Vec<String>, Vec<u8>)> {
    let model = prop_oneof![
        12 => Just(("model".to_owned(), format!("\"{CHEAP}\""))),
        1 => Just(("mod\\u0065l".to_owned(), "\"ch\\u0065ap\"".to_owned())),
        1 => spelt("model").prop_map(|name| (name, "\"expensive\"".to_owned())),
    ];
    let fields = vec(key().prop_flat_map(value), 0..4);
    let type_of = prop_oneof![
        6 => Just(vec!["application/json".to_owned()]),
        4 => select(vec![
            "application/x-www-form-urlencoded", "text/plain; charset=utf-7", "application/octet-stream",
            "multipart/mixed; boundary=B", "application/json; charset=utf-16",
        ]).prop_map(|one| vec![one.to_owned()]),
        1 => Just(vec!["application/json".into(), "application/x-www-form-urlencoded".into()]),
    ];
    let gap = select(vec!["", " ", "\r\n"]);
    let after = prop_oneof![12 => Just(""), 1 => Just("{\"model\":\"expensive\"}")];
    (model, fields, any::<prop::sample::Index>(), type_of, gap, after).prop_map(
        |(model, mut fields, at, type_of, gap, after)| {
            fields.insert(at.index(fields.len() + 1), model);
            let fields: Vec<_> =
                fields.iter().map(|(key, value)| format!("{gap}\"{key}\":{gap}{value}")).collect();
            (type_of, format!("{{{}{gap}}}{after}", fields.join(",")).into_bytes())
        },
    )
}

fn query() -> impl Strategy<Value = String> {
    let plain = select(vec!["api-version=1", "beta=true", "x=1", "", "trace=model", "beta=n%3D64"]);
    let sly = select(vec![
        "model=expensive",
        "m%6Fdel=expensive",
        "Model=expensive",
        "model[]=expensive",
        "+model=expensive",
        "n=64",
        "n%5B%5D=64",
        "max_tokens=90000",
        "models=expensive",
        "fallbacks=expensive",
    ]);
    let one = prop_oneof![12 => plain, 1 => sly];
    (vec(one, 0..3), select(vec!["&", ";"])).prop_map(|(all, between)| all.join(between))
}

fn part(name: &str, value: &str, end: &str, more: &str) -> String {
    format!("--B{end}Content-Disposition: form-data; name=\"{name}\"{more}{end}{end}{value}{end}")
}

/// A form within a value, in other line ends.
const LINE_FEEDS: &str =
    "x\n--B\nContent-Disposition: form-data; name=\"model\"\n\nexpensive\n--B--\n";
const CARRIAGE_RETURNS: &str =
    "x\r--B\rContent-Disposition: form-data; name=\"model\"\r\rexpensive\r--B--\r";

fn form() -> impl Strategy<Value = (Vec<String>, Vec<u8>)> {
    let type_of = prop_oneof![
        6 => Just("multipart/form-data; boundary=B"),
        2 => Just("multipart/form-data; boundary=\"B\"; charset=utf-7"),
        1 => Just("multipart/form-data; charset=utf-7; BOUNDARY=B"),
    ];
    let names = prop_oneof![
        4 => select(vec!["n", "prompt", "size", "user"]).prop_map(str::to_owned),
        1 => select(vec!["model", "n"]).prop_flat_map(spelt),
        2 => select(vec!["mode+AGw-", "+AG4-", "model[]", " n", "models", "_charset_"])
            .prop_map(str::to_owned),
    ];
    let values = |name: &str| match name.contains('n') || name.contains("AG4") {
        true => select(vec!["2", "3", "64"]),
        false => select(vec![
            "expensive",
            "expensive",
            LINE_FEEDS,
            CARRIAGE_RETURNS,
            "x\r\n--Bx",
            "\r\n--",
        ]),
    };
    let fields = vec(names.prop_flat_map(move |name| (Just(name.clone()), values(&name))), 0..3);
    let sly = |end: &'static str| {
        part("model", "expensive", end, "") + &part("n", "64", end, "") + "--B--" + end
    };
    let before = prop_oneof![
        12 => Just(String::new()),
        1 => Just("\r\n".to_owned()),
        1 => Just(format!("x\n{}", sly("\n"))),
        1 => Just("{\"model\":\"expensive\",\"n\":64}\r\n".to_owned()),
    ];
    let after = prop_oneof![
        8 => Just("\r\n".to_owned()),
        1 => Just(format!("\r\n{}", sly("\r\n"))),
        1 => Just(format!("\n{}", sly("\n"))),
    ];
    let more = prop_oneof![
        12 => Just(""),
        1 => Just("; name*=UTF-8''n"),
        1 => Just("\r\nContent-Type: text/plain; charset=utf-7"),
    ];
    (type_of, fields, any::<prop::sample::Index>(), before, after, more).prop_map(
        |(type_of, mut fields, at, before, after, more)| {
            fields.insert(at.index(fields.len() + 1), ("model".to_owned(), CHEAP));
            let mut body = before;
            for (name, value) in &fields {
                body.push_str(&part(name, value, "\r\n", more));
            }
            write!(body, "--B--{after}").expect("a text takes more");
            (vec![type_of.to_owned()], body.into_bytes())
        },
    )
}
