//! The keys that mean something to us.

use super::key_spelling::{decode, fold, is_plain};

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

    /// Whether it says what a picture is to be.
    fn is_pictures(self) -> bool {
        matches!(self, Self::Size | Self::Quality)
    }

    /// The key, if its value goes upstream as another for each tenant.
    pub(super) fn tenant_hash(self) -> Option<&'static str> {
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
            (Self::Other, folded) if folded.is_watched() || folded.is_pictures() => folded,
            (name, _) => name,
        }
    }

    /// By length first: most keys are none of these, and one look tells.
    pub(super) fn of(key: &[u8]) -> Self {
        match key.len() {
            1 if key == b"n" => Self::N,
            2 if key == b"id" => Self::Id,
            3 if key == b"url" => Self::Url,
            4 => match key {
                b"data" => Self::Data,
                b"size" => Self::Size,
                b"text" => Self::Text,
                b"type" => Self::Type,
                b"user" => Self::User,
                _ => Self::Other,
            },
            5 => match key {
                b"image" => Self::Image,
                b"input" => Self::Input,
                b"model" => Self::Model,
                b"tools" => Self::Words,
                _ => Self::Other,
            },
            6 => match key {
                b"images" => Self::Prompt,
                b"n_cmpl" => Self::NCmpl,
                b"prompt" => Self::Input,
                b"schema" => Self::Schema,
                b"source" => Self::Source,
                b"stream" => Self::Stream,
                b"suffix" | b"system" => Self::Words,
                _ => Self::Other,
            },
            7 => match key {
                b"best_of" => Self::BestOf,
                b"content" => Self::Text,
                b"file_id" => Self::FileId,
                b"options" => Self::Options,
                b"quality" => Self::Quality,
                _ => Self::Other,
            },
            8 => match key {
                b"b64_json" => Self::Image,
                b"file_ids" => Self::FileId,
                b"messages" => Self::Prompt,
                b"metadata" => Self::Metadata,
                b"skill_id" => Self::SkillId,
                _ => Self::Other,
            },
            9.. => Self::of_long(key),
            _ => Self::Other,
        }
    }

    fn of_long(key: &[u8]) -> Self {
        match key.len() {
            9 => match key {
                b"arguments" => Self::Arguments,
                b"container" => Self::Container,
                b"documents" | b"functions" => Self::Words,
                b"file_data" => Self::FileData,
                b"image_url" => Self::ImageUrl,
                b"n_predict" => Self::NPredict,
                _ => Self::Other,
            },
            10 => match key {
                b"background" => Self::Background,
                b"batch_size" => Self::BatchSize,
                b"cache_salt" => Self::CacheSalt,
                b"max_tokens" => Self::MaxTokens,
                b"min_tokens" => Self::MinTokens,
                b"num_images" => Self::NumImages,
                b"parameters" => Self::Schema,
                b"prediction" => Self::Words,
                _ => Self::Other,
            },
            11 => match key {
                b"input_audio" => Self::InputAudio,
                b"num_predict" => Self::NumPredict,
                _ => Self::Other,
            },
            12 => match key {
                b"container_id" => Self::ContainerId,
                b"conversation" => Self::Conversation,
                b"image_base64" => Self::Image,
                b"input_schema" => Self::Schema,
                b"instructions" => Self::Words,
                b"service_tier" => Self::ServiceTier,
                _ => Self::Other,
            },
            13 if key == b"include_usage" => Self::IncludeUsage,
            13 if key == b"prompt_embeds" => Self::Input,
            14 => match key {
                b"input_examples" => Self::Schema,
                b"max_new_tokens" => Self::MaxNewTokens,
                b"min_new_tokens" => Self::MinNewTokens,
                b"stream_options" => Self::StreamOptions,
                _ => Self::Other,
            },
            15 if key == b"response_format" => Self::Words,
            15 if key == b"use_beam_search" => Self::UseBeamSearch,
            16 if key == b"prompt_cache_key" => Self::PromptCacheKey,
            16 if key == b"vector_store_ids" => Self::VectorStoreIds,
            _ => Self::of_longest(key),
        }
    }

    fn of_longest(key: &[u8]) -> Self {
        match key {
            b"max_output_tokens" => Self::MaxOutputTokens,
            b"safety_identifier" => Self::SafetyIdentifier,
            b"max_tokens_to_sample" => Self::MaxTokensToSample,
            b"num_return_sequences" => Self::NumReturnSequences,
            b"previous_response_id" => Self::PreviousResponseId,
            b"max_completion_tokens" => Self::MaxCompletionTokens,
            b"continuous_usage_stats" => Self::ContinuousUsageStats,
            _ => Self::Other,
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
