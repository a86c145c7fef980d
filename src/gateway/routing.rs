//! The route stage as the gateway uses it: a candidate that can take the request and that may get it, and what the
//! answer or its absence says of that candidate. A request goes to another one only before anything of an answer
//! has left for its client, and only within the bounds of `[retry]`.

mod outcome;

use std::time::Duration;

use http::Uri;
use http::uri::PathAndQuery;

use crate::forward::{Inbound, SendError};
use crate::gateway::send::{AnswerShape, ClientRequest, log_failure};
use crate::gateway::settlement::Settlement;
use crate::gateway::{Worker, upstream_policy};
use crate::inspect::RequestFacts;
use crate::refusal::Refusal;
use crate::registry::Identity;
use crate::route::{AllRest, Attempt, Candidate, Route, Tried};

/// A candidate that takes the request, and what it gets of its target.
pub(crate) struct Chosen {
    pub(crate) attempt: Attempt,
    pub(crate) target: PathAndQuery,
}

/// Where a request has been.
#[derive(Debug)]
pub(crate) struct Tries {
    tried: Tried,
    count: u32,
    begun_ns: u64,
}

impl Tries {
    /// The first candidate: of those that can be used now the one that is chosen, unless its operator does not let
    /// it have this request.
    pub(crate) fn begin(
        worker: &Worker,
        route: &Route,
        uri: &Uri,
        facts: &RequestFacts,
        identity: &Identity,
    ) -> Result<(Chosen, Self), Refusal> {
        worker.retry_budget.earn();
        let begun_ns = worker.clock.mono_ns();
        let mut tries = Self { tried: Tried::default(), count: 1, begun_ns };
        if route.candidates.len() > 1 && facts.named.ids().next().is_some() {
            let is_kept = |place: &str| worker.owners.is_at(&identity.tenant, &facts.named, place);
            let is_theirs = worker.owners.is_any(&identity.tenant, &facts.named);
            route.bind(&mut tries.tried, is_kept, is_theirs);
        }
        let chosen = tries.choose(worker, route, uri, facts, identity, 0)?;
        Ok((chosen, tries))
    }

    fn choose(
        &mut self,
        worker: &Worker,
        route: &Route,
        uri: &Uri,
        facts: &RequestFacts,
        identity: &Identity,
        tokens: u64,
    ) -> Result<Chosen, Refusal> {
        let now_ns = worker.clock.mono_ns();
        let mut not_allowed = None;
        loop {
            let attempt = match route.choose(&mut self.tried, tokens, &worker.lots, now_ns) {
                Ok(attempt) => attempt,
                Err(rest) if rest.until_ns.is_some() => return Err(resting(rest, now_ns)),
                Err(rest) => return Err(not_allowed.unwrap_or_else(|| resting(rest, now_ns))),
            };
            match allowed(worker, attempt.candidate(), uri, facts, identity) {
                Ok(target) => return Ok(Chosen { attempt, target }),
                Err(refusal) => not_allowed = not_allowed.or(Some(refusal)),
            }
        }
    }

    /// Whether there is another candidate, and another attempt.
    pub(crate) fn may_go_on(&self, worker: &Worker, route: &Route) -> bool {
        route.candidates.len() > 1 && self.count < worker.retry.attempts
    }

    /// Where the request goes next, if what came of it is to be tried elsewhere.
    pub(crate) fn next(
        &mut self,
        worker: &Worker,
        route: &Route,
        sent: &Result<(Inbound, AnswerShape), SendError>,
        request: &ClientRequest,
        settlement: &Settlement,
    ) -> Option<Chosen> {
        let retry = &worker.retry;
        // Nobody would hear the answer of another one.
        let has_left = settlement.left_until().is_some();
        if has_left || !self.may_go_on(worker, route) || worker.is_cut() {
            return None;
        }
        let is_elsewhere = match sent {
            Ok((inbound, _)) => outcome::is_elsewhere(inbound.response.status(), retry),
            Err(error) => !error.is_sent() || (retry.on_reset && *error != SendError::Protocol),
        };
        let elapsed_ns = worker.clock.mono_ns().saturating_sub(self.begun_ns);
        let is_late = Duration::from_nanos(elapsed_ns) >= Duration::from_millis(retry.within_ms);
        if !is_elsewhere || is_late {
            return None;
        }
        let ClientRequest { uri, facts, identity, .. } = request;
        let tokens = settlement.reserved_tokens();
        let chosen = self.choose(worker, route, uri, facts, identity, tokens).ok()?;
        if !worker.retry_budget.spend() {
            worker.shard.retry_refused();
            return None;
        }
        self.count += 1;
        Some(chosen)
    }
}

/// Whether the upstream's operator lets this request pass, and with which target.
fn allowed(
    worker: &Worker,
    candidate: &Candidate,
    uri: &Uri,
    facts: &RequestFacts,
    identity: &Identity,
) -> Result<PathAndQuery, Refusal> {
    let index = candidate.backend.upstream;
    let upstream = &worker.upstreams[index].config;
    worker.owners.check(&facts.named, identity, upstream)?;
    let refusable = &worker.bounds.refusable;
    Ok(upstream_policy::target(uri, facts, upstream, index, refusable)?)
}

fn resting(rest: AllRest, now_ns: u64) -> Refusal {
    let wait = rest.until_ns.map(|until| Duration::from_nanos(until.saturating_sub(now_ns)));
    Refusal::upstreams_rest(wait, rest.are_limited)
}

/// Tells the candidate's breaker what came of the request. Where its answer has to be read for that, what was read
/// stays part of it.
pub(crate) async fn report(
    worker: &Worker,
    settlement: &mut Settlement,
    sent: &mut Result<(Inbound, AnswerShape), SendError>,
) {
    let may_rest = settlement.log.candidate().may_rest();
    let outcome = match sent {
        Err(error) => outcome::of_error(*error),
        // Rare, so it does not make every request's future as large.
        Ok((inbound, _)) if may_rest && outcome::needs_body(inbound.response.status()) => {
            Box::pin(outcome::of_body(inbound)).await
        }
        Ok((inbound, _)) => outcome::of_status(inbound.response.status()),
    };
    if let Err(error) = sent {
        let upstream = settlement.log.candidate().backend.upstream;
        log_failure(&worker.upstreams[upstream], *error);
    }
    settlement.log.report(worker, outcome);
}

/// Goes on with the next candidate, by whose upstream's rules the request is booked from here on. Returns its target.
pub(crate) fn go_on(
    worker: &Worker,
    settlement: &mut Settlement,
    next: Chosen,
    sent: Result<(Inbound, AnswerShape), SendError>,
) -> PathAndQuery {
    let Chosen { attempt, target } = next;
    let (status, error) = match &sent {
        Ok((inbound, _)) => (Some(inbound.response.status().as_u16()), None),
        Err(error) => (None, Some(error.name())),
    };
    let (event_id, before) = (settlement.event_id, settlement.log.candidate().backend.upstream);
    let after = &worker.upstreams[attempt.candidate().backend.upstream].config;
    settlement.log.go_on(worker, attempt, status, error);
    match sent {
        Err(error) if !error.is_sent() => {
            settlement.attempts = settlement.attempts.saturating_sub(1);
        }
        // By its policy, whoever answers in the end.
        Err(_) => settlement.is_owed_before = true,
        Ok(_) => {}
    }
    if !settlement.is_background && !settlement.is_owed_before {
        settlement.unstated = after.unstated;
    }
    worker.shard.failed_over();
    let upstream = &worker.upstreams[before].config.name;
    tracing::debug!(%event_id, %upstream, status, error, next = %after.name, "tried elsewhere");
    target
}
