//! The gateway from outside: one binary, a file a concern.

mod world;
mod conformance;
mod streams;
mod sdk;
