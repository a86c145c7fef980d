//! A request's life, one direction: identify, inspect, route, admit, forward, meter, settle. [`serve`]
//! reads like this list; each stage is a module that knows none of the others, and what goes wrong in
//! any of them becomes an answer in `refusal`. Nothing in here fails towards hyper: before the first byte
//! every request gets an answer, after it the only honest thing left is to cut the connection.

pub(crate) mod client;
mod cors;
mod endpoints;
mod event_ids;
mod metered;
mod models;
mod outgoing;
mod request_body;
mod settlement;
pub(crate) mod snapshot;
mod source;
mod standing;
mod worker;

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;

use crate::admit::{Ask, Permit, Standing};
use crate::clock::Now;
use crate::forward::{self, Inbound, Outbound, SendError, Upstream};
use crate::gateway::client::Client;
use crate::gateway::cors::Cors;
use crate::gateway::endpoints::{Action, Endpoint};
use crate::gateway::metered::{Drain, Metered};
use crate::gateway::request_body::{ReadError, RequestBody};
use crate::gateway::settlement::{Settlement, Used};
use crate::gateway::snapshot::{Identity, Snapshot};
use crate::gateway::source::{Event, Pace, Source};
use crate::inspect::{self, Facts};
use crate::ledger::record::{EventId, Opened};
use crate::meter::{Kind, Meter, Setup};
use crate::refusal::{ORIGIN, Refusal};
use crate::route::Route;
use crate::usage::{End, Flags};

pub(crate) use crate::gateway::outgoing::Outgoing;
pub(crate) use crate::gateway::request_body::Bounds;
pub(crate) use crate::gateway::worker::{Shared, Worker};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What is read and forgotten of a body that was refused unread, so that its sender hears the answer.
const DISCARD_BYTES: u64 = 1024 * 1024;

/// What is known of a request from the moment it arrives, and what its answer has to carry.
struct Exchange {
    event_id: EventId,
    arrived: Now,
    /// Set once the key is known: limits go on every answer to it.
    standing: Option<Standing>,
}

/// Answers one request. The future is dropped when the client goes away.
pub(crate) async fn handle(
    worker: Rc<Worker>,
    client: Rc<Client>,
    request: Request<Incoming>,
) -> Response<Outgoing> {
    let arrived = worker.clock.now();
    let event_id = worker.event_ids.next(arrived.unix_ms);
    let mut exchange = Exchange { event_id, arrived, standing: None };
    let origin = worker.cors.allowed(request.headers());
    let endpoint = endpoints::find(request.method(), request.uri().path()).map(|(row, _)| row.path);
    let answer = serve(&worker, &client, request, &mut exchange);
    let mut response = match until_cut(&worker, answer).await {
        Ok(response) => response,
        Err(refusal) => {
            worker.shard.refused(refusal.code);
            tracing::debug!(event_id = %event_id.to_text(), code = refusal.code, "request refused");
            whole(refusal.status, refusal.headers(), refusal.body())
        }
    };
    worker.shard.request(endpoint.unwrap_or("other"), response.status().as_u16());
    let headers = response.headers_mut();
    if let Some(standing) = &exchange.standing {
        standing::write(standing, headers);
    }
    worker.cors.decorate(origin, headers);
    let id = HeaderValue::from_str(&event_id.to_text()).expect("a UUID is ASCII");
    headers.insert(REQUEST_ID, id);
    response
}

