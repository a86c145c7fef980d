//! What a request names that lies with the upstream's account, which all tenants share: an earlier response, a
//! file, a container. Whose it is nobody can tell by the id, so the request says here which kinds it
//! names; and where values stand that would be one for several tenants, to be set apart.
//!
//! Only strings count, and only where an API reads ids: what a tool is called with, a schema or metadata may
//! hold any word.

use std::ops::Range;

use super::Invalid;
use super::item::Item;
use super::key_spelling::{decode, fold};
use super::name::Name;
use crate::config::{IdKind, IdKinds};
use crate::json::Token;

/// Bytes of a response's id, decoded, at most; OpenAI's have some 60, LiteLLM's some 300.
const ID_MAX: usize = 512;
/// Raw bytes that it can take: each one escaped as `\uXXXX`.
const RAW_MAX: usize = 6 * ID_MAX;
const PREVIOUS: &str = "previous_response_id";
pub(super) const RESPONSE_ID: &str = "a string of at most 512 bytes";

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    /// The response that this one goes on from.
    pub(crate) previous_response: Option<String>,
    /// The items that it names and does not hold; some more than once.
    pub(crate) items: Vec<String>,
    /// The containers in which items were made that it sends back.
    pub(crate) containers: Vec<String>,
    /// Of the others only what kinds they are.
    pub(crate) kinds: IdKinds,
}

impl Named {
    /// The ids that it names of what an upstream keeps.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        let items = self.items.iter().chain(&self.containers);
        self.previous_response.iter().chain(items).map(String::as_str)
    }
}

/// Anthropic's own skills, which are everybody's (its Agent Skills documentation).
const PREBUILT_SKILLS: [&[u8]; 4] = [b"pptx", b"xlsx", b"docx", b"pdf"];

/// Items that a request may name by their ids. A long conversation of an agent has some hundreds.
const ITEMS_MAX: usize = 1_000;

/// Watches for ids.
#[derive(Debug)]
pub(super) struct Ids {
    /// What the string is for that is being read.
    reading: Option<Reading>,
    began: u64,
    raw: Vec<u8>,
    /// Of the names that may stand once only, those seen; a bit for each.
    seen: u64,
    item: Item,
    pub(super) named: Named,
    /// Values to be set apart, quotes included.
    pub(super) scoped: Vec<Range<u64>>,
}

/// What a string is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Name(Name),
    /// A field of an item.
    Item,
}

impl Ids {
    pub(super) fn new() -> Self {
        Self {
            reading: None,
            began: 0,
            raw: Vec::new(),
            seen: 0,
            item: Item::default(),
            named: Named::default(),
            scoped: Vec::new(),
        }
    }

    /// The key `raw` ended at `depth`, which means the last of `names` there.
    pub(super) fn key(&mut self, names: &[Name], raw: &[u8], depth: usize) -> Result<(), Invalid> {
        match depth {
            1 => self.root_key(names[1]),
            3 if is_item(names) => self.item.key(raw),
            _ => Ok(()),
        }
    }

    /// Which of two the upstream goes by is not known, and each one that is set apart is work.
    fn root_key(&mut self, name: Name) -> Result<(), Invalid> {
        let once = match name {
            Name::PreviousResponseId => PREVIOUS,
            name => name.tenant_hash().unwrap_or_default(),
        };
        if once.is_empty() {
            return Ok(());
        }
        let is_again = self.seen & name.bit() != 0;
        self.seen |= name.bit();
        if is_again { Err(Invalid::Duplicate(once)) } else { Ok(()) }
    }

    pub(super) fn item_begins(&mut self) {
        self.item = Item::default();
    }

    /// An object at depth 2 ended; `names` are the keys above it.
    pub(super) fn item_ends(&mut self, names: &[Name]) -> Result<(), Invalid> {
        let item = std::mem::take(&mut self.item);
        if !is_item(names) {
            return Ok(());
        }
        if item.has_odd_id {
            self.named.kinds.add(IdKind::ItemReference);
        }
        for raw in item.named() {
            match decode_id(raw) {
                Some(_) if self.named.items.len() == ITEMS_MAX => {
                    return Err(Invalid::Items(ITEMS_MAX));
                }
                Some(id) => self.named.items.push(id),
                None => self.named.kinds.add(IdKind::ItemReference),
            }
        }
        Ok(())
    }

