//! What was meant by a path that is none: mostly a Base URL with one `/v1` too many, or without it.

use super::ENDPOINTS;

/// The path of the table that stands at the end of `path`, whatever stands before and between: `/v1/v1/…`,
/// `//v1/…`, no `/v1`, a slash at the end, capitals.
pub(super) fn near(path: &str) -> Option<&'static str> {
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
