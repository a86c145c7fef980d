//! Every error that the simulator can answer with. The bodies that the API documents print are
//! theirs to the letter; what is wrong in detail goes into the header `x-sim-reason`.

use std::borrow::Cow;

use http::StatusCode;

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub status: StatusCode,
    /// The JSON body.
    pub body: Cow<'static, str>,
    /// One line for whoever looks into it.
    pub reason: Cow<'static, str>,
    /// For 405: what would have been allowed.
    pub allow: Option<&'static str>,
}

/// `{"error":{"message","type","code"}}`, compact, as the documents have it: without `param`.
macro_rules! body {
    ($message:literal, $kind:literal, $code:literal) => {
        concat!(
            r#"{"error":{"message":""#,
            $message,
            r#"","type":""#,
            $kind,
            r#"","code":""#,
            $code,
            "\"}}"
        )
    };
}

impl Refusal {
    fn fixed(status: StatusCode, body: &'static str, reason: &'static str) -> Self {
        Self { status, body: Cow::Borrowed(body), reason: Cow::Borrowed(reason), allow: None }
    }

    /// The same as Anthropic's clients expect it.
    pub(super) fn anthropic(self) -> Self {
        let body = self.body.replacen('{', r#"{"type":"error","#, 1);
        Self { body: Cow::Owned(body), ..self }
    }

    pub(super) fn bad_key(reason: &'static str) -> Self {
        let body = body!("Invalid API key.", "authentication_error", "invalid_api_key");
        Self::fixed(StatusCode::UNAUTHORIZED, body, reason)
    }

    pub(super) fn rate_limit() -> Self {
        let body = body!("Rate limit exceeded.", "rate_limit_error", "rate_limit_exceeded");
        Self::fixed(StatusCode::TOO_MANY_REQUESTS, body, "asked for")
    }

    pub(super) fn invalid(reason: impl Into<Cow<'static, str>>) -> Self {
        let body = body!("Invalid request.", "invalid_request_error", "invalid_request");
        Self { reason: reason.into(), ..Self::fixed(StatusCode::BAD_REQUEST, body, "") }
    }

    pub(super) fn invalid_image(reason: &'static str) -> Self {
        let body = body!("Invalid image format.", "invalid_request_error", "invalid_image");
        Self::fixed(StatusCode::BAD_REQUEST, body, reason)
    }

    pub(super) fn too_large() -> Self {
        let body = body!("Request too large.", "invalid_request_error", "request_too_large");
        Self::fixed(StatusCode::PAYLOAD_TOO_LARGE, body, "body over the simulator's limit")
    }

    pub(super) fn server_error() -> Self {
        let body = body!(
            "The server had an error while processing your request.",
            "server_error",
            "server_error"
        );
        Self::fixed(StatusCode::INTERNAL_SERVER_ERROR, body, "asked for")
    }

    pub(super) fn overloaded() -> Self {
        let body = body!("The engine is currently overloaded.", "server_error", "overloaded");
        Self::fixed(StatusCode::SERVICE_UNAVAILABLE, body, "asked for")
    }

    pub(super) fn not_found() -> Self {
        let body = body!("Not found.", "invalid_request_error", "not_found");
        Self::fixed(StatusCode::NOT_FOUND, body, "no such path")
    }

    pub(super) fn method_not_allowed(allow: &'static str) -> Self {
        let body = body!("Method not allowed.", "invalid_request_error", "method_not_allowed");
        let plain = Self::fixed(StatusCode::METHOD_NOT_ALLOWED, body, "no such method here");
        Self { allow: Some(allow), ..plain }
    }

    pub(super) fn unknown_model(model: &str) -> Self {
        let message =
            format!("The model `{model}` does not exist or you do not have access to it.");
        let quoted = serde_json::Value::String(message);
        let body = format!(
            r#"{{"error":{{"message":{quoted},"type":"invalid_request_error","code":"model_not_found"}}}}"#
        );
        Self {
            status: StatusCode::NOT_FOUND,
            body: Cow::Owned(body),
            reason: Cow::Borrowed("unknown model"),
            allow: None,
        }
    }
}
