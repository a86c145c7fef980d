//! The names and the places in a document that mean something to the meter.

/// A key that means something, at least somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Other,
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
    /// A string or a list of parts.
    Content,
    /// An image in base64.
    Image,
    /// Where an image can be had.
    Url,
    /// The list of the images API.
    Data,
    /// The list of the Responses API.
    Output,
    /// What repeats or explains the text, and is not text itself.
    Aside,
    /// Content filters and moderation.
    Remarks,
}

/// A container, by what its members mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Elsewhere,
    Root,
    /// `x_groq`
    Groq,
    /// `message`, at the top
    Start,
    /// `response`
    Response,
    Choices,
    Choice,
    /// A choice's `delta` or `message`, or a `delta` at the top
    Delta,
    /// Anything inside what the model said
    Answer,
    /// The list of the images API, and its elements
    Pictures,
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
            3 if name == b"url" => Self::Url,
            4 => match name {
                b"data" => Self::Data,
                b"text" => Self::Text,
                b"type" => Self::Type,
                _ => Self::Other,
            },
            5 => match name {
                b"delta" => Self::Delta,
                b"error" => Self::Error,
                b"index" => Self::Index,
                b"model" => Self::Model,
                b"usage" => Self::Usage,
                _ => Self::Other,
            },
            6 => match name {
                b"status" => Self::Status,
                b"output" => Self::Output,
                b"x_groq" => Self::Groq,
                _ => Self::Other,
            },
            7 => match name {
                b"choices" => Self::Choices,
                b"content" => Self::Content,
                b"message" => Self::Message,
                b"refusal" => Self::Text,
                _ => Self::Other,
            },
            8 => match name {
                b"b64_json" => Self::Image,
                b"logprobs" => Self::Aside,
                b"response" => Self::Response,
                b"thinking" => Self::Text,
                _ => Self::Other,
            },
            9.. => Self::of_long(name),
            _ => Self::Other,
        }
    }

    fn of_long(name: &[u8]) -> Self {
        match name {
            b"arguments" | b"reasoning" => Self::Text,
            b"svg_usage" => Self::Svg,
            b"moderation" => Self::Remarks,
            b"transcript" => Self::Text,
            b"annotations" => Self::Aside,
            b"image_base64" => Self::Image,
            b"partial_json" => Self::Text,
            b"finish_reason" => Self::FinishReason,
            b"reasoning_content" => Self::Text,
            b"reasoning_details" => Self::Aside,
            b"prompt_filter_results" => Self::Remarks,
            _ => Self::Other,
        }
    }
}

impl Place {
    pub(super) fn root(object: bool) -> Self {
        if object { Self::Root } else { Self::Elsewhere }
    }
}

/// What a container is that begins under `key` in `parent`.
pub(super) fn child(parent: Place, key: Key, object: bool) -> Place {
    match (parent, key, object) {
        (Place::Root, Key::Groq, true) => Place::Groq,
        (Place::Root, Key::Message, true) => Place::Start,
        (Place::Root, Key::Response, true) => Place::Response,
        (Place::Root, Key::Choices, false) => Place::Choices,
        (Place::Root, Key::Delta, true) => Place::Delta,
        (Place::Root, Key::Content | Key::Output, false) => Place::Answer,
        (Place::Root, Key::Data, false) => Place::Pictures,
        (Place::Choices, _, true) => Place::Choice,
        (Place::Choice, Key::Delta | Key::Message, true) => Place::Delta,
        (Place::Delta | Place::Answer, Key::Aside, _) => Place::Elsewhere,
        (Place::Delta | Place::Answer, _, _) => Place::Answer,
        (Place::Pictures, _, true) => Place::Pictures,
        _ => Place::Elsewhere,
    }
}

impl Word {
    /// Longer than every word that is looked for.
    const LIMIT: usize = 40;

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

    pub(super) fn bytes(&self) -> &[u8] {
        self.text.get(..self.len).unwrap_or_default()
    }
}

impl Default for Word {
    fn default() -> Self {
        Self { text: [0; Self::LIMIT], len: 0 }
    }
}
