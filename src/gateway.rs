//! A request's life, one direction: identify, inspect, route, admit, forward, meter, settle. [`serve`]
//! reads like this list; each stage is a module that knows none of the others, and what goes wrong in
//! any of them becomes an answer in `refusal`. Nothing in here fails towards hyper: before the first byte
//! every request gets an answer, after it the only honest thing left is to cut the connection.

mod admission;
mod upstream_policy;
mod answer;
mod attempt_log;
pub(crate) mod client;
mod cors;
mod endpoints;
mod event_ids;
mod disconnect;
mod metered_body;
mod models;
mod response_body;
mod response_owners;
mod request_body;
mod send;
mod settlement;
mod upstream_body;
mod rate_limit_headers;
mod routing;
mod transfer;
mod worker;

use std::convert::Infallible;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;

use crate::admit::RateLimits;
use crate::clock::Now;
use crate::gateway::admission::{admit, arrive, ask_for, opened, record_open, set_policy};
use crate::gateway::answer::answer;
use crate::gateway::client::{Client, Phase, Surplus};
use crate::gateway::disconnect::{DisconnectGuard, ReadOn};
use crate::gateway::endpoints::{Action, Endpoint, Forwarded, Keyed};
use crate::gateway::request_body::{InFlightBytes, ReadError, RequestBody};
use crate::gateway::routing::{Chosen, Tries};
use crate::gateway::send::{ClientRequest, Plan, not_answered, send};
use crate::gateway::settlement::Settlement;
use crate::record::EventId;
use crate::refusal::{Family, ORIGIN, Refusal};
use crate::registry::{Identified, Identity};
use crate::telemetry::metrics;

pub(crate) use crate::gateway::cors::Cors;
pub(crate) use crate::gateway::endpoints::forwarded as forwarded_paths;
pub(crate) use crate::gateway::request_body::{Bounds, Deadlines, InFlightLimits};
pub(crate) use crate::gateway::response_body::ResponseBody;
pub(crate) use crate::gateway::response_owners::Owners;
pub(crate) use crate::gateway::worker::{Shared, Worker};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What Anthropic's API calls it, and its SDKs read.
const ANTHROPICS_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
/// Fields that are added to an answer, at most: limits, CORS, the id.
const ADDED_HEADERS: usize = 11;

/// What is known of a request from the moment it arrives, and what its answer has to carry.
struct Exchange {
    event_id: EventId,
    arrived: Now,
    /// Whose it is, once that is known.
    identity: Option<Arc<Identity>>,
    /// Its limits as admission left them, which go on every answer to a key. Without them they are asked for.
    rate_limits: Option<RateLimits>,
    /// Some of the request's body is not read, or its end is in doubt: what follows on this connection
    /// can't be understood.
    is_unread: bool,
}

/// Answers one request. The future is dropped when the client goes away.
pub(crate) async fn handle(
    worker: Rc<Worker>,
    client: Rc<Client>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let arrived = worker.clock.now();
    let event_id = worker.event_ids.next(arrived.unix_ms);
    let is_unread = !request.body().is_end_stream();
    client.phase.set(if is_unread { Phase::Receiving } else { Phase::Waiting });
    let mut exchange = Exchange { event_id, arrived, identity: None, rate_limits: None, is_unread };
    let origin = worker.cors.allowed(request.headers());
    let row = endpoints::row(request.uri().path());
    let is_old = request.version() < Version::HTTP_11;
    let family = row.map_or(Family::OpenAi, |row| row.family(request.headers()));
    // On the heap: hyper keeps a place for this future in every connection, idle ones too.
    let answer = Box::pin(answered(&worker, &client, request, row, family, &mut exchange));
    let mut response = match contained(event_id, || worker.is_cut(), answer).await {
        Ok(response) => response,
        Err(refusal) => {
            worker.shard.refused(refusal.code);
            exchange.is_unread |= refusal.closes;
            log_refusal(&worker, &refusal, &exchange);
            whole(refusal.status, refusal.headers(), refusal.body(family, event_id))
        }
    };
    let label = row.map_or(metrics::Endpoint::Unknown, |row| row.label);
    worker.shard.request(label, response.status().as_u16());
    let headers = response.headers_mut();
    headers.reserve(ADDED_HEADERS);
    let asked = || exchange.identity.as_ref().map(|key| key.slot.rate_limits(arrived));
    if let Some(rate_limits) = exchange.rate_limits.or_else(asked) {
        rate_limit_headers::write(&rate_limits, headers);
    }
    if exchange.is_unread {
        // hyper would close without a word, and a client that reuses the connection would find it dead.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        client.lingers.set(true);
    }
    worker.cors.decorate(origin, headers);
    let id = event_id.with_text(HeaderValue::from_str).expect("a UUID is ASCII");
    if family == Family::Anthropic {
        headers.insert(ANTHROPICS_REQUEST_ID, id.clone());
    }
    headers.insert(REQUEST_ID, id);
    client.phase.set(Phase::Idle);
    client.ends_by_close.set(is_old && response.body().size_hint().exact().is_none());
    Ok(response)
}

