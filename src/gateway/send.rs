//! The forward stage as the gateway uses it: edits spliced in, the request sent, and sent once more
//! without the usage option where the upstream refuses it.

mod cause;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

use crate::forward::{At, Inbound, ModelOptions, Outbound, SendError, Upstream, UsageOption};
use crate::gateway::Worker;
use crate::gateway::endpoints::Forwarded;
use crate::gateway::send::cause::Cause;
use crate::gateway::settlement::{Settlement, Used};
use crate::inspect::{self, Api, RequestFacts, Splice, UsageAsk};
use crate::meter::Hide;
use crate::record::EventId;
use crate::refusal::{Family, Refusal};
use crate::registry::Identity;
use crate::route::{Candidate, Route};
use crate::tenancy::{hex, tenant_hash};
use crate::usage::{End, Flags};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// So much of a refusal is read to see what it is about.
const REFUSAL_BYTES: usize = 16 * 1024;

/// What a client asks for, of which each candidate gets its own edition.
#[derive(Debug)]
pub(crate) struct ClientRequest {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    /// Empty once the last candidate that may have to be asked has got them.
    pub(crate) headers: HeaderMap,
    pub(crate) frames: Vec<Bytes>,
    pub(crate) facts: RequestFacts,
    pub(crate) endpoint: &'static Forwarded,
    /// The most that each answer may be, in tokens.
    pub(crate) clamp: Option<u64>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) event_id: EventId,
}

/// What goes upstream for one client request.
pub(crate) struct Plan {
    outbound: Outbound,
    /// What is asked for in it that the client did not ask for.
    added: Option<Box<Added>>,
    asked: AnswerShape,
}

/// The option that was spliced into a request, and what makes the same request without it.
struct Added {
    /// Without a body, which is made only where it is needed: that is rare.
    outbound: Outbound,
    /// Values that are set apart by tenant.
    scoped: Vec<Splice>,
    ask: UsageAsk,
    at: At,
}

impl ClientRequest {
    fn edited(&self, name: Option<&str>, ask: UsageAsk, scoped: &[Splice]) -> Vec<Bytes> {
        let mut splices = self.facts.splices(name, ask, self.clamp);
        if !scoped.is_empty() {
            splices.extend_from_slice(scoped);
            splices.sort_by_key(|splice| splice.at.start);
        }
        inspect::apply(&self.frames, &splices)
    }
}

/// What the client asked for, as far as it decides how the answer is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnswerShape {
    pub(crate) hide: Hide,
    /// Its usage was not asked for, because the model's upstream refuses that.
    pub(crate) went_without: bool,
    /// Answers to one request, at least.
    pub(crate) answers: u64,
    pub(crate) prompts: u64,
    pub(crate) is_stream: bool,
    /// As in [`Forwarded`].
    pub(crate) has_output: bool,
    pub(crate) hears: bool,
    /// It is answered with speech, whose bytes say nothing.
    pub(crate) speaks: bool,
}

