//! The upstream's answer on its way to becoming the client's: what passes as it is, what no client should
//! see, and from when on it is metered.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::Body as _;
use tokio::time::Instant;

use crate::forward::{self, Inbound, PeekedBody, Upstream};
use crate::gateway::client::Client;
use crate::gateway::disconnect::ReadOn;
use crate::gateway::metered_body::MeteredBody;
use crate::gateway::send::{AnswerShape, booked, went_without};
use crate::gateway::settlement::{Settlement, Used};
use crate::gateway::upstream_body::{BodyTimeouts, Event, UpstreamBody};
use crate::gateway::{ANTHROPICS_REQUEST_ID, REQUEST_ID, ResponseBody, Worker};
use crate::meter::{Coding, Kind, Meter, Reading, Setup};
use crate::refusal::{Family, ORIGIN, Refusal};
use crate::route::Route;
use crate::usage::End;

/// Turns the upstream's answer into the client's.
#[expect(clippy::too_many_arguments, reason = "whose answer, from where, and how it is to be read")]
pub(crate) async fn answer(
    worker: &Rc<Worker>,
    client: &Rc<Client>,
    upstream: &Upstream,
    route: &Route,
    inbound: Inbound,
    mut settlement: Box<Settlement>,
    asked: AnswerShape,
    family: Family,
) -> Result<Response<ResponseBody>, Refusal> {
    if asked.went_without {
        went_without(worker, &mut settlement);
    }
    let Inbound { response, lease, begun } = inbound;
    let (mut head, body) = response.into_parts();
    settlement.answered(head.status, request_id(&head.headers));
    let content_type = text(&head.headers, &CONTENT_TYPE);
    let kind = Kind::of(content_type);
    let is_open = head.status.is_success() && kind.is_open(asked.is_stream);
    let is_unsure = is_open && (asked.is_stream || !asked.speaks);
    let coding = Coding::of(text(&head.headers, &CONTENT_ENCODING));
    if let Some((end, refusal)) = not_passed_on(upstream, head.status, content_type, &body) {
        settlement.status = refusal.status.as_u16();
        let used = match head.status.as_u16() {
            400.. => settlement.used(Reading::default(), end, true),
            _ => Used::nothing(),
        };
        return Err(booked(settlement, end, used, refusal).await);
    }
    if is_coded_in_transfer(&head.headers) {
        let (refusal, used) = (Refusal::upstream_protocol(), settlement.unanswered());
        settlement.status = refusal.status.as_u16();
        return Err(booked(settlement, End::UpstreamError, used, refusal).await);
    }
    settlement.status = head.status.as_u16();
    let is_renamed = settlement.log.candidate().upstream_model.is_some();
    let model = is_renamed.then_some(&*route.model);
    let (id, wants_ids) = (settlement.event_id, settlement.owns_ids);
    let AnswerShape { hide, answers, prompts, has_output, hears, .. } = asked;
    let setup = Setup { kind, coding, hide, answers, prompts, has_output, hears, model, wants_ids };
    let tenant = settlement.tenant.clone();
    let announced = body.size_hint().exact();
    let meter = Meter::new(setup);
    let mut source =
        UpstreamBody::new(body, lease, meter, settlement, pace(upstream, begun), begun);
    let first = match is_unsure {
        true => Some(telling_event(&mut source, setup, asked).await),
        false => first_event(&mut source, head.status).await,
    };
    let (is_stream, is_edited) = (source.meter.is_stream(), source.meter.edits());
    // A stream has no length: an error event may have to follow what came of it.
    let left = announced.filter(|_| !is_edited && !is_stream);
    let also = &upstream.config.response_headers;
    forward::headers::toward_client(&mut head.headers, is_stream, is_edited, also);
    head.headers.insert(ORIGIN, HeaderValue::from_static("upstream"));
    if let Some(Event::Failed(end, refusal)) = first {
        let settled = source.refuse(end, refusal.status).await;
        return Err(settled.map_or_else(|_| Refusal::ledger_failed_at_end(), |()| refusal));
    }
    if let Some(settlement) = source.settlement() {
        settlement.first_byte();
    }
    let drain = ReadOn::of(upstream, is_stream, tenant);
    let (worker, client) = (worker.clone(), client.clone());
    let mut metered =
        MeteredBody::new(worker, client, source, is_stream, (family, id), left, drain);
    if let Some(event) = first {
        metered.take(event);
        poll_fn(|cx| metered.poll_recorded(cx)).await;
        if metered.is_unrecorded() {
            // It came in one piece, of which nothing has left: this can still be told.
            return Err(Refusal::ledger_failed_at_end());
        }
    }
    Ok(Response::from_parts(head, ResponseBody::MeteredBody(Box::new(metered))))
}