/// The stages, in order.
async fn serve(
    worker: &Rc<Worker>,
    client: &Rc<Client>,
    request: Request<Incoming>,
    exchange: &mut Exchange,
) -> Result<Response<Outgoing>, Refusal> {
    let (head, mut body) = request.into_parts();
    if client.is_surplus {
        return Err(Refusal::overloaded("Too many connections are open; try again soon."));
    }
    let (endpoint, action) = endpoints::find(&head.method, head.uri.path())?;
    if action == Action::Preflight {
        let headers = Cors::preflight(&head.headers, endpoint.allow());
        return Ok(whole(StatusCode::NO_CONTENT, headers, Bytes::new()));
    }
    let snapshot = worker.snapshot();
    let identity = match identify(worker, client, &snapshot, &head.headers, exchange.arrived) {
        Ok(identity) => identity,
        Err(refusal) => return refuse_unread(worker, &head, &mut body, refusal).await,
    };
    exchange.standing = Some(identity.live.standing(identity.slot, exchange.arrived));
    let allowed = identity.models.as_deref();
    match action {
        Action::ListModels => return Ok(own_json(models::list(&snapshot.routes, allowed))),
        Action::ShowModel(id) => {
            return Ok(own_json(models::show(&snapshot.routes, allowed, id)?));
        }
        Action::Forward | Action::Preflight => {}
    }
    let RequestBody { frames, facts, held } =
        match request_body::read(&mut body, &head.headers, &worker.bounds).await {
            Ok(body) => body,
            Err(ReadError::Refused(refusal)) => {
                return refuse_unread(worker, &head, &mut body, refusal).await;
            }
            Err(ReadError::Gone) => return Err(Refusal::body_stalled()),
        };
    let route = snapshot.routes.find(&facts.model, allowed)?;
    let ask = ask_for(&facts, route);
    let permit = identity.live.admit(identity.slot, ask, worker.clock.now()).map_err(|denied| {
        worker.shard.denied(denied.limit_name());
        exchange.standing = denied.standing().cloned();
        Refusal::from(denied)
    })?;
    exchange.standing = Some(permit.standing().clone());
    let opened = opened(exchange, identity, route, worker, endpoint, &facts, ask);
    let permit = record_open(worker, permit, &opened)?;
    let settlement = Settlement::new(
        worker.clone(),
        client.clone(),
        permit,
        &opened,
        exchange.arrived,
        route.index,
        held,
    );
    let upstream = &worker.upstreams[route.upstream];
    let asked = Asked { head, frames, facts };
    let (inbound, settlement, hides_usage) = send(upstream, route, asked, settlement).await?;
    answer(worker, client, upstream, route, inbound, settlement, hides_usage).await
}

/// Runs a request's stages, unless the process may not wait for it any longer.
async fn until_cut(
    worker: &Worker,
    answer: impl Future<Output = Result<Response<Outgoing>, Refusal>>,
) -> Result<Response<Outgoing>, Refusal> {
    let mut answer = std::pin::pin!(answer);
    poll_fn(|cx| {
        if worker.is_cut() {
            return std::task::Poll::Ready(Err(Refusal::shutting_down(true)));
        }
        answer.as_mut().poll(cx)
    })
    .await
}

fn identify<'s>(
    worker: &Worker,
    client: &Client,
    snapshot: &'s Snapshot,
    headers: &HeaderMap,
    now: Now,
) -> Result<&'s Identity, Refusal> {
    snapshot.keys.identify(headers, now.unix_ms).map(AsRef::as_ref).map_err(|unidentified| {
        match worker.failed_keys.count(client.address) {
            Ok(()) => unidentified.into(),
            Err(wait) => Refusal::failed_keys(wait),
        }
    })
}

/// Refuses a request whose body has not been read. A client that waits for `100 Continue` sends none.
async fn refuse_unread(
    worker: &Worker,
    head: &Parts,
    body: &mut Incoming,
    refusal: Refusal,
) -> Result<Response<Outgoing>, Refusal> {
    if !head.headers.contains_key(EXPECT) && !body.is_end_stream() {
        request_body::discard(body, DISCARD_BYTES, worker.bounds.idle).await;
    }
    Err(refusal)
}

/// What is reserved: the estimate of the prompt, and as much output as the request allows.
fn ask_for(facts: &Facts, route: &Route) -> Ask {
    let prompt_tokens = facts.estimated_input_tokens();
    let output = facts.max_output_tokens.unwrap_or(route.default_output_tokens);
    let output = output.saturating_mul(facts.n);
    Ask { prompt_tokens, reserve_tokens: prompt_tokens.saturating_add(output) }
}

