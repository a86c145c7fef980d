//! Servers, by how they read a request: one row each.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::form::{self, Division};
use super::{Read, Sent};

/// A server's way to read.
pub(super) struct Reader {
    pub(super) name: &'static str,
    /// Of two keys the first counts.
    is_first: bool,
    /// How a key is compared.
    fold: fn(&str) -> String,
    /// The bound is the first of these that is there.
    bounds: &'static [&'static str],
    least: &'static [&'static str],
    answers: &'static [&'static str],
    /// Lists of further models.
    others: &'static [&'static str],
    /// Fields of this object are laid over those of the root.
    overlay: Option<&'static str>,
    /// What the query says outweighs the body.
    query_first: bool,
    /// Text, fractions and booleans are taken for numbers.
    is_lax: bool,
    /// A form's body that is called one (`application/x-www-form-urlencoded`) is read as one.
    takes_urlencoded: bool,
    /// Reads one JSON value and no further, also where more follows, or where the type is a form's without saying so.
    stops_early: bool,
    division: Division,
}

const CHAT_BOUNDS: &[&str] = &["max_completion_tokens", "max_tokens", "max_output_tokens"];

const PLAIN: Reader = Reader {
    name: "",
    is_first: false,
    fold: exact,
    bounds: CHAT_BOUNDS,
    least: &[],
    answers: &["n"],
    others: &[],
    overlay: None,
    query_first: false,
    is_lax: false,
    takes_urlencoded: false,
    stops_early: false,
    division: Division::Strict,
};

pub(super) const READERS: [Reader; 12] = [
    Reader { name: "last key wins", others: &["models"], ..PLAIN },
    Reader { name: "first key wins", is_first: true, others: &["models"], ..PLAIN },
    Reader {
        name: "vLLM (Pydantic)",
        least: &["min_tokens"],
        answers: &["n", "best_of"],
        bounds: &["max_completion_tokens", "max_tokens"],
        is_lax: true,
        division: Division::Charset,
        ..PLAIN
    },
    Reader {
        name: "FastAPI, older bound",
        bounds: &["max_tokens", "max_new_tokens", "max_tokens_to_sample"],
        is_lax: true,
        division: Division::Charset,
        ..PLAIN
    },
    Reader {
        name: "LiteLLM",
        bounds: &["max_tokens", "max_completion_tokens", "max_output_tokens", "num_predict"],
        answers: &["n", "num_return_sequences"],
        others: &["fallbacks", "context_window_fallbacks", "model_list"],
        overlay: Some("extra_body"),
        query_first: true,
        is_lax: true,
        takes_urlencoded: true,
        division: Division::Charset,
        ..PLAIN
    },
    Reader { name: "OpenRouter", others: &["models", "preset", "route"], ..PLAIN },
    Reader {
        name: "Ollama (Go)",
        fold: go_fold,
        bounds: &["options.num_predict", "num_predict", "max_tokens", "max_completion_tokens"],
        division: Division::FirstLineEnd,
        ..PLAIN
    },
    Reader {
        name: "new-api (Go)",
        fold: go_fold,
        query_first: true,
        takes_urlencoded: true,
        division: Division::FirstLineEnd,
        ..PLAIN
    },
    Reader {
        name: "Go, a decoder",
        fold: go_fold,
        stops_early: true,
        division: Division::FirstLineEnd,
        ..PLAIN
    },
    Reader { name: "jsoniter (lower case)", fold: lower, division: Division::Lines, ..PLAIN },
    Reader {
        name: "llama.cpp",
        bounds: &["n_predict", "max_completion_tokens", "max_tokens"],
        answers: &["n_cmpl", "n"],
        division: Division::Lines,
        ..PLAIN
    },
    Reader {
        name: "TGI (first, by lines)",
        is_first: true,
        bounds: &["max_new_tokens", "max_tokens"],
        least: &["min_new_tokens"],
        answers: &["num_return_sequences", "best_of", "n"],
        division: Division::Lines,
        ..PLAIN
    },
];

fn exact(key: &str) -> String {
    key.to_owned()
}

/// As Go's `encoding/json` compares names: by the smallest letter of each orbit of simple folding.
fn go_fold(key: &str) -> String {
    key.replace('\u{212a}', "k").replace('\u{17f}', "s").to_ascii_lowercase()
}

/// As Go's `strings.ToLower`.
fn lower(key: &str) -> String {
    key.replace('\u{212a}', "k").replace('\u{130}', "i").to_lowercase()
}

/// Whether an answer of this path has a bound that Weir reserves by.
pub(super) fn bounds(path: &str) -> bool {
    !path.starts_with("/v1/images") && !path.starts_with("/v1/audio")
}

