//! Weir, a streaming gateway for LLM APIs that meters every token exactly once.

mod json;
mod inspect;
mod clock;
mod config;
mod tenancy;
mod usage;
mod admit;
mod ledger;
mod telemetry;
mod admin;
