//! Files that are made of the ledger, a backup or an export. They are there whole or not at all: a file grows under
//! a name of its own, however many others grow for the same place, and takes the place of what was there once it
//! is synced. What a killed program leaves is `NAME.….partial`.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::config::Data;
use crate::store::Store;

/// As many as Linux follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Where a name leads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// To a file that may be replaced, or to none yet. No symbolic link: what one leads to is replaced, and the
    /// link stays.
    File(PathBuf),
    /// To what can only be written to: a pipe, a device, or a descriptor that this process has.
    Stream(PathBuf),
}

/// Why nothing may be written there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    #[error(
        "{} is the ledger's own, or in its directory; name a file outside of {}",
        path.display(),
        dir.display()
    )]
    Own { path: PathBuf, dir: PathBuf },
    #[error("{} is a directory; name a file", path.display())]
    Directory { path: PathBuf },
    #[error("cannot write {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl Target {
    /// Follows the name, and refuses what belongs to the ledger: all in its directory, and the store's files
    /// wherever they are.
    pub(crate) fn of(path: &Path, data: &Data, store: &Store) -> Result<Self, TargetError> {
        let failed = |source| TargetError::Io { path: path.to_owned(), source };
        let own = || TargetError::Own { path: path.to_owned(), dir: data.dir.clone() };
        let mut at = path.to_owned();
        for _ in 0..LINKS_MAX {
            let dir = parent(&at).canonicalize().map_err(failed)?;
            // What such a link says need not be a path: `pipe:[7]`.
            if dir.starts_with("/proc") {
                return Ok(Self::Stream(path.to_owned()));
            }
            if store.is_file(&at) || is_within(&dir, data) {
                return Err(own());
            }
            match std::fs::symlink_metadata(&at) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::File(at)),
                Err(error) => return Err(failed(error)),
                Ok(found) if found.is_symlink() => {
                    at = dir.join(std::fs::read_link(&at).map_err(failed)?);
                }
                Ok(found) if found.is_dir() => {
                    return Err(TargetError::Directory { path: path.to_owned() });
                }
                Ok(found) if found.is_file() => return Ok(Self::File(at)),
                Ok(_) => return Ok(Self::Stream(at)),
            }
        }
        Err(failed(io::Error::other("too many symbolic links")))
    }
}

/// Whether that is the data directory or the journal's, or below one of them, by whatever name.
fn is_within(dir: &Path, data: &Data) -> bool {
    let identity = |found: Metadata| (found.dev(), found.ino());
    let known = |path: &Path| std::fs::metadata(path).ok().map(identity);
    let own = [data.dir.clone(), data.dir.join("journal")].map(|path| known(&path));
    dir.ancestors().any(|above| known(above).is_some_and(|it| own.contains(&Some(it))))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file on its way to its name, for its owner only: the umask would let others read who used what. One that is
/// not placed is removed.
#[derive(Debug)]
pub(crate) struct OutputFile {
    file: File,
    path: PathBuf,
    target: PathBuf,
    is_placed: bool,
}

impl OutputFile {
    /// Begins beside where it will be. Nobody else has that name: what is there is not opened, nor a link followed.
    pub(crate) fn beside(target: PathBuf) -> io::Result<Self> {
        let number = getrandom::u64().map_err(io::Error::other)?;
        let mut name = target.as_os_str().to_owned();
        name.push(format!(".{number:016x}.partial"));
        let path = PathBuf::from(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { file, path, target, is_placed: false })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name, in the place of what had it, so that it survives a power cut.
    pub(crate) fn place(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.path, &self.target)?;
        self.is_placed = true;
        File::open(parent(&self.target))?.sync_all()
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if !self.is_placed {
            // What can't be removed has a name that says what it is.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::config::Durability;

    #[test]
    fn of_two_that_grow_at_once_each_is_whole_and_only_its_own_is_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let target = dir.path().join("it");
        std::fs::write(&target, "good").expect("writes");
        let [one, other, third] =
            [(); 3].map(|()| OutputFile::beside(target.clone()).expect("a name of its own"));
        one.file().write_all(b"one").expect("writes");
        other.file().write_all(b"the other").expect("writes");
        drop(third);
        let said = || std::fs::read_to_string(&target).expect("reads");
        assert_eq!(said(), "good");
        one.place().expect("places");
        assert_eq!(said(), "one");
        other.place().expect("places");
        assert_eq!(said(), "the other");
        let mode = std::fs::metadata(&target).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).expect("reads").count(), 1);
    }

    #[test]
    fn a_name_leads_to_a_file_or_a_stream_and_never_into_the_ledger() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("is there");
        let at = |name: &str| root.join(name);
        let data_dir = at("data");
        std::fs::create_dir_all(data_dir.join("journal")).expect("makes");
        let store = Store::open(&data_dir).expect("opens");
        std::fs::write(at("file"), "").expect("writes");
        let _socket = UnixListener::bind(at("socket")).expect("binds");
        for (name, to) in [
            ("link", "file"),
            ("dangling", "new"),
            ("to-socket", "socket"),
            ("circle", "circle"),
            ("alias", "data"),
            ("to-store", "data/weir.sqlite"),
        ] {
            symlink(to, at(name)).expect("links");
        }
        std::fs::hard_link(data_dir.join("weir.sqlite"), at("hard")).expect("links");
        let (durability, segment_bytes) = (Durability::Crash, 1 << 20);
        let (keep_rows, response_owners) = (None, 1_000);
        let data = Data { dir: data_dir, durability, segment_bytes, keep_rows, response_owners };
        let file = |name: &str| format!("File({:?})", at(name));
        for (name, expected) in [
            ("new", file("new")),
            ("file", file("file")),
            ("link", file("file")),
            ("dangling", file("new")),
            ("socket", format!("Stream({:?})", at("socket"))),
            ("to-socket", format!("Stream({:?})", at("socket"))),
            ("/proc/self/fd/1", "Stream(\"/proc/self/fd/1\")".to_owned()),
            ("circle", "too many symbolic links".to_owned()),
            ("nowhere/x", "cannot write".to_owned()),
            ("journal/..", "cannot write".to_owned()),
            (".", "is a directory".to_owned()),
            ("data/weir.sqlite", "the ledger's own".to_owned()),
            ("data/lock", "the ledger's own".to_owned()),
            ("data/x.csv", "the ledger's own".to_owned()),
            ("data/journal/0.wj", "the ledger's own".to_owned()),
            ("alias/journal/../new", "the ledger's own".to_owned()),
            ("to-store", "the ledger's own".to_owned()),
            ("hard", "the ledger's own".to_owned()),
        ] {
            let found = match Target::of(&at(name), &data, &store) {
                Ok(target) => format!("{target:?}"),
                Err(error) => error.to_string(),
            };
            assert!(found.contains(&expected), "{name}: {found}");
        }
    }
}
