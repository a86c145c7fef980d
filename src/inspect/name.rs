//! The keys that mean something to us.

use super::spelling::{decode, fold, is_plain};

/// Bytes of the longest key that means something: to us, or to an operator who refuses it.
pub(crate) const KEY_MAX: usize = 40;
/// Raw bytes of a key that are kept: the longest we look for, with each letter written `\uXXXX`.
pub(super) const KEPT: usize = 6 * KEY_MAX;

/// What a key means. Those up to [`Name::ContinuousUsageStats`] decide: `decisive.rs` says which and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Name {
    Model,
    Stream,
    StreamOptions,
    Background,
    ServiceTier,
    UseBeamSearch,
    Options,
    MaxTokens,
    MaxCompletionTokens,
    MaxOutputTokens,
    MaxNewTokens,
    MaxTokensToSample,
    NPredict,
    NumPredict,
    MinTokens,
    MinNewTokens,
    N,
    BestOf,
    NCmpl,
    NumReturnSequences,
    NumImages,
    BatchSize,
    IncludeUsage,
    ContinuousUsageStats,
    /// A field of the root whose strings reach the model.
    Prompt,
    /// The same; several items are several prompts.
    Input,
    /// A field of the root in which only words reach the model.
    Words,
    /// Words, even if they begin with `data:`.
    Text,
    /// An image's bytes: the API documents' part, and their answers sent back as history.
    Image,
    ImageUrl,
    Url,
    /// Where Anthropic's parts have their bytes or their address.
    Source,
    FileData,
    InputAudio,
    Data,
    /// What a picture is to be, in the root.
    Size,
    Quality,
    Type,
    // From here to `Schema`: for ids that name what others may have made ([`Ids`](super::ids::Ids)).
    Id,
    PreviousResponseId,
    Conversation,
    Container,
    ContainerId,
    FileId,
    SkillId,
    VectorStoreIds,
    Store,
    // Set apart by tenant.
    PromptCacheKey,
    CacheSalt,
    User,
    SafetyIdentifier,
    /// Below it any word may stand, where it is one of a tool or of an answer's form.
    Schema,
    /// The same, in the root.
    Metadata,
    /// The same, of a tool's call.
    Arguments,
    #[default]
    Other,
}

impl Name {
    /// Whether the strings of a root field with this name are looked at.
    #[inline]
    pub(super) fn is_read(self) -> bool {
        use Name::{Image, Input, Prompt, Quality, Size, Text, Words};
        matches!(self, Prompt | Input | Words | Text | Image | Size | Quality)
    }

    /// Whether files and pictures may stand in a root field with this name.
    pub(super) fn takes_media(self) -> bool {
        matches!(self, Self::Prompt | Self::Input | Self::Image)
    }

    /// Whether it decides, somewhere.
    #[inline]
    pub(super) fn decides(self) -> bool {
        self as u8 <= Self::ContinuousUsageStats as u8
    }

    /// Whether ids are looked for in its value.
    #[inline]
    pub(super) fn is_watched(self) -> bool {
        (Self::Id as u16..Self::Schema as u16).contains(&(self as u16))
    }

