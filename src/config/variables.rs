//! The environment's part of the configuration: which variables there are, and what they override.

use std::collections::BTreeMap;

/// What the names of overriding variables begin with.
pub(super) const PREFIX: &str = "WEIR__";

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

    /// Those that look like one that overrides a key of `paths`, each with that one.
    pub(super) fn misspelt(&self, paths: &[String]) -> Vec<(String, String)> {
        let overriding = paths.iter().map(|path| variable_of(path));
        let misspelt = overriding.map(|right| (right.replace("__", "_"), right));
        misspelt.filter(|(wrong, _)| self.0.contains_key(wrong)).collect()
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

#[cfg(test)]
mod tests {
    use super::super::keys;
    use super::*;

    #[test]
    fn one_underscore_where_two_belong_is_told_and_a_secret_s_name_is_none() {
        let names = [
            ("WEIR_SERVER_LISTEN", "x"),
            ("WEIR_DATA_KEEP_ROWS", "x"),
            ("WEIR__DATA__DIR", "x"),
            // What the default references name.
            ("WEIR_ADMIN_TOKEN", "x"),
            ("WEIR_UPSTREAM_API_KEY", "x"),
            ("WEIR_SEEDS", "1"),
        ];
        let pair = |wrong: &str, right: &str| (wrong.to_owned(), right.to_owned());
        let expected = [
            pair("WEIR_SERVER_LISTEN", "WEIR__SERVER__LISTEN"),
            pair("WEIR_DATA_KEEP_ROWS", "WEIR__DATA__KEEP_ROWS"),
        ];
        assert_eq!(Variables::of(&names).misspelt(&keys::paths()), expected);
    }
}
