//! The usage objects of all dialects, read in one pass and without allocating: a document brings one
//! on nearly every request.

use std::ops::Range;

use super::decimal::scaled;
use crate::json::{Scanner, Sink, Token};

/// No count above this is believed: beyond 2^53 JSON numbers stop being exact.
const MAX_COUNT: u64 = 1 << 53;
/// Decimal places of a second that are kept: milliseconds.
const SECOND_PLACES: i64 = 3;
/// Decimal places of a US dollar that are kept: nano-USD.
const USD_PLACES: i64 = 9;

/// The usage object says what cannot be: a negative number, a fraction, a string, too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Insane;

/// What stands where a count belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Count {
    #[default]
    Absent,
    Of(u64),
    Insane,
}

/// All the places where the dialects put their numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Object {
    pub(super) prompt_tokens: Count,
    pub(super) input_tokens: Count,
    pub(super) completion_tokens: Count,
    pub(super) output_tokens: Count,
    pub(super) total_tokens: Count,
    /// DeepSeek.
    pub(super) prompt_cache_hit_tokens: Count,
    /// Anthropic.
    pub(super) cache_read_input_tokens: Count,
    pub(super) cache_creation_input_tokens: Count,
    /// SGLang.
    pub(super) reasoning_tokens: Count,
    /// A fork of llama.cpp.
    pub(super) reasoning: Count,
    /// `seconds` of a transcription that is billed by time, in milliseconds.
    pub(super) seconds: Count,
    /// `cost` of OpenRouter and LiteLLM, in nano-USD. Elsewhere it is an object, which is none.
    pub(super) cost: Count,
    pub(super) prompt_tokens_details: Option<Details>,
    pub(super) input_tokens_details: Option<Details>,
    /// Transcriptions spell it so.
    pub(super) input_token_details: Option<Details>,
    pub(super) completion_tokens_details: Option<Details>,
    pub(super) output_tokens_details: Option<Details>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Details {
    pub(super) cached_tokens: Count,
    pub(super) cache_write_tokens: Count,
    pub(super) audio_tokens: Count,
    pub(super) image_tokens: Count,
    pub(super) reasoning_tokens: Count,
    pub(super) accepted_prediction_tokens: Count,
    pub(super) rejected_prediction_tokens: Count,
}

impl Object {
    /// Reads the bytes of one JSON object.
    ///
    /// # Errors
    /// They are none, a known key stands there twice, or details are no object.
    pub(super) fn read(raw: &[u8]) -> Result<Self, Insane> {
        let (mut scanner, mut reader) = (Scanner::new(), Reader::default());
        let whole = scanner.push(raw, &mut reader).is_ok() && scanner.finish(&mut reader).is_ok();
        if whole && !reader.failed { Ok(reader.object) } else { Err(Insane) }
    }

    fn count(&mut self, field: Field) -> Option<&mut Count> {
        Some(match field {
            Field::PromptTokens => &mut self.prompt_tokens,
            Field::InputTokens => &mut self.input_tokens,
            Field::CompletionTokens => &mut self.completion_tokens,
            Field::OutputTokens => &mut self.output_tokens,
            Field::TotalTokens => &mut self.total_tokens,
            Field::PromptCacheHitTokens => &mut self.prompt_cache_hit_tokens,
            Field::CacheReadInputTokens => &mut self.cache_read_input_tokens,
            Field::CacheCreationInputTokens => &mut self.cache_creation_input_tokens,
            Field::ReasoningTokens => &mut self.reasoning_tokens,
            Field::Reasoning => &mut self.reasoning,
            Field::Seconds => &mut self.seconds,
            Field::Cost => &mut self.cost,
            _ => return None,
        })
    }

    fn details(&mut self, field: Field) -> Option<&mut Option<Details>> {
        Some(match field {
            Field::PromptTokensDetails => &mut self.prompt_tokens_details,
            Field::InputTokensDetails => &mut self.input_tokens_details,
            Field::InputTokenDetails => &mut self.input_token_details,
            Field::CompletionTokensDetails => &mut self.completion_tokens_details,
            Field::OutputTokensDetails => &mut self.output_tokens_details,
            _ => return None,
        })
    }
}

impl Details {
    fn count(&mut self, field: Field) -> Option<&mut Count> {
        Some(match field {
            Field::CachedTokens => &mut self.cached_tokens,
            Field::CacheWriteTokens => &mut self.cache_write_tokens,
            Field::AudioTokens => &mut self.audio_tokens,
            Field::ImageTokens => &mut self.image_tokens,
            Field::ReasoningTokens => &mut self.reasoning_tokens,
            Field::AcceptedPredictionTokens => &mut self.accepted_prediction_tokens,
            Field::RejectedPredictionTokens => &mut self.rejected_prediction_tokens,
            _ => return None,
        })
    }
}

