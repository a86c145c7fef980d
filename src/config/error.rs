//! What is wrong with a configuration: all of it at once, each problem with its key, its value and
//! what would be right, so that one look is enough to repair a file.

use std::fmt;
use std::path::{Path, PathBuf};

use super::line_numbers::line_of;
use super::variables::{Variables, variable_of};

/// Characters of a value that an error shows; the rest is cut.
const SHOWN_VALUE_CHARS: usize = 80;

/// Everything that keeps a configuration from being used; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    /// The file that was read, if one was.
    file: Option<PathBuf>,
    problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The key's path, such as `upstream[0].base_url`; empty for the file as a whole.
    pub(crate) key: String,
    /// The offending value as it was written; `None` where there is none or it may be a secret.
    pub(crate) value: Option<String>,
    /// The environment variable that the value came from, if not the file.
    pub(crate) variable: Option<String>,
    /// Where in the file it stands, from 1, if it does.
    pub(crate) line: Option<usize>,
    /// What would be right.
    pub(crate) wanted: String,
}

/// Problems as they are found. What lies below a key that is already reported is not reported
/// again: it would only be a consequence.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn push(&mut self, key: &str, value: Option<String>, wanted: String) {
        if !self.0.iter().any(|known| covers(&known.key, key)) {
            self.0.push(Problem { key: key.to_owned(), value, variable: None, line: None, wanted });
        }
    }

    /// Reports a key whose value is as it should not be.
    pub(super) fn wrong(&mut self, key: &str, value: &str, wanted: impl Into<String>) {
        self.push(key, Some(shown(value)), wanted.into());
    }

    /// Reports a key without showing a value: it is missing, or may be a secret.
    pub(super) fn at(&mut self, key: &str, wanted: impl Into<String>) {
        self.push(key, None, wanted.into());
    }

    /// `value` if nothing was reported, else all that was, in the order of the keys.
    pub(super) fn into_result<T>(
        mut self,
        value: T,
        variables: &Variables,
    ) -> Result<T, ConfigErrors> {
        if self.0.is_empty() {
            return Ok(value);
        }
        self.0.sort_by(|a, b| a.key.cmp(&b.key));
        for problem in &mut self.0 {
            let variable = variable_of(&problem.key);
            problem.variable = variables.value(&variable).map(|_| variable);
        }
        Err(ConfigErrors { file: None, problems: self.0 })
    }
}

/// Whether a problem at `known` makes one at `key` a mere consequence.
fn covers(known: &str, key: &str) -> bool {
    !known.is_empty()
        && key
            .strip_prefix(known)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || rest.starts_with('['))
}

/// A value, quoted and short enough for a line.
pub(super) fn shown(text: &str) -> String {
    if text.chars().count() <= SHOWN_VALUE_CHARS {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(SHOWN_VALUE_CHARS).collect();
    format!("{:?}", start + "…")
}

impl ConfigErrors {
    /// A single problem with the file or the environment as a whole.
    pub(super) fn whole(wanted: impl Into<String>) -> Self {
        let (key, wanted) = (String::new(), wanted.into());
        Self {
            file: None,
            problems: vec![Problem { key, value: None, variable: None, line: None, wanted }],
        }
    }

    /// The same problems, with the file that they stand in, and the lines of its text.
    pub(super) fn in_file(mut self, file: Option<&Path>, text: &str) -> Self {
        for problem in self.problems.iter_mut().filter(|problem| problem.variable.is_none()) {
            problem.line = line_of(text, &problem.key);
        }
        Self { file: file.map(Path::to_owned), ..self }
    }

    /// How many problems there are.
    pub fn count(&self) -> usize {
        self.problems.len()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration")?;
        if let Some(file) = &self.file {
            write!(f, " in {}", file.display())?;
        }
        if let [only] = self.problems.as_slice() {
            return write!(f, " is not valid: {only}");
        }
        write!(f, " has {} errors:", self.problems.len())?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        if let Some(variable) = &self.variable {
            write!(f, " (from {variable})")?;
        }
        if !self.key.is_empty() {
            f.write_str(": ")?;
        }
        f.write_str(&self.wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_key_value_and_what_would_be_right() {
        let mut problems = Problems::default();
        problems.wrong("server.listen", "here", "must be an address");
        problems.at("admin", "must be a table");
        problems.at("admin.listen", "is a consequence, so it is left out");
        problems.at("administrator", "is not below admin");
        let errors =
            problems.into_result((), &Variables::default()).expect_err("three were reported");
        assert_eq!(
            errors.to_string(),
            "the configuration has 3 errors:\n  admin: must be a table\n  administrator: is not \
             below admin\n  server.listen = \"here\": must be an address"
        );
    }

    #[test]
    fn a_problem_of_a_file_has_its_line_and_one_of_a_variable_has_none() {
        let mut problems = Problems::default();
        problems.wrong("server.listen", "here", "must be an address");
        problems.wrong("log.format", "xml", "must be text or json");
        problems.at("data", "must be a table");
        let variables = Variables::of(&[("WEIR__LOG__FORMAT", "xml")]);
        let errors = problems.into_result((), &variables).expect_err("three were reported");
        let text = "[log]\nformat = \"text\"\n[server]\nlisten = \"here\"\n";
        let expected = "the configuration in weir.toml has 3 errors:\n  data: must be a table\n  log.format = \
            \"xml\" (from WEIR__LOG__FORMAT): must be text or json\n  line 4: server.listen = \"here\": must be an address";
        assert_eq!(errors.in_file(Some(Path::new("weir.toml")), text).to_string(), expected);
    }

    #[test]
    fn one_problem_is_one_line_and_long_values_are_cut() {
        let mut problems = Problems::default();
        problems.wrong("a", &"x".repeat(500), "must be short");
        let text = problems
            .into_result((), &Variables::default())
            .expect_err("one was reported")
            .to_string();
        assert!(text.starts_with("the configuration is not valid: a = \"xxx"), "{text}");
        assert!(text.len() < 160 && text.ends_with("…\": must be short"), "{text}");
    }
}
