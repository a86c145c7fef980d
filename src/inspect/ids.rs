//! What a request names that lies with the upstream's account, which all tenants share: an earlier response, a
//! file, a container. Whose it is nobody can tell by the id, so the request says here which kinds it
//! names; and where values stand that would be one for several tenants, to be set apart.
//!
//! Only strings count, and only where an API reads ids: what a tool is called with, a schema or metadata may
//! hold any word.

use std::ops::Range;

use super::name::Name;
use super::spelling::decode;
use super::{Api, Invalid};
use crate::config::{IdKind, IdKinds};
use crate::json::Token;

/// Bytes of a response's id, decoded, at most; OpenAI's have some 60, LiteLLM's some 300.
const ID_MAX: usize = 512;
/// Raw bytes that it can take: each one escaped as `\uXXXX`.
const RAW_MAX: usize = 6 * ID_MAX;
pub(super) const RESPONSE_ID: &str = "a string of at most 512 bytes";

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// The response that this one goes on from.
    pub(crate) previous_response: Option<String>,
    /// The items that it names and does not hold.
    pub(crate) items: Vec<String>,
    /// Of the others only what kinds they are.
    pub(crate) kinds: IdKinds,
    /// The upstream is to keep the response: `store` is not `false`.
    pub(crate) is_stored: bool,
}

impl Default for Named {
    fn default() -> Self {
        let (items, kinds) = (Vec::new(), IdKinds::default());
        Self { previous_response: None, items, kinds, is_stored: true }
    }
}

/// Watches for ids.
#[derive(Debug)]
pub(super) struct Ids {
    is_responses: bool,
    /// What the string is for that is being read.
    reading: Name,
    began: u64,
    raw: Vec<u8>,
    /// `previous_response_id` has come.
    is_seen: bool,
    item: Item,
    pub(super) named: Named,
    /// Values to be set apart, quotes included.
    pub(super) apart: Vec<Range<u64>>,
}

/// An item of a response's input.
#[derive(Debug, Default)]
struct Item {
    /// Raw.
    id: Vec<u8>,
    has_type: bool,
    has_role: bool,
    has_content: bool,
    has_result: bool,
    is_reference: bool,
    /// It holds itself what it is of, or else its id names that.
    may_be_by_id: bool,
}

impl Item {
    /// Whether it is a reference: by its type, or without one if it is no message; or a generated image
    /// without its bytes, or reasoning that is not there in its encrypted form (OpenAI's `ItemReferenceParam`, and its guides to
    /// image generation and reasoning).
    fn names_another(&self) -> bool {
        let is_message = self.has_role && self.has_content;
        let is_bare = !self.has_type && !is_message;
        let is_by_id = self.may_be_by_id && !self.has_result;
        !self.id.is_empty() && (self.is_reference || is_bare || is_by_id)
    }
}

impl Ids {
    pub(super) fn new(api: Api) -> Self {
        let named = Named::default();
        Self {
            is_responses: api == Api::Responses,
            reading: Name::Other,
            began: 0,
            raw: Vec::new(),
            is_seen: false,
            item: Item::default(),
            named,
            apart: Vec::new(),
        }
    }

    /// A key ended at `depth`.
    pub(super) fn key(&mut self, name: Name, depth: usize) -> Result<(), Invalid> {
        if depth == 3 && name == Name::Text {
            self.item.has_content = true;
        }
        if (depth, name) == (1, Name::PreviousResponseId)
            && std::mem::replace(&mut self.is_seen, true)
        {
            // Which of two the upstream goes by is not known.
            return Err(Invalid::Duplicate("previous_response_id"));
        }
        Ok(())
    }

    pub(super) fn item_begins(&mut self) {
        self.item = Item::default();
    }

    /// An object at depth 2 ended; `parents` are the keys above it.
    pub(super) fn item_ends(&mut self, names: &[Name]) {
        if self.is_responses && is_item(names) && self.item.names_another() {
            match decode_id(&self.item.id) {
                Some(id) => self.named.items.push(id),
                None => self.named.kinds.add(IdKind::ItemReference),
            }
        }
    }

    /// A value begins under one of the names that are watched.
    pub(super) fn begin(&mut self, names: &[Name], token: Token, depth: usize, at: u64) {
        let name = names[depth];
        match (token, name) {
            (Token::String, _) => {
                self.reading = name;
                self.began = at;
                self.raw.clear();
            }
            (Token::False, Name::Store) if depth == 1 => self.named.is_stored = false,
            (_, Name::Type) if depth == 3 => self.item.has_type = false,
            _ => {}
        }
    }