pub(super) type Fields = Vec<(String, Value)>;

/// JSON with all its keys, in their order.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// A field of a form or a query: a text that may be taken for a number.
    Field(String),
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List,
    Fields(Fields),
}

impl Reader {
    /// What it makes of a request; `None`: an error.
    pub(super) fn read(&self, sent: &Sent, path: &str) -> Option<Read> {
        let kind = sent.content_type.to_ascii_lowercase();
        let fields = if self.stops_early {
            first_value(&sent.body).or_else(|| form::fields(sent, self.division))?
        } else if kind.starts_with("multipart/form-data") {
            form::fields(sent, self.division)?
        } else if self.takes_urlencoded && kind.starts_with("application/x-www-form-urlencoded") {
            form::pairs(&String::from_utf8_lossy(&sent.body))
        } else {
            match serde_json::from_slice(&sent.body).ok()? {
                Value::Fields(fields) => fields,
                _ => return None,
            }
        };
        self.meaning(fields, &sent.query, path)
    }

    fn meaning(&self, mut fields: Fields, query: &str, path: &str) -> Option<Read> {
        if let Some(overlay) = self.overlay
            && let Some(Value::Fields(over)) = self.find(&fields, overlay).cloned()
        {
            fields.retain(|(key, _)| over.iter().all(|(other, _)| other != key));
            fields.extend(over);
        }
        if self.query_first {
            let over = form::pairs(query);
            fields.retain(|(key, _)| over.iter().all(|(other, _)| other != key));
            fields.extend(over);
        }
        let mut read = Read { answers: 1, ..Read::default() };
        match self.find(&fields, "model") {
            Some(Value::Text(model) | Value::Field(model)) => read.model = Some(model.clone()),
            Some(Value::Null) | None => {}
            Some(_) => return None,
        }
        for name in self.others {
            match self.find(&fields, name) {
                None | Some(Value::Null) => {}
                Some(_) => read.others.push((*name).to_owned()),
            }
        }
        // Pictures have one word for their number, and what is written down has none.
        let counts = |name: &str| bounds(path) || (name == "n" && path.starts_with("/v1/images"));
        for name in self.answers.iter().filter(|name| counts(name)) {
            if let Some(n) = self.number(&fields, name)? {
                // Weir counts no further, and nobody makes as many.
                read.answers = read.answers.max((n as u64).min(u32::MAX.into()));
            }
        }
        for name in self.least.iter().filter(|_| bounds(path)) {
            if let Some(least) = self.number(&fields, name)? {
                read.least = read.least.max(least as u64);
            }
        }
        for name in self.bounds.iter().filter(|_| bounds(path)) {
            if let Some(tokens) = self.number(&fields, name)? {
                read.bound = Some((tokens >= 1.0).then_some(tokens as u64));
                break;
            }
        }
        Some(read)
    }

    /// A field by its name, or by a path of two.
    fn find<'v>(&self, fields: &'v Fields, name: &str) -> Option<&'v Value> {
        if let Some((parent, name)) = name.split_once('.') {
            let Some(Value::Fields(inner)) = self.find(fields, parent) else { return None };
            return self.find(inner, name);
        }
        let mut found = fields.iter().filter(|(key, _)| (self.fold)(key) == name);
        let found = if self.is_first { found.next() } else { found.next_back() };
        found.map(|(_, value)| value)
    }

    /// `None`: it is no number, and an error; `Some(None)`: it is not there.
    fn number(&self, fields: &Fields, name: &str) -> Option<Option<f64>> {
        match self.find(fields, name) {
            None | Some(Value::Null) => Some(None),
            Some(Value::Number(number)) if number.fract() == 0.0 => Some(Some(*number)),
            Some(Value::Bool(truth)) if self.is_lax => Some(Some(f64::from(u8::from(*truth)))),
            Some(Value::Text(text)) if self.is_lax => text.trim().parse().ok().map(Some),
            Some(Value::Field(text)) => text.trim().parse().ok().map(Some),
            Some(_) => None,
        }
    }
}

/// The object at the beginning, whatever follows.
fn first_value(body: &[u8]) -> Option<Fields> {
    let mut values = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
    match values.next()?.ok()? {
        Value::Fields(fields) => Some(fields),
        _ => None,
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        while items.next_element::<Value>()?.is_some() {}
        Ok(Value::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut fields = Fields::new();
        while let Some(entry) = entries.next_entry()? {
            fields.push(entry);
        }
        Ok(Value::Fields(fields))
    }
}
