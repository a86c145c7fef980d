//! What one document said, in the few words that the tally and the hiding need.

use super::keys::Word;

/// Choices of one document that are told apart.
pub(super) const CHOICES_LIMIT: usize = 128;

/// Where a usage object was found, in the order in which they are considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// `svg_usage` of the images API: what writing an SVG took, which `usage` does not include.
    Svg,
    /// `x_groq.usage`
    Groq,
    /// `message.usage`: Anthropic's `message_start`.
    Message,
    /// `response.usage`: the Responses API.
    Response,
    /// `usage`
    Top,
}

impl Slot {
    pub(super) const ALL: [Self; 5] =
        [Self::Svg, Self::Groq, Self::Message, Self::Response, Self::Top];
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
pub(super) struct Facts {
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
    pub(super) remarks: bool,
    pub(super) error: bool,
    /// Its status is one that an answer has before it is made.
    pub(super) pending: bool,
    pub(super) images: u32,
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

impl Member {
    /// What stands at a key of which `found` is one more value.
    pub(super) fn and(self, found: Self) -> Self {
        if self == Self::Absent { found } else { Self::Odd }
    }
}
