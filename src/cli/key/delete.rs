//! `weir key delete`: keys that have ended go for good, one by one or all that ended long ago. What they
//! used stays in the ledger, under their ids.

use anyhow::Context;

use super::super::output::{Format, Output, counted, note, write_lines};
use super::super::time_args::{Toward, When, when};
use super::line::{COLUMNS, KeyLine, line, write_ended};
use crate::config::Config;
use crate::store::Store;
use crate::tenancy::Key;

#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub(super) struct Args {
    /// As `weir key list` shows it: key_…
    #[arg(group = "which")]
    id: Option<String>,
    /// Also a key that still works
    #[arg(long, conflicts_with = "ended_before")]
    force: bool,
    /// All keys that were revoked or had expired by then: a date, RFC 3339, or a span ago such as 90d
    #[arg(long, value_name = "TIME", group = "which", value_parser = when)]
    ended_before: Option<When>,
    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Shows what was deleted, as it was but for its status.
pub(super) fn run(
    args: &Args,
    store: &mut Store,
    config: &Config,
    now_ms: i64,
    out: &mut dyn Output,
) -> anyhow::Result<()> {
    if let Some(id) = &args.id {
        let key = store.delete_key(id, args.force, now_ms)?;
        let said = "is deleted: nothing opens it any more; what it used stays in the ledger";
        return write_ended(out, args.format, &deleted(&key, now_ms, args.format), said);
    }
    let when = args.ended_before.as_ref().context("the arguments name a key or a time")?;
    let until_ms = when.resolve(now_ms, Toward::Past, &config.limits.time_zone)?;
    // What ends later is alive.
    let keys = store.delete_ended_keys(until_ms.min(now_ms))?;
    note(&format!("{} deleted", counted(keys.len() as u64, "key")));
    let lines: Vec<_> = keys.iter().map(|key| deleted(key, now_ms, args.format)).collect();
    write_lines(out, args.format, &COLUMNS, &lines, None)
}

fn deleted(key: &Key, now_ms: i64, format: Format) -> KeyLine {
    let mut line = line(key, now_ms, format);
    line.status = "deleted";
    line
}
