//! A quota of cost where models have no price. Each request for one of them is refused, which nobody expects who
//! has just set a limit in dollars: it is told where that is done.

use crate::config::{Config, Unpriced};
use crate::tenancy::Limits;

use super::output::note;

/// Says which of the models that a quota of cost holds have no price now. `models`: those of a key, if not all.
pub(crate) fn note_unpriced(
    limits: &Limits,
    models: Option<&[String]>,
    config: &Config,
    now_ms: i64,
) {
    if let Some(said) = unpriced(limits, models, config, now_ms) {
        note(&said);
    }
}

fn unpriced(
    limits: &Limits,
    models: Option<&[String]>,
    config: &Config,
    now_ms: i64,
) -> Option<String> {
    if !limits.has_cost_quota() || config.limits.unpriced == Unpriced::Flag {
        return None;
    }
    let served = config.upstreams.iter().flat_map(|upstream| &upstream.models);
    let is_allowed = |name: &String| models.is_none_or(|models| models.contains(name));
    let has_price = |name: &String| config.prices.of(name).at(now_ms).is_some();
    let named = served.map(|model| &model.name);
    let unpriced: Vec<_> = named.filter(|name| is_allowed(name) && !has_price(name)).collect();
    let names: Vec<_> = unpriced.iter().map(|name| format!("`{name}`")).collect();
    (!names.is_empty()).then(|| {
        format!(
            "a quota of cost holds, and no price is configured for {}: requests for what has none are refused \
             (400 model_unpriced) until a [[price]] does, or limits.unpriced = \"flag\" lets them pass uncounted",
            names.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secrets;

    #[test]
    fn models_without_a_price_are_named_where_a_quota_of_cost_holds() {
        let text = |more: &str| {
            format!(
                "{more}\n[[upstream]]\nname = \"lab\"\nbase_url = \"http://127.0.0.1:9/v1\"\n\
                 models = [\"a\", \"b\", \"c\"]\n[[price]]\nmodel = \"a\"\ninput = 1\noutput = 1\n"
            )
        };
        let cost = Limits { daily_nano_usd: Some(5), ..Limits::default() };
        let tokens = Limits { daily_tokens: Some(5), ..Limits::default() };
        for (limits, models, more, expected) in [
            (&cost, None, "", Some("for `b`, `c`:")),
            (&cost, Some(["a", "c"]), "", Some("for `c`:")),
            (&cost, Some(["a", "elsewhere"]), "", None),
            (&cost, None, "limits.unpriced = \"flag\"", None),
            (&tokens, None, "", None),
        ] {
            let config = Config::from_toml(&text(more), Secrets::Optional).expect("it is valid");
            let models = models.map(|names| names.map(str::to_owned));
            let said = unpriced(limits, models.as_ref().map(|names| &names[..]), &config, 1);
            assert_eq!(said.is_some(), expected.is_some(), "{said:?}");
            assert!(said.is_none_or(|said| said.contains(expected.unwrap_or_default())));
        }
    }
}
