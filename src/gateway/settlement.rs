//! What is owed for a request between its `Opened` and its `Closed`: made when the first is taken down,
//! consumed by the second. It happens once, whatever happens: a settlement that is dropped settles
//! itself.

mod used;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::StatusCode;
use tokio::time::Instant;

use crate::admit::Permit;
use crate::clock::Now;
use crate::config::Unstated;
use crate::gateway::Worker;
use crate::gateway::attempt_log::AttemptLog;
use crate::gateway::client::Client;
use crate::gateway::disconnect::LeftUntil;
use crate::gateway::request_body::InFlightBytes;
use crate::journal::{AppendError, Receipt};
use crate::meter::Progress;
use crate::price::{Billed, Price, PriceVersion};
use crate::record::{Closed, EventId, Opened};
use crate::route::{Attempt, Learned, Route, Served};
use crate::telemetry::metrics::{Level, LevelGuard as InFlight};
use crate::usage::{End, Flags, UsageSource};

use used::BYTES_PER_TOKEN;
pub(crate) use used::{RequestedMedia, Used};

/// By so much at once the reservation of a stream grows that has used it up and may be cut.
const EXTENSION_TOKENS: u64 = 256;

/// An open request; boxed, because it changes hands several times.
#[derive(Debug)]
pub(crate) struct Settlement {
    worker: Rc<Worker>,
    client: Rc<Client>,
    /// Gone once settled.
    permit: Option<Permit>,
    /// Where it is, and where it has been.
    pub(crate) log: AttemptLog,
    /// Of its `Opened`; gone once that is known to be written.
    opening: Option<Receipt>,
    pub(crate) event_id: EventId,
    arrived: Now,
    model_index: usize,
    started_at_ms: i64,
    /// What held when it began: what it is charged by, however long it takes.
    pub(crate) price: Option<Price>,
    estimated_input: u64,
    /// What it is booked at if its usage is never stated.
    pub(crate) unstated: Unstated,
    /// It goes on without its client, and without Weir.
    pub(crate) is_background: bool,
    /// Somebody may have worked on it before it went elsewhere, and cost.
    pub(crate) is_owed_before: bool,
    pub(crate) media: RequestedMedia,
    /// There for a request that goes on without its client.
    left: Option<LeftUntil>,
    /// The stream ends where it has used up its reservation, and the quotas have no room.
    pub(crate) cuts: bool,
    /// Nothing is used, whatever the answer says.
    pub(crate) is_free: bool,
    /// Who wants to know how long the answers are, and how many there are.
    learned: Option<(Arc<Learned>, u64)>,
    /// How often the request was sent.
    pub(crate) attempts: u32,
    pub(crate) status: u16,
    pub(crate) upstream_status: Option<u16>,
    pub(crate) flags: Flags,
    pub(crate) upstream_request_id: Option<Box<str>>,
    pub(crate) tenant: Arc<str>,
    /// The ids in the answer are remembered as the tenant's.
    pub(crate) owns_ids: bool,
    ttfb_ms: Option<u64>,
    in_flight: Option<InFlight>,
    /// The request's bytes are counted until the upstream has answered.
    held: Option<InFlightBytes>,
}

/// Word of an end that was taken down: ready once it may be seen. While somebody waits for that, the
/// request is in flight.
#[derive(Debug)]
#[must_use = "the end of the response may leave only once this is ready"]
pub(crate) struct Booking {
    receipt: Receipt,
    counting: Option<Counting>,
    _in_flight: Option<InFlight>,
}

/// An end that the metrics are told once it is known whether it may be seen: they count what rows say. Dropped
/// before, it is counted as it was taken down.
#[derive(Debug)]
struct Counting {
    worker: Rc<Worker>,
    end: End,
    duration_ns: u64,
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.worker.shard.ended(self.end, self.duration_ns);
    }
}

impl Booking {
    /// Of an end that was booked before.
    pub(crate) fn done() -> Self {
        Self { receipt: Receipt::done(), counting: None, _in_flight: None }
    }
}

impl Future for Booking {
    type Output = Result<(), AppendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let recorded = std::task::ready!(Pin::new(&mut self.receipt).poll(cx));
        if let Some(mut counting) = self.counting.take()
            && let Err(error) = &recorded
        {
            counting.end = error.end_of_row(counting.end);
        }
        Poll::Ready(recorded)
    }
}