    /// Whether ids are looked for in values under this name. What type an item is tells only the API that has
    /// items; elsewhere nearly every part of a message has one.
    #[inline]
    pub(super) fn watches(&self, name: Name) -> bool {
        name.is_watched(if self.is_responses { Name::Type } else { Name::Id })
    }

    /// Whether the string that is being read matters here.
    #[inline]
    pub(super) fn is_reading(&self) -> bool {
        self.reading != Name::Other
    }

    pub(super) fn text(&mut self, piece: &[u8]) {
        let room = (RAW_MAX + 1).saturating_sub(self.raw.len());
        self.raw.extend_from_slice(&piece[..piece.len().min(room)]);
    }

    /// The string ended.
    pub(super) fn end(&mut self, names: &[Name], depth: usize, end: u64) -> Result<(), Invalid> {
        let name = std::mem::replace(&mut self.reading, Name::Other);
        let is_item = depth == 3 && is_item(names) && self.is_responses;
        if depth == 1 && name.is_set_apart() {
            self.apart.push(self.began..end);
            return Ok(());
        }
        if self.raw.is_empty() || is_free(names, depth) {
            return Ok(());
        }
        let kind = match (name, depth) {
            (Name::PreviousResponseId, 1) if self.is_responses => return self.previous(),
            (Name::Type, _) if is_item => {
                self.item.has_type = true;
                self.item.is_reference |= self.says("item_reference");
                let by_id = ["image_generation_call", "reasoning"];
                self.item.may_be_by_id |= by_id.into_iter().any(|word| self.says(word));
                return Ok(());
            }
            (Name::Id, _) if is_item => {
                std::mem::swap(&mut self.item.id, &mut self.raw);
                return Ok(());
            }
            (Name::Role, _) if is_item => {
                self.item.has_role = true;
                return Ok(());
            }
            (Name::Result, _) if is_item => {
                self.item.has_result = true;
                return Ok(());
            }
            (Name::Conversation, 1) if self.is_responses => IdKind::Conversation,
            (Name::Id, 2) if self.is_responses && names[1] == Name::Conversation => {
                IdKind::Conversation
            }
            // `prompt`; an `input` has no id.
            (Name::Id, 2) if self.is_responses && names[1] == Name::Input => IdKind::Prompt,
            (Name::Id, 2) if names[1] == Name::Container => IdKind::Container,
            (Name::Container, 1) => IdKind::Container,
            // Tools have theirs; an answer that is sent back tells of the one it used.
            (Name::Container | Name::ContainerId, _)
                if matches!(names[1], Name::Prompt | Name::Words) =>
            {
                IdKind::Container
            }
            (Name::FileId, _) => IdKind::File,
            (Name::VectorStoreIds, _) => IdKind::VectorStore,
            _ => return Ok(()),
        };
        self.named.kinds.add(kind);
        Ok(())
    }

    fn previous(&mut self) -> Result<(), Invalid> {
        let id = decode_id(&self.raw);
        let wrong = Invalid::Type { key: "previous_response_id", expected: RESPONSE_ID };
        self.named.previous_response = Some(id.ok_or(wrong)?);
        Ok(())
    }

    fn says(&self, word: &str) -> bool {
        decode(&self.raw).is_some_and(|text| text == word)
    }
}

fn decode_id(raw: &[u8]) -> Option<String> {
    let id = if raw.len() > RAW_MAX { None } else { decode(raw) };
    id.filter(|id| id.len() <= ID_MAX)
}

/// Whether what stands at depth 2 is an element of `input`.
fn is_item(names: &[Name]) -> bool {
    names[1] == Name::Input && names[2] == Name::Input
}