/// A key that means something, in the object or in its details.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Field {
    #[default]
    Other,
    PromptTokens,
    InputTokens,
    CompletionTokens,
    OutputTokens,
    TotalTokens,
    PromptCacheHitTokens,
    CacheReadInputTokens,
    CacheCreationInputTokens,
    ReasoningTokens,
    Reasoning,
    Seconds,
    Cost,
    PromptTokensDetails,
    InputTokensDetails,
    InputTokenDetails,
    CompletionTokensDetails,
    OutputTokensDetails,
    CachedTokens,
    CacheWriteTokens,
    AudioTokens,
    ImageTokens,
    AcceptedPredictionTokens,
    RejectedPredictionTokens,
}

impl Field {
    fn of(name: &[u8]) -> Self {
        match name {
            b"prompt_tokens" => Self::PromptTokens,
            b"completion_tokens" => Self::CompletionTokens,
            b"total_tokens" => Self::TotalTokens,
            b"prompt_tokens_details" => Self::PromptTokensDetails,
            b"cached_tokens" => Self::CachedTokens,
            b"audio_tokens" => Self::AudioTokens,
            b"completion_tokens_details" => Self::CompletionTokensDetails,
            b"reasoning_tokens" => Self::ReasoningTokens,
            b"accepted_prediction_tokens" => Self::AcceptedPredictionTokens,
            b"rejected_prediction_tokens" => Self::RejectedPredictionTokens,
            b"input_tokens" => Self::InputTokens,
            b"output_tokens" => Self::OutputTokens,
            b"input_tokens_details" => Self::InputTokensDetails,
            b"input_token_details" => Self::InputTokenDetails,
            b"output_tokens_details" => Self::OutputTokensDetails,
            b"cache_read_input_tokens" => Self::CacheReadInputTokens,
            b"cache_creation_input_tokens" => Self::CacheCreationInputTokens,
            b"cache_write_tokens" => Self::CacheWriteTokens,
            b"prompt_cache_hit_tokens" => Self::PromptCacheHitTokens,
            b"image_tokens" => Self::ImageTokens,
            b"reasoning" => Self::Reasoning,
            b"cost" => Self::Cost,
            b"seconds" => Self::Seconds,
            _ => Self::Other,
        }
    }

    /// The field of a raw key, whose escapes need not be undone to see that most are none.
    fn of_raw(raw: &[u8]) -> Result<Self, Insane> {
        match Self::of(raw) {
            Self::Other if !raw.iter().all(|byte| byte.is_ascii() && *byte != b'\\') => {
                Ok(Self::of(decode(raw).ok_or(Insane)?.as_bytes()))
            }
            field => Ok(field),
        }
    }
}

/// The sink that fills an object.
#[derive(Debug, Default)]
struct Reader {
    object: Object,
    /// The details that are open; they are put in their place when they end.
    details: Details,
    details_field: Field,
    in_details: bool,
    /// They are a list.
    list: bool,
    /// The key of the value to come.
    field: Field,
    /// The known keys seen in the object and in the open details; a bit for each.
    seen: u32,
    seen_details: u32,
    wants: bool,
    failed: bool,
}

impl Sink for Reader {
    fn begin(&mut self, token: Token, depth: usize, _: u64) {
        self.wants = depth == 0;
        let container = matches!(token, Token::Object | Token::Array);
        if depth == 0 {
            self.failed |= token != Token::Object;
        } else if container && depth == 1 && self.object.details(self.field).is_some() {
            // An empty list is how some languages write an empty object.
            (self.in_details, self.wants) = (true, true);
            (self.details, self.seen_details) = (Details::default(), 0);
            self.details_field = self.field;
            self.field = Field::Other;
            self.list = token == Token::Array;
        } else if container {
            self.value(token, &[]);
        }
    }

    fn wants(&self) -> bool {
        self.wants
    }

    /// Only a token that is cut off comes so, and then the object is none.
    fn text(&mut self, _: &[u8]) {}

    fn end(&mut self, token: Token, depth: usize, _: u64) {
        if depth == 1 && self.in_details && matches!(token, Token::Object | Token::Array) {
            self.in_details = false;
            if let Some(details) = self.object.details(self.details_field) {
                *details = Some(self.details);
            }
        }
    }

    fn whole(&mut self, token: Token, _: usize, _: Range<u64>, text: &[u8]) {
        if token == Token::Key {
            self.key(text);
        } else {
            self.value(token, text);
        }
    }
}

