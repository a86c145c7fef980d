//! A JSON scanner that is fed in pieces: it validates (RFC 8259), reports tokens with their offsets
//! to a sink, and keeps nothing. It finds a field in a body of any size, cut anywhere, in one pass
//! and constant memory.
