//! The models that a key may use, as they are typed.

use crate::config::Config;
use crate::config::suggest::nearest;

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

/// A model that no upstream serves may be misspelt, or meant for later: it is told, and taken.
pub(super) fn note_unserved(models: Option<&Models>, config: &Config) {
    let names = models.and_then(|models| models.0.as_deref()).unwrap_or_default();
    unserved(names, config).iter().for_each(|text| note(text));
}

pub(super) fn unserved(models: &[String], config: &Config) -> Vec<String> {
    let served = || {
        let models = config.upstreams.iter().flat_map(|upstream| &upstream.models);
        models.map(|model| model.name.as_str())
    };
    // Without any upstream it is another machine's configuration that counts.
    if served().next().is_none() {
        return Vec::new();
    }
    let unserved = models.iter().filter(|model| !served().any(|served| served == *model));
    let said = |model: &String| match nearest(model, served()) {
        Some(near) => format!("no upstream serves `{model}` yet; did you mean `{near}`?"),
        None => format!("no upstream serves `{model}` yet"),
    };
    unserved.map(said).collect()
}