impl Reader {
    fn key(&mut self, raw: &[u8]) {
        let Ok(field) = Field::of_raw(raw) else {
            self.failed = true;
            return;
        };
        let (seen, known) = if self.in_details {
            (&mut self.seen_details, self.details.count(field).is_some())
        } else {
            let object = &mut self.object;
            (&mut self.seen, object.count(field).is_some() || object.details(field).is_some())
        };
        self.field = if known { field } else { Field::Other };
        if known {
            // Parsers disagree about which of two counts.
            self.failed |= *seen & 1 << field as u32 != 0;
            *seen |= 1 << field as u32;
        }
    }

    /// A value, apart from details; of a container the beginning.
    fn value(&mut self, token: Token, text: &[u8]) {
        // What the elements of a list would be, nobody knows.
        self.failed |= self.in_details && self.list;
        let count = if self.in_details {
            self.details.count(self.field)
        } else {
            self.object.count(self.field)
        };
        match count {
            Some(count) => match Count::read(self.field, token, text) {
                Ok(read) => *count = read,
                Err(Insane) => self.failed = true,
            },
            // A null for details is none.
            None => self.failed |= self.field != Field::Other && token != Token::Null,
        }
    }
}

impl Count {
    /// What a value says. A value that no parser takes is an error.
    fn read(field: Field, token: Token, text: &[u8]) -> Result<Self, Insane> {
        match (token, field) {
            (Token::Number, Field::Seconds) => Ok(Self::decimal(text, SECOND_PLACES)),
            (Token::Number, Field::Cost) => Ok(Self::decimal(text, USD_PLACES)),
            (Token::Object, Field::Cost) => Ok(Self::Absent),
            (Token::Number, _) => Self::number(text),
            (Token::Null, _) => Ok(Self::Absent),
            (Token::String, _) => decode(text).map(|_| Self::Insane).ok_or(Insane),
            _ => Ok(Self::Insane),
        }
    }

    fn decimal(text: &[u8], places: i64) -> Self {
        let found = scaled(text, places).filter(|found| *found <= MAX_COUNT);
        found.map_or(Self::Insane, Self::Of)
    }

    fn number(text: &[u8]) -> Result<Self, Insane> {
        /// So many digits fit a `u64` whatever they are.
        const DIGITS: usize = 19;
        if text.len() <= DIGITS && text.iter().all(u8::is_ascii_digit) {
            let add = |count: u64, digit: &u8| count * 10 + u64::from(digit - b'0');
            let count = text.iter().fold(0, add);
            return Ok(if count <= MAX_COUNT { Self::Of(count) } else { Self::Insane });
        }
        let count: f64 = serde_json::from_slice(text).map_err(|_| Insane)?;
        let whole = count.fract() == 0.0 && (0.0..=MAX_COUNT as f64).contains(&count);
        Ok(if whole { Self::Of(count as u64) } else { Self::Insane })
    }
}

