//! What an upstream's 400 or 422 is about: the usage option that Weir put into the request, or something
//! that the client sent. It decides whether the request is asked again without the option, so what is
//! not sure counts as unknown: asking once more costs little, a client that is refused for what it
//! did not send has no way out.

use serde::Deserialize;
use serde_json::Value;

/// What a refusal names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// `stream_options`, or one of its members.
    Option,
    /// Something that Weir does not send.
    Another,
    Unknown,
}

/// Fields of chat and text completions that Weir does not touch, by OpenAI's specification and the API
/// documents. `param` and `loc` name one of them, or where it begins: `messages[0].content`.
const FIELDS: [&str; 26] = [
    "messages",
    "model",
    "prompt",
    "temperature",
    "top_p",
    "n",
    "stop",
    "seed",
    "size",
    "quality",
    "max_tokens",
    "max_completion_tokens",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "response_format",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "functions",
    "function_call",
    "reasoning_effort",
    "modalities",
    "best_of",
];

/// The option and its members, likewise.
const OPTIONS: [&str; 3] = ["stream_options", "include_usage", "continuous_usage_stats"];

/// Codes that say it by themselves: OpenAI's, and the API documents' for pictures.
const CODES: [&str; 7] = [
    "context_length_exceeded",
    "string_above_max_length",
    "content_filter",
    "content_policy_violation",
    "invalid_image",
    "invalid_prompt",
    "model_not_found",
];

/// A refusal as far as it says what it is about: OpenAI's `error` (vLLM's has its members at the top), and
/// FastAPI's `detail`.
#[derive(Deserialize)]
struct Refused {
    error: Option<Value>,
    param: Option<Value>,
    detail: Option<Value>,
}

impl Cause {
    /// By the refusal's body, or what of it was read. Only members that say which field is meant are believed:
    /// what its text names may be what a client wrote, who would so decide for all others.
    pub(super) fn of(body: &[u8]) -> Self {
        let stated = serde_json::from_slice(body).ok().and_then(|refused| Self::stated(&refused));
        stated.unwrap_or(Self::Unknown)
    }

    fn stated(refused: &Refused) -> Option<Self> {
        let error = refused.error.as_ref();
        let param = error.and_then(|error| error.get("param")).or(refused.param.as_ref());
        let code = error.and_then(|error| error.get("code")).and_then(Value::as_str);
        if let Some(cause) = param.and_then(Value::as_str).and_then(Self::at) {
            return Some(cause);
        }
        if code.is_some_and(|code| CODES.contains(&code)) {
            return Some(Self::Another);
        }
        // Pydantic lists all that is wrong, each with its place.
        let details = refused.detail.as_ref()?.as_array()?;
        let places = details.iter().filter_map(|detail| detail.get("loc")?.as_array());
        let at = |place: &Vec<Value>| place.iter().filter_map(Value::as_str).find_map(Self::at);
        places.filter_map(at).min_by_key(|cause| *cause == Self::Another)
    }

    /// By the place in the request that is wrong: its outermost field decides, since what stands within
    /// the client's fields is the client's.
    fn at(place: &str) -> Option<Self> {
        let mut fields = place.split(['.', '[']).filter(|field| *field != "body");
        let field = fields.next()?;
        if OPTIONS.contains(&field) {
            return Some(Self::Option);
        }
        FIELDS.contains(&field).then_some(Self::Another)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the forms in which servers say it.
    #[test]
    fn a_refusal_is_about_what_it_names() {
        let cases = [
            // OpenAI, of an unknown field; LiteLLM writes its params as words.
            (
                r#"{"error":{"message":"Unknown parameter: 'stream_options.continuous_usage_stats'.","type":"invalid_request_error","param":"stream_options.continuous_usage_stats","code":"unknown_parameter"}}"#,
                Cause::Option,
            ),
            (
                r#"{"error":{"message":"no stream_options","param":"None","code":"400"}}"#,
                Cause::Unknown,
            ),
            (
                r#"{"error":{"message":"x","param":"messages[0].content","code":null}}"#,
                Cause::Another,
            ),
            (r#"{"error":{"message":"x","param":"temperature"}}"#, Cause::Another),
            (
                r#"{"error":{"message":"x","param":null,"code":"context_length_exceeded"}}"#,
                Cause::Another,
            ),
            (r#"{"error":{"message":"x","param":"body","code":"bad"}}"#, Cause::Unknown),
            // The API documents.
            (
                r#"{"error":{"message":"Invalid image format.","type":"invalid_request_error","code":"invalid_image"}}"#,
                Cause::Another,
            ),
            (
                r#"{"error":{"message":"Invalid request.","type":"invalid_request_error","code":"invalid_request"}}"#,
                Cause::Unknown,
            ),
            // vLLM, flat.
            (
                r#"{"object":"error","message":"[{'type': 'extra_forbidden', 'loc': ('body', 'stream_options')}]","param":null,"code":400}"#,
                Cause::Unknown,
            ),
            (
                r#"{"object":"error","message":"too hot","param":"temperature","code":400}"#,
                Cause::Another,
            ),
            // FastAPI, which repeats what it got.
            (
                r#"{"detail":[{"type":"extra_forbidden","loc":["body","stream_options","include_usage"],"msg":"Extra inputs are not permitted"}]}"#,
                Cause::Option,
            ),
            (
                r#"{"detail":[{"type":"missing","loc":["body","messages"],"msg":"Field required","input":{"stream_options":{"include_usage":true}}}]}"#,
                Cause::Another,
            ),
            (
                r#"{"detail":[{"loc":["body","messages",0,"content"]},{"loc":["body","stream_options"]}]}"#,
                Cause::Option,
            ),
            // Names within what a client wrote, or beside the option's.
            (r#"{"error":{"message":"x","param":"messages[0].stream_options"}}"#, Cause::Another),
            (r#"{"error":{"message":"x","param":"metadata.stream_options"}}"#, Cause::Unknown),
            (r#"{"error":{"message":"x","param":"stream_options_2"}}"#, Cause::Unknown),
            (r#"{"error":{"message":"x","param":"body.stream_options"}}"#, Cause::Option),
            (r#"{"detail":[{"loc":["body","messages",0,"stream_options"]}]}"#, Cause::Another),
            // Text, and what is no answer.
            ("unrecognized field include_usage", Cause::Unknown),
            (r#"{"error":"stream_options is not supported"}"#, Cause::Unknown),
            (
                r#"{"error":{"message":"cannot load https://a.test/stream_options.png"}}"#,
                Cause::Unknown,
            ),
            (r#"{"error":{"message":"cut stream_opt"#, Cause::Unknown),
            // As an event, and compressed.
            ("data: {\"error\":{\"message\":\"x\",\"param\":\"messages\"}}\n\n", Cause::Unknown),
            ("\u{1f}\u{8b}\u{8}", Cause::Unknown),
            ("[]", Cause::Unknown),
            ("", Cause::Unknown),
        ];
        for (body, expected) in cases {
            assert_eq!(Cause::of(body.as_bytes()), expected, "{body}");
        }
    }
}