fn opened(
    exchange: &Exchange,
    identity: &Identity,
    route: &Route,
    worker: &Worker,
    endpoint: &Endpoint,
    facts: &Facts,
    ask: Ask,
) -> Opened {
    Opened {
        event_id: exchange.event_id,
        started_at_ms: exchange.arrived.unix_ms,
        tenant: identity.tenant.clone(),
        key_id: identity.key_id.clone(),
        model: route.model.clone(),
        upstream: worker.upstreams[route.upstream].config.name.clone(),
        endpoint: worker.endpoint_name(endpoint.path),
        estimated_input_tokens: ask.prompt_tokens,
        reserved_tokens: ask.reserve_tokens,
        streamed: facts.stream,
    }
}

/// Writes `Opened`; a request that can't be recorded is not sent, and costs nothing.
fn record_open(worker: &Worker, permit: Permit, opened: &Opened) -> Result<Permit, Refusal> {
    match worker.open(opened) {
        Ok(()) => Ok(permit),
        Err(_) => {
            permit.revoke(worker.clock.now());
            Err(Refusal::ledger_unavailable())
        }
    }
}

/// A request as the client sent it.
struct Asked {
    head: Parts,
    frames: Vec<Bytes>,
    facts: Facts,
}

/// Sends the request, and once more without the usage option where the upstream may not know it.
/// Returns whether the usage in the answer is to be hidden from the client.
async fn send(
    upstream: &Upstream,
    route: &Route,
    asked: Asked,
    mut settlement: Settlement,
) -> Result<(Inbound, Settlement, bool), Refusal> {
    let Asked { mut head, frames, facts } = asked;
    upstream.rewrite(&mut head.headers);
    let path_and_query = head.uri.path_and_query().map_or_else(String::new, ToString::to_string);
    let model = route.upstream_model.as_deref();
    let wants_usage = facts.stream && facts.include_usage == Some(true);
    let asks_usage = facts.stream
        && !wants_usage
        && upstream.config.inject_usage
        && !upstream.usage_option.is_refused();
    let body = inspect::apply(&frames, &facts.splices(model, asks_usage));
    let mut outbound =
        Outbound { method: head.method, path_and_query, headers: head.headers, body };
    let inbound = match upstream.send(&outbound).await {
        Ok(inbound) => inbound,
        Err(error) => return Err(not_answered(settlement, error)),
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
    if !may_be_the_option || upstream.usage_option.is_accepted() {
        return Ok((inbound, settlement, true));
    }
    drop(inbound);
    outbound.body = inspect::apply(&frames, &facts.splices(model, false));
    settlement.attempts += 1;
    let inbound = match upstream.send(&outbound).await {
        Ok(inbound) => inbound,
        Err(error) => return Err(not_answered(settlement, error)),
    };
    if inbound.response.status().is_success() {
        upstream.usage_option.refused();
        settlement.flags.set(Flags::USAGE_OPTION_REFUSED);
    }
    Ok((inbound, settlement, false))
}

/// Books a request that got no answer.
fn not_answered(mut settlement: Settlement, error: SendError) -> Refusal {
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
        tracing::error!(upstream = %settlement.upstream_name(), "the upstream does not speak HTTP/1.1");
    }
    booked(settlement, end, used, refusal)
}

/// Books a request that Weir answers itself after it was sent.
fn booked(settlement: Settlement, end: End, used: Used, refusal: Refusal) -> Refusal {
    match settlement.settle(end, used) {
        Ok(()) => refusal,
        Err(_) => Refusal::ledger_failed_at_end(),
    }
}

