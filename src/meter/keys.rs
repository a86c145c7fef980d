//! The names and the places in a document that mean something to the meter.

/// A key that means something, at least somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Other,
    Id,
    /// `container_id`
    ContainerId,
    Usage,
    Svg,
    Groq,
    Message,
    Response,
    Choices,
    Index,
    FinishReason,
    Delta,
    Error,
    Model,
    Type,
    Status,
    /// Strings that the model said, reasoned or called tools with.
    Text,
    /// The same of what it thought, which some say by both of their names.
    Reasoning,
    /// A string or a list of parts.
    Content,
    /// An image in base64.
    Image,
    /// Sound in base64, of which nothing can be told by its size.
    Audio,
    /// Where an image can be had.
    Url,
    /// The list of the images API.
    Data,
    /// The list of the Responses API.
    Output,
    /// What repeats or explains the text, and is not text itself.
    Aside,
    /// Content filters and moderation.
    Moderation,
    /// `image_url`, a link or an object with one.
    ImageUrl,
    /// An item of the Responses API, in an event; and what its tool made.
    Item,
    Result,
    ToolUsage,
    ImageGen,
    Timings,
    Metadata,
    PromptEvalCount,
    EvalCount,
    Duration,
    /// What tells an error that is not called `error`.
    Object,
    BaseResp,
    StatusCode,
    Success,
    Code,
    /// The same by a name that says whose it is.
    ErrorCode,
    Note,
    Detail,
    /// What stands around every answer, and says nothing of it.
    Envelope,
    /// Strings that name or order what is said, and say nothing themselves.
    Label,
}

/// A container, by what its members mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Elsewhere,
    Root,
    /// A list that stands for a document, and an object in it: some give errors so.
    List,
    Listed,
    /// `x_groq`
    Groq,
    /// `message`, at the top
    Start,
    /// `response`
    Response,
    Choices,
    Choice,
    /// A choice's `delta`, or one at the top
    Delta,
    /// A choice's `message`
    Message,
    /// Anything inside what the model said
    Answer,
    /// The list of the images API, and its elements
    Pictures,
    Pictured,
    /// The list of the Responses API and its elements, where nothing else has said them
    Items,
    Item,
    /// The same where the stream has said their text before
    Repeated,
    RepeatedItem,
    /// `image_url`
    Link,
    /// `tool_usage`
    ToolUsage,
    /// `errors`, `detail`
    Detail,
    /// `error`
    Error,
    /// `base_resp` of MiniMax
    BaseResp,
    /// A usage object, or one of its details
    Usage,
}

/// A short text, gathered in pieces; a longer one is remembered as too long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    text: [u8; Word::LIMIT],
    len: usize,
}

impl Key {
    /// By length first: most keys are none of these, and one look tells.
    pub(super) fn of(name: &[u8]) -> Self {
        match name.len() {
            2 if name == b"id" => Self::Id,
            3 => match name {
                b"url" => Self::Url,
                b"msg" => Self::Note,
                _ => Self::Other,
            },
            4 => match name {
                b"code" => Self::Code,
                b"cost" => Self::Envelope,
                b"data" => Self::Data,
                b"item" => Self::Item,
                b"name" | b"role" => Self::Label,
                b"text" => Self::Text,
                b"type" => Self::Type,
                _ => Self::Other,
            },
            5 => match name {
                b"audio" => Self::Audio,
                b"fault" => Self::Detail,
                b"delta" => Self::Delta,
                b"error" => Self::Error,
                b"index" => Self::Index,
                b"model" => Self::Model,
                b"usage" => Self::Usage,
                _ => Self::Other,
            },
            6 => match name {
                b"detail" | b"errors" => Self::Detail,
                b"errmsg" => Self::Note,
                b"object" => Self::Object,
                b"output" => Self::Output,
                b"result" => Self::Result,
                b"status" => Self::Status,
                b"x_groq" => Self::Groq,
                _ => Self::Other,
            },
            7 => match name {
                b"choices" => Self::Choices,
                b"created" | b"lastOne" => Self::Envelope,
                b"content" => Self::Content,
                b"errcode" => Self::Code,
                b"message" => Self::Message,
                b"Message" => Self::Note,
                b"refusal" => Self::Text,
                b"success" => Self::Success,
                b"timings" => Self::Timings,
                b"call_id" => Self::Label,
                _ => Self::Other,
            },
            8 => match name {
                b"b64_json" => Self::Image,
                b"duration" => Self::Duration,
                b"logprobs" => Self::Aside,
                b"provider" | b"trace_id" => Self::Envelope,
                b"response" => Self::Response,
                b"thinking" => Self::Text,
                _ => Self::Other,
            },
            9 => match name {
                b"arguments" => Self::Text,
                b"reasoning" => Self::Reasoning,
                b"svg_usage" => Self::Svg,
                b"base_resp" => Self::BaseResp,
                b"error_msg" => Self::Note,
                b"errorCode" => Self::ErrorCode,
                b"image_gen" => Self::ImageGen,
                b"image_url" => Self::ImageUrl,
                b"requestId" => Self::Envelope,
                b"signature" => Self::Label,
                _ => Self::Other,
            },
            10 => match name {
                b"error_code" => Self::ErrorCode,
                b"eval_count" => Self::EvalCount,
                b"moderation" => Self::Moderation,
                b"request_id" => Self::Envelope,
                b"tool_usage" => Self::ToolUsage,
                b"transcript" => Self::Text,
                _ => Self::Other,
            },
            11 => match name {
                b"stop_reason" => Self::FinishReason,
                b"annotations" => Self::Aside,
                b"obfuscation" => Self::Envelope,
                b"status_code" => Self::StatusCode,
                _ => Self::Other,
            },
            12 => match name {
                b"container_id" => Self::ContainerId,
                b"errorMessage" => Self::Detail,
                b"finishReason" => Self::FinishReason,
                b"image_base64" => Self::Image,
                b"partial_json" => Self::Text,
                b"service_tier" => Self::Envelope,
                _ => Self::Other,
            },
            13 => match name {
                b"error_message" => Self::Detail,
                b"finish_reason" => Self::FinishReason,
                b"usageMetadata" => Self::Metadata,
                _ => Self::Other,
            },
            15 if name == b"thinking_blocks" => Self::Aside,
            17 => match name {
                b"prompt_eval_count" => Self::PromptEvalCount,
                b"reasoning_content" => Self::Reasoning,
                b"reasoning_details" => Self::Aside,
                _ => Self::Other,
            },
            18 if name == b"system_fingerprint" => Self::Envelope,
            21 if name == b"prompt_filter_results" => Self::Moderation,
            24 if name == b"provider_specific_fields" => Self::Aside,
            _ => Self::Other,
        }
    }
}

