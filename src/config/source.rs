//! Where the configuration comes from: a file, over it the environment. Both are merged into one
//! tree here; what it means is decided elsewhere.

use std::path::{Path, PathBuf};

use config::{Environment, File, FileFormat, Map, Value};

use super::error::ConfigErrors;
use super::variables::{PREFIX, Variables, variable_of};

/// The file that is used when none is named and it exists.
pub(super) const DEFAULT_FILE: &str = "config/weir.toml";
/// What the `config` crate calls the origin of a value that a variable gave.
pub(super) const ENVIRONMENT: &str = "the environment";

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
