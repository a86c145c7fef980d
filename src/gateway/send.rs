//! The forward stage as the gateway uses it: edits spliced in, the request sent, and sent once more
//! without the usage option where the upstream may not know it.

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use http::uri::PathAndQuery;

use crate::forward::{Inbound, Outbound, SendError, Upstream};
use crate::gateway::settlement::{Settlement, Used};
use crate::inspect::{self, Facts};
use crate::refusal::Refusal;
use crate::route::Route;
use crate::usage::{End, Flags};

/// What goes upstream for one client request.
pub(crate) struct Plan {
    outbound: Outbound,
    /// The client's own bytes, where the upstream may not know the option that was spliced in.
    plain: Option<Box<Outbound>>,
    asks_usage: bool,
}

impl Plan {
    /// The client's request with its head rewritten and what has to be spliced in. `clamp`: the most
    /// that each answer may be, in tokens.
    pub(crate) fn new(
        upstream: &Upstream,
        route: &Route,
        mut head: Parts,
        frames: &[Bytes],
        facts: &Facts,
        clamp: Option<u64>,
    ) -> Self {
        upstream.rewrite(&mut head.headers);
        let path_and_query = head.uri.into_parts().path_and_query;
        let path_and_query = path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let asks_usage = facts.stream
            && facts.include_usage != Some(true)
            && upstream.config.inject_usage
            && !upstream.usage_option.is_refused();
        let model = route.upstream_model.as_deref();
        let body = |asks| inspect::apply(frames, &facts.splices(model, asks, clamp));
        let outbound = Outbound {
            method: head.method,
            path_and_query,
            headers: head.headers,
            body: body(asks_usage),
        };
        let may_ask_again = asks_usage && !upstream.usage_option.is_accepted();
        let plain =
            may_ask_again.then(|| Box::new(Outbound { body: body(false), ..outbound.clone() }));
        Self { outbound, plain, asks_usage }
    }
}

/// Sends the request, and once more without the usage option where the upstream may not know it.
/// Returns whether the usage in the answer is to be hidden from the client.
pub(crate) async fn send(
    upstream: &Upstream,
    plan: Plan,
    settlement: &mut Settlement,
) -> Result<(Inbound, bool), SendError> {
    let Plan { outbound, plain, asks_usage } = plan;
    let inbound = upstream.send(outbound).await?;
    if !asks_usage {
        return Ok((inbound, false));
    }
    let status = inbound.response.status();
    if status.is_success() {
        upstream.usage_option.accepted();
    }
    let may_be_the_option =
        matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY);
    let Some(plain) = plain.filter(|_| may_be_the_option) else {
        return Ok((inbound, true));
    };
    drop(inbound);
    settlement.attempts += 1;
    let inbound = Box::pin(upstream.send(*plain)).await?;
    if inbound.response.status().is_success() {
        upstream.usage_option.refused();
        settlement.flags.set(Flags::USAGE_OPTION_REFUSED);
    }
    Ok((inbound, false))
}

/// Books a request that got no answer.
pub(crate) fn not_answered(
    upstream: &Upstream,
    mut settlement: Box<Settlement>,
    error: SendError,
) -> Refusal {
    let refusal = Refusal::from(error);
    settlement.status = refusal.status.as_u16();
    let (end, used) = match error {
        SendError::HeadTimeout => (End::Timeout, settlement.prompt_only()),
        error if error.is_sent() => (End::UpstreamError, settlement.prompt_only()),
        _ => {
            settlement.attempts = settlement.attempts.saturating_sub(1);
            (End::NotSent, Used::nothing())
        }
    };
    if error == SendError::Protocol {
        tracing::error!(upstream = %upstream.config.name, "the upstream does not speak HTTP/1.1");
    }
    booked(settlement, end, used, refusal)
}

/// Books a request that Weir answers itself after it was sent.
pub(crate) fn booked(
    settlement: Box<Settlement>,
    end: End,
    used: Used,
    refusal: Refusal,
) -> Refusal {
    match settlement.settle(end, used) {
        Ok(()) => refusal,
        Err(_) => Refusal::ledger_failed_at_end(),
    }
}
