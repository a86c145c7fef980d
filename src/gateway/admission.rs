//! The admit stage as the gateway uses it: what a request asks of the limits, what they say to it, and
//! what is written down and agreed before it goes upstream.

use crate::admit::{Ask, Clamp, Permit};
use crate::clock::Now;
use crate::gateway::endpoints::{Endpoint, Forwarded};
use crate::gateway::settlement::{Settlement, TOKENS_PER_OUTPUT_IMAGE};
use crate::gateway::snapshot::Identity;
use crate::gateway::{Exchange, KnownLimits, Worker};
use crate::inspect::{Api, Facts};
use crate::ledger::record::{EventId, Opened};
use crate::price::Price;
use crate::refusal::Refusal;
use crate::route::Route;
use crate::usage::Flags;

/// What is reserved: the estimate of the prompt, and as much output as the request allows, if its
/// endpoint has one that costs; and what both cost at most. An answer that may be clamped is held to
/// what is reserved, so what is usual is no measure for it.
pub(crate) fn ask_for(
    forwarded: &Forwarded,
    facts: &Facts,
    route: &Route,
    identity: &Identity,
    price: Option<Price>,
) -> Ask {
    if forwarded.is_free {
        return Ask::default();
    }
    let rates = price.map(|price| price.rates).unwrap_or_default();
    let may_clamp = identity.clamp && facts.can_be_clamped();
    let prompt_tokens = facts.estimated_input_tokens();
    let each = match facts.max_output_tokens {
        _ if !forwarded.has_output => 0,
        Some(most) => most,
        None if may_clamp => route.default_output_tokens,
        // Each of the answers is an image, which costs at least as much as is estimated for one.
        None if forwarded.api == Api::Images => {
            route.usual_output_tokens().max(TOKENS_PER_OUTPUT_IMAGE)
        }
        None => route.usual_output_tokens(),
    };
    let output_tokens = each.saturating_mul(facts.made);
    let clamp = may_clamp.then(|| Clamp {
        choices: facts.made,
        prompt_nano_usd: rates.reserve(prompt_tokens, 0, facts.n),
        output_pico_usd: rates.dearest_output(),
    });
    Ask {
        prompt_tokens,
        reserve_tokens: prompt_tokens.saturating_add(output_tokens),
        reserve_nano_usd: rates.reserve(prompt_tokens, output_tokens, facts.n),
        clamp,
    }
}

/// Asks the limits, and tells client and metrics what they said.
pub(crate) fn admit(
    worker: &Worker,
    identity: &Identity,
    ask: Ask,
    now: Now,
    exchange: &mut Exchange,
) -> Result<Permit, Refusal> {
    match identity.slot.admit(ask, now) {
        Ok(permit) => {
            worker.shard.admitted();
            exchange.limits = KnownLimits::Known(permit.standing());
            Ok(permit)
        }
        Err(denied) => {
            worker.shard.limited(denied.limit_name());
            exchange.limits = KnownLimits::Known(denied.standing());
            Err(denied.into())
        }
    }
}

/// What becomes of the answer by its key and its model: whether its stream may be cut, whether its
/// cost is missed, and whether its length is learned, which only an answer without any bound teaches.
pub(crate) fn agree(
    settlement: &mut Settlement,
    identity: &Identity,
    route: &Route,
    forwarded: &Forwarded,
    facts: &Facts,
    clamp: Option<u64>,
) {
    settlement.cuts = identity.cut;
    settlement.is_free = forwarded.is_free;
    if settlement.price.is_none() && identity.has_cost_quota() && !forwarded.is_free {
        settlement.flags.set(Flags::UNPRICED);
    }
    if forwarded.has_output && facts.max_output_tokens.is_none() && clamp.is_none() {
        settlement.learn(route.learned.as_ref(), facts.made);
    }
}

pub(crate) fn opened(
    worker: &Worker,
    event_id: EventId,
    identity: &Identity,
    route: &Route,
    endpoint: &Endpoint,
    facts: &Facts,
    permit: &Permit,
) -> Opened {
    let started_at_ms = permit.at_ms();
    Opened {
        event_id,
        started_at_ms,
        tenant: identity.tenant.clone(),
        key_id: identity.key_id.clone(),
        model: route.model.clone(),
        upstream: worker.upstreams[route.upstream].config.name.clone(),
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
