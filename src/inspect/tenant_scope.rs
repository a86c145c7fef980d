//! Values that mean one thing for one tenant and would be shared at the upstream, whose one account all tenants
//! are: a key of the prompt cache, the name of an end user. What goes upstream is a hash of tenant and value.

use std::ops::Range;

use bytes::Bytes;

use super::RequestFacts;
use super::splice::Splice;
use crate::tenancy::{hex, tenant_hash};

impl RequestFacts {
    /// The edits that set those values apart, each one to 32 hexadecimal digits: OpenAI takes up to 64
    /// characters. `frames`: the body, which is walked once, since the values come in its order.
    pub(crate) fn scoped(&self, mut frames: &[Bytes], tenant: &str) -> Vec<Splice> {
        // A form's values have no quotes.
        let quote = if self.places.is_plain { "" } else { "\"" };
        let quoted = quote.len() as u64;
        let mut start = 0;
        let splice = |at: &Range<u64>| {
            while let [frame, later @ ..] = frames
                && start + frame.len() as u64 <= at.start
            {
                start += frame.len() as u64;
                frames = later;
            }
            let value = slice(frames, at.start + quoted - start..at.end - quoted - start);
            let hash = tenant_hash(tenant, &value);
            Splice { at: at.clone(), with: format!("{quote}{}{quote}", hex(&hash[..16])).into() }
        };
        self.places.scoped.iter().map(splice).collect()
    }
}

/// Bytes of what is kept in frames.
fn slice(frames: &[Bytes], range: Range<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut start = 0;
    for frame in frames {
        let end = start + frame.len() as u64;
        let (from, to) = (range.start.max(start), range.end.min(end));
        if from < to {
            // Both lie within the frame, whose length is a usize.
            bytes.extend_from_slice(&frame[(from - start) as usize..(to - start) as usize]);
        }
        if end >= range.end {
            break;
        }
        start = end;
    }
    bytes
}
