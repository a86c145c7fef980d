//! The fields that operators refuse: they would move a request to another model, server or account than
//! the one that was checked. Which ones do depends on the upstream, and which upstream it will be is
//! known only when the whole body has been read; so a body is asked for the fields of all lists, and
//! what was found is compared afterwards with the list of its upstream.

use super::name::KEY_MAX;

/// All names in all lists, and which upstream refuses which.
#[derive(Clone, Debug)]
pub(crate) struct RefusableFields {
    /// By length.
    exact: Vec<(Box<str>, Seen)>,
    /// For each length where in `exact` its names begin.
    starts: [u16; KEY_MAX + 2],
    /// For each length the letters with which its names begin, a bit for each: few keys are compared.
    letters: [u32; KEY_MAX + 2],
    /// What a name may begin with, by the first letter; in the lists they end in `*`.
    beginnings: Vec<(Box<str>, Seen)>,
    /// For each letter where in `beginnings` its names begin.
    by_letter: [u16; LETTERS + 1],
    /// By the upstreams' order.
    lists: Vec<Seen>,
}

/// What the operator of an upstream does not let pass. The messages are public.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAllowed {
    /// A query that says what the body says; nobody can allow that.
    #[error("`{0}` decides about a request, and stands in its body, not in the query")]
    InQuery(&'static str),
    /// The name as it stands in the operator's list.
    #[error("The field `{0}` is not allowed by the operator of this gateway")]
    Field(String),
    #[error(
        "`background` is not allowed by the operator of this gateway: an answer that is made in the \
         background cannot be fetched through it"
    )]
    Background,
}

/// Names that fit into all lists together.
pub(crate) const NAMES_MAX: usize = 512;

/// First characters that are told apart; those that are no letters share places with some.
const LETTERS: usize = 32;

/// Names out of the lists, a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen([u128; NAMES_MAX / 128]);

/// Nothing is refused.
#[cfg(test)]
pub(crate) static NOTHING: RefusableFields = RefusableFields {
    exact: Vec::new(),
    starts: [0; KEY_MAX + 2],
    letters: [0; KEY_MAX + 2],
    beginnings: Vec::new(),
    by_letter: [0; LETTERS + 1],
    lists: Vec::new(),
};

impl Seen {
    pub(super) fn add(&mut self, other: Self) {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word |= other;
        }
    }

    fn has_any(self, other: Self) -> bool {
        self.0.iter().zip(other.0).any(|(word, other)| word & other != 0)
    }

    fn both(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] & other.0[at]))
    }
}

