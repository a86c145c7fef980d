//! The head of one part of a form (RFC 7578 §4): which field it is, and whether it is a file.

use crate::config::IdKind;
use crate::inspect::checked_fields::{bounds_answer, counts_answers};
use crate::inspect::key_spelling::fold;
use crate::inspect::{Api, RefusableFields, Seen, checked, ids};

/// What a field is called in a message that bounds an answer.
pub(super) const BOUND: &str = "a bound of the answer";

/// What a part is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Field {
    Model,
    Stream,
    N,
    /// Another server's word for it.
    Made,
    /// A server's word for the most or the least tokens of an answer.
    Bound,
    /// What a picture is to be.
    Size,
    Quality,
    /// Text that reaches the model.
    Prompt,
    // Set apart by tenant.
    User,
    SafetyIdentifier,
    PromptCacheKey,
    CacheSalt,
    File,
    #[default]
    Other,
}

/// What a field is taken for by its name, if its value is a file in base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Medium {
    Picture,
    Sound,
}

/// What a part's head says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) field: Field,
    pub(super) is_file: bool,
    /// A file that is an image.
    pub(super) is_image: bool,
    pub(super) medium: Option<Medium>,
    /// The field that decides which some reader would take this one for.
    pub(super) misspelt: Option<&'static str>,
    /// What some operator refuses.
    pub(super) refusable: Seen,
    /// What it names that lies with the upstream's account.
    pub(super) names: Option<IdKind>,
}

impl Field {
    /// The name of a field that may stand only once.
    pub(super) fn single(self) -> Option<&'static str> {
        match self {
            Self::Model => Some("model"),
            Self::Stream => Some("stream"),
            Self::N => Some("n"),
            Self::User => Some("user"),
            Self::SafetyIdentifier => Some("safety_identifier"),
            Self::PromptCacheKey => Some("prompt_cache_key"),
            Self::CacheSalt => Some("cache_salt"),
            _ => None,
        }
    }

    /// The name of a field that is text: given as a file it would be measured as none, and be read as text
    /// by servers that make no difference.
    pub(super) fn plain(self) -> Option<&'static str> {
        match self {
            Self::Made => Some("a number of answers"),
            Self::Bound => Some(BOUND),
            Self::Size => Some("size"),
            Self::Quality => Some("quality"),
            Self::Prompt => Some("prompt"),
            _ => self.single(),
        }
    }
}

impl Part {
    /// Reads a head, its last empty line included; `None` where it is not a form's, or not the same to
    /// every reader.
    pub(super) fn read(head: &[u8], api: Api, refusable: &RefusableFields) -> Option<Self> {
        let head = std::str::from_utf8(head).ok()?;
        let mut disposition = None;
        let mut media = "";
        for line in head.strip_suffix("\r\n\r\n")?.split("\r\n") {
            // A folded line (RFC 9112 §5.2 has done away with them) continues the one before.
            if line.starts_with([' ', '\t']) || line.contains(['\r', '\n', '\0']) {
                return None;
            }
            let (name, value) = line.split_once(':')?;
            let value = value.trim();
            // RFC 9112 §5.1: some readers would take the space for a part of the name.
            if name.contains([' ', '\t']) {
                return None;
            }
            if name.eq_ignore_ascii_case("content-disposition") {
                if disposition.replace(value).is_some() {
                    return None;
                }
            } else if name.eq_ignore_ascii_case("content-type") {
                media = value;
            } else if name.eq_ignore_ascii_case("content-transfer-encoding") {
                // RFC 7578 §4.7: not for forms; some readers would decode base64, others not.
                let plain = ["binary", "8bit", "7bit"];
                plain.iter().find(|plain| value.eq_ignore_ascii_case(plain))?;
            }
        }
        let (name, is_file) = disposition_of(disposition?)?;
        let bounds = |key: &str| bounds_answer(key).filter(|_| api == Api::Transcripts);
        let field = match name {
            "model" => Field::Model,
            "stream" => Field::Stream,
            "n" => Field::N,
            "size" => Field::Size,
            "quality" => Field::Quality,
            "prompt" => Field::Prompt,
            "user" => Field::User,
            "safety_identifier" => Field::SafetyIdentifier,
            "prompt_cache_key" => Field::PromptCacheKey,
            "cache_salt" => Field::CacheSalt,
            _ if counts_answers(name) == Some(name) => Field::Made,
            _ if bounds(name) == Some(name) => Field::Bound,
            _ if is_file => Field::File,
            _ => Field::Other,
        };
        // HTML's name for the field that says in which charset all others are (§4.10.21.8).
        if name == "_charset_" || (field.single().is_some() && !is_plain_text(media)) {
            return None;
        }
        let single = |key: &&str| {
            let is_number = counts_answers(key).is_some() || bounds(key).is_some();
            is_number || ["model", "stream"].contains(key)
        };
        let decides = checked(name).filter(single).or_else(|| text_field(name));
        let misspelt = decides.filter(|key| *key != name);
        // By the name, under which the APIs have pictures: what a client calls a recording no server heeds.
        let is_image = is_file && (name.starts_with("image") || name.starts_with("mask"));
        let (refusable, names) = (refusable.find_spelt(name), ids::in_form(name));
        let medium = medium(name);
        Some(Self { field, is_file, is_image, medium, misspelt, refusable, names })
    }
}