/// Says of a refusal, which has no row, what its row would say; of a limit's to every operator.
fn log_refusal(worker: &Worker, refusal: &Refusal, exchange: &Exchange) {
    let key = exchange.identity.as_deref();
    if let (Some(Identity { tenant, key_id, .. }), Some(limit)) = (key, refusal.limit)
        && let Some(left_out) = worker.refused.count(tenant, key_id, limit)
    {
        tracing::info!(%tenant, %key_id, limit, left_out, "a limit refuses requests of a key");
    }
    let (tenant, key_id) = (key.map(|key| &*key.tenant), key.map(|key| &*key.key_id));
    let (event_id, code, limit) = (exchange.event_id, refusal.code, refusal.limit);
    tracing::debug!(%event_id, code, tenant, key_id, limit, "request refused");
}

/// Serves a request, and finds out whether its body is out of the way. An answer does not wait for a body
/// that it did not need: it says that the connection ends, and then what still comes is thrown away.
async fn answered(
    worker: &Rc<Worker>,
    client: &Rc<Client>,
    request: Request<Incoming>,
    row: Option<&'static Endpoint>,
    family: Family,
    exchange: &mut Exchange,
) -> Result<Response<ResponseBody>, Refusal> {
    let (head, mut body) = request.into_parts();
    // A client that waits for `100 Continue` sends no body, and reading it would ask for it.
    let is_held_back = head.headers.contains_key(EXPECT);
    let answer = serve(worker, client, head, &mut body, row, family, exchange).await;
    if exchange.is_unread && !is_held_back {
        exchange.is_unread = !request_body::is_over(&mut body).await;
    }
    answer
}