impl Settlement {
    #[expect(clippy::too_many_arguments, reason = "all that is owed for, and to whom")]
    pub(crate) fn new(
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        permit: Permit,
        attempt: Attempt,
        opened: &Opened,
        arrived: Now,
        route: &Route,
        held: InFlightBytes,
    ) -> Box<Self> {
        let in_flight = worker.shard.hold(Level::Request);
        let opening = worker.open(opened);
        Box::new(Self {
            worker: worker.clone(),
            client: client.clone(),
            in_flight: Some(in_flight),
            permit: Some(permit),
            log: AttemptLog::new(attempt, worker.clock.mono_ns()),
            opening: Some(opening),
            event_id: opened.event_id,
            arrived,
            model_index: route.index,
            started_at_ms: opened.started_at_ms,
            price: route.prices.at(opened.started_at_ms).copied(),
            estimated_input: opened.estimated_input_tokens,
            unstated: Unstated::Reserved,
            is_background: false,
            is_owed_before: false,
            media: RequestedMedia::default(),
            left: None,
            cuts: false,
            is_free: false,
            learned: None,
            attempts: 0,
            status: 0,
            upstream_status: None,
            flags: Flags::default(),
            upstream_request_id: None,
            tenant: opened.tenant.clone(),
            owns_ids: false,
            ttfb_ms: None,
            held: Some(held),
        })
    }

    /// Ready once `Opened` is in the journal: only then the request may be sent.
    pub(crate) async fn opened(&mut self) -> Result<(), AppendError> {
        if let Some(opening) = &mut self.opening {
            opening.await?;
            self.opening = None;
        }
        Ok(())
    }

    /// Undoes a request that was never sent and will have no row. False if it has one by now.
    fn revoke(&mut self) -> bool {
        let Some(mut opening) = self.opening.take() else { return false };
        let is_written = match opening.result() {
            Some(result) => result.is_ok(),
            None => !self.worker.withdraw(opening),
        };
        if is_written {
            return false;
        }
        self.in_flight = None;
        if let Some(permit) = self.permit.take() {
            permit.revoke(self.worker.clock.now());
        }
        true
    }

    /// How long the answer is will be told, if it ends as it should; `n`: how many answers it is.
    pub(crate) fn learn(&mut self, learned: Option<Arc<Learned>>, n: u64) {
        self.learned = learned.map(|learned| (learned, n));
    }

    /// What is set aside for it, in tokens.
    pub(crate) fn reserved_tokens(&self) -> u64 {
        self.permit.as_ref().map_or(0, Permit::reserved_tokens)
    }

    /// Whether a stream that may be cut can go on. Its reservation grows with what it uses, as long as
    /// the quotas have room.
    pub(crate) fn may_go_on(&mut self, progress: &Progress) -> bool {
        let estimate = || {
            let images =
                u64::from(progress.output_images).saturating_mul(self.media.picture_tokens);
            let text = progress.output_text_bytes.div_ceil(BYTES_PER_TOKEN);
            self.estimated_input.saturating_add(text).saturating_add(images)
        };
        let used = progress.total_tokens.unwrap_or_else(estimate);
        let Some(permit) = &mut self.permit else { return true };
        let missing = used.saturating_sub(permit.reserved_tokens());
        if missing == 0 {
            return true;
        }
        let now = self.worker.clock.now();
        let rates = self.price.map(|price| price.rates).unwrap_or_default();
        let mut extend = |tokens| permit.extend(tokens, rates.reserve_more(tokens), now);
        extend(missing.saturating_add(EXTENSION_TOKENS)) || extend(missing)
    }

    /// The head of the upstream's response is here; `id`: by which it knows the request.
    pub(crate) fn answered(&mut self, status: StatusCode, id: Option<&str>) {
        self.upstream_status = Some(status.as_u16());
        self.upstream_request_id = id.map(Into::into);
    }

    /// The first byte of the response is about to be released.
    pub(crate) fn first_byte(&mut self) {
        self.held = None;
        if self.ttfb_ms.is_none() && self.left_until().is_none() {
            let ns = self.elapsed_ns();
            self.worker.shard.first_byte(ns);
            self.ttfb_ms = Some(ns / 1_000_000);
        }
    }

    /// From now on the request goes on without its client, if that leaves; where it will say so.
    pub(crate) fn survive_client(&mut self) -> LeftUntil {
        self.left.get_or_insert_default().clone()
    }

    /// Until when it goes on, if its client has left.
    pub(crate) fn left_until(&self) -> Option<Instant> {
        self.left.as_ref().and_then(|left| left.get())
    }

    /// Books the request: permit, record and metrics. The end of the response must wait for the receipt.
    pub(crate) fn settle(mut self: Box<Self>, end: End, used: Used) -> Booking {
        self.settle_once(end, used)
    }