impl Plan {
    /// The client's request with its head rewritten for a candidate and what has to be spliced in. `target`: what may
    /// go upstream of its own. `headers`: the client's.
    pub(crate) fn new(
        worker: &Worker,
        route: &Route,
        candidate: &Candidate,
        target: PathAndQuery,
        mut headers: HeaderMap,
        request: &ClientRequest,
    ) -> Self {
        let upstream = &worker.upstreams[candidate.backend.upstream];
        let ClientRequest { facts, endpoint, identity, .. } = request;
        let tenant = &*identity.tenant;
        if upstream.config.separate_tenants {
            hash_idempotency_key(&mut headers, tenant);
            replace_request_id(&mut headers, request.event_id);
        }
        let with_api_key = endpoint.family == Family::Anthropic;
        upstream.rewrite(&mut headers, candidate.backend.key, with_api_key);
        // After that, so that nothing in the head takes it out: what was read as JSON is JSON to the upstream.
        headers.insert(CONTENT_TYPE, facts.content_type.clone());
        let at = endpoint.usage_option.filter(|_| facts.stream && upstream.config.inject_usage);
        let known = at.and_then(|at| upstream.usage_options.of(route.name_at(candidate), at));
        let (ask, is_refused) = known.map_or((UsageAsk::Nothing, false), |known| {
            ask(known, upstream.config.running_usage, facts, worker.clock.mono_ns())
        });
        let scoped = match upstream.config.separate_tenants {
            true => facts.scoped(&request.frames, tenant),
            false => Vec::new(),
        };
        let Forwarded { has_output, hears, .. } = **endpoint;
        let speaks = endpoint.api == Api::Speech;
        let (hide, answers, is_stream) = (hide(ask, facts), facts.n, facts.stream);
        let prompts = facts.prompts;
        let asked = AnswerShape {
            hide,
            went_without: is_refused,
            answers,
            prompts,
            is_stream,
            has_output,
            hears,
            speaks,
        };
        let body = request.edited(renamed(route, candidate, facts), ask, &scoped);
        let method = request.method.clone();
        let mut outbound = Outbound { method, path_and_query: target, headers, body: Vec::new() };
        let added = at
            .filter(|_| ask != UsageAsk::Nothing)
            .map(|at| Box::new(Added { outbound: outbound.clone(), scoped, ask, at }));
        outbound.body = body;
        Self { outbound, added, asked }
    }
}

/// What the model has to be called there, if not what the client calls it.
fn renamed<'r>(
    route: &'r Route,
    candidate: &'r Candidate,
    facts: &RequestFacts,
) -> Option<&'r str> {
    let name = route.name_at(candidate);
    (facts.model != name).then_some(name)
}

/// Two tenants may choose the same key, and one would get what the other had asked for.
fn hash_idempotency_key(headers: &mut HeaderMap, tenant: &str) {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else { return };
    let hash = tenant_hash(tenant, key.as_bytes());
    let hex = HeaderValue::from_str(&hex(&hash)).expect("hexadecimal digits are ASCII");
    headers.insert(IDEMPOTENCY_KEY, hex);
}

/// vLLM runs a request under the id that it is sent, and two of one id get in each other's way. Ours is no
/// other request's, and is that of the answer and the ledger.
fn replace_request_id(headers: &mut HeaderMap, event_id: EventId) {
    if headers.contains_key(REQUEST_ID) {
        let id = event_id.with_text(HeaderValue::from_str).expect("a UUID is ASCII");
        headers.insert(REQUEST_ID, id);
    }
}

/// What Weir asks a stream for, and whether it would ask for more if that were not refused. A client
/// that asks for running usage itself gets what it asked for, and Weir reads it there.
fn ask(
    known: &ModelOptions,
    asks_running: bool,
    facts: &RequestFacts,
    now_ns: u64,
) -> (UsageAsk, bool) {
    let client_asks = facts.include_usage == Some(true);
    let wants_running = asks_running && facts.continuous_usage != Some(true);
    if !wants_running && client_asks {
        return (UsageAsk::Nothing, false);
    }
    if known.last.is_refused(now_ns) {
        return (UsageAsk::Nothing, true);
    }
    match known.running.is_refused(now_ns) {
        false if wants_running => (UsageAsk::Running, false),
        is_refused => {
            let ask = if client_asks { UsageAsk::Nothing } else { UsageAsk::Usage };
            (ask, wants_running && is_refused)
        }
    }
}

/// What the client must not see of it.
fn hide(ask: UsageAsk, facts: &RequestFacts) -> Hide {
    match (ask, facts.include_usage) {
        (UsageAsk::Nothing, _) => Hide::Nothing,
        (UsageAsk::Usage, _) => Hide::Last,
        (UsageAsk::Running, Some(true)) => Hide::Running,
        (UsageAsk::Running, _) => Hide::All,
    }
}

