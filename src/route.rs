//! Which upstream serves a model, and under which name. In this version the first upstream that lists a
//! model serves it.

mod learned;

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::{Config, Model};
pub(crate) use learned::Learned;

/// The model is unknown, or not one of this key's; the client cannot tell which.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("The model `{0}` does not exist or you do not have access to it.")]
pub(crate) struct UnknownModel(pub(crate) String);

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
    /// The upstream's name for it, where that differs.
    pub(crate) upstream_model: Option<String>,
    /// Index into the configuration's upstreams.
    pub(crate) upstream: usize,
    /// Its place in the metrics.
    pub(crate) index: usize,
    /// Reserved for an answer whose length the request does not limit.
    pub(crate) default_output_tokens: u64,
    /// What such answers have been like, where that is to be learned.
    pub(crate) learned: Option<Arc<Learned>>,
    /// Seconds since the Unix epoch.
    pub(crate) created: i64,
    pub(crate) owned_by: String,
}

impl Route {
    /// What an answer of this model usually stays below, as far as that is known.
    pub(crate) fn usual_output_tokens(&self) -> u64 {
        let learned = self.learned.as_ref().and_then(|learned| learned.usual());
        learned.unwrap_or(self.default_output_tokens)
    }
}

impl Routes {
    pub(crate) fn new(config: &Config) -> Self {
        let mut routes = Self { models: Vec::new(), by_name: HashMap::new() };
        for (upstream, settings) in config.upstreams.iter().enumerate() {
            for listed in &settings.models {
                let model: Arc<str> = Arc::from(listed.name.as_str());
                if routes.by_name.contains_key(&model) {
                    continue;
                }
                let entry = config.models.iter().find(|entry| entry.name == listed.name);
                let entry = entry.cloned().unwrap_or_else(|| Model::unconfigured(&listed.name));
                let index = routes.models.len();
                routes.by_name.insert(model.clone(), index);
                routes.models.push(Route {
                    model,
                    upstream_model: (listed.upstream_name != listed.name)
                        .then(|| listed.upstream_name.clone()),
                    upstream,
                    index,
                    default_output_tokens: entry.default_output_tokens,
                    learned: entry.learn_reservation.then(Arc::default),
                    created: entry.created,
                    owned_by: entry.owned_by,
                });
            }
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

fn is_allowed(route: &Route, allowed: Option<&[String]>) -> bool {
    allowed.is_none_or(|names| names.iter().any(|name| **name == *route.model))
}
