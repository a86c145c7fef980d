//! Secret references: `env:NAME` and `file:PATH`. A secret never stands in the configuration
//! itself, because that is committed, copied and shown.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::variables::Variables;

/// Bytes of a secret's file; a longer one is surely not a key.
const MAX_SECRET_BYTES: u64 = 16 << 10;

/// Where a secret is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    Env(String),
    File(PathBuf),
}

/// Why there is no secret. No text of it holds the secret itself.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretError {
    #[error(
        "must be a reference, \"env:NAME\" or \"file:PATH\": a secret does not belong into the \
         configuration itself"
    )]
    Inline,
    #[error("must name an environment variable after env:, in letters, digits and _")]
    BadName,
    #[error("the environment variable {0} is not set; set it to the secret, as in {0}=…")]
    Unset(String),
    #[error("can't read {0}: {1}")]
    Unreadable(PathBuf, std::io::Error),
    #[error("{0} must hold one line of visible ASCII, not empty, at most 16 KiB")]
    Unusable(String),
}

impl Reference {
    /// Reads a reference; relative paths start at `base`, the configuration file's directory.
    pub(super) fn parse(text: &str, base: &Path) -> Result<Self, SecretError> {
        if let Some(name) = text.strip_prefix("env:") {
            let sound = !name.is_empty()
                && !name.starts_with(|c: char| c.is_ascii_digit())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            return if sound { Ok(Self::Env(name.to_owned())) } else { Err(SecretError::BadName) };
        }
        match text.strip_prefix("file:") {
            Some(path) if !path.is_empty() => Ok(Self::File(base.join(path))),
            _ => Err(SecretError::Inline),
        }
    }

    /// Fetches the secret. A variable that is set to nothing counts as not set.
    pub(super) fn resolve(&self, variables: &Variables) -> Result<SecretString, SecretError> {
        let (text, place) = match self {
            Self::Env(name) => match variables.value(name) {
                Some(value) if !value.trim().is_empty() => (value.to_owned(), name.clone()),
                _ => return Err(SecretError::Unset(name.clone())),
            },
            Self::File(path) => (
                read(path).map_err(|error| SecretError::Unreadable(path.clone(), error))?,
                path.display().to_string(),
            ),
        };
        // Files end in a newline, and so do many variables.
        let secret = text.trim();
        // It goes into a header field (RFC 9110 §5.5), where nothing else is safe.
        if secret.is_empty() || !secret.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(SecretError::Unusable(place));
        }
        Ok(SecretString::from(secret))
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_SECRET_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_SECRET_BYTES {
        return Err(std::io::Error::other("longer than 16 KiB"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn resolve(text: &str, base: &Path) -> Result<String, String> {
        let variables = Variables::of(&[
            ("KEY", "sk-1\n"),
            ("EMPTY", "  "),
            ("TWO", "a b"),
            ("UMLAUT", "schlüssel"),
        ]);
        Reference::parse(text, base)
            .and_then(|reference| reference.resolve(&variables))
            .map(|secret| secret.expose_secret().to_owned())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn follows_references() {
        let dir = tempfile::tempdir().expect("a directory for the test");
        std::fs::write(dir.path().join("key"), "sk-file\n").expect("a file for the test");
        assert_eq!(resolve("env:KEY", dir.path()).as_deref(), Ok("sk-1"));
        assert_eq!(resolve("file:key", dir.path()).as_deref(), Ok("sk-file"));
    }

    #[test]
    fn says_what_is_wrong_and_never_the_secret() {
        let dir = tempfile::tempdir().expect("a directory for the test");
        std::fs::write(dir.path().join("long"), "x".repeat(20_000)).expect("a file for the test");
        let cases = [
            ("sk-abc", "must be a reference"),
            ("", "must be a reference"),
            ("file:", "must be a reference"),
            ("env:", "must name an environment variable"),
            ("env:sk-abc", "must name an environment variable"),
            ("env:NOT_THERE", "NOT_THERE is not set"),
            ("env:EMPTY", "EMPTY is not set"),
            ("env:TWO", "TWO must hold one line of visible ASCII"),
            ("env:UMLAUT", "UMLAUT must hold one line of visible ASCII"),
            ("file:none", "can't read"),
            ("file:long", "longer than 16 KiB"),
        ];
        for (text, expected) in cases {
            let error = resolve(text, dir.path()).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("sk-abc") && !error.contains("schl"), "{error}");
        }
    }
}
