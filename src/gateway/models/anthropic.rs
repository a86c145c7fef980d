//! The list of models as Anthropic's clients read it
//! (<https://docs.anthropic.com/en/api/models-list>): page by page, of which the query says the size and
//! where it begins.

use serde::Serialize;

use super::percent_decoded;
use crate::refusal::Refusal;
use crate::route::Route;

/// Models on a page if nobody says.
const PAGE: usize = 20;
const PAGE_MAX: usize = 1_000;

#[derive(Debug, Serialize)]
pub(super) struct Page<'a> {
    data: Vec<Entry<'a>>,
    has_more: bool,
    first_id: Option<&'a str>,
    last_id: Option<&'a str>,
}

#[derive(Debug, Serialize)]
pub(super) struct Entry<'a> {
    r#type: &'static str,
    id: &'a str,
    display_name: &'a str,
    created_at: String,
}

/// What a query asks for.
#[derive(Debug, PartialEq, Eq)]
struct PageQuery {
    limit: usize,
    after: Option<String>,
    before: Option<String>,
}

/// The page of `models` that `query` asks for.
pub(super) fn page<'a>(models: &[&'a Route], query: &str) -> Result<Page<'a>, Refusal> {
    let PageQuery { limit, after, before } = asked(query)?;
    let place = |id: &str| models.iter().position(|route| *route.model == *id);
    let unknown = || Refusal::invalid("`after_id` and `before_id` must be ids of this list");
    let (page, has_more) = match (after, before) {
        (Some(_), Some(_)) => {
            return Err(Refusal::invalid("`after_id` and `before_id` exclude each other"));
        }
        (None, Some(before)) => {
            let end = place(&before).ok_or_else(unknown)?;
            let begin = end.saturating_sub(limit);
            (&models[begin..end], begin > 0)
        }
        (after, None) => {
            let begin = match after {
                Some(after) => place(&after).ok_or_else(unknown)? + 1,
                None => 0,
            };
            let end = begin.saturating_add(limit).min(models.len());
            (&models[begin..end], end < models.len())
        }
    };
    let id = |route: Option<&&'a Route>| route.map(|route| &*route.model);
    let (first_id, last_id) = (id(page.first()), id(page.last()));
    Ok(Page { data: page.iter().copied().map(entry).collect(), has_more, first_id, last_id })
}

pub(super) fn entry(route: &Route) -> Entry<'_> {
    let created = jiff::Timestamp::from_second(route.created).unwrap_or_default();
    let (id, created_at) = (&*route.model, created.to_string());
    Entry { r#type: "model", id, display_name: id, created_at }
}

/// What is not one of the three is nobody's here.
fn asked(query: &str) -> Result<PageQuery, Refusal> {
    let mut asked = PageQuery { limit: PAGE, after: None, before: None };
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match name {
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
                let wanted = || Refusal::invalid("`limit` must be a number from 1 to 1000");
                asked.limit = limit.ok_or_else(wanted)?;
            }
            "after_id" => asked.after = Some(percent_decoded(value)),
            "before_id" => asked.before = Some(percent_decoded(value)),
            _ => {}
        }
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Secrets};
    use crate::route::Routes;

    #[test]
    fn pages_are_as_they_are_asked_for() {
        let config = "[[upstream]]\nname = \"u\"\nbase_url = \"http://h\"\n\
                      models = [\"a\", \"b/1\", \"c\", \"d\"]";
        let config = Config::from_toml(config, Secrets::Optional).expect("it is valid");
        let routes = Routes::new(&config);
        let models: Vec<&Route> = routes.list(None).collect();
        let cases = [
            ("", Ok(("a b/1 c d", false))),
            ("limit=1000", Ok(("a b/1 c d", false))),
            ("limit=2", Ok(("a b/1", true))),
            ("limit=2&after_id=b%2F1", Ok(("c d", false))),
            ("after_id=d", Ok(("", false))),
            ("before_id=c&limit=1", Ok(("b/1", true))),
            ("before_id=c", Ok(("a b/1", false))),
            ("x&y=1&limit=4", Ok(("a b/1 c d", false))),
            ("limit=0", Err(())),
            ("limit=1001", Err(())),
            ("limit=-1", Err(())),
            ("after_id=none", Err(())),
            ("after_id=a&before_id=b", Err(())),
        ];
        for (query, expected) in cases {
            let page = page(&models, query).map_err(|refusal| assert_eq!(refusal.status, 400));
            let page = page.map(|page| {
                let ids: Vec<&str> = page.data.iter().map(|entry| entry.id).collect();
                assert_eq!(
                    (page.first_id, page.last_id),
                    (ids.first().copied(), ids.last().copied())
                );
                (ids.join(" "), page.has_more)
            });
            assert_eq!(page, expected.map(|(ids, more)| (ids.to_owned(), more)), "{query}");
        }
    }
}