impl RefusableFields {
    /// The configuration has seen to it that there are no more than [`NAMES_MAX`], none longer
    /// than [`KEY_MAX`], all in lower case.
    pub(crate) fn new<'a>(lists: impl IntoIterator<Item = &'a [String]>) -> Self {
        let mut names: Vec<&str> = Vec::new();
        let mut masks = Vec::new();
        for list in lists {
            let mut mask = Seen::default();
            for name in list {
                let known = names.iter().position(|known| known == name);
                let place = known.unwrap_or_else(|| {
                    names.push(name);
                    names.len() - 1
                });
                mask.add(bit(place));
            }
            masks.push(mask);
        }
        let (mut exact, mut beginnings) =
            (Vec::<(Box<str>, Seen)>::new(), Vec::<(Box<str>, Seen)>::new());
        for (place, name) in names.into_iter().enumerate() {
            match name.strip_suffix('*') {
                Some(beginning) => beginnings.push((beginning.into(), bit(place))),
                None => exact.push((Box::from(name), bit(place))),
            }
        }
        exact.sort_by_key(|(name, _)| name.len());
        beginnings.sort_by_key(|(name, _)| letter(name.as_bytes()));
        let count = |is_before: &dyn Fn(&[u8]) -> bool, names: &[(Box<str>, Seen)]| {
            names.iter().filter(|(name, _)| is_before(name.as_bytes())).count() as u16
        };
        let starts = std::array::from_fn(|length| count(&|name| name.len() < length, &exact));
        let by_letter = std::array::from_fn(|at| count(&|name| letter(name) < at, &beginnings));
        let mut letters = [0; KEY_MAX + 2];
        for (name, _) in &exact {
            if let Some(letters) = letters.get_mut(name.len()) {
                *letters |= 1 << letter(name.as_bytes());
            }
        }
        Self { exact, starts, letters, beginnings, by_letter, lists: masks }
    }

    /// Adds what a key is in the lists to what was seen; it is in lower case.
    #[inline]
    pub(super) fn find(&self, key: &[u8], seen: &mut Seen) {
        let letter = letter(key);
        if self.letters.get(key.len()).is_some_and(|letters| letters >> letter & 1 != 0) {
            let (from, to) = (self.starts[key.len()], self.starts[key.len() + 1]);
            for (name, bit) in &self.exact[usize::from(from)..usize::from(to)] {
                if name.as_bytes() == key {
                    seen.add(*bit);
                }
            }
        }
        let (from, to) = (self.by_letter[letter], self.by_letter[letter + 1]);
        for (beginning, bit) in &self.beginnings[usize::from(from)..usize::from(to)] {
            if begins(key, beginning.as_bytes()) {
                seen.add(*bit);
            }
        }
    }

    /// The same for a key of a form or a query, however it is written.
    pub(crate) fn find_spelt(&self, key: &str) -> Seen {
        let name = key.split('[').next().unwrap_or_default().trim();
        let mut seen = Seen::default();
        self.find(super::key_spelling::fold(name).as_bytes(), &mut seen);
        seen
    }

    /// A name among those that were seen which the upstream of this index refuses, as it stands in its list.
    pub(crate) fn refused(&self, upstream: usize, seen: Seen) -> Option<String> {
        let refused = self.lists.get(upstream).filter(|list| list.has_any(seen))?.both(seen);
        let has = |bit: &Seen| bit.has_any(refused);
        let exact = self.exact.iter().find(|(_, bit)| has(bit)).map(|(name, _)| name.to_string());
        let beginning = || self.beginnings.iter().find(|(_, bit)| has(bit));
        exact.or_else(|| beginning().map(|(name, _)| format!("{name}*")))
    }
}

/// As `starts_with`, the last byte first: of most beginnings it is an underscore, which most keys have elsewhere.
#[inline]
fn begins(key: &[u8], beginning: &[u8]) -> bool {
    let is_there = |last: &u8| key.get(beginning.len() - 1) == Some(last);
    beginning.last().is_none_or(is_there) && key.starts_with(beginning)
}

/// The place of a key's first letter.
fn letter(key: &[u8]) -> usize {
    key.first().map_or(0, |first| usize::from(first & 31))
}

