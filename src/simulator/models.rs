//! The model list, made once.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::Bytes;

use super::examples;
use super::options::{Mode, TEXT_MODEL};
use super::refusal::Refusal;
use super::render::quote;

/// Every model that is served.
#[derive(Debug)]
pub(super) struct Models {
    full: Bytes,
    literal: Bytes,
    each: HashMap<String, Bytes>,
}

impl Models {
    pub(super) fn new(ids: &[String]) -> Self {
        let all: Vec<_> = ids.iter().map(|id| model(id)).collect();
        // The documents' list leaves their image model out.
        let printed: Vec<_> =
            ids.iter().filter(|id| *id == TEXT_MODEL).map(|id| model(id)).collect();
        let list = |models: &[String]| {
            Bytes::from(format!(r#"{{"object":"list","data":[{}]}}"#, models.join(",")))
        };
        Self {
            full: list(&all),
            literal: list(&printed),
            each: ids.iter().cloned().zip(all.into_iter().map(Bytes::from)).collect(),
        }
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.each.contains_key(id)
    }

    pub(super) fn list(&self, mode: Mode) -> Bytes {
        match mode {
            Mode::Full => self.full.clone(),
            Mode::Literal => self.literal.clone(),
        }
    }

    /// The model whose id stands in a path.
    ///
    /// # Errors
    /// There is none with this id.
    pub(super) fn one(&self, segment: &str) -> Result<Bytes, Refusal> {
        let id = unescape(segment);
        self.each.get(id.as_ref()).cloned().ok_or_else(|| Refusal::unknown_model(&id))
    }
}

fn model(id: &str) -> String {
    let mut quoted = Vec::new();
    quote(&mut quoted, id);
    let (id, created, owner) =
        (String::from_utf8_lossy(&quoted), examples::MODEL_CREATED, examples::OWNED_BY);
    format!(r#"{{"id":{id},"object":"model","created":{created},"owned_by":"{owner}"}}"#)
}

/// A path segment without its percent escapes; ids of models may contain `/` and `:`.
fn unescape(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = (first == b'%').then(|| after.get(..2)).flatten();
        let code =
            code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        bytes.push(code.unwrap_or(first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}
