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

/// A request as the client sent it.
pub(crate) struct Asked {
    pub(crate) head: Parts,
    pub(crate) frames: Vec<Bytes>,
    pub(crate) facts: Facts,
}

/// Sends the request, and once more without the usage option where the upstream may not know it.
/// Returns whether the usage in the answer is to be hidden from the client.
pub(crate) async fn send(
    upstream: &Upstream,
    route: &Route,
    asked: Asked,
    mut settlement: Settlement,
) -> Result<(Inbound, Settlement, bool), Refusal> {
    let Asked { mut head, frames, facts } = asked;
    upstream.rewrite(&mut head.headers);
    let path_and_query = head.uri.into_parts().path_and_query;
    let path_and_query = path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let model = route.upstream_model.as_deref();
    let wants_usage = facts.stream && facts.include_usage == Some(true);
    let asks_usage = facts.stream
        && !wants_usage
        && upstream.config.inject_usage
        && !upstream.usage_option.is_refused();
    let body = inspect::apply(&frames, &facts.splices(model, asks_usage));
    let outbound = Outbound { method: head.method, path_and_query, headers: head.headers, body };
    let may_ask_again = asks_usage && !upstream.usage_option.is_accepted();
    let plain = may_ask_again.then(|| {
        let body = inspect::apply(&frames, &facts.splices(model, false));
        Outbound { body, ..outbound.clone() }
    });
    drop(frames);
    let inbound = match upstream.send(outbound).await {
        Ok(inbound) => inbound,
        Err(error) => return Err(not_answered(upstream, settlement, error)),
    };
    if !asks_usage {
        return Ok((inbound, settlement, false));
    }
    let status = inbound.response.status();
    if status.is_success() {
        upstream.usage_option.accepted();
        return Ok((inbound, settlement, true));
    }
    let may_be_the_option =
        matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY);
    let Some(plain) = plain.filter(|_| may_be_the_option) else {
        return Ok((inbound, settlement, true));
    };
    drop(inbound);
    settlement.attempts += 1;
    let inbound = match upstream.send(plain).await {
        Ok(inbound) => inbound,
        Err(error) => return Err(not_answered(upstream, settlement, error)),
    };
    if inbound.response.status().is_success() {
        upstream.usage_option.refused();
        settlement.flags.set(Flags::USAGE_OPTION_REFUSED);
    }
    Ok((inbound, settlement, false))
}

/// Books a request that got no answer.
fn not_answered(upstream: &Upstream, mut settlement: Settlement, error: SendError) -> Refusal {
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
pub(crate) fn booked(settlement: Settlement, end: End, used: Used, refusal: Refusal) -> Refusal {
    match settlement.settle(end, used) {
        Ok(()) => refusal,
        Err(_) => Refusal::ledger_failed_at_end(),
    }
}
