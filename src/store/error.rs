//! How the store can fail, in words that say what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// What a database says of itself when it fails, as a sentence with what to do. The engine makes it of its own
/// error, and says of which file, or of which server, by [`StoreError::at`].
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct DatabaseError {
    pub(super) text: String,
    pub(super) cause: Cause,
}

/// What others decide by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The disk takes no more, by whatever limit.
    Full,
    /// Somebody else holds it.
    Busy,
    Other,
}

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("can't create {}: {source}", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("can't sync {}, and nothing was changed: {source}", path.display())]
    Sync { path: PathBuf, source: io::Error },
    #[error(
        "can't write to {}: its permissions or its file system let this process only read it",
        path.display()
    )]
    NotWritable { path: PathBuf },
    #[error("can't open {}: {source}", path.display())]
    Open { path: PathBuf, source: DatabaseError },
    #[error(
        "SQLite {found} is too old: 3.51.3 or newer is needed, as older ones can corrupt a WAL"
    )]
    OldSqlite { found: &'static str },
    #[error(
        "SQLite would not set {name} to {wanted} (it is {found}); is the data directory on a local disk?"
    )]
    Setting { name: &'static str, wanted: &'static str, found: String },
    #[error(
        "{} was written by a newer weir (schema {found}, this one knows {ours}): use that version, or another data directory",
        path.display()
    )]
    NewerSchema { path: PathBuf, found: i64, ours: i64 },
    #[error(
        "{} was written by an older weir (schema {found}, this one knows {ours}) that may still be at \
         work on it: use that version, or restart the server with this one",
        path.display()
    )]
    OlderSchema { path: PathBuf, found: i64, ours: i64 },
    #[error(
        "{} has other tables than schema {version} has: an unreleased weir wrote it; use that one, or move the file away",
        path.display()
    )]
    OtherSchema { path: PathBuf, version: usize },
    #[error(
        "{} is gone, or is empty; the journal keeps the rows until the file, or a backup of it, is there \
         again (to begin with an empty one, move the directory `journal` away as well)",
        path.display()
    )]
    Gone { path: PathBuf },
    #[error(
        "{} is no whole database: it is damaged, or still being copied there; the journal keeps the rows \
         until it is whole",
        path.display()
    )]
    Partial { path: PathBuf },
    #[error(
        "the write lock of {} is held: by another program, which is to be ended, or its transaction, or by a \
         weir whose disk hangs; the journal keeps the rows until it is free",
        path.display()
    )]
    WriteLocked { path: PathBuf },
    #[error(
        "the write lock of {} is held: by another program, which is to be ended, or its transaction, or by a \
         weir whose disk hangs; nothing was changed: run this again when it is free",
        path.display()
    )]
    ChangeLocked { path: PathBuf },
    #[error(
        "{} was replaced, but {} belongs to the file that was there before: remove that as well; the \
         journal keeps the rows until then",
        path.display(),
        left.display()
    )]
    LeftOver { path: PathBuf, left: PathBuf },
    #[error(
        "a commit to {} failed, so that its WAL may never reach the disk, and a program that reads the store \
         keeps it from being copied: the journal keeps its segments until then",
        path.display()
    )]
    Doubtful { path: PathBuf },
    #[error(
        "the content of {} was replaced by another program; the journal is read into it again",
        path.display()
    )]
    Rewritten { path: PathBuf },
    #[error("files of {} were removed, and another connection still has them open", path.display())]
    StillOpen { path: PathBuf },
    #[error(
        "rows before {before} were deleted (data.keep_rows) before they were read: begin again"
    )]
    RowsExpired { before: String },
    #[error("no key `{0}`; `weir key list` shows them")]
    UnknownKey(String),
    /// Which is not repeated: somebody has to end that key, and this may be a log.
    #[error(
        "that is the text of a key, and not its id; `weir key list` shows ids with the last 4 characters"
    )]
    KeyText,
    #[error("key `{0}` is revoked, and stays so; `weir key create` makes a new one")]
    Revoked(String),
    #[error(
        "key `{0}` is active: end it first, by `weir key revoke {0}`, or give `--force`, which does both"
    )]
    KeyAlive(String),
    #[error("no tenant `{0}`; `weir tenant list` shows them")]
    UnknownTenant(String),
    #[error("there is a tenant `{0}` already; `weir tenant set {0} …` changes its limits")]
    TenantExists(String),
    #[error(
        "tenant `{name}` has {keys} active key{}: `weir key revoke` ends one, and `--force` deletes all with the \
         tenant",
        if *keys == 1 { "" } else { "s" }
    )]
    TenantInUse { name: String, keys: u32 },
    /// Of what is open; see [`StoreError::at`].
    #[error("the store fails: {0}")]
    Database(#[from] DatabaseError),
    #[error("{} fails: {source}", path.display())]
    Failed { path: PathBuf, source: DatabaseError },
}

/// Why there is no copy.
#[derive(Debug)]
pub(crate) enum CopyError {
    Store(StoreError),
    /// It can't be written, and why.
    Write(String),
}

impl StoreError {
    /// Whether the store's disk takes no more: what is there can still be read.
    pub(crate) fn is_disk_full(&self) -> bool {
        match self {
            Self::Database(source) | Self::Failed { source, .. } | Self::Open { source, .. } => {
                source.cause == Cause::Full
            }
            _ => false,
        }
    }

    /// The same of this file, where the database has not said of which.
    pub(super) fn at(self, path: &Path) -> Self {
        match self {
            Self::Database(source) => Self::Failed { path: path.to_owned(), source },
            other => other,
        }
    }

    /// The same for who changes tenants and keys, of which no journal keeps anything.
    pub(crate) fn of_change(self) -> Self {
        match self {
            Self::WriteLocked { path } => Self::ChangeLocked { path },
            other => other,
        }
    }

    /// Nothing has this id.
    pub(crate) fn unknown_key(id: &str) -> Self {
        match id.starts_with("sk-") {
            true => Self::KeyText,
            false => Self::UnknownKey(id.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_key_is_not_repeated() {
        assert!(StoreError::unknown_key("key_1").to_string().contains("key_1"));
        let error = StoreError::unknown_key("sk-weir-secret").to_string();
        assert!(!error.contains("secret") && error.contains("weir key list"), "{error}");
    }
}