/// The stages, in order.
async fn serve(
    worker: &Rc<Worker>,
    client: &Rc<Client>,
    head: Parts,
    body: &mut Incoming,
    row: Option<&'static Endpoint>,
    family: Family,
    exchange: &mut Exchange,
) -> Result<Response<ResponseBody>, Refusal> {
    let (endpoint, action) = accept(client, &head, row)?;
    let Action::Keyed(keyed) = action else {
        return Ok(preflight(&head, endpoint));
    };
    let identified = identify(worker, client, &head, endpoint, exchange.arrived)?;
    exchange.identity = Some(identified.identity.clone());
    let (routes, allowed) = (&worker.routes, identified.identity.models.as_deref());
    let forwarded = match keyed {
        Keyed::ListModels => {
            return models::list(routes, allowed, family, head.uri.query()).map(own_json);
        }
        Keyed::ShowModel(id) => return models::show(routes, allowed, family, id).map(own_json),
        Keyed::Forward(forwarded) => forwarded,
    };
    let arriving = arrive(worker, &identified.identity, body.size_hint().exact(), exchange)?;
    let RequestBody { frames, facts, held } =
        inspect(worker, &identified.identity, &head, body, forwarded, exchange).await?;
    client.has_asked();
    // The ledger's row begins at the instant at which limits were asked, as the permit has it: both
    // count it in one day.
    let now = worker.clock.now();
    let identity = confirm(worker, client, &head, endpoint, identified, now, exchange)?;
    let route = worker.routes.find(&facts.model, identity.models.as_deref())?;
    let (chosen, tries) = Tries::begin(worker, route, &head.uri, &facts, &identity)?;
    let Chosen { mut attempt, target } = chosen;
    let needs_price = identity.has_cost_quota() && !forwarded.is_free;
    let price = route.price(now.unix_ms, needs_price)?;
    let ask = ask_for(forwarded, &facts, route, &identity, price);
    let permit = admit(worker, &identity, arriving, ask, now, exchange)?;
    attempt.weigh(permit.reserved_tokens());
    let clamp = permit.clamp();
    let upstream = &worker.upstreams[attempt.candidate().backend.upstream];
    let name = upstream.config.name.clone();
    let opened =
        opened(worker, exchange.event_id, &identity, route, name, endpoint, &facts, &permit);
    let arrived = exchange.arrived;
    let settlement =
        Settlement::new(worker, client, permit, attempt, &opened, arrived, route, held);
    let mut settlement = record_open(settlement).await?;
    set_policy(&mut settlement, &identity, upstream, route, forwarded, &facts, clamp);
    let drain = ReadOn::of(upstream, facts.stream, identity.tenant.clone());
    let (event_id, Parts { method, uri, headers, .. }) = (exchange.event_id, head);
    let endpoint = forwarded;
    let request =
        ClientRequest { method, uri, headers, frames, facts, endpoint, clamp, identity, event_id };
    let left = drain.is_whole.then(|| settlement.survive_client());
    // On the heap, for it may outlive this future, which would else have room for it twice.
    let sent = (request, target, tries);
    let answer = fulfil(worker.clone(), client.clone(), route.index, sent, settlement, family);
    let answer = Box::pin(answer);
    match left {
        Some(left) => DisconnectGuard::new(worker, drain, left, answer).await,
        None => answer.await,
    }
}

/// The last stages: the request goes upstream, to another candidate where that does not answer, and what comes back
/// is on its way. It holds on to all that it needs, because it may go on when its client has left.
async fn fulfil(
    worker: Rc<Worker>,
    client: Rc<Client>,
    route: usize,
    (mut request, mut target, mut tries): (ClientRequest, PathAndQuery, Tries),
    mut settlement: Box<Settlement>,
    family: Family,
) -> Result<Response<ResponseBody>, Refusal> {
    let route = worker.routes.at(route);
    let sent = loop {
        let headers = match tries.may_go_on(&worker, route) {
            true => request.headers.clone(),
            false => std::mem::take(&mut request.headers),
        };
        let candidate = settlement.log.candidate();
        let plan = Plan::new(&worker, route, candidate, target, headers, &request);
        let mut sent = send(&worker, route, plan, &request, &mut settlement).await;
        routing::report(&worker, &mut settlement, &mut sent).await;
        match tries.next(&worker, route, &sent, &request, &settlement) {
            Some(next) => target = routing::go_on(&worker, &mut settlement, next, sent),
            None => break sent,
        }
    };
    drop(request);
    let upstream = &worker.upstreams[settlement.log.candidate().backend.upstream];
    let (inbound, asked) = match sent {
        Ok(answered) => answered,
        Err(error) => return Err(not_answered(settlement, error).await),
    };
    answer(&worker, &client, upstream, route, inbound, settlement, asked, family).await
}

/// Runs a request's stages, unless the process may not wait for it any longer; a bug of ours costs this
/// request, not its connection.
async fn contained<T>(
    event_id: EventId,
    is_cut: impl Fn() -> bool,
    mut answer: Pin<Box<impl Future<Output = Result<T, Refusal>>>>,
) -> Result<T, Refusal> {
    poll_fn(|cx| {
        if is_cut() {
            return Poll::Ready(Err(Refusal::shutting_down(true)));
        }
        // What a panic leaves half done is dropped with the future, and settles itself then.
        let polled = catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(cx)));
        polled.unwrap_or_else(|_| {
            tracing::error!(%event_id, "a request failed in a way that is a bug of the gateway");
            Poll::Ready(Err(Refusal::internal()))
        })
    })
    .await
}

