//! Weir from outside: real sockets, the real program, one file a concern.

mod harness;
mod traffic;
mod process;
mod tidy;
mod conformance;
mod streams;
mod sdk;
mod faults;
mod failover;
mod http;
mod confidentiality;
mod tenant_isolation;
mod limits;
mod noisy_neighbours;
mod cost;
mod endpoints;
mod lifecycle;
mod operator;
mod ledger_commands;
mod store;
mod mixed_traffic;
mod torture;
