//! What is said of a path that is none, and what was meant by it: mostly a Base URL with one `/v1` too
//! many, or without it.

use super::ENDPOINTS;

/// Characters of a path that are repeated to its client.
const SHOWN: usize = 100;

/// Names the path, within bounds and with nothing in it but what can be seen.
pub(super) fn message(path: &str) -> String {
    let mut shown: String = path.chars().take(SHOWN).flat_map(char::escape_default).collect();
    if path.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    match near(path) {
        Some(near) => format!("Unknown path `{shown}`; did you mean `{near}`?"),
        None => format!(
            "Unknown path `{shown}`; this gateway serves chat and text completions, responses, \
             messages, embeddings, images, audio, moderations and models, all below /v1."
        ),
    }
}

/// The path of the table that stands at the end of `path`, whatever stands before and between: `/v1/v1/…`,
/// `//v1/…`, no `/v1`, a slash at the end, capitals.
fn near(path: &str) -> Option<&'static str> {
    let segments = || path.rsplit('/').filter(|segment| !segment.is_empty());
    let ends_alike = |endpoint: &&str| {
        let known = endpoint.rsplit('/').take_while(|segment| *segment != "v1");
        let mut asked = segments();
        known.into_iter().all(|known| {
            let is_it = |asked: &str| known == "{id}" || asked.eq_ignore_ascii_case(known);
            known.is_empty() || asked.next().is_some_and(is_it)
        })
    };
    let paths = ENDPOINTS.iter().map(|endpoint| endpoint.path).filter(ends_alike);
    paths.max_by_key(|path| path.split('/').count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_named_within_bounds() {
        let long = format!("/{}", "x".repeat(1_000));
        let cut = format!("Unknown path `/{}…`; this gateway serves", "x".repeat(99));
        for (path, begins) in [
            ("/v1/v1/models", "Unknown path `/v1/v1/models`; did you mean `/v1/models`?"),
            ("/\u{1b}[31m\"é", "Unknown path `/\\u{1b}[31m\\\"\\u{e9}`; this gateway"),
            (&long, &cut),
        ] {
            assert!(message(path).starts_with(begins), "{}", message(path));
        }
    }

    #[test]
    fn what_was_meant_is_found() {
        for (asked, meant) in [
            ("/v1/v1/chat/completions", Some("/v1/chat/completions")),
            ("//v1/chat/completions", Some("/v1/chat/completions")),
            ("/chat/completions", Some("/v1/chat/completions")),
            ("/v1/chat/completions/", Some("/v1/chat/completions")),
            ("/V1/Chat//Completions", Some("/v1/chat/completions")),
            ("/v1/chat/completions/chat/completions", Some("/v1/chat/completions")),
            ("/v1beta/openai/chat/completions", Some("/v1/chat/completions")),
            ("/openai/deployments/gpt-5.4/chat/completions", Some("/v1/chat/completions")),
            ("/completions", Some("/v1/completions")),
            ("/messages/count_tokens", Some("/v1/messages/count_tokens")),
            ("/v1/models/", Some("/v1/models")),
            ("/models", Some("/v1/models")),
            ("/v1/v1/models/gpt-5.4", Some("/v1/models/{id}")),
            ("/", None),
            ("/v1", None),
            ("/v1/chat", None),
            ("/v1/completions/chat", None),
            ("*", None),
            ("", None),
        ] {
            assert_eq!(near(asked), meant, "{asked}");
        }
        assert!(ENDPOINTS.iter().all(|it| near(it.path) == Some(it.path)));
    }
}
