//! The forward stage as the gateway uses it: edits spliced in, the request sent, and sent once more
//! without the usage option where the upstream refuses it.

mod cause;

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use http::uri::PathAndQuery;

use crate::forward::{Inbound, ModelOptions, Outbound, SendError, Upstream, UsageOption};
use crate::gateway::Worker;
use crate::gateway::endpoints::Forwarded;
use crate::gateway::send::cause::Cause;
use crate::gateway::settlement::{Settlement, Used};
use crate::inspect::{self, Ask, Facts};
use crate::meter::Hide;
use crate::refusal::{Family, Refusal};
use crate::route::Route;
use crate::usage::{End, Flags};

/// So much of a refusal is read to see what it is about.
const REFUSAL_BYTES: usize = 16 * 1024;

/// What goes upstream for one client request.
pub(crate) struct Plan<'u> {
    outbound: Outbound,
    /// What is asked for in it that the client did not ask for.
    asked: Option<Box<AskedFor<'u>>>,
    /// The model's upstream refuses to be asked, so it is not.
    is_refused: bool,
    hide: Hide,
    answers: u64,
}

/// The option that was spliced into a request.
struct AskedFor<'u> {
    /// The same request with the client's own bytes.
    plain: Outbound,
    ask: Ask,
    known: &'u ModelOptions,
    model: &'u str,
}

/// What the client asked for, as far as it decides how the answer is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) hide: Hide,
    /// Answers to one request, at least.
    pub(crate) answers: u64,
}

impl<'u> Plan<'u> {
    /// The client's request with its head rewritten and what has to be spliced in. `clamp`: the most
    /// that each answer may be, in tokens.
    #[expect(clippy::too_many_arguments, reason = "a request, where it goes, and what is added")]
    pub(crate) fn new(
        worker: &Worker,
        upstream: &'u Upstream,
        route: &'u Route,
        mut head: Parts,
        frames: &[Bytes],
        facts: &Facts,
        endpoint: &Forwarded,
        clamp: Option<u64>,
    ) -> Self {
        upstream.rewrite(&mut head.headers, endpoint.family == Family::Anthropic);
        let path_and_query = head.uri.into_parts().path_and_query;
        let path_and_query = path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let known = endpoint.usage_option.filter(|_| facts.stream && upstream.config.inject_usage);
        let model = route.upstream_model.as_deref().unwrap_or(&route.model);
        let known = known.and_then(|at| upstream.usage_options.of(model, at));
        let (ask, is_refused) = known.map_or((Ask::Nothing, false), |known| {
            ask(known, upstream.config.running_usage, facts, worker.clock.mono_ns())
        });
        let renamed = route.upstream_model.as_deref();
        let body = |ask| inspect::apply(frames, &facts.splices(renamed, ask, clamp));
        let outbound = Outbound {
            method: head.method,
            path_and_query,
            headers: head.headers,
            body: body(ask),
        };
        let asked = known.filter(|_| ask != Ask::Nothing).map(|known| {
            let plain = Outbound { body: body(Ask::Nothing), ..outbound.clone() };
            Box::new(AskedFor { plain, ask, known, model })
        });
        Self { outbound, asked, is_refused, hide: hide(ask, facts), answers: facts.n }
    }
}

/// What Weir asks a stream for, and whether it would ask for more if that were not refused. A client
/// that asks for running usage itself gets what it asked for, and Weir reads it there.
fn ask(known: &ModelOptions, asks_running: bool, facts: &Facts, now_ns: u64) -> (Ask, bool) {
    let client_asks = facts.include_usage == Some(true);
    let wants_running = asks_running && facts.continuous_usage != Some(true);
    if !wants_running && client_asks {
        return (Ask::Nothing, false);
    }
    if known.last.is_refused(now_ns) {
        return (Ask::Nothing, true);
    }
    match known.running.is_refused(now_ns) {
        false if wants_running => (Ask::Running, false),
        is_refused => {
            let ask = if client_asks { Ask::Nothing } else { Ask::Usage };
            (ask, wants_running && is_refused)
        }
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

/// Sends the request, and once more without the usage option where that is, or may be, what the
/// upstream refuses.
pub(crate) async fn send(
    worker: &Worker,
    upstream: &Upstream,
    plan: Plan<'_>,
    settlement: &mut Settlement,
) -> Result<(Inbound, Asked), SendError> {
    let Plan { outbound, asked, is_refused, hide, answers } = plan;
    settlement.attempts = 1;
    if is_refused {
        went_without(worker, settlement);
    }
    let inbound = upstream.send(outbound).await?;
    let as_asked = Asked { hide, answers };
    let Some(asked) = asked else { return Ok((inbound, as_asked)) };
    let status = inbound.response.status();
    if status.is_success() {
        option(asked.known, asked.ask).accepted();
    }
    if !matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY) {
        return Ok((inbound, as_asked));
    }
    // Rare, so it does not make every request's future as large.
    let refused = Box::pin(refusal(inbound, Duration::from_millis(upstream.config.idle_ms))).await;
    let cause = match refused {
        Ok(cause) => cause,
        Err(inbound) => return Ok((*inbound, as_asked)),
    };
    settlement.attempts += 1;
    let AskedFor { plain, ask, known, model } = *asked;
    let inbound = Box::pin(upstream.send(plain)).await?;
    if inbound.response.status().is_success() {
        // Of both, the one that asks for more: the other is asked for by itself then.
        option(known, ask).refused(worker.clock.mono_ns(), cause != Cause::Unknown);
        went_without(worker, settlement);
        tell(worker, upstream, model, cause);
    }
    Ok((inbound, Asked { hide: Hide::Nothing, answers }))
}

fn option(known: &ModelOptions, ask: Ask) -> &UsageOption {
    if ask == Ask::Running { &known.running } else { &known.last }
}

/// What a refusal is about, if it may be the option; else the refusal, whole as it came. What can't be
/// read to its end, or not in `time`, is unknown.
async fn refusal(mut inbound: Inbound, time: Duration) -> Result<Cause, Box<Inbound>> {
    let Some((read, is_whole)) = inbound.read_ahead(REFUSAL_BYTES, time).await else {
        return Ok(Cause::Unknown);
    };
    match Cause::of(&read) {
        Cause::Another => Err(Box::new(inbound)),
        cause => {
            if is_whole {
                inbound.lease.give_back();
            }
            Ok(cause)
        }
    }
}

fn went_without(worker: &Worker, settlement: &mut Settlement) {
    settlement.flags.set(Flags::USAGE_OPTION_REFUSED);
    worker.shard.usage_option_refused();
}

/// Tells the operator, whose reports have estimates from now on, once a minute for an upstream.
fn tell(worker: &Worker, upstream: &Upstream, model: &str, cause: Cause) {
    if let Some(untold) = upstream.usage_options.tell(worker.clock.mono_ns()) {
        tracing::warn!(
            upstream = %upstream.config.name,
            model,
            is_named = cause != Cause::Unknown,
            untold,
            "the upstream refuses to be asked for a stream's usage, which is estimated; if that is \
             right for all its models, set `inject_usage = false`"
        );
    }
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
    booked(settlement, end, used, refusal).await
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
