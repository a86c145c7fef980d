//! How the chats of different servers differ, as a table: one row a server. The differences that matter to
//! a gateway are where usage stands, in which words, and what stands around the deltas.

/// The form of one server's chat stream.
#[derive(Debug)]
pub struct Dialect {
    pub(super) name: &'static str,
    /// What is its own, for `docs/simulator.md`.
    about: &'static str,
    /// Whole events that come before the first token, verbatim.
    pub(super) opening: &'static [&'static str],
    /// Chunks have `id`, `object`, `created` and `model`.
    pub(super) envelope: bool,
    /// What the envelope has besides, with its trailing comma.
    pub(super) envelope_extra: &'static str,
    /// Choices have `index`.
    pub(super) index: bool,
    pub(super) role: Role,
    /// What stands after the delta of an unfinished choice.
    pub(super) unfinished: &'static str,
    /// What stands before `"finish_reason"` in a finished one; `None`: there is no finish chunk.
    pub(super) finished: Option<&'static str>,
    /// A whole event between the last token and the finish chunk, verbatim; may be empty.
    pub(super) before_finish: &'static str,
    pub(super) final_usage: FinalUsage,
    /// `choices` of the chunk that carries the final usage.
    pub(super) usage_choices: &'static str,
    /// A quarter of what was said is reasoning, which `completion_tokens` leaves out and the total has.
    pub(super) reasons_beside: bool,
    /// The members of a usage object after the three sums, with their leading comma.
    pub(super) usage_extra: fn(Stated) -> String,
    pub(super) elsewhere: Elsewhere,
    /// Top-level members of the very last chunk, with their leading comma.
    pub(super) last_extra: &'static str,
    /// JSON printed over several lines as in the documents, which is not valid SSE.
    pub(super) pretty: bool,
}

/// What a usage object states, as far as its further members depend on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stated {
    pub prompt: u64,
    pub reasoning: u64,
    /// OpenAI's details are to be stated, where they are this server's.
    pub has_details: bool,
}

/// Where `"role":"assistant"` stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// In a chunk of its own before the tokens.
    Chunk,
    /// In every delta.
    Each,
    Absent,
}

/// When the final usage is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FinalUsage {
    /// In a chunk of its own, if `stream_options.include_usage` asks for it.
    IfAsked,
    /// In a chunk of its own, always.
    Always,
    /// In the finish chunk, always.
    InFinish,
    /// Within the choice that finishes, always.
    InChoice,
    Never,
}

/// What the other chunks say about usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Elsewhere {
    Absent,
    /// `"usage":null`, if usage was asked for.
    Null,
    /// What the choice of this chunk has used so far.
    Running,
}