    /// A value begins that [`Self::watches`] asks for.
    pub(super) fn begin(
        &mut self,
        names: &[Name],
        token: Token,
        depth: usize,
        at: u64,
    ) -> Result<(), Invalid> {
        let name = names[depth];
        let reading = if self.item.watches(depth) {
            self.item.begin(token, depth).then_some(Reading::Item)
        } else {
            (token == Token::String).then_some(Reading::Name(name))
        };
        if reading.is_some() {
            self.reading = reading;
            self.began = at;
            self.raw.clear();
        }
        match (token, name) {
            (Token::String | Token::Null, _) => {}
            // Some reader might make a string of it, and all tenants' would be one.
            (_, name)
                if depth == 1
                    && let Some(key) = name.tenant_hash() =>
            {
                return Err(Invalid::Type { key, expected: "a string" });
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether something is looked for in a value under this name.
    #[inline]
    pub(super) fn watches(&self, name: Name, depth: usize) -> bool {
        name.is_watched() || self.item.watches(depth)
    }

    /// Whether the text that is being read matters here.
    #[inline]
    pub(super) fn is_reading(&self) -> bool {
        self.reading.is_some() || self.item.is_open()
    }

    pub(super) fn text(&mut self, piece: &[u8]) {
        if self.item.is_open() {
            self.item.found();
        }
        if self.reading.is_some() {
            let room = (RAW_MAX + 1).saturating_sub(self.raw.len());
            self.raw.extend_from_slice(&piece[..piece.len().min(room)]);
        }
    }

    /// A value ended.
    pub(super) fn end(&mut self, names: &[Name], depth: usize, end: u64) -> Result<(), Invalid> {
        let name = match self.reading.take() {
            Some(Reading::Name(name)) => name,
            Some(Reading::Item) => {
                self.item.end(&mut self.raw);
                return Ok(());
            }
            None => {
                if depth == 3 {
                    self.item.close();
                }
                return Ok(());
            }
        };
        if depth == 1 && name.tenant_hash().is_some() {
            self.scoped.push(self.began..end);
            return Ok(());
        }
        if self.raw.is_empty() || is_free(names, depth) {
            return Ok(());
        }
        let kind = match (name, depth) {
            (Name::PreviousResponseId, 1) => return self.previous(),
            (Name::Conversation, 1) => IdKind::Conversation,
            (Name::Id, 2) if names[1] == Name::Conversation => IdKind::Conversation,
            // `prompt`; an `input` has no id.
            (Name::Id, 2) if names[1] == Name::Input => IdKind::Prompt,
            (Name::Id, 2) if names[1] == Name::Container => IdKind::Container,
            (Name::Container, 1) => IdKind::Container,
            // One that is found in the context is used again, with what is in it.
            (Name::ContainerId, 3) if is_item(names) => {
                match decode_id(&self.raw) {
                    Some(_) if self.named.containers.len() == ITEMS_MAX => {
                        return Err(Invalid::Items(ITEMS_MAX));
                    }
                    Some(id) => self.named.containers.push(id),
                    None => self.named.kinds.add(IdKind::Container),
                }
                return Ok(());
            }
            // Tools have theirs.
            (Name::Container | Name::ContainerId, _)
                if matches!(names[1], Name::Prompt | Name::Words) =>
            {
                IdKind::Container
            }
            (Name::FileId, _) => IdKind::File,
            (Name::SkillId, _) if PREBUILT_SKILLS.contains(&&*self.raw) => return Ok(()),
            (Name::SkillId, _) => IdKind::Skill,
            (Name::VectorStoreIds, _) => IdKind::VectorStore,
            _ => return Ok(()),
        };
        self.named.kinds.add(kind);
        Ok(())
    }

    fn previous(&mut self) -> Result<(), Invalid> {
        let id = decode_id(&self.raw);
        let wrong = Invalid::Type { key: PREVIOUS, expected: RESPONSE_ID };
        self.named.previous_response = Some(id.ok_or(wrong)?);
        Ok(())
    }
}

/// The kind of id that a form's field stands for, however a reader of forms makes an object of its name
/// (`image[file_id]`, `prompt.id`). Nobody looks those up: no API takes one in a form.
pub(super) fn in_form(field: &str) -> Option<IdKind> {
    let field = fold(field);
    let mut root = None;
    field.split(['[', ']', '.']).map(str::trim).filter(|part| !part.is_empty()).find_map(|part| {
        let name = Name::of(part.as_bytes());
        let root = *root.get_or_insert(name);
        match name {
            Name::PreviousResponseId => Some(IdKind::PreviousResponse),
            Name::Conversation => Some(IdKind::Conversation),
            Name::Container | Name::ContainerId => Some(IdKind::Container),
            Name::FileId => Some(IdKind::File),
            Name::SkillId => Some(IdKind::Skill),
            Name::VectorStoreIds => Some(IdKind::VectorStore),
            Name::Id if root == Name::Input => Some(IdKind::Prompt),
            _ => None,
        }
    })
}

fn decode_id(raw: &[u8]) -> Option<String> {
    let id = if raw.len() > RAW_MAX { None } else { decode(raw) };
    id.filter(|id| id.len() <= ID_MAX)
}

/// Whether what stands at depth 2 is an element of `input`.
fn is_item(names: &[Name]) -> bool {
    names[1] == Name::Input && names[2] == Name::Input
}

/// Whether a value stands where any word may: in the root's metadata; below a schema of a tool or of the answer's
/// form; or in what a tool was called with, which Anthropic's messages have as `input`. The same names elsewhere
/// are a tenant's own choice, as a stored prompt's variables are, and free nothing.
fn is_free(names: &[Name], depth: usize) -> bool {
    let above = &names[1..depth];
    let is_in = |place: &[Name], name: Name| place.contains(&name);
    match above {
        [Name::Metadata, ..] => true,
        // `text.format.schema`.
        [Name::Words | Name::Text, rest @ ..] => is_in(rest, Name::Schema),
        [Name::Input, Name::Input, rest @ ..] | [Name::Prompt, Name::Prompt, rest @ ..] => {
            let tools = rest.iter().position(|name| *name == Name::Words);
            let is_called = is_in(rest, Name::Arguments) || is_in(rest, Name::Input);
            is_called || tools.is_some_and(|at| is_in(&rest[at..], Name::Schema))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::{Api, NOTHING, RequestFacts, Scan};
    use super::*;

    /// The facts, which are the same however the body is cut.
    fn inspect(api: Api, body: &str) -> Result<RequestFacts, Invalid> {
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
        use IdKind::{Container, Conversation, File, Prompt, Skill, VectorStore};
        let tool = |rest: &str| format!(r#""tools":[{{"type":"x",{rest}}}]"#);
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
            // Servers that answer one API by another take its fields along.
            (Api::Chat, r#""conversation":"conv_1""#.into(), Some(Conversation)),
            (Api::Messages, r#""prompt":{"Id":"pmpt_1"}"#.into(), Some(Prompt)),
            (Api::Speech, r#""prompt":{"id":"pmpt_1"}"#.into(), Some(Prompt)),
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
            (Api::Responses, tool(r#""environment":{"skills":[{"skill_id":"s"}]}"#), Some(Skill)),
            (
                Api::Messages,
                r#""container":{"skills":[{"type":"anthropic","skill_id":"pptx"}]}"#.into(),
                None,
            ),
            (
                Api::Messages,
                r#""container":{"skills":[{"skill_id":"pdf"},{"skill_id":"pdf2"}]}"#.into(),
                Some(Skill),
            ),
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
            let named = named(api, &rest);
            assert_eq!((named.kinds, named.items), (kinds, vec![]), "{api:?} {rest}");
        }
    }

    /// The names under which any word may stand free nothing where an API has other things.
    #[test]
    fn words_are_free_by_their_place_and_not_by_their_name() {
        for (free, bound) in [
            (r#""metadata":{"#, r#""x":{"metadata":{"#),
            (r#""tools":[{"function":{"parameters":{"#, r#""parameters":{"#),
            (r#""tools":[{"input_schema":{"#, r#""messages":[{"input_schema":{"#),
            (r#""text":{"format":{"schema":{"#, r#""prompt":{"variables":{"schema":{"#),
            (r#""response_format":{"schema":{"#, r#""schema":{"#),
            (r#""input":[{"arguments":{"#, r#""prompt":{"variables":{"arguments":{"#),
            (r#""input":[{"tools":[{"input_schema":{"#, r#""input":[{"schema":{"tools":{"#),
            (r#""messages":[{"content":[{"input":{"#, r#""prompt":{"variables":{"input":{"#),
            (r#""messages":[{"function":{"arguments":{"#, r#""prompt":{"variables":{"metadata":{"#),
        ] {
            for (open, kind) in [(free, None), (bound, Some(IdKind::File))] {
                let mut body = format!(r#"{open}"file_id":"f""#);
                let closing = open.chars().rev().filter_map(|letter| match letter {
                    '{' => Some('}'),
                    '[' => Some(']'),
                    _ => None,
                });
                body.extend(closing);
                let mut kinds = IdKinds::default();
                kind.into_iter().for_each(|kind| kinds.add(kind));
                assert_eq!(named(Api::Responses, &body).kinds, kinds, "{body}");
            }
        }
    }

    #[test]
    fn what_may_stand_once_is_refused_twice_in_any_letters() {
        let item = |rest: &str| format!(r#""input":[{{{rest}}}]"#);
        for (rest, key) in [
            (r#""user":"a","user":"b""#.to_owned(), "user"),
            (r#""user":"a","U\u0073er":null"#.into(), "user"),
            (r#""cache_salt":"a","cache_\u017falt":"b""#.into(), "cache_salt"),
            (r#""prompt_cache_key":null,"prompt_cache_key":"b""#.into(), "prompt_cache_key"),
            (r#""safety_identifier":"a","Safety_Identifier":"b""#.into(), "safety_identifier"),
            (r#""previous_response_id":"a","previous_response_id":"b""#.into(), PREVIOUS),
            (item(r#""type":"item_reference","id":"theirs","ID":"mine""#), "id"),
            (item(r#""id":null,"\u0069d":"mine""#), "id"),
            (item(r#""type":"message","type":null"#), "type"),
            (item(r#""type":null,"Type":"message""#), "type"),
            (item(r#""approval_request_id":"a","Approval_Request_Id":"b""#), "approval_request_id"),
        ] {
            let body = format!(r#"{{"model":"m",{rest}}}"#);
            for api in [Api::Responses, Api::Chat] {
                assert_eq!(inspect(api, &body), Err(Invalid::Duplicate(key)), "{rest}");
            }
        }
        for value in ["1", r#"["a"]"#, r#"{"a":"b"}"#, "true"] {
            let wrong = Invalid::Type { key: "user", expected: "a string" };
            let body = format!(r#"{{"model":"m","user":{value}}}"#);
            assert_eq!(inspect(Api::Chat, &body), Err(wrong), "{value}");
        }
    }

    #[test]
    fn a_request_names_some_items_and_no_more() {
        let body = |count: usize| format!(r#""input":[{}{{}}]"#, r#"{"id":"a"},"#.repeat(count));
        assert_eq!(named(Api::Responses, &body(ITEMS_MAX)).items.len(), ITEMS_MAX);
        let beyond = format!(r#"{{"model":"m",{}}}"#, body(ITEMS_MAX + 1));
        assert_eq!(inspect(Api::Responses, &beyond), Err(Invalid::Items(ITEMS_MAX)));
        // Those that are there themselves are no matter of anybody's.
        let own = r#"{"type":"message","id":"a","content":"b"},"#.repeat(ITEMS_MAX + 1);
        assert_eq!(named(Api::Responses, &format!(r#""input":[{own}{{}}]"#)).items.len(), 0);
    }

    #[test]
    fn fields_of_forms_are_known_however_a_reader_takes_their_names_apart() {
        for (field, kind) in [
            ("file_id", Some(IdKind::File)),
            ("image[file_id]", Some(IdKind::File)),
            ("images[0].File_ID", Some(IdKind::File)),
            ("file_ids[]", Some(IdKind::File)),
            ("previous_response_id", Some(IdKind::PreviousResponse)),
            ("prompt[id]", Some(IdKind::Prompt)),
            ("conversation", Some(IdKind::Conversation)),
            ("container", Some(IdKind::Container)),
            ("vector_store_ids[0]", Some(IdKind::VectorStore)),
            ("skill_id", Some(IdKind::Skill)),
            ("prompt", None),
            ("image[id]", None),
            ("image[]", None),
            ("file", None),
            ("user", None),
            ("", None),
        ] {
            assert_eq!(in_form(field), kind, "{field}");
        }
    }

    /// A foreign id passes only with the item itself beside it; see `item.rs`.
    #[test]
    fn items_that_are_not_there_themselves_are_named() {
        let is_named = |rest: &str| {
            let body = format!(r#""input":[{{"role":"user","content":"a"}},{{"id":"x",{rest}}}]"#);
            let named = named(Api::Responses, &body);
            assert_eq!(named.kinds, IdKinds::default(), "{rest}");
            assert!(named.items.iter().all(|id| id == "x"), "{rest}");
            !named.items.is_empty()
        };
        for own in [
            r#""role":"user","content":"x""#,
            r#""role":"user","content":[{"type":"input_text","text":""}],"type":"message""#,
            r#""type":"message","content":"x""#,
            r#""type":"function_call","arguments":"{}""#,
            r#""type":"function_call_output","output":"""#,
            r#""type":"function_call_output","output":[{"type":"input_text"}]"#,
            r#""type":"custom_tool_call","input":"""#,
            r#""type":"reasoning","summary":[],"encrypted_content":"gA"  "#,
            r#""type":"reasonin\u0067","encrypted\u005fcontent":"gA""#,
            r#""type":"compaction","encrypted_content":"gA""#,
            r#""type":"image_generation_call","result":"aGk=""#,
            r#""type":"computer_call","action":{"type":"click"}"#,
            r#""type":"computer_call","action":null,"actions":[{"type":"click"}]"#,
            r#""type":"mcp_list_tools","tools":[{"name":"a"}]"#,
            r#""type":"code_interpreter_call","container_id":"b","outputs":[{"logs":"a"}]"#,
        ] {
            assert!(!is_named(own), "{own}");
        }
        for another in [
            r#""type":"item_reference""#,
            r#""type":"item\u005freference","content":"x","role":"user""#,
            r#""status":"completed""#,
            r#""type":null"#,
            r#""type":7,"role":"user","content":"x""#,
            r#""type":"","role":"user","content":"x""#,
            r#""type":"Message","role":"user","content":"x""#,
            r#""content":"x""#,
            r#""role":"user""#,
            r#""role":"user","content":[]"#,
            r#""role":"user","content":[null]"#,
            r#""role":"user","content":{}"#,
            r#""role":"user","content":"""#,
            r#""Role":"user","content":"x""#,
            r#""role":"user","text":"x""#,
            r#""Type":"message","role":"user","content":"x""#,
            r#""type":"message","content":"x","content":[]"#,
            r#""type":"message","content":"x","Content":null"#,
            r#""type":"function_call","arguments":null"#,
            r#""type":"function_call","output":"x""#,
            r#""type":"reasoning","summary":[]"#,
            r#""type":"reasoning","content":[{"type":"reasoning_text"}]"#,
            r#""type":"reasoning","result":"x""#,
            r#""type":"reasoning","ENCRYPTED_CONTENT":"x""#,
            r#""type":"reasoning","encrypted_content":7"#,
            r#""type":"reasoning","encrypted_content":"""#,
            r#""type":"image_generation_call""#,
            r#""type":"image_generation_call","Result":"x""#,
            r#""type":"image_generation_call","encrypted_content":"x""#,
            r#""type":"web_search_call","status":"completed","action":{"type":"search"}"#,
            r#""type":"file_search_call","queries":["x"],"results":null"#,
            r#""type":"code_interpreter_call","container_id":"b","outputs":[]"#,
            r#""type":"computer_call""#,
            r#""type":"compaction""#,
            r#""type":"mcp_approval_request","arguments":"{}""#,
            r#""type":"of_another_day","content":"x","output":"y""#,
        ] {
            assert!(is_named(another), "{another}");
        }
        let items = |rest: &str| named(Api::Responses, &format!(r#""input":[{{{rest}}}]"#));
        let computed = r#""type":"code_interpreter_call","outputs":[{"type":"logs"}],"id":"c""#;
        let computed = items(&format!(r#"{computed},"container_id":"cntr_1""#));
        assert_eq!(
            (&*computed.items, &*computed.containers),
            (&[][..], &["cntr_1".to_owned()][..])
        );
        let approval = r#""type":"mcp_approval_response","approval_request_id":"m","approve":true"#;
        assert_eq!(items(approval).items, ["m"]);
        for odd in [r#"["x"]"#, "7", r#""\ud800""#, &format!(r#""{}""#, "x".repeat(ID_MAX + 1))] {
            let named = items(&format!(r#""type":"item_reference","id":{odd}"#));
            assert!(named.kinds.has(IdKind::ItemReference), "{odd}");
        }
        for none in [r#""id":"""#, r#""id":null"#, r#""call_id":"x""#] {
            assert_eq!(items(none), Named::default(), "{none}");
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
        let elsewhere = named(Api::Chat, r#""previous_response_id":"resp_1""#).previous_response;
        assert_eq!(elsewhere.as_deref(), Some("resp_1"), "some would hand it on");
        let wrong = Invalid::Type { key: "previous_response_id", expected: RESPONSE_ID };
        for (rest, invalid) in [
            (format!(r#""previous_response_id":"{long}x""#), wrong),
            (format!(r#""previous_response_id":"{}""#, "x".repeat(9_000)), wrong),
            (r#""previous_response_id":"\ud800""#.into(), wrong),
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
            let edited = super::super::apply(&frames, &facts.scoped(&frames, tenant)).concat();
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