/// Turns the upstream's answer into the client's.
async fn answer(
    worker: &Rc<Worker>,
    client: &Rc<Client>,
    upstream: &Upstream,
    route: &Route,
    inbound: Inbound,
    mut settlement: Settlement,
    hides_usage: bool,
) -> Result<Response<Outgoing>, Refusal> {
    let Inbound { response, lease } = inbound;
    let (mut head, body) = response.into_parts();
    settlement.upstream_status = Some(head.status.as_u16());
    settlement.upstream_request_id = text(&head.headers, &REQUEST_ID).map(Into::into);
    let content_type = text(&head.headers, &CONTENT_TYPE);
    let kind = Kind::of(content_type, text(&head.headers, &CONTENT_ENCODING));
    if let Some((end, refusal)) = not_passed_on(upstream, head.status, content_type, &body) {
        settlement.status = refusal.status.as_u16();
        return Err(booked(settlement, end, Used::nothing(), refusal));
    }
    settlement.status = head.status.as_u16();
    let is_stream = kind == Kind::Sse;
    let names = route.upstream_model.as_deref().map(|name| (name, &*route.model));
    let meter = Meter::new(Setup { kind, hide_usage: hides_usage, model: names });
    let is_edited = meter.edits();
    let announced = body.size_hint().exact();
    let left = announced.filter(|_| !is_edited);
    forward::headers::toward_client(&mut head.headers, is_stream, is_edited);
    head.headers.insert(ORIGIN, HeaderValue::from_static("upstream"));
    let mut source = Source::new(body, lease, meter, settlement, pace(upstream));
    let first = first_event(&mut source, is_stream).await;
    if let Some(Event::Failed(end, refusal)) = first {
        let settled = source.refuse(end, refusal.status);
        return Err(if settled { refusal } else { Refusal::ledger_failed_at_end() });
    }
    if let Some(settlement) = source.settlement() {
        settlement.first_byte();
    }
    let drain = drain(upstream);
    let mut metered =
        Metered::new(worker.clone(), client.clone(), source, is_stream, left, drain);
    if let Some(event) = first {
        metered.take(event);
    }
    Ok(Response::from_parts(head, Outgoing::Metered(Box::new(metered))))
}

/// What comes first of the body. An answer that is no stream is not begun before something of it is
/// here, so that a failure can still be told; a stream's head leaves at once.
async fn first_event(source: &mut Source, is_stream: bool) -> Option<Event> {
    poll_fn(|cx| match source.poll_event(cx) {
        std::task::Poll::Ready(event) => std::task::Poll::Ready(Some(event)),
        std::task::Poll::Pending if is_stream => std::task::Poll::Ready(None),
        std::task::Poll::Pending => std::task::Poll::Pending,
    })
    .await
}

/// Answers of an upstream that are not the client's business, or that no client could read.
fn not_passed_on(
    upstream: &Upstream,
    status: StatusCode,
    content_type: Option<&str>,
    body: &Incoming,
) -> Option<(End, Refusal)> {
    let is_readable = content_type.is_some_and(|kind| {
        let kind = kind.to_ascii_lowercase();
        kind.contains("json") || kind.starts_with("text/event-stream")
    }) && body.size_hint().exact() != Some(0);
    if status == StatusCode::UNAUTHORIZED {
        tracing::error!(
            upstream = %upstream.config.name,
            "the upstream does not accept our key; renew what `api_key` refers to"
        );
        return Some((End::UpstreamRejected, Refusal::upstream_auth()));
    }
    if status.is_server_error() && !is_readable {
        return Some((End::UpstreamError, Refusal::upstream_failed(status)));
    }
    if status.is_redirection() || status.is_informational() {
        tracing::error!(
            upstream = %upstream.config.name,
            status = status.as_u16(),
            "the upstream redirects, which is not followed; check `base_url`"
        );
        return Some((End::UpstreamError, Refusal::upstream_protocol()));
    }
    None
}

fn pace(upstream: &Upstream) -> Pace {
    let total = upstream.config.total_ms;
    let until = tokio::time::Instant::now() + Duration::from_millis(total);
    Pace {
        idle: Duration::from_millis(upstream.config.idle_ms),
        until: (total > 0).then_some(until),
    }
}

fn drain(upstream: &Upstream) -> Option<Drain> {
    let is_drained = upstream.config.on_disconnect == crate::config::OnDisconnect::Drain;
    is_drained.then(|| Drain {
        time: Duration::from_millis(upstream.config.drain_ms),
        max: upstream.config.drain_max,
        running: upstream.drains.clone(),
    })
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// An answer of Weir's own that is no refusal.
fn own_json(body: Bytes) -> Response<Outgoing> {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ORIGIN, HeaderValue::from_static("gateway"));
    whole(StatusCode::OK, headers, body)
}

fn whole(status: StatusCode, headers: HeaderMap, body: Bytes) -> Response<Outgoing> {
    let mut response = Response::new(Outgoing::whole(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if status != StatusCode::NO_CONTENT {
        let length = HeaderValue::from(response.body().size_hint().exact().unwrap_or(0));
        response.headers_mut().insert(CONTENT_LENGTH, length);
    }
    response
}
