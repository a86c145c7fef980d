//! Who serves a model: all upstreams that list it, each of their keys for itself, and which of them a request goes
//! to.

mod breaker;
mod budget;
mod candidate;
mod choice;
mod learned;
mod served_model;

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::{self, Config, Model, Unpriced};
use crate::price::{Price, Schedule};
use crate::route::breaker::Breaker;
pub(crate) use crate::route::breaker::Changed;
use crate::route::candidate::Backend;
pub(crate) use budget::RetryBudget;
pub(crate) use candidate::{AllRest, Attempt, Candidate, Outcome};
pub(crate) use choice::{Lots, Tried};
pub(crate) use learned::{Learned, LearnedByTenant};
pub(crate) use served_model::{Served, WarnedModels};

/// The model is unknown, or not one of this key's; the client cannot tell which.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("The model `{0}` does not exist or you do not have access to it.")]
pub(crate) struct UnknownModel(pub(crate) String);

/// The model has no price, and without one nobody can say whether a quota of cost has room.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "The model `{0}` has no price, which a quota of cost needs; ask the operator of this gateway to set \
     one."
)]
pub(crate) struct UnpricedModel(pub(crate) Arc<str>);

/// All models, by public name.
#[derive(Debug)]
pub(crate) struct Routes {
    models: Vec<Route>,
    by_name: HashMap<Arc<str>, usize>,
}

/// How one model is served.
#[derive(Debug)]
pub(crate) struct Route {
    /// The public name.
    pub(crate) model: Arc<str>,
    /// Who serves it, in the order of their priorities; at least one.
    pub(crate) candidates: Vec<Arc<Candidate>>,
    /// Its place in the metrics.
    pub(crate) index: usize,
    /// Reserved for an answer whose length the request does not limit.
    pub(crate) default_output_tokens: u64,
    /// It answers with pictures.
    pub(crate) makes_images: bool,
    /// What such answers have been like, where that is to be learned.
    pub(crate) learned: Option<LearnedByTenant>,
    /// What it costs, and when.
    pub(crate) prices: Schedule,
    /// What becomes of a request that needs a price where there is none.
    unpriced: Unpriced,
    /// That answers to it name another model.
    pub(crate) warned: WarnedModels,
    /// Seconds since the Unix epoch.
    pub(crate) created: i64,
    pub(crate) owned_by: String,
}

impl Route {
    /// Leaves only those candidates where what a request names is kept. If that is known of none, and it `is_theirs`
    /// who ask for it, it is from before there were several: the first one of the configuration has it.
    pub(crate) fn bind(&self, tried: &mut Tried, is_kept: impl Fn(&str) -> bool, is_theirs: bool) {
        let is_known = self.candidates.iter().any(|one| is_kept(&one.backend.place));
        let place = |one: &&Arc<Candidate>| (one.backend.upstream, one.backend.key);
        let first = self.candidates.iter().min_by_key(place);
        let is_kept = |one: &Arc<Candidate>| match is_known {
            true => is_kept(&one.backend.place),
            false => first.is_some_and(|first| Arc::ptr_eq(first, one)),
        };
        if is_known || is_theirs {
            let others = self.candidates.iter().enumerate().filter(|(_, one)| !is_kept(one));
            others.for_each(|(index, _)| tried.add(index));
        }
    }

    /// Begins a request at one of its candidates that has not been tried, as [`choice::choose`] does.
    pub(crate) fn choose(
        &self,
        tried: &mut Tried,
        tokens: u64,
        lots: &Lots,
        now_ns: u64,
    ) -> Result<Attempt, AllRest> {
        choice::choose(&self.candidates, tried, tokens, lots, now_ns)
    }

    /// What an answer of this model to this tenant usually stays below, as far as that is known.
    pub(crate) fn usual_output_tokens(&self, tenant: &str) -> u64 {
        let learned = self.learned.as_ref().and_then(|learned| learned.usual(tenant));
        learned.unwrap_or(self.default_output_tokens)
    }
}

