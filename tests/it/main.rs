//! Weir from outside: real sockets, the real program, one file a concern.

mod world;
mod traffic;
mod process;
mod tidy;
mod conformance;
mod streams;
mod sdk;
mod faults;
mod http;
mod discretion;
mod apart;
mod limits;
mod neighbours;
mod cost;
mod endpoints;
mod lifecycle;
mod operator;
mod books;
mod store;
mod many;
mod torture;
