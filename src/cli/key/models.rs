//! The models that a key may use, as they are typed.

use crate::config::Config;

use super::super::output::note;

/// The models as they were typed; `None`: all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Models(pub(super) Option<Vec<String>>);

/// Takes a list of models, or `all`. `none` lifts other limits, and would here be read as its opposite.
pub(super) fn models(text: &str) -> Result<Models, String> {
    if text == "all" {
        return Ok(Models(None));
    }
    if text == "none" {
        return Err("`all` for every model, or names separated by commas; a key that may use no \
                    model is one to revoke"
            .to_owned());
    }
    let names: Vec<_> = text.split(',').map(|name| name.trim().to_owned()).collect();
    if names.iter().any(String::is_empty) {
        return Err("names of models, separated by commas, or `all`".to_owned());
    }
    Ok(Models(Some(names)))
}

/// Tells of models that no upstream serves: they may be misspelt, or still to come.
pub(super) fn note_unserved(models: Option<&Models>, config: &Config) {
    let names = models.and_then(|models| models.0.as_ref());
    for model in unserved(names.into_iter().flatten(), config) {
        note(&format!("no upstream in the configuration serves `{model}`"));
    }
}

pub(super) fn unserved<'m>(
    models: impl Iterator<Item = &'m String>,
    config: &Config,
) -> impl Iterator<Item = &'m String> {
    let served = |model: &str| {
        let mut listed = config.upstreams.iter().flat_map(|upstream| &upstream.models);
        listed.any(|listed| listed.name == model)
    };
    models.filter(move |model| !served(model))
}
