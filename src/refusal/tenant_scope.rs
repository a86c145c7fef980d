//! What a tenant hears that names what may be another's at the upstream.

use http::StatusCode;

use super::Refusal;
use crate::config::IdKind;

impl Refusal {
    /// A response that is not this tenant's: as OpenAI says it of one that does not exist.
    pub(crate) fn previous_response_not_found(id: &str) -> Self {
        let message = format!("Previous response with id '{id}' not found.");
        let refusal = Self::client("previous_response_not_found", StatusCode::BAD_REQUEST, message);
        Self { param: Some(IdKind::PreviousResponse), ..refusal }
    }

    /// An id of a kind that says nothing of whose it is.
    pub(crate) fn id_not_allowed(kind: IdKind) -> Self {
        let name = kind.name();
        let message = format!(
            "Invalid request. An id of the kind `{name}` is not passed on: all tenants of this gateway share \
             one account at the upstream, and could use what another has made. Send the content \
             itself, or have the operator allow this kind."
        );
        let refusal = Self::client("id_not_allowed", StatusCode::BAD_REQUEST, message);
        Self { param: Some(kind), ..refusal }
    }
}