/// Sends the request, and once more without the usage option where that is, or may be, what the
/// upstream refuses.
pub(crate) async fn send(
    worker: &Worker,
    route: &Route,
    plan: Plan,
    request: &ClientRequest,
    settlement: &mut Settlement,
) -> Result<(Inbound, AnswerShape), SendError> {
    let Plan { outbound, added, asked } = plan;
    let candidate = settlement.log.candidate().clone();
    let upstream = &worker.upstreams[candidate.backend.upstream];
    let name = route.name_at(&candidate);
    settlement.attempts += 1;
    let inbound = upstream.send(outbound).await?;
    let Some(added) = added else { return Ok((inbound, asked)) };
    let Some(known) = upstream.usage_options.of(name, added.at) else {
        return Ok((inbound, asked));
    };
    let status = inbound.response.status();
    if status.is_success() {
        option(known, added.ask).accepted();
    }
    if !matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY) {
        return Ok((inbound, asked));
    }
    // Rare, so it does not make every request's future as large.
    let refused = Box::pin(refusal(inbound, Duration::from_millis(upstream.config.idle_ms))).await;
    let cause = match refused {
        Ok(cause) => cause,
        Err(inbound) => return Ok((*inbound, asked)),
    };
    settlement.attempts += 1;
    let Added { outbound, scoped, ask, .. } = *added;
    let renamed = renamed(route, &candidate, &request.facts);
    let body = request.edited(renamed, UsageAsk::Nothing, &scoped);
    let plain = Outbound { body, ..outbound };
    // Many servers close a connection on which they have refused something, a moment later: the next
    // request on it would be lost, and nobody could tell that it was not worked on.
    let inbound = Box::pin(upstream.send_anew(plain)).await?;
    if inbound.response.status().is_success() {
        // Of both, the one that asks for more: the other is asked for by itself then.
        option(known, ask).refused(worker.clock.mono_ns(), cause != Cause::Unknown);
        log_option_refused(upstream, name, cause);
    }
    let went_without = inbound.response.status().is_success();
    Ok((inbound, AnswerShape { hide: Hide::Nothing, went_without, ..asked }))
}

fn option(known: &ModelOptions, ask: UsageAsk) -> &UsageOption {
    if ask == UsageAsk::Running { &known.running } else { &known.last }
}

/// What a refusal is about, if it may be the option, and its connection is closed; else the refusal, whole as
/// it came. What can't be read to its end, or not in `time`, is unknown.
async fn refusal(mut inbound: Inbound, time: Duration) -> Result<Cause, Box<Inbound>> {
    let Some(read) = inbound.read_ahead(REFUSAL_BYTES, time).await else {
        return Ok(Cause::Unknown);
    };
    match Cause::of(&read) {
        Cause::Another => Err(Box::new(inbound)),
        cause => Ok(cause),
    }
}

/// Notes that an answer's usage was not asked for.
pub(crate) fn went_without(worker: &Worker, settlement: &mut Settlement) {
    settlement.flags.set(Flags::USAGE_OPTION_REFUSED);
    worker.shard.usage_option_refused();
}

/// Tells the operator, whose reports have estimates from now on, once a minute for an upstream.
fn log_option_refused(upstream: &Upstream, model: &str, cause: Cause) {
    if let Some(left_out) = upstream.log_throttles.usage_refused.allow() {
        tracing::warn!(
            upstream = %upstream.config.name,
            model,
            is_named = cause != Cause::Unknown,
            left_out,
            "the upstream refuses to be asked for a stream's usage, which is estimated; if that is \
             right for all its models, set `inject_usage = false`"
        );
    }
}

/// Books a request that got no answer.
pub(crate) async fn not_answered(mut settlement: Box<Settlement>, error: SendError) -> Refusal {
    let refusal = Refusal::from(error);
    settlement.status = refusal.status.as_u16();
    let (end, used) = match error {
        SendError::HeadTimeout => (End::Timeout, settlement.unanswered()),
        error if error.is_sent() => (End::UpstreamError, settlement.unanswered()),
        _ => {
            settlement.attempts = settlement.attempts.saturating_sub(1);
            let end = if settlement.attempts == 0 { End::NotSent } else { End::UpstreamError };
            (end, Used::nothing())
        }
    };
    booked(settlement, end, used, refusal).await
}

/// Tells the operator, once a minute for each cause. What TLS said was told where it was said.
pub(crate) fn log_failure(upstream: &Upstream, cause: SendError) {
    if cause == SendError::Tls {
        return;
    }
    let Some(left_out) = upstream.log_throttles.of(cause).allow() else { return };
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
