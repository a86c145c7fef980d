//! Who is asking: keys, their digests and their look-up.

pub(crate) mod key_text;