/// What comes first of the body. An answer that is no stream is not begun before something of it is
/// here, so that a failure can still be told; a stream's head leaves at once.
async fn first_event(source: &mut UpstreamBody, status: StatusCode) -> Option<Event> {
    let is_stream = source.meter.is_stream();
    poll_fn(|cx| match source.poll_event(cx) {
        // Its type promises an error that a client can read, and there is none.
        Poll::Ready(Event::End) if status.is_server_error() => {
            Poll::Ready(Some(Event::Failed(End::UpstreamError, Refusal::upstream_failed(status))))
        }
        Poll::Ready(event) => Poll::Ready(Some(event)),
        Poll::Pending if is_stream => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// The first of a body whose type may say something else than it is: as many bytes in one piece as tell
/// what it is, which its meter then knows.
async fn telling_event(source: &mut UpstreamBody, setup: Setup<'_>, asked: AnswerShape) -> Event {
    let mut joined = BytesMut::new();
    let piece = loop {
        match poll_fn(|cx| source.poll_event(cx)).await {
            Event::Data(piece) if joined.is_empty() && tells(&piece, setup) => break piece,
            Event::Data(piece) => joined.extend_from_slice(&piece),
            // It will be said again once these few bytes have been looked at.
            Event::End if !joined.is_empty() => break joined.freeze(),
            event => return event,
        }
        if tells(&joined, setup) {
            break joined.freeze();
        }
    };
    let told = Kind::sniff(&piece, setup.coding, setup.hears);
    let kind = match setup.kind.or_told(told, &piece, setup.hears, asked.is_stream) {
        Kind::Unread if asked.speaks => Kind::Opaque,
        kind => kind,
    };
    if kind != setup.kind {
        source.meter = Meter::new(Setup { kind, ..setup });
    }
    Event::Data(piece)
}

fn tells(first: &[u8], setup: Setup<'_>) -> bool {
    Kind::sniff(first, setup.coding, setup.hears) != Err(true)
}

/// Answers of an upstream that are not the client's business, or that no client could read.
fn not_passed_on(
    upstream: &Upstream,
    status: StatusCode,
    content_type: Option<&str>,
    body: &PeekedBody,
) -> Option<(End, Refusal)> {
    if status == StatusCode::UNAUTHORIZED {
        if let Some(left_out) = upstream.log_throttles.unauthorized.allow() {
            tracing::error!(
                upstream = %upstream.config.name,
                left_out,
                "the upstream does not accept our key; renew what `api_key` refers to"
            );
        }
        return Some((End::UpstreamRejected, Refusal::upstream_auth()));
    }
    if status.is_server_error() && !is_readable(content_type, body) {
        return Some((End::UpstreamError, Refusal::upstream_failed(status)));
    }
    if status.is_redirection() || status.is_informational() {
        if let Some(left_out) = upstream.log_throttles.redirects.allow() {
            tracing::error!(
                upstream = %upstream.config.name,
                status = status.as_u16(),
                left_out,
                "the upstream redirects, which is not followed; check `base_url`"
            );
        }
        return Some((End::UpstreamError, Refusal::upstream_protocol()));
    }
    None
}

/// Whether the bytes are coded on their way otherwise than in chunks (RFC 9112 §7): nobody asked for that,
/// and no client would know of it.
fn is_coded_in_transfer(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    codings.any(|coding| !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"))
}

/// Whether a client can read an error in this body.
fn is_readable(content_type: Option<&str>, body: &PeekedBody) -> bool {
    content_type.is_some_and(|kind| {
        let kind = kind.to_ascii_lowercase();
        kind.contains("json") || kind.starts_with("text/event-stream")
    }) && body.size_hint().exact() != Some(0)
}

fn pace(upstream: &Upstream, begun: Instant) -> BodyTimeouts {
    let total = upstream.config.total_ms;
    let until = begun + Duration::from_millis(total);
    BodyTimeouts {
        idle: Duration::from_millis(upstream.config.idle_ms),
        until: (total > 0).then_some(until),
    }
}

/// By which the upstream knows the request.
fn request_id(headers: &HeaderMap) -> Option<&str> {
    text(headers, &REQUEST_ID).or_else(|| text(headers, &ANTHROPICS_REQUEST_ID))
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}
