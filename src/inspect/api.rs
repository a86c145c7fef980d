//! What the fields of a request's body mean, by the API they belong to.

use super::name::Name;

/// Whose fields decide about limits. A field that another API has is none of this one's: were it
/// believed, a request could reserve by it less than it may use.
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
    /// An answer whose length no field decides: embeddings, moderations, transcripts.
    Other,
}

impl Api {
    /// The fields of the root that decide, a bit for each.
    pub(super) fn fields(self) -> u16 {
        let own: &[Name] = match self {
            Self::Chat => {
                &[Name::StreamOptions, Name::MaxTokens, Name::MaxCompletionTokens, Name::N]
            }
            Self::Completions => &[Name::StreamOptions, Name::MaxTokens, Name::N, Name::BestOf],
            Self::Responses => &[Name::MaxOutputTokens],
            Self::Messages => &[Name::MaxTokens],
            Self::Images => &[Name::N],
            Self::Speech | Self::Other => &[],
        };
        let all = own.iter().chain(&[Name::Model, Name::Stream]);
        all.fold(0, |bits, name| bits | name.bit())
    }

    /// The field that bounds an answer, and is added to a request that has to be held to a bound;
    /// `None`: no answer of this API can be.
    pub(super) fn bound(self) -> Option<Name> {
        match self {
            Self::Chat => Some(Name::MaxCompletionTokens),
            Self::Completions | Self::Messages => Some(Name::MaxTokens),
            Self::Responses => Some(Name::MaxOutputTokens),
            Self::Images | Self::Speech | Self::Other => None,
        }
    }
}
