//! What the journal asks of a file system. There are two: the operating system's, and one for tests that
//! forgets, in a power cut, what was not synced. Everything is resolved at compile time.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::files::create_private_dir;

/// A file system.
pub(crate) trait Disk: Debug + Send + Sync + 'static {
    type File: DiskFile;

    /// Makes a directory that only its owner can look into, unless it is there.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;
    /// The files in a directory with their lengths in bytes.
    fn list(&self, dir: &Path) -> io::Result<Vec<(PathBuf, u64)>>;
    /// A new file to write to, for its owner only; one that is there is an error.
    fn create(&self, path: &Path) -> io::Result<Self::File>;
    /// A file to read from.
    fn open(&self, path: &Path) -> io::Result<Self::File>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes names that were added to a directory survive a power cut.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file.
pub(crate) trait DiskFile: Debug + Send + Sync + 'static {
    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()>;
    /// Makes what was written survive a power cut.
    fn sync_data(&self) -> io::Result<()>;
    /// Forgets what stands after the first `length` bytes.
    fn cut(&self, length: u64) -> io::Result<()>;
}

/// The operating system's.
#[derive(Debug, Default)]
pub(crate) struct Os;

impl Disk for Os {
    type File = File;

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        create_private_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
        let file = |entry: io::Result<std::fs::DirEntry>| {
            let path = entry?.path();
            let length = std::fs::metadata(&path)?.len();
            Ok((path, length))
        };
        // One that has gone since is not there.
        let is_gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let files = std::fs::read_dir(dir)?.map(file);
        files.filter(|file| !file.as_ref().is_err_and(is_gone)).collect()
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        File::open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

impl DiskFile for File {
    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, at)
    }

    fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, bytes, at)
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}
