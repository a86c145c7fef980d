//! The admit stage as the gateway uses it: what a request asks of the limits, what they say to it, and
//! what is written down and agreed before it goes upstream.

use std::sync::Arc;

use crate::admit::{Clamp, Demand, Denied, PendingPermit, Permit};
use crate::clock::Now;
use crate::config::Unstated;
use crate::forward::Upstream;
use crate::gateway::endpoints::{Endpoint, Forwarded};
use crate::gateway::settlement::{RequestedMedia, Settlement};
use crate::gateway::{Exchange, Worker};
use crate::inspect::{Api, RequestFacts};
use crate::price::Price;
use crate::record::{EventId, Opened};
use crate::refusal::Refusal;
use crate::registry::Identity;
use crate::route::Route;
use crate::usage::Flags;

/// So much of a body is read to say truly how long to wait.
const SHORT_BODY: u64 = 64 * 1024;

/// What is reserved: the estimate of the prompt, and as much output as the request allows, if its
/// endpoint has one that costs; and what both cost at most. An answer that may be clamped is held to
/// what is reserved, so what is usual is no measure for it.
pub(crate) fn ask_for(
    forwarded: &Forwarded,
    facts: &RequestFacts,
    route: &Route,
    identity: &Identity,
    price: Option<Price>,
) -> Demand {
    if forwarded.is_free {
        return Demand::default();
    }
    let rates = price.map(|price| price.rates).unwrap_or_default();
    // The API of a model that makes pictures has no bound.
    let may_clamp = identity.clamp && facts.can_be_clamped() && !route.makes_images;
    let prompt_tokens = facts.estimated_input_tokens();
    let each = match facts.max_output_tokens {
        _ if !forwarded.has_output => 0,
        most if are_pictures(forwarded, route) => {
            facts.picture.most_tokens().max(most.unwrap_or_default())
        }
        Some(most) => most,
        None if may_clamp => route.default_output_tokens,
        None if forwarded.api == Api::Speech => speech_tokens(facts),
        None => route.usual_output_tokens(&identity.tenant),
    };
    // A bound in another server's words is no bound to all, but may be obeyed.
    let each = if forwarded.has_output { each.max(facts.least_output_tokens) } else { each };
    let output_tokens = each.saturating_mul(facts.made);
    // Another server's word for `n` may be obeyed by one that makes pictures.
    let images = if are_pictures(forwarded, route) { facts.made } else { facts.n };
    let clamp = may_clamp.then(|| Clamp {
        choices: facts.made,
        prompt_nano_usd: rates.reserve((prompt_tokens, 0), images, facts.audio_ms),
        output_pico_usd: rates.dearest_output(),
    });
    Demand {
        prompt_tokens,
        reserve_tokens: prompt_tokens.saturating_add(output_tokens),
        reserve_nano_usd: rates.reserve((prompt_tokens, output_tokens), images, facts.audio_ms),
        clamp,
    }
}

/// Whether each of the answers is a picture.
fn are_pictures(forwarded: &Forwarded, route: &Route) -> bool {
    let is_chat = matches!(forwarded.api, Api::Chat | Api::Responses);
    forwarded.api == Api::Images || (is_chat && route.makes_images)
}

/// Tokens of text that is read out: about 15 bytes are a second, whatever the language, and OpenAI's
/// models take 20 tokens for one.
fn speech_tokens(facts: &RequestFacts) -> u64 {
    facts.spoken_bytes.saturating_mul(3).div_ceil(2)
}

/// Asks the limits for a request of which only the head is here: where any would be refused now, nothing
/// of its body is read. From here on it counts as in flight. `announced`: its Content-Length.
pub(crate) fn arrive(
    worker: &Worker,
    identity: &Identity,
    announced: Option<u64>,
    exchange: &mut Exchange,
) -> Result<PendingPermit, Refusal> {
    let is_short = announced.is_some_and(|bytes| bytes <= SHORT_BODY);
    let arriving = identity.slot.arrive(is_short, exchange.arrived);
    arriving.map_err(|denied| refused(worker, denied, exchange))
}

