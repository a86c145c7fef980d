//! Weir, a streaming gateway for LLM APIs that meters every token exactly once.

mod json;
mod clock;
mod config;
mod tenancy;
mod usage;
mod meter;
mod ledger;