impl Place {
    pub(super) fn root(object: bool) -> Self {
        if object { Self::Root } else { Self::List }
    }
}

/// What a container is that begins under `key` in `parent`.
pub(super) fn child(parent: Place, key: Key, object: bool) -> Place {
    match (parent, key, object) {
        (Place::List, _, true) => Place::Listed,
        (Place::Root, Key::Groq, true) => Place::Groq,
        (Place::Root, Key::Message, true) => Place::Start,
        (Place::Root, Key::Response, true) => Place::Response,
        (Place::Root, Key::Choices, false) => Place::Choices,
        (Place::Root, Key::Delta, true) => Place::Delta,
        (Place::Root, Key::Content, false) => Place::Answer,
        (Place::Root, Key::Output, false) => Place::Items,
        (Place::Items, _, true) => Place::Item,
        (Place::Response, Key::Output, false) => Place::Repeated,
        (Place::Repeated, _, true) | (Place::Root, Key::Item, true) => Place::RepeatedItem,
        (Place::Root, Key::BaseResp, true) => Place::BaseResp,
        (Place::Root | Place::Response, Key::ToolUsage, true) => Place::ToolUsage,
        (Place::Root, Key::Detail, _) => Place::Detail,
        (
            Place::Root
            | Place::Groq
            | Place::Start
            | Place::Response
            | Place::Choice
            | Place::Listed,
            Key::Error,
            _,
        ) => Place::Error,
        (Place::Root, Key::Data, false) => Place::Pictures,
        (Place::Choices, _, true) => Place::Choice,
        (Place::Choice, Key::Delta, true) => Place::Delta,
        (Place::Choice, Key::Message, true) => Place::Message,
        (Place::Delta | Place::Message | Place::Answer | Place::Item, Key::Aside, _) => {
            Place::Elsewhere
        }
        (Place::Delta | Place::Message | Place::Answer | Place::Item, Key::ImageUrl, true) => {
            Place::Link
        }
        (Place::Delta | Place::Message | Place::Answer | Place::Item, _, _) => Place::Answer,
        (Place::Pictures, _, true) => Place::Pictured,
        _ => Place::Elsewhere,
    }
}

impl Word {
    /// Longer than every word that is looked for.
    pub(super) const LIMIT: usize = 40;

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    #[inline]
    pub(super) fn push(&mut self, piece: &[u8]) {
        let to = self.len.saturating_add(piece.len());
        if let Some(room) = self.text.get_mut(self.len..to) {
            room.copy_from_slice(piece);
        }
        // Beyond the limit only the length grows, so that it equals no word.
        self.len = to;
    }

    pub(super) fn is_long(&self) -> bool {
        self.len > Self::LIMIT
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.text.get(..self.len).unwrap_or_default()
    }
}

impl Default for Word {
    fn default() -> Self {
        Self { text: [0; Self::LIMIT], len: 0 }
    }
}