/// The text of a string whose bytes between the quotes are `raw`; none if it is not Unicode.
fn decode(raw: &[u8]) -> Option<String> {
    serde_json::from_slice(&[b"\"", raw, b"\""].concat()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

    use super::*;

    /// The same by serde_json.
    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(default)]
    struct Reference {
        prompt_tokens: Count,
        input_tokens: Count,
        completion_tokens: Count,
        output_tokens: Count,
        total_tokens: Count,
        prompt_cache_hit_tokens: Count,
        cache_read_input_tokens: Count,
        cache_creation_input_tokens: Count,
        reasoning_tokens: Count,
        reasoning: Count,
        /// Read otherwise, and tested beside it.
        seconds: Count,
        cost: Count,
        prompt_tokens_details: Option<ReferenceDetails>,
        input_tokens_details: Option<ReferenceDetails>,
        input_token_details: Option<ReferenceDetails>,
        completion_tokens_details: Option<ReferenceDetails>,
        output_tokens_details: Option<ReferenceDetails>,
    }

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(default)]
    struct ReferenceDetails {
        cached_tokens: Count,
        cache_write_tokens: Count,
        audio_tokens: Count,
        image_tokens: Count,
        reasoning_tokens: Count,
        accepted_prediction_tokens: Count,
        rejected_prediction_tokens: Count,
    }

    fn of(count: u64) -> Count {
        if count <= MAX_COUNT { Count::Of(count) } else { Count::Insane }
    }

    impl<'de> Deserialize<'de> for Count {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct AnyValue;

            impl<'de> Visitor<'de> for AnyValue {
                type Value = Count;

                fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    formatter.write_str("a count of tokens")
                }

                fn visit_u64<E>(self, count: u64) -> Result<Count, E> {
                    Ok(of(count))
                }

                fn visit_i64<E>(self, count: i64) -> Result<Count, E> {
                    Ok(u64::try_from(count).map_or(Count::Insane, of))
                }

                fn visit_f64<E>(self, count: f64) -> Result<Count, E> {
                    let whole = count.fract() == 0.0 && (0.0..=MAX_COUNT as f64).contains(&count);
                    Ok(if whole { Count::Of(count as u64) } else { Count::Insane })
                }

                fn visit_unit<E>(self) -> Result<Count, E> {
                    Ok(Count::Absent)
                }

                fn visit_bool<E>(self, _: bool) -> Result<Count, E> {
                    Ok(Count::Insane)
                }

                fn visit_str<E>(self, _: &str) -> Result<Count, E> {
                    Ok(Count::Insane)
                }

                fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Count, A::Error> {
                    while seq.next_element::<IgnoredAny>()?.is_some() {}
                    Ok(Count::Insane)
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Count, A::Error> {
                    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                    Ok(Count::Insane)
                }
            }

            deserializer.deserialize_any(AnyValue)
        }
    }

    /// What serde_json reads, written as what it should be equal to.
    fn check(raw: &[u8]) {
        let expected = serde_json::from_slice::<Reference>(raw).ok();
        let read = Object::read(raw).ok();
        // The names and the order of the fields are the same.
        let expected = format!("{expected:?}").replace("Reference", "").replace("Details {", "{");
        let read = format!("{read:?}").replace("Object", "").replace("Details {", "{");
        assert_eq!(read, expected, "{}", raw.escape_ascii());
    }

    #[test]
    fn reads_what_serde_json_reads() {
        let values = r#"0 | 7 | -0 | -1 | 1.0 | 1.5 | 12e2 | 1e999 | 9007199254740992
            | 9007199254740993 | 18446744073709551615 | 18446744073709551616 | 99999999999999999999
            | null | true | "5" | "\ud800" | "\u0041" | "é" | [] | {}
            | {"cached_tokens":1} | {"cached_tokens":null,"x":[{}]} | {"cached_tokens":"1"}
            | {"cached_tokens":1,"cached_tokens":2} | {"cached_tokens":{"audio_tokens":3}}
            | {"c\u0061ched_tokens":4,"prompt_tokens":[],"prompt_tokens_details":8} | {"x":1,"x":2}
            | {"audio_tokens":5,"image_tokens":6,"reasoning_tokens":-7} | { "audio_tokens" : 1 }"#;
        let values: Vec<_> = values.split('|').map(str::trim).collect();
        for field in FIELDS.iter().chain(&["x", "prompt\\u005ftokens", "cached_tokens", "\\ud800"])
        {
            for value in &values {
                check(format!(r#"{{"{field}":{value}}}"#).as_bytes());
                check(format!(r#"{{"{field}":{value},"total_tokens":3}}"#).as_bytes());
                check(format!(r#"{{"{field}":1,"{field}":{value}}}"#).as_bytes());
                check(format!(r#"{{"{field}":null,"total_tokens":{value}}}"#).as_bytes());
            }
        }
        for raw in ["{", "{}", "{} x", r#"{"prompt_tokens":1"#, r#"{"prompt_tokens":1,}"#, "5"] {
            check(raw.as_bytes());
        }
        check(br#"{"total_tokens":[[1],2],"x":[[1],2]}"#);
        check(b"{\"a\xff\":1}");
        check(b"{\"a\":\"\xff\"}");
        check(b"{\"total_tokens\":\"\xff\"}");
        for list in ["[1]", "[{}]", "[[]]"] {
            let raw = format!(r#"{{"prompt_tokens_details":{list}}}"#);
            assert_eq!(Object::read(raw.as_bytes()), Err(Insane), "{list}");
        }
    }

    const FIELDS: &[&str] = &[
        "prompt_tokens",
        "input_tokens",
        "completion_tokens",
        "output_tokens",
        "total_tokens",
        "prompt_cache_hit_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "reasoning_tokens",
        "reasoning",
        "prompt_tokens_details",
        "input_tokens_details",
        "input_token_details",
        "completion_tokens_details",
        "output_tokens_details",
    ];

    proptest! {
        #[test]
        fn random_objects_are_read_as_by_serde_json(
            fields in prop::collection::vec((prop::sample::select(FIELDS), value(), value()), 0..9)
        ) {
            let written = |(name, value, _): &(&str, String, String)| format!("\"{name}\":{value}");
            let details = |(name, value, other): &(&str, String, String)| {
                format!("\"{name}\":{{\"cached_tokens\":{value},\"audio_tokens\":{other}}}")
            };
            for way in [&written as &dyn Fn(&(&str, String, String)) -> String, &details] {
                let members: Vec<_> = fields.iter().map(way).collect();
                check(format!("{{{}}}", members.join(",")).as_bytes());
            }
        }
    }

    fn value() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<u32>().prop_map(|count| count.to_string()),
            any::<i64>().prop_map(|count| count.to_string()),
            any::<f64>().prop_map(|count| serde_json::json!(count).to_string()),
            Just("null".to_owned()),
            Just("{}".to_owned()),
        ]
    }
}
