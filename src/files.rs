//! Files and directories that only their owner reads.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Makes a directory, and what is missing above it, that only its owner can look into: what clients
/// used is nobody else's business. One that is there keeps the permissions that somebody chose.
pub(crate) fn create_private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}
