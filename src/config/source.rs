//! Where the configuration comes from: a file, over it the environment. Both are merged into one
//! tree here; what it means is decided elsewhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use config::{Environment, File, FileFormat, Map, Value};

use super::error::ConfigErrors;

/// The file that is used when none is named and it exists.
pub(super) const DEFAULT_FILE: &str = "config/weir.toml";
/// What the names of overriding variables begin with.
const PREFIX: &str = "WEIR__";
/// What the `config` crate calls the origin of a value that a variable gave.
pub(super) const ENVIRONMENT: &str = "the environment";

/// The environment's variables, taken once, so that nothing later depends on the process.
#[derive(Clone, Debug, Default)]
pub(super) struct Variables(BTreeMap<String, String>);

impl Variables {
    /// The process's own; what is not UTF-8 can't be a setting and is left out.
    pub(super) fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    #[cfg(test)]
    pub(super) fn of(variables: &[(&str, &str)]) -> Self {
        Self(variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    /// The same without what overrides keys; secrets can still be found.
    pub(super) fn without_overrides(mut self) -> Self {
        self.0.retain(|name, _| !name.starts_with(PREFIX));
        self
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The variables that override a key.
    pub(super) fn overrides(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str())).filter(|(k, _)| k.starts_with(PREFIX))
    }
}

/// The variable that overrides the key at `path`.
pub(super) fn variable_of(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "__").to_uppercase())
}

/// The file to read: the one that was named, else the default one where there is one.
pub(super) fn file_in_use(named: Option<&Path>) -> Option<PathBuf> {
    match named {
        Some(path) => Some(path.to_owned()),
        None => Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.is_file()),
    }
}

/// Reads `file`, if there is one.
///
/// # Errors
///
/// When it can't be read; the message says what to do.
pub(super) fn read(file: Option<&Path>) -> Result<String, ConfigErrors> {
    let Some(path) = file else { return Ok(String::new()) };
    std::fs::read_to_string(path).map_err(|error| {
        let path = path.display();
        ConfigErrors::whole(format!("can't read {path}: {error}; name another with --config FILE"))
    })
}

/// Merges the text of a file with the variables that override it.
///
/// # Errors
///
/// When the text is not TOML, or a variable's name can't be a key.
pub(super) fn merge(text: &str, variables: &Variables) -> Result<Value, ConfigErrors> {
    for (name, _) in variables.overrides() {
        let sound = |part: &str| !part.is_empty() && part.chars().all(is_key_char);
        if !name[PREFIX.len()..].split("__").all(sound) {
            return Err(ConfigErrors::whole(format!(
                "the variable {name} is not the name of a key; they look like {}",
                variable_of("server.listen")
            )));
        }
    }
    let overrides: Map<String, String> =
        variables.overrides().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    // No `try_parsing`: only the key knows whether "123" is a number or text.
    let environment = Environment::with_prefix("WEIR")
        .prefix_separator("__")
        .separator("__")
        .source(Some(overrides));
    config::Config::builder()
        .add_source(File::from_str(text, FileFormat::Toml))
        .add_source(environment)
        .build()
        .map(|merged| merged.cache)
        .map_err(|error| ConfigErrors::whole(syntax_error(&error)))
}

fn is_key_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// Place and reason of a syntax error, without the line that it quotes: a secret may stand there.
fn syntax_error(error: &config::ConfigError) -> String {
    let config::ConfigError::FileParse { cause, .. } = error else { return error.to_string() };
    let text = cause.to_string();
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    match (lines.next(), lines.next_back()) {
        (Some(place), Some(reason)) => format!("{place}: {reason}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(text: &str, variables: &[(&str, &str)]) -> Result<Value, String> {
        merge(text, &Variables::of(variables)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let text = "[server]\nlisten = \"a\"\nworkers = 1\n";
        let tree = merged(text, &[("WEIR__SERVER__LISTEN", "b"), ("WEIR_OTHER", "c")])
            .and_then(|tree| tree.into_table().map_err(|error| error.to_string()))
            .expect("both parse");
        let server = tree["server"].clone().into_table().expect("it is a table");
        assert_eq!(server["listen"].clone().into_string().ok().as_deref(), Some("b"));
        assert_eq!(server["listen"].origin(), Some(ENVIRONMENT));
        assert_eq!(server["workers"].clone().into_int().ok(), Some(1));
        assert_eq!(tree.len(), 1, "WEIR_OTHER is no override");
    }

    #[test]
    fn says_where_the_syntax_is_wrong_without_quoting_the_line() {
        let error = merged("[admin]\ntoken = sk-secret\n", &[]).expect_err("no quotes");
        assert!(error.contains("line 2, column 9"), "{error}");
        assert!(!error.contains("sk-secret") && !error.contains('\n'), "{error}");
    }

    #[test]
    fn names_a_variable_that_can_be_no_key() {
        for name in ["WEIR__", "WEIR__SERVER____LISTEN", "WEIR__A B"] {
            let error = merged("", &[(name, "x")]).expect_err(name);
            assert!(error.contains(name) && error.contains("WEIR__SERVER__LISTEN"), "{error}");
        }
    }
}
