//! Which names tenants and keys may have: they stand in tables, URLs and logs.

use crate::identify::key_text::PREFIX;
use crate::printable::is_hidden;

const TENANT_NAME_LEN: usize = 64;
const KEY_NAME_LEN: usize = 100;

/// Takes a tenant's name.
pub(crate) fn tenant_name(text: &str) -> Result<String, String> {
    refuse_key_text(text)?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if text.is_empty() || text.len() > TENANT_NAME_LEN || !text.bytes().all(fits) {
        return Err(format!("a tenant's name is 1 to {TENANT_NAME_LEN} of A-Z a-z 0-9 . _ -"));
    }
    Ok(text.to_owned())
}

/// Takes a key's name, which may be empty.
pub(crate) fn key_name(text: &str) -> Result<String, String> {
    refuse_key_text(text)?;
    let is_blank = !text.is_empty() && text.trim().is_empty();
    if is_blank || text.chars().count() > KEY_NAME_LEN || text.chars().any(is_hidden) {
        return Err(format!(
            "a key's name has at most {KEY_NAME_LEN} characters, none that control or do not show, and \
             not only blanks"
        ));
    }
    Ok(text.to_owned())
}

/// Names stand in lists and logs, where the text of a key must not.
fn refuse_key_text(text: &str) -> Result<(), String> {
    match text.to_ascii_lowercase().contains(PREFIX) {
        true => Err("that looks like the text of a key, which is secret; give a name".to_owned()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["a", "acme", "Team_7.eu-west", &"x".repeat(64)] {
            assert!(tenant_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "ä", "a/b", "a\n", "'", "sk-weir-1", "a.SK-Weir-1", &"x".repeat(65)]
        {
            assert!(tenant_name(bad).is_err(), "{bad}");
        }
        for good in ["", "ci on näher", &"ä".repeat(100)] {
            assert!(key_name(good).is_ok(), "{good}");
        }
        for bad in [
            " ",
            "\t",
            "  ",
            "Sk-weir-abc",
            "my sk-weir-abc",
            "a\nb",
            "\u{1b}[1m",
            "\u{85}",
            "a\u{202e}b",
            "a\u{200b}",
            "\u{2028}",
            &"x".repeat(101),
        ] {
            assert!(key_name(bad).is_err(), "{bad}");
        }
    }
}
