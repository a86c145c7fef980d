//! The forward stage as the gateway uses it: edits spliced in, the request sent, and sent once more
//! without the usage options where the upstream may not know them.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::forward::{Inbound, Outbound, SendError, Upstream, UsageOption};
use crate::gateway::endpoints::Forwarded;
use crate::gateway::settlement::{Settlement, Used};
use crate::inspect::{self, Ask, Facts};
use crate::meter::Hide;
use crate::refusal::{Family, Refusal};
use crate::route::Route;
use crate::tenancy::set_apart;
use crate::usage::{End, Flags};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What goes upstream for one client request.
pub(crate) struct Plan {
    outbound: Outbound,
    /// The client's own bytes, where the upstream may not know the option that was spliced in.
    plain: Option<Box<Outbound>>,
    ask: Ask,
    asked: Asked,
}

/// What the client asked for, as far as it decides how the answer is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) hide: Hide,
    /// Answers to one request, at least.
    pub(crate) answers: u64,
    pub(crate) is_stream: bool,
    /// As in [`Forwarded`].
    pub(crate) has_output: bool,
    pub(crate) hears: bool,
}

impl Plan {
    /// The client's request with its head rewritten and what has to be spliced in. `target`: what may go
    /// upstream of its own. `clamp`: the most that each answer may be, in tokens. `tenant`: whose values are
    /// set apart.
    #[expect(clippy::too_many_arguments, reason = "whose request, to where, and how it is edited")]
    pub(crate) fn new(
        upstream: &Upstream,
        route: &Route,
        mut head: Parts,
        target: PathAndQuery,
        frames: &[Bytes],
        facts: &Facts,
        endpoint: &Forwarded,
        clamp: Option<u64>,
        tenant: &str,
    ) -> Self {
        if upstream.config.separate_tenants {
            set_key_apart(&mut head.headers, tenant);
        }
        upstream.rewrite(&mut head.headers, endpoint.family == Family::Anthropic);
        // After that, so that nothing in the head takes it out: what was read as JSON is JSON to the upstream.
        head.headers.insert(CONTENT_TYPE, facts.content_type.clone());
        let ask = if endpoint.has_usage_option { ask(upstream, facts) } else { Ask::Nothing };
        let model = route.upstream_model.as_deref();
        let apart = match upstream.config.separate_tenants {
            true => facts.apart(frames, tenant),
            false => Vec::new(),
        };
        let body = |ask| {
            let mut splices = facts.splices(model, ask, clamp);
            if !apart.is_empty() {
                splices.extend_from_slice(&apart);
                splices.sort_by_key(|splice| splice.at.start);
            }
            inspect::apply(frames, &splices)
        };
        let outbound = Outbound {
            method: head.method,
            path_and_query: target,
            headers: head.headers,
            body: body(ask),
        };
        let may_ask_again = option(upstream, ask).is_some_and(|option| !option.is_accepted());
        let plain = may_ask_again
            .then(|| Box::new(Outbound { body: body(Ask::Nothing), ..outbound.clone() }));
        let Forwarded { has_output, hears, .. } = *endpoint;
        let (hide, answers, is_stream) = (hide(ask, facts), facts.n, facts.stream);
        let asked = Asked { hide, answers, is_stream, has_output, hears };
        Self { outbound, plain, ask, asked }
    }
}

/// Two tenants may choose the same key, and one would get what the other had asked for.
fn set_key_apart(headers: &mut HeaderMap, tenant: &str) {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else { return };
    let hash = set_apart(tenant, key.as_bytes());
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let hex = HeaderValue::from_str(&hex).expect("hexadecimal digits are ASCII");
    headers.insert(IDEMPOTENCY_KEY, hex);
}

/// What Weir asks a stream for. A client that asks for running usage itself gets what it asked for, and
/// Weir reads it there.
fn ask(upstream: &Upstream, facts: &Facts) -> Ask {
    let options = &upstream.usage_options;
    if !facts.stream || !upstream.config.inject_usage || options.last.is_refused() {
        return Ask::Nothing;
    }
    let asks_running = upstream.config.running_usage && facts.continuous_usage != Some(true);
    match facts.include_usage {
        _ if asks_running && !options.running.is_refused() => Ask::Running,
        Some(true) => Ask::Nothing,
        _ => Ask::Usage,
    }
}

/// Whether the upstream takes what it is asked for; `None`: it is asked for nothing.
fn option(upstream: &Upstream, ask: Ask) -> Option<&UsageOption> {
    match ask {
        Ask::Nothing => None,
        Ask::Usage => Some(&upstream.usage_options.last),
        Ask::Running => Some(&upstream.usage_options.running),
    }
}

/// What the client must not see of it.
fn hide(ask: Ask, facts: &Facts) -> Hide {
    match (ask, facts.include_usage) {
        (Ask::Nothing, _) => Hide::Nothing,
        (Ask::Usage, _) => Hide::Last,
        (Ask::Running, Some(true)) => Hide::Running,
        (Ask::Running, _) => Hide::All,
    }
}

/// Sends the request, and once more without the usage options where the upstream may not know them.
pub(crate) async fn send(
    upstream: &Upstream,
    plan: Plan,
    settlement: &mut Settlement,
) -> Result<(Inbound, Asked), SendError> {
    let Plan { outbound, plain, ask, asked } = plan;
    settlement.attempts = 1;
    let inbound = upstream.send(outbound).await?;
    let Some(option) = option(upstream, ask) else {
        return Ok((inbound, asked));
    };
    let status = inbound.response.status();
    if status.is_success() {
        option.accepted();
    }
    let may_be_the_option =
        matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY);
    let Some(plain) = plain.filter(|_| may_be_the_option) else {
        return Ok((inbound, asked));
    };
    drop(inbound);
    settlement.attempts += 1;
    let inbound = Box::pin(upstream.send(*plain)).await?;
    if inbound.response.status().is_success() {
        option.refused();
        settlement.flags.set(Flags::USAGE_OPTION_REFUSED);
    }
    Ok((inbound, Asked { hide: Hide::Nothing, ..asked }))
}

/// Books a request that got no answer.
pub(crate) async fn not_answered(
    upstream: &Upstream,
    mut settlement: Box<Settlement>,
    error: SendError,
) -> Refusal {
    let refusal = Refusal::from(error);
    settlement.status = refusal.status.as_u16();
    let (end, used) = match error {
        SendError::HeadTimeout => (End::Timeout, settlement.unanswered()),
        error if error.is_sent() => (End::UpstreamError, settlement.unanswered()),
        _ => {
            settlement.attempts = settlement.attempts.saturating_sub(1);
            (End::NotSent, Used::nothing())
        }
    };
    tell(upstream, error);
    booked(settlement, end, used, refusal).await
}

/// Tells the operator, once a minute for each cause. What TLS said was told where it was said.
fn tell(upstream: &Upstream, cause: SendError) {
    if cause == SendError::Tls {
        return;
    }
    let Some(left_out) = upstream.remarks.of(cause).say() else { return };
    let name = &upstream.config.name;
    if cause == SendError::Protocol {
        tracing::error!(upstream = %name, left_out, "the upstream does not speak HTTP/1.1");
    } else {
        tracing::warn!(upstream = %name, %cause, left_out, "the upstream does not answer");
    }
}

/// Books a request that Weir answers itself after it was sent.
pub(crate) async fn booked(
    settlement: Box<Settlement>,
    end: End,
    used: Used,
    refusal: Refusal,
) -> Refusal {
    match settlement.settle(end, used).await {
        Ok(()) => refusal,
        Err(_) => Refusal::ledger_failed_at_end(),
    }
}
