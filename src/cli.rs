//! The command line, one file a subcommand.

mod key;
mod limits;
mod open;
mod output;
mod requests;
mod tenant;
mod usage;
mod when;