/// Asks the limits, and tells client and metrics what they said.
pub(crate) fn admit(
    worker: &Worker,
    identity: &Identity,
    arriving: PendingPermit,
    ask: Demand,
    now: Now,
    exchange: &mut Exchange,
) -> Result<Permit, Refusal> {
    match arriving.admit(&identity.slot, ask, now) {
        Ok(permit) => {
            worker.shard.admitted();
            exchange.rate_limits = Some(permit.rate_limits());
            Ok(permit)
        }
        Err(denied) => Err(refused(worker, denied, exchange)),
    }
}

fn refused(worker: &Worker, denied: Denied, exchange: &mut Exchange) -> Refusal {
    worker.shard.limited(denied.limit_name());
    exchange.rate_limits = Some(denied.rate_limits());
    denied.into()
}

/// What becomes of the answer by its key, its model and its upstream: whether its stream may be cut,
/// whether its cost is missed, what it is taken for where nothing is stated, whose it is where the upstream
/// keeps it, and whether its length is learned, which only an answer without any bound teaches.
pub(crate) fn set_policy(
    settlement: &mut Settlement,
    identity: &Identity,
    upstream: &Upstream,
    route: &Route,
    forwarded: &Forwarded,
    facts: &RequestFacts,
    clamp: Option<u64>,
) {
    settlement.cuts = identity.cut;
    // Also of one that the upstream does not keep: its items are sent back whole, with their ids.
    settlement.owns_ids = forwarded.api == Api::Responses;
    settlement.is_free = forwarded.is_free;
    if settlement.price.is_none() && identity.has_cost_quota() && !forwarded.is_free {
        settlement.flags.set(Flags::UNPRICED);
    }
    let are_pictures = are_pictures(forwarded, route);
    let is_speech = forwarded.api == Api::Speech;
    settlement.unstated = upstream.config.unstated;
    settlement.is_background = facts.background;
    if facts.background {
        settlement.unstated = Unstated::Reserved;
    }
    settlement.media = RequestedMedia {
        audio_tokens: facts.audio_tokens,
        audio_ms: facts.audio_ms,
        speech_tokens: if is_speech { speech_tokens(facts) } else { 0 },
        pictures: if are_pictures { facts.made } else { 0 },
        picture_tokens: facts.picture.tokens(),
    };
    let is_free = facts.max_output_tokens.is_none() && clamp.is_none();
    if forwarded.has_output && is_free && !are_pictures && !is_speech {
        let learned = route.learned.as_ref().and_then(|learned| learned.of(&identity.tenant));
        settlement.learn(learned, facts.made);
    }
}

#[expect(clippy::too_many_arguments, reason = "all that a record begins with")]
pub(crate) fn opened(
    worker: &Worker,
    event_id: EventId,
    identity: &Identity,
    route: &Route,
    upstream: Arc<str>,
    endpoint: &Endpoint,
    facts: &RequestFacts,
    permit: &Permit,
) -> Opened {
    let started_at_ms = permit.at_ms();
    Opened {
        event_id,
        started_at_ms,
        tenant: identity.tenant.clone(),
        key_id: identity.key_id.clone(),
        model: route.model.clone(),
        upstream,
        endpoint: worker.endpoint_name(endpoint.path),
        estimated_input_tokens: match endpoint.is_free() {
            true => 0,
            false => facts.estimated_input_tokens(),
        },
        reserved_tokens: permit.reserved_tokens(),
        streamed: facts.stream,
        price_version: route.prices.at(started_at_ms).map(|price| price.version),
    }
}

/// Waits until `Opened` is written. A request that can't be recorded is not sent, and dropping its
/// settlement makes that it costs nothing.
pub(crate) async fn record_open(
    mut settlement: Box<Settlement>,
) -> Result<Box<Settlement>, Refusal> {
    match settlement.opened().await {
        Ok(()) => Ok(settlement),
        Err(_) => Err(Refusal::ledger_unavailable()),
    }
}
