//! Weir from outside: real sockets, the real program, one file a concern.

mod world;
mod tidy;
mod http;
mod limits;
mod process;
mod lifecycle;