/// What the APIs have under this name: in base64, or by its address.
fn medium(name: &str) -> Option<Medium> {
    match name.split('[').next().unwrap_or_default() {
        "image" | "images" | "mask" | "image_url" | "image_base64" | "b64_json" => {
            Some(Medium::Picture)
        }
        "file" | "audio" | "input_audio" => Some(Medium::Sound),
        _ => None,
    }
}

/// The field of text that some reader would take this one for.
fn text_field(name: &str) -> Option<&'static str> {
    let bare = fold(name.split('[').next().unwrap_or_default().trim());
    const FIELDS: [&str; 7] = [
        "prompt",
        "size",
        "quality",
        "user",
        "safety_identifier",
        "prompt_cache_key",
        "cache_salt",
    ];
    FIELDS.into_iter().find(|key| *key == bare)
}

/// Whether a plain field's `Content-Type` leaves its value as it is: some readers decode it by a charset.
fn is_plain_text(media: &str) -> bool {
    let mut parts = media.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    let is_text = kind.is_empty() || kind.eq_ignore_ascii_case("text/plain");
    is_text
        && parts.all(|parameter| {
            let value = parameter.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
            value.is_some_and(|(name, value)| {
                name.eq_ignore_ascii_case("charset")
                    && value.trim_matches('"').eq_ignore_ascii_case("utf-8")
            })
        })
}

/// The field's name, and whether there is a file's name.
fn disposition_of(value: &str) -> Option<(&str, bool)> {
    let (kind, mut rest) = value.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return None;
    }
    let mut name = None;
    let mut is_file = false;
    loop {
        let (key, after) = rest.split_once('=')?;
        let key = key.trim();
        let (text, after) = parameter(after.trim_start())?;
        if key.eq_ignore_ascii_case("name") {
            // One reader undoes a backslash's escape, another does not.
            if name.replace(text).is_some() || text.contains('\\') {
                return None;
            }
        } else if key.eq_ignore_ascii_case("name*") {
            return None;
        } else if key.eq_ignore_ascii_case("filename") || key.eq_ignore_ascii_case("filename*") {
            // Some readers take one without a name for text.
            if text.is_empty() {
                return None;
            }
            is_file = true;
        }
        match after.trim().strip_prefix(';') {
            Some(more) if !more.trim().is_empty() => rest = more,
            Some(_) => break,
            None if after.trim().is_empty() => break,
            None => return None,
        }
    }
    Some((name?, is_file))
}

/// A token or a quoted string at the beginning of `text`, and what follows it.
fn parameter(text: &str) -> Option<(&str, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        let token = text[..end].trim_end();
        let is_token = !token.is_empty() && !token.contains([' ', '\t', '"', '=']);
        return is_token.then(|| (token, &text[end..]));
    };
    let mut is_escaped = false;
    let end = quoted.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    })?;
    Some((&quoted[..end], &quoted[end + 1..]))
}
