//! What the fields of a request's body mean, by the API they belong to.

use super::checked_fields::Role;
use super::name::Name;

/// Whose fields decide about limits. A field that another API has is none of this one's: were it
/// believed, a request could reserve by it less than it may use. It may still raise what is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    Chat,
    /// The older text completions.
    Completions,
    Responses,
    /// Anthropic's.
    Messages,
    Images,
    /// Text that is read out.
    Speech,
    /// What was heard, in words.
    Transcripts,
    /// An answer whose length no field decides: embeddings, moderations.
    Other,
}

/// What decides everywhere.
const ALL: u64 = Name::Model.bit() | Name::Stream.bit();
/// What decides about an answer in words.
const WORDS: u64 = {
    let elsewhere =
        Name::StreamOptions.bit() | Name::IncludeUsage.bit() | Name::ContinuousUsageStats.bit();
    let (mut bits, mut at) = (0, 0);
    while at < Name::DECISIVE.len() {
        bits |= Name::DECISIVE[at].bit();
        at += 1;
    }
    bits & !elsewhere
};

/// What says how many answers are made.
const ANSWERS: u64 = Name::N.bit()
    | Name::BestOf.bit()
    | Name::NCmpl.bit()
    | Name::NumReturnSequences.bit()
    | Name::NumImages.bit()
    | Name::BatchSize.bit();

/// What bounds an answer in some server's words.
const BOUNDS: u64 = Name::MaxTokens.bit()
    | Name::MaxCompletionTokens.bit()
    | Name::MaxOutputTokens.bit()
    | Name::MaxNewTokens.bit()
    | Name::MaxTokensToSample.bit()
    | Name::NPredict.bit()
    | Name::NumPredict.bit()
    | Name::MinTokens.bit()
    | Name::MinNewTokens.bit();

impl Api {
    /// The fields of the root that are looked at, a bit for each.
    pub(super) fn fields(self) -> u64 {
        match self {
            Self::Chat | Self::Completions => WORDS | Name::StreamOptions.bit(),
            Self::Responses | Self::Messages => WORDS,
            Self::Images => ALL | ANSWERS,
            Self::Transcripts => ALL | BOUNDS,
            Self::Speech | Self::Other => ALL,
        }
    }

    /// Whether it is this API's own, so that its upstreams obey it: a bound, or a number of answers.
    pub(super) fn has(self, name: Name) -> bool {
        match name {
            Name::MaxTokens => {
                matches!(self, Self::Chat | Self::Completions | Self::Messages)
            }
            Name::MaxCompletionTokens => self == Self::Chat,
            Name::MaxOutputTokens => self == Self::Responses,
            Name::N => matches!(self, Self::Chat | Self::Completions | Self::Images),
            name => name.role() != Role::Tokens && name.role() != Role::Answers,
        }
    }

    /// Whether each prompt of a list has an answer.
    pub(super) fn answers_each(self) -> bool {
        self == Self::Completions
    }

    /// The field that bounds an answer, and is added to a request that has to be held to a bound;
    /// `None`: no answer of this API can be.
    pub(super) fn bound(self) -> Option<Name> {
        match self {
            Self::Chat => Some(Name::MaxCompletionTokens),
            Self::Completions | Self::Messages => Some(Name::MaxTokens),
            Self::Responses => Some(Name::MaxOutputTokens),
            Self::Images | Self::Speech | Self::Transcripts | Self::Other => None,
        }
    }
}