impl Routes {
    pub(crate) fn new(config: &Config) -> Self {
        let mut routes = Self { models: Vec::new(), by_name: HashMap::new() };
        for (upstream, settings) in config.upstreams.iter().enumerate() {
            let backends = backends(upstream, settings);
            for listed in &settings.models {
                let renamed =
                    (listed.upstream_name != listed.name).then(|| listed.upstream_name.clone());
                let candidates = backends.iter().zip(&settings.api_keys).map(|(backend, key)| {
                    let weight = listed.weight * key.weight;
                    let (backend, renamed) = (backend.clone(), renamed.clone());
                    Arc::new(Candidate::new(backend, renamed, listed.priority, weight))
                });
                let model: Arc<str> = Arc::from(listed.name.as_str());
                if let Some(index) = routes.by_name.get(&model) {
                    routes.models[*index].candidates.extend(candidates);
                    continue;
                }
                let entry = config.models.iter().find(|entry| entry.name == listed.name);
                let entry = entry.cloned().unwrap_or_else(|| Model::unconfigured(&listed.name));
                let index = routes.models.len();
                routes.by_name.insert(model.clone(), index);
                let aliases = entry.aliases.iter().map(|alias| Arc::from(alias.as_str()));
                routes.by_name.extend(aliases.map(|alias: Arc<str>| (alias, index)));
                routes.models.push(Route {
                    model,
                    candidates: candidates.collect(),
                    index,
                    default_output_tokens: entry.default_output_tokens,
                    makes_images: entry.makes_images,
                    learned: entry.learn_reservation.then(LearnedByTenant::default),
                    prices: config.prices.of(&listed.name),
                    unpriced: config.limits.unpriced,
                    warned: WarnedModels::default(),
                    created: entry.created,
                    owned_by: entry.owned_by,
                });
            }
        }
        for route in &mut routes.models {
            route.candidates.sort_by_key(|candidate| candidate.priority);
        }
        routes
    }

    /// The route of `model`, if `allowed` (a key's list; `None`: all) has it.
    pub(crate) fn find(
        &self,
        model: &str,
        allowed: Option<&[String]>,
    ) -> Result<&Route, UnknownModel> {
        self.by_name
            .get(model)
            .map(|index| &self.models[*index])
            .filter(|route| is_allowed(route, allowed))
            .ok_or_else(|| UnknownModel(model.to_owned()))
    }

    /// The route with this [`Route::index`].
    pub(crate) fn at(&self, index: usize) -> &Route {
        &self.models[index]
    }

    /// The models that a key may use, in the configuration's order.
    pub(crate) fn list<'a>(
        &'a self,
        allowed: Option<&'a [String]>,
    ) -> impl Iterator<Item = &'a Route> {
        self.models.iter().filter(move |route| is_allowed(route, allowed))
    }

    /// The public names, by [`Route::index`].
    pub(crate) fn names(&self) -> Vec<String> {
        self.models.iter().map(|route| route.model.to_string()).collect()
    }
}

impl Route {
    /// The price of a request that begins at `at_ms` (milliseconds since the Unix epoch).
    /// `is_needed`: a quota of cost holds for it. Where it is needed and `None` is the answer, the row
    /// is to have the flag `unpriced`.
    pub(crate) fn price(
        &self,
        at_ms: i64,
        is_needed: bool,
    ) -> Result<Option<Price>, UnpricedModel> {
        match self.prices.at(at_ms) {
            None if is_needed && self.unpriced == Unpriced::Refuse => {
                Err(UnpricedModel(self.model.clone()))
            }
            price => Ok(price.copied()),
        }
    }
}

/// An upstream's keys, which share what is known of the upstream.
fn backends(upstream: usize, settings: &config::Upstream) -> Vec<Arc<Backend>> {
    let failures = settings.breaker_failures;
    let breaker = Arc::new(Breaker::new(failures));
    let upstream_name = settings.name.clone();
    let keys = settings.api_keys.iter().enumerate();
    keys.map(|(key, settings)| {
        let (names, breaker) = ((&*upstream_name, settings.name.clone()), breaker.clone());
        Arc::new(Backend::new(upstream, key, names, failures, breaker))
    })
    .collect()
}

fn is_allowed(route: &Route, allowed: Option<&[String]>) -> bool {
    allowed.is_none_or(|names| names.iter().any(|name| **name == *route.model))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secrets;

    #[test]
    fn a_missing_price_is_refused_only_where_it_is_needed() {
        for (policy, refuses) in [("refuse", true), ("flag", false)] {
            let text = format!(
                "[limits]\nunpriced = \"{policy}\"\n[[price]]\nmodel = \"gpt-5.4\"\n\
                 from = \"2026-01-01\"\nper_request = 1"
            );
            let config = Config::from_toml(&text, Secrets::Optional).expect("it is valid");
            let routes = Routes::new(&config);
            let price = |model: &str, at_ms, is_needed| {
                let route = routes.find(model, None).expect("it is listed");
                route.price(at_ms, is_needed).map(|price| price.is_some())
            };
            const FROM_MS: i64 = 1_767_225_600_000;
            let missing = |model: &str| match refuses {
                true => Err(UnpricedModel(model.into())),
                false => Ok(false),
            };
            assert_eq!(price("gpt-5.4", FROM_MS, true), Ok(true), "{policy}");
            assert_eq!(price("gpt-5.4", FROM_MS - 1, true), missing("gpt-5.4"));
            assert_eq!(price("gpt-5.4", FROM_MS - 1, false), Ok(false));
            assert_eq!(price("gpt-5.4-image-2", FROM_MS, true), missing("gpt-5.4-image-2"));
            assert_eq!(price("gpt-5.4-image-2", FROM_MS, false), Ok(false));
        }
    }
}
