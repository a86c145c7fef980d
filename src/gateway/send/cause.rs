//! What an upstream's 400 or 422 is about: the usage option that Weir put into the request, or something
//! that the client sent. It decides whether the request is asked again without the option, so what is
//! not sure counts as unknown: asking once more costs little, a client that is refused for what it
//! did not send has no way out.

use memchr::memmem;
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
    /// By the refusal's body, or what of it was read. Members that say what is meant go before words
    /// that stand anywhere: some servers repeat the whole request.
    pub(super) fn of(body: &[u8]) -> Self {
        let stated = serde_json::from_slice(body).ok().and_then(|refused| Self::stated(&refused));
        stated.unwrap_or_else(|| Self::named_in(body))
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
        let causes = places.flatten().filter_map(Value::as_str).filter_map(Self::at);
        causes.min_by_key(|cause| *cause == Self::Another)
    }

    /// By the place in the request that is wrong.
    fn at(place: &str) -> Option<Self> {
        match Self::named_in(place.as_bytes()) {
            Self::Unknown => {
                let field = place.split(['.', '[']).next().unwrap_or_default();
                FIELDS.contains(&field).then_some(Self::Another)
            }
            named => Some(named),
        }
    }

    fn named_in(text: &[u8]) -> Self {
        let names = |name: &str| memmem::find(text, name.as_bytes()).is_some();
        let is_named = ["stream_options", "include_usage", "continuous_usage_stats"].map(names);
        if is_named.contains(&true) { Self::Option } else { Self::Unknown }
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
                Cause::Option,
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
                Cause::Option,
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
            // Text, and what is no answer.
            ("unrecognized field include_usage", Cause::Option),
            (r#"{"error":"stream_options is not supported"}"#, Cause::Option),
            (r#"{"error":{"message":"cut stream_opt"#, Cause::Unknown),
            ("[]", Cause::Unknown),
            ("", Cause::Unknown),
        ];
        for (body, expected) in cases {
            assert_eq!(Cause::of(body.as_bytes()), expected, "{body}");
        }
    }
}
