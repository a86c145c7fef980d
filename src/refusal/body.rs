//! Refusals of a body before anything in it is read: too large, too slow, too many, or in a form that
//! nobody reads.

use http::StatusCode;

use super::Refusal;

impl Refusal {
    /// A tenant holds more bytes of request bodies than its share.
    pub(crate) fn tenant_body_bytes() -> Self {
        Self::rate_limited(1, "tenant-body-bytes")
    }

    pub(crate) fn body_too_large(limit: u64) -> Self {
        let message = format!("The request body is larger than {limit} bytes.");
        Self::client("request_too_large", StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    pub(crate) fn unknown_coding() -> Self {
        let message = "This content-encoding is not supported; \
                       send gzip, deflate, br or zstd alone, or no coding.";
        Self::client("unsupported_media_type", StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
    }

    pub(crate) fn corrupt_coding() -> Self {
        Self::invalid("the body is not what its content-encoding says")
    }

    pub(crate) fn body_stalled() -> Self {
        Self::invalid("the request body did not arrive in time")
    }
}
