//! `weir key find`: which key a text is. The text is read from standard input: what stands on a command line is
//! in the shell's history, and every process of the machine can read it.

use std::io::{BufRead, Read};

use anyhow::bail;

use super::super::output::{Format, Output, note, write_one};
use super::super::time_args::rfc3339;
use super::line::{COLUMNS, line};
use crate::identify::key_text::KeyText;
use crate::store::Store;

/// No text of a key is that long.
const MOST_BYTES: u64 = 4096;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Where somebody has typed it, it must not be repeated as an unexpected argument.
    #[arg(hide = true)]
    typed: Vec<String>,
}

impl Args {
    /// # Errors
    ///
    /// If the text stands on the command line.
    pub(super) fn require_nothing_typed(&self) -> anyhow::Result<()> {
        if !self.typed.is_empty() {
            bail!(
                "the text of a key is read from standard input, for the command line is in the shell's history: \
                 `weir key find`, then the text and Enter"
            );
        }
        Ok(())
    }
}

/// The first line, without the blanks around it, and without what it may stand behind in a header.
///
/// # Errors
///
/// If it can't be read, or is no text of a key as Weir makes them.
pub(super) fn read(input: &mut dyn BufRead) -> anyhow::Result<KeyText> {
    if std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        note("the text of the key, and Enter:");
    }
    let mut typed = String::new();
    input.take(MOST_BYTES).read_line(&mut typed)?;
    let text = typed.trim();
    let text = text.strip_prefix("Bearer ").unwrap_or(text);
    if text.is_empty() {
        bail!("nothing came on standard input, where the text of the key is read from");
    }
    match KeyText::parse(text.as_bytes()) {
        Ok(text) => Ok(text),
        Err(error) => bail!("this has not the form of a key of Weir's (sk-weir-…): {error}"),
    }
}

/// Shows the key, and says if the text is an old one.
pub(super) fn run(
    args: &Args,
    text: &KeyText,
    store: &Store,
    now_ms: i64,
    out: &mut dyn Output,
) -> anyhow::Result<()> {
    let digest = text.digest();
    let Some((key, secret)) = store.key_with(&digest)? else {
        bail!(
            "no key has this text: the key was deleted, its text was replaced by `weir key rotate`, or it is \
             another ledger's"
        )
    };
    if let Some(until_ms) = secret.expires_at_ms {
        let ends = if until_ms <= now_ms { "ended" } else { "ends" };
        note(&format!("this is an old text of the key, which {ends} at {}", rfc3339(until_ms)));
    }
    write_one(out, args.format, &COLUMNS, &line(&key, now_ms, args.format))
}

#[cfg(test)]
mod tests {
    use super::super::super::samples::{config_in, typed};
    use super::*;

    #[test]
    fn a_text_leads_to_its_key_and_is_never_told() {
        let dir = tempfile::tempdir().unwrap();
        let config = config_in(dir.path());
        let made = |line: &str| {
            let mut out = Vec::new();
            super::super::execute(typed(line).unwrap(), &config, 1_000, &mut out).unwrap();
            let key: serde_json::Value = serde_json::from_slice(&out).unwrap();
            (key["id"].as_str().unwrap().to_owned(), key["key"].as_str().unwrap().to_owned())
        };
        let (id, text) = made("create --tenant acme --format json");
        made("create --tenant acme --format json");
        let store = super::super::open_store(&config, "key").unwrap();
        let find = |typed: &str| -> anyhow::Result<String> {
            let mut out = Vec::new();
            let text = read(&mut typed.as_bytes())?;
            run(&Args { format: Format::Csv, typed: Vec::new() }, &text, &store, 2_000, &mut out)?;
            Ok(String::from_utf8(out)?)
        };
        // Typed where it does not belong, it is not repeated.
        let line = typed(&format!("find {text}")).unwrap();
        let said = super::super::execute(line, &config, 1_000, &mut Vec::new()).unwrap_err();
        assert!(said.to_string().contains("standard input"), "{said}");
        assert!(!said.to_string().contains(&text), "{said}");
        for typed in [text.clone(), format!("  Bearer {text} \nmore")] {
            let found = find(&typed).unwrap();
            assert!(found.contains(&id) && !found.contains(&text), "{found}");
        }
        let (_, new) = made(&format!("rotate {id} --format json"));
        assert!(find(&text).unwrap().contains(&id), "the old text, too");
        assert!(find(&new).unwrap().contains(&id));
        made(&format!("rotate {id} --overlap 0s --format json"));
        for (typed, error) in [
            (&*text, "no key has this text"),
            ("sk-weir-1", "not the form of a key"),
            ("", "nothing came on standard input"),
        ] {
            let found = find(typed).unwrap_err().to_string();
            assert!(found.contains(error) && !found.contains(&text), "{found}");
        }
    }
}
