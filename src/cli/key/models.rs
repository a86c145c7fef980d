//! The models that a key may use, as they are typed.

use crate::config::Config;
use crate::config::suggest::nearest;

use super::super::output::note;

/// The models as they were typed; `None`: all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Models(pub(super) Option<Vec<String>>);

/// What people write for every model or none: as a name of a model it would refuse every request.
const NO_NAMES: [&str; 5] = ["all", "none", "any", "*", "-"];

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
    let mut names: Vec<String> = Vec::new();
    for name in text.split(',').map(str::trim) {
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err("names of models, separated by commas, or `all`".to_owned());
        }
        if NO_NAMES.iter().any(|word| name.eq_ignore_ascii_case(word)) {
            return Err(format!(
                "`{name}` is no model: `all`, alone and in small letters, for every model, or names \
                 separated by commas"
            ));
        }
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_names_of_models_each_once_and_no_other_word() {
        let names = |list: &[&str]| Some(list.iter().map(|name| (*name).to_owned()).collect());
        for (text, expected) in [
            ("all", Some(None)),
            ("a", Some(names(&["a"]))),
            ("b, a,b", Some(names(&["b", "a"]))),
            ("gpt-5.4,yi/su:free", Some(names(&["gpt-5.4", "yi/su:free"]))),
            ("all,gpt-5.4", None),
            ("gpt-5.4,ALL", None),
            ("ALL", None),
            ("none", None),
            ("None", None),
            ("*", None),
            ("Any", None),
            ("-", None),
            ("a b", None),
            ("a,", None),
            ("", None),
        ] {
            let found = models(text);
            assert_eq!(found.as_ref().ok(), expected.map(Models).as_ref(), "{text}");
            assert!(found.err().is_none_or(|error| error.contains("`all`")), "{text}");
        }
    }
}
