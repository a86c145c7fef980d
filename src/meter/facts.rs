//! What one document said, in the few words that the tally and the hiding need.

use super::keys::Word;

/// Choices of one document that are told apart.
pub(super) const CHOICES_LIMIT: usize = 128;

/// Where a usage object was found, in the order in which they are considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// `svg_usage` of the images API: what writing an SVG took, which `usage` does not include.
    Svg,
    /// `tool_usage.image_gen` of the Responses API: what its pictures took, likewise.
    ImageTool,
    /// `timings`: llama.cpp, which counts there where nobody asked for usage.
    Timings,
    /// `usageMetadata`: Gemini's own.
    Metadata,
    /// `x_groq.usage`
    Groq,
    /// `message.usage`: Anthropic's `message_start`.
    Message,
    /// `response.usage`: the Responses API.
    Response,
    /// `choices[].usage`, by the choice's place in the list: Moonshot.
    Choice(usize),
    /// `usage`
    Top,
}

impl Slot {
    /// All but those of choices.
    pub(super) const ALONE: usize = 8;
    pub(super) const TURNS: usize = Self::ALONE + 1;

    /// The later, the more it counts.
    pub(super) fn turn(self) -> usize {
        match self {
            Self::Svg => 0,
            Self::ImageTool => 1,
            Self::Timings => 2,
            Self::Metadata => 3,
            Self::Groq => 4,
            Self::Message => 5,
            Self::Response => 6,
            Self::Choice(_) => 7,
            Self::Top => 8,
        }
    }

    /// It comes on top of what else is stated.
    pub(super) fn is_apart(self) -> bool {
        matches!(self, Self::Svg | Self::ImageTool)
    }
}

/// Numbers at the top of a document that stand for a usage object where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loose {
    /// Ollama's own words.
    PromptEvalCount,
    EvalCount,
    /// Of a transcription's audio.
    Duration,
}

/// What may be an error, if the document says nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Signs {
    pub(super) code: bool,
    pub(super) message: bool,
    pub(super) detail: bool,
    /// Its status is that of a failure.
    pub(super) failed: bool,
}

/// What stands at a key that should hold a certain kind of value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Member {
    #[default]
    Absent,
    Null,
    /// An object for `usage`, an array for `choices`.
    Proper,
    /// Something else, or the key stands there more than once.
    Odd,
}

/// What one document said.
#[derive(Debug, Default)]
pub(super) struct DocumentFacts {
    pub(super) usage: Member,
    /// Offset in the stream of the top-level key `usage`.
    pub(super) usage_key_at: u64,
    /// Offset in the stream just after the object that is its value.
    pub(super) usage_end_at: u64,
    pub(super) choices: Member,
    /// The first [`CHOICES_LIMIT`] elements of `choices`.
    pub(super) choice: Vec<Choice>,
    pub(super) more_choices: bool,
    /// Content-filter or moderation results: worth an event of their own.
    pub(super) moderation: bool,
    pub(super) error: bool,
    pub(super) signs: Signs,
    /// A member stands there in which an API gives its answers, whatever is in it.
    pub(super) shell: bool,
    /// There is something in it.
    pub(super) answered: bool,
    /// Something stands at the top that is neither usage nor what stands around every answer.
    pub(super) extra: bool,
    pub(super) loose: [Option<u64>; 3],
    /// A duration stands there that cannot be one.
    pub(super) is_duration_odd: bool,
    /// Its status is one that an answer has before it is made.
    pub(super) pending: bool,
    /// A reason stands there why the answer, or a choice, has ended.
    pub(super) finished: bool,
    pub(super) images: u32,
    /// An address stands at its top.
    pub(super) is_linked: bool,
    /// The images stand where the images API puts them, which answers nothing else.
    pub(super) images_api: bool,
    pub(super) kind: Word,
}

/// One element of `choices`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    pub(super) index: u64,
    pub(super) finished: bool,
    /// It says nothing: no delta, or one without anything in it.
    pub(super) empty: bool,
}

impl DocumentFacts {
    /// It gives no answer, and speaks of an error in words that stand for other things, too.
    pub(super) fn speaks_of_error(&self) -> bool {
        let Signs { code, message, detail, failed } = self.signs;
        let speaks = detail || failed || (code && message);
        speaks && !self.answered && !self.shell && self.usage == Member::Absent
    }

    /// It is a message and no more, such as a proxy's `{"message":"Unauthorized"}`.
    pub(super) fn is_message(&self) -> bool {
        self.signs.message && !self.extra && self.kind.bytes().is_empty()
    }

    /// There is no choice, and the API is one that has them.
    pub(super) fn has_no_choice(&self) -> bool {
        self.may_be_usage_only() && self.choice.is_empty()
    }

    /// Nothing stands there but choices, an envelope, and what has a rule of its own. What has a `type`
    /// belongs to an API that has no choices.
    pub(super) fn may_be_usage_only(&self) -> bool {
        let is_chat = match self.choices {
            Member::Proper | Member::Null => true,
            Member::Absent => !self.extra,
            Member::Odd => false,
        };
        is_chat && self.kind.bytes().is_empty()
    }
}

impl Member {
    /// What stands at a key of which `found` is one more value.
    pub(super) fn and(self, found: Self) -> Self {
        if self == Self::Absent { found } else { Self::Odd }
    }
}