    /// The key, if its value goes upstream as another for each tenant.
    pub(super) fn set_apart(self) -> Option<&'static str> {
        Some(match self {
            Self::PromptCacheKey => "prompt_cache_key",
            Self::CacheSalt => "cache_salt",
            Self::User => "user",
            Self::SafetyIdentifier => "safety_identifier",
            _ => return None,
        })
    }

    /// A set with this name only.
    pub(super) const fn bit(self) -> u64 {
        1 << self as u64
    }

    /// What a raw key means, escapes undone: `"mod\u0065l"` is `model` to every JSON parser.
    pub(super) fn of_raw(raw: &[u8]) -> Self {
        match Self::of(raw) {
            // No key of ours has a backslash, a capital or a letter beyond ASCII.
            Self::Other if raw.len() <= KEPT && !is_plain(raw) => {
                decode(raw).map_or(Self::Other, |key| Self::of_text(&key))
            }
            name => name,
        }
    }

    /// Ids are looked for under any spelling that some server takes for the name.
    fn of_text(key: &str) -> Self {
        match (Self::of(key.as_bytes()), Self::of(fold(key).as_bytes())) {
            (Self::Other, folded) if folded.is_watched() => folded,
            (name, _) => name,
        }
    }

    pub(super) fn of(key: &[u8]) -> Self {
        match key {
            b"model" => Self::Model,
            b"stream" => Self::Stream,
            b"stream_options" => Self::StreamOptions,
            b"background" => Self::Background,
            b"service_tier" => Self::ServiceTier,
            b"use_beam_search" => Self::UseBeamSearch,
            b"options" => Self::Options,
            b"max_tokens" => Self::MaxTokens,
            b"max_completion_tokens" => Self::MaxCompletionTokens,
            b"max_output_tokens" => Self::MaxOutputTokens,
            b"max_new_tokens" => Self::MaxNewTokens,
            b"max_tokens_to_sample" => Self::MaxTokensToSample,
            b"n_predict" => Self::NPredict,
            b"num_predict" => Self::NumPredict,
            b"min_tokens" => Self::MinTokens,
            b"min_new_tokens" => Self::MinNewTokens,
            b"n" => Self::N,
            b"best_of" => Self::BestOf,
            b"n_cmpl" => Self::NCmpl,
            b"num_return_sequences" => Self::NumReturnSequences,
            b"num_images" => Self::NumImages,
            b"batch_size" => Self::BatchSize,
            b"include_usage" => Self::IncludeUsage,
            b"continuous_usage_stats" => Self::ContinuousUsageStats,
            b"prompt" | b"prompt_embeds" | b"input" => Self::Input,
            b"messages" | b"images" => Self::Prompt,
            b"suffix" | b"instructions" | b"system" | b"tools" | b"functions"
            | b"response_format" | b"prediction" | b"documents" => Self::Words,
            b"content" | b"text" => Self::Text,
            b"image" | b"image_base64" | b"b64_json" => Self::Image,
            b"image_url" => Self::ImageUrl,
            b"url" => Self::Url,
            b"source" => Self::Source,
            b"file_data" => Self::FileData,
            b"input_audio" => Self::InputAudio,
            b"data" => Self::Data,
            b"size" => Self::Size,
            b"quality" => Self::Quality,
            b"arguments" => Self::Arguments,
            _ => Self::watched(key),
        }
    }

    /// By length first: most keys are none of these.
    fn watched(key: &[u8]) -> Self {
        let first = |names: &[(&[u8], Self)]| {
            let found = names.iter().find(|(known, _)| key == *known);
            found.map_or(Self::Other, |(_, name)| *name)
        };
        let watched: Self = match key.len() {
            2 => first(&[(b"id", Self::Id)]),
            4 => first(&[(b"type", Self::Type), (b"user", Self::User)]),
            5 => first(&[(b"store", Self::Store)]),
            7 => first(&[(b"file_id", Self::FileId)]),
            8 => first(&[(b"file_ids", Self::FileId), (b"skill_id", Self::SkillId)]),
            9 => first(&[(b"container", Self::Container)]),
            10 => first(&[(b"cache_salt", Self::CacheSalt)]),
            12 => first(&[
                (b"conversation", Self::Conversation),
                (b"container_id", Self::ContainerId),
            ]),
            16 => first(&[
                (b"vector_store_ids", Self::VectorStoreIds),
                (b"prompt_cache_key", Self::PromptCacheKey),
            ]),
            17 => first(&[(b"safety_identifier", Self::SafetyIdentifier)]),
            20 => first(&[(b"previous_response_id", Self::PreviousResponseId)]),
            _ => Self::Other,
        };
        match (watched, key) {
            (Self::Other, b"parameters" | b"schema" | b"input_schema") => Self::Schema,
            (Self::Other, b"input_examples") => Self::Schema,
            (Self::Other, b"metadata") => Self::Metadata,
            _ => watched,
        }
    }
}

/// What stands for a key that is too long: no name is empty.
const TOO_LONG: &[u8] = b"";

/// A key as it comes in: raw, in pieces.
#[derive(Debug)]
pub(super) struct Key {
    bytes: [u8; KEPT],
    /// May be more than is kept; such a key is none of ours.
    length: usize,
}

impl Default for Key {
    fn default() -> Self {
        Self { bytes: [0; KEPT], length: 0 }
    }
}

impl Key {
    pub(super) fn clear(&mut self) {
        self.length = 0;
    }

    #[inline]
    pub(super) fn extend(&mut self, piece: &[u8]) {
        keep(&mut self.bytes, self.length, piece);
        self.length = self.length.saturating_add(piece.len());
    }

    /// The whole key, if it is no longer than what is kept; else it is none of ours, and nobody's.
    pub(super) fn raw(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(TOO_LONG)
    }
}

/// Copies the bytes of `piece`, which stand `at` so many, as far as `kept` has room for them.
#[inline]
pub(super) fn keep(kept: &mut [u8], at: usize, piece: &[u8]) {
    if let Some(room) = kept.get_mut(at..) {
        let fits = piece.len().min(room.len());
        room[..fits].copy_from_slice(&piece[..fits]);
    }
}
