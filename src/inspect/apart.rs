//! Values that mean one thing for one tenant and would be shared at the upstream, whose one account all tenants
//! are: a key of the prompt cache, the name of an end user. What goes upstream is a hash of tenant and value.

use bytes::Bytes;

use super::Facts;
use super::splice::Splice;
use crate::tenancy::set_apart;

impl Facts {
    /// The edits that set those values apart, each one to 32 hexadecimal digits: OpenAI takes up to 64
    /// characters. `frames`: the body.
    pub(crate) fn apart(&self, frames: &[Bytes], tenant: &str) -> Vec<Splice> {
        let splice = |at: &std::ops::Range<u64>| {
            let value = slice(frames, at.start + 1..at.end - 1);
            let hash = set_apart(tenant, &value);
            let hex: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
            Splice { at: at.clone(), with: format!("\"{hex}\"").into() }
        };
        self.places.apart.iter().map(splice).collect()
    }
}

/// Bytes of a body that is kept in frames.
fn slice(frames: &[Bytes], range: std::ops::Range<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut start = 0;
    for frame in frames {
        let end = start + frame.len() as u64;
        let (from, to) = (range.start.max(start), range.end.min(end));
        if from < to {
            // Both lie within the frame, whose length is a usize.
            bytes.extend_from_slice(&frame[(from - start) as usize..(to - start) as usize]);
        }
        start = end;
    }
    bytes
}
