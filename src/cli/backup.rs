//! `weir backup`: a consistent copy of the store, beside a running server or without one.

use std::path::PathBuf;

use crate::config::Config;
use crate::ledger::backup::backup;

use super::open::{note_unread, note_wait};
use super::output::note;
use super::progress::bar;

/// Copy the ledger, with tenants and keys, to a file, also while the server runs
///
/// To restore it, stop the server, remove weir.sqlite, weir.sqlite-wal and weir.sqlite-shm from the
/// data directory, and put the copy there as weir.sqlite.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the copy goes; it replaces a file of that name once it is whole
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Makes the copy.
pub(crate) fn run(args: &Args, config: &Config) -> anyhow::Result<()> {
    let bar = bar(0, "pages");
    let unread = backup(&config.data, &args.file, &mut note_wait, |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    note_unread(unread.as_ref());
    note(&format!("{} is a copy of the ledger as it was", args.file.display()));
    Ok(())
}
