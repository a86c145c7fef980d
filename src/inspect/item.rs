//! One item of a response's input: whether it is there itself, or is named by its id and lies with the upstream.
//!
//! Clients send back what earlier answers were made of, each item with its id. An upstream that keeps them looks
//! up what is not there itself: references, and items without what they consist of. So an id needs no owner only
//! where its item has, under the one name that the API has for it, what an item of its type consists of. Types
//! that say too little themselves (a search on the web, an approval), and those that nobody here knows, never do.

use super::Invalid;
use super::key_spelling::{decode, fold, is_plain};
use super::name::KEPT;
use crate::json::Token;

/// The fields of an item that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Id,
    /// Of an answer to a question of the upstream: the question's id.
    ApprovalRequestId,
    Type,
    Role,
    Content,
    Arguments,
    Output,
    Outputs,
    Input,
    Action,
    Actions,
    Operation,
    Result,
    Results,
    EncryptedContent,
    Tools,
}

/// What items of a type consist of (OpenAI's `InputItem`; of reasoning only the upstream can read it).
const HELD: [(&str, Field); 21] = [
    ("message", Field::Content),
    ("function_call", Field::Arguments),
    ("function_call_output", Field::Output),
    ("custom_tool_call", Field::Input),
    ("custom_tool_call_output", Field::Output),
    ("reasoning", Field::EncryptedContent),
    ("compaction", Field::EncryptedContent),
    ("image_generation_call", Field::Result),
    ("file_search_call", Field::Results),
    ("code_interpreter_call", Field::Outputs),
    ("computer_call", Field::Action),
    ("computer_call", Field::Actions),
    ("computer_call_output", Field::Output),
    ("local_shell_call", Field::Action),
    ("local_shell_call_output", Field::Output),
    ("shell_call", Field::Action),
    ("shell_call_output", Field::Output),
    ("apply_patch_call", Field::Operation),
    ("apply_patch_call_output", Field::Output),
    ("mcp_call", Field::Output),
    ("mcp_list_tools", Field::Tools),
];

impl Field {
    fn of(key: &[u8]) -> Option<Self> {
        Some(match key {
            b"id" => Self::Id,
            b"approval_request_id" => Self::ApprovalRequestId,
            b"type" => Self::Type,
            b"role" => Self::Role,
            b"content" => Self::Content,
            b"arguments" => Self::Arguments,
            b"output" => Self::Output,
            b"outputs" => Self::Outputs,
            b"input" => Self::Input,
            b"action" => Self::Action,
            b"actions" => Self::Actions,
            b"operation" => Self::Operation,
            b"result" => Self::Result,
            b"results" => Self::Results,
            b"encrypted_content" => Self::EncryptedContent,
            b"tools" => Self::Tools,
            _ => return None,
        })
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }

    /// A client's own words, of which there may be none: a command that printed nothing.
    fn may_be_empty(self) -> bool {
        matches!(self, Self::Arguments | Self::Output | Self::Input)
    }
}

/// An item, key by key.
#[derive(Debug, Default)]
pub(super) struct Item {
    id: Vec<u8>,
    approval: Vec<u8>,
    /// An id is neither a string nor null.
    pub(super) has_odd_id: bool,
    /// A type that is no string is one that nobody knows.
    has_type: bool,
    /// Fields that hold what the item is of, if it has one of them; a bit for each.
    holders: u16,
    seen: u16,
    /// Those that are not empty.
    held: u16,
    /// Readers may differ in what it has: a key stands twice, or in other letters.
    is_unclear: bool,
    /// The field whose value is being read, and whether nothing has been found in it so far.
    at: Option<Field>,
    is_open: bool,
}

impl Item {
    /// One of its keys ended.
    pub(super) fn key(&mut self, raw: &[u8]) -> Result<(), Invalid> {
        self.at = None;
        let (field, is_own) = if is_plain(raw) {
            (Field::of(raw), true)
        } else if let Some(key) = decode(raw).filter(|_| raw.len() <= KEPT) {
            let folded = fold(&key);
            (Field::of(folded.as_bytes()), folded == key)
        } else {
            return Ok(());
        };
        let Some(field) = field else { return Ok(()) };
        let is_again = self.seen & field.bit() != 0;
        match field {
            Field::Id if is_again => return Err(Invalid::Duplicate("id")),
            Field::Type if is_again => return Err(Invalid::Duplicate("type")),
            Field::ApprovalRequestId if is_again => {
                return Err(Invalid::Duplicate("approval_request_id"));
            }
            _ => {}
        }
        self.seen |= field.bit();
        self.is_unclear |= is_again || !is_own;
        self.at = Some(field);
        Ok(())
    }

    /// Whether a value that begins at `depth` matters.
    #[inline]
    pub(super) fn watches(&self, depth: usize) -> bool {
        (depth == 3 && self.at.is_some()) || (depth == 4 && self.is_open)
    }

    /// Whether something is still to be found in the present value.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// A value that matters begins; whether its text is to be kept.
    pub(super) fn begin(&mut self, token: Token, depth: usize) -> bool {
        if depth == 4 {
            if token != Token::Null {
                self.found();
            }
            return false;
        }
        match (self.at, token) {
            (None, _) | (_, Token::Null) => false,
            (Some(Field::Id | Field::ApprovalRequestId), Token::String) => true,
            (Some(Field::Id | Field::ApprovalRequestId), _) => {
                self.has_odd_id = true;
                false
            }
            (Some(Field::Type), _) => {
                self.has_type = true;
                token == Token::String
            }
            (Some(field), Token::String) if field.may_be_empty() => {
                self.found();
                false
            }
            (_, Token::String | Token::Array | Token::Object) => {
                self.is_open = true;
                false
            }
            _ => false,
        }
    }

    /// There is something in the present value.
    pub(super) fn found(&mut self) {
        self.held |= self.at.map_or(0, Field::bit);
        self.is_open = false;
    }

    /// The present value ended.
    pub(super) fn close(&mut self) {
        self.is_open = false;
    }

    /// The present value ended, whose text was kept.
    pub(super) fn end(&mut self, raw: &mut Vec<u8>) {
        match self.at {
            Some(Field::Id) => std::mem::swap(&mut self.id, raw),
            Some(Field::ApprovalRequestId) => std::mem::swap(&mut self.approval, raw),
            Some(Field::Type) => {
                let text = decode(raw);
                let of_type = HELD.iter().filter(|(name, _)| text.as_deref() == Some(*name));
                self.holders = of_type.fold(0, |bits, (_, field)| bits | field.bit());
            }
            _ => {}
        }
    }

    /// The ids in it that need an owner, raw.
    pub(super) fn named(&self) -> impl Iterator<Item = &[u8]> {
        // Without a type it is a message, if it has what one has.
        let message = Field::Role.bit() | Field::Content.bit();
        let is_held = match self.has_type {
            true => self.held & self.holders != 0,
            false => self.held & message == message,
        };
        let id: &[u8] = if is_held && !self.is_unclear { &[] } else { &self.id };
        [id, &self.approval].into_iter().filter(|id| !id.is_empty())
    }
}