/// What can be said of a request before anything else: whether its connection may ask, whether its head
/// is one, and which endpoint it wants.
fn accept<'h>(
    client: &Client,
    head: &'h Parts,
    row: Option<&'static Endpoint>,
) -> Result<(&'static Endpoint, Action<'h>), Refusal> {
    if let Some(surplus) = client.surplus {
        return Err(Refusal::surplus_connection(match surplus {
            Surplus::Connections => "Too many connections are open; try again soon.",
            Surplus::OfAddress => "Too many connections from this address are open.",
        }));
    }
    if head.version == Version::HTTP_11 && head.headers.get_all(HOST).iter().count() != 1 {
        return Err(Refusal::host());
    }
    transfer::check(&head.headers)?;
    endpoints::action(row, &head.method, head.uri.path())
}

/// Whose request it is by its head; who is nobody is counted.
fn identify(
    worker: &Worker,
    client: &Client,
    head: &Parts,
    endpoint: &Endpoint,
    now: Now,
) -> Result<Identified, Refusal> {
    worker.keys().identify(&head.headers, endpoint.bearing(), now).map_err(|unidentified| {
        match worker.failed_keys.count(client.address) {
            Ok(()) => unidentified.into(),
            Err(wait) => {
                worker.shard.limited("failed-keys");
                Refusal::failed_keys(wait)
            }
        }
    })
}

/// Whose request it is now that its body has been read, for which the client takes as long as it likes: a
/// key that is gone by now lets nothing through.
fn confirm(
    worker: &Worker,
    client: &Client,
    head: &Parts,
    endpoint: &Endpoint,
    identified: Identified,
    now: Now,
    exchange: &mut Exchange,
) -> Result<Arc<Identity>, Refusal> {
    if worker.keys().is_still(&identified, now) {
        return Ok(identified.identity);
    }
    exchange.identity = None;
    let Identified { identity, .. } = identify(worker, client, head, endpoint, now)?;
    exchange.identity = Some(identity.clone());
    Ok(identity)
}

/// Reads the body and scans it on the way.
async fn inspect(
    worker: &Worker,
    identity: &Identity,
    head: &Parts,
    body: &mut Incoming,
    forwarded: &Forwarded,
    exchange: &mut Exchange,
) -> Result<RequestBody, Refusal> {
    let held = InFlightBytes::new(&worker.bounds.room, identity.slot.live().body_bytes());
    match request_body::read(body, &head.headers, forwarded, &worker.bounds, held).await {
        Ok(body) => {
            exchange.is_unread = false;
            Ok(body)
        }
        Err(ReadError::Refused(refusal)) => {
            if let Some(limit) = refusal.limit() {
                worker.shard.limited(limit);
            }
            Err(refusal)
        }
        Err(ReadError::Late | ReadError::Gone) => Err(Refusal::body_stalled()),
    }
}

/// An answer of Weir's own that is no refusal.
fn preflight(head: &Parts, endpoint: &Endpoint) -> Response<ResponseBody> {
    let headers = Cors::preflight(&head.headers, endpoint.allow());
    whole(StatusCode::NO_CONTENT, headers, Bytes::new())
}

fn own_json(body: Bytes) -> Response<ResponseBody> {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ORIGIN, HeaderValue::from_static("gateway"));
    whole(StatusCode::OK, headers, body)
}

fn whole(status: StatusCode, headers: HeaderMap, body: Bytes) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::whole(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if status != StatusCode::NO_CONTENT {
        let length = HeaderValue::from(response.body().size_hint().exact().unwrap_or(0));
        response.headers_mut().insert(CONTENT_LENGTH, length);
    }
    response
}

#[cfg(test)]
mod parser_differentials;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bug_is_an_answer_and_a_cut_ends_waiting() {
        let id = EventId([7; 16]);
        let panics = contained(id, || false, Box::pin(async { panic!("a bug") }));
        let refusal: Result<(), _> = panics.await;
        assert_eq!(refusal, Err(Refusal::internal()));
        let cut = contained(id, || true, Box::pin(std::future::pending()));
        let refusal: Result<(), _> = cut.await;
        assert_eq!(refusal, Err(Refusal::shutting_down(true)));
        assert_eq!(contained(id, || false, Box::pin(async { Ok(7) })).await, Ok(7));
    }
}
