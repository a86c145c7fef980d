//! Weir, a streaming gateway for LLM APIs that meters every token exactly once.

#[doc(hidden)]
pub mod bench;
pub mod cli;
pub mod server;
mod gateway;
mod refusal;
mod registry;
mod identify;
mod inspect;
mod route;
mod admit;
mod forward;
mod meter;
mod ledger;
mod journal;
mod store;
mod record;
mod admin;
mod telemetry;
pub mod simulator;
pub mod config;
mod tenancy;
mod price;
mod usage;
mod json;
mod files;
mod wait_notice;
mod printable;
mod coalesce;
mod wakeups;
mod supervisor;
pub mod clock;
