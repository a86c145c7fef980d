//! The command line, one file a subcommand.

mod key;
mod tenant;
mod usage;
mod requests;
mod filter;
mod limits;
mod names;
mod open;
mod output;
mod when;
#[cfg(test)]
mod samples;