/// Of the name at this place.
fn bit(place: usize) -> Seen {
    let mut seen = Seen::default();
    if let Some(word) = seen.0.get_mut(place / 128) {
        *word = 1 << (place % 128);
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Secrets};

    /// Of each family of LiteLLM's own parameters (`litellm.types.utils.all_litellm_params`), and of what other
    /// servers read besides the APIs' fields.
    const DECIDING: &str = "\
        additional_drop_params drop_params allowed_openai_params timeout request_timeout stream_timeout \
        stream_timeout_by_service_tier timeout_by_service_tier force_timeout num_retries max_retries \
        retry_policy headers extra_headers provider_specific_header region_name s3_bucket_name \
        s3_endpoint_url aws_batch_role_arn azure azure_password input_cost_per_token \
        output_cost_per_image_1024 cache_creation_input_token_cost_above_200k_tokens_batches \
        cache_read_input_token_cost tiered_pricing tags guardrails silent_model base_model model_info \
        model_alias_map rpm tpm itpm cache caching no-log mock_response mock_timeout api_base \
        fallbacks fallback_depth auto_router_default_model complexity_router_config ssl_verify \
        anthropic_identity_token_file anthropic_issuer_url openai_service_account_id langfuse_host \
        langsmith_base_url dd_api_key posthog_api_url proxy_server_request litellm_metadata \
        _websearch_interception_stream_options _router_weights session_params lora lora_path \
        lora_request bootstrap_host custom_logit_processor rid id_slot draft_model priority \
        mm_processor_kwargs kv_transfer_params data_sources deferred width Height steps resolution \
        aspect_ratio image_size url file_url";
    /// Fields of the APIs, the likest to those above among them.
    const HONEST: &str = "\
        model messages prompt input stream stream_options max_tokens max_completion_tokens \
        max_output_tokens n temperature top_p stop seed user metadata store tools tool_choice \
        parallel_tool_calls response_format reasoning reasoning_effort prediction modalities audio \
        service_tier logprobs top_logprobs logit_bias verbosity web_search_options prompt_cache_key \
        prompt_cache_retention prompt_cache_options safety_identifier cache_control cache_salt \
        instructions include previous_response_id conversation context_management truncation text \
        max_tool_calls background system thinking stop_sequences top_k container mcp_servers \
        output_config output_format anthropic_version anthropic_beta size quality image mask \
        dimensions encoding_format file language voice speed timestamp_granularities id \
        moderation partial_images input_fidelity output_compression input_type chat_template_kwargs \
        min_p repetition_penalty guided_json";

    #[test]
    fn each_upstream_refuses_what_its_list_says() {
        let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        // Places in every word of a set.
        let many = Vec::from_iter((0..NAMES_MAX - 5).map(|n| format!("x{n}")));
        let lists = [
            list(&["models", "mock_*", "route"]),
            [list(&["route", "x", "_*"]), many].concat(),
            list(&[]),
        ];
        let refusable = RefusableFields::new(lists.iter().map(Vec::as_slice));
        for (key, refused) in [
            ("models", [Some("models"), None, None]),
            ("Model\u{17f}[]", [Some("models"), None, None]),
            ("mock_anything", [Some("mock_*"), None, None]),
            ("route", [Some("route"), Some("route"), None]),
            ("x", [None, Some("x"), None]),
            ("x1", [None, Some("x1"), None]),
            ("x506", [None, Some("x506"), None]),
            ("x507", [None; 3]),
            ("_x", [None, Some("_*"), None]),
            ("", [None; 3]),
            ("model", [None; 3]),
            ("a_name_that_is_longer_than_any_that_stands_in_a_list", [None; 3]),
        ] {
            let seen = refusable.find_spelt(key);
            for (upstream, refused) in refused.into_iter().enumerate() {
                assert_eq!(refusable.refused(upstream, seen).as_deref(), refused, "{key}");
            }
        }
    }

    /// Each name of the list as it is, in other letters, and with one character more or less.
    #[test]
    fn the_table_finds_what_a_walk_over_the_list_finds() {
        let config = Config::from_toml("", Secrets::Optional).expect("the defaults");
        let list = &config.upstreams[0].refuse_fields;
        let refusable = RefusableFields::new([&**list]);
        let stands_there = |key: &str| {
            list.iter().any(|name| match name.strip_suffix('*') {
                Some(beginning) => key.starts_with(beginning),
                None => key == name,
            })
        };
        for name in list {
            let bare = name.trim_end_matches('*');
            let less = &bare[..bare.len() - 1];
            for key in [bare.to_owned(), format!("{bare}x"), format!("{bare}_"), less.to_owned()] {
                let expected = stands_there(&key);
                assert!(expected || key != bare, "{key} stands in the list");
                let odd = key.replace('s', "\u{17f}").replace('k', "\u{212a}");
                for spelt in [&key, &key.to_ascii_uppercase(), &odd] {
                    let found = refusable.refused(0, refusable.find_spelt(spelt)).is_some();
                    assert_eq!(found, expected, "{spelt}");
                }
            }
        }
    }

    #[test]
    fn what_decides_elsewhere_is_refused_and_what_the_apis_have_is_not() {
        let config = Config::from_toml("", Secrets::Optional).expect("the defaults");
        let refusable = RefusableFields::new([&*config.upstreams[0].refuse_fields]);
        let refused = |key: &str| refusable.refused(0, refusable.find_spelt(key));
        for key in DECIDING.split_whitespace() {
            assert!(refused(key).is_some(), "{key}");
        }
        for key in HONEST.split_whitespace() {
            assert_eq!(refused(key), None, "{key}");
        }
    }
}