    fn settle_once(&mut self, end: End, used: Used) -> Booking {
        let used = self.with_owed(used);
        let Some(permit) = self.permit.take() else { return Booking::done() };
        let now = self.worker.clock.now();
        let end = self.seen_end(end);
        if self.client.is_stalled.get() && end == End::ClientClosed {
            self.flags.set(Flags::STALLED);
        }
        self.flags.set(used.flags);
        let source = used.source.unwrap_or(UsageSource::Estimated);
        // Azure's first event has an empty name, which says nothing.
        let is_said = |name: &&str| source != UsageSource::None && !name.is_empty();
        let served = used.model_served.as_deref().filter(is_said);
        let price_version = served.and_then(|name| self.charge_as(name));
        let billed = Billed { usage: &used.usage, source, images: used.images };
        let cost_nano_usd = self.price.map(|price| price.rates.cost(&billed));
        let duration_ns = now.mono_ns.saturating_sub(self.arrived.mono_ns);
        permit.settle(used.usage.total, cost_nano_usd.unwrap_or(0), now);
        if let Some((learned, n)) = self.learned.take()
            && (end, source) == (End::Complete, UsageSource::Reported)
        {
            learned.count(used.usage.output.div_ceil(n.max(1)));
        }
        let shard = &self.worker.shard;
        shard.tokens(self.model_index, &used.usage);
        tracing::debug!(
            event_id = %self.event_id,
            end = end.name(),
            status = self.status,
            usage_source = source.name(),
            total_tokens = used.usage.total,
            duration_ms = duration_ns / 1_000_000,
            "request settled"
        );
        // Only those that were asked for are there.
        let is_one_of_several = self.worker.routes.at(self.model_index).candidates.len() > 1;
        let place = is_one_of_several.then(|| &*self.log.candidate().backend.place);
        let remember = |id: &str| self.worker.owners.remember(&self.tenant, id, place);
        let owners = used.response_ids.iter().flat_map(|id| remember(id)).collect();
        if end == End::UpstreamTruncated && !self.is_background {
            self.log.broke_off(&self.worker);
        }
        let closed = Closed {
            event_id: self.event_id,
            end,
            usage_source: source,
            usage: used.usage,
            price_version,
            cost_nano_usd,
            output_images: used.images,
            raw_usage: used.raw,
            model_served: used.model_served,
            status: self.status,
            upstream_status: self.upstream_status,
            ttfb_ms: self.ttfb_ms,
            duration_ms: duration_ns / 1_000_000,
            attempts: self.attempts,
            flags: self.flags,
            upstream_request_id: self.upstream_request_id.take(),
            upstream: self.log.other_upstream(&self.worker),
            upstream_key: self.log.candidate().backend.key_name.clone(),
            failed_attempts: self.log.failed_json(),
            owners,
        };
        let _in_flight = self.in_flight.take();
        let receipt = self.worker.close(&closed);
        let counting = Some(Counting { worker: self.worker.clone(), end, duration_ns });
        Booking { receipt, counting, _in_flight }
    }

    /// Charges by the model that the answer names. Another one of the configuration has a price of its own, which
    /// is returned; one that nobody knows is charged as the one that was asked for, and the row says so.
    fn charge_as(&mut self, name: &str) -> Option<PriceVersion> {
        let asked = self.worker.routes.at(self.model_index);
        let other = match self.worker.routes.served(asked, self.log.candidate(), name) {
            Served::Asked => return None,
            Served::Other(other) => other.prices.at(self.started_at_ms).copied(),
            Served::Unknown => None,
        };
        self.worker.shard.model_differs(other.is_some());
        if asked.warned.is_due(self.worker.clock.mono_ns()) {
            let (model, served, is_charged) = (&*asked.model, name, other.is_some());
            tracing::warn!(model, served, is_charged, "an answer is from another model");
        }
        match other {
            None => self.flags.set(Flags::MODEL_DIFFERS),
            Some(_) => self.price = other,
        }
        Some(other?.version)
    }

    /// How it ended for its client: one that has left saw nothing of what came of it.
    fn seen_end(&mut self, end: End) -> End {
        if self.left_until().is_none() {
            return end;
        }
        self.flags.set(Flags::DRAINED);
        if self.ttfb_ms.is_none() {
            self.status = 0;
        }
        End::ClientClosed
    }

    /// How a request ends whose client is not there any more: by its own will, or because Weir stops.
    pub(crate) fn abandoned(&self) -> End {
        if self.worker.is_cut() { End::Shutdown } else { End::ClientClosed }
    }

    fn elapsed_ns(&self) -> u64 {
        self.worker.clock.mono_ns().saturating_sub(self.arrived.mono_ns)
    }
}

impl Drop for Settlement {
    fn drop(&mut self) {
        if self.permit.is_none() || self.revoke() {
            return;
        }
        let end = self.abandoned();
        if self.ttfb_ms.is_none() {
            // The client saw nothing of an answer, or Weir's own that it is stopping.
            self.status = if end == End::Shutdown { 503 } else { 0 };
        }
        let (end, used) = match self.attempts {
            0 => (End::NotSent, Used::nothing()),
            _ => (end, self.unanswered()),
        };
        // The journal keeps what it cannot write now, and the client is gone.
        drop(self.settle_once(end, used));
    }
}

#[cfg(test)]
mod tests;