/// Whether a value stands where any word may: below a schema, arguments or metadata, or in what a tool was
/// called with, which Anthropic's messages have as `input`.
fn is_free(names: &[Name], depth: usize) -> bool {
    let above = &names[1..depth];
    let is_any = |name: &Name| matches!(name, Name::Free | Name::Arguments);
    above.iter().any(is_any) || above.iter().skip(2).any(|name| *name == Name::Input)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::{Facts, NOTHING, Scan};
    use super::*;

    /// The facts, which are the same however the body is cut.
    fn inspect(api: Api, body: &str) -> Result<Facts, Invalid> {
        let scan = |size: usize| {
            let mut scan = Scan::json(api, &NOTHING);
            body.as_bytes().chunks(size).try_for_each(|piece| scan.push(piece))?;
            scan.finish()
        };
        let whole = scan(body.len());
        for size in [1, 2, 3, 7] {
            assert_eq!(scan(size), whole, "in pieces of {size}: {body}");
        }
        whole
    }

    fn named(api: Api, rest: &str) -> Named {
        let body = format!(r#"{{"model":"m",{rest}}}"#);
        inspect(api, &body).expect(&body).named
    }

    #[test]
    fn ids_of_every_kind_are_seen_where_an_api_reads_them_and_nowhere_else() {
        use IdKind::{Container, Conversation, File, ItemReference, Prompt, VectorStore};
        let tool = |rest: &str| format!(r#""tools":[{{"type":"x",{rest}}}]"#);
        let item = |rest: &str| format!(r#""input":[{{"role":"user","content":"a"}},{{{rest}}}]"#);
        let part = |rest: &str| format!(r#""messages":[{{"role":"user","content":[{{{rest}}}]}}]"#);
        let cases = [
            (Api::Responses, r#""conversation":"conv_1""#.to_owned(), Some(Conversation)),
            (Api::Responses, r#""conversation":{"id":"conv_1"}"#.into(), Some(Conversation)),
            (Api::Responses, r#""conversation":null"#.into(), None),
            (
                Api::Responses,
                r#""prompt":{"id":"pmpt_1","variables":{"id":"x"}}"#.into(),
                Some(Prompt),
            ),
            (Api::Completions, r#""prompt":"id""#.into(), None),
            (Api::Responses, item(r#""type":"item_reference","id":"msg_1""#), Some(ItemReference)),
            (
                Api::Responses,
                item(r#""id":"msg_1","type":"item\u005freference""#),
                Some(ItemReference),
            ),
            (Api::Responses, item(r#""id":"msg_1""#), Some(ItemReference)),
            (Api::Responses, item(r#""id":"msg_1","type":null"#), Some(ItemReference)),
            (Api::Responses, item(r#""type":"message","id":"m","type":null"#), Some(ItemReference)),
            (Api::Responses, item(r#""type":"message","id":"msg_1","content":[]"#), None),
            (Api::Responses, item(r#""role":"user","id":"msg_1","content":"x""#), None),
            (
                Api::Responses,
                item(r#""type":"reasoning","id":"rs_1","summary":[]"#),
                Some(ItemReference),
            ),
            (Api::Responses, item(r#""type":"reasoning","summary":[]"#), None),
            (
                Api::Responses,
                item(r#""type":"reasoning","id":"rs_1","encrypted_content":"gA"  "#),
                None,
            ),
            (
                Api::Responses,
                item(r#""type":"reasoning","id":"rs_1","content":[]"#),
                Some(ItemReference),
            ),
            (Api::Responses, item(r#""id":"msg_1","content":"x""#), Some(ItemReference)),
            (Api::Responses, item(r#""id":"msg_1","role":"user""#), Some(ItemReference)),
            (Api::Responses, item(r#""type":"function_call","id":"fc_1","arguments":"{}""#), None),
            (
                Api::Responses,
                item(r#""type":"image_generation_call","id":"ig_1""#),
                Some(ItemReference),
            ),
            (
                Api::Responses,
                item(r#""type":"image_generation_call","id":"ig_1","result":"aGk=""#),
                None,
            ),
            (
                Api::Responses,
                item(r#""type":"code_interpreter_call","id":"a","container_id":"b""#),
                None,
            ),
            (
                Api::Responses,
                r#""input":[{"content":[{"type":"input_file","file_id":"f"}]}]"#.into(),
                Some(File),
            ),
            (
                Api::Responses,
                r#""input":[{"content":[{"FILE_ID":"f","type":"input_file"}]}]"#.into(),
                Some(File),
            ),
            (Api::Chat, part(r#""type":"file","file":{"file_id":"file-1"}"#), Some(File)),
            (
                Api::Messages,
                part(r#""type":"document","source":{"type":"file","file_id":"f"}"#),
                Some(File),
            ),
            (Api::Images, r#""images":[{"file_id":"file-1"}]"#.into(), Some(File)),
            (Api::Images, r#""mask":{"file\u005fid":"file-1"}"#.into(), Some(File)),
            (Api::Responses, tool(r#""container":{"type":"auto","file_ids":["f"]}"#), Some(File)),
            (Api::Responses, tool(r#""container":{"type":"auto"}"#), None),
            (Api::Responses, tool(r#""container":"cntr_1""#), Some(Container)),
            (Api::Responses, tool(r#""environment":{"container_id":"cntr_1"}"#), Some(Container)),
            (Api::Messages, r#""container":"c""#.into(), Some(Container)),
            (Api::Messages, r#""container":{"id":"c"}"#.into(), Some(Container)),
            (Api::Responses, tool(r#""vector_store_ids":["vs_1"]"#), Some(VectorStore)),
            (Api::Responses, tool(r#""vector_store_ids":[]"#), None),
            // What a tool is called with, what it takes, and metadata hold any word.
            (
                Api::Messages,
                part(r#""type":"tool_use","id":"t","input":{"file_id":"7","container":"x"}"#),
                None,
            ),
            (Api::Chat, tool(r#""function":{"parameters":{"default":{"file_id":"x"}}}"#), None),
            (Api::Messages, tool(r#""input_schema":{"examples":[{"container_id":"x"}]}"#), None),
            (Api::Chat, r#""metadata":{"file_id":"x"}"#.into(), None),
            (
                Api::Chat,
                r#""messages":[{"tool_calls":[{"function":{"arguments":{"file_id":"1"}}}]}]"#
                    .into(),
                None,
            ),
            (Api::Chat, part(r#""type":"text","text":"file_id""#), None),
            (
                Api::Chat,
                r#""messages":[{"role":"user","id":"m","content":"a"}],"id":"x""#.into(),
                None,
            ),
        ];
        for (api, rest, kind) in cases {
            let mut kinds = IdKinds::default();
            kind.into_iter().for_each(|kind| kinds.add(kind));
            let mut named = named(api, &rest);
            if !std::mem::take(&mut named.items).is_empty() {
                named.kinds.add(ItemReference);
            }
            assert_eq!(named.kinds, kinds, "{api:?} {rest}");
        }
    }

    #[test]
    fn the_response_that_a_request_goes_on_from() {
        let previous = |rest: &str| named(Api::Responses, rest).previous_response;
        let long = "x".repeat(ID_MAX);
        for (rest, expected) in [
            (r#""input":"a""#, None),
            (r#""previous_response_id":null"#, None),
            (r#""previous_response_id":"""#, None),
            (r#""previous_response_id":"resp_1""#, Some("resp_1")),
            (r#""previous\u005fresponse_id":"r\u0065sp_1""#, Some("resp_1")),
            (r#""Previous_Response_ID":"resp_1""#, Some("resp_1")),
            (r#""input":[{"previous_response_id":"resp_1"}]"#, None),
            (&format!(r#""previous_response_id":"{long}""#), Some(&long)),
        ] {
            assert_eq!(previous(rest).as_deref(), expected, "{rest}");
        }
        assert_eq!(named(Api::Chat, r#""previous_response_id":"resp_1""#).previous_response, None);
        for (value, stored) in [("true", true), ("null", true), ("false", false)] {
            assert_eq!(named(Api::Responses, &format!(r#""store":{value}"#)).is_stored, stored);
        }
        let wrong = Invalid::Type { key: "previous_response_id", expected: RESPONSE_ID };
        for (rest, invalid) in [
            (format!(r#""previous_response_id":"{long}x""#), wrong),
            (format!(r#""previous_response_id":"{}""#, "x".repeat(9_000)), wrong),
            (r#""previous_response_id":"\ud800""#.into(), wrong),
            (
                r#""previous_response_id":"a","previous_response_id":"b""#.into(),
                Invalid::Duplicate("previous_response_id"),
            ),
        ] {
            let body = format!(r#"{{"model":"m",{rest}}}"#);
            assert_eq!(inspect(Api::Responses, &body), Err(invalid), "{rest}");
        }
    }

    #[test]
    fn values_are_set_apart_by_tenant_and_nothing_else_is_edited() {
        let body = r#"{ "user" : "u\u00e9" ,"prompt_cache_key":"k","model":"m","cache_salt":"","x":{"user":"y"},
            "safety_identifier":null,"messages":[{"user":"z"}]}"#;
        let facts = inspect(Api::Chat, body).expect("it is valid");
        let edited = |tenant: &str, size: usize| {
            let frames: Vec<_> = body.as_bytes().chunks(size).map(Bytes::copy_from_slice).collect();
            let edited = super::super::apply(&frames, &facts.apart(&frames, tenant)).concat();
            String::from_utf8(edited).expect("it was")
        };
        let (acme, other) = (edited("acme", 1), edited("other", 7));
        assert_eq!(acme, edited("acme", body.len()), "the same for the same");
        let strings = |text: &str| {
            let value: serde_json::Value = serde_json::from_str(text).expect("it is JSON");
            ["user", "prompt_cache_key", "cache_salt"]
                .map(|name| value[name].as_str().expect("a string").to_owned())
        };
        for (acme, other) in strings(&acme).iter().zip(strings(&other)) {
            let is_hash =
                |text: &str| text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
            assert!(*acme != other && is_hash(acme) && is_hash(&other), "{acme} {other}");
        }
        let [user, key, salt] = strings(&acme);
        let back =
            acme.replacen(&user, r"u\u00e9", 1).replacen(&key, "k", 1).replacen(&salt, "", 1);
        assert_eq!(back, body);
    }
}
