//! The keys that mean something to us.

/// Raw bytes of a key that are kept: the longest we look for, with each letter written `\uXXXX`.
const KEPT: usize = 6 * "continuous_usage_stats".len();

/// What a key means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Name {
    // These decide, and may stand only once: in the root, but the last two in `stream_options`.
    Model,
    Stream,
    StreamOptions,
    MaxTokens,
    MaxCompletionTokens,
    MaxOutputTokens,
    N,
    BestOf,
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
    Type,
    /// Of a tool's call: words, whatever their names.
    Arguments,
    /// What a picture is to be, in the root.
    Size,
    Quality,
    #[default]
    Other,
}

impl Name {
    /// The key as we know it, for those that may stand only once.
    pub(super) fn single(self) -> Option<&'static str> {
        Some(match self {
            Self::Model => "model",
            Self::Stream => "stream",
            Self::StreamOptions => "stream_options",
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
            Self::MaxOutputTokens => "max_output_tokens",
            Self::N => "n",
            Self::BestOf => "best_of",
            Self::IncludeUsage => "include_usage",
            Self::ContinuousUsageStats => "continuous_usage_stats",
            _ => return None,
        })
    }

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

    /// A set with this name only.
    pub(super) const fn bit(self) -> u16 {
        1 << self as u16
    }

    /// Whether it decides in `stream_options`, and nowhere else.
    pub(super) fn is_stream_option(self) -> bool {
        matches!(self, Self::IncludeUsage | Self::ContinuousUsageStats)
    }

    /// What a raw key means, escapes undone: `"mod\u0065l"` is `model` to every JSON parser.
    pub(super) fn of_raw(raw: &[u8]) -> Self {
        match Self::of(raw) {
            // No key of ours has a backslash, so only others need to be looked at for one.
            Self::Other if raw.len() <= KEPT && raw.contains(&b'\\') => {
                decode(raw).map_or(Self::Other, |key| Self::of(key.as_bytes()))
            }
            name => name,
        }
    }

    fn of(key: &[u8]) -> Self {
        match key {
            b"model" => Self::Model,
            b"stream" => Self::Stream,
            b"stream_options" => Self::StreamOptions,
            b"max_tokens" => Self::MaxTokens,
            b"max_completion_tokens" => Self::MaxCompletionTokens,
            b"max_output_tokens" => Self::MaxOutputTokens,
            b"n" => Self::N,
            b"best_of" => Self::BestOf,
            b"include_usage" => Self::IncludeUsage,
            b"continuous_usage_stats" => Self::ContinuousUsageStats,
            b"prompt" | b"input" => Self::Input,
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
            b"type" => Self::Type,
            b"arguments" => Self::Arguments,
            b"size" => Self::Size,
            b"quality" => Self::Quality,
            _ => Self::Other,
        }
    }
}

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

    /// What the key means.
    pub(super) fn name(&self) -> Name {
        self.bytes.get(..self.length).map_or(Name::Other, Name::of_raw)
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

/// The text of a string whose bytes between the quotes, which have been scanned, are `raw`; none if it
/// is not Unicode.
pub(super) fn decode(raw: &[u8]) -> Option<String> {
    if !raw.contains(&b'\\') {
        return String::from_utf8(raw.to_vec()).ok();
    }
    serde_json::from_slice(&[b"\"", raw, b"\""].concat()).ok()
}