const OPENAI: Dialect = Dialect {
    name: "openai",
    about: "OpenAI's: usage in a chunk of its own if it is asked for, `\"usage\":null` in the others",
    opening: &[],
    envelope: true,
    envelope_extra: r#""system_fingerprint":"fp_weir_simulator","#,
    index: true,
    role: Role::Chunk,
    unfinished: r#","logprobs":null,"finish_reason":null"#,
    finished: Some(r#","logprobs":null"#),
    before_finish: "",
    final_usage: FinalUsage::IfAsked,
    usage_choices: "[]",
    reasons_beside: false,
    usage_extra: details,
    elsewhere: Elsewhere::Null,
    last_extra: "",
    pretty: false,
};

const DOCUMENTS: Dialect = Dialect {
    name: "documents",
    about: "the API documents': deltas and `[DONE]`, nothing else",
    envelope: false,
    envelope_extra: "",
    index: false,
    role: Role::Absent,
    unfinished: "",
    finished: None,
    final_usage: FinalUsage::Never,
    elsewhere: Elsewhere::Absent,
    ..OPENAI
};

const PRETTY: Dialect = Dialect {
    name: "documents-pretty",
    about: "the same over several lines, as printed, which is no valid event stream",
    pretty: true,
    ..DOCUMENTS
};

const AZURE: Dialect = Dialect {
    name: "azure",
    about: "content filters in events of their own, before and after",
    opening: &[concat!(
        r#"data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":["#,
        r#"{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}]}"#,
        "\n\n"
    )],
    before_finish: concat!(
        r#"data: {"choices":[{"content_filter_offsets":{"check_offset":0,"start_offset":0,"end_offset":0},"#,
        r#""content_filter_results":{"hate":{"filtered":false,"severity":"safe"}},"finish_reason":null,"#,
        r#""index":0}],"created":0,"id":"","model":"","object":""}"#,
        "\n\n"
    ),
    ..OPENAI
};

const LITELLM: Dialect = Dialect {
    name: "litellm",
    about: "the usage chunk has a choice that says nothing, and a cost",
    envelope_extra: "",
    unfinished: "",
    finished: Some(""),
    usage_choices: r#"[{"index":0,"delta":{}}]"#,
    usage_extra: |stated| details(stated) + r#","cost":0.000145"#,
    elsewhere: Elsewhere::Absent,
    ..OPENAI
};

const OLLAMA: Dialect = Dialect {
    name: "ollama",
    about: "the role in every delta; the three sums only",
    envelope_extra: r#""system_fingerprint":"fp_ollama","#,
    role: Role::Each,
    unfinished: r#","finish_reason":null"#,
    finished: Some(""),
    usage_extra: |_| String::new(),
    elsewhere: Elsewhere::Absent,
    ..OPENAI
};

const VLLM: Dialect = Dialect {
    name: "vllm",
    about: "`\"prompt_tokens_details\":null`, and no null elsewhere",
    envelope_extra: "",
    finished: Some(r#","logprobs":null,"stop_reason":null"#),
    usage_extra: |_| r#","prompt_tokens_details":null"#.to_owned(),
    elsewhere: Elsewhere::Absent,
    ..OPENAI
};

const VLLM_CONTINUOUS: Dialect = Dialect {
    name: "vllm-continuous",
    about: "running usage in every chunk (`continuous_usage_stats`)",
    elsewhere: Elsewhere::Running,
    ..VLLM
};

const OPENROUTER: Dialect = Dialect {
    name: "openrouter",
    about: "comments before the first chunk; usage unasked, with what it cost",
    opening: &[": OPENROUTER PROCESSING\n\n", ": OPENROUTER PROCESSING\n\n"],
    envelope_extra: r#""provider":"Weir","#,
    final_usage: FinalUsage::Always,
    usage_extra: |stated| {
        details(stated) + r#","cost":0.00014,"cost_details":{"upstream_inference_cost":null}"#
    },
    elsewhere: Elsewhere::Absent,
    ..OPENAI
};

const LLAMACPP: Dialect = Dialect {
    name: "llamacpp",
    about: "`timings` in the last chunk",
    envelope_extra: r#""system_fingerprint":"b6543-weir","#,
    unfinished: r#","finish_reason":null"#,
    finished: Some(""),
    elsewhere: Elsewhere::Absent,
    last_extra: concat!(
        r#","timings":{"cache_n":0,"prompt_n":8,"prompt_ms":12.5,"predicted_n":12,"#,
        r#""predicted_ms":240.25,"predicted_per_second":49.9}"#
    ),
    ..OPENAI
};

/// Older `llama-server` versions, which put usage into the finish chunk unasked.
const LLAMACPP_OLD: Dialect = Dialect {
    name: "llamacpp-old",
    about: "the same with usage unasked, in the chunk that finishes",
    final_usage: FinalUsage::InFinish,
    ..LLAMACPP
};

/// <https://api-docs.deepseek.com/guides/kv_cache>
const DEEPSEEK: Dialect = Dialect {
    name: "deepseek",
    about: "comments before the first chunk; usage unasked, in the chunk that finishes, with hits and misses of the cache",
    opening: &[": keep-alive\n\n"],
    final_usage: FinalUsage::InFinish,
    usage_extra: |stated| {
        let prompt = stated.prompt;
        let cache = r#""prompt_cache_hit_tokens":0,"prompt_cache_miss_tokens""#;
        format!(r#","prompt_tokens_details":{{"cached_tokens":0}},{cache}:{prompt}"#)
    },
    elsewhere: Elsewhere::Absent,
    ..OPENAI
};

const MOONSHOT: Dialect = Dialect {
    name: "moonshot",
    about: "usage unasked, within the choice that finishes; `cached_tokens` beside the sums",
    envelope_extra: "",
    unfinished: r#","finish_reason":null"#,
    finished: Some(""),
    final_usage: FinalUsage::InChoice,
    usage_extra: |_| r#","cached_tokens":0"#.to_owned(),
    elsewhere: Elsewhere::Absent,
    ..OPENAI
};

const XAI: Dialect = Dialect {
    name: "xai",
    about: "a quarter of the answer is reasoning, stated beside `completion_tokens` and part of the total",
    reasons_beside: true,
    usage_extra: |stated| {
        let reasoning = stated.reasoning;
        format!(
            concat!(
                r#","prompt_tokens_details":{{"cached_tokens":0,"text_tokens":{}}},"#,
                r#""completion_tokens_details":{{"reasoning_tokens":{}}},"num_sources_used":0"#
            ),
            stated.prompt, reasoning
        )
    },
    elsewhere: Elsewhere::Absent,
    ..OPENAI
};

/// Its address for OpenAI's SDKs.
const GEMINI: Dialect = Dialect {
    name: "gemini",
    about: "running usage in every chunk; a quarter of the answer is reasoning, which only the total has",
    envelope_extra: "",
    role: Role::Each,
    unfinished: "",
    finished: Some(""),
    final_usage: FinalUsage::InFinish,
    reasons_beside: true,
    usage_extra: |_| String::new(),
    elsewhere: Elsewhere::Running,
    ..OPENAI
};

const MINIMAX: Dialect = Dialect {
    name: "minimax",
    about: "usage unasked, in the chunk that finishes, with `base_resp` beside it",
    envelope_extra: "",
    unfinished: "",
    finished: Some(""),
    final_usage: FinalUsage::InFinish,
    usage_extra: |_| r#","total_characters":0"#.to_owned(),
    elsewhere: Elsewhere::Absent,
    last_extra: concat!(
        r#","input_sensitive":false,"output_sensitive":false,"#,
        r#""base_resp":{"status_code":0,"status_msg":""}"#
    ),
    ..OPENAI
};

static TABLE: [Dialect; 16] = [
    OPENAI,
    DOCUMENTS,
    PRETTY,
    AZURE,
    LITELLM,
    OLLAMA,
    VLLM,
    VLLM_CONTINUOUS,
    OPENROUTER,
    LLAMACPP,
    LLAMACPP_OLD,
    DEEPSEEK,
    MOONSHOT,
    XAI,
    GEMINI,
    MINIMAX,
];

/// OpenAI's details of both sides.
fn details(stated: Stated) -> String {
    if !stated.has_details {
        return String::new();
    }
    concat!(
        r#","prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"#,
        r#""completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"#,
        r#""accepted_prediction_tokens":0,"rejected_prediction_tokens":0}"#
    )
    .to_owned()
}

impl Dialect {
    /// OpenAI's own.
    pub fn openai() -> &'static Self {
        &TABLE[0]
    }

    /// The API documents': deltas and `[DONE]`, nothing else.
    pub fn documents() -> &'static Self {
        &TABLE[1]
    }

    /// The row with this name, if there is one.
    pub fn named(name: &str) -> Option<&'static Self> {
        TABLE.iter().find(|row| row.name == name)
    }

    /// All names, as `--dialect` and `x-sim-dialect` take them.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TABLE.iter().map(|row| row.name)
    }

    /// The names, each with what is its own.
    pub fn described() -> impl Iterator<Item = (&'static str, &'static str)> {
        TABLE.iter().map(|row| (row.name, row.about))
    }

    /// The name of this row.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl std::fmt::Display for Dialect {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_finds_its_own_row_and_the_two_short_cuts_are_right() {
        let mut names: Vec<_> = Dialect::names().collect();
        for name in &names {
            assert_eq!(Dialect::named(name).map(Dialect::name), Some(*name));
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TABLE.len());
        assert_eq!(Dialect::openai().name, "openai");
        assert_eq!(Dialect::documents().name, "documents");
        assert!(Dialect::named("smoke signals").is_none());
    }
}
